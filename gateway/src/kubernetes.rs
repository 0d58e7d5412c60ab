//! What a gateway has in a Kubernetes cluster beside what every gateway has: derived Services and the controllers.
//!
//! Owns their wiring and their tasks, and that of the look at the cluster's DNS. Nothing of the data path waits for the API
//! server: when it is away, what is known of it stays in force.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Context as _;
use federation_catalog::reach::Reach;
use federation_kube::{
    connect::Cluster,
    controllers::{Controllers, Settings, metrics::Metrics},
    derived::{Derived, DerivedSource},
};
use federation_model::{addr::Port, finding::Finding};
use federation_runtime::{
    admin::Condition,
    tasks::{OnEnd, Spawner},
};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

pub mod state;

use state::KeptState;

use crate::{
    config::{CatalogSource, Config},
    control::asking::Asking,
    delegated::Delegated,
};

/// The connection to the API server of a gateway whose objects are read from one; nothing for any other.
///
/// # Errors
/// When there is no way to an API server.
pub async fn connect(config: &Config) -> anyhow::Result<Option<Cluster>> {
    match config.catalog.source {
        CatalogSource::Manifests => Ok(None),
        CatalogSource::Kubernetes => {
            let context = "`catalog.source` is \"kubernetes\", and there is no API server to read from; \
                           set `kubernetes.kubeconfig` outside a cluster";
            let cluster = Cluster::connect(&config.kubernetes.connect_options()).await.context(context)?;
            tracing::info!(server = cluster.server(), "objects are read from the API server");
            Ok(Some(cluster))
        }
    }
}

/// Brings back the state that earlier pods had, where it is kept in a Secret.
///
/// # Errors
/// When it cannot be read, or nothing says which namespace this is.
pub async fn restore(config: &Config, cluster: Option<&Cluster>) -> anyhow::Result<Option<KeptState>> {
    let (Some(cluster), Some(name)) = (cluster, &config.kubernetes.state_secret) else { return Ok(None) };
    let namespace = config.kubernetes.own_namespace()?;
    KeptState::restore(cluster, namespace.as_str(), name, &config.state.dir).await.map(Some)
}

/// The parts, before their tasks run.
#[derive(Debug)]
pub struct Kubernetes {
    derived: DerivedSource,
    controllers: Controllers,
    asking: Asking,
    delegated: Option<Delegated>,
}

/// What the tasks need of the rest of the gateway.
#[derive(Debug)]
pub struct Around {
    /// The state that is kept for the next pod.
    pub kept: Option<KeptState>,
    /// Where the exports of this cluster have arrived.
    pub reach: watch::Receiver<Arc<Reach>>,
    /// Holds from when it is known where imports are reached.
    pub listed: Condition,
}

impl Kubernetes {
    /// The parts of a gateway with an API server.
    ///
    /// # Errors
    /// When nothing says which pod this is.
    pub fn open(config: &Config, cluster: Cluster, registry: &mut Registry) -> anyhow::Result<Self> {
        let namespace = config.kubernetes.own_namespace()?;
        let pod = config.kubernetes.pod_name().context(
            "the name of this gateway's pod is not known: set kubernetes.pod, or POD_NAME from metadata.name in the pod",
        )?;
        let asking = Asking::new(None);
        let settings = Settings {
            cluster: config.cluster.name.clone(),
            namespace: namespace.clone(),
            namespaces: config.kubernetes.namespaces.clone(),
            pod,
            import_ports: config.kubernetes.import_ports,
            reserved: listened_on(config),
        };
        let delegated = Delegated::of(config, registry);
        let metrics = Metrics::register(registry);
        let derived = DerivedSource::new(cluster.clone(), namespace, metrics.clone());
        let controllers = Controllers::new(cluster, settings, asking.subscribe(), metrics);
        Ok(Self { derived, controllers, asking, delegated })
    }

    /// Where the controllers read what they are asked for.
    #[must_use]
    pub fn asking(&self) -> Asking {
        self.asking.clone()
    }

    /// The derived Services, as they change.
    #[must_use]
    pub fn derived(&self) -> Derived {
        self.derived.subscribe()
    }

    /// What does not come to be in the cluster, as it changes.
    #[must_use]
    pub fn findings(&self) -> watch::Receiver<Arc<Vec<Finding>>> {
        self.controllers.findings()
    }

    /// Whether the DNS of the cluster asks the gateways, where this gateway can tell.
    #[must_use]
    pub fn delegated(&self) -> Option<Delegated> {
        self.delegated.clone()
    }

    /// Starts the tasks.
    pub fn start(self, tasks: &Spawner, around: Around) {
        let Around { kept, reach, listed } = around;
        let stop = tasks.stop().clone();
        if let Some(kept) = kept {
            let again = tasks.stop_program().clone();
            tasks.spawn("state", OnEnd::Stop, kept.follow(self.controllers.leading(), again, stop.clone()));
        }
        let mut derived = self.derived();
        tasks.spawn("derived-listed", OnEnd::Finishes, async move {
            // Without its sender the gateway is shutting down.
            if derived.wait_for(Option::is_some).await.is_ok() {
                listed.holds();
            }
        });
        if let Some(delegated) = self.delegated {
            tasks.spawn("delegated", OnEnd::Stop, delegated.run(stop.clone()));
        }
        tasks.spawn("derived-services", OnEnd::Stop, self.derived.run(stop.clone()));
        tasks.spawn("controllers", OnEnd::Stop, self.controllers.run(reach, stop));
    }
}

/// The TCP ports that imports cannot have.
fn listened_on(config: &Config) -> BTreeSet<Port> {
    let listeners =
        [Some(config.dns.listen), Some(config.admin.listen), config.outbound.sni_listen, config.outbound.mtls_listen];
    listeners.into_iter().flatten().filter_map(|address| Port::new(address.port())).collect()
}
