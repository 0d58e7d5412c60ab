//! Established connections, counted and limited.
//!
//! Owns the limits of open connections and what a call knows of its connection. Never reads a byte itself.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use federation_pki::{
    trust::TrustStore,
    verify::{Usage, verify_leaf},
};
use federation_runtime::tls_incoming::TlsIncoming;
use futures::{Stream, StreamExt as _};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::caller::Peer;
use crate::{clock::Clock, metrics::Counted};

/// A thousand members with two replicas each, and as much again.
const MAX_CONNECTIONS: usize = 4096;
/// Those of clients that are neither members nor operators: whoever joins is gone within seconds, and whoever only sits
/// there must not keep members from hearing of a removal.
const MAX_STRANGERS: usize = 1024;
/// Many gateways may stand behind one NAT, and still cannot take every place.
const MAX_PER_ADDRESS: usize = 1024;

/// Open connections.
#[derive(Debug, Clone, Default)]
struct Open(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    by_address: BTreeMap<IpAddr, usize>,
    all: usize,
    strangers: usize,
}

impl Open {
    /// Holders of the lock only count, so a poisoned one is still whole.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, address: IpAddr, stranger: bool) -> Option<Place> {
        let mut counts = self.counts();
        let from_there = counts.by_address.get(&address).copied().unwrap_or_default();
        let full = counts.all >= MAX_CONNECTIONS || (stranger && counts.strangers >= MAX_STRANGERS);
        if full || from_there >= MAX_PER_ADDRESS {
            return None;
        }
        counts.by_address.insert(address, from_there + 1);
        counts.all += 1;
        counts.strangers += usize::from(stranger);
        Some(Place { open: self.clone(), address, stranger })
    }
}

/// One open connection, until it is dropped.
#[derive(Debug)]
struct Place {
    open: Open,
    address: IpAddr,
    stranger: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.counts();
        counts.all -= 1;
        counts.strangers -= usize::from(self.stranger);
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// The connections of a listener, those beyond the limits closed.
#[derive(Debug)]
pub(super) struct Connections {
    incoming: TlsIncoming,
    open: Open,
    gauge: Gauge,
    trust: Arc<TrustStore>,
    clock: Clock,
}

impl Connections {
    pub(super) fn new(incoming: TlsIncoming, context: &super::Context) -> Self {
        let (gauge, trust, clock) = (context.metrics.connections(), &context.trust, &context.clock);
        Self { incoming, open: Open::default(), gauge: gauge.clone(), trust: Arc::clone(trust), clock: clock.clone() }
    }

    /// Nothing when the connection is to be closed.
    fn admit(&self, stream: TlsStream<TcpStream>) -> Option<Connection> {
        let (socket, session) = stream.get_ref();
        let (address, local) = (socket.peer_addr().ok()?, socket.local_addr().ok()?);
        let chain = session.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned());
        let peer = Peer { address: canonical(address), local: canonical(local), chain: chain.collect() };
        // For its place alone: every call is verified by itself.
        let stranger = verify_leaf(&peer.chain, &self.trust, self.clock.now(), Usage::Client).is_err();
        let Some(place) = self.open.place(peer.address.ip(), stranger) else {
            tracing::warn!(%address, stranger, "connection closed: too many are open");
            return None;
        };
        Some(Connection { stream, peer, _place: place, _counted: Counted::in_gauge(&self.gauge) })
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Stream for Connections {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::task::ready!(self.incoming.poll_next_unpin(cx)) {
                Some(Ok(stream)) => {
                    if let Some(connection) = self.admit(stream) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// One TLS connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _place: Place,
    _counted: Counted,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_per_address_and_come_back() {
        let open = Open::default();
        let address = |number: u32| IpAddr::from(std::net::Ipv4Addr::from(number));
        let mut places: Vec<_> = (0..MAX_PER_ADDRESS).map(|_| open.place(address(1), false).unwrap()).collect();
        assert!(open.place(address(1), false).is_none());
        let others = (0..MAX_CONNECTIONS - MAX_PER_ADDRESS).map(|n| address(2 + n as u32));
        places.extend(others.map(|address| open.place(address, false).unwrap()));
        assert!(open.place(address(0), false).is_none());
        places.clear();
        assert!(open.counts().by_address.is_empty() && open.counts().all == 0);
    }

    #[test]
    fn strangers_from_many_addresses_leave_places_to_members() {
        let open = Open::default();
        let address = |number: usize| IpAddr::from(std::net::Ipv4Addr::from(number as u32));
        let mut strangers: Vec<_> = (0..MAX_STRANGERS).map(|n| open.place(address(n), true).unwrap()).collect();
        assert!(open.place(address(MAX_STRANGERS), true).is_none());
        assert!(open.place(address(MAX_STRANGERS), false).is_some());
        strangers.pop();
        assert!(open.place(address(MAX_STRANGERS), true).is_some());
    }
}
