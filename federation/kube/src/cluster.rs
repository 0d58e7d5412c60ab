//! The objects of a Kubernetes cluster, live from its API server.
//!
//! Owns one watch for each kind, in each watched namespace, and what they say together. The first objects are published when every
//! kind that exists was listed once, so that a gateway that starts does not take back what it exported before. When an API server is
//! away or refuses, what it said last stays in force. Never writes to it.
//!
//! ```text
//! API server ── watch ──> follow (lean objects, pauses) ──> store (lists, faults, last good) ──> watch<Arc<Manifests>>
//!                              one task each         └── standing ──> watch<Arc<Standings>>
//! ```

use std::{sync::Arc, time::Duration, time::SystemTime};

use federation_model::names::Namespace;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    connect::Cluster,
    manifests::{Manifests, Quarantined},
};

mod follow;
mod lean;
mod standing;
mod store;
mod watched;

use follow::{Told, Watch};
pub use standing::{Standing, Standings, WatchView};
use store::{Event, Store};
pub use watched::{WatchId, Watched};

/// How long it must be quiet before changes are published together.
const QUIET: Duration = Duration::from_millis(20);
/// How long changes may wait for quiet: the first call of a new pod must find out whose it is.
const PATIENCE: Duration = Duration::from_millis(100);
/// What the watches may tell ahead; a list of 50,000 pods must not be in memory a second time.
const TOLD_AHEAD: usize = 256;
/// The most lines one change writes to the log.
const MAX_LINES: usize = 20;

/// The objects of one cluster.
#[derive(Debug)]
pub struct ClusterSource {
    cluster: Cluster,
    hub: Hub,
}

impl ClusterSource {
    /// A source that has read nothing yet. It watches the whole cluster, or these namespaces alone. A policy that cannot be read and
    /// has no namespace counts as one of the namespace `root`, whose policies hold for all namespaces.
    #[must_use]
    pub fn new(cluster: Cluster, root: Namespace, namespaces: &[Namespace]) -> Self {
        let hub = Hub::new(root, namespaces);
        Self { cluster, hub }
    }

    /// The objects, and every change of them; nothing before [`Standings::published`].
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Manifests>> {
        self.hub.published.subscribe()
    }

    /// How it stands with the watches, as it changes.
    #[must_use]
    pub fn standings(&self) -> watch::Receiver<Arc<Standings>> {
        self.hub.told.subscribe()
    }

    /// Watches until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { cluster, mut hub } = self;
        let (sender, mut told) = mpsc::channel(TOLD_AHEAD);
        let mut watches = JoinSet::new();
        for id in hub.standings.watches.keys().cloned() {
            let watch = Watch { id, server: cluster.server().to_owned(), sender: sender.clone() };
            watches.spawn(watch.run(cluster.client()));
        }
        drop(sender);
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // A watch ends only by a panic, which ends the gateway.
                Some(Err(error)) = watches.join_next() => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return,
                },
                first = told.recv() => first,
            };
            let Some((id, what)) = first else { return };
            hub.handle(id, what);
            if hub.wants_to_publish() {
                hub.settle(&mut told).await;
                hub.publish();
            }
            hub.tell();
        }
    }
}

fn watches(namespaces: &[Namespace]) -> Vec<WatchId> {
    if namespaces.is_empty() {
        return Watched::ALL.map(|watched| WatchId { watched, namespace: None }).to_vec();
    }
    // Names of namespaces are a matter of the whole cluster; those that are watched are taken to exist.
    let kinds = Watched::ALL.into_iter().filter(|watched| watched.kind().is_some());
    let of = |watched| namespaces.iter().map(move |namespace| WatchId { watched, namespace: Some(namespace.clone()) });
    kinds.flat_map(of).collect()
}

/// What all watches say together.
#[derive(Debug)]
struct Hub {
    store: Store,
    standings: Standings,
    published: watch::Sender<Arc<Manifests>>,
    told: watch::Sender<Arc<Standings>>,
}

impl Hub {
    fn new(root: Namespace, namespaces: &[Namespace]) -> Self {
        let standings = Standings::of(watches(namespaces));
        Self {
            store: Store::new(root, namespaces.iter().cloned().collect()),
            told: watch::Sender::new(Arc::new(standings.clone())),
            standings,
            published: watch::Sender::default(),
        }
    }

    fn handle(&mut self, id: WatchId, what: Told) {
        let Some(view) = self.standings.watches.get_mut(&id) else { return };
        match what {
            Told::Event(event) => {
                match event {
                    Event::Complete | Event::Absent => view.complete = true,
                    Event::Restarted | Event::Listed(..) | Event::Applied(..) | Event::Deleted(_) => {}
                }
                match event {
                    Event::Complete | Event::Applied(..) | Event::Deleted(_) => view.newest = Some(SystemTime::now()),
                    Event::Restarted | Event::Listed(..) | Event::Absent => {}
                }
                self.store.handle_event(&id, event);
            }
            Told::Standing(standing) => {
                // There is nothing to wait for.
                view.complete |= matches!(standing, Standing::Missing { .. });
                if view.standing.label() != standing.label() {
                    log(&id, &view.standing, &standing);
                }
                view.standing = standing;
            }
        }
    }

    fn wants_to_publish(&self) -> bool {
        self.standings.are_complete() && (self.store.has_changed() || !self.standings.published)
    }

    /// Takes what else arrives until it is quiet.
    async fn settle(&mut self, told: &mut mpsc::Receiver<(WatchId, Told)>) {
        let patience = Instant::now() + PATIENCE;
        while let Ok(Some((id, what))) = timeout_at((Instant::now() + QUIET).min(patience), told.recv()).await {
            self.handle(id, what);
            if Instant::now() >= patience {
                return;
            }
        }
    }

    fn publish(&mut self) {
        let manifests = self.store.manifests();
        let before = self.published.send_replace(Arc::new(manifests));
        if !std::mem::replace(&mut self.standings.published, true) {
            let counts = Watched::ALL.map(|watched| format!("{} {}", self.store.count(watched), watched.resource()));
            tracing::info!(objects = counts.join(", "), "the cluster is read");
        }
        let published = self.published.borrow();
        let is_new = |entry: &&Quarantined| before.quarantined.binary_search(entry).is_err();
        let new: Vec<_> = published.quarantined.iter().filter(is_new).collect();
        for entry in new.iter().take(MAX_LINES) {
            tracing::warn!(%entry, "an object is quarantined");
        }
        if new.len() > MAX_LINES {
            tracing::warn!(more = new.len() - MAX_LINES, "more objects are quarantined: fedctl check shows them");
        }
    }

    /// Tells how it stands; only a change of state wakes who listens.
    fn tell(&self) {
        self.told.send_if_modified(|told| {
            let changed = told.published != self.standings.published || !told.states().eq(self.standings.states());
            if changed || told.is_behind(&self.standings) {
                *told = Arc::new(self.standings.clone());
            }
            changed
        });
    }
}

fn log(id: &WatchId, before: &Standing, after: &Standing) {
    match (before.trouble(), after.trouble()) {
        (_, Some(trouble)) => tracing::warn!(watch = %id, "{trouble}"),
        (Some(_), None) => tracing::info!(watch = %id, "the watch is {} again", after.label()),
        (None, None) => tracing::debug!(watch = %id, "the watch is {}", after.label()),
    }
}

#[cfg(test)]
mod tests;
