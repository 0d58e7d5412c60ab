//! The services of the cluster set as messages.
//!
//! Owns the translation of the tables. Never merges or routes.

use federation_catalog::{
    conditions,
    reach::{self, ExportReach, Known, Reach},
};
use federation_model::{
    export::Audience,
    import::{Import, ImportKind},
    names::{ClusterName, ServiceKey},
    sni::Zone,
};
use gateway_core::tables::Tables;
use proto::gateway::v1::{Export, Importer, Service, Source};

/// Every import, with its address here and the clusters that export it.
pub(super) fn services(zone: &Zone, tables: &Tables, reach: &Reach) -> Vec<Service> {
    let imports = tables.imports().iter();
    imports
        .map(|(key, import)| {
            let reach = reach.get(key).map(AsRef::as_ref);
            let export = tables.audience(key).map(|audience| export(audience, reach));
            Service { export, ..service(zone, tables, (key, import)) }
        })
        .collect()
}

fn service(zone: &Zone, tables: &Tables, (key, import): (&ServiceKey, &Import)) -> Service {
    let sources = import.sources.iter().map(|(cluster, source)| Source {
        cluster: cluster.to_string(),
        ready: source.health.ready,
        local: cluster == tables.cluster(),
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
        export: None,
    }
}

fn export(audience: &Audience, reach: Option<&ExportReach>) -> Export {
    let (restricted, clusters) = match audience {
        Audience::Everyone => (false, Vec::new()),
        Audience::Only(clusters) => (true, clusters.iter().map(ToString::to_string).collect()),
    };
    let importers = reach.into_iter().flat_map(ExportReach::importers).map(importer);
    Export { restricted, clusters, importers: importers.collect() }
}

fn importer((cluster, importer): (&ClusterName, reach::Importer)) -> Importer {
    let reached = importer.reachable() == Known::Yes;
    Importer {
        cluster: cluster.to_string(),
        state: importer.label().to_owned(),
        reached,
        why_not: if reached { String::new() } else { conditions::why_not(&importer).to_owned() },
        distance: importer.tunnel.map(|rtt| rtt.to_string()).unwrap_or_default(),
    }
}
