//! What the handle, the driver and the tasks of the tunnels all see.
//!
//! Owns no behaviour but waking those who watch.

use std::{collections::BTreeMap, sync::Arc};

use dashmap::DashMap;
use federation_model::{addr::GatewayAddr, names::ClusterName, report::Reported};
use gateway_core::{dial::TargetState, session::CloseReason};
use quinn::{Endpoint, VarInt};
use tokio::sync::watch;

use crate::{
    closing::Close, config::TunnelConfig, dice::Dice, identify::Members, metrics::Metrics, registry::Registry,
};

/// How far the tunnels are on their way to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// No new streams, dials or handshakes; why.
    Draining(Arc<str>),
    /// Everything is closed; why.
    Closed(Arc<str>),
}

/// What the driver shows of one peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerView {
    pub(crate) targets: Vec<(GatewayAddr, TargetState)>,
    pub(crate) last_error: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: TunnelConfig,
    pub(crate) endpoint: Endpoint,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    pub(crate) dice: Dice,
    pub(crate) members: watch::Receiver<Members>,
    /// The members by which the live tunnels were judged last.
    pub(crate) followed: watch::Sender<Members>,
    pub(crate) phase: watch::Sender<Phase>,
    /// One entry for each member.
    pub(crate) views: DashMap<ClusterName, PeerView>,
    /// What each peer said of its imports last; one entry for each member at most.
    pub(crate) reported: watch::Sender<Arc<BTreeMap<ClusterName, Reported>>>,
    /// Counts changes of anything a status shows.
    pub(crate) changes: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Takes over what a peer says of its imports by now.
    pub(crate) fn report(&self, peer: &ClusterName, reported: Reported) {
        self.reported.send_if_modified(|all| {
            let changed = all.get(peer) != Some(&reported);
            if changed {
                Arc::make_mut(all).insert(peer.clone(), reported);
            }
            changed
        });
    }

    /// Forgets what a peer said.
    pub(crate) fn forget_report(&self, peer: &ClusterName) {
        self.reported.send_if_modified(|all| all.contains_key(peer) && Arc::make_mut(all).remove(peer).is_some());
    }

    /// Closes every tunnel and the endpoint. Harmless when repeated.
    pub(crate) fn close(&self, text: &str) {
        let close = Close::new(CloseReason::Stopped, text);
        for tunnel in self.registry.all() {
            tunnel.close(&close);
        }
        self.endpoint.close(VarInt::from_u32(close.reason.code()), text.as_bytes());
        self.phase.send_if_modified(|phase| {
            let closed = matches!(phase, Phase::Closed(_));
            if !closed {
                *phase = Phase::Closed(text.into());
            }
            !closed
        });
        self.changed();
    }
}
