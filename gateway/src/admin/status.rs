//! The status of this gateway as a message.
//!
//! Owns the translation. Never computes what a component knows better.

use std::time::{Duration, SystemTime};

use federation_model::time::Timestamp;
use gateway_tunnel::{PeerStatus, TunnelState, TunnelStatus};
use proto::gateway::v1::{Federation, ForeignBundle, Peer, PeerState, Quarantined, Status, Tunnel};

use super::Administration;
use crate::{SOFTWARE, identity::ClusterIdentity};

/// Everything `fedctl status` shows.
pub(super) fn status(this: &Administration) -> Status {
    let tables = this.tables.borrow().clone();
    let manifests = this.manifests.borrow().clone();
    let blocked = this.readiness.blocked_by();
    let certificate = this.identity.live().current();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Status {
        cluster: this.config.cluster.name.to_string(),
        trust_domain: this.config.cluster.trust_domain.to_string(),
        gateway_id: this.config.cluster.gateway_id().to_string(),
        software: SOFTWARE.to_owned(),
        started_at: this.started_at.0,
        cluster_authority: authority(&this.identity),
        certificate_expires_at: certificate.not_after().0,
        certificate_serial: certificate.serial().to_owned(),
        federation: Some(federation(this)),
        peers: peers(this),
        quarantined: manifests
            .quarantined
            .iter()
            .map(|q| Quarantined {
                file: q.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default(),
                line: q.line.unwrap_or(0),
                object: q.object.clone().unwrap_or_default(),
                reason: q.reason.clone(),
            })
            .collect(),
        exports: count(tables.exported()),
        imports: count(tables.imports().len()),
        connections: this.recorder.open(),
        identity_source: this.identity.source().to_owned(),
        ready: blocked.is_none(),
        not_ready_reason: blocked.unwrap_or_default(),
        foreign: foreign(this),
        warnings: this.readiness.warnings(),
        advertise: this.config.tunnel.advertise.iter().map(ToString::to_string).collect(),
    }
}

/// The fingerprints of the authorities of this cluster as people compare them; two while one replaces the other.
pub(super) fn authority(identity: &ClusterIdentity) -> String {
    identity.bundle().fingerprints().map(|shown| shown.to_string()).collect::<Vec<_>>().join(" ")
}

/// The foreign bundles that are believed here, by which a trust domain of the set is never meant.
fn foreign(this: &Administration) -> Vec<ForeignBundle> {
    let Some(membership) = this.follower.current() else { return Vec::new() };
    let trust = this.follower.trust().bundles();
    let believed = trust.iter().filter(|bundle| membership.foreign.get(&bundle.trust_domain) == Some(bundle));
    believed
        .map(|bundle| ForeignBundle {
            trust_domain: bundle.trust_domain.to_string(),
            sequence: bundle.sequence,
            authorities: bundle.fingerprints().map(|fingerprint| fingerprint.to_string()).collect(),
        })
        .collect()
}

fn federation(this: &Administration) -> Federation {
    let link = this.follower.link();
    let Some(membership) = this.follower.current() else { return Federation::default() };
    Federation {
        joined: true,
        connected: link.connected.is_some(),
        addresses: membership.addresses.iter().map(ToString::to_string).collect(),
        revision: membership.position.revision,
        last_error: link.last_error,
        authority: membership.federation.fingerprints().next().map(|f| f.to_string()).unwrap_or_default(),
        pending: membership.pending,
    }
}

/// Every peer with its tunnels.
pub(super) fn peers(this: &Administration) -> Vec<Peer> {
    let tables = this.tables.borrow().clone();
    let services = |peer: &PeerStatus| {
        let exported = tables.imports().values().filter(|import| import.sources.contains_key(&peer.cluster));
        u32::try_from(exported.count()).unwrap_or(u32::MAX)
    };
    this.tunnels.status().into_iter().map(|peer| message(&peer, services(&peer))).collect()
}

fn message(peer: &PeerStatus, services: u32) -> Peer {
    let next = peer.dials.iter().filter_map(|dial| dial.next_dial).min();
    Peer {
        cluster: peer.cluster.to_string(),
        state: state(peer).into(),
        trust_domain: peer.gateway_id.trust_domain().to_string(),
        tunnels: peer.tunnels.iter().filter(|t| t.state != TunnelState::Closed).map(tunnel).collect(),
        last_error: peer.last_error.clone().unwrap_or_default(),
        services,
        next_dial_in_millis: next.map_or(0, |next| u64::try_from(next.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn state(peer: &PeerStatus) -> PeerState {
    let any = |state| peer.tunnels.iter().any(|tunnel| tunnel.state == state);
    if peer.reachable {
        PeerState::Connected
    } else if any(TunnelState::Draining) {
        PeerState::Draining
    } else if any(TunnelState::Silent) {
        PeerState::Lost
    } else if peer.dials.is_empty() {
        PeerState::Waiting
    } else {
        PeerState::Dialling
    }
}

fn tunnel(tunnel: &TunnelStatus) -> Tunnel {
    let connected_at = Timestamp::from(SystemTime::now().checked_sub(tunnel.age).unwrap_or(SystemTime::UNIX_EPOCH));
    Tunnel {
        remote: tunnel.remote.to_string(),
        dialled: tunnel.dialled.is_some(),
        rtt_micros: u64::try_from(tunnel.rtt.as_micros()).unwrap_or(u64::MAX),
        connected_at: connected_at.0,
        streams: u32::try_from(tunnel.streams).unwrap_or(u32::MAX),
        clock_skew_millis: tunnel.skew_millis.unwrap_or_default(),
        software: tunnel.software.clone(),
    }
}

/// A duration in whole units, largest two.
pub(super) fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s}s"),
        (0, h, m, _) => format!("{h}h{m}m"),
        (d, h, _, _) => format!("{d}d{h}h"),
    }
}
