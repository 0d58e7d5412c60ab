//! The writes of a plan.
//!
//! Owns their order, how many are made at a time, and when one that failed is tried again. Never decides what to write.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use federation_catalog::desired::{Change, MANAGER};
use federation_model::{finding::Finding, names::ServiceKey};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    documents,
    metrics::Metrics,
    watches::{Served, resource},
};
use crate::{call::CallError, connect::Cluster};

/// How many writes are under way at a time.
const AT_A_TIME: usize = 8;
/// How long a write that succeeded is believed to be on its way back over the watch.
const ECHO: Duration = Duration::from_secs(2);
/// The first wait after a failure; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After how many equal writes in a row somebody is said to undo them.
const UNDONE: u32 = 5;

/// What a change concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    kind: Kind,
    name: String,
}

/// The kinds that are written, in the order in which they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Service,
    Slice,
    Import,
    ImportStatus,
    ExportStatus,
    Property,
    DeleteProperty,
    DeleteImport,
    DeleteSlice,
    DeleteService,
}

impl Kind {
    /// One of each label.
    pub(super) const ALL: [Self; 6] =
        [Self::Service, Self::Slice, Self::Import, Self::ImportStatus, Self::ExportStatus, Self::Property];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Service | Self::DeleteService => "service",
            Self::Slice | Self::DeleteSlice => "endpointslice",
            Self::Import | Self::DeleteImport => "serviceimport",
            Self::ImportStatus => "serviceimport-status",
            Self::Property | Self::DeleteProperty => "clusterproperty",
            Self::ExportStatus => "serviceexport-status",
        }
    }

    /// The right it needs, as `kubectl auth can-i` has it.
    const fn right(self) -> &'static str {
        match self {
            Self::Service => "patch services",
            Self::DeleteService => "delete services",
            Self::Slice => "patch endpointslices.discovery.k8s.io",
            Self::DeleteSlice => "delete endpointslices.discovery.k8s.io",
            Self::Import => "patch serviceimports.multicluster.x-k8s.io",
            Self::DeleteImport => "delete serviceimports.multicluster.x-k8s.io",
            Self::ImportStatus => "patch serviceimports.multicluster.x-k8s.io --subresource=status",
            Self::Property => "patch clusterproperties.about.k8s.io",
            Self::DeleteProperty => "delete clusterproperties.about.k8s.io",
            Self::ExportStatus => "patch serviceexports.multicluster.x-k8s.io --subresource=status",
        }
    }
}

/// What is remembered of a write.
#[derive(Debug)]
struct Attempt {
    change: Change,
    /// Before which it is not made again.
    rests_until: Instant,
    /// How often in a row it was made, or failed.
    times: u32,
    failure: Option<CallError>,
}

/// Writes changes.
pub(super) struct Writer {
    client: Client,
    server: String,
    namespace: String,
    attempts: BTreeMap<Subject, Attempt>,
    /// Whether the status of a ServiceImport has a field for its slices; found out by trying.
    slices_field: bool,
    metrics: Metrics,
}

impl Writer {
    pub(super) fn new(cluster: &Cluster, namespace: &str, metrics: Metrics) -> Self {
        Self {
            client: cluster.client(),
            server: cluster.server().to_owned(),
            namespace: namespace.to_owned(),
            attempts: BTreeMap::new(),
            slices_field: true,
            metrics,
        }
    }

    /// Makes the changes that are due, in the versions that are served.
    pub(super) async fn write(&mut self, changes: Vec<Change>, served: &Served) {
        let mut due: BTreeMap<Kind, Vec<(Subject, Change)>> = BTreeMap::new();
        let mut planned = BTreeSet::new();
        let now = Instant::now();
        for change in changes {
            let subject = subject(&change);
            planned.insert(subject.clone());
            if self.attempts.get(&subject).is_none_or(|attempt| attempt.is_due(&change, now)) {
                due.entry(subject.kind).or_default().push((subject, change));
            }
        }
        // What is not planned any more has come to be, or is not wanted: its failures are over.
        self.attempts.retain(|subject, attempt| planned.contains(subject) || attempt.rests_until > now);
        for (kind, changes) in due {
            let call = self.call(served);
            let writes = stream::iter(changes).map(move |(subject, change)| {
                let call = call(change.clone());
                async move { (subject, change, call.await) }
            });
            let mut results = writes.buffer_unordered(AT_A_TIME);
            while let Some((subject, change, result)) = results.next().await {
                self.metrics.written(kind, result.is_ok());
                self.remember(subject, change, result);
            }
        }
    }

