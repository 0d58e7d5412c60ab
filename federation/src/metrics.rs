//! What the service counts.
//!
//! Owns the metrics and their names. Never decides anything by them.

use federation_model::time::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use proto::convert::member::Refusal;

use crate::{foreign::ForeignMetrics, state::State};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    profile: &'static str,
    status: u32,
}

/// Handles to every metric; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    members: Gauge,
    pending: Gauge,
    revision: Gauge,
    tokens: Gauge,
    revocations: Gauge,
    watchers: Gauge,
    connections: Gauge,
    identity_expiry: Gauge,
    joins: Family<OutcomeLabel, Counter>,
    refused: Family<OutcomeLabel, Counter>,
    rewinds: Counter,
    bundle_requests: Family<RequestLabel, Counter>,
    bundle_web_expiry: Gauge,
    foreign: ForeignMetrics,
}

impl Metrics {
    /// Registers everything under the prefix `landbridge_federation`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("landbridge_federation");
        // From the start: a counter that appears with its first event has no rate then.
        for refusal in Refusal::ALL {
            self.joins.get_or_create(&OutcomeLabel { outcome: refusal.label() }).inc_by(0);
            self.refused.get_or_create(&OutcomeLabel { outcome: refusal.label() }).inc_by(0);
        }
        self.joins.get_or_create(&OutcomeLabel { outcome: "joined" }).inc_by(0);
        registry.register("members", "Members of the set", self.members.clone());
        registry.register("pending_members", "Clusters that wait for approval", self.pending.clone());
        registry.register("revision", "Revision of the set", self.revision.clone());
        registry.register("tokens", "Join tokens that are remembered", self.tokens.clone());
        registry.register("revocations", "Revocations that are in force", self.revocations.clone());
        registry.register("watchers", "Watches of members that are open", self.watchers.clone());
        registry.register("connections", "gRPC connections that are open", self.connections.clone());
        let about = "When the certificate of the service ends, in seconds since 1970";
        registry.register("identity_expiry_timestamp_seconds", about, self.identity_expiry.clone());
        registry.register("joins", "Joins by outcome", self.joins.clone());
        registry.register("refused_calls", "Calls that were refused, by reason", self.refused.clone());
        let about = "Watches of members that have seen what is not in the store: it was restored from an older copy";
        registry.register("rewinds", about, self.rewinds.clone());
        let about = "Requests to the bundle endpoint, by profile and HTTP status";
        registry.register("bundle_requests", about, self.bundle_requests.clone());
        let about = "When the web certificate of the bundle endpoint ends, in seconds since 1970; 0 without one";
        registry.register("bundle_web_expiry_timestamp_seconds", about, self.bundle_web_expiry.clone());
        self.foreign.register(registry);
    }

    pub(crate) fn observe(&self, state: &State) {
        let approved = state.approved().count();
        self.members.set(clamped(approved as u64));
        self.pending.set(clamped((state.members.len() - approved) as u64));
        self.tokens.set(clamped(state.tokens.len() as u64));
        self.revocations.set(clamped(state.revocations.len() as u64));
        self.revision.set(clamped(state.revision));
    }

    pub(crate) fn identity_until(&self, at: Timestamp) {
        self.identity_expiry.set(clamped(at.0));
    }

    pub(crate) fn joined(&self, refusal: Option<Refusal>) {
        let outcome = refusal.map_or("joined", Refusal::label);
        self.joins.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refused.get_or_create(&OutcomeLabel { outcome: refusal.label() }).inc();
    }

    pub(crate) fn rewound(&self) {
        self.rewinds.inc();
    }

    pub(crate) fn bundle_request(&self, profile: &'static str, status: u16) {
        self.bundle_requests.get_or_create(&RequestLabel { profile, status: status.into() }).inc();
    }

    pub(crate) fn bundle_web_until(&self, at: Timestamp) {
        self.bundle_web_expiry.set(clamped(at.0));
    }

    pub(crate) fn foreign(&self) -> &ForeignMetrics {
        &self.foreign
    }

    pub(crate) fn watchers(&self) -> &Gauge {
        &self.watchers
    }

    pub(crate) fn connections(&self) -> &Gauge {
        &self.connections
    }
}

pub(crate) fn clamped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Counts one for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn in_gauge(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use federation_model::spiffe::TrustDomain;
    use federation_runtime::reference;

    #[test]
    fn the_reference_of_metrics_is_what_the_service_measures() {
        let (mut registry, metrics) = (Registry::default(), Metrics::default());
        metrics.register(&mut registry);
        metrics.bundle_request("https_web", 200);
        let states = tokio::sync::watch::channel(std::sync::Arc::new(crate::state::tests::empty_set())).1;
        crate::lag::Lag { states, presence: crate::presence::Presence::new(metrics.clone()) }.register(&mut registry);
        let readiness = federation_runtime::admin::Readiness::default();
        readiness.condition("store").holds();
        readiness.register(registry.sub_registry_with_prefix("landbridge_federation"));
        metrics.foreign().polled(&TrustDomain::new("spire.example").unwrap(), "changed", 0);
        let page = reference::page(env!("CARGO_MANIFEST_DIR"), "metrics.md");
        reference::agree(&page, "federation", &reference::metrics(&registry).unwrap()).unwrap();
    }

    #[test]
    fn the_reference_of_settings_has_every_key_and_its_default() {
        let page = reference::page(env!("CARGO_MANIFEST_DIR"), "config.md");
        let documented = reference::documented(&std::fs::read_to_string(page).unwrap(), "federation.toml");
        let keys: Vec<String> = documented.keys().cloned().collect();
        let known: Vec<String> = reference::keys::<Config>("").unwrap().into_iter().collect();
        assert_eq!(keys, known);
        reference::are_defaults::<Config>(&documented, "").unwrap();
    }
}
