//! The measurements: what is done, in which order, and which figure comes out.
//!
//! Owns the alternation: direct and through the gateways by turns, so that a slow minute of the machine meets both.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::task::JoinSet;

use crate::{
    backend::{Backend, PORT},
    fleet::{Fleet, LIMIT},
    load, process,
    report::{self, Figure, Report},
    spread::{Spread, percentile_micros},
};

/// The service that is called through the gateways.
const SERVICE: &str = "backend";
/// A new request starts this often while a failover is awaited.
const REQUEST_EVERY: Duration = Duration::from_millis(20);
/// Connections of the parallel bulk transfer.
const PARALLEL: usize = 8;

/// Two ways to one backend.
#[derive(Debug, Clone, Copy)]
struct Ways {
    direct: SocketAddr,
    through: SocketAddr,
}

/// Resident memory of every program, before any traffic.
pub(crate) fn memory(fleet: &Fleet, report: &mut Report) -> anyhow::Result<()> {
    for (name, id) in fleet.processes() {
        let mebibytes = resident_kibibytes(id)? / 1024.0;
        let what = if name == "federation" { "federation service".to_owned() } else { format!("gateway of {name}") };
        report.add(format!("resident memory, idle, {what}"), Figure::one("MiB", Spread::of([mebibytes])));
    }
    Ok(())
}

/// Everything that has a direct counterpart.
pub(crate) async fn compare(
    fleet: &mut Fleet,
    rounds: u32,
    bulk_millis: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let backend = Backend::start(b'w').await?;
    fleet.gateway("west")?.export(SERVICE, backend.address(), 0)?;
    let address = fleet.gateway("east")?.wait_for(SERVICE).await?;
    let ways = Ways { direct: backend.address(), through: (address, PORT).into() };
    process::until("east reaches the backend in west", LIMIT, || async { load::name(ways.through).await.is_ok() })
        .await?;

    report::progress("small exchanges on one connection");
    let (direct, through) = by_turns(ways, rounds, load::exchanges).await?;
    for percent in [50, 99] {
        let at = |rounds: &[Vec<Duration>]| Spread::of(rounds.iter().map(|times| percentile_micros(times, percent)));
        report.add(format!("round trip of 64 bytes, p{percent}"), Figure::two("us", at(&direct), at(&through)));
    }
    report::progress("new connections");
    let (direct, through) = by_turns(ways, rounds, load::connections).await?;
    let median = |rounds: &[Vec<Duration>]| Spread::of(rounds.iter().map(|times| percentile_micros(times, 50)));
    report.add("new connection and its first answer, p50", Figure::two("us", median(&direct), median(&through)));

    bulk(ways, rounds, Duration::from_millis(bulk_millis), report).await
}

async fn bulk(ways: Ways, rounds: u32, lasting: Duration, report: &mut Report) -> anyhow::Result<()> {
    let gigabits = |rounds: &[f64]| Spread::of(rounds.iter().map(|bytes| bytes * 8.0 / 1e9));
    report::progress("bulk, one connection, east to west");
    let (direct, through) = by_turns(ways, rounds, |to| load::upload(to, lasting)).await?;
    report.add("bulk east to west, 1 connection", Figure::two("Gbit/s", gigabits(&direct), gigabits(&through)));
    report::progress("bulk, one connection, west to east");
    let (direct, through) = by_turns(ways, rounds, |to| load::download(to, lasting)).await?;
    report.add("bulk west to east, 1 connection", Figure::two("Gbit/s", gigabits(&direct), gigabits(&through)));
    report::progress("bulk, several connections, east to west");
    let (direct, through) = by_turns(ways, rounds, |to| upload_in_parallel(to, lasting)).await?;
    let what = format!("bulk east to west, {PARALLEL} connections");
    report.add(what, Figure::two("Gbit/s", gigabits(&direct), gigabits(&through)));
    Ok(())
}

async fn upload_in_parallel(to: SocketAddr, lasting: Duration) -> anyhow::Result<f64> {
    let mut uploads = JoinSet::new();
    for _ in 0..PARALLEL {
        uploads.spawn(load::upload(to, lasting));
    }
    uploads.join_all().await.into_iter().sum()
}

