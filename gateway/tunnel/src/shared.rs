//! What the handle, the driver and the tasks of the tunnels all see.
//!
//! Owns no behaviour but waking those who watch.

use std::sync::Arc;

use dashmap::DashMap;
use federation_model::{addr::GatewayAddr, names::ClusterName};
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
    /// Counts changes of anything a status shows.
    pub(crate) changes: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
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
