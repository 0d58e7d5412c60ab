//! How many clusters have which exports.
//!
//! Owns the names. One series for each export and one for each state, never one for each export in each cluster: a thousand
//! exports in a hundred clusters would be a hundred thousand, which is what `fedctl services` and the status of the
//! ServiceExport are for.

use std::{collections::BTreeMap, fmt, sync::Arc};

use federation_catalog::reach::{Importer, Known, Reach};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use tokio::sync::watch;

/// Counts at every scrape, so that an export that is gone has no series.
pub(super) struct Measured(pub(super) watch::Receiver<Arc<Reach>>);

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measured")
    }
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let reach = self.0.borrow().clone();
        let mut states: BTreeMap<&str, i64> = Importer::LABELS.into_iter().map(|label| (label, 0)).collect();
        for (_, importer) in reach.values().flat_map(|export| export.importers()) {
            *states.entry(importer.label()).or_default() += 1;
        }
        let about = "Exports of this cluster, counted once for each cluster they are for, by how far they are there";
        let mut family = encoder.encode_descriptor("export_importers", about, None, MetricType::Gauge)?;
        for (state, count) in states {
            ConstGauge::new(count).encode(family.encode_family(&[("state", state)])?)?;
        }
        let about = "Other clusters from which an export of this cluster can be reached";
        let mut family = encoder.encode_descriptor("export_clusters_reached", about, None, MetricType::Gauge)?;
        for (service, export) in reach.iter() {
            let reached = export.importers().filter(|(_, importer)| importer.reachable() == Known::Yes).count();
            let labels = [("namespace", service.namespace.as_str()), ("service", service.name.as_str())];
            let reached = i64::try_from(reached).unwrap_or(i64::MAX);
            ConstGauge::new(reached).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
