//! What the controllers watch.
//!
//! Owns the stores of objects, and which version of the multi-cluster services API there is. Whatever happens to a watch, the
//! last known objects stay: an API server that is away changes nothing. Never writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use federation_catalog::desired::Present;
use federation_model::names::{Namespace, ServiceKey};
use futures::{
    Stream, StreamExt as _,
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
        WatchStreamExt as _, reflector,
        reflector::{Lookup, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;

use super::{Settings, read};
use crate::{call::CallError, connect::Cluster, crd::GROUP};

/// The API group of ClusterProperty.
const ABOUT: &str = "about.k8s.io";
/// The versions of both groups, the preferred one first.
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
/// How many objects are asked for at a time.
const PAGE: u32 = 500;
/// The label of gateway pods.
const POD_LABEL: &str = "app.kubernetes.io/name=landbridge-gateway";

/// What a watch says: that something changed, and whether its number has listed everything by now.
type Told = Result<Option<usize>, (&'static str, watcher::Error)>;

/// The streams of all watches.
#[derive(Default)]
struct Streams {
    all: SelectAll<BoxStream<'static, Told>>,
    /// How many there are; also the number of the next one.
    count: usize,
    /// Those that have not listed everything yet.
    waiting: BTreeSet<usize>,
}

impl Streams {
    fn add<K: Send + Sync + 'static>(
        &mut self,
        what: &'static str,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    ) {
        let number = self.count;
        self.count += 1;
        self.waiting.insert(number);
        let told = move |event: watcher::Result<watcher::Event<K>>| match event {
            Ok(watcher::Event::InitDone) => Ok(Some(number)),
            Ok(_) => Ok(None),
            Err(error) => Err((what, error)),
        };
        self.all.push(events.map(told).boxed());
    }
}

/// The watches, driven by [`Watches::next`].
pub(super) struct Watches {
    streams: Streams,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    pods: Store<Pod>,
    namespaces: Scope,
    exports: Vec<Store<DynamicObject>>,
    imports: Vec<Store<DynamicObject>>,
    properties: Option<Store<DynamicObject>>,
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

enum Scope {
    /// The namespaces there are.
    Cluster(Store<PartialObjectMeta<NamespaceObject>>),
    /// Those this gateway is for.
    Some(BTreeSet<Namespace>),
}

impl Watches {
    /// Starts to watch; asks first which version of the API there is.
    pub(super) async fn start(cluster: &Cluster, settings: &Settings) -> Result<Self, CallError> {
        let client = cluster.client();
        let whole_cluster = settings.namespaces.is_empty();
        let served = served(&client, whole_cluster).await;
        let served = served.map_err(|error| CallError::of(&error, cluster.server()))?;
        let mut streams = Streams::default();
        let own = settings.namespace.as_str();
        let namespaces = if settings.namespaces.is_empty() {
            let api: Api<PartialObjectMeta<NamespaceObject>> = Api::all(client.clone());
            Scope::Cluster(watch("namespaces", api, config(), &mut streams))
        } else {
            Scope::Some(settings.namespaces.iter().cloned().collect())
        };
        let pods = config().labels(POD_LABEL);
        let mut watches = Self {
            services: watch("services", Api::namespaced(client.clone(), own), config(), &mut streams),
            slices: watch("endpointslices", Api::namespaced(client.clone(), own), config(), &mut streams),
            pods: watch("pods", Api::namespaced(client.clone(), own), pods, &mut streams),
            namespaces,
            exports: Vec::new(),
            imports: Vec::new(),
            properties: None,
            served,
            failing: BTreeMap::new(),
            streams,
        };
        if let Some(version) = watches.served.services.clone() {
            watches.exports = watches.of_kind(&client, "serviceexports", resource(&version, "ServiceExport"), settings);
            watches.imports = watches.of_kind(&client, "serviceimports", resource(&version, "ServiceImport"), settings);
        }
        if let Some(version) = &watches.served.properties {
            let resource = resource(version, "ClusterProperty");
            let api = Api::all_with(client, &resource);
            watches.properties = Some(watch_dynamic("clusterproperties", api, &resource, &mut watches.streams));
        }
        Ok(watches)
    }

    fn of_kind(
        &mut self,
        client: &Client,
        what: &'static str,
        resource: ApiResource,
        settings: &Settings,
    ) -> Vec<Store<DynamicObject>> {
        let apis: Vec<Api<DynamicObject>> = if settings.namespaces.is_empty() {
            vec![Api::all_with(client.clone(), &resource)]
        } else {
            let namespaced =
                |namespace: &Namespace| Api::namespaced_with(client.clone(), namespace.as_str(), &resource);
            settings.namespaces.iter().map(namespaced).collect()
        };
        let watch = |api| watch_dynamic(what, api, &resource, &mut self.streams);
        apis.into_iter().map(watch).collect()
    }

    /// Returns when something changed; safe to cancel. An error when the kinds of the API were taken away, or came.
    pub(super) async fn next(&mut self) -> Result<(), CallError> {
        match self.streams.all.next().await {
            Some(Ok(complete)) => {
                if let Some(number) = complete {
                    self.streams.waiting.remove(&number);
                }
                Ok(())
            }
            Some(Err((what, error))) => {
                self.tell(what, &error);
                if matches!(&error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.is_not_found())
                {
                    return Err(CallError::NotFound { reason: format!("{what} are not served any more") });
                }
                Ok(())
            }
            // The streams never end; if they did, nothing would be known to change.
            None => std::future::pending().await,
        }
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
        self.streams.waiting.is_empty()
    }

    /// Which of the optional kinds there are.
    pub(super) fn served(&self) -> &Served {
        &self.served
    }

    /// The objects as they are known now.
    pub(super) fn present(&self) -> Present {
        let namespaces = match &self.namespaces {
            Scope::Some(names) => names.clone(),
            Scope::Cluster(store) => {
                store.state().iter().filter_map(|object| object.metadata.name.as_deref()?.parse().ok()).collect()
            }
        };
        Present {
            namespaces,
            services: named(&self.services, |object| &object.metadata, |service| Some(read::service(service))),
            slices: named(&self.slices, |object| &object.metadata, |slice| Some(read::slice(slice))),
            imports: keyed(&self.imports, read::import),
            exports: keyed(&self.exports, read::export),
            properties: self.properties.as_ref().map(|store| {
                let properties = store.state();
                let named = |object: &Arc<DynamicObject>| Some((object.metadata.name.clone()?, read::property(object)));
                properties.iter().filter_map(named).collect()
            }),
            gateways: named(&self.pods, |object| &object.metadata, read::gateway_pod),
        }
    }
}

fn named<K, T>(
    store: &Store<K>,
    metadata: impl Fn(&K) -> &ObjectMeta,
    read: impl Fn(&K) -> Option<T>,
) -> BTreeMap<String, T>
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    store.state().iter().filter_map(|object| Some((metadata(object).name.clone()?, read(object)?))).collect()
}

fn keyed<T>(stores: &[Store<DynamicObject>], read: impl Fn(&DynamicObject) -> T) -> BTreeMap<ServiceKey, T> {
    let of_store = |store: &Store<DynamicObject>| store.state();
    stores
        .iter()
        .flat_map(of_store)
        .filter_map(|object| {
            let metadata = &object.metadata;
            let key =
                ServiceKey::new(metadata.namespace.as_deref()?.parse().ok()?, metadata.name.as_deref()?.parse().ok()?);
            Some((key, read(&object)))
        })
        .collect()
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

fn watch<K>(what: &'static str, api: Api<K>, config: watcher::Config, streams: &mut Streams) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(api, config).default_backoff().reflect(writer);
    streams.add(what, events);
    store
}

fn watch_dynamic(
    what: &'static str,
    api: Api<DynamicObject>,
    resource: &ApiResource,
    streams: &mut Streams,
) -> Store<DynamicObject> {
    let writer = reflector::store::Writer::new(resource.clone());
    let store = writer.as_reader();
    let events = watcher(api, config()).default_backoff().reflect(writer);
    streams.add(what, events);
    store
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
