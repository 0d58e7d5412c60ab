//! The connection to an endpoint that HTTP is spoken on.
//!
//! Owns the rule that what was not shut down ends as a reset. Never reads or writes by itself.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A socket whose close is a RST until it has been shut down: after an upgrade, an abort must not look like a clean end.
#[derive(Debug)]
pub(super) struct EndpointIo(TcpStream);

impl EndpointIo {
    pub(super) fn new(tcp: TcpStream) -> Self {
        let io = Self(tcp);
        io.linger(Some(Duration::ZERO));
        io
    }

    fn linger(&self, linger: Option<Duration>) {
        // A socket that is gone already closes in no way at all.
        let _ = socket2::SockRef::from(&self.0).set_linger(linger);
    }
}

impl AsyncRead for EndpointIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for EndpointIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.linger(None);
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
