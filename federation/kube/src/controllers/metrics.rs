//! What the controllers count.
//!
//! Owns the names of their metrics. Never decides what is worth counting: the controllers do.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::write::Kind;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    result: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outcome {
    Ok,
    Failed,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let label = match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        };
        EncodeLabelValue::encode(&label, encoder)
    }
}

/// Counters and gauges of the controllers.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    leading: Gauge,
    writes: Family<Write, Counter>,
    findings: Gauge,
    allocated: Gauge,
    plan_seconds: Arc<Gauge<f64, std::sync::atomic::AtomicU64>>,
}

impl Metrics {
    /// Counters in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        // From the start, so that the first failure is an increase.
        for kind in Kind::ALL {
            for result in [Outcome::Ok, Outcome::Failed] {
                metrics.writes.get_or_create(&Write { kind: kind.label(), result }).inc_by(0);
            }
        }
        registry.register(
            "controllers_leading",
            "1 on the gateway that writes to the API server of its cluster",
            metrics.leading.clone(),
        );
        registry.register("controllers_writes", "Writes to the API server by kind and result", metrics.writes.clone());
        registry.register(
            "controllers_findings",
            "Objects that do not come to be, and reasons why ports of imports lead nowhere",
            metrics.findings.clone(),
        );
        registry.register(
            "import_ports_allocated",
            "Ports allocated for imports out of kubernetes.import_ports",
            metrics.allocated.clone(),
        );
        registry.register(
            "controllers_plan_seconds",
            "How long the last comparison of all objects took",
            (*metrics.plan_seconds).clone(),
        );
        metrics
    }

    pub(super) fn written(&self, kind: Kind, ok: bool) {
        let result = if ok { Outcome::Ok } else { Outcome::Failed };
        self.writes.get_or_create(&Write { kind: kind.label(), result }).inc();
    }

    pub(super) fn leads(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    pub(super) fn planned(&self, seconds: f64) {
        self.plan_seconds.set(seconds);
    }

    pub(super) fn found(&self, findings: usize) {
        self.findings.set(i64::try_from(findings).unwrap_or(i64::MAX));
    }

    pub(crate) fn allocated(&self, ports: usize) {
        self.allocated.set(i64::try_from(ports).unwrap_or(i64::MAX));
    }
}
