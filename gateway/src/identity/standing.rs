//! Where renewal and rotation stand, and what they depend on outside of this cluster.
//!
//! Owns what people are shown, and how the peers are seen from here. Never decides.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use federation_model::{lineage::Lineage, names::ClusterName, time::Timestamp};
use federation_pki::{
    rotation::{Blocker, PeerStanding, Phase},
    svid::Svid,
};
use gateway_tunnel::{PeerStatus, TunnelState, TunnelStatus, Tunnels};
use tokio::sync::watch;

use crate::{control::Members, membership::Current};

/// Where renewal and rotation stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How far a rotation is.
    pub phase: Phase,
    /// Who keeps it from going on.
    pub blockers: Vec<Blocker>,
    /// Who does not know the newest bundle yet, although nothing depends on it.
    pub behind: Vec<Blocker>,
    /// When the certificate is to be renewed; nothing where somebody else renews it.
    pub next_renewal: Option<Timestamp>,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// Why the last one did, or what is wrong with the source.
    pub fault: Option<String>,
    /// Whose clocks do not accept the next certificate yet, and for how long.
    pub clocks: Vec<(ClusterName, Duration)>,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            phase: Phase::Settled,
            blockers: Vec::new(),
            behind: Vec::new(),
            next_renewal: None,
            failures: 0,
            fault: None,
            clocks: Vec::new(),
        }
    }
}

/// What is outside: the peers, and what the federation service knows.
#[derive(Debug)]
pub struct Surroundings {
    /// The tunnels to the peers.
    pub tunnels: Tunnels,
    /// The other members.
    pub members: watch::Receiver<Members>,
    /// The membership, with this cluster as the federation service tells of it.
    pub membership: watch::Receiver<Current>,
    /// Whether other clusters can dial this one.
    pub own_advertises: bool,
}

impl Surroundings {
    /// Whether the federation service has the newest version; true where there is none.
    pub(super) fn told(&self, lineage: &Lineage) -> bool {
        let current = self.membership.borrow();
        let Some(membership) = current.as_ref() else { return true };
        let own = membership.members.get(&membership.own).and_then(|own| own.lineage.newest());
        own.map(|version| version.digest()) == lineage.newest().map(|version| version.digest())
    }

    /// The members a tunnel can exist with, as they are seen from here.
    pub(super) fn peers(&self, lineage: &Lineage, in_use: &Svid) -> BTreeMap<ClusterName, PeerStanding> {
        let members = Arc::clone(&self.members.borrow());
        let dialable = |status: &PeerStatus| {
            self.own_advertises || members.get(&status.cluster).is_some_and(|member| !member.advertise.is_empty())
        };
        let status = self.tunnels.status();
        let peers = status.into_iter().filter(|status| dialable(status));
        peers.map(|status| (status.cluster.clone(), standing_of(&status.tunnels, lineage, in_use))).collect()
    }
}

fn standing_of(tunnels: &[TunnelStatus], lineage: &Lineage, in_use: &Svid) -> PeerStanding {
    let alive = tunnels.iter().filter(|tunnel| !matches!(tunnel.state, TunnelState::Connecting | TunnelState::Closed));
    let mut standing = PeerStanding { judges_by_newest: true, believes: Some(u64::MAX), ..PeerStanding::default() };
    for tunnel in alive {
        standing.connected = true;
        let believes = tunnel.believed.and_then(|held| {
            let version = lineage.versions().iter().find(|version| version.digest() == held.digest)?;
            Some(version.bundle.sequence)
        });
        standing.believes = standing.believes.zip(believes).map(|(one, other)| one.min(other));
        let judged = tunnel.judged.as_ref().filter(|judged| judged.fingerprint == in_use.fingerprint());
        standing.judges_by_newest &= judged.is_some_and(|judged| judged.refusal.is_none());
        if let Some(refusal) = judged.and_then(|judged| judged.refusal.clone()) {
            standing.refusal = Some(refusal);
        }
        standing.skew_millis = standing.skew_millis.min(tunnel.skew_millis.unwrap_or_default());
    }
    if !standing.connected {
        standing.believes = None;
    }
    standing
}
