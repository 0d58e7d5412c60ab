//! The control loop: objects, peers' catalogs and membership go in, one snapshot of tables comes out.
//!
//! Owns the compile and its publication. Nothing else makes tables; nothing here waits for a peer or for the federation
//! service.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use federation_catalog::{local::Compiler, merge, peers::PeerCatalogs};
use federation_kube::manifests::Manifests;
use federation_model::{
    edition::Editions, finding::Finding, member::Member, names::ClusterName, revocation::Revocations,
};
use federation_pki::trust::TrustStore;
use federation_runtime::admin::Condition;
use gateway_core::{
    addresses::RangeTooSmall,
    places::Places,
    tables::{Inputs, Tables},
};
use gateway_tunnel::TunnelEvent;
use prometheus_client::registry::Registry;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    kubernetes::Kubernetes,
    live::Live,
    membership::{Current, Membership},
    source::SourceView,
};

pub mod addressing;
pub mod asking;
pub mod first_catalogs;
mod metrics;
pub mod notices;
mod policies;

use addressing::Addressing;
use asking::{Asking, Known};
use first_catalogs::FirstCatalogs;
use metrics::Metrics;
use notices::Notices;
use policies::CompiledPolicies;

/// The least time between two compiles: a peer that changes its catalog without pause must not take a processor.
const LEAST_PAUSE: Duration = Duration::from_millis(20);

/// The other members, as the tunnels need them.
pub type Members = Arc<BTreeMap<ClusterName, Member>>;

/// What the loop listens to.
#[derive(Debug)]
pub struct ControlInputs {
    /// Objects of this cluster.
    pub manifests: watch::Receiver<Arc<Manifests>>,
    /// Every member but this cluster.
    pub members: watch::Receiver<Members>,
    /// What this cluster is a member of.
    pub membership: watch::Receiver<Current>,
    /// What is revoked: put there before the members that go with it are sent.
    pub trust: Arc<TrustStore>,
    /// What the tunnels tell of peers.
    pub events: mpsc::Receiver<TunnelEvent>,
}

/// What the loop publishes.
#[derive(Debug)]
pub struct ControlOutputs {
    /// The tables.
    pub tables: watch::Sender<Arc<Tables>>,
    /// The catalog of this cluster, as each of the others is told it.
    pub catalog: watch::Sender<Editions>,
    /// The members by which the live connections were judged last, the very value that came in.
    pub judged: watch::Sender<Members>,
    /// What the controllers are asked for, where there are any.
    pub asking: Option<Asking>,
    /// Holds from the first tables on.
    pub compiled: Condition,
    /// Holds from when the catalogs of the members known at the start are in the tables, or have been waited for.
    pub peers: Condition,
}

