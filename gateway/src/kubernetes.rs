//! What a gateway has in a Kubernetes cluster beside what every gateway has: derived Services and the controllers.
//!
//! Owns their wiring and their tasks. Nothing of the data path waits for the API server: when it is away, what is known of it
//! stays in force.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Context as _;
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

use crate::{
    config::{CatalogSource, Config},
    control::asking::Asking,
};

/// The parts, before their tasks run.
#[derive(Debug)]
pub struct Kubernetes {
    derived: DerivedSource,
    controllers: Controllers,
}

impl Kubernetes {
    /// The parts of a gateway whose objects are read from an API server, and where its controllers read what is asked for;
    /// nothing for any other.
    ///
    /// # Errors
    /// When there is no way to an API server, or nothing says which pod this is.
    pub async fn open(config: &Config, registry: &mut Registry) -> anyhow::Result<Option<(Self, Asking)>> {
        match config.catalog.source {
            CatalogSource::Manifests => return Ok(None),
            CatalogSource::Kubernetes => {}
        }
        let cluster = Cluster::connect(&config.kubernetes.connect_options()).await?;
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
        let metrics = Metrics::register(registry);
        let derived = DerivedSource::new(cluster.clone(), namespace, metrics.clone());
        let controllers = Controllers::new(cluster, settings, asking.subscribe(), metrics);
        Ok(Some((Self { derived, controllers }, asking)))
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

    /// Starts the tasks; `listed` holds from when it is known where imports are reached.
    pub fn start(self, tasks: &Spawner, listed: Condition) {
        let stop = tasks.stop().clone();
        let mut derived = self.derived();
        tasks.spawn("derived-listed", OnEnd::Finishes, async move {
            // Without its sender the gateway is shutting down.
            if derived.wait_for(Option::is_some).await.is_ok() {
                listed.holds();
            }
        });
        tasks.spawn("derived-services", OnEnd::Stop, self.derived.run(stop.clone()));
        tasks.spawn("controllers", OnEnd::Stop, self.controllers.run(stop));
    }
}

/// The TCP ports that imports cannot have.
fn listened_on(config: &Config) -> BTreeSet<Port> {
    let listeners =
        [Some(config.dns.listen), Some(config.admin.listen), config.outbound.sni_listen, config.outbound.mtls_listen];
    listeners.into_iter().flatten().filter_map(|address| Port::new(address.port())).collect()
}