    fn remember(&mut self, subject: Subject, change: Change, result: Result<(), CallError>) {
        let before = self.attempts.remove(&subject);
        let same = before.as_ref().filter(|before| before.change == change);
        let times = same.map_or(1, |before| before.times.saturating_add(1));
        let told = same.and_then(|before| before.failure.clone());
        let rest = match &result {
            Ok(()) => backoff(ECHO, times),
            Err(_) => backoff(FIRST_WAIT, times),
        };
        if let Err(error) = &result {
            if is_unknown_field(error) && subject.kind == Kind::ImportStatus {
                self.slices_field = false;
            } else if told.as_ref() != Some(error) {
                tracing::warn!(kind = subject.kind.label(), object = %subject.name, %error, hint = hint(subject.kind, error), "a write failed");
            }
        }
        let attempt = Attempt { change, rests_until: Instant::now() + rest, times, failure: result.err() };
        self.attempts.insert(subject, attempt);
    }

    /// When the next change that rests is due; past when one became so while others were made.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.attempts.values().map(|attempt| attempt.rests_until).min()
    }

    /// What does not come to be.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let finding = |(subject, attempt): (&Subject, &Attempt)| {
            let object = format!("{} {}", subject.kind.label(), subject.name);
            match &attempt.failure {
                Some(error) => {
                    Some(Finding::failed("controllers", format!("{object}: {error}"), hint(subject.kind, error)))
                }
                None if attempt.times >= UNDONE => Some(Finding::failed(
                    "controllers",
                    format!("{object} was written {} times, and somebody undoes it", attempt.times),
                    "look at its metadata.managedFields for who else writes it",
                )),
                None => None,
            }
        };
        self.attempts.iter().filter_map(finding).collect()
    }

    /// How a change is made; what it needs is its own, so that results are taken up while others are under way.
    fn call(&self, served: &Served) -> impl Fn(Change) -> BoxFuture<'static, Result<(), CallError>> + use<> {
        let (client, server, namespace) = (self.client.clone(), self.server.clone(), self.namespace.clone());
        let (served, slices_field) = (served.clone(), self.slices_field);
        move |change| {
            let (client, server, namespace) = (client.clone(), server.clone(), namespace.clone());
            let served = served.clone();
            async move {
                let made = make(client, change, &namespace, &served, slices_field).await;
                made.map_err(|error| CallError::of(&error, &server))
            }
            .boxed()
        }
    }
}

impl Attempt {
    /// A change of mind is due at once, unless the API server asked for a rest.
    fn is_due(&self, change: &Change, now: Instant) -> bool {
        let refused = self.failure.is_some();
        now >= self.rests_until || (self.change != *change && !refused)
    }
}

async fn make(
    client: Client,
    change: Change,
    namespace: &str,
    served: &Served,
    slices_field: bool,
) -> kube::Result<()> {
    let version = match &change {
        Change::Property(_) | Change::DeleteProperty { .. } => &served.properties,
        Change::Service(_)
        | Change::Slice(_)
        | Change::Import(_)
        | Change::ImportStatus(_)
        | Change::ExportStatus(_)
        | Change::DeleteImport { .. }
        | Change::DeleteSlice { .. }
        | Change::DeleteService { .. } => &served.services,
    };
    match (change, version.as_deref()) {
        (Change::Service(spec), _) => {
            apply(&Api::<Service>::namespaced(client, namespace), &spec.name, documents::service(&spec, namespace))
                .await
        }
        (Change::Slice(spec), _) => {
            apply(&Api::<EndpointSlice>::namespaced(client, namespace), &spec.name, documents::slice(&spec, namespace))
                .await
        }
        (Change::DeleteService { name, uid }, _) => {
            delete(&Api::<Service>::namespaced(client, namespace), &name, uid).await
        }
        (Change::DeleteSlice { name, uid }, _) => {
            delete(&Api::<EndpointSlice>::namespaced(client, namespace), &name, uid).await
        }
        (Change::Import(spec), Some(version)) => {
            let api = of_key(client, version, "ServiceImport", &spec.key);
            apply(&api, spec.key.name.as_str(), documents::import(&spec, version)).await
        }
        (Change::ImportStatus(status), Some(version)) => {
            let api = of_key(client, version, "ServiceImport", &status.key);
            apply_status(&api, status.key.name.as_str(), documents::import_status(&status, version, slices_field)).await
        }
        (Change::ExportStatus(status), Some(version)) => {
            let api = of_key(client, version, "ServiceExport", &status.key);
            apply_status(&api, status.key.name.as_str(), documents::export_status(&status, version)).await
        }
        (Change::DeleteImport { key, uid }, Some(version)) => {
            delete(&of_key(client, version, "ServiceImport", &key), key.name.as_str(), uid).await
        }
        (Change::Property(spec), Some(version)) => {
            let api = Api::<DynamicObject>::all_with(client, &resource(version, "ClusterProperty"));
            apply(&api, spec.name, documents::property(&spec, version)).await
        }
        (Change::DeleteProperty { name, uid }, Some(version)) => {
            delete(&Api::<DynamicObject>::all_with(client, &resource(version, "ClusterProperty")), name, uid).await
        }
        // Nothing is planned of a kind that is not served; it comes to be when it is.
        (
            Change::Import(_)
            | Change::ImportStatus(_)
            | Change::ExportStatus(_)
            | Change::DeleteImport { .. }
            | Change::Property(_)
            | Change::DeleteProperty { .. },
            None,
        ) => Ok(()),
    }
}

