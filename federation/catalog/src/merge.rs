//! What the exports of all clusters become (KEP-1645): one import for each service, the same in every cluster.
//!
//! Owns the conflict rules: ports are united, everything else is as the oldest export says, and every disagreement is
//! recorded. Never prefers this cluster, never counts votes: the result is the same whoever merges, in whatever order.

use std::collections::{BTreeMap, BTreeSet};

use federation_model::{
    addr::{Port, Transport},
    catalog::{Catalog, ExportedService, ServiceKind, ServicePort, SessionAffinity},
    import::{Conflict, Import, ImportKind, ImportSource, Imports},
    names::{ClusterName, PortName, ServiceKey},
};

/// The policy that a Service has when it names none.
const DEFAULT_INTERNAL_TRAFFIC_POLICY: &str = "Cluster";

/// Merges the catalogs of the cluster set, at most one for each cluster.
#[must_use]
pub fn merge<'a>(catalogs: impl IntoIterator<Item = &'a Catalog>) -> Imports {
    let mut exports: BTreeMap<&ServiceKey, Vec<(&ClusterName, &ExportedService)>> = BTreeMap::new();
    for catalog in catalogs {
        for (key, service) in &catalog.services {
            exports.entry(key).or_default().push((&catalog.cluster, service));
        }
    }
    exports
        .into_iter()
        .filter_map(|(key, mut constituents)| {
            // Two exports of one second are told apart by the name of their cluster, so that everybody agrees.
            constituents.sort_by_key(|(cluster, service)| (service.exported_at, *cluster));
            Some((key.clone(), import(&constituents)?))
        })
        .collect()
}

/// The import of one service; its exports are given oldest first.
fn import(exports: &[(&ClusterName, &ExportedService)]) -> Option<Import> {
    let (_, oldest) = exports.first()?;
    let mut conflicts = BTreeSet::new();
    for (_, export) in exports {
        conflicts.extend(disagreements(oldest, export));
    }
    let ports = unite_ports(exports.iter().map(|(_, export)| export.ports.as_slice()), &mut conflicts);
    let kind = kind_of(oldest);
    Some(Import {
        kind,
        sources: exports.iter().map(|(cluster, export)| ((*cluster).clone(), source(export, kind, &ports))).collect(),
        ports,
        session_affinity: oldest.session_affinity,
        internal_traffic_policy: oldest.internal_traffic_policy.clone(),
        traffic_distribution: oldest.traffic_distribution.clone(),
        labels: oldest.labels.clone(),
        annotations: oldest.annotations.clone(),
        conflicts,
    })
}

fn kind_of(export: &ExportedService) -> ImportKind {
    match &export.kind {
        ServiceKind::ClusterSetIp => ImportKind::ClusterSetIp,
        ServiceKind::Headless(_) => ImportKind::Headless,
    }
}

/// What an export says differently than the oldest, ports aside.
fn disagreements(oldest: &ExportedService, export: &ExportedService) -> impl Iterator<Item = Conflict> {
    let policy = |service: &ExportedService| -> String {
        service.internal_traffic_policy.as_deref().unwrap_or(DEFAULT_INTERNAL_TRAFFIC_POLICY).to_owned()
    };
    let affinity = match (oldest.session_affinity, export.session_affinity) {
        (SessionAffinity::None, SessionAffinity::None) => None,
        (SessionAffinity::ClientIp { timeout_seconds: a }, SessionAffinity::ClientIp { timeout_seconds: b }) => {
            (a != b).then_some(Conflict::SessionAffinityConfig)
        }
        (SessionAffinity::None, SessionAffinity::ClientIp { .. })
        | (SessionAffinity::ClientIp { .. }, SessionAffinity::None) => Some(Conflict::SessionAffinity),
    };
    [
        affinity,
        (!oldest.kind.same_type(&export.kind)).then_some(Conflict::Type),
        (policy(oldest) != policy(export)).then_some(Conflict::InternalTrafficPolicy),
        (oldest.traffic_distribution != export.traffic_distribution).then_some(Conflict::TrafficDistribution),
        (oldest.labels != export.labels).then_some(Conflict::Labels),
        (oldest.annotations != export.annotations).then_some(Conflict::Annotations),
    ]
    .into_iter()
    .flatten()
}

/// The union of the ports: by name first, then by transport and number; what is there first stays.
fn unite_ports<'a>(
    exports: impl Iterator<Item = &'a [ServicePort]>,
    conflicts: &mut BTreeSet<Conflict>,
) -> Vec<ServicePort> {
    let mut united: Vec<ServicePort> = Vec::new();
    let mut names: BTreeMap<Option<PortName>, usize> = BTreeMap::new();
    let mut numbers: BTreeSet<(Transport, Port)> = BTreeSet::new();
    for port in exports.flatten() {
        if let Some(same_name) = names.get(&port.name) {
            if united[*same_name] != *port {
                conflicts.insert(Conflict::Port);
            }
        } else if numbers.contains(&(port.transport, port.port)) {
            conflicts.insert(Conflict::Port);
        } else {
            names.insert(port.name.clone(), united.len());
            numbers.insert((port.transport, port.port));
            united.push(port.clone());
        }
    }
    united
}

fn source(export: &ExportedService, kind: ImportKind, ports: &[ServicePort]) -> ImportSource {
    let imported: BTreeSet<(Port, Transport)> = ports.iter().map(|port| (port.port, port.transport)).collect();
    let exposed = export.ports.iter().map(|port| (port.port, port.transport));
    ImportSource {
        kind: kind_of(export),
        exported_at: export.exported_at,
        ports: exposed.filter(|port| imported.contains(port)).collect(),
        health: export.health,
        endpoints: match (&export.kind, kind) {
            (ServiceKind::Headless(endpoints), ImportKind::Headless) => endpoints.clone(),
            (ServiceKind::Headless(_), ImportKind::ClusterSetIp) | (ServiceKind::ClusterSetIp, _) => Vec::new(),
        },
        priority: export.priority,
        weight: export.weight,
    }
}

#[cfg(test)]
mod tests;
