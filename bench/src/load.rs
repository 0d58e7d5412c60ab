//! The load: small exchanges, new connections, and bulk in both directions.
//!
//! Owns what one round of each is. Knows nothing of gateways: it is given an address.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::backend::{CHUNK, ECHO, NAME, SINK, SOURCE};

/// Bytes of one small exchange.
const PING: usize = 64;
/// Exchanges before a round counts: windows and caches are warm then.
const WARM_UP: usize = 100;
/// Exchanges in one round.
const EXCHANGES: usize = 2000;
/// New connections in one round.
const CONNECTIONS: usize = 200;
/// The longest any single step may take.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// Times of small exchanges on one open connection, sorted.
pub(crate) async fn exchanges(to: SocketAddr) -> anyhow::Result<Vec<Duration>> {
    let mut stream = open(to, ECHO).await?;
    let mut times = Vec::with_capacity(EXCHANGES);
    let (sent, mut received) = ([7; PING], [0; PING]);
    for index in 0..WARM_UP + EXCHANGES {
        let started = Instant::now();
        stream.write_all(&sent).await?;
        tokio::time::timeout(STEP_LIMIT, stream.read_exact(&mut received)).await.context("no echo")??;
        if index >= WARM_UP {
            times.push(started.elapsed());
        }
    }
    times.sort_unstable();
    Ok(times)
}

/// Times from the start of a connection to the first byte of its answer, sorted.
pub(crate) async fn connections(to: SocketAddr) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let started = Instant::now();
        name(to).await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// The name of the backend that answers a new connection.
pub(crate) async fn name(to: SocketAddr) -> anyhow::Result<u8> {
    let mut stream = open(to, NAME).await?;
    Ok(tokio::time::timeout(STEP_LIMIT, stream.read_u8()).await.context("no answer")??)
}

/// Bytes per second from the client to the backend.
pub(crate) async fn upload(to: SocketAddr, lasting: Duration) -> anyhow::Result<f64> {
    let mut stream = open(to, SINK).await?;
    let chunk = vec![0x5a; CHUNK];
    let started = Instant::now();
    let mut sent = 0;
    while started.elapsed() < lasting {
        stream.write_all(&chunk).await?;
        sent += chunk.len() as u64;
    }
    stream.shutdown().await?;
    // The answer comes when the last byte has arrived, so what is buffered on the way does not count as delivered.
    let received = tokio::time::timeout(STEP_LIMIT, stream.read_u64()).await.context("no receipt")??;
    ensure!(received == sent, "{sent} bytes were sent and {received} arrived");
    Ok(sent as f64 / started.elapsed().as_secs_f64())
}

/// Bytes per second from the backend to the client.
pub(crate) async fn download(to: SocketAddr, lasting: Duration) -> anyhow::Result<f64> {
    let mut stream = open(to, SOURCE).await?;
    let mut buffer = vec![0; CHUNK];
    let started = Instant::now();
    let mut received = 0_u64;
    while started.elapsed() < lasting {
        let length = tokio::time::timeout(STEP_LIMIT, stream.read(&mut buffer)).await.context("no bytes")??;
        ensure!(length > 0, "the stream ended early");
        received += length as u64;
    }
    Ok(received as f64 / started.elapsed().as_secs_f64())
}

async fn open(to: SocketAddr, purpose: u8) -> anyhow::Result<TcpStream> {
    let connecting = tokio::time::timeout(STEP_LIMIT, TcpStream::connect(to));
    let mut stream = connecting.await.context("no connection")?.with_context(|| to.to_string())?;
    stream.set_nodelay(true)?;
    stream.write_u8(purpose).await?;
    Ok(stream)
}
