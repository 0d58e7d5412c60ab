//! Which kinds are served: the built-in ones, and those that a CustomResourceDefinition adds while it is there.
//!
//! Owns what is known of a kind. Never holds an object.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{object, shape::Shape};

/// What is known of a kind.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) group: String,
    /// Newest first; the first is the one that discovery prefers.
    pub(super) versions: Vec<String>,
    /// The version it is stored in.
    pub(super) storage: String,
    pub(super) plural: String,
    pub(super) kind: String,
    pub(super) short: Vec<String>,
    pub(super) namespaced: bool,
    /// Whether there is `/status`.
    pub(super) status: bool,
    /// Whether `metadata.generation` counts.
    pub(super) generation: bool,
    /// Whether an update must name the resource version.
    pub(super) conditional: bool,
    /// Whether it only answers questions, and stores nothing.
    pub(super) question: bool,
    /// Whether a CustomResourceDefinition made it.
    pub(super) custom: bool,
    /// The OpenAPI schema of each version, of a custom one.
    pub(super) schemas: BTreeMap<String, Value>,
    /// How its fields merge, by version; the empty one for all others.
    pub(super) shapes: BTreeMap<String, Arc<Shape>>,
}

impl Kind {
    /// As messages and keys write it: `pods`, `leases.coordination.k8s.io`.
    pub(super) fn resource(&self) -> String {
        qualified(&self.group, &self.plural)
    }

    /// As objects write a version of it.
    pub(super) fn api_version(&self, version: &str) -> String {
        api_version(&self.group, version)
    }

    pub(super) fn singular(&self) -> String {
        self.kind.to_lowercase()
    }

    pub(super) fn shape(&self, version: &str) -> Arc<Shape> {
        self.shapes.get(version).or_else(|| self.shapes.get("")).cloned().unwrap_or_default()
    }

    fn built_in(row: &Row) -> Self {
        let (group, version, plural, kind, short, traits) = *row;
        let has = |letter| traits.contains(letter);
        Self {
            group: group.to_owned(),
            versions: vec![version.to_owned()],
            storage: version.to_owned(),
            plural: plural.to_owned(),
            kind: kind.to_owned(),
            short: short.split(' ').filter(|short| !short.is_empty()).map(str::to_owned).collect(),
            namespaced: has('n'),
            status: has('s'),
            generation: has('g'),
            conditional: has('c'),
            question: has('q'),
            custom: false,
            schemas: BTreeMap::new(),
            shapes: [(String::new(), Shape::built_in(plural))].into(),
        }
    }

    /// The kind that a CustomResourceDefinition describes; none when it lacks what makes one.
    pub(super) fn defined_by(definition: &Value) -> Option<Self> {
        let spec = definition.get("spec")?;
        let text = |at: &str| spec.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let all = spec.get("versions")?.as_array()?;
        let served: Vec<_> = all.iter().filter(|version| version["served"] == true).collect();
        let name = |version: &&Value| version.get("name").and_then(Value::as_str).map(str::to_owned);
        let mut versions: Vec<_> = served.iter().filter_map(name).collect();
        versions.sort_by_key(|version| Reverse(priority(version)));
        let schema = |version: &&Value| Some((name(version)?, version.pointer("/schema/openAPIV3Schema")?.clone()));
        let schemas: BTreeMap<_, _> = served.iter().filter_map(schema).collect();
        let shapes = schemas.iter().map(|(version, schema)| (version.clone(), Arc::new(Shape::of_schema(schema))));
        let short = spec.pointer("/names/shortNames").and_then(Value::as_array).into_iter().flatten();
        let status = served.iter().any(|version| version.pointer("/subresources/status").is_some());
        Some(Self {
            group: text("/group")?,
            storage: all.iter().find(|version| version["storage"] == true).and_then(|version| name(&version))?,
            versions,
            plural: text("/names/plural")?,
            kind: text("/names/kind")?,
            short: short.filter_map(Value::as_str).map(str::to_owned).collect(),
            namespaced: text("/scope")? == "Namespaced",
            status,
            generation: true,
            conditional: true,
            question: false,
            custom: true,
            shapes: shapes.collect(),
            schemas,
        })
    }
}

/// How good a version is: `v2` before `v1` before `v1beta1` before `v1alpha1` before anything else.
fn priority(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let number = |text: &str| text.parse().unwrap_or(0);
    if let Some((major, minor)) = rest.split_once("beta") {
        (2, number(major), number(minor))
    } else if let Some((major, minor)) = rest.split_once("alpha") {
        (1, number(major), number(minor))
    } else {
        (3, number(rest), 0)
    }
}

/// The name of a resource with its group.
pub(super) fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// `v1`, `apps/v1`.
pub(super) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// All that are served.
#[derive(Debug, Clone)]
pub(super) struct Kinds {
    built_in: Vec<Arc<Kind>>,
    /// By the name of the definition.
    defined: BTreeMap<String, Arc<Kind>>,
}

