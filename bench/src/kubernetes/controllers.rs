//! What the controllers of a gateway cost in a large cluster set: plans, memory, and writes over HTTP.
//!
//! Owns the order of what happens to the set. One set is measured in a process of its own, so that memory is counted from nothing,
//! and so is the API server. Never opens a tunnel: what the tables would ask for is asked for.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use federation_kube::{
    connect::{Access, Cluster, ConnectOptions},
    controllers::{Asked, Controllers, Settings, metrics::Metrics},
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    objects::{SYSTEM, beforehand},
    planner,
    world::{Event, Size, World},
};
use crate::{
    measure::resident_kibibytes,
    process,
    report::{self, Figure, Report},
    spread::Spread,
};

/// What is measured: each service in three clusters, and in all of them.
const SIZES: [Size; 2] =
    [Size { services: 1000, clusters: 100, exporters: 3 }, Size { services: 1000, clusters: 100, exporters: 100 }];
/// How long nothing may be written before all is: longer than the controllers wait for the echo of a write.
const STILL: Duration = Duration::from_secs(4);
/// How often it is looked.
const POLL: Duration = Duration::from_millis(5);
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(900);
/// How often the set is brought about from nothing.
const MOST_ROUNDS: u32 = 3;

/// Measures every size, each in a process of its own.
pub(crate) async fn measure(rounds: u32, kubeconfig: Option<&Path>, report: &mut Report) -> anyhow::Result<()> {
    for size in SIZES {
        report::progress(&format!(
            "controllers: {} services, each in {} of {} clusters",
            size.services, size.exporters, size.clusters
        ));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--measure-controllers").arg(size.to_string()).arg("--rounds").arg(rounds.to_string());
        if let Some(file) = kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        let output = command.stderr(Stdio::inherit()).kill_on_drop(true).output().await?;
        ensure!(output.status.success(), "measuring the controllers failed");
        let figures: Vec<(String, String, Vec<f64>)> = serde_json::from_slice(&output.stdout)?;
        for (what, unit, values) in figures {
            let unit = UNITS.into_iter().find(|known| *known == unit).context("a figure has a unit")?;
            report.add(
                format!("controllers, {} x {}: {what}", size.services, size.exporters),
                Figure::one(unit, Spread::of(values)),
            );
        }
    }
    Ok(())
}

const UNITS: [&str; 4] = ["ms", "s", "MiB", "writes"];