/// The results of every round, direct ones and those through the gateways; who goes first changes from round to round.
async fn by_turns<T, F>(
    ways: Ways,
    rounds: u32,
    mut round: impl FnMut(SocketAddr) -> F,
) -> anyhow::Result<(Vec<T>, Vec<T>)>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for number in 0..rounds {
        if number.is_multiple_of(2) {
            direct.push(round(ways.direct).await.context("directly")?);
            through.push(round(ways.through).await.context("through the gateways")?);
        } else {
            through.push(round(ways.through).await.context("through the gateways")?);
            direct.push(round(ways.direct).await.context("directly")?);
        }
    }
    Ok((direct, through))
}

/// From a changed manifest in west to a changed DNS answer in east, for names that come and names that go.
pub(crate) async fn propagation(fleet: &Fleet, rounds: u32, report: &mut Report) -> anyhow::Result<()> {
    let (east, west) = (fleet.gateway("east")?, fleet.gateway("west")?);
    let backend = Backend::start(b'w').await?;
    let (mut come, mut gone) = (Vec::new(), Vec::new());
    for number in 0..rounds {
        let service = format!("changing-{number}");
        let started = Instant::now();
        west.export(&service, backend.address(), 0)?;
        east.wait_for(&service).await?;
        come.push(started.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        west.withdraw(&service)?;
        let vanished = || async { east.resolve(&service).await.is_none() };
        process::until("the service is gone", LIMIT, vanished).await?;
        gone.push(started.elapsed().as_secs_f64() * 1e3);
    }
    report.add("new manifest in west until its name is answered in east", Figure::one("ms", Spread::of(come)));
    report.add("removed manifest until its name is gone", Figure::one("ms", Spread::of(gone)));
    Ok(())
}

/// From the kill of west's gateway to the first request that north answers.
pub(crate) async fn failover(fleet: &mut Fleet, rounds: u32, report: &mut Report) -> anyhow::Result<()> {
    const FAILING: &str = "failing";
    let (in_west, in_north) = (Backend::start(b'w').await?, Backend::start(b'n').await?);
    fleet.gateway("west")?.export(FAILING, in_west.address(), 0)?;
    fleet.gateway("north")?.export(FAILING, in_north.address(), 1)?;
    let to = SocketAddr::new(fleet.gateway("east")?.wait_for(FAILING).await?, PORT);
    // North must be known as well, or there is nowhere to go.
    fleet.gateway("north")?.wait_for(FAILING).await?;
    let mut times = Vec::new();
    let mut lost = 0;
    for _ in 0..rounds {
        let preferred = || async { load::name(to).await.is_ok_and(|name| name == b'w') };
        process::until("west answers", LIMIT, preferred).await?;
        let started = Instant::now();
        fleet.kill("west").await?;
        let failed = first_answer_of(to, b'n').await?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        lost += failed;
        fleet.restart("west").await?;
    }
    report.add("killed gateway until the first request is answered elsewhere", Figure::one("ms", Spread::of(times)));
    report.note(format!("requests that failed while west was being given up, all rounds: {lost}"));
    Ok(())
}

/// Starts requests steadily until one is answered by `wanted`; how many failed until then.
async fn first_answer_of(to: SocketAddr, wanted: u8) -> anyhow::Result<u32> {
    let mut requests = JoinSet::new();
    let mut every = tokio::time::interval(REQUEST_EVERY);
    let deadline = Instant::now() + LIMIT;
    let mut failed = 0;
    loop {
        tokio::select! {
            Some(answer) = requests.join_next() => match answer? {
                Ok(name) if name == wanted => return Ok(failed),
                // The old cluster's last answers were on their way already.
                Ok(_) => {}
                Err(_) => failed += 1,
            },
            _ = every.tick() => {
                requests.spawn(load::name(to));
            }
        }
        if Instant::now() > deadline {
            bail!("no request was answered by the other cluster within {LIMIT:?}; {failed} failed");
        }
    }
}

/// Resident memory of a process.
pub(crate) fn resident_kibibytes(id: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the process has ended")?;
    let number = line.split_whitespace().next().context("VmRSS has a number")?;
    Ok(number.parse()?)
}
