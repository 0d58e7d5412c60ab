//! A cluster set of regular services, as the tables of one gateway ask for them.
//!
//! Owns which cluster exports what, and the changes that are measured. Never plans.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use anyhow::{Context as _, anyhow};
use federation_catalog::{
    conditions::{ExportConditions, of_conflicts},
    merge::merge,
};
use federation_kube::controllers::Asked;
use federation_model::{
    addr::{Port, Transport},
    catalog::{Catalog, EndpointCounts, ExportedService, ServiceKind, ServicePort, SessionAffinity},
    export::Audience,
    names::{ClusterName, ServiceKey},
    time::Timestamp,
};

/// The namespace of every service: one that each cluster has.
pub(crate) const NAMESPACE: &str = "default";

/// How many services there are, in how many clusters, and how many of those export each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) services: usize,
    pub(crate) clusters: usize,
    pub(crate) exporters: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.services, self.clusters, self.exporters)
    }
}

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
        match numbers?.as_slice() {
            [services, clusters, exporters] => {
                Ok(Self { services: *services, clusters: *clusters, exporters: *exporters })
            }
            _ => Err(anyhow!("write SERVICES,CLUSTERS,EXPORTERS")),
        }
    }
}

/// The catalogs of all clusters; the first one is this cluster.
#[derive(Debug, Clone)]
pub(crate) struct World {
    catalogs: Vec<Catalog>,
    reachable: BTreeSet<ClusterName>,
}

impl World {
    /// Every service is exported by the same number of clusters, one after the other.
    pub(crate) fn new(size: Size) -> anyhow::Result<Self> {
        let names: Result<Vec<ClusterName>, _> =
            (0..size.clusters).map(|at| format!("cluster-{at:03}").parse()).collect();
        let mut catalogs: Vec<Catalog> = names?.into_iter().map(Catalog::empty).collect();
        for service in 0..size.services {
            for exporter in 0..size.exporters {
                let at = (service + exporter) % size.clusters;
                catalogs[at].services.insert(key(service)?, exported()?);
            }
        }
        let reachable = catalogs.iter().skip(1).map(|catalog| catalog.cluster.clone()).collect();
        Ok(Self { catalogs, reachable })
    }

    /// This cluster.
    pub(crate) fn own(&self) -> &ClusterName {
        &self.catalogs[0].cluster
    }

    /// The services that this cluster exports.
    pub(crate) fn own_exports(&self) -> impl Iterator<Item = &ServiceKey> {
        self.catalogs[0].services.keys()
    }

    /// What the tables ask for.
    pub(crate) fn asked(&self) -> Asked {
        let imports = merge(&self.catalogs);
        let own = ExportConditions::exported(&Audience::Everyone);
        let conditions = |key: &ServiceKey| {
            let conflicts = imports.get(key).map(of_conflicts);
            let conditions = [own.valid.clone(), own.ready.clone()].into_iter().chain(conflicts).collect();
            (key.clone(), conditions)
        };
        let exports: BTreeMap<_, _> = self.own_exports().map(conditions).collect();
        Asked {
            cluster_set: None,
            reachable: self.reachable.clone(),
            unheard: BTreeSet::new(),
            exports,
            imports: Arc::new(imports),
        }
    }
}

/// A change that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// One export has another number of endpoints.
    Endpoints,
    /// A cluster exports a service that nobody exported.
    Appears,
    /// A cluster exports a service that others export.
    Joins,
    /// The tunnel to a cluster is lost.
    Unreachable,
    /// A cluster leaves the set.
    Leaves,
    /// An export disagrees with one of this cluster.
    Conflicts,
}

impl Event {
    pub(crate) const ALL: [Self; 6] =
        [Self::Endpoints, Self::Appears, Self::Joins, Self::Conflicts, Self::Unreachable, Self::Leaves];

    /// For people.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Endpoints => "the endpoints of one export change",
            Self::Appears => "a service is exported for the first time",
            Self::Joins => "one more cluster exports a service",
            Self::Unreachable => "a cluster becomes unreachable",
            Self::Leaves => "a cluster leaves",
            Self::Conflicts => "an export conflicts with one of this cluster",
        }
    }

    /// Makes it happen.
    pub(crate) fn happen(self, world: &mut World) -> anyhow::Result<()> {
        let last = world.catalogs.len() - 1;
        match self {
            Self::Endpoints => {
                let first = world.catalogs[last].services.values_mut().next().context("the last cluster exports")?;
                first.health.ready += 1;
            }
            Self::Appears => {
                world.catalogs[last].services.insert(format!("{NAMESPACE}/late").parse()?, exported()?);
            }
            Self::Joins => {
                world.catalogs[last - 1].services.insert(format!("{NAMESPACE}/late").parse()?, exported()?);
            }
            Self::Unreachable => {
                let lost = world.catalogs[last / 2].cluster.clone();
                world.reachable.remove(&lost);
            }
            Self::Leaves => {
                let left = world.catalogs.remove(last / 3);
                world.reachable.remove(&left.cluster);
            }
            Self::Conflicts => {
                let key = world.own_exports().next().context("this cluster exports")?.clone();
                let theirs = world.catalogs.iter_mut().skip(1).find_map(|catalog| catalog.services.get_mut(&key));
                theirs.context("others export it too")?.traffic_distribution = Some("PreferClose".to_owned());
            }
        }
        Ok(())
    }
}

fn key(service: usize) -> anyhow::Result<ServiceKey> {
    Ok(format!("{NAMESPACE}/service-{service:04}").parse()?)
}

/// An export with two ports, as most have.
fn exported() -> anyhow::Result<ExportedService> {
    let port = |name: &str, number| -> anyhow::Result<ServicePort> {
        let port = Port::new(number).context("a port is not zero")?;
        Ok(ServicePort { name: Some(name.parse()?), transport: Transport::Tcp, port, app_protocol: None })
    };
    Ok(ExportedService {
        exported_at: Timestamp(1_000),
        kind: ServiceKind::ClusterSetIp,
        ports: vec![port("http", 80)?, port("metrics", 9090)?],
        health: EndpointCounts { ready: 3, terminating: 0 },
        session_affinity: SessionAffinity::None,
        priority: 0,
        weight: 100,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        annotations: BTreeMap::new(),
    })
}
