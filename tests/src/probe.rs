//! Applications that tell what they saw.
//!
//! Owns small TCP servers of the tests. Each says who it is, so that a test sees which cluster answered.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use proxy_header::{ParseConfig, ProxyHeader, Tlv};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What a PROXY v2 header said of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The client's address.
    pub source: Option<SocketAddr>,
    /// TLV 0xE0.
    pub principal: Option<String>,
    /// TLV 0xE1.
    pub cluster: Option<String>,
    /// TLV 0xE2.
    pub assurance: Option<String>,
}

/// A server that greets with its name, then echoes until the client's end, then says `bye` and ends.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: JoinSet<()>,
}

impl Echo {
    /// Starts it at `address`.
    ///
    /// # Errors
    /// When the address is not free.
    pub async fn start(name: &'static str, address: SocketAddr, proxy_protocol: bool) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let log = seen.clone();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let log = log.clone();
                sessions.spawn(async move {
                    // A client that goes away ends its session, nothing else.
                    let _ = session(stream, name, proxy_protocol.then_some(log)).await;
                });
            }
        });
        Ok(Self { address, seen, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its callers' PROXY headers said, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops it and every session.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn session(mut stream: TcpStream, name: &str, log: Option<Arc<Mutex<Vec<Seen>>>>) -> io::Result<()> {
    let mut buffer = Vec::new();
    if let Some(log) = log {
        let seen = introduction(&mut stream, &mut buffer).await?;
        log.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }
    stream.write_all(format!("{name}\n").as_bytes()).await?;
    stream.write_all(&buffer).await?;
    let mut chunk = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut chunk).await? {
            0 => break,
            n => stream.write_all(&chunk[..n]).await?,
        }
    }
    stream.write_all(b"bye\n").await?;
    stream.shutdown().await
}

async fn introduction(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Seen> {
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let parsed = match ProxyHeader::parse(buffer, ParseConfig::default()) {
            Ok((header, used)) => Some((seen(&header), used)),
            Err(proxy_header::Error::BufferTooShort) => None,
            Err(error) => return Err(io::Error::other(error)),
        };
        if let Some((seen, used)) = parsed {
            buffer.drain(..used);
            return Ok(seen);
        }
    }
}

fn seen(header: &ProxyHeader<'_>) -> Seen {
    let text = |wanted: u8| {
        header.tlvs().find_map(|tlv| match tlv {
            Ok(Tlv::Custom(kind, value)) if kind == wanted => Some(String::from_utf8_lossy(&value).into_owned()),
            Ok(_) | Err(_) => None,
        })
    };
    Seen {
        source: header.proxied_address().map(|address| address.source),
        principal: text(0xE0),
        cluster: text(0xE1),
        assurance: text(0xE2),
    }
}
