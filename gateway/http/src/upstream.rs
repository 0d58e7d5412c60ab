//! The connection to the endpoint that belongs to one connection of a client.
//!
//! Owns it: made when first needed, kept while it lives, made anew when it has ended; and which request may be sent a second
//! time. Never shares it with another caller.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use http::{Method, Request, Response, StatusCode};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::{TrySendError, http1, http2},
    ext::Protocol,
};
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::{
    answer::Refusal,
    body::Sent,
    destination::{Connect, ConnectError},
    limits::{self, ATTEMPTS},
    nursery::Nursery,
    wire::Version,
};

type Two<C> = http2::Connection<TokioIo<<C as Connect>::Io>, Sent, Nursery>;
type Making<C> = Shared<BoxFuture<'static, Result<KeptTwo<C>, ConnectError>>>;

/// The connection to the endpoint.
pub(crate) struct Upstream<C: Connect> {
    connect: Arc<C>,
    nursery: Nursery,
    kept: Kept<C>,
}

enum Kept<C: Connect> {
    /// One request at a time: whoever sends takes it out.
    One(Mutex<Option<http1::SendRequest<Sent>>>),
    /// Many at a time, of which the first makes it and the others wait.
    Two(Mutex<Option<Making<C>>>),
}

struct KeptTwo<C: Connect> {
    sender: http2::SendRequest<Sent>,
    /// Nothing once it has ended: hyper fails the requests that wait for it when it is dropped.
    connection: Arc<Mutex<Option<Two<C>>>>,
}

// A derived one would ask for a connection that can be cloned.
impl<C: Connect> Clone for KeptTwo<C> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), connection: Arc::clone(&self.connection) }
    }
}

impl<C: Connect> std::fmt::Debug for Upstream<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}

/// A request that got no answer, and what is known of why.
struct Unsent {
    /// The request, when nothing of it was sent.
    request: Option<Request<Sent>>,
}

impl From<TrySendError<Request<Sent>>> for Unsent {
    fn from(mut error: TrySendError<Request<Sent>>) -> Self {
        let request = error.take_message();
        tracing::debug!(error = &error.into_error() as &dyn std::error::Error, "no answer from the endpoint");
        Self { request }
    }
}

impl<C: Connect> Upstream<C> {
    /// Speaks `version` to the endpoint, once there is something to say.
    pub(crate) const fn new(connect: Arc<C>, nursery: Nursery, version: Version) -> Self {
        let kept = match version {
            Version::One => Kept::One(Mutex::new(None)),
            Version::Two => Kept::Two(Mutex::new(None)),
        };
        Self { connect, nursery, kept }
    }

    /// Sends a request and waits for the head of the response. Sends it again on a new connection when the kept one took
    /// nothing of it, or ended under a request that may be repeated.
    ///
    /// # Errors
    /// When there is no response: what to tell the client.
    pub(crate) async fn send(&self, mut request: Request<Sent>) -> Result<Response<Incoming>, Refusal> {
        for _ in 0..ATTEMPTS {
            let mut spare = None;
            let sent = match &self.kept {
                Kept::One(kept) => {
                    let (mut sender, used) = self.one(kept).await?;
                    spare = used.then(|| copy(&request)).flatten();
                    let answer = sender.try_send_request(request).await;
                    if answer.is_ok() {
                        *lock(kept) = Some(sender);
                    }
                    answer
                }
                Kept::Two(kept) => {
                    let (mut two, used) = self.two(kept).await?;
                    if request.extensions().get::<Protocol>().is_some() {
                        two.takes_tunnels().await?;
                    }
                    if used {
                        spare = copy(&request);
                    }
                    two.sender.try_send_request(request).await
                }
            };
            match sent.map_err(Unsent::from) {
                Ok(response) => return Ok(response),
                Err(unsent) => match unsent.request.or(spare) {
                    Some(again) => request = again,
                    None => break,
                },
            }
        }
        Err(Refusal::broken("the endpoint closed the connection before it answered"))
    }

    /// The HTTP/1.1 connection, and whether it has been used.
    async fn one(
        &self,
        kept: &Mutex<Option<http1::SendRequest<Sent>>>,
    ) -> Result<(http1::SendRequest<Sent>, bool), ConnectError> {
        let before = lock(kept).take();
        if let Some(mut sender) = before
            && sender.ready().await.is_ok()
        {
            return Ok((sender, true));
        }
        let io = TokioIo::new(self.connect.connect().await?);
        let made = http1::Builder::new().max_header_size(limits::HEAD_BYTES as usize).handshake(io).await;
        let (sender, connection) = made.map_err(|_| ConnectError::Refused)?;
        self.nursery.take_in(async move {
            // Whoever waits for an answer is told by the sender.
            let _ = connection.with_upgrades().await;
        });
        Ok((sender, false))
    }

    /// The HTTP/2 connection, and whether it has been used.
    async fn two(&self, kept: &Mutex<Option<Making<C>>>) -> Result<(KeptTwo<C>, bool), ConnectError> {
        let (making, used) = {
            let mut kept = lock(kept);
            match kept.as_ref().map(|making| (making, making.peek())) {
                Some((making, None)) => (making.clone(), false),
                Some((making, Some(Ok(two)))) if !two.sender.is_closed() => (making.clone(), true),
                Some((_, Some(_))) | None => {
                    let making = make(Arc::clone(&self.connect), self.nursery.clone()).boxed().shared();
                    *kept = Some(making.clone());
                    (making, false)
                }
            }
        };
        Ok((making.await?, used))
    }
}

async fn make<C: Connect>(connect: Arc<C>, nursery: Nursery) -> Result<KeptTwo<C>, ConnectError> {
    let io = TokioIo::new(connect.connect().await?);
    let made = http2::Builder::new(nursery.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_send_buf_size(limits::SEND_BUFFER)
        .max_header_list_size(limits::HEAD_BYTES)
        .handshake(io)
        .await;
    let (sender, connection) = made.map_err(|_| ConnectError::Refused)?;
    let connection = Arc::new(Mutex::new(Some(connection)));
    let driven = Arc::clone(&connection);
    nursery.take_in(std::future::poll_fn(move |cx| {
        let mut driven = lock(&driven);
        // Whoever waits for an answer is told of an error by the sender.
        if driven.as_mut().is_none_or(|connection| Pin::new(connection).poll(cx).is_ready()) {
            *driven = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }));
    Ok(KeptTwo { sender, connection })
}

impl<C: Connect> KeptTwo<C> {
    /// Waits until the endpoint has said that it takes tunnels (RFC 8441 section 3), for a while.
    async fn takes_tunnels(&self) -> Result<(), Refusal> {
        let said = async {
            // hyper tells nobody when the settings arrive.
            while lock(&self.connection).as_ref().is_some_and(|c| !c.is_extended_connect_protocol_enabled()) {
                tokio::time::sleep(limits::SETTINGS / 100).await;
            }
        };
        tokio::time::timeout(limits::SETTINGS, said).await.map_err(|_| {
            Refusal::bad(StatusCode::NOT_IMPLEMENTED, "the endpoint takes no WebSocket over HTTP/2: use HTTP/1.1")
        })
    }
}

/// A copy of a request that may be sent twice: idempotent (RFC 9110 section 9.2.2) and without a body.
fn copy(request: &Request<Sent>) -> Option<Request<Sent>> {
    let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE];
    if !idempotent.contains(request.method()) || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(Sent::nothing());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
