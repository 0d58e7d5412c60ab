//! What this cluster makes of the exports of the others, in a word for each: what their gateways are told.
//!
//! Owns the states. A service is ready when whoever asks for its name gets an address that leads there. Never sends anything.

use std::collections::BTreeMap;

use federation_model::{
    import::{Conflict, Import, ImportKind, ImportSource, address::AddressKey},
    names::{ClusterName, Namespace, ServiceKey},
    report::{ImportReport, ImportState},
};

use super::Tables;

impl Tables {
    /// What every other cluster is told of its exports that are imported here. `has_namespace` says whether a namespace exists
    /// in this cluster.
    #[must_use]
    pub fn reports(&self, has_namespace: impl Fn(&Namespace) -> bool) -> BTreeMap<ClusterName, ImportReport> {
        let mut reports: BTreeMap<ClusterName, ImportReport> = BTreeMap::new();
        for (service, import) in self.imports() {
            let here = has_namespace(&service.namespace);
            for (cluster, source) in import.sources.iter().filter(|(cluster, _)| *cluster != self.cluster()) {
                let state =
                    if here { self.state((service, import), (cluster, source)) } else { ImportState::NoNamespace };
                reports.entry(cluster.clone()).or_default().insert(service.clone(), state);
            }
        }
        reports
    }

    fn state(
        &self,
        (service, import): (&ServiceKey, &Import),
        (cluster, source): (&ClusterName, &ImportSource),
    ) -> ImportState {
        let has_address = |key: AddressKey| !self.inner.inputs.places.addresses(&key).is_empty();
        let addressed = match (import.kind, source.kind) {
            // Nothing leads to a cluster without endpoints of its own in a service that is found by its endpoints.
            (ImportKind::Headless, ImportKind::ClusterSetIp) => return ImportState::TypeConflict,
            (ImportKind::Headless, ImportKind::Headless) => source
                .endpoints
                .iter()
                .all(|name| has_address(AddressKey::Endpoint(service.clone(), cluster.clone(), name.clone()))),
            (ImportKind::ClusterSetIp, ImportKind::ClusterSetIp | ImportKind::Headless) => {
                has_address(AddressKey::Service(service.clone()))
            }
        };
        if source.ports.is_empty() && import.conflicts.contains(&Conflict::Port) {
            ImportState::PortConflict
        } else if addressed {
            ImportState::Ready
        } else {
            ImportState::NoAddress
        }
    }
}

#[cfg(test)]
mod tests;
