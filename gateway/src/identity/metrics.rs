//! What is measured of the identity.
//!
//! Owns the names. Never decides anything by them.

use federation_model::time::Timestamp;
use federation_pki::{certificate::CertificateFacts, svid::Svid};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use super::Standing;

#[derive(Debug)]
pub(super) struct Metrics {
    svid_expiry: Gauge,
    authority_expiry: Gauge,
    next_renewal: Gauge,
    renewals: Counter,
    failures: Counter,
    failing: Gauge,
    sequence: Gauge,
    blockers: Gauge,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        Self {
            svid_expiry: gauge(
                registry,
                "certificate_expiry_timestamp_seconds",
                "When the gateway's certificate expires",
            ),
            authority_expiry: gauge(
                registry,
                "authority_expiry_timestamp_seconds",
                "When the first authority in this cluster's trust bundle expires",
            ),
            next_renewal: gauge(
                registry,
                "certificate_renewal_timestamp_seconds",
                "When the gateway's certificate is to be renewed, 0 where its issuer decides",
            ),
            renewals: counter(registry, "certificate_renewals", "Certificates that were taken into use"),
            failures: counter(registry, "certificate_renewal_failures", "Attempts to renew or rotate that failed"),
            failing: gauge(
                registry,
                "certificate_renewal_failing",
                "Attempts in a row that failed, 0 when all is well",
            ),
            sequence: gauge(registry, "bundle_sequence", "Sequence of this cluster's trust bundle"),
            blockers: gauge(registry, "rotation_blockers", "Who keeps the rotation of the authority from going on"),
        }
    }

    pub(super) fn svid(&self, svid: &Svid) {
        self.svid_expiry.set(seconds(svid.not_after()));
    }

    pub(super) fn renewed(&self) {
        self.renewals.inc();
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    pub(super) fn standing(&self, standing: &Standing, newest: &federation_model::lineage::SignedBundle) {
        self.next_renewal.set(standing.next_renewal.map_or(0, seconds));
        self.failing.set(i64::from(standing.failures));
        self.blockers.set(i64::try_from(standing.blockers.len()).unwrap_or(i64::MAX));
        self.sequence.set(i64::try_from(newest.bundle.sequence).unwrap_or(i64::MAX));
        let ends = newest.bundle.authorities.iter().filter_map(|der| CertificateFacts::of(der).ok());
        self.authority_expiry.set(ends.map(|facts| seconds(facts.validity.not_after)).min().unwrap_or(0));
    }
}

fn seconds(timestamp: Timestamp) -> i64 {
    i64::try_from(timestamp.0).unwrap_or(i64::MAX)
}
