use federation_model::{
    addr::Transport,
    catalog::{Catalog, EndpointCounts, ExportedService, ServiceKind, ServicePort, SessionAffinity},
    derived::{DerivedService, PlacedService},
    names::EndpointName,
};

use super::{
    derived_services::PresentService,
    service_imports::PresentImport,
    slices::{Family, GatewayPod, PresentSlice},
    statuses::{PresentCondition, PresentExport, StampedCondition},
    *,
};
use crate::{conditions::ExportConditions, merge};

mod garbage;
mod imports;
mod properties_of;
mod services;
mod statuses_of;

const NOW: Timestamp = Timestamp(1_000);

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn service(key: &str) -> ServiceKey {
    key.parse().unwrap()
}

fn port(text: &str) -> ServicePort {
    let (name, number) = text.split_once(':').map_or((None, text), |(name, number)| (Some(name), number));
    ServicePort {
        name: name.map(|name| name.parse().unwrap()),
        transport: Transport::Tcp,
        port: Port::new(number.parse().unwrap()).unwrap(),
        app_protocol: None,
    }
}

fn exported(ports: &[&str]) -> ExportedService {
    ExportedService {
        exported_at: Timestamp(1),
        kind: ServiceKind::ClusterSetIp,
        ports: ports.iter().map(|text| port(text)).collect(),
        health: EndpointCounts { ready: 1, terminating: 0 },
        session_affinity: SessionAffinity::None,
        priority: 0,
        weight: 100,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

fn headless(ports: &[&str], endpoints: &[&str]) -> ExportedService {
    let endpoints: Vec<EndpointName> = endpoints.iter().map(|name| name.parse().unwrap()).collect();
    ExportedService { kind: ServiceKind::Headless(endpoints), ..exported(ports) }
}

/// A cluster with its gateways and its API server, where every change that is planned is made.
struct World {
    planner: Planner,
    imports: Imports,
    reachable: BTreeSet<ClusterName>,
    unheard: BTreeSet<ClusterName>,
    exports: BTreeMap<ServiceKey, Vec<Condition>>,
    present: Present,
    now: Timestamp,
    cluster_set: Option<String>,
    made: u32,
}

impl World {
    fn new() -> Self {
        let pod = GatewayPod {
            ips: vec!["10.244.0.7".parse().unwrap(), "fd00:1::7".parse().unwrap()],
            ready: true,
            terminating: false,
            node: Some("node-1".to_owned()),
            uid: "pod-uid".to_owned(),
        };
        let present = Present {
            namespaces: ["shop".parse().unwrap()].into(),
            gateways: [("gateway-0".to_owned(), pod)].into(),
            ..Present::default()
        };
        Self {
            planner: Planner::new("20000-20099".parse().unwrap(), BTreeSet::new()),
            imports: Imports::new(),
            reachable: ["west"].map(cluster).into(),
            unheard: BTreeSet::new(),
            exports: BTreeMap::new(),
            present,
            now: NOW,
            cluster_set: None,
            made: 0,
        }
    }

    /// What the clusters export, by cluster, service and export.
    fn exporting(mut self, exports: &[(&str, &str, ExportedService)]) -> Self {
        self.export(exports);
        self
    }

    fn export(&mut self, exports: &[(&str, &str, ExportedService)]) {
        let mut catalogs: BTreeMap<ClusterName, Catalog> = BTreeMap::new();
        for (name, key, export) in exports {
            let catalog = catalogs.entry(cluster(name)).or_insert_with(|| Catalog::empty(cluster(name)));
            catalog.services.insert(service(key), export.clone());
        }
        self.imports = merge::merge(catalogs.values());
    }

    fn plan(&mut self) -> Plan {
        let east = cluster("east");
        let wanted = Wanted {
            cluster: &east,
            cluster_set: self.cluster_set.as_deref(),
            imports: &self.imports,
            reachable: &self.reachable,
            unheard: &self.unheard,
            exports: &self.exports,
        };
        self.planner.plan(&wanted, &self.present, self.now)
    }

    /// Plans and makes the changes until there are none; what was planned, all together.
    fn settle(&mut self) -> Vec<Change> {
        let mut all = Vec::new();
        for _ in 0..10 {
            let changes = self.plan().changes;
            if changes.is_empty() {
                return all;
            }
            changes.iter().cloned().for_each(|change| self.make(change));
            all.extend(changes);
        }
        panic!("the changes never end: {all:?}");
    }

    /// Does what an API server does with a change.
    fn make(&mut self, change: Change) {
        self.made += 1;
        let number = u8::try_from(self.made % 250).unwrap();
        match change {
            Change::Service(spec) => {
                let before = self.present.services.remove(&spec.name);
                let placed = before.as_ref().and_then(|before| before.placed.clone());
                let addresses = placed.as_ref().map_or_else(
                    || vec![[10, 96, 0, number].into(), format!("fd00::{number}").parse().unwrap()],
                    |placed| placed.addresses.clone(),
                );
                let created = placed.map_or(self.now, |placed| placed.created);
                let there = PresentService {
                    uid: before.map_or_else(|| format!("uid-{number}"), |before| before.uid),
                    ours: true,
                    placed: Some(PlacedService { service: spec.service, addresses, created }),
                    exporters: spec.exporters,
                };
                self.present.services.insert(spec.name, there);
            }
            Change::Slice(spec) => {
                let there = PresentSlice {
                    uid: "slice".to_owned(),
                    ours: true,
                    service: spec.service.clone(),
                    spec: Some(spec.clone()),
                };
                self.present.slices.insert(spec.name, there);
            }
            Change::Import(spec) => {
                let mut annotations = spec.annotations.clone();
                annotations.insert(WRITTEN.to_owned(), spec.written());
                let before = self.present.imports.remove(&spec.key);
                let there = PresentImport {
                    uid: "import".to_owned(),
                    generation: before.as_ref().map_or(1, |before| before.generation + 1),
                    ours: true,
                    labels: labels(spec.labels.clone()),
                    annotations,
                    fields: Some(spec.fields),
                    exporters: spec.exporters,
                    clusters: before.as_ref().map_or_else(BTreeSet::new, |before| before.clusters.clone()),
                    conditions: before.map_or_else(Vec::new, |before| before.conditions),
                };
                self.present.imports.insert(spec.key, there);
            }
            Change::ImportStatus(status) => {
                if let Some(there) = self.present.imports.get_mut(&status.key) {
                    there.clusters = status.clusters.iter().map(ToString::to_string).collect();
                    there.conditions = status.conditions.iter().map(stored).collect();
                }
            }
            Change::ExportStatus(status) => {
                if let Some(there) = self.present.exports.get_mut(&status.key) {
                    there.conditions = status.conditions.iter().map(stored).collect();
                }
            }
            Change::Property(spec) => {
                let there = PresentProperty { uid: "property".to_owned(), ours: true, value: spec.value };
                self.present.properties.as_mut().unwrap().insert(spec.name.to_owned(), there);
            }
            Change::DeleteProperty { name, .. } => drop(self.present.properties.as_mut().unwrap().remove(name)),
            Change::DeleteImport { key, .. } => drop(self.present.imports.remove(&key)),
            Change::DeleteSlice { name, .. } => drop(self.present.slices.remove(&name)),
            Change::DeleteService { name, .. } => drop(self.present.services.remove(&name)),
        }
    }

    fn derived(&self, key: &str) -> &DerivedService {
        let name = DerivedService::name_of(&key.parse().unwrap());
        &self.present.services[&name].placed.as_ref().unwrap().service
    }

    fn import(&self, key: &str) -> &PresentImport {
        &self.present.imports[&service(key)]
    }
}

fn labels(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn stored(stamped: &StampedCondition) -> PresentCondition {
    PresentCondition {
        kind: stamped.condition.kind.to_string(),
        status: stamped.condition.status.to_string(),
        reason: stamped.condition.reason.clone(),
        message: stamped.condition.message.clone(),
        generation: stamped.generation,
        since: stamped.since,
    }
}
