//! The controllers of a gateway in a Kubernetes cluster: ServiceImports, derived Services and their EndpointSlices, and the
//! statuses of exports and imports.
//!
//! Owns when to compare and to write, on the one gateway that leads. Never decides what the objects say: that is
//! `federation_catalog::desired`. Nothing of the data path waits for it.
//!
//! ```text
//! leader ── leading? ──┐
//! tables ── Asked ─────┼── plan ──> write ──> API server
//! watches ── Present ──┘     └──> findings
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use federation_catalog::{
    conditions::{Condition, of_reach},
    desired::{Plan, Planner, PortRange, Wanted},
    reach::Reach,
};
use federation_model::{
    addr::Port,
    finding::Finding,
    import::Imports,
    names::{ClusterName, Namespace, ServiceKey},
    time::Timestamp,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    connect::Cluster,
    leader::{Candidate, Leading},
};

mod documents;
mod known;
pub mod metrics;
pub(crate) mod read;
mod watches;
mod write;

use metrics::Metrics;
use watches::{LOOK_AGAIN, Watches};
use write::Writer;

/// The Lease of the gateways of a cluster.
pub const LEASE: &str = "landbridge-gateway";
/// How long changes are collected before they are compared.
const QUIET: Duration = Duration::from_millis(100);
/// How much longer than it took to compare them last, so that comparing takes a tenth of a processor at most.
const PER_PLAN: u32 = 9;
/// The longest that is waited for that.
const LONGEST_QUIET: Duration = Duration::from_secs(5);

/// Where and for whom the controllers work.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of this cluster.
    pub cluster: ClusterName,
    /// The namespace of the gateway: derived Services and the Lease are there.
    pub namespace: Namespace,
    /// The namespaces it is for; the whole cluster when empty.
    pub namespaces: Vec<Namespace>,
    /// The name of this gateway's pod.
    pub pod: String,
    /// The ports that are allocated for imports.
    pub import_ports: PortRange,
    /// Ports of that range that the gateway listens on for something else.
    pub reserved: BTreeSet<Port>,
}

/// What the tables of this gateway ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The cluster set this cluster is a member of.
    pub cluster_set: Option<String>,
    /// What the last known catalogs of all members make together.
    pub imports: Arc<Imports>,
    /// The other clusters whose exports count now.
    pub reachable: BTreeSet<ClusterName>,
    /// The members that have not said yet what they export.
    pub unheard: BTreeSet<ClusterName>,
    /// The conditions of the exports of this cluster.
    pub exports: BTreeMap<ServiceKey, Vec<Condition>>,
}

/// The controllers of one gateway.
#[derive(Debug)]
pub struct Controllers {
    cluster: Cluster,
    settings: Settings,
    asked: watch::Receiver<Option<Arc<Asked>>>,
    candidate: Candidate,
    findings: watch::Sender<Arc<Vec<Finding>>>,
    metrics: Metrics,
}

impl Controllers {
    /// Controllers that make what is asked for. They write nothing before anything is.
    #[must_use]
    pub fn new(
        cluster: Cluster,
        settings: Settings,
        asked: watch::Receiver<Option<Arc<Asked>>>,
        metrics: Metrics,
    ) -> Self {
        let candidate = Candidate::new(&cluster, settings.namespace.as_str(), LEASE, &settings.pod);
        Self { cluster, settings, asked, candidate, findings: watch::Sender::default(), metrics }
    }

    /// What does not come to be, as it changes; nothing on a gateway that does not lead.
    #[must_use]
    pub fn findings(&self) -> watch::Receiver<Arc<Vec<Finding>>> {
        self.findings.subscribe()
    }

    /// Whether this gateway leads, as it changes.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<Leading> {
        self.candidate.leading()
    }

    /// Stands for leader, and works while it is, until `stop`.
    pub async fn run(self, reach: watch::Receiver<Arc<Reach>>, stop: CancellationToken) {
        let Self { cluster, settings, asked, candidate, findings, metrics } = self;
        let leading = candidate.leading();
        let work = Work { cluster, settings, asked, reach, findings, metrics };
        tokio::join!(candidate.run(stop.clone()), work.run(leading, stop));
    }
}

/// What a gateway does while it leads.
struct Work {
    cluster: Cluster,
    settings: Settings,
    asked: watch::Receiver<Option<Arc<Asked>>>,
    reach: watch::Receiver<Arc<Reach>>,
    findings: watch::Sender<Arc<Vec<Finding>>>,
    metrics: Metrics,
}

