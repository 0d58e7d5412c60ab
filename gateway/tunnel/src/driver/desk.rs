//! What the driver keeps of one member.
//!
//! Owns its dialler and what is known of it from earlier tunnels. Never dials.

use std::sync::Arc;

use federation_model::{addr::GatewayAddr, catalog::Catalog, member::Member, names::ClusterName, spiffe::SpiffeId};
use gateway_core::dial::{Dialer, Ends};

use crate::{
    carrying::now,
    config::TunnelConfig,
    registry::Registry,
    shared::PeerView,
    status::TunnelState,
    tunnel::{Origin, Tunnel},
};

pub(super) struct Desk {
    pub(super) gateway_id: SpiffeId,
    pub(super) dialer: Dialer,
    /// Its exports as last told, so that an unchanged catalog need not come again.
    pub(super) held: Option<Arc<Catalog>>,
    pub(super) last_error: Option<String>,
    advertise: Option<Vec<GatewayAddr>>,
}

impl Desk {
    pub(super) fn new(config: &TunnelConfig, member: &Member, seed: u64) -> Self {
        let ends =
            Ends { own: config.cluster.clone(), peer: member.cluster.clone(), own_advertises: config.own_advertises };
        Self {
            gateway_id: member.gateway_id.clone(),
            dialer: Dialer::new(config.dial.clone(), ends, seed, now()),
            held: None,
            last_error: None,
            advertise: None,
        }
    }

    pub(super) fn follow(&mut self, member: &Member) {
        self.gateway_id = member.gateway_id.clone();
        if self.advertise.as_ref() != Some(&member.advertise) {
            self.dialer.handle_targets(member.advertise.clone(), now());
            self.advertise = Some(member.advertise.clone());
        }
    }

    pub(super) fn up(&mut self, tunnel: &Tunnel) {
        match &tunnel.origin {
            Origin::Dialled(target) => self.dialer.handle_connected(target, now()),
            Origin::Accepted => {}
        }
    }

    pub(super) fn failed(&mut self, target: &GatewayAddr, why: String) {
        // Said once; the status says how it goes on.
        if self.last_error.as_ref() == Some(&why) {
            tracing::debug!(%target, %why, "a dial failed again");
        } else {
            tracing::warn!(%target, %why, "a dial failed");
        }
        self.last_error = Some(why);
        self.dialer.handle_failed(target, now());
    }

    pub(super) fn written_off(&mut self, tunnel: &Tunnel) {
        match &tunnel.origin {
            Origin::Dialled(target) if tunnel.was_up() => self.dialer.handle_closed(target, now()),
            Origin::Dialled(target) => self.dialer.handle_failed(target, now()),
            Origin::Accepted => {}
        }
    }

    pub(super) fn view(&self) -> PeerView {
        let targets = self.dialer.targets().map(|(target, state)| (target.clone(), state)).collect();
        PeerView { targets, last_error: self.last_error.clone() }
    }
}

/// The tunnels the peer dialled that are of use.
pub(super) fn usable_inbound(registry: &Registry, peer: &ClusterName) -> usize {
    let of_use = |tunnel: &&Arc<Tunnel>| {
        tunnel.origin == Origin::Accepted && matches!(tunnel.state(), TunnelState::Up | TunnelState::Silent)
    };
    registry.of(peer).iter().filter(of_use).count()
}
