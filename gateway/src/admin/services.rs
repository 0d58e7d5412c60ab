//! The services of the cluster set as messages.
//!
//! Owns the translation of the tables. Never merges or routes.

use federation_model::{
    export::Audience,
    import::{Import, ImportKind},
    names::{ClusterName, ServiceKey},
    sni::Zone,
};
use gateway_core::tables::Tables;
use proto::gateway::v1::{Export, Service, Source};

/// Every import, with its address here and the clusters that export it.
pub(super) fn services(own: &ClusterName, zone: &Zone, tables: &Tables) -> Vec<Service> {
    tables.imports().iter().map(|(key, import)| service(own, zone, tables, (key, import))).collect()
}

fn service(own: &ClusterName, zone: &Zone, tables: &Tables, (key, import): (&ServiceKey, &Import)) -> Service {
    let sources = import.sources.iter().map(|(cluster, source)| Source {
        cluster: cluster.to_string(),
        ready: source.health.ready,
        local: cluster == own,
        reachable: tables.is_reachable(cluster),
        priority: source.priority,
        weight: source.weight,
    });
    let ports = import.ports.iter().map(|port| match &port.name {
        Some(name) => format!("{name}:{}/{}", port.port, port.transport),
        None => format!("{}/{}", port.port, port.transport),
    });
    Service {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        host: zone.host_of(key),
        headless: import.kind == ImportKind::Headless,
        addresses: tables.addresses_of(key).iter().map(ToString::to_string).collect(),
        ports: ports.collect(),
        sources: sources.collect(),
        conflicts: import.conflicts.iter().map(|conflict| conflict.reason().to_owned()).collect(),
        export: tables.audience(key).map(export),
    }
}

fn export(audience: &Audience) -> Export {
    let (restricted, clusters) = match audience {
        Audience::Everyone => (false, Vec::new()),
        Audience::Only(clusters) => (true, clusters.iter().map(ToString::to_string).collect()),
    };
    Export { restricted, clusters }
}