impl Work {
    async fn run(self, mut leading: watch::Receiver<Leading>, stop: CancellationToken) {
        loop {
            let lead = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                lead = leading.wait_for(|leading| leading.0) => lead.is_ok(),
            };
            if !lead {
                return;
            }
            self.metrics.leads(true);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // Dropped in the middle of a write at worst: the next leader compares everything anew.
                _ = leading.wait_for(|leading| !leading.0) => {}
                () = self.lead() => {}
            }
            self.metrics.leads(false);
            self.findings.send_replace(Arc::default());
        }
    }

    /// Watches and writes, and begins anew when the kinds of the API come or go.
    async fn lead(&self) {
        let mut asked = Wishes::new(self.asked.clone(), self.reach.clone());
        let mut said = None;
        let mut planner = Planner::new(self.settings.import_ports, self.settings.reserved.clone());
        loop {
            match Watches::start(&self.cluster, &self.settings).await {
                Ok(watches) => {
                    let error = self.follow(watches, &mut asked, &mut planner).await;
                    tracing::debug!(reason = %error, "watching anew");
                }
                Err(error) => {
                    if said.as_ref() != Some(&error) {
                        tracing::warn!(%error, "cannot ask the API server what it serves; trying again");
                    }
                    said = Some(error);
                    sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    async fn follow(&self, mut watches: Watches, wishes: &mut Wishes, planner: &mut Planner) -> String {
        let mut writer = Writer::new(&self.cluster, self.settings.namespace.as_str(), self.metrics.clone());
        if watches.served().services.is_none() {
            tracing::warn!(
                "no ServiceExport and ServiceImport are served (multicluster.x-k8s.io): install the definitions; \
                 imports work by name and address meanwhile, without objects"
            );
        }
        loop {
            let mut took = Duration::ZERO;
            if let Some(wanted) = wishes.now().filter(|_| watches.is_complete()) {
                let began = Instant::now();
                let Plan { changes, mut findings } = self.plan(wanted, &watches, planner);
                took = began.elapsed();
                self.metrics.planned(took.as_secs_f64());
                let served = watches.served().clone();
                writer.write(changes, &served).await;
                findings.extend(writer.findings());
                self.publish(findings);
            }
            tokio::select! {
                () = wishes.changed() => {}
                told = watches.next() => if let Err(gone) = told { return gone.to_string() },
                () = until(writer.due_at()) => {}
                () = sleep(LOOK_AGAIN), if watches.served().services.is_none() => return "no definitions yet".to_owned(),
            }
            let quiet = took.saturating_mul(PER_PLAN).clamp(QUIET, LONGEST_QUIET);
            if let Err(gone) = settle(&mut watches, quiet).await {
                return gone;
            }
        }
    }

    fn plan(&self, asked: &Asked, watches: &Watches, planner: &mut Planner) -> Plan {
        let wanted = Wanted {
            cluster: &self.settings.cluster,
            cluster_set: asked.cluster_set.as_deref(),
            imports: &asked.imports,
            reachable: &asked.reachable,
            unheard: &asked.unheard,
            exports: &asked.exports,
        };
        let mut plan = planner.plan(&wanted, watches.present(), Timestamp::from(SystemTime::now()));
        if watches.served().services.is_none() {
            plan.changes.retain(|change| !change.is_of_the_api());
        }
        plan
    }

    fn publish(&self, findings: Vec<Finding>) {
        self.metrics.found(findings.len());
        self.findings.send_if_modified(|current| {
            let changed = **current != findings;
            if changed {
                *current = Arc::new(findings);
            }
            changed
        });
    }
}

/// What is asked for, and where the exports have arrived.
struct Wishes {
    asked: watch::Receiver<Option<Arc<Asked>>>,
    reach: watch::Receiver<Arc<Reach>>,
    /// Both together, as they were when they were read last.
    read: Option<Asked>,
}

impl Wishes {
    fn new(asked: watch::Receiver<Option<Arc<Asked>>>, reach: watch::Receiver<Arc<Reach>>) -> Self {
        Self { asked, reach, read: None }
    }

    /// Nothing before anything is asked for.
    fn now(&mut self) -> Option<&Asked> {
        // Without its sender a value stays what it is.
        let unseen = self.asked.has_changed().unwrap_or(false) || self.reach.has_changed().unwrap_or(false);
        if unseen || self.read.is_none() {
            let mut asked = Asked::clone(self.asked.borrow_and_update().as_deref()?);
            let reach = self.reach.borrow_and_update();
            for (key, conditions) in &mut asked.exports {
                if let Some(reach) = reach.get(key) {
                    conditions.extend(of_reach(reach));
                }
            }
            self.read = Some(asked);
        }
        self.read.as_ref()
    }

    /// Never returns once the gateway shuts down and nothing can change any more.
    async fn changed(&mut self) {
        let changed = tokio::select! {
            changed = self.asked.changed() => changed,
            changed = self.reach.changed() => changed,
        };
        // It counts as seen from now on.
        self.read = None;
        if changed.is_err() {
            std::future::pending().await
        }
    }
}

/// Takes in what follows a first change within a short time, so that a burst is compared once.
async fn settle(watches: &mut Watches, quiet: Duration) -> Result<(), String> {
    let until = Instant::now() + quiet;
    loop {
        tokio::select! {
            biased;
            () = sleep_until(until) => return Ok(()),
            told = watches.next() => told.map_err(|gone| gone.to_string())?,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_is_read_after_it_was_told_to_have_changed() {
        let (asking, asked) = watch::channel(None);
        let (_reach, reach) = watch::channel(Arc::default());
        let mut wishes = Wishes::new(asked, reach);
        assert_eq!(wishes.now(), None);
        asking.send_replace(Some(Arc::new(Asked::default())));
        wishes.changed().await;
        assert_eq!(wishes.now(), Some(&Asked::default()));
        let member = Asked { cluster_set: Some("set.example".to_owned()), ..Asked::default() };
        asking.send_replace(Some(Arc::new(member.clone())));
        wishes.changed().await;
        assert_eq!(wishes.now(), Some(&member));
    }
}