impl Kinds {
    pub(super) fn new() -> Self {
        Self { built_in: TABLE.iter().map(|row| Arc::new(Kind::built_in(row))).collect(), defined: BTreeMap::new() }
    }

    /// Every kind, in a fixed order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.built_in.iter().chain(self.defined.values())
    }

    /// The kind of this path.
    pub(super) fn served(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let is = |kind: &&Arc<Kind>| kind.group == group && kind.plural == plural;
        self.all().filter(is).find(|kind| kind.versions.iter().any(|served| served == version)).cloned()
    }

    /// The kind of a resource, in whatever version.
    pub(super) fn of_resource(&self, resource: &str) -> Option<Arc<Kind>> {
        self.all().find(|kind| kind.resource() == resource).cloned()
    }

    /// The kind that people mean by `word`: a kind, plural, singular or short name, with or without the group.
    pub(super) fn meant(&self, word: &str) -> Option<Arc<Kind>> {
        let lower = word.to_lowercase();
        let is = |kind: &&Arc<Kind>| {
            let plain = lower == kind.plural || lower == kind.singular() || kind.short.contains(&lower);
            plain || lower == kind.resource() || lower == qualified(&kind.group, &kind.singular())
        };
        self.all().find(is).cloned()
    }

    /// The kind of an object.
    pub(super) fn of(&self, object: &Value) -> Option<Arc<Kind>> {
        let (group, version) = group_version(object::text(object, "/apiVersion"));
        let name = object::text(object, "/kind");
        let is = |kind: &&Arc<Kind>| kind.kind == name && kind.group == group;
        self.all().filter(is).find(|kind| kind.versions.iter().any(|served| served == version)).cloned()
    }

    /// Serves, from now on, what the definition says.
    pub(super) fn define(&mut self, definition: &Value) {
        let name = object::name(definition).to_owned();
        if let Some(kind) = Kind::defined_by(definition) {
            self.defined.insert(name, Arc::new(kind));
        }
    }

    /// Serves it no more.
    pub(super) fn undefine(&mut self, name: &str) {
        self.defined.remove(name);
    }
}

/// The group, which may be empty, and the version.
pub(super) fn group_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Group, version, plural, kind, short names, and letters: namespaced, status, generation, conditional updates only, question.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

const TABLE: &[Row] = &[
    ("", "v1", "namespaces", "Namespace", "ns", "s"),
    ("", "v1", "nodes", "Node", "no", "s"),
    ("", "v1", "pods", "Pod", "po", "nsg"),
    ("", "v1", "services", "Service", "svc", "ns"),
    ("", "v1", "endpoints", "Endpoints", "ep", "n"),
    ("", "v1", "configmaps", "ConfigMap", "cm", "n"),
    ("", "v1", "secrets", "Secret", "", "n"),
    ("", "v1", "serviceaccounts", "ServiceAccount", "sa", "n"),
    ("", "v1", "events", "Event", "ev", "n"),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", "pvc", "ns"),
    ("", "v1", "resourcequotas", "ResourceQuota", "quota", "ns"),
    ("apps", "v1", "deployments", "Deployment", "deploy", "nsg"),
    ("apps", "v1", "daemonsets", "DaemonSet", "ds", "nsg"),
    ("apps", "v1", "statefulsets", "StatefulSet", "sts", "nsg"),
    ("apps", "v1", "replicasets", "ReplicaSet", "rs", "nsg"),
    ("batch", "v1", "jobs", "Job", "", "nsg"),
    ("coordination.k8s.io", "v1", "leases", "Lease", "", "nc"),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", "", "ng"),
    ("events.k8s.io", "v1", "events", "Event", "ev", "n"),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", "netpol", "ng"),
    ("networking.k8s.io", "v1", "ingresses", "Ingress", "ing", "nsg"),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", "pdb", "nsgc"),
    ("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", "pc", "g"),
    (RBAC, "v1", "roles", "Role", "", "n"),
    (RBAC, "v1", "rolebindings", "RoleBinding", "", "n"),
    (RBAC, "v1", "clusterroles", "ClusterRole", "", ""),
    (RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", "", ""),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", "crd crds", "sgc"),
    ("apiregistration.k8s.io", "v1", "apiservices", "APIService", "", "sc"),
    (ADMISSION, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", "", "g"),
    (ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", "", "g"),
    (ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "", "sg"),
    (ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", "", "g"),
    (AUTHORIZATION, "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", "", "q"),
    (AUTHORIZATION, "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", "", "q"),
    (AUTHORIZATION, "v1", "subjectaccessreviews", "SubjectAccessReview", "", "q"),
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", "", "q"),
];
