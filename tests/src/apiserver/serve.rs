//! The HTTP shell: TLS connections, requests in, answers and watches out.
//!
//! Owns the sockets. Never decides what is answered.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Request as HttpRequest, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{Instant, Interval, interval_at, sleep_until},
};
use tokio_rustls::TlsAcceptor;

use super::{
    desk::{Desk, Outcome},
    discovery::AGGREGATED,
    exec,
    failure::Failure,
    request::Request,
    watch::{News, Watch},
};

/// The largest body, as a real API server takes it: 3 MiB.
const LARGEST: usize = 3 * 1024 * 1024;
/// How long a watch lasts that does not say: real ones end after 30 to 60 minutes.
const LONGEST_WATCH: Duration = Duration::from_secs(45 * 60);

/// How clients know that all groups were answered at once.
const AGGREGATED_MEDIA: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves the desk at the address until the task ends.
pub(super) async fn serve(desk: Arc<Desk>, acceptor: TlsAcceptor, listener: TcpListener) {
    let mut sessions = JoinSet::new();
    while let Ok((stream, peer)) = listener.accept().await {
        while sessions.try_join_next().is_some() {}
        let (desk, acceptor) = (desk.clone(), acceptor.clone());
        sessions.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| answer(desk.clone(), request, peer));
            // A client that goes away ends its session, nothing else.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    desk: Arc<Desk>,
    request: HttpRequest<Incoming>,
    peer: SocketAddr,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    if ["/healthz", "/livez", "/readyz"].contains(&path.as_str()) {
        return Ok(Response::new(Full::from("ok").boxed_unsync()));
    }
    let token = bearer(&request);
    if exec::is_wanted(&request) {
        let started = exec::start(&desk, request, token.as_deref());
        return Ok(started.map_or_else(|failure| refused(&failure), |response| response.map(|()| empty())));
    }
    let Some(request) = read(request).await else {
        let failure = Failure::new(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728");
        return Ok(refused(&failure));
    };
    let timeout = request.parameter("timeoutSeconds").parse().map_or(LONGEST_WATCH, Duration::from_secs);
    let outcome = desk.ask(&request, token.as_deref());
    tracing::trace!(%peer, verb = request.verb, path, "the API server of a test was asked");
    Ok(match outcome {
        Outcome::Answered(answer) => json(answer.code, &answer.body),
        Outcome::Refused(failure) => refused(&failure),
        Outcome::Watching(watch, news) => watching(desk, watch, news, timeout),
        Outcome::Hanging => std::future::pending().await,
    })
}

fn empty() -> Body {
    Full::from("").boxed_unsync()
}

fn bearer(request: &HttpRequest<Incoming>) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(|token| token.trim().to_owned())
}

async fn read(request: HttpRequest<Incoming>) -> Option<Request> {
    let (head, body) = request.into_parts();
    let text = |name| {
        head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let mut read = Request::read(&head.method, head.uri.path(), head.uri.query().unwrap_or_default());
    read.accept = text(header::ACCEPT);
    read.content_type = text(header::CONTENT_TYPE);
    read.user_agent = text(header::USER_AGENT);
    read.body = Limited::new(body, LARGEST).collect().await.ok()?.to_bytes();
    Some(read)
}

fn refused(failure: &Failure) -> Response<Body> {
    if failure.is_plain() {
        let mut response = Response::new(Full::from(failure.message.clone()).boxed_unsync());
        *response.status_mut() = StatusCode::NOT_FOUND;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        return response;
    }
    let mut response = json(failure.code, &failure.to_json());
    if let Some(seconds) = failure.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn json(code: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::from(body.to_string() + "\n").boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media = if body["kind"] == AGGREGATED { AGGREGATED_MEDIA } else { "application/json" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// A watch that is being answered.
#[derive(Debug)]
struct Session {
    desk: Arc<Desk>,
    watch: Watch,
    news: News,
    moved: watch::Receiver<u64>,
    cut: watch::Receiver<u64>,
    bookmarks: Interval,
    until: Instant,
}

fn watching(desk: Arc<Desk>, watch: Watch, news: News, timeout: Duration) -> Response<Body> {
    let (moved, cut) = (desk.moved(), desk.cut());
    let (now, every) = (Instant::now(), desk.bookmark_every);
    // Moved before anybody looks: what happened since the watch began is asked for at once.
    let mut session =
        Session { watch, news, moved, cut, bookmarks: interval_at(now + every, every), until: now + timeout, desk };
    session.moved.mark_changed();
    let chunks = stream::unfold(session, |mut session| async move {
        let chunk = session.next().await?;
        Some((Ok(Frame::data(chunk)), session))
    });
    let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Session {
    /// The next lines; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.news.lines.is_empty() {
                let lines: String = self.news.lines.drain(..).map(|line| line.to_string() + "\n").collect();
                return Some(lines.into());
            }
            if self.news.end {
                return None;
            }
            tokio::select! {
                biased;
                _ = self.cut.changed() => return None,
                () = sleep_until(self.until) => return None,
                changed = self.moved.changed() => {
                    changed.ok()?;
                    self.news = self.desk.news(&mut self.watch);
                }
                _ = self.bookmarks.tick(), if self.watch.wants_bookmarks() => {
                    let bookmark = self.watch.bookmark();
                    self.news.lines.push(bookmark);
                }
            }
        }
    }
}
