//! What is known of each peer's exports, and whether it counts.
//!
//! Owns the lease rule: a peer's services count while its tunnel lives, and for the hold-down after that; they are kept
//! beyond it, so that a peer that comes back unchanged need not send them again. Never merges, never reads a clock.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use federation_model::{catalog::Catalog, names::ClusterName};

/// The catalogs of the peers. One entry for each member of the cluster set, and for each that left and has a tunnel yet.
#[derive(Debug, Clone)]
pub struct PeerCatalogs {
    hold_down: Duration,
    peers: BTreeMap<ClusterName, Peer>,
}

#[derive(Debug, Clone, Default)]
struct Peer {
    catalog: Option<Arc<Catalog>>,
    lease: Lease,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Lease {
    /// A tunnel lives.
    Held,
    /// No tunnel lives; the services count until then.
    Lost { until: Instant },
    /// No tunnel lives; the services do not count.
    #[default]
    Over,
}

impl Peer {
    fn is_visible(&self) -> bool {
        self.catalog.is_some()
            && match self.lease {
                Lease::Held | Lease::Lost { .. } => true,
                Lease::Over => false,
            }
    }
}

impl PeerCatalogs {
    /// Nothing known; services of a lost peer stay for `hold_down`.
    #[must_use]
    pub fn new(hold_down: Duration) -> Self {
        Self { hold_down, peers: BTreeMap::new() }
    }

    /// A peer said what it exports; whether that changes [`Self::visible`].
    pub fn handle_catalog(&mut self, catalog: Arc<Catalog>) -> bool {
        let peer = self.peers.entry(catalog.cluster.clone()).or_default();
        let changed = peer.catalog.as_ref() != Some(&catalog);
        peer.catalog = Some(catalog);
        changed && peer.is_visible()
    }

    /// A tunnel to a peer came up, or the last one was lost; whether that changes [`Self::visible`].
    pub fn handle_reachable(&mut self, cluster: &ClusterName, reachable: bool, now: Instant) -> bool {
        let hold_down = self.hold_down;
        let peer = self.peers.entry(cluster.clone()).or_default();
        let before = peer.is_visible();
        peer.lease = match (reachable, peer.lease) {
            (true, Lease::Held | Lease::Lost { .. } | Lease::Over) => Lease::Held,
            (false, Lease::Held) if hold_down.is_zero() => Lease::Over,
            (false, Lease::Held) => Lease::Lost { until: now + hold_down },
            // Hearing of the loss again does not lengthen the hold-down.
            (false, lost @ (Lease::Lost { .. } | Lease::Over)) => lost,
        };
        before != peer.is_visible()
    }

    /// The members changed: nothing is kept of those that left, once their tunnels are lost. What the tunnels tell may be
    /// behind the members, so a peer with a tunnel is no member because of it: the owner of both says who counts.
    pub fn handle_members(&mut self, is_member: impl Fn(&ClusterName) -> bool) {
        self.peers.retain(|cluster, peer| peer.lease == Lease::Held || is_member(cluster));
    }

    /// When [`Self::handle_timeout`] is to be called, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let ends = self.peers.values().filter_map(|peer| match peer.lease {
            Lease::Lost { until } => Some(until),
            Lease::Held | Lease::Over => None,
        });
        ends.min().map(|until| (until, "the hold-down of a lost peer ends"))
    }

    /// Time has passed; whether that changes [`Self::visible`].
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for peer in self.peers.values_mut() {
            if matches!(peer.lease, Lease::Lost { until } if until <= now) {
                changed |= peer.is_visible();
                peer.lease = Lease::Over;
            }
        }
        changed
    }

    /// The catalogs that count, in order of cluster.
    pub fn visible(&self) -> impl Iterator<Item = &Catalog> {
        self.peers.values().filter(|peer| peer.is_visible()).filter_map(|peer| peer.catalog.as_deref())
    }

    /// The last catalog of every peer, whether it counts or not, in order of cluster.
    pub fn known(&self) -> impl Iterator<Item = &Catalog> {
        self.peers.values().filter_map(|peer| peer.catalog.as_deref())
    }

    /// The last catalog of a peer, whether it counts or not: for a peer that comes back and may not have changed.
    #[must_use]
    pub fn held(&self, cluster: &ClusterName) -> Option<Arc<Catalog>> {
        self.peers.get(cluster)?.catalog.clone()
    }

    /// The clusters with a tunnel.
    pub fn reachable(&self) -> impl Iterator<Item = &ClusterName> {
        self.peers.iter().filter(|(_, peer)| peer.lease == Lease::Held).map(|(cluster, _)| cluster)
    }
}

#[cfg(test)]
mod tests;
