//! How the fields of a kind merge: which lists are maps by key or sets, which maps are one value.
//!
//! Owns the table of the built-in kinds, and the reading of the same from the schema of a custom resource. What no table
//! says merges as server-side apply takes it of untyped objects: maps field by field, lists as one value.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use serde_json::Value;

/// How a value, and what is in it, merges.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// A map or list that is one value.
    pub(super) atomic: bool,
    /// The fields that are the key of an item of this list, each with its default.
    pub(super) keys: Vec<(String, Option<Value>)>,
    /// A list that is a set.
    pub(super) set: bool,
    /// The fields of this structure.
    pub(super) fields: BTreeMap<String, Self>,
    /// Any other field, in a map of free keys.
    pub(super) each: Option<Box<Self>>,
    /// The items of this list.
    pub(super) items: Option<Box<Self>>,
    /// Whether [`Self::fields`] are all that may be.
    pub(super) closed: bool,
    /// Whether any field may be, and what it is shows only in its value.
    untyped: bool,
}

static FREE: LazyLock<Shape> = LazyLock::new(Shape::default);
static UNTYPED: LazyLock<Shape> = LazyLock::new(|| Shape { untyped: true, ..Shape::default() });

impl Shape {
    /// The shape of a field.
    pub(super) fn field(&self, name: &str) -> &Self {
        self.fields.get(name).or(self.each.as_deref()).unwrap_or_else(|| self.other())
    }

    /// The shape of an item.
    pub(super) fn item(&self) -> &Self {
        self.items.as_deref().unwrap_or_else(|| self.other())
    }

    fn other(&self) -> &'static Self {
        if self.untyped { &UNTYPED } else { &FREE }
    }

    /// Whether the field is one of a structure, not a free key of a map.
    pub(super) fn names(&self, name: &str) -> bool {
        self.fields.contains_key(name) || (self.each.is_none() && !self.untyped)
    }

    /// The element of FieldsV1 for an item of this list; none for an item of a list that is one value.
    pub(super) fn element(&self, item: &Value) -> Option<String> {
        if self.set {
            return Some(format!("v:{item}"));
        }
        let mut keys = BTreeMap::new();
        for (key, default) in &self.keys {
            if let Some(value) = item.get(key).or(default.as_ref()) {
                keys.insert(key, value);
            }
        }
        (!keys.is_empty()).then(|| format!("k:{}", serde_json::json!(keys)))
    }

    /// The shape of a built-in kind.
    pub(super) fn built_in(plural: &str) -> Arc<Self> {
        let mut shape = Self::default();
        let rules =
            TABLE.iter().filter(|(plurals, ..)| *plurals == "*" || plurals.split(' ').any(|name| name == plural));
        for (_, path, rule) in rules {
            shape.learn(path, rule);
        }
        if let Some((_, prefix)) = POD_SPECS.iter().find(|(plurals, _)| plurals.split(' ').any(|name| name == plural)) {
            for (path, rule) in POD_SPEC {
                shape.learn(&format!("{prefix}{path}"), rule);
            }
        }
        Arc::new(shape)
    }

    fn learn(&mut self, path: &str, rule: &str) {
        let mut at = self;
        for part in path.split('.') {
            let (name, depth) = (part.trim_end_matches("[]"), part.matches("[]").count());
            at = at.fields.entry(name.to_owned()).or_default();
            for _ in 0..depth {
                at = at.items.get_or_insert_default();
            }
        }
        match rule {
            "atomic" => at.atomic = true,
            "set" => at.set = true,
            keys => at.keys = keys.split(' ').map(key).collect(),
        }
    }

    /// The shape of a custom resource, by its OpenAPI schema.
    pub(super) fn of_schema(schema: &Value) -> Self {
        let mut shape = Self::read(schema);
        shape.closed = shape.closed && !shape.fields.is_empty();
        let metadata = Self::built_in("").field("metadata").clone();
        shape.fields.insert("metadata".to_owned(), metadata);
        for name in ["apiVersion", "kind"] {
            shape.fields.entry(name.to_owned()).or_default();
        }
        shape
    }

    fn read(schema: &Value) -> Self {
        let extension = |name: &str| schema.get(format!("x-kubernetes-{name}"));
        let list_type = extension("list-type").and_then(Value::as_str);
        let keys = extension("list-map-keys").and_then(Value::as_array).into_iter().flatten();
        let default_of = |name: &str| schema.pointer(&format!("/items/properties/{name}/default")).cloned();
        let properties = schema.get("properties").and_then(Value::as_object);
        let each = schema.get("additionalProperties").filter(|each| each.is_object());
        let untyped = extension("preserve-unknown-fields") == Some(&Value::Bool(true));
        let open = untyped || each.is_some();
        Self {
            atomic: extension("map-type").is_some_and(|kind| kind == "atomic"),
            keys: if list_type == Some("map") {
                keys.filter_map(Value::as_str).map(|name| (name.to_owned(), default_of(name))).collect()
            } else {
                Vec::new()
            },
            set: list_type == Some("set"),
            fields: properties.into_iter().flatten().map(|(name, of)| (name.clone(), Self::read(of))).collect(),
            each: each.map(|each| Box::new(Self::read(each))),
            items: schema.get("items").map(|items| Box::new(Self::read(items))),
            untyped,
            closed: schema.get("type").is_some_and(|kind| kind == "object") && !open,
        }
    }
}

