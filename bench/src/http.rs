//! What delivery as HTTP costs next to delivery of plain bytes: the same requests, to the same backend, through the same
//! gateways.
//!
//! Owns the load of requests and its figures. Speaks as much of HTTP/1.1 as its backend does.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    backend::{Backend, PORT},
    fleet::{Fleet, LIMIT},
    process,
    report::{self, Figure, Report},
    spread::{Spread, percentile_micros},
};

/// The two services, which have one backend; the second is delivered as HTTP.
const PLAIN: &str = "web-plain";
const HTTP: &str = "web-http";
/// The most bytes of an answer, of which a head has some two hundred.
const LONGEST_ANSWER: usize = 4096;
/// The longest any single answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Kept-alive connections at a time, requests on each that count, and those before, until windows and caches are warm.
#[derive(Debug, Clone, Copy)]
struct Load {
    connections: usize,
    requests: usize,
    warm_up: usize,
}

const LOADS: [Load; 2] =
    [Load { connections: 1, requests: 3000, warm_up: 200 }, Load { connections: 64, requests: 200, warm_up: 20 }];

/// What one round of a load showed.
#[derive(Debug)]
struct Round {
    per_second: f64,
    /// Sorted.
    times: Vec<Duration>,
}

impl Round {
    fn figure(&self, of: Of) -> f64 {
        match of {
            Of::Rate => self.per_second,
            Of::Percentile(percent) => percentile_micros(&self.times, percent),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Of {
    Rate,
    Percentile(usize),
}

/// Requests directly, delivered plain and delivered as HTTP, by turns.
pub(crate) async fn compare(fleet: &Fleet, rounds: u32, report: &mut Report) -> anyhow::Result<()> {
    let backend = Backend::start(b'w').await?;
    let (east, west) = (fleet.gateway("east")?, fleet.gateway("west")?);
    west.export(PLAIN, backend.address(), 0)?;
    west.export_as(HTTP, backend.address(), "http")?;
    let plain = SocketAddr::new(east.wait_for(PLAIN).await?, PORT);
    let http = SocketAddr::new(east.wait_for(HTTP).await?, PORT);
    for to in [plain, http] {
        let answers = || async { Client::open(to).await.is_ok() };
        process::until("east reaches the web server in west", LIMIT, answers).await?;
    }
    for load in LOADS {
        report::progress(&format!("HTTP requests, {} connection(s)", load.connections));
        let ways = [backend.address(), plain, http];
        let mut results = [Vec::new(), Vec::new(), Vec::new()];
        for number in 0..rounds as usize {
            for turn in 0..ways.len() {
                let way = (number + turn) % ways.len();
                results[way].push(round(ways[way], load).await.with_context(|| format!("requests to {}", ways[way]))?);
            }
        }
        tell(load, &results, report);
    }
    west.withdraw(PLAIN)?;
    west.withdraw(HTTP)
}

fn tell(load: Load, [direct, plain, http]: &[Vec<Round>; 3], report: &mut Report) {
    for (what, unit, of) in [
        ("HTTP requests", "1/s", Of::Rate),
        ("HTTP request p50", "us", Of::Percentile(50)),
        ("HTTP request p99", "us", Of::Percentile(99)),
    ] {
        let spread = |rounds: &[Round]| Spread::of(rounds.iter().map(|round| round.figure(of)));
        let what = format!("{what}, {} connection(s)", load.connections);
        report.add(format!("{what}, plain"), Figure::two(unit, spread(direct), spread(plain)));
        report.add(format!("{what}, as http"), Figure::two(unit, spread(direct), spread(http)));
        let ratio = plain.iter().zip(http).map(|(plain, http)| http.figure(of) / plain.figure(of));
        report.add(format!("{what}, as http / plain"), Figure::one("ratio", Spread::of(ratio)));
    }
}

async fn round(to: SocketAddr, load: Load) -> anyhow::Result<Round> {
    let mut clients = Vec::new();
    for _ in 0..load.connections {
        clients.push(Client::open(to).await?);
    }
    let warm = each(clients, load.warm_up).await?.into_iter().map(|(client, _)| client).collect();
    let started = Instant::now();
    let ended = each(warm, load.requests).await?;
    let took = started.elapsed().as_secs_f64();
    let mut times: Vec<_> = ended.into_iter().flat_map(|(_, times)| times).collect();
    times.sort_unstable();
    Ok(Round { per_second: times.len() as f64 / took, times })
}

/// So many requests of each client, all clients at a time.
async fn each(clients: Vec<Client>, requests: usize) -> anyhow::Result<Vec<(Client, Vec<Duration>)>> {
    let mut running = JoinSet::new();
    for mut client in clients {
        running.spawn(async move {
            let mut times = Vec::with_capacity(requests);
            for _ in 0..requests {
                let started = Instant::now();
                client.ask().await?;
                times.push(started.elapsed());
            }
            anyhow::Ok((client, times))
        });
    }
    running.join_all().await.into_iter().collect()
}

/// A kept-alive connection.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects and makes one request.
    async fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let connecting = tokio::time::timeout(ANSWER_LIMIT, TcpStream::connect(to));
        let stream = connecting.await.context("no connection")?.with_context(|| to.to_string())?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, buffer: Vec::with_capacity(LONGEST_ANSWER) };
        client.ask().await?;
        Ok(client)
    }

    async fn ask(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(b"GET /v1/items HTTP/1.1\r\nhost: web.bench\r\nuser-agent: bench\r\n\r\n").await?;
        tokio::time::timeout(ANSWER_LIMIT, self.answer()).await.context("no answer")?
    }

    async fn answer(&mut self) -> anyhow::Result<()> {
        self.buffer.clear();
        while !self.is_answered()? {
            ensure!(self.buffer.len() < LONGEST_ANSWER, "the answer is too long");
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection ended before the answer");
        }
        Ok(())
    }

    /// Whether the buffer holds an answer; nothing may follow it.
    fn is_answered(&self) -> anyhow::Result<bool> {
        let Some(end) = self.buffer.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(false) };
        let head = std::str::from_utf8(&self.buffer[..end])?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "the answer is {:?}", head.lines().next());
        let field = |line: &str| Some(line.split_once(':')?.1.trim().to_owned());
        let length = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-length:")).and_then(field);
        let length: usize = length.context("the answer has no length")?.parse()?;
        ensure!(self.buffer.len() <= end + 4 + length, "something follows the answer");
        Ok(self.buffer.len() == end + 4 + length)
    }
}