fn of_key(client: Client, version: &str, kind: &str, key: &ServiceKey) -> Api<DynamicObject> {
    Api::namespaced_with(client, key.namespace.as_str(), &resource(version, kind))
}

/// By force: what is applied here is ours alone, and whoever edited it by hand is not asked.
fn parameters() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

async fn apply<K>(api: &Api<K>, name: &str, body: Value) -> kube::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Serialize,
{
    api.patch(name, &parameters(), &Patch::Apply(body)).await.map(|_| ())
}

async fn apply_status<K>(api: &Api<K>, name: &str, body: Value) -> kube::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Serialize,
{
    match api.patch_status(name, &parameters(), &Patch::Apply(body)).await {
        // It was deleted meanwhile, and its status with it.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(|_| ()),
    }
}

async fn delete<K>(api: &Api<K>, name: &str, uid: String) -> kube::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
    let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
    match api.delete(name, &parameters).await {
        // Gone, or another object by now.
        Err(kube::Error::Api(status)) if status.code == 404 || status.is_conflict() => Ok(()),
        result => result.map(|_| ()),
    }
}

fn subject(change: &Change) -> Subject {
    let (kind, name) = match change {
        Change::Service(spec) => (Kind::Service, spec.name.clone()),
        Change::Slice(spec) => (Kind::Slice, spec.name.clone()),
        Change::Import(spec) => (Kind::Import, spec.key.to_string()),
        Change::ImportStatus(status) => (Kind::ImportStatus, status.key.to_string()),
        Change::ExportStatus(status) => (Kind::ExportStatus, status.key.to_string()),
        Change::Property(spec) => (Kind::Property, spec.name.to_owned()),
        Change::DeleteProperty { name, .. } => (Kind::DeleteProperty, (*name).to_owned()),
        Change::DeleteImport { key, .. } => (Kind::DeleteImport, key.to_string()),
        Change::DeleteSlice { name, .. } => (Kind::DeleteSlice, name.clone()),
        Change::DeleteService { name, .. } => (Kind::DeleteService, name.clone()),
    };
    Subject { kind, name }
}

/// Twice as long each time, up to the longest.
fn backoff(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.saturating_sub(1).min(10)).min(LONGEST_WAIT)
}

/// Server-side apply refuses a field that the definition of the kind does not have.
fn is_unknown_field(error: &CallError) -> bool {
    match error {
        CallError::Failed { reason, .. } | CallError::Rejected { reason, .. } => {
            reason.contains("endpointSliceObjects") && reason.contains("not declared in schema")
        }
        CallError::Unreachable { .. }
        | CallError::Untrusted { .. }
        | CallError::Unauthorized { .. }
        | CallError::Forbidden { .. }
        | CallError::NotFound { .. }
        | CallError::Conflict { .. }
        | CallError::Expired { .. }
        | CallError::Throttled { .. }
        | CallError::Unreadable { .. }
        | CallError::Credentials { .. } => false,
    }
}

fn hint(kind: Kind, error: &CallError) -> String {
    match error {
        CallError::Forbidden { .. } => {
            format!("give the service account of the gateway its rights back; see kubectl auth can-i {}", kind.right())
        }
        CallError::Rejected { .. } => {
            "read what the API server or its webhook says, and change what it names; it is tried again by itself"
                .to_owned()
        }
        CallError::NotFound { .. } => {
            "the namespace or the kind is gone; it follows by itself when they are back".to_owned()
        }
        CallError::Unreachable { .. }
        | CallError::Untrusted { .. }
        | CallError::Unauthorized { .. }
        | CallError::Conflict { .. }
        | CallError::Expired { .. }
        | CallError::Throttled { .. }
        | CallError::Failed { .. }
        | CallError::Unreadable { .. }
        | CallError::Credentials { .. } => "it is tried again by itself".to_owned(),
    }
}
