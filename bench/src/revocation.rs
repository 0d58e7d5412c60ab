//! How long a caller that was revoked can still deliver bytes.
//!
//! Owns a caller in east that sends to west, and receives from it, steadily or without a pause. What is told is the last byte
//! that arrived at either end, not when an end noticed.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::{
    backend::{CHUNK, PORT},
    fleet::{Fleet, LIMIT},
    process,
    report::{Figure, Report},
    spread::Spread,
};

const SERVICE: &str = "duplex";
const ACCOUNT: &str = "caller";
const CALLER: &str = "spiffe://east.example/ns/bench/sa/caller";
/// Bytes at once of a steady flow.
const STEADY: usize = 1024;
/// How long bytes flow both ways before the caller is revoked.
const FLOWING: Duration = Duration::from_millis(100);

/// How bytes flow.
#[derive(Debug, Clone, Copy)]
enum Flow {
    /// A little every millisecond, which shows the time it takes.
    Steady,
    /// As many as go through, which fills every buffer and the processors.
    Bulk,
}

/// From the start of `fedctl revoke` to the last byte that arrived, and to the end of `fedctl revoke`.
pub(crate) async fn last_byte(fleet: &Fleet, rounds: u32, report: &mut Report) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    fleet.gateway("west")?.export(SERVICE, listener.local_addr()?, 0)?;
    fleet.gateway("east")?.pod(ACCOUNT, Ipv4Addr::LOCALHOST.into())?;
    let to = SocketAddr::new(fleet.gateway("east")?.wait_for(SERVICE).await?, PORT);
    let mut calls = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        fleet.operate(&["revoke", "list"]).await?;
        calls.push(started.elapsed().as_secs_f64() * 1e3);
    }
    for (flow, word) in [(Flow::Steady, "steady"), (Flow::Bulk, "bulk")] {
        let (last_bytes, returns) = revoked(fleet, rounds, (&listener, to), flow).await?;
        report.add(format!("fedctl revoke until the caller's last byte, {word}"), ms(last_bytes));
        report.add(format!("fedctl revoke until every member has cut it, {word}"), ms(returns));
    }
    report.add("fedctl revoke list, the cost of one call alone", ms(calls));
    Ok(())
}

fn ms(times: Vec<f64>) -> Figure {
    Figure::one("ms", Spread::of(times))
}

/// When the last byte arrived, and when `fedctl revoke` returned, in each round.
async fn revoked(
    fleet: &Fleet,
    rounds: u32,
    (listener, to): (&TcpListener, SocketAddr),
    flow: Flow,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let (mut last_bytes, mut returns) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let flows = Flows::start(listener, to, flow).await?;
        tokio::time::sleep(FLOWING).await;
        let started = Instant::now();
        let answer = fleet.operate(&["revoke", "id", CALLER, "--yes", "-o", "json"]).await?;
        returns.push(started.elapsed().as_secs_f64() * 1e3);
        let last = flows.last_byte().await?;
        ensure!(last > started, "the connection ended before the caller was revoked");
        last_bytes.push((last - started).as_secs_f64() * 1e3);

        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        let id = answer["revocation"]["id"].as_str().context("the answer names the revocation")?;
        fleet.operate(&["revoke", "reinstate", id]).await?;
        let believed = async || Flows::start(listener, to, flow).await.is_ok();
        process::until("the caller is believed again", LIMIT, believed).await?;
    }
    Ok((last_bytes, returns))
}

/// A connection with bytes under way in both directions.
struct Flows {
    ends: JoinSet<Option<Instant>>,
}

impl Flows {
    async fn start(listener: &TcpListener, to: SocketAddr, flow: Flow) -> anyhow::Result<Self> {
        let mut caller = TcpStream::connect(to).await?;
        caller.write_all(&[1]).await?;
        let (mut callee, _) = timeout(Duration::from_secs(1), listener.accept()).await.context("nobody called")??;
        callee.write_all(&[1]).await?;
        // A connection that was refused ends here.
        timeout(LIMIT, caller.read_u8()).await.context("nobody answered")??;
        let mut ends = JoinSet::new();
        for end in [caller, callee] {
            let (reader, writer) = end.into_split();
            ends.spawn(read(reader));
            ends.spawn(write(writer, flow));
        }
        Ok(Self { ends })
    }

    /// When the last byte arrived at either end.
    async fn last_byte(mut self) -> anyhow::Result<Instant> {
        let mut last = None;
        while let Some(ended) = timeout(LIMIT, self.ends.join_next()).await.context("the connection goes on")? {
            last = last.max(ended?);
        }
        last.context("no byte arrived")
    }
}

/// Reads to the end, whatever it is; when the last byte came.
async fn read(mut from: impl AsyncRead + Unpin) -> Option<Instant> {
    let mut buffer = vec![0; CHUNK];
    let mut last = None;
    while from.read(&mut buffer).await.is_ok_and(|length| length > 0) {
        last = Some(Instant::now());
    }
    last
}

async fn write(mut to: impl AsyncWrite + Unpin, flow: Flow) -> Option<Instant> {
    let (length, pause) = match flow {
        Flow::Steady => (STEADY, Some(Duration::from_millis(1))),
        Flow::Bulk => (CHUNK, None),
    };
    let chunk = vec![0x5a; length];
    while to.write_all(&chunk).await.is_ok() {
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    None
}