/// Each by name and unit.
type Figures = Vec<(String, &'static str, Vec<f64>)>;

/// The figures of one size, as JSON.
pub(crate) async fn of_size(size: Size, rounds: u32, kubeconfig: Option<&Path>) -> anyhow::Result<Value> {
    let mut figures = Figures::new();
    over_http(size, rounds.min(MOST_ROUNDS), kubeconfig, &mut figures).await?;
    let costs = planner::measure(size, rounds)?;
    for (what, times) in [
        ("merging all catalogs", costs.merge),
        ("plan from nothing", costs.from_nothing),
        ("plan of one new service", costs.one_change),
        ("plan of a lost cluster", costs.a_cluster_less),
        ("plan without a change", costs.at_rest),
    ] {
        figures.push((what.to_owned(), "ms", times));
    }
    Ok(json!(figures))
}

/// The objects that have to be there, for every size.
pub(crate) fn objects() -> anyhow::Result<Value> {
    let [_, largest] = SIZES;
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": beforehand(largest)?}))
}

/// Brings the set about from nothing, changes it in every way, and ends it again.
async fn over_http(size: Size, rounds: u32, kubeconfig: Option<&Path>, figures: &mut Figures) -> anyhow::Result<()> {
    let mut world = World::new(size)?;
    let asked = Arc::new(world.asked());
    let (mut seconds, mut writes, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let server = Server::start(size, kubeconfig).await?;
        let before = resident_kibibytes(std::process::id())?;
        let mut running = Running::start(&server, &world).await?;
        let done = running.until_still(&asked).await?;
        seconds.push(done.after.as_secs_f64());
        writes.push(done.writes);
        if round == 1 {
            let kibibytes = resident_kibibytes(std::process::id())? - before;
            figures.push(("memory of the controllers, all written".to_owned(), "MiB", vec![kibibytes / 1024.0]));
        }
        if round == rounds {
            let again = Running::restart(running, &server, &world).await?;
            running = again;
            let done = running.until_still(&asked).await?;
            figures.push(("writes of the next leader".to_owned(), "writes", vec![done.writes]));
            figures.push(("plan of it, reading included".to_owned(), "ms", vec![running.plan_millis()?]));
            for event in Event::ALL {
                event.happen(&mut world)?;
                let done = running.until_still(&Arc::new(world.asked())).await?;
                figures.push((format!("writes when {}", event.label()), "writes", vec![done.writes]));
            }
        }
        let done = running.until_still(&Arc::new(Asked::default())).await?;
        gone.push(done.after.as_secs_f64());
        running.stop().await?;
    }
    figures.push(("from nothing until all is written".to_owned(), "s", seconds));
    figures.push(("writes from nothing".to_owned(), "writes", writes));
    figures.push(("until all is deleted again".to_owned(), "s", gone));
    Ok(())
}

/// The API server: that of a kubeconfig, or one of our own.
struct Server {
    kubeconfig: PathBuf,
    _files: tempfile::TempDir,
    _process: Option<Child>,
}

impl Server {
    async fn start(size: Size, kubeconfig: Option<&Path>) -> anyhow::Result<Self> {
        let files = tempfile::tempdir()?;
        if let Some(file) = kubeconfig {
            return Ok(Self { kubeconfig: file.to_owned(), _files: files, _process: None });
        }
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--serve-objects")
            .arg(size.to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the API server of the measurement does not start")?;
        let output = process.stdout.take().context("the output of the API server is read")?;
        let address = BufReader::new(output).lines().next_line().await?.context("the API server tells its address")?;
        let kubeconfig = super::kubeconfig(files.path(), &address)?;
        Ok(Self { kubeconfig, _files: files, _process: Some(process) })
    }
}

/// Controllers that lead.
struct Running {
    registry: Registry,
    asked: watch::Sender<Option<Arc<Asked>>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What was written, and how long that took.
struct Written {
    writes: f64,
    after: Duration,
}

impl Running {
    async fn start(server: &Server, world: &World) -> anyhow::Result<Self> {
        let access = Access::File(server.kubeconfig.clone(), None);
        let options = ConnectOptions { access, user_agent: "bench/0".to_owned() };
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let settings = Settings {
            cluster: world.own().clone(),
            namespace: SYSTEM.parse()?,
            namespaces: Vec::new(),
            pod: "landbridge-gateway-0".to_owned(),
            import_ports: planner::PORTS.parse()?,
            reserved: [].into(),
        };
        let asked = watch::Sender::new(None);
        let controllers = Controllers::new(Cluster::connect(&options).await?, settings, asked.subscribe(), metrics);
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (nowhere, reach) = watch::channel(Arc::default());
        let run = controllers.run(reach, stop.clone());
        tasks.spawn(async move {
            run.await;
            drop(nowhere);
        });
        Ok(Self { registry, asked, stop, tasks })
    }

    /// Ends, and gives the Lease back.
    async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        timeout(LIMIT, async { while self.tasks.join_next().await.is_some() {} }).await.context("the controllers end")
    }

    async fn restart(before: Self, server: &Server, world: &World) -> anyhow::Result<Self> {
        before.stop().await?;
        Self::start(server, world).await
    }

    /// Asks, and waits until nothing has been written for a while.
    async fn until_still(&self, asked: &Arc<Asked>) -> anyhow::Result<Written> {
        let (start, before) = (Instant::now(), self.count("controllers_writes_total", "result=\"ok\"")?);
        self.asked.send_replace(Some(asked.clone()));
        let planned = async || self.count("controllers_plan_seconds", "").is_ok_and(|seconds| seconds > 0.0);
        process::until("the controllers plan", LIMIT, planned).await?;
        let (mut now, mut last, mut quiet_since) = (before, start, Instant::now());
        while quiet_since.elapsed() < STILL {
            ensure!(start.elapsed() < LIMIT, "the controllers never cease to write");
            sleep(POLL).await;
            let written = self.count("controllers_writes_total", "result=\"ok\"")?;
            if written > now {
                (now, last, quiet_since) = (written, Instant::now(), Instant::now());
            }
        }
        ensure!(self.count("controllers_writes_total", "result=\"failed\"")? == 0.0, "a write failed");
        Ok(Written { writes: now - before, after: last - start })
    }

    fn plan_millis(&self) -> anyhow::Result<f64> {
        Ok(self.count("controllers_plan_seconds", "")? * 1e3)
    }

    /// The sum of a metric, of those with `label`.
    fn count(&self, metric: &str, label: &str) -> anyhow::Result<f64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        let of_metric = text.lines().filter(|line| line.starts_with(metric) && line.contains(label));
        Ok(of_metric.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}
