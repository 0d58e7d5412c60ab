//! The derived Services of a cluster, as every one of its gateways reads them.
//!
//! Owns one watch, on the gateway's own namespace: what stands there is where imports are reached and which ports lead to
//! them. Never writes: the gateway that leads does.

use std::{collections::BTreeMap, sync::Arc};

use federation_catalog::desired::{MANAGED_BY, MANAGER};
use federation_model::{
    derived::{DerivedAddresses, PlacedService},
    names::Namespace,
};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    connect::Cluster,
    controllers::{metrics::Metrics, read},
};

/// The derived Services there are; nothing before they have been listed once.
pub type Derived = watch::Receiver<Option<Arc<DerivedAddresses>>>;

/// Follows the derived Services.
#[derive(Debug)]
pub struct DerivedSource {
    cluster: Cluster,
    namespace: Namespace,
    published: watch::Sender<Option<Arc<DerivedAddresses>>>,
    metrics: Metrics,
}

impl DerivedSource {
    /// A source that has listed nothing yet.
    #[must_use]
    pub fn new(cluster: Cluster, namespace: Namespace, metrics: Metrics) -> Self {
        Self { cluster, namespace, published: watch::Sender::new(None), metrics }
    }

    /// The derived Services, as they change.
    #[must_use]
    pub fn subscribe(&self) -> Derived {
        self.published.subscribe()
    }

    /// Follows them until `stop`. What is known stays while the API server is away.
    pub async fn run(self, stop: CancellationToken) {
        let api: Api<Service> = Api::namespaced(self.cluster.client(), self.namespace.as_str());
        let config = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut known: BTreeMap<String, PlacedService> = BTreeMap::new();
        let mut listed = BTreeMap::new();
        let mut said = None;
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    said = None;
                    if take(event, &mut known, &mut listed) {
                        self.publish(&known);
                    }
                }
                Some(Err(error)) => {
                    let words = error.to_string();
                    if said.as_ref() != Some(&words) {
                        tracing::warn!(error = %words, "cannot watch the derived Services; the last known ones stay in force");
                        said = Some(words);
                    }
                }
                // A watch of this kind begins anew by itself and has no end.
                None => return,
            }
        }
    }

    fn publish(&self, known: &BTreeMap<String, PlacedService>) {
        let addresses = DerivedAddresses::new(known.values());
        self.metrics.allocated(addresses.allocated().count());
        self.published.send_if_modified(|current| {
            let changed = current.as_deref() != Some(&addresses);
            if changed {
                *current = Some(Arc::new(addresses));
            }
            changed
        });
    }
}

/// Takes one event up; whether what is known may have changed. While everything is listed anew, the old state stays.
fn take(
    event: watcher::Event<Service>,
    known: &mut BTreeMap<String, PlacedService>,
    listed: &mut BTreeMap<String, PlacedService>,
) -> bool {
    let entry = |service: &Service| Some((service.metadata.name.clone()?, read::placed(service)?));
    match event {
        watcher::Event::Init => listed.clear(),
        watcher::Event::InitApply(service) => listed.extend(entry(&service)),
        watcher::Event::InitDone => {
            *known = std::mem::take(listed);
            return true;
        }
        watcher::Event::Apply(service) => {
            if let Some(name) = &service.metadata.name {
                known.remove(name);
            }
            known.extend(entry(&service));
            return true;
        }
        watcher::Event::Delete(service) => {
            if let Some(name) = &service.metadata.name {
                known.remove(name);
            }
            return true;
        }
    }
    false
}
