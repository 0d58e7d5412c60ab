//! The client of long sessions, for scripts: standard input to the server, the server's bytes to standard output.
//!
//! Owns the difference between an end and an abort: it exits with an error when the connection was reset.

use std::{
    io::{Read, Write},
    net::{IpAddr, Shutdown, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use tokio::net::{TcpSocket, TcpStream};

/// Talks until the server has said everything.
pub(crate) async fn talk(to: SocketAddr, from: Option<IpAddr>) -> anyhow::Result<()> {
    let stream = connect(to, from).await?.into_std()?;
    stream.set_nonblocking(false)?;
    let stream = Arc::new(stream);
    let sender = stream.clone();
    // Not waited for: it may be blocked on an input that never comes, and it ends with the process.
    std::thread::spawn(move || {
        let sent = copy(std::io::stdin(), &*sender);
        // An error means that the server is gone, which the receiving side reports.
        sent.and_then(|()| sender.shutdown(Shutdown::Write)).ok();
    });
    copy(&*stream, std::io::stdout()).context("the session was cut")
}

/// Connects from an address of one's own choosing.
pub(crate) async fn connect(to: SocketAddr, from: Option<IpAddr>) -> anyhow::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(from) = from {
        socket.bind((from, 0).into()).with_context(|| format!("cannot call from {from}"))?;
    }
    socket.connect(to).await.with_context(|| format!("cannot connect to {to}"))
}

/// Copies as bytes come: what was said is passed on before more is waited for.
fn copy(mut from: impl Read, mut to: impl Write) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            length => {
                to.write_all(&buffer[..length])?;
                to.flush()?;
            }
        }
    }
}
