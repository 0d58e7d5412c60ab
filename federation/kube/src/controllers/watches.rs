//! What the controllers watch.
//!
//! Owns the streams of events, and which version of the multi-cluster services API there is. Whatever happens to a watch, the
//! last known objects stay: an API server that is away changes nothing. Never writes.

use std::{collections::BTreeMap, time::Duration};

use federation_catalog::desired::Present;
use federation_model::names::{Namespace, ServiceKey};
use futures::{
    StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use k8s_openapi::{
    api::{
        core::v1::{Namespace as NamespaceObject, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::{APIGroup, ObjectMeta},
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject},
    core::{GroupVersionKind, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{
    Settings,
    known::{Known, Listed, Object},
    read,
};
use crate::{call::CallError, connect::Cluster, crd::GROUP};

/// The API group of ClusterProperty.
const ABOUT: &str = "about.k8s.io";
/// The versions of both groups, the preferred one first.
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
/// How many objects are asked for at a time.
const PAGE: u32 = 500;
/// The label of gateway pods.
const POD_LABEL: &str = "app.kubernetes.io/name=landbridge-gateway";

/// What the watch of a number says.
type Told = (usize, watcher::Result<Event<Option<Object>>>);

/// The watches, driven by [`Watches::next`].
pub(super) struct Watches {
    streams: SelectAll<BoxStream<'static, Told>>,
    known: Known,
    served: Served,
    /// The kinds whose last attempt failed, so that it is said once.
    failing: BTreeMap<&'static str, String>,
}

/// Which versions of the optional kinds there are, group included.
#[derive(Debug, Clone, Default)]
pub(super) struct Served {
    /// That of ServiceExport and ServiceImport, such as `multicluster.x-k8s.io/v1beta1`.
    pub(super) services: Option<String>,
    /// That of ClusterProperty.
    pub(super) properties: Option<String>,
}

impl Watches {
    /// Starts to watch; asks first which version of the API there is.
    pub(super) async fn start(cluster: &Cluster, settings: &Settings) -> Result<Self, CallError> {
        let client = cluster.client();
        let whole_cluster = settings.namespaces.is_empty();
        let served = served(&client, whole_cluster).await;
        let served = served.map_err(|error| CallError::of(&error, cluster.server()))?;
        let known = Known::new(settings.namespaces.iter().cloned());
        let mut watches = Self { streams: SelectAll::new(), known, served: served.clone(), failing: BTreeMap::new() };
        let own = settings.namespace.as_str();
        if whole_cluster {
            watches.add(Listed::Namespaces, Api::all(client.clone()), config(), namespace);
        }
        watches.add(Listed::Services, Api::namespaced(client.clone(), own), config(), service);
        watches.add(Listed::Slices, Api::namespaced(client.clone(), own), config(), slice);
        watches.add(Listed::Pods, Api::namespaced(client.clone(), own), config().labels(POD_LABEL), pod);
        if let Some(version) = &served.services {
            let (exports, imports) = (resource(version, "ServiceExport"), resource(version, "ServiceImport"));
            for scope in scopes(&settings.namespaces) {
                let api = |resource| match &scope {
                    Some(namespace) => Api::namespaced_with(client.clone(), namespace.as_str(), resource),
                    None => Api::all_with(client.clone(), resource),
                };
                let [of_exports, of_imports] = [&exports, &imports].map(api);
                watches.add(Listed::Exports(scope.clone()), of_exports, config(), export);
                watches.add(Listed::Imports(scope.clone()), of_imports, config(), import);
            }
        }
        if let Some(version) = &served.properties {
            let resource = resource(version, "ClusterProperty");
            watches.add(Listed::Properties, Api::all_with(client, &resource), config(), property);
        }
        Ok(watches)
    }

    /// Returns when something changed; safe to cancel. An error when the kinds of the API were taken away, or came.
    pub(super) async fn next(&mut self) -> Result<(), CallError> {
        // The streams never end; if they did, nothing would be known to change.
        while let Some((number, told)) = self.streams.next().await {
            match told {
                Ok(event) => {
                    if self.known.take(number, event) {
                        return Ok(());
                    }
                }
                Err(error) => self.failed(number, &error)?,
            }
        }
        std::future::pending().await
    }

    fn failed(&mut self, number: usize, error: &watcher::Error) -> Result<(), CallError> {
        let what = self.known.listed(number).map_or("objects", Listed::label);
        self.tell(what, error);
        if matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.is_not_found()) {
            return Err(CallError::NotFound { reason: format!("{what} are not served any more") });
        }
        Ok(())
    }

    fn tell(&mut self, what: &'static str, error: &watcher::Error) {
        let words = error.to_string();
        if self.failing.get(what) != Some(&words) {
            tracing::warn!(kind = what, error = %words, "cannot watch; what is known of them stays in force");
            self.failing.insert(what, words);
        }
    }

    /// Whether every kind has been listed once.
    pub(super) fn is_complete(&self) -> bool {
        self.known.is_complete()
    }

    /// Which of the optional kinds there are.
    pub(super) fn served(&self) -> &Served {
        &self.served
    }

    /// The objects as they are known now.
    pub(super) fn present(&self) -> &Present {
        self.known.present()
    }

    fn add<K>(&mut self, of: Listed, api: Api<K>, config: watcher::Config, read: fn(&K) -> Option<Object>)
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let number = self.known.expect(of);
        let events = watcher(api, config).default_backoff();
        let told = move |event: watcher::Result<Event<K>>| (number, event.map(|event| read_in(event, read)));
        self.streams.push(events.map(told).boxed());
    }
}

/// The event with its object read: what is not kept of it ends here.
fn read_in<K>(event: Event<K>, read: impl Fn(&K) -> Option<Object>) -> Event<Option<Object>> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(read(&object)),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(read(&object)),
        Event::Delete(object) => Event::Delete(read(&object)),
    }
}