/// The control loop.
#[derive(Debug)]
pub struct Control {
    config: Config,
    outputs: ControlOutputs,
    live: Live,
    local: Compiler,
    notices: Notices,
    peers: PeerCatalogs,
    members: Members,
    /// What the set is called in the cluster's own objects.
    cluster_set: Option<String>,
    revocations: Arc<Revocations>,
    policies: CompiledPolicies,
    addressing: Addressing,
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
        kubernetes: Option<&Kubernetes>,
        registry: &mut Registry,
    ) -> Result<Self, RangeTooSmall> {
        Ok(Self {
            addressing: Addressing::new(config, kubernetes.map(Kubernetes::derived))?,
            config: config.clone(),
            outputs,
            live,
            local: Compiler::new(config.cluster.trust_domain.clone()),
            notices: Notices::default(),
            peers: PeerCatalogs::new(config.tunnel.hold_down),
            members: Members::default(),
            cluster_set: None,
            revocations: Arc::default(),
            policies: CompiledPolicies::default(),
            generation: 0,
            metrics: Metrics::register(registry),
        })
    }

    /// What in the objects of this cluster needs attention, as it changes.
    #[must_use]
    pub fn notices(&self) -> watch::Receiver<Arc<Vec<Finding>>> {
        self.notices.subscribe()
    }

    /// Runs from when the objects are known until `stop`: tables without them would take back what this cluster exports.
    pub async fn run_after(self, source: SourceView, inputs: ControlInputs, stop: CancellationToken) {
        let known = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            known = source.published() => known,
        };
        if known {
            self.run(inputs, stop).await;
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, mut inputs: ControlInputs, stop: CancellationToken) {
        let mut first = FirstCatalogs::of(&inputs.members.borrow(), Instant::now().into_std());
        loop {
            let manifests = inputs.manifests.borrow_and_update().clone();
            let members = inputs.members.borrow_and_update().clone();
            self.cluster_set = inputs.membership.borrow_and_update().as_deref().map(cluster_set);
            self.revocations = inputs.trust.revocations();
            let newly_assigned = self.update(&manifests, members);
            let pause = tokio::time::sleep(LEAST_PAUSE);
            self.judge_start(&mut first);
            if newly_assigned {
                self.addressing.keep().await;
            }
            let hold_down = self.peers.poll_timeout().map(|(until, _)| until);
            let wake = hold_down.into_iter().chain(first.poll_timeout()).min();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = inputs.manifests.changed() => if changed.is_err() { return },
                () = self.addressing.changed() => {}
                changed = inputs.membership.changed() => if changed.is_err() { return },
                changed = inputs.members.changed() => if changed.is_err() { return },
                event = inputs.events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return,
                },
                () = sleep_until(wake) => {
                    self.peers.handle_timeout(Instant::now().into_std());
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = pause => {}
            }
            // What has queued up meanwhile belongs to the same compile.
            while let Ok(event) = inputs.events.try_recv() {
                self.handle(event);
            }
        }
    }

    /// Says whether the tables just published are more than those of this cluster alone.
    fn judge_start(&self, first: &mut FirstCatalogs) {
        first.handle_members(&self.members);
        first.handle_arrived(self.peers.visible().map(|catalog| &catalog.cluster));
        let given_up = first.handle_timeout(Instant::now().into_std());
        if !given_up.is_empty() {
            let clusters = first_catalogs::names(&given_up);
            tracing::warn!(clusters, "ready without the catalogs of some clusters: they did not arrive in time");
        }
        match first.awaits() {
            None => self.outputs.peers.holds(),
            Some(reason) => self.outputs.peers.fails(reason),
        }
    }

    fn handle(&mut self, event: TunnelEvent) {
        let now = Instant::now().into_std();
        match event {
            TunnelEvent::Catalog { catalog, .. } => self.peers.handle_catalog(catalog),
            TunnelEvent::Reachable { cluster, reachable } => self.peers.handle_reachable(&cluster, reachable, now),
        };
    }

    /// Compiles and publishes; whether imports got addresses that are not on disk yet.
    fn update(&mut self, manifests: &Manifests, members: Members) -> bool {
        self.peers.handle_members(|cluster| members.contains_key(cluster));
        self.members = members;
        self.policies.update(&manifests.objects.policies, &self.config.policy);
        self.local.update(&manifests.objects);
        let catalog = self.local.state().catalog(self.config.cluster.name.clone());
        // The tunnels may not have noticed yet that a cluster left.
        let peers = self.peers.visible().filter(|catalog| self.members.contains_key(&catalog.cluster));
        let imports = merge::merge(std::iter::once(&catalog).chain(peers));
        let newly_assigned = self.addressing.assign(&imports);
        let imports = Arc::new(imports);
        if let Some(asking) = &self.outputs.asking {
            let (local, peers, members) = (self.local.state(), &self.peers, &self.members);
            let cluster_set = self.cluster_set.as_deref();
            asking::ask(asking, &Known { catalog: &catalog, local, peers, members, cluster_set, imports: &imports });
        }
        self.generation += 1;
        let reachable = self.peers.reachable().filter(|cluster| self.members.contains_key(*cluster));
        let reachable: BTreeSet<ClusterName> = reachable.cloned().collect();
        let peers_reachable = reachable.len();
        let tables = Arc::new(Tables::compile(Inputs {
            generation: self.generation,
            cluster: self.config.cluster.name.clone(),
            zone: self.config.dns.zone.clone(),
            imports,
            exports: self.local.state().exports.clone(),
            pods: self.local.state().pods.clone(),
            members: self.members.clone(),
            revocations: self.revocations.clone(),
            policies: self.policies.table(),
            reachable: Arc::new(reachable),
            places: self.addressing.places(),
            nameservers: Arc::new([self.config.dns.listen.ip()]),
        }));
        self.metrics.set(self.local.state(), &tables, peers_reachable, manifests);
        let known = |cluster: &ClusterName| cluster == tables.cluster() || tables.is_member(cluster);
        self.notices.update(self.local.state(), &manifests.objects.policies, known);
        self.outputs.catalog.send_if_modified(|told| told.update(&self.local.state().exports, self.members.keys()));
        self.outputs.tables.send_replace(tables.clone());
        self.outputs.compiled.holds();
        let cut = self.live.judge(&tables);
        if cut > 0 {
            tracing::info!(connections = cut, "cut connections that are no longer admitted");
        }
        self.outputs.judged.send_replace(self.members.clone());
        newly_assigned
    }
}

/// The trust domain of the federation service: the one name of the set that no two sets share.
fn cluster_set(membership: &Membership) -> String {
    membership.federation_id.trust_domain().to_string()
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
        revocations: Arc::default(),
        policies: Arc::default(),
        reachable: Arc::default(),
        places: Places::default(),
        nameservers: Arc::new([config.dns.listen.ip()]),
    })
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
