//! The snapshot as a person reads it at `/debug/tables`.
//!
//! Owns the shape of that document. Never feeds a decision.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use federation_model::{
    catalog::ServicePort,
    export::{Audience, EndpointState},
    import::{
        ImportKind,
        address::{AddressKey, address_keys},
    },
    names::{ClusterName, ServiceKey},
};
use serde::Serialize;

use super::Tables;

/// A snapshot, to be serialized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TablesView {
    /// The number of the snapshot.
    pub generation: u64,
    /// This cluster.
    pub cluster: ClusterName,
    /// The zone of the cluster set.
    pub zone: String,
    /// The services of the cluster set.
    pub imports: BTreeMap<ServiceKey, ImportView>,
    /// What this cluster exports.
    pub exports: BTreeMap<ServiceKey, ExportView>,
    /// The other members, and whether a tunnel reaches them.
    pub members: BTreeMap<ClusterName, MemberView>,
    /// Whose address is whose in this cluster.
    pub principals: BTreeMap<IpAddr, String>,
    /// What was revoked, by the id of the revocation.
    pub revocations: BTreeMap<String, String>,
}

/// One import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportView {
    /// Its name in DNS.
    pub host: String,
    /// `ClusterSetIP` or `Headless`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its addresses here, by service or endpoint.
    pub addresses: BTreeMap<AddressKey, Vec<IpAddr>>,
    /// Its ports, such as `https:443/tcp`.
    pub ports: Vec<String>,
    /// What each exporting cluster offers.
    pub sources: BTreeMap<ClusterName, SourceView>,
    /// What the exports disagree on.
    pub conflicts: Vec<&'static str>,
}

/// One exporting cluster of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceView {
    /// Whether it is this cluster.
    pub local: bool,
    /// Whether connections can go there.
    pub reachable: bool,
    /// Ready endpoints.
    pub ready: u32,
    /// Endpoints that still serve while they go away.
    pub terminating: u32,
    /// The ports it exposes.
    pub ports: Vec<String>,
    /// Lower is preferred.
    pub priority: u32,
    /// Share within one priority.
    pub weight: u32,
}

/// One export of this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportView {
    /// How the destination sees the caller, as the annotation says it.
    pub deliver: String,
    /// The clusters it is exported to; `null` for every cluster.
    pub export_to: Option<BTreeSet<ClusterName>>,
    /// Ready endpoints.
    pub ready: Vec<IpAddr>,
    /// Endpoints that still serve while they go away.
    pub terminating: Vec<IpAddr>,
}

/// One other member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// The id its gateways present.
    pub gateway_id: String,
    /// Where its gateways listen.
    pub advertise: Vec<String>,
    /// Whether a tunnel reaches it.
    pub reachable: bool,
}

impl Tables {
    /// The snapshot as a person reads it.
    #[must_use]
    pub fn view(&self) -> TablesView {
        let inputs = &self.inner.inputs;
        TablesView {
            generation: inputs.generation,
            cluster: inputs.cluster.clone(),
            zone: inputs.zone.to_string(),
            imports: self.import_views(),
            exports: self.export_views(),
            members: inputs
                .members
                .iter()
                .map(|(cluster, member)| {
                    let view = MemberView {
                        gateway_id: member.gateway_id.to_string(),
                        advertise: member.advertise.iter().map(ToString::to_string).collect(),
                        reachable: self.is_reachable(cluster),
                    };
                    (cluster.clone(), view)
                })
                .collect(),
            revocations: inputs.revocations.iter().map(|r| (r.id.to_string(), r.subject.to_string())).collect(),
            principals: inputs.pods.iter().map(|(ip, id)| (*ip, id.to_string())).collect(),
        }
    }

    fn import_views(&self) -> BTreeMap<ServiceKey, ImportView> {
        let inputs = &self.inner.inputs;
        let mut addresses: BTreeMap<ServiceKey, BTreeMap<AddressKey, Vec<IpAddr>>> = BTreeMap::new();
        for key in address_keys(&inputs.imports) {
            let found = inputs.places.addresses(&key);
            if !found.is_empty() {
                addresses.entry(key.service().clone()).or_default().insert(key.clone(), found.to_vec());
            }
        }
        inputs
            .imports
            .iter()
            .map(|(service, import)| {
                let view = ImportView {
                    host: inputs.zone.host_of(service),
                    kind: match import.kind {
                        ImportKind::ClusterSetIp => "ClusterSetIP",
                        ImportKind::Headless => "Headless",
                    },
                    addresses: addresses.remove(service).unwrap_or_default(),
                    ports: import.ports.iter().map(port_text).collect(),
                    sources: self.source_views(service),
                    conflicts: import.conflicts.iter().map(|conflict| conflict.reason()).collect(),
                };
                (service.clone(), view)
            })
            .collect()
    }

    fn source_views(&self, service: &ServiceKey) -> BTreeMap<ClusterName, SourceView> {
        let sources = self.inner.inputs.imports.get(service).into_iter().flat_map(|import| &import.sources);
        sources
            .map(|(cluster, source)| {
                let view = SourceView {
                    local: *cluster == self.inner.inputs.cluster,
                    reachable: self.is_reachable(cluster),
                    ready: source.health.ready,
                    terminating: source.health.terminating,
                    ports: source.ports.iter().map(|(port, transport)| format!("{port}/{transport}")).collect(),
                    priority: source.priority,
                    weight: source.weight,
                };
                (cluster.clone(), view)
            })
            .collect()
    }

    fn export_views(&self) -> BTreeMap<ServiceKey, ExportView> {
        let exports = self.inner.inputs.exports.iter();
        exports
            .map(|(service, export)| {
                let in_state = |state| {
                    let found = export.endpoints.iter().filter(move |endpoint| endpoint.state == state);
                    found.map(|endpoint| endpoint.address).collect()
                };
                let view = ExportView {
                    deliver: export.deliver.to_string(),
                    export_to: match &export.audience {
                        Audience::Everyone => None,
                        Audience::Only(clusters) => Some(clusters.clone()),
                    },
                    ready: in_state(EndpointState::Ready),
                    terminating: in_state(EndpointState::Terminating),
                };
                (service.clone(), view)
            })
            .collect()
    }
}

/// A port as `name:number/transport`.
fn port_text(port: &ServicePort) -> String {
    match &port.name {
        Some(name) => format!("{name}:{}/{}", port.port, port.transport),
        None => format!("{}/{}", port.port, port.transport),
    }
}
