//! What will stop working if nobody acts: what this gateway knows, laid before `federation_pki::horizon`.
//!
//! Owns the gathering, and the metrics of what is believed and for how long. Everything is looked at when somebody asks, so
//! nothing here can be out of date. Never judges and never repairs.

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use federation_model::{names::ClusterName, spiffe::TrustDomain, time::Timestamp};
use federation_pki::horizon::{Break, Cluster, Outlook, SourceState, believed_until, foresee};
use gateway_tunnel::{TunnelState, Tunnels};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};

use crate::{identity::ClusterIdentity, membership::follow::Follower};

/// Everything whose end matters to this gateway.
#[derive(Debug, Clone)]
pub struct Horizon {
    /// The cluster's identity.
    pub identity: Arc<ClusterIdentity>,
    /// The membership.
    pub follower: Arc<Follower>,
    /// The tunnels.
    pub tunnels: Tunnels,
}

impl Horizon {
    /// What stops working if nobody acts, the first to do so first.
    #[must_use]
    pub fn breaks(&self, now: Timestamp) -> Vec<Break> {
        let (svid, bundle) = (self.identity.live().current(), self.identity.bundle());
        let (own, standing) = (&self.identity.cluster().name, self.identity.standing().borrow().clone());
        let (membership, members) = (self.follower.current(), self.follower.members().borrow().clone());
        let peers = self.tunnels.status();
        let live = |state| !matches!(state, TunnelState::Connecting | TunnelState::Closed);
        let chains = |name: &ClusterName| {
            let tunnels = peers.iter().filter(|peer| peer.cluster == *name).flat_map(|peer| &peer.tunnels);
            tunnels.filter(|tunnel| live(tunnel.state)).map(|tunnel| tunnel.certificates.as_slice()).collect()
        };
        let fault = self.source_fault();
        let outlook = Outlook {
            own: Cluster { name: own, bundle: &bundle, chains: vec![svid.chain()] },
            failing: standing.fault.as_deref().filter(|_| standing.failures > 0),
            source: self
                .identity
                .feed()
                .map(|feed| SourceState { until: feed.material.borrow().expires_at(), fault: fault.as_deref() }),
            peers: members
                .iter()
                .map(|(name, member)| Cluster { name, bundle: &member.bundle, chains: chains(name) })
                .collect(),
            federation: membership.as_ref().map(|membership| &membership.federation),
            foreign: membership.iter().flat_map(|membership| membership.foreign.values()).collect(),
        };
        foresee(&outlook, now)
    }

    /// What is wrong with the source of the own identity.
    #[must_use]
    pub fn source_fault(&self) -> Option<String> {
        self.identity.feed().and_then(|feed| feed.fault.borrow().clone())
    }

    /// Adds the metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Measured(self.clone())));
    }

    /// Until when each trust domain is believed: this cluster, the other members, the federation service, and those outside.
    fn believed(&self) -> BTreeMap<TrustDomain, Timestamp> {
        let members = self.follower.members().borrow().clone();
        let mut bundles = vec![self.identity.bundle()];
        bundles.extend(members.values().map(|member| member.bundle.clone()));
        if let Some(membership) = self.follower.current() {
            bundles.push(membership.federation.clone());
            bundles.extend(membership.foreign.values().cloned());
        }
        let until = bundles.into_iter().filter_map(|bundle| Some((believed_until(&bundle)?, bundle.trust_domain)));
        until.map(|(until, domain)| (domain, until)).collect()
    }
}

/// Measures at every scrape.
struct Measured(Horizon);

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measured")
    }
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(horizon) = self;
        let first = horizon.breaks(SystemTime::now().into()).first().map(|first| seconds(first.at));
        let refused = i64::try_from(horizon.follower.refused().len()).unwrap_or(i64::MAX);
        let about = "When trust breaks first if nobody acts (see fedctl check), 0 while nothing is foreseen";
        gauge(&mut encoder, "trust_breaks_at_timestamp_seconds", about, first.unwrap_or(0))?;
        let about = "Whether the source of the identity gives nothing usable: 1 while it does not";
        gauge(&mut encoder, "identity_source_fault", about, horizon.source_fault().is_some().into())?;
        let about = "Members of whose bundles the newest is not believed, until an operator vouches for it";
        gauge(&mut encoder, "bundles_disbelieved", about, refused)?;
        if horizon.follower.current().is_some() {
            let about =
                "Whether the federation service is followed, 1 or 0; absent before this cluster has joined a set";
            let connected = horizon.follower.link().connected.is_some();
            gauge(&mut encoder, "federation_connected", about, connected.into())?;
        }
        let about = "When the last authority of a bundle that is believed expires";
        let name = "believed_authority_expiry_timestamp_seconds";
        let mut family = encoder.encode_descriptor(name, about, None, MetricType::Gauge)?;
        for (domain, until) in horizon.believed() {
            let labels = [("trust_domain", domain.to_string())];
            ConstGauge::new(seconds(until)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, about: &str, value: i64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, about, None, MetricType::Gauge)?)
}

fn seconds(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}
