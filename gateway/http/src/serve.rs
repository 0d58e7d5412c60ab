//! One application connection, from its first byte to its outcome.
//!
//! Owns the choice of the version, hyper's settings for the client's side, and what the end of a connection is called.
//! Never starts a task.

use std::{io, pin::pin, sync::Arc};

use federation_model::outcome::Outcome;
use hyper::{
    server::conn::{http1, http2},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::{
    body::Answer,
    destination::{Connect, Judge, Observe},
    drive::{Engine, Stop, Watch, drive},
    exchange::Desk,
    introduction::{Introduction, Stamp},
    limits::{self, HttpLimits},
    nursery::Nursery,
    proxy::Proxy,
    upstream::Upstream,
    wire::{Activity, Opening, Overdue, Version, Wire},
};

/// What is told to a client whose request did not become complete in time.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What is told to a client that speaks TLS: the fatal alert `handshake_failure` (RFC 8446 section 6.2).
const NO_TLS: &[u8] = &[21, 3, 3, 0, 2, 2, 40];

/// Everything that the delivery of one connection needs to know.
#[derive(Debug)]
pub struct Delivery<J, C, O> {
    /// Who calls.
    pub introduction: Introduction,
    /// Judges each request.
    pub judge: J,
    /// Connects to endpoints.
    pub connect: C,
    /// Records each request.
    pub observe: O,
    /// Limits.
    pub limits: HttpLimits,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// How it ended. An endpoint that broke off is [`Outcome::DestinationReset`] only where the connection had to end
    /// with that; over HTTP/2 it concerns one request.
    pub outcome: Outcome,
    /// Bytes from the client, HTTP's own included.
    pub sent: u64,
    /// Bytes to the client, HTTP's own included.
    pub received: u64,
    /// Requests.
    pub requests: u64,
    /// Those of them that were refused by the judge.
    pub refused: u64,
}

/// Delivers the connection `io` of a client as HTTP until it ends.
///
/// - `cut` ends it at once, with the outcome it gives: HTTP/2 clients are sent a GOAWAY first, then `io` is dropped. When
///   `io` is dropped without having been shut down, the connection was not ended in order: let that be a reset.
/// - `drain` ends it in order: idle connections at once, others after the requests under way (`Connection: close`, or
///   GOAWAY). An upgraded connection takes no notice.
///
/// A client that shuts its own direction down before it has its answer counts as gone, as with most HTTP servers.
///
/// Runs nothing outside the returned future: dropping it ends everything, and every request is still recorded.
pub async fn serve<I, J, C, O>(
    io: I,
    delivery: Delivery<J, C, O>,
    cut: impl Future<Output = Outcome> + Send,
    drain: impl Future<Output = ()> + Send,
) -> Served
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    J: Judge,
    C: Connect,
    O: Observe,
{
    let activity = Arc::new(Activity::new());
    let (cut, drain) = (pin!(cut), pin!(drain));
    let mut watch = Watch::new(cut, drain, (&activity, delivery.limits));
    let mut wire = Wire::new(io, Arc::clone(&activity));
    let first = std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(stop) = watch.poll_stop(cx) {
            return std::task::Poll::Ready(First::Stopped(stop));
        }
        if watch.poll_drain(cx).is_ready() {
            return std::task::Poll::Ready(First::Read(Ok(Opening::Nothing)));
        }
        wire.poll_opening(cx).map(First::Read)
    });
    let outcome = match first.await {
        First::Stopped(stop) => {
            if stop == Stop::Overdue(Overdue::Head) {
                last_words(&mut wire, TOO_SLOW).await;
            }
            stop.outcome()
        }
        First::Read(Err(_)) => Outcome::ClientReset,
        First::Read(Ok(Opening::Nothing)) => {
            // Whoever closes first is answered in kind.
            let _ = tokio::time::timeout(limits::LAST_WORDS, wire.shutdown()).await;
            Outcome::Completed
        }
        First::Read(Ok(Opening::Tls)) => {
            last_words(&mut wire, NO_TLS).await;
            Outcome::BadRequest
        }
        First::Read(Ok(Opening::Http(version))) => converse(wire, version, delivery, watch).await,
    };
    let [sent, received, requests, refused] = activity.totals();
    Served { outcome, sent, received, requests, refused }
}

enum First {
    Stopped(Stop),
    Read(io::Result<Opening>),
}

