//! A socket that loses datagrams it is to send.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use crate::socket::{
    AsyncUdpSocket, Runtime, TunnelSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

/// How many of the next datagrams are lost.
pub(super) type Losses = Arc<AtomicUsize>;

pub(super) fn socket(address: SocketAddr, losses: Losses) -> TunnelSocket {
    let runtime: Arc<dyn Runtime> = Arc::new(quinn::TokioRuntime);
    let inner = runtime.wrap_udp_socket(std::net::UdpSocket::bind(address).unwrap()).unwrap();
    TunnelSocket::Abstract(Arc::new(Lossy { inner, losses }), runtime)
}

struct Lossy {
    inner: Arc<dyn AsyncUdpSocket>,
    losses: Losses,
}

impl fmt::Debug for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lossy")
    }
}

impl AsyncUdpSocket for Lossy {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let lose = |left: usize| left.checked_sub(1);
        match self.losses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lose) {
            Ok(_) => Ok(()),
            Err(_) => self.inner.try_send(transmit),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
