//! Objects that are put into a cluster, and taken out again, for a person who runs `fedctl`.
//!
//! Owns server-side apply and what became of each object. Never decides what is
//! installed, and never runs in a gateway: a gateway has no right to any of this.
//!
//! ```text
//! text ──> Manifest ──apply──> Applied: created, configured, unchanged, kept, or refused with the remedy
//!                   ──wait───> available (definitions: established)
//! ```

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Error, Resource as _, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, ValidationDirective},
};
use serde_json::Value;

use crate::connect::Cluster;

mod remove;
mod wait;

pub use remove::{Found, Kind, Removed, Selection};
pub use wait::Waiting;

/// Who the API server says has set the fields.
pub const FIELD_MANAGER: &str = "fedctl";
/// The label of everything that is installed.
pub(crate) const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "landbridge");
/// What the API server says to whoever would grant rights that they do not hold themselves.
const GRANTS_MORE: &str = "attempting to grant";
/// The groups whose definitions belong to whoever brought them first.
const STANDARD_GROUPS: [&str; 2] = ["multicluster.x-k8s.io", "about.k8s.io"];

/// One object to install.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    object: DynamicObject,
    resource: ApiResource,
}

/// Why a text is no list of objects.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not YAML, or a document is no object.
    #[error("the manifests cannot be read: {0}")]
    Yaml(String),
    /// A document lacks what every object has.
    #[error("document {0} has no apiVersion, kind or metadata.name")]
    Nameless(usize),
}

impl Manifest {
    /// Reads every document of a text.
    ///
    /// # Errors
    /// When the text is not YAML, or a document is not an object with a kind and a name.
    pub fn read_all(text: &str) -> Result<Vec<Self>, ManifestError> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|error| ManifestError::Yaml(error.to_string()))?;
        let present = documents.into_iter().enumerate().filter(|(_, document)| !document.is_null());
        present.map(|(index, document)| Self::of(document).ok_or(ManifestError::Nameless(index + 1))).collect()
    }

    fn of(document: Value) -> Option<Self> {
        let object: DynamicObject = serde_json::from_value(document).ok()?;
        let types = object.types.clone().filter(|_| object.metadata.name.is_some())?;
        let kind = GroupVersionKind::try_from(&types).ok()?;
        Some(Self { object, resource: ApiResource::from_gvk(&kind) })
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.resource.kind
    }

    /// The group of its API; empty for the core group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.resource.group
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    /// The namespace, unless it is an object of the whole cluster.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.object.metadata.namespace.as_deref()
    }

    /// The object as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        // An object that was read from JSON can be written as JSON.
        serde_json::to_value(&self.object).unwrap_or_default()
    }

    /// How the API names its kind.
    pub(crate) fn resource(&self) -> &ApiResource {
        &self.resource
    }

    /// Whether it is a definition that other programs bring too.
    pub(crate) fn is_standard_definition(&self) -> bool {
        let group = self.object.data["spec"]["group"].as_str().unwrap_or_default();
        self.kind() == CustomResourceDefinition::kind(&()) && STANDARD_GROUPS.contains(&group)
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self.namespace() {
            Some(namespace) => write!(f, "{kind} {namespace}/{}", self.name()),
            None => write!(f, "{kind} {}", self.name()),
        }
    }
}

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It was not there.
    Created,
    /// It was there and is another now.
    Configured,
    /// It was there, and the same.
    Unchanged,
    /// A definition of a standard kind that another program has brought: it stays as it is.
    Kept,
    /// The API server refused it.
    Refused(Refusal),
}

impl Applied {
    /// One word for it.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Kept => "kept",
            Self::Refused(_) => "refused",
        }
    }
}

/// Why the API server refused an object, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it said.
    pub reason: String,
    /// What to do next.
    pub remedy: String,
}

impl Cluster {
    /// Applies an object; with `force` also the fields that others have set.
    pub async fn apply(&self, manifest: &Manifest, force: bool) -> Applied {
        match self.try_apply(manifest, force).await {
            Ok(applied) => applied,
            Err(error) => Applied::Refused(refusal(&error, manifest)),
        }
    }

    async fn try_apply(&self, manifest: &Manifest, force: bool) -> Result<Applied, Error> {
        let api = self.api(&manifest.resource, manifest.namespace());
        // Who may apply but not read has no less done for it.
        let before = match api.get_metadata_opt(manifest.name()).await {
            Ok(before) => before,
            Err(Error::Api(status)) if status.is_forbidden() => None,
            Err(error) => return Err(error),
        };
        if before.as_ref().is_some_and(|before| !is_ours(before)) && manifest.is_standard_definition() {
            return Ok(Applied::Kept);
        }
        let mut params = PatchParams::apply(FIELD_MANAGER);
        params.force = force;
        params.field_validation = Some(ValidationDirective::Strict);
        let after = api.patch(manifest.name(), &params, &Patch::Apply(&manifest.object)).await?;
        Ok(match before.and_then(|before| before.resource_version()) {
            None => Applied::Created,
            Some(version) if Some(&version) == after.resource_version().as_ref() => Applied::Unchanged,
            Some(_) => Applied::Configured,
        })
    }
}

/// Whether an object came with Landbridge.
pub(crate) fn is_ours(object: &impl kube::ResourceExt) -> bool {
    object.labels().get(PART_OF.0).is_some_and(|value| value == PART_OF.1)
}

/// What the API server said, and what to do about it.
fn refusal(error: &Error, manifest: &Manifest) -> Refusal {
    let again = "the same command again: what is installed already stays as it is";
    let Error::Api(status) = error else {
        return Refusal { reason: error.to_string(), remedy: again.to_owned() };
    };
    let mut reason = status.message.clone();
    let remedy = if status.is_conflict() {
        "the same command with --force-conflicts, once you know that nobody sets these fields on purpose".to_owned()
    } else if status.is_forbidden() && reason.contains(GRANTS_MORE) {
        "nobody may grant what they do not hold: a context that holds it, or for tenants the ClusterRole landbridge-tenant, see \
         docs/install.md"
            .to_owned()
    } else if status.is_forbidden() {
        format!("a context that may do this with {}, or ask who administers the cluster", manifest.kind())
    } else if status.code == 404 && !status.is_not_found() {
        reason = format!("the cluster has no {} in {}", manifest.kind(), manifest.resource.api_version);
        missing_kind(manifest)
    } else if status.is_not_found() && is_about_a_namespace(status) {
        "the namespace must be there first: kubectl create namespace".to_owned()
    } else if status.is_not_found() {
        "the same command again, once what was refused before it is applied".to_owned()
    } else {
        again.to_owned()
    };
    Refusal { reason, remedy }
}

fn is_about_a_namespace(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// What the API server said, without what only a program reads.
pub(crate) fn told(error: &Error) -> String {
    if let Error::Api(status) = error { status.message.clone() } else { error.to_string() }
}

fn missing_kind(manifest: &Manifest) -> String {
    match manifest.group() {
        "cert-manager.io" => "install cert-manager, or leave out --identity cert-manager".to_owned(),
        "monitoring.coreos.com" => "install the Prometheus operator, or leave out --monitoring".to_owned(),
        group => format!("install what defines {group}"),
    }
}

#[cfg(test)]
mod tests;
