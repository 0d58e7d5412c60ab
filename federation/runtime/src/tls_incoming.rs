//! TLS connections as a stream, for gRPC servers.
//!
//! Owns accepting and the handshakes: each in its own task, so that a slow client delays nobody, with limits in number and
//! time. Never checks who the client is: the `ServerConfig` and the caller do.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{Id, JoinSet},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Handshakes at a time. Each holds at most two TLS records, so together below 10 MiB.
pub const MAX_HANDSHAKES: usize = 256;
/// Handshakes at a time from one address: many gateways may stand behind one NAT, and still cannot take every place.
pub const MAX_HANDSHAKES_PER_ADDRESS: usize = 64;
/// A handshake is two round trips and a signature.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Handshake = (IpAddr, io::Result<TlsStream<TcpStream>>);

/// Established TLS connections of one listener; ends when it is told to stop.
#[derive(Debug)]
pub struct TlsIncoming {
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    handshakes: JoinSet<Handshake>,
    /// Who each handshake is with: a task that panics cannot say.
    peers: BTreeMap<Id, IpAddr>,
    per_address: BTreeMap<IpAddr, usize>,
    pause: Option<Pin<Box<Sleep>>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl TlsIncoming {
    /// Accepts from `listener`; every connection is given the newest `config`.
    #[must_use]
    pub fn new(listener: TcpListener, config: watch::Receiver<Arc<ServerConfig>>, stop: CancellationToken) -> Self {
        Self {
            listener,
            config,
            handshakes: JoinSet::new(),
            peers: BTreeMap::new(),
            per_address: BTreeMap::new(),
            pause: None,
            stop: Box::pin(stop.cancelled_owned()),
        }
    }

    /// Takes new connections in while there is room. `Pending` is registered with everything that could change that, but
    /// for the end of a handshake.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.handshakes.len() < MAX_HANDSHAKES {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, address)) => self.begin(stream, address.ip().to_canonical()),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections for a moment");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
            }
        }
        Poll::Pending
    }

    fn begin(&mut self, stream: TcpStream, address: IpAddr) {
        let count = self.per_address.entry(address).or_default();
        if *count >= MAX_HANDSHAKES_PER_ADDRESS {
            tracing::debug!(%address, "too many handshakes at a time from one address: closed");
            return;
        }
        *count += 1;
        // Small messages go both ways; waiting for more of them only delays.
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config.borrow()));
        let handle = self.handshakes.spawn(async move {
            let accepted = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            (address, accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
        });
        self.peers.insert(handle.id(), address);
    }

    fn ended(&mut self, id: Id) {
        let Some(address) = self.peers.remove(&id) else { return };
        if let Some(count) = self.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
    }

    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<Option<TlsStream<TcpStream>>> {
        while let Some(joined) = ready!(self.handshakes.poll_join_next_with_id(cx)) {
            match joined {
                Ok((id, (address, result))) => {
                    self.ended(id);
                    match result {
                        Ok(stream) => return Poll::Ready(Some(stream)),
                        Err(error) => tracing::debug!(%address, %error, "TLS handshake failed"),
                    }
                }
                Err(error) => {
                    self.ended(error.id());
                    tracing::error!(%error, "a TLS handshake panicked");
                }
            }
        }
        Poll::Ready(None)
    }
}

impl Stream for TlsIncoming {
    type Item = io::Result<TlsStream<TcpStream>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.stop.as_mut().poll(cx).is_ready() {
            this.handshakes.abort_all();
            return Poll::Ready(None);
        }
        loop {
            let _pending = this.poll_accept(cx);
            let full = this.handshakes.len() >= MAX_HANDSHAKES;
            match this.poll_established(cx) {
                Poll::Ready(Some(stream)) => return Poll::Ready(Some(Ok(stream))),
                // Room was made by handshakes that failed: the listener is not registered yet.
                _ if full && this.handshakes.len() < MAX_HANDSHAKES => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Errors of `accept` that concern the one connection it would have returned.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests;