/// The conversation in HTTP, once its version is known.
async fn converse<I, J, C, O, F, G>(
    wire: Wire<I>,
    version: Version,
    delivery: Delivery<J, C, O>,
    mut watch: Watch<'_, F, G>,
) -> Outcome
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    J: Judge,
    C: Connect,
    O: Observe,
    F: Future<Output = Outcome>,
    G: Future<Output = ()>,
{
    let activity = Arc::clone(&watch.activity);
    let nursery = Nursery::open();
    let proxy = Arc::new(Proxy {
        judge: delivery.judge,
        stamp: Stamp::new(&delivery.introduction),
        upstream: Upstream::new(Arc::new(delivery.connect), nursery.clone(), version),
        desk: Arc::new(Desk { activity: Arc::clone(&activity), observe: delivery.observe }),
        nursery: nursery.clone(),
    });
    let service = service_fn(move |request| Arc::clone(&proxy).handle(request));
    let io = TokioIo::new(wire);
    match version {
        Version::One => {
            let mut engine = one().serve_connection(io, service).with_upgrades();
            let driven = drive(&mut engine, &nursery, &mut watch).await;
            match (&driven, engine.into_parts()) {
                (Err(Stop::Overdue(Overdue::Head)), Some(parts)) => {
                    last_words(&mut parts.io.into_inner(), TOO_SLOW).await
                }
                (Ok(result), Some(parts)) if result.as_ref().err().is_none_or(hyper::Error::is_parse) => {
                    hear_out(&mut parts.io.into_inner()).await;
                }
                // Half an answer must not look whole: what is not shut down was not ended in order.
                (Err(Stop::Cut(_) | Stop::Overdue(_) | Stop::Flood) | Ok(_), _) => {}
            }
            driven.map_or_else(Stop::outcome, |result| outcome_of_one(result, &activity))
        }
        Version::Two => {
            activity.stop_timing_heads();
            let mut engine = two(&nursery).serve_connection(io, service);
            let driven = drive(&mut engine, &nursery, &mut watch).await;
            if driven.is_err() {
                Engine::drain(&mut engine);
                // Once: what can be written now is, and nobody waits for the client.
                let _ = futures::poll!(&mut engine);
            }
            driven.map_or_else(Stop::outcome, |result| outcome_of_two(result, &activity))
        }
    }
}

fn one() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Heads are timed by us, from their first byte: hyper's timer also runs while a kept connection has no request.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_header_size(limits::HEAD_BYTES as usize);
    builder
}

fn two(nursery: &Nursery) -> http2::Builder<Nursery> {
    let mut builder = http2::Builder::new(nursery.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_send_buf_size(limits::SEND_BUFFER)
        .max_header_list_size(limits::HEAD_BYTES)
        .max_pending_accept_reset_streams(limits::UNSEEN_RESETS)
        .max_local_error_reset_streams(limits::ERROR_RESETS)
        .enable_connect_protocol();
    builder
}

impl<I, S, B> Engine for http1::UpgradeableConnection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Self: Unpin,
{
    fn drain(&mut self) {
        std::pin::Pin::new(self).graceful_shutdown();
    }
}

impl<I, S, O> Engine for http2::Connection<I, S, Nursery>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    O: Observe,
    S: HttpService<hyper::body::Incoming, ResBody = Answer<O>>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Self: Unpin,
{
    fn drain(&mut self) {
        std::pin::Pin::new(self).graceful_shutdown();
    }
}

/// Tells a client why it is not served, unless it does not read either.
async fn last_words<I: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<I>, words: &[u8]) {
    let said = async {
        wire.write_all(words).await?;
        wire.shutdown().await
    };
    // Whoever does not hear it finds out by the end of the connection.
    let _ = tokio::time::timeout(limits::LAST_WORDS, said).await;
}

/// Ends the answers, then reads what nobody wants until the end, for a while: a close with unread bytes is a RST, which takes along the answer
/// that a client has not read yet.
async fn hear_out<I: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<I>) {
    let heard = async {
        wire.shutdown().await?;
        tokio::io::copy(wire, &mut tokio::io::sink()).await
    };
    // Whoever does not end in time gets the RST.
    let _ = tokio::time::timeout(limits::LAST_WORDS, heard).await;
}

fn outcome_of_one(result: hyper::Result<()>, activity: &Activity) -> Outcome {
    if let Some(outcome) = activity.ending() {
        // After an upgrade that is how the other protocol ended.
        return outcome;
    }
    match result {
        Ok(()) if activity.was_malformed() => Outcome::BadRequest,
        Ok(()) if activity.requests_open() => Outcome::ClientReset,
        Ok(()) => Outcome::Completed,
        Err(error) if error.is_user() && activity.did_endpoint_break() => Outcome::DestinationReset,
        Err(error) if error.is_parse() || activity.was_malformed() => Outcome::BadRequest,
        Err(_) => Outcome::ClientReset,
    }
}

fn outcome_of_two(result: hyper::Result<()>, activity: &Activity) -> Outcome {
    match result {
        Ok(()) if activity.requests_open() => Outcome::ClientReset,
        Ok(()) => Outcome::Completed,
        Err(error) => {
            let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<h2::Error>());
            // What h2 itself objects to is the client's protocol; all else is its going away.
            match cause {
                Some(cause) if cause.is_library() => Outcome::BadRequest,
                Some(_) | None => Outcome::ClientReset,
            }
        }
    }
}
