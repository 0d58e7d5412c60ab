//! What is counted of foreign trust domains.
//!
//! Owns the metrics and their names. There are at most a hundred trust domains, each of which an operator added; what is
//! measured of one goes with it.

use federation_model::{spiffe::TrustDomain, time::Timestamp};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::poll::RESULTS;
use crate::metrics::clamped;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DomainLabel {
    trust_domain: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PollLabel {
    trust_domain: String,
    result: &'static str,
}

/// Handles to them; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ForeignMetrics {
    known: Gauge,
    polls: Family<PollLabel, Counter>,
    failures: Family<DomainLabel, Gauge>,
    last_success: Family<DomainLabel, Gauge>,
}

impl ForeignMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("foreign_trust_domains", "Foreign trust domains that are known", self.known.clone());
        registry.register("foreign_polls", "Polls of bundle endpoints, by result", self.polls.clone());
        registry.register("foreign_failures", "Failed polls of a bundle endpoint in a row", self.failures.clone());
        let about = "When a foreign bundle was read last, in seconds since 1970; 0: not since the start";
        registry.register("foreign_last_success_timestamp_seconds", about, self.last_success.clone());
    }

    pub(crate) fn known(&self, count: usize) {
        self.known.set(clamped(count as u64));
    }

    pub(crate) fn polled(&self, trust_domain: &TrustDomain, result: &'static str, failures: u32) {
        let trust_domain = trust_domain.to_string();
        for each in RESULTS {
            let label = PollLabel { trust_domain: trust_domain.clone(), result: each };
            self.polls.get_or_create(&label).inc_by(u64::from(each == result));
        }
        let label = DomainLabel { trust_domain };
        self.failures.get_or_create(&label).set(i64::from(failures));
        let _ = self.last_success.get_or_create(&label);
    }

    pub(crate) fn succeeded_at(&self, trust_domain: &TrustDomain, now: Timestamp) {
        self.last_success.get_or_create(&DomainLabel { trust_domain: trust_domain.to_string() }).set(clamped(now.0));
    }

    pub(crate) fn forget(&self, trust_domain: &TrustDomain) {
        let trust_domain = trust_domain.to_string();
        for result in RESULTS {
            self.polls.remove(&PollLabel { trust_domain: trust_domain.clone(), result });
        }
        let label = DomainLabel { trust_domain };
        self.failures.remove(&label);
        self.last_success.remove(&label);
    }
}
