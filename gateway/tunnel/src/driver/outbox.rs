//! What the gateway is told, and what waits to be told.
//!
//! Owns the order of events. Events that wait replace each other, peer by peer, so that a slow gateway costs nothing and
//! sees the last state: two entries for each member at most.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use federation_model::{catalog::Catalog, names::ClusterName};
use tokio::sync::mpsc;

/// What changed about a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelEvent {
    /// Whether new streams can be opened towards the cluster.
    Reachable {
        /// The cluster.
        cluster: ClusterName,
        /// Whether.
        reachable: bool,
    },
    /// What the cluster exports.
    Catalog {
        /// The cluster.
        cluster: ClusterName,
        /// Its catalog.
        catalog: Arc<Catalog>,
    },
}

#[derive(Debug, Default)]
struct Waiting {
    reachable: Option<bool>,
    catalog: Option<Arc<Catalog>>,
}

#[derive(Debug)]
pub(super) struct Outbox {
    events: mpsc::Sender<TunnelEvent>,
    waiting: BTreeMap<ClusterName, Waiting>,
    /// Peers the gateway believes to be reachable, once it has heard everything.
    told: BTreeSet<ClusterName>,
}

impl Outbox {
    pub(super) fn new(events: mpsc::Sender<TunnelEvent>) -> Self {
        Self { events, waiting: BTreeMap::new(), told: BTreeSet::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn reachable(&mut self, peer: &ClusterName, reachable: bool) {
        let changed = if reachable { self.told.insert(peer.clone()) } else { self.told.remove(peer) };
        if changed {
            tracing::info!(%peer, reachable, "reachability of a peer changed");
            self.waiting.entry(peer.clone()).or_default().reachable = Some(reachable);
        }
    }

    /// A member left: nothing of it is reachable, and its catalog is of no interest.
    pub(super) fn unreachable(&mut self, peer: &ClusterName) {
        self.reachable(peer, false);
        if let Some(waiting) = self.waiting.get_mut(peer) {
            waiting.catalog = None;
        }
    }

    pub(super) fn catalog(&mut self, peer: ClusterName, catalog: Arc<Catalog>) {
        self.waiting.entry(peer).or_default().catalog = Some(catalog);
    }

    /// Sends the next event. Loses nothing when dropped half-way.
    pub(super) async fn send_one(&mut self) {
        let Ok(permit) = self.events.reserve().await else {
            // Nobody listens any more.
            self.waiting.clear();
            return;
        };
        let Some(mut entry) = self.waiting.first_entry() else { return };
        let cluster = entry.key().clone();
        let waiting = entry.get_mut();
        if let Some(reachable) = waiting.reachable.take() {
            permit.send(TunnelEvent::Reachable { cluster, reachable });
        } else if let Some(catalog) = waiting.catalog.take() {
            permit.send(TunnelEvent::Catalog { cluster, catalog });
        }
        if waiting.reachable.is_none() && waiting.catalog.is_none() {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn events_that_wait_replace_each_other_and_changes_that_cancel_out_end_in_the_last_state() {
        let (events, mut heard) = mpsc::channel(8);
        let mut outbox = Outbox::new(events);
        let (east, west) = (cluster("east"), cluster("west"));
        let catalog = Arc::new(Catalog::empty(west.clone()));
        outbox.reachable(&west, true);
        outbox.catalog(west.clone(), Arc::new(Catalog::empty(east.clone())));
        outbox.catalog(west.clone(), Arc::clone(&catalog));
        outbox.reachable(&east, false);
        outbox.reachable(&east, true);
        outbox.reachable(&east, false);
        while !outbox.is_empty() {
            outbox.send_one().await;
        }
        drop(outbox);
        let mut all = Vec::new();
        while let Some(event) = heard.recv().await {
            all.push(event);
        }
        assert_eq!(
            all,
            [
                TunnelEvent::Reachable { cluster: east, reachable: false },
                TunnelEvent::Reachable { cluster: west.clone(), reachable: true },
                TunnelEvent::Catalog { cluster: west, catalog },
            ]
        );
    }

    #[tokio::test]
    async fn a_gateway_that_listens_no_more_empties_the_outbox() {
        let (events, heard) = mpsc::channel(1);
        drop(heard);
        let mut outbox = Outbox::new(events);
        outbox.reachable(&cluster("west"), true);
        outbox.send_one().await;
        assert!(outbox.is_empty());
    }
}
