//! Counters of the name server.
//!
//! Owns their names and labels. Never holds a name that was asked for: those are not bounded.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::answer::{Outcome, Via};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    transport: TransportLabel,
    kind: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum TransportLabel {
    #[expect(non_camel_case_types, reason = "the label value is the name of the variant")]
    udp,
    #[expect(non_camel_case_types, reason = "the label value is the name of the variant")]
    tcp,
}

/// The counters; a clone counts into the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    queries: Family<QueryLabels, Counter>,
    truncated: Counter,
    ignored: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let dns = registry.sub_registry_with_prefix("dns");
        dns.register("queries", "Answered queries by transport, type and response code", metrics.queries.clone());
        dns.register("truncated", "Answers that did not fit into a datagram", metrics.truncated.clone());
        dns.register("ignored", "Messages that are no query, and were not answered", metrics.ignored.clone());
        metrics
    }

    pub(crate) fn answered(&self, via: Via, outcome: Outcome) {
        let transport = match via {
            Via::Udp => TransportLabel::udp,
            Via::Tcp => TransportLabel::tcp,
        };
        let labels = QueryLabels { transport, kind: outcome.kind, code: outcome.code };
        self.queries.get_or_create(&labels).inc();
        if outcome.truncated {
            self.truncated.inc();
        }
    }

    pub(crate) fn ignored(&self) {
        self.ignored.inc();
    }
}
