//! What is in a cluster of an installation, and its removal.
//!
//! Owns the search by label and the deletion. Never decides what belongs to an installation.

use std::{fmt, time::Duration};

use kube::{
    Error,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams},
};
use tokio::time::Instant;

use super::{Cluster, Manifest, Refusal, refusal};

/// How often the API server is asked whether something is gone.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// The most objects of one kind that are removed: an import is two, and a set has a thousand.
const MAX_OBJECTS: u32 = 10_000;
/// What Helm writes on what it manages.
const HELM_RELEASE: &str = "meta.helm.sh/release-name";

/// A kind of object that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The group of the API; empty for the core group.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// The kind.
    pub kind: &'static str,
}

/// Which objects are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection<'a> {
    /// The labels they have.
    pub labels: &'a str,
    /// The namespace they are in; none: all, and objects of the whole cluster.
    pub namespace: Option<&'a str>,
}

/// An object that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    manifest: Manifest,
    /// The release of Helm that manages it.
    pub release: Option<String>,
}

impl Found {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.manifest.name()
    }

    /// Whether both are one object, perhaps in two versions of its API.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.manifest.group() == other.manifest.group() && self.to_string() == other.to_string()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.manifest.fmt(f)
    }
}

/// What became of an object that was to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// It is being deleted.
    Deleted,
    /// It was gone already.
    Gone,
    /// The API server refused.
    Refused(Refusal),
}

impl Cluster {
    /// The objects of a kind; none when the cluster has no such kind.
    ///
    /// # Errors
    /// What the API server said, with the remedy.
    pub async fn find(&self, kind: Kind, selection: Selection<'_>) -> Result<Vec<Found>, Refusal> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(kind.group, kind.version, kind.kind));
        let params = ListParams::default().labels(selection.labels).limit(MAX_OBJECTS);
        match self.api(&resource, selection.namespace).list(&params).await {
            Ok(list) => Ok(list.items.into_iter().map(|object| found(object, &resource)).collect()),
            Err(Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => {
                let manifest = Manifest { object: DynamicObject::new("", &resource), resource };
                Err(refusal(&error, &manifest))
            }
        }
    }

    /// Deletes an object, and what it owns before it.
    pub async fn delete(&self, found: &Found) -> Removed {
        let Manifest { resource, .. } = &found.manifest;
        let api = self.api(resource, found.manifest.namespace());
        match api.delete(found.manifest.name(), &DeleteParams::foreground()).await {
            Ok(_) => Removed::Deleted,
            Err(Error::Api(status)) if status.is_not_found() => Removed::Gone,
            Err(error) => Removed::Refused(refusal(&error, &found.manifest)),
        }
    }

    /// Waits until an object is gone; whether it is at the deadline.
    pub async fn is_gone(&self, found: &Found, deadline: Instant) -> bool {
        let api = self.api(&found.manifest.resource, found.manifest.namespace());
        loop {
            if matches!(api.get_metadata_opt(found.manifest.name()).await, Ok(None)) {
                return true;
            }
            if Instant::now() + ASK_EVERY > deadline {
                return false;
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

fn found(mut object: DynamicObject, resource: &ApiResource) -> Found {
    let release = object.metadata.annotations.as_mut().and_then(|annotations| annotations.remove(HELM_RELEASE));
    Found { manifest: Manifest { object, resource: resource.clone() }, release }
}
