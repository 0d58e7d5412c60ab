//! The control loop: objects, peers' catalogs and membership go in, one snapshot of tables comes out.
//!
//! Owns the compile and its publication. Nothing else makes tables; nothing here waits for a peer or for the federation
//! service.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use federation_catalog::{
    local::{self, LocalState},
    merge,
    peers::PeerCatalogs,
};
use federation_kube::manifests::Manifests;
use federation_model::{catalog::Catalog, import::Imports, member::Member, names::ClusterName};
use federation_runtime::{admin::Condition, state};
use gateway_core::{
    addresses::{AddressPlan, Assignments, RangeTooSmall},
    tables::{Inputs, Tables, address_keys},
};
use gateway_tunnel::TunnelEvent;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{config::Config, live::Live};

/// The other members, as the tunnels need them.
pub type Members = Arc<BTreeMap<ClusterName, Member>>;

/// What the loop listens to.
#[derive(Debug)]
pub struct ControlInputs {
    /// Objects of this cluster.
    pub manifests: watch::Receiver<Arc<Manifests>>,
    /// Every member but this cluster.
    pub members: watch::Receiver<Members>,
    /// What the tunnels tell of peers.
    pub events: mpsc::Receiver<TunnelEvent>,
}

/// What the loop publishes.
#[derive(Debug)]
pub struct ControlOutputs {
    /// The tables.
    pub tables: watch::Sender<Arc<Tables>>,
    /// The catalog of this cluster.
    pub catalog: watch::Sender<Arc<Catalog>>,
    /// Holds from the first tables on.
    pub compiled: Condition,
}

#[derive(Debug)]
struct Metrics {
    exports: Gauge,
    imports: Gauge,
    peers_reachable: Gauge,
    quarantined: Gauge,
    generation: Gauge,
}

/// The control loop.
#[derive(Debug)]
pub struct Control {
    config: Config,
    outputs: ControlOutputs,
    live: Live,
    local: LocalState,
    peers: PeerCatalogs,
    members: Members,
    plan: AddressPlan,
    assigned: Assignments,
    addresses_file: PathBuf,
    generation: u64,
    metrics: Metrics,
}

impl Control {
    /// A loop that has read nothing yet.
    ///
    /// # Errors
    /// When `outbound.vip_cidr` holds no address.
    pub fn new(
        config: &Config,
        outputs: ControlOutputs,
        live: Live,
        registry: &mut Registry,
    ) -> Result<Self, RangeTooSmall> {
        let addresses_file = config.state.dir.join("addresses.json");
        Ok(Self {
            plan: AddressPlan::new(config.outbound.vip_cidr)?,
            assigned: load_assignments(&addresses_file),
            addresses_file,
            config: config.clone(),
            outputs,
            live,
            local: LocalState::default(),
            peers: PeerCatalogs::new(config.tunnel.hold_down),
            members: Members::default(),
            generation: 0,
            metrics: Metrics::register(registry),
        })
    }

