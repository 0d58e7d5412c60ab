//! The server that is measured against: whatever the path to it, it does the same.
//!
//! Owns the little protocol: the first byte of a connection says what the rest is for.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The service port of every exported backend.
pub(crate) const PORT: u16 = 7900;
/// Everything that comes is sent back.
pub(crate) const ECHO: u8 = b'e';
/// Everything that comes is dropped; its length is the answer.
pub(crate) const SINK: u8 = b's';
/// Bytes are sent until the client goes.
pub(crate) const SOURCE: u8 = b'd';
/// The answer is the name of the backend.
pub(crate) const NAME: u8 = b'n';
/// The first letter of every request of HTTP that is made here: all are answered with the same, as long as the client stays.
pub(crate) const HTTP: u8 = b'G';
/// The answer to a request.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 14\r\n\r\nhello, client\n";
/// The end of a request, which has no body.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// The longest head of a request, in bytes: those that introduce a caller among it.
const LONGEST_HEAD: usize = 8192;
/// Read and written at once in bulk: what fills a socket buffer without leaving the cache.
pub(crate) const CHUNK: usize = 128 * 1024;
/// How long accepting rests when the process has run out of something.
const REST: Duration = Duration::from_millis(10);

/// A running backend; it ends with its value.
#[derive(Debug)]
pub(crate) struct Backend {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Backend {
    /// Starts one on a free port.
    pub(crate) async fn start(name: u8) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, name));
        Ok(Self { address, _accepting: accepting })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, name: u8) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A client that goes away in the middle is what the end of a bulk transfer looks like.
                connections.spawn(async move { serve(stream, name).await.ok() });
            }
            Err(_) => tokio::time::sleep(REST).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, name: u8) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        ECHO => echo(stream).await,
        SINK => sink(stream).await,
        SOURCE => {
            let chunk = vec![0x5a; CHUNK];
            loop {
                stream.write_all(&chunk).await?;
            }
        }
        NAME => {
            stream.write_u8(name).await?;
            stream.shutdown().await
        }
        HTTP => answer(stream).await,
        _ => Ok(()),
    }
}

/// Answers requests, of which the first letter has been read.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(LONGEST_HEAD);
    while head.len() < LONGEST_HEAD && stream.read_buf(&mut head).await? > 0 {
        while let Some(at) = head.windows(END_OF_HEAD.len()).position(|end| end == END_OF_HEAD) {
            head.drain(..at + END_OF_HEAD.len());
            stream.write_all(ANSWER).await?;
        }
    }
    stream.shutdown().await
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

async fn sink(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            length => total += length as u64,
        }
    }
    stream.write_u64(total).await?;
    stream.shutdown().await
}