/// One key of a rule, `name` or `name=default`.
fn key(rule: &str) -> (String, Option<Value>) {
    let (name, default) = rule.split_once('=').map_or((rule, None), |(name, default)| (name, Some(default)));
    (name.to_owned(), default.map(Value::from))
}

const WORKLOADS: &str = "deployments daemonsets statefulsets replicasets jobs";

/// Kinds, field, and `atomic`, `set` or the keys of its items. The kinds of the field's name in the schema of Kubernetes 1.33.
const TABLE: &[(&str, &str, &str)] = &[
    ("*", "metadata.ownerReferences", "uid"),
    ("*", "metadata.ownerReferences[]", "atomic"),
    ("*", "metadata.finalizers", "set"),
    ("services", "spec.ports", "port protocol=TCP"),
    ("services", "spec.selector", "atomic"),
    ("services namespaces nodes pods", "status.conditions", "type"),
    ("deployments daemonsets statefulsets replicasets jobs", "status.conditions", "type"),
    ("poddisruptionbudgets customresourcedefinitions apiservices", "status.conditions", "type"),
    ("pods", "status.podIPs", "ip"),
    ("pods", "status.hostIPs", "ip"),
    ("serviceaccounts", "secrets", "name"),
    ("poddisruptionbudgets networkpolicies", "spec.selector", "atomic"),
    ("networkpolicies", "spec.podSelector", "atomic"),
    (WORKLOADS, "spec.selector", "atomic"),
    ("rolebindings clusterrolebindings", "roleRef", "atomic"),
    ("endpoints events", "involvedObject", "atomic"),
    ("events", "regarding", "atomic"),
    ("events", "related", "atomic"),
    ("nodes", "status.addresses", "type"),
    ("nodes", "spec.podCIDRs", "set"),
    ("nodes", "spec.taints", "atomic"),
    ("validatingwebhookconfigurations mutatingwebhookconfigurations", "webhooks", "name"),
    ("validatingadmissionpolicies", "spec.variables", "name"),
    ("validatingadmissionpolicies", "spec.matchConditions", "name"),
];

/// Where the specification of a pod is.
const POD_SPECS: &[(&str, &str)] = &[("pods", "spec."), (WORKLOADS, "spec.template.spec.")];

/// The same as [`TABLE`] in the specification of a pod.
const POD_SPEC: &[(&str, &str)] = &[
    ("nodeSelector", "atomic"),
    ("imagePullSecrets", "name"),
    ("hostAliases", "ip"),
    ("readinessGates", "atomic"),
    ("topologySpreadConstraints", "topologyKey whenUnsatisfiable"),
    ("topologySpreadConstraints[].labelSelector", "atomic"),
    ("volumes", "name"),
    ("containers", "name"),
    ("containers[].ports", "containerPort protocol=TCP"),
    ("containers[].env", "name"),
    ("containers[].env[].valueFrom.fieldRef", "atomic"),
    ("containers[].env[].valueFrom.secretKeyRef", "atomic"),
    ("containers[].env[].valueFrom.configMapKeyRef", "atomic"),
    ("containers[].volumeMounts", "mountPath"),
    ("containers[].volumeDevices", "devicePath"),
    ("initContainers", "name"),
    ("initContainers[].ports", "containerPort protocol=TCP"),
    ("initContainers[].env", "name"),
    ("initContainers[].env[].valueFrom.fieldRef", "atomic"),
    ("initContainers[].volumeMounts", "mountPath"),
    ("ephemeralContainers", "name"),
];
