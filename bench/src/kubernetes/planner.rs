//! What one comparison of all objects costs, without an API server.
//!
//! Owns a cluster in memory where every change that is planned is made. Never waits.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use anyhow::ensure;
use federation_catalog::desired::{
    Change, MANAGED_BY, MANAGER, Planner, Present, WRITTEN, Wanted,
    derived_services::PresentService,
    service_imports::PresentImport,
    slices::{GatewayPod, PresentSlice},
    statuses::{PresentCondition, PresentExport, StampedCondition},
};
use federation_kube::controllers::Asked;
use federation_model::{derived::PlacedService, names::ClusterName, time::Timestamp};

use super::world::{Event, NAMESPACE, Size, World};

/// The ports imports have by default.
pub(crate) const PORTS: &str = "20000-29999";
/// Passes after which nothing may be left to write.
const PASSES: usize = 5;

/// The figures.
pub(crate) struct Costs {
    pub(crate) merge: Vec<f64>,
    pub(crate) from_nothing: Vec<f64>,
    pub(crate) one_change: Vec<f64>,
    pub(crate) a_cluster_less: Vec<f64>,
    pub(crate) at_rest: Vec<f64>,
}

/// Measures them, in milliseconds.
pub(crate) fn measure(size: Size, rounds: u32) -> anyhow::Result<Costs> {
    let [mut merge, mut from_nothing, mut one_change, mut a_cluster_less, mut at_rest] = [const { Vec::new() }; 5];
    for _ in 0..rounds {
        let mut world = World::new(size)?;
        let start = Instant::now();
        let asked = world.asked();
        merge.push(millis(start));
        let mut cluster = Cluster::new(&world)?;
        from_nothing.push(cluster.plan(&asked).0);
        cluster.settle(&asked)?;
        at_rest.push(cluster.plan(&asked).0);
        Event::Appears.happen(&mut world)?;
        let asked = world.asked();
        one_change.push(cluster.plan(&asked).0);
        cluster.settle(&asked)?;
        Event::Unreachable.happen(&mut world)?;
        let asked = world.asked();
        a_cluster_less.push(cluster.plan(&asked).0);
    }
    Ok(Costs { merge, from_nothing, one_change, a_cluster_less, at_rest })
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// A cluster with two gateway pods.
struct Cluster {
    name: ClusterName,
    planner: Planner,
    present: Present,
    made: u32,
}

impl Cluster {
    fn new(world: &World) -> anyhow::Result<Self> {
        let pod = |number: u8| GatewayPod {
            ips: vec![Ipv4Addr::new(10, 244, number, 7).into()],
            ready: true,
            terminating: false,
            node: Some(format!("node-{number}")),
            uid: format!("pod-{number}"),
        };
        let export = |_| PresentExport { generation: 1, conditions: Vec::new() };
        let present = Present {
            namespaces: [NAMESPACE.parse()?].into(),
            gateways: (0..2).map(|number| (format!("gateway-{number}"), pod(number))).collect(),
            exports: world.own_exports().map(|key| (key.clone(), export(key))).collect(),
            ..Present::default()
        };
        let planner = Planner::new(PORTS.parse()?, [].into());
        Ok(Self { name: world.own().clone(), planner, present, made: 0 })
    }

    /// How long a plan takes, and what is planned.
    fn plan(&mut self, asked: &Asked) -> (f64, Vec<Change>) {
        let wanted = Wanted {
            cluster: &self.name,
            cluster_set: None,
            imports: &asked.imports,
            reachable: &asked.reachable,
            unheard: &asked.unheard,
            exports: &asked.exports,
        };
        let start = Instant::now();
        let plan = self.planner.plan(&wanted, &self.present, Timestamp(2_000));
        (millis(start), plan.changes)
    }

    fn settle(&mut self, asked: &Asked) -> anyhow::Result<()> {
        for _ in 0..PASSES {
            for change in self.plan(asked).1 {
                self.make(change);
            }
        }
        ensure!(self.plan(asked).1.is_empty(), "what was written is not planned again");
        Ok(())
    }

    /// Does what an API server does with a change.
    fn make(&mut self, change: Change) {
        self.made += 1;
        match change {
            Change::Service(spec) => {
                let address = || vec![IpAddr::from(Ipv4Addr::from_bits(0x0a60_0000 + self.made))];
                let before = self.present.services.get(&spec.name).and_then(|before| before.placed.as_ref());
                let addresses = before.map_or_else(address, |placed| placed.addresses.clone());
                let placed = PlacedService { service: spec.service, addresses, created: Timestamp(1) };
                let uid = format!("uid-of-{}", spec.name);
                let there = PresentService { uid, ours: true, placed: Some(placed), exporters: spec.exporters };
                self.present.services.insert(spec.name, there);
            }
            Change::Slice(spec) => {
                let (name, service) = (spec.name.clone(), spec.service.clone());
                let there = PresentSlice { uid: name.clone(), ours: true, service, spec: Some(spec) };
                self.present.slices.insert(name, there);
            }
            Change::Import(spec) => {
                let before = self.present.imports.remove(&spec.key);
                let marked = |mut map: BTreeMap<String, String>, name: &str, value: String| {
                    map.insert(name.to_owned(), value);
                    map
                };
                let there = PresentImport {
                    uid: spec.key.to_string(),
                    generation: before.as_ref().map_or(1, |before| before.generation + 1),
                    ours: true,
                    annotations: marked(spec.annotations.clone(), WRITTEN, spec.written()),
                    labels: marked(spec.labels, MANAGED_BY, MANAGER.to_owned()),
                    fields: Some(spec.fields),
                    exporters: spec.exporters,
                    clusters: before.as_ref().map_or_else(Default::default, |before| before.clusters.clone()),
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
            Change::DeleteImport { key, .. } => drop(self.present.imports.remove(&key)),
            Change::DeleteSlice { name, .. } => drop(self.present.slices.remove(&name)),
            Change::DeleteService { name, .. } => drop(self.present.services.remove(&name)),
            // Where the kind is not served nothing is planned of it.
            Change::Property(_) | Change::DeleteProperty { .. } => {}
        }
    }
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