    /// Runs until `stop`.
    pub async fn run(mut self, mut inputs: ControlInputs, stop: CancellationToken) {
        loop {
            let manifests = inputs.manifests.borrow_and_update().clone();
            let members = inputs.members.borrow_and_update().clone();
            self.update(&manifests, members);
            let hold_down = self.peers.poll_timeout();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = inputs.manifests.changed() => if changed.is_err() { return },
                changed = inputs.members.changed() => if changed.is_err() { return },
                event = inputs.events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return,
                },
                () = sleep_until(hold_down) => {
                    self.peers.handle_timeout(Instant::now().into_std());
                }
            }
            // What has queued up meanwhile belongs to the same compile.
            while let Ok(event) = inputs.events.try_recv() {
                self.handle(event);
            }
        }
    }

    fn handle(&mut self, event: TunnelEvent) {
        let now = Instant::now().into_std();
        match event {
            TunnelEvent::Catalog { catalog, .. } => self.peers.handle_catalog(catalog),
            TunnelEvent::Reachable { cluster, reachable } => self.peers.handle_reachable(&cluster, reachable, now),
        };
    }

    fn update(&mut self, manifests: &Manifests, members: Members) {
        for gone in self.members.keys().filter(|cluster| !members.contains_key(*cluster)) {
            self.peers.handle_removed(gone);
        }
        self.members = members;
        self.local = local::compile(&manifests.objects, &self.config.cluster.trust_domain);
        let catalog = self.local.catalog(self.config.cluster.name.clone());
        let imports = merge::merge(std::iter::once(&catalog).chain(self.peers.visible()));
        self.assign(&imports);
        self.generation += 1;
        let reachable: BTreeSet<ClusterName> = self.peers.reachable().cloned().collect();
        let peers_reachable = reachable.len();
        let tables = Arc::new(Tables::compile(Inputs {
            generation: self.generation,
            cluster: self.config.cluster.name.clone(),
            zone: self.config.dns.zone.clone(),
            imports: Arc::new(imports),
            exports: Arc::new(self.local.exports.clone()),
            pods: Arc::new(self.local.pods.clone()),
            members: self.members.clone(),
            reachable: Arc::new(reachable),
            addresses: Arc::new(self.assigned.clone()),
            nameservers: Arc::new([self.config.dns.listen.ip()]),
        }));
        self.metrics.set(&self.local, &tables, peers_reachable, manifests.quarantined.len());
        self.outputs.catalog.send_if_modified(|current| {
            let changed = **current != catalog;
            if changed {
                *current = Arc::new(catalog);
            }
            changed
        });
        self.outputs.tables.send_replace(tables.clone());
        self.outputs.compiled.holds();
        let cut = self.live.judge(&tables);
        if cut > 0 {
            tracing::info!(connections = cut, "cut connections that are no longer admitted");
        }
    }

    fn assign(&mut self, imports: &Imports) {
        let assigned = self.plan.assign(&self.assigned, &address_keys(imports));
        for refused in &assigned.refused {
            tracing::warn!(error = %refused, "an import has no address");
        }
        if assigned.assignments == self.assigned {
            return;
        }
        self.assigned = assigned.assignments;
        match serde_json::to_vec_pretty(&self.assigned) {
            Ok(json) => {
                if let Err(error) = state::write_private(&self.addresses_file, &json) {
                    tracing::warn!(%error, "cannot keep the import addresses; they may differ after a restart");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot write the import addresses as JSON"),
        }
    }
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
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
            generation: gauge(registry, "tables_generation", "Number of the tables in force"),
        }
    }

    fn set(&self, local: &LocalState, tables: &Tables, reachable: usize, quarantined: usize) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.exports.set(count(local.exports.len()));
        self.imports.set(count(tables.imports().len()));
        self.peers_reachable.set(count(reachable));
        self.quarantined.set(count(quarantined));
        self.generation.set(i64::try_from(tables.generation()).unwrap_or(i64::MAX));
    }
}

/// The tables of a gateway that has read nothing yet.
#[must_use]
pub fn first_tables(config: &Config) -> Tables {
    Tables::compile(Inputs {
        generation: 0,
        cluster: config.cluster.name.clone(),
        zone: config.dns.zone.clone(),
        imports: Arc::default(),
        exports: Arc::default(),
        pods: Arc::default(),
        members: Arc::default(),
        reachable: Arc::default(),
        addresses: Arc::default(),
        nameservers: Arc::new([config.dns.listen.ip()]),
    })
}

fn load_assignments(file: &std::path::Path) -> Assignments {
    match state::read_private(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(file = %file.display(), %error, "cannot read the import addresses; they are assigned anew");
            Assignments::default()
        }),
        Err(state::StateError::Missing(_)) => Assignments::default(),
        Err(error) => {
            tracing::warn!(%error, "cannot read the import addresses; they are assigned anew");
            Assignments::default()
        }
    }
}

async fn sleep_until(deadline: Option<(std::time::Instant, &str)>) {
    match deadline {
        Some((deadline, _)) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
