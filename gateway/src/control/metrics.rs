//! What the control loop counts.
//!
//! Owns the names. Never decides anything by them.

use federation_catalog::local::LocalState;
use federation_kube::manifests::Manifests;
use gateway_core::tables::Tables;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

/// The gauges of the state in force.
#[derive(Debug)]
pub(super) struct Metrics {
    exports: Gauge,
    imports: Gauge,
    peers_reachable: Gauge,
    quarantined: Gauge,
    broken_policies: Gauge,
    held_back: Gauge,
    warnings: Gauge,
    revocations: Gauge,
    generation: Gauge,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            exports: gauge(registry, "exports", "Services this cluster exports"),
            imports: gauge(registry, "imports", "Services imported from all clusters, this one included"),
            peers_reachable: gauge(registry, "peers_reachable", "Other clusters with a live tunnel"),
            quarantined: gauge(registry, "quarantined_objects", "Objects that are not in force because they are wrong"),
            broken_policies: gauge(
                registry,
                "broken_policies",
                "Policies that cannot be read, and refuse every call to what they select: see fedctl policy list",
            ),
            held_back: gauge(registry, "exports_held_back", "ServiceExports that do not take effect: see fedctl check"),
            warnings: gauge(registry, "object_warnings", "What in the objects may not be meant: see fedctl check"),
            revocations: gauge(registry, "revocations", "Revocations that are in force"),
            generation: gauge(registry, "tables_generation", "Number of the tables in force"),
        }
    }

    pub(super) fn set(&self, local: &LocalState, tables: &Tables, reachable: usize, manifests: &Manifests) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.exports.set(count(local.exports.len()));
        self.imports.set(count(tables.imports().len()));
        self.peers_reachable.set(count(reachable));
        self.quarantined.set(count(manifests.quarantined.len()));
        self.broken_policies.set(count(manifests.objects.policies.broken.len()));
        self.held_back.set(count(local.conditions.values().filter(|export| !export.is_exported()).count()));
        self.warnings.set(count(local.warnings.len()));
        self.revocations.set(count(tables.revocations().len()));
        self.generation.set(i64::try_from(tables.generation()).unwrap_or(i64::MAX));
    }
}
