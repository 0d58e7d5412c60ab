//! What became of exports: where this cluster's have arrived, and what this one tells the others of theirs.
//!
//! Owns the task that looks at both, and when it looks. Never decides anything: the tables say what is imported here,
//! `federation_catalog::reach` what the reports of others mean. Nothing here is in the way of a connection.
//!
//! ```text
//! tables ──────────────────────> what the others are told of their exports ──> tunnels
//!   └── exports, members ──┐
//! tunnels: reports, RTT ───┴──> Reach ──> status of ServiceExports, metrics, fedctl services
//! ```

mod metrics;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use federation_catalog::reach::{self, Peer, Reach, Rtt};
use federation_kube::manifests::Manifests;
use federation_model::{
    names::ClusterName,
    report::{ImportReport, ImportReports, Reported},
};
use gateway_core::tables::Tables;
use gateway_tunnel::Tunnels;
use prometheus_client::registry::Registry;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// The least time between two looks: a status that is half a second late harms nobody. What changes after a quiet time is told
/// at once.
const LEAST_PAUSE: Duration = Duration::from_millis(500);
/// How often round trip times are looked at, which announce nothing.
const MEASURE: Duration = Duration::from_secs(10);

/// The task.
#[derive(Debug)]
pub struct Surveyor {
    tables: watch::Receiver<Arc<Tables>>,
    objects: watch::Receiver<Arc<Manifests>>,
    tunnels: Tunnels,
    reports: watch::Sender<Arc<ImportReports>>,
    reach: watch::Sender<Arc<Reach>>,
    /// The steps that were told last.
    distances: BTreeMap<ClusterName, Rtt>,
}

impl Surveyor {
    /// One that has seen nothing yet, with its metrics in `registry`; `reports` is what the tunnels follow.
    #[must_use]
    pub fn new(
        tables: watch::Receiver<Arc<Tables>>,
        objects: watch::Receiver<Arc<Manifests>>,
        tunnels: Tunnels,
        (reports, registry): (watch::Sender<Arc<ImportReports>>, &mut Registry),
    ) -> Self {
        let surveyor =
            Self { tables, objects, tunnels, reports, reach: watch::Sender::default(), distances: BTreeMap::new() };
        registry.register_collector(Box::new(metrics::Measured(surveyor.reach())));
        surveyor
    }

    /// Where the exports of this cluster have arrived, as it changes.
    #[must_use]
    pub fn reach(&self) -> watch::Receiver<Arc<Reach>> {
        self.reach.subscribe()
    }

    /// Looks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut reported = self.tunnels.reported();
        loop {
            let tables = self.tables.borrow_and_update().clone();
            let heard = reported.borrow_and_update().clone();
            // Before the first compile nothing is known, which is not the same as that nothing is there.
            if tables.generation() > 0 {
                self.tell(&tables);
                self.survey(&tables, &heard);
            }
            let looked = Instant::now();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep_until(looked + LEAST_PAUSE) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.tables.changed() => if changed.is_err() { return },
                changed = reported.changed() => if changed.is_err() { return },
                () = sleep_until(looked + MEASURE) => {}
            }
        }
    }

    /// Tells every other cluster what this one imports of its exports.
    fn tell(&self, tables: &Tables) {
        let namespaces = self.objects.borrow().namespaces.clone();
        // Hosts have no namespaces that could be missing.
        let made = tables.reports(|name| namespaces.as_ref().is_none_or(|there| there.contains(name)));
        self.reports.send_if_modified(|told| {
            let next = following(told, made, |cluster| tables.is_member(cluster));
            let changed = **told != next;
            if changed {
                *told = Arc::new(next);
            }
            changed
        });
    }

    fn survey(&mut self, tables: &Tables, heard: &BTreeMap<ClusterName, Reported>) {
        self.distances.retain(|cluster, _| tables.is_member(cluster));
        let mut peers = BTreeMap::new();
        for cluster in tables.members().keys() {
            let before = self.distances.get(cluster).copied();
            let tunnel = self.tunnels.rtt(cluster).map(|rtt| Rtt::of(rtt, before));
            if let Some(step) = tunnel {
                self.distances.insert(cluster.clone(), step);
            }
            peers.insert(cluster.clone(), Peer { tunnel, reported: heard.get(cluster).cloned() });
        }
        let reach = reach::of(tables.local_exports(), &peers);
        self.reach.send_if_modified(|known| {
            let changed = **known != reach;
            if changed {
                *known = Arc::new(reach);
            }
            changed
        });
    }
}

/// What the clusters are told after they were told `told`, where `made` is what is imported now. A cluster is told of nothing only
/// after it was told of something: at a start, and while a tunnel comes back, its catalog may not have arrived.
fn following(
    told: &ImportReports,
    mut made: BTreeMap<ClusterName, ImportReport>,
    is_member: impl Fn(&ClusterName) -> bool,
) -> ImportReports {
    for cluster in told.keys().filter(|cluster| is_member(cluster)) {
        made.entry(cluster.clone()).or_default();
    }
    let kept = |(cluster, report): (ClusterName, ImportReport)| {
        let same = told.get(&cluster).filter(|before| ***before == report).cloned();
        (cluster, same.unwrap_or_else(|| Arc::new(report)))
    };
    made.into_iter().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use federation_model::report::ImportState;

    use super::*;

    fn made(clusters: &[&str]) -> BTreeMap<ClusterName, ImportReport> {
        let report: ImportReport = [("shop/web".parse().unwrap(), ImportState::Ready)].into();
        clusters.iter().map(|name| (name.parse().unwrap(), report.clone())).collect()
    }

    #[test]
    fn a_cluster_is_told_of_nothing_only_after_it_was_told_of_something() {
        let told = following(&ImportReports::new(), made(&["north", "south", "west"]), |_| true);
        let next = following(&told, made(&["west"]), |cluster| cluster.as_str() != "south");
        let shown: Vec<_> = next.iter().map(|(cluster, report)| (cluster.as_str(), report.len())).collect();
        assert_eq!(shown, [("north", 0), ("west", 1)], "south has left");
        let west: ClusterName = "west".parse().unwrap();
        assert!(Arc::ptr_eq(&told[&west], &next[&west]), "what is the same is the same value");
    }
}
