//! The sockets of the name server.
//!
//! Owns the loops and their limits. Datagrams are answered one by one, since an answer takes microseconds and waits for
//! nothing: the socket's own buffer is the queue. Never reads a message: that is [`crate::answer`].

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use gateway_core::tables::Tables;
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{Reply, Via, answer},
    metrics::Metrics,
};

/// The most TCP connections at a time; more wait in the kernel until one ends.
const MAX_CONNECTIONS: usize = 256;
/// The most queries on one TCP connection; a client that wants more connects again.
const MAX_QUERIES: usize = 4096;
/// How long a TCP client may take for one query, and to take its answer (RFC 7766 section 6.2.3).
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest datagram read; queries are far smaller, so a longer one is malformed anyway.
const MAX_QUERY: usize = 4096;
/// How often a free port is looked for that both transports can have.
const PORT_ATTEMPTS: usize = 16;
/// The pause after an error of the socket itself, such as no free file descriptor.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest TTL (RFC 2181 section 8).
const MAX_TTL: u64 = (1 << 31) - 1;

/// What the name server needs to know.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Where it listens, over UDP and TCP; with port 0 a free port is found.
    pub listen: SocketAddr,
    /// How long resolvers may keep what they were told, whole seconds.
    pub ttl: Duration,
}

/// Why the name server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen for DNS over {transport} on {address} (`dns.listen`): {error}; set `dns.listen` to a free address"
)]
pub struct DnsError {
    /// `UDP` or `TCP`.
    pub transport: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    pub error: io::Error,
}

/// A name server that listens, and answers once it runs.
#[derive(Debug)]
pub struct DnsServer {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
    ttl: u32,
    metrics: Metrics,
}

/// What the loops share.
#[derive(Debug, Clone)]
struct Zone {
    tables: watch::Receiver<Arc<Tables>>,
    ttl: u32,
    metrics: Metrics,
}

impl Zone {
    fn answer(&self, query: &[u8], via: Via) -> Option<Vec<u8>> {
        let tables = self.tables.borrow().clone();
        let Some(Reply { bytes, outcome }) = answer(query, tables.names(), self.ttl, via) else {
            self.metrics.ignored();
            return None;
        };
        self.metrics.answered(via, outcome);
        Some(bytes)
    }
}

impl DnsServer {
    /// Listens on one port over UDP and TCP.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub async fn bind(config: DnsConfig, registry: &mut Registry) -> Result<Self, DnsError> {
        let (udp, tcp, address) = bind_both(config.listen).await?;
        let ttl = u32::try_from(config.ttl.as_secs().min(MAX_TTL)).unwrap_or(u32::MAX >> 1);
        Ok(Self { udp, tcp, address, ttl, metrics: Metrics::register(registry) })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers from the newest tables until `stop`.
    pub async fn run(self, tables: watch::Receiver<Arc<Tables>>, stop: CancellationToken) {
        let Self { udp, tcp, ttl, metrics, .. } = self;
        let zone = Zone { tables, ttl, metrics };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = serve_datagrams(&udp, &zone) => {}
            () = serve_connections(&tcp, &zone) => {}
        }
    }
}

async fn bind_both(listen: SocketAddr) -> Result<(UdpSocket, TcpListener, SocketAddr), DnsError> {
    let mut attempt = 1;
    loop {
        let fail = |transport| move |error| DnsError { transport, address: listen, error };
        let udp = UdpSocket::bind(listen).await.map_err(fail("UDP"))?;
        let address = udp.local_addr().map_err(fail("UDP"))?;
        match TcpListener::bind(address).await {
            Ok(tcp) => return Ok((udp, tcp, address)),
            // The port that is free for UDP need not be free for TCP.
            Err(error) if listen.port() == 0 && error.kind() == io::ErrorKind::AddrInUse && attempt < PORT_ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(DnsError { transport: "TCP", address, error }),
        }
    }
}

async fn serve_datagrams(socket: &UdpSocket, zone: &Zone) {
    let mut buffer = vec![0; MAX_QUERY];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "cannot receive a DNS query");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if let Some(bytes) = zone.answer(&buffer[..length], Via::Udp)
            && let Err(error) = socket.send_to(&bytes, client).await
        {
            tracing::debug!(%error, %client, "cannot send a DNS answer");
        }
    }
}

async fn serve_connections(listener: &TcpListener, zone: &Zone) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Connections end with this future: a set that is dropped aborts its tasks.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, client)) => {
                let zone = zone.clone();
                connections.spawn(async move {
                    if let Err(error) = converse(stream, &zone).await {
                        tracing::debug!(%error, %client, "a DNS connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a DNS connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Answers the queries of one connection in turn.
async fn converse(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    stream.set_nodelay(true)?;
    for _ in 0..MAX_QUERIES {
        let Some(query) = timeout(PATIENCE, read_query(&mut stream)).await?? else {
            return Ok(());
        };
        let Some(bytes) = zone.answer(&query, Via::Tcp) else {
            return Ok(());
        };
        // The encoder never exceeds what the length field holds.
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        timeout(PATIENCE, stream.write_all(&framed)).await??;
    }
    Ok(())
}

/// One query with its length before it (RFC 1035 section 4.2.2); nothing at the end of the connection.
async fn read_query(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut query = vec![0; length.into()];
    stream.read_exact(&mut query).await?;
    Ok(Some(query))
}

#[cfg(test)]
mod tests;
