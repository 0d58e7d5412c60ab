//! The live tunnels of every peer, and the choice among them.
//!
//! Owns the table. Never closes a tunnel by itself. No guard of the table outlives a call.

use std::sync::Arc;

use dashmap::DashMap;
use federation_model::{
    names::ClusterName,
    report::{self, Reported},
};

use crate::{config::MAX_TUNNELS_PER_PEER, dice::Dice, status::TunnelState, tunnel::Tunnel};

#[derive(Debug, Default)]
pub(crate) struct Registry(DashMap<ClusterName, Vec<Arc<Tunnel>>>);

impl Registry {
    /// Adds a tunnel, unless its peer has too many.
    pub(crate) fn insert(&self, tunnel: &Arc<Tunnel>) -> bool {
        let mut tunnels = self.0.entry(tunnel.peer.cluster.clone()).or_default();
        if tunnels.len() >= MAX_TUNNELS_PER_PEER {
            return false;
        }
        tunnels.push(Arc::clone(tunnel));
        true
    }

    pub(crate) fn remove(&self, tunnel: &Tunnel) {
        let peer = &tunnel.peer.cluster;
        if let Some(mut tunnels) = self.0.get_mut(peer) {
            tunnels.retain(|other| other.id != tunnel.id);
        }
        self.0.remove_if(peer, |_, tunnels| tunnels.is_empty());
    }

    /// The tunnels of one peer.
    pub(crate) fn of(&self, peer: &ClusterName) -> Vec<Arc<Tunnel>> {
        self.0.get(peer).map(|tunnels| tunnels.clone()).unwrap_or_default()
    }

    /// All tunnels.
    pub(crate) fn all(&self) -> Vec<Arc<Tunnel>> {
        self.0.iter().flat_map(|entry| entry.value().clone()).collect()
    }

    /// What the gateways of a peer say of their imports, as far as their tunnels take new streams; nothing while there is no
    /// such tunnel, or none of them has said anything yet: then their last word holds.
    pub(crate) fn reported(&self, peer: &ClusterName) -> Option<Reported> {
        let usable = self.of(peer).into_iter().filter(|tunnel| tunnel.usable());
        let facts: Vec<_> = usable.map(|tunnel| tunnel.facts.load_full()).collect();
        let able = facts.iter().any(|facts| facts.reports_imports);
        let reports: Vec<_> = facts.iter().filter_map(|facts| facts.report.clone()).collect();
        match (able, facts.is_empty()) {
            (true, _) => report::together(&reports).map(Reported::Said),
            (false, false) => Some(Reported::Unable),
            (false, true) => None,
        }
    }

    pub(crate) fn reachable(&self, peer: &ClusterName) -> bool {
        self.0.get(peer).is_some_and(|tunnels| tunnels.iter().any(|tunnel| tunnel.usable()))
    }

    /// A tunnel for one new stream: of two usable ones drawn at random, the one with fewer streams.
    pub(crate) fn choose(&self, peer: &ClusterName, dice: &Dice) -> Result<Arc<Tunnel>, NoTunnel> {
        let tunnels = self.0.get(peer).ok_or(NoTunnel::None)?;
        let usable: Vec<&Arc<Tunnel>> = tunnels.iter().filter(|tunnel| tunnel.usable()).collect();
        let chosen = match usable.as_slice() {
            [] if tunnels.iter().any(|tunnel| tunnel.state() == TunnelState::Draining) => {
                return Err(NoTunnel::Draining);
            }
            [] => return Err(NoTunnel::None),
            [only] => only,
            several => {
                let first = dice.under(several.len());
                let second = (first + 1 + dice.under(several.len() - 1)) % several.len();
                if several[first].outstanding() <= several[second].outstanding() {
                    several[first]
                } else {
                    several[second]
                }
            }
        };
        Ok(Arc::clone(chosen))
    }
}

/// Why no stream can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTunnel {
    /// No tunnel is up.
    None,
    /// All that are up are draining.
    Draining,
}