fn namespace(object: &PartialObjectMeta<NamespaceObject>) -> Option<Object> {
    Some(Object::Namespace(object.metadata.name.as_deref()?.parse().ok()?))
}

fn service(object: &Service) -> Option<Object> {
    Some(Object::Service(object.metadata.name.clone()?, read::service(object)))
}

fn slice(object: &EndpointSlice) -> Option<Object> {
    Some(Object::Slice(object.metadata.name.clone()?, read::slice(object)))
}

fn pod(object: &Pod) -> Option<Object> {
    Some(Object::Gateway(object.metadata.name.clone()?, read::gateway_pod(object)))
}

fn export(object: &DynamicObject) -> Option<Object> {
    Some(Object::Export(key(object)?, read::export(object)))
}

fn import(object: &DynamicObject) -> Option<Object> {
    Some(Object::Import(key(object)?, Box::new(read::import(object))))
}

fn property(object: &DynamicObject) -> Option<Object> {
    Some(Object::Property(object.metadata.name.clone()?, read::property(object)))
}

fn key(object: &DynamicObject) -> Option<ServiceKey> {
    let ObjectMeta { namespace, name, .. } = &object.metadata;
    Some(ServiceKey::new(namespace.as_deref()?.parse().ok()?, name.as_deref()?.parse().ok()?))
}

/// The namespaces that are watched one by one, or the whole cluster.
fn scopes(namespaces: &[Namespace]) -> Vec<Option<Namespace>> {
    if namespaces.is_empty() { vec![None] } else { namespaces.iter().cloned().map(Some).collect() }
}

fn config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// A kind of `version`, such as `multicluster.x-k8s.io/v1beta1`.
pub(super) fn resource(version: &str, kind: &str) -> ApiResource {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let plural = match kind {
        "ClusterProperty" => "clusterproperties".to_owned(),
        kind => format!("{}s", kind.to_ascii_lowercase()),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural)
}

/// The versions that are served; properties of the cluster are nothing for a gateway of some namespaces.
async fn served(client: &Client, whole_cluster: bool) -> kube::Result<Served> {
    let groups = client.list_api_groups().await?.groups;
    let services = served_version(client, &groups, GROUP, &["ServiceExport", "ServiceImport"]).await?;
    let properties =
        if whole_cluster { served_version(client, &groups, ABOUT, &["ClusterProperty"]).await? } else { None };
    Ok(Served { services, properties })
}

/// The preferred version of a group that has all these kinds.
async fn served_version(
    client: &Client,
    groups: &[APIGroup],
    name: &str,
    kinds: &[&str],
) -> kube::Result<Option<String>> {
    let Some(group) = groups.iter().find(|group| group.name == name) else { return Ok(None) };
    for version in VERSIONS.iter().filter(|version| group.versions.iter().any(|served| served.version == ***version)) {
        let version = format!("{name}/{version}");
        let resources = client.list_api_group_resources(&version).await?.resources;
        if kinds.iter().all(|kind| resources.iter().any(|resource| resource.kind == *kind)) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// How long to wait before it is looked again which kinds are served.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(10);
