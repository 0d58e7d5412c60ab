//! What a large cluster costs a gateway: 50,000 pods and 20,000 EndpointSlices, read from an API server over HTTP, and the
//! objects of 1,000 imports, written to one.
//!
//! Owns the measurement: memory by object, the time from an event to published objects, and what compiling a change costs;
//! `controllers` owns that of writing. The API server is another process, so that its memory is not counted. Never measures a
//! tunnel.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, ensure};
use federation_catalog::local::{self, Compiler};
use federation_kube::{
    cluster::ClusterSource,
    connect::{Access, Cluster, ConnectOptions},
    manifests::Manifests,
};
use federation_model::spiffe::TrustDomain;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    measure::resident_kibibytes,
    report::{self, Figure, Report},
    spread::Spread,
};

pub(crate) mod controllers;
pub(crate) mod objects;
mod planner;
pub(crate) mod server;
pub(crate) mod world;

use server::{ENDPOINTS, PODS, SLICES, Served};

/// How long reading a cluster may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Measures all of it.
pub(crate) async fn measure(rounds: u32, kubeconfig: Option<&Path>, report: &mut Report) -> anyhow::Result<()> {
    controllers::measure(rounds, kubeconfig, report).await?;
    source(rounds, report).await
}

/// What it costs to know the objects of a large cluster.
async fn source(rounds: u32, report: &mut Report) -> anyhow::Result<()> {
    let nothing = read(Served { pods: 0, slices: 0 }).await?;
    report::progress("reading 50,000 pods");
    let pods = read(Served { pods: PODS, slices: 0 }).await?;
    report::progress("reading 20,000 EndpointSlices");
    let slices = read(Served { pods: 0, slices: SLICES }).await?;
    let each = |cost: &Cost, count: usize| {
        let kibibytes = (cost.kibibytes - nothing.kibibytes).max(0.0);
        Spread::of([kibibytes * 1024.0 / u32::try_from(count).map_or(f64::NAN, f64::from)])
    };
    report.add("kubernetes: memory for each of 50,000 pods", Figure::one("B", each(&pods, PODS)));
    report.add("kubernetes: memory for each of 100,000 endpoints", Figure::one("B", each(&slices, SLICES * ENDPOINTS)));
    report.add("kubernetes: 50,000 pods of 6 KiB, read", Figure::one("s", Spread::of([pods.read.as_secs_f64()])));
    report.add("kubernetes: from the event of a new pod to objects", Figure::one("ms", pods.latency(rounds).await?));
    let (once, again) = compiled(pods, rounds).await?;
    report.add("kubernetes: compiling 50,000 pods at once", Figure::one("ms", once));
    report.add("kubernetes: compiling one more pod", Figure::one("ms", again));
    Ok(())
}

/// A kubeconfig in `directory` for the API server at `address`.
fn kubeconfig(directory: &Path, address: &str) -> anyhow::Result<PathBuf> {
    let file = directory.join("kubeconfig");
    std::fs::write(
        &file,
        format!(
            "current-context: bench\nclusters: [{{name: bench, cluster: {{server: \"http://{address}\"}}}}]\n\
             contexts: [{{name: bench, context: {{cluster: bench, user: bench}}}}]\nusers: [{{name: bench, user: {{}}}}]\n"
        ),
    )?;
    Ok(file)
}

/// A cluster that was read, and goes on.
struct Cost {
    kibibytes: f64,
    read: Duration,
    published: watch::Receiver<Arc<Manifests>>,
    _server: Child,
    _tasks: JoinSet<()>,
}

async fn read(served: Served) -> anyhow::Result<Cost> {
    let mut server = Command::new(std::env::current_exe()?)
        .arg("--serve-cluster")
        .arg(served.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("the API server of the measurement does not start")?;
    let output = server.stdout.take().context("the output of the API server is read")?;
    let address = BufReader::new(output).lines().next_line().await?.context("the API server tells its address")?;
    let dir = tempfile::tempdir()?;
    let kubeconfig = kubeconfig(dir.path(), &address)?;
    let options = ConnectOptions { access: Access::File(kubeconfig, None), user_agent: "bench/0".to_owned() };
    let before = resident_kibibytes(std::process::id())?;
    let start = Instant::now();
    let source = ClusterSource::new(Cluster::connect(&options).await?, "landbridge-system".parse()?, &[]);
    let (mut standings, published) = (source.standings(), source.subscribe());
    let mut tasks = JoinSet::new();
    tasks.spawn(source.run(CancellationToken::new()));
    timeout(LIMIT, standings.wait_for(|standings| standings.published)).await.context("the cluster was not read")??;
    let read = start.elapsed();
    let kibibytes = resident_kibibytes(std::process::id())? - before;
    let count = published.borrow().objects.pods.len();
    ensure!(count >= served.pods, "{count} pods of {} were read", served.pods);
    Ok(Cost { kibibytes, read, published, _server: server, _tasks: tasks })
}

impl Cost {
    /// From when a pod was written to the watch until it is among the published objects.
    async fn latency(&self, rounds: u32) -> anyhow::Result<Spread> {
        let mut published = self.published.clone();
        let mut times = Vec::new();
        while times.len() < rounds as usize {
            timeout(LIMIT, published.changed()).await.context("no new pod arrived")??;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
            let objects = published.borrow_and_update().objects.clone();
            // The server puts the time at which it tells of a pod in the place of its service account.
            let newest = objects.pods.values().filter_map(|pod| pod.service_account.parse::<u128>().ok()).max();
            if let Some(at) = newest {
                times.push(Duration::from_nanos(u64::try_from(now.saturating_sub(at))?).as_secs_f64() * 1e3);
            }
        }
        Ok(Spread::of(times))
    }
}

/// What compiling the objects at once costs, and with one pod more each time.
async fn compiled(mut cost: Cost, rounds: u32) -> anyhow::Result<(Spread, Spread)> {
    let trust_domain = TrustDomain::new("east.example")?;
    let mut compiler = Compiler::new(trust_domain.clone());
    compiler.update(&cost.published.borrow_and_update().objects.clone());
    let (mut once, mut again) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        timeout(LIMIT, cost.published.changed()).await.context("no new pod arrived")??;
        let objects = cost.published.borrow_and_update().objects.clone();
        // What the tables in force still hold.
        let held = compiler.state().clone();
        let start = Instant::now();
        compiler.update(&objects);
        again.push(start.elapsed().as_secs_f64() * 1e3);
        drop(held);
        let start = Instant::now();
        let whole = local::compile(&objects, &trust_domain);
        once.push(start.elapsed().as_secs_f64() * 1e3);
        ensure!(whole.pods.len() == compiler.state().pods.len(), "both say the same");
    }
    Ok((Spread::of(once), Spread::of(again)))
}
