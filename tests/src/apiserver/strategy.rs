//! What the API server does to objects of the built-in kinds beyond storing them.
//!
//! Owns defaults, the first status, names, validation, and what counts as a new generation. What none of our programs relies
//! on is not checked.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{
    failure::Cause,
    kinds::Kind,
    object::{self, default_to},
    pod, service,
};

/// What a bad label (RFC 1123) is told.
pub(super) const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
    must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
    must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation \
    is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// Maps of which a built-in kind does not tell an empty one from none.
const MAPS: [&str; 8] =
    ["labels", "annotations", "data", "binaryData", "matchLabels", "nodeSelector", "limits", "requests"];

/// Takes away the empty maps and lists that say nothing.
pub(super) fn tidy(kind: &Kind, value: &mut Value) {
    if kind.custom {
        // Only the metadata of a custom resource is of a known type.
        tidy_below(object::map_in(value, "metadata"));
    } else if let Some(map) = value.as_object_mut() {
        tidy_below(map);
    }
}

fn tidy_below(map: &mut Map<String, Value>) {
    map.retain(|name, value| {
        let empty_map = MAPS.contains(&name.as_str()) && value.as_object().is_some_and(Map::is_empty);
        let empty_list = name != "rules" && name != "managedFields" && value.as_array().is_some_and(Vec::is_empty);
        !empty_map && !empty_list
    });
    for (_, value) in map.iter_mut().filter(|(name, _)| *name != "managedFields") {
        if let Some(map) = value.as_object_mut() {
            tidy_below(map);
        }
        for item in value.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            tidy_below(item);
        }
    }
}

/// What an object that does not say it is, when it is read.
pub(super) fn default(kind: &Kind, value: &mut Value) {
    match kind.resource().as_str() {
        "services" => service::default(value),
        "namespaces" => {
            let name = object::name(value).to_owned();
            object::map_in(&mut value["metadata"], "labels")
                .insert("kubernetes.io/metadata.name".to_owned(), name.into());
        }
        "secrets" => secret(value),
        "endpointslices.discovery.k8s.io" => {
            if let Some(map) = value.as_object_mut() {
                default_to(map, "endpoints", Value::Null);
                default_to(map, "ports", Value::Null);
            }
            for port in value.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(port) = port.as_object_mut() {
                    default_to(port, "name", "");
                    default_to(port, "protocol", "TCP");
                }
            }
        }
        "pods" => pod::default(object::map_in(value, "spec")),
        "deployments.apps" => pod::default_deployment(value),
        "daemonsets.apps" | "statefulsets.apps" | "replicasets.apps" | "jobs.batch" => pod::default_template(value),
        "customresourcedefinitions.apiextensions.k8s.io" => {
            let spec = object::map_in(value, "spec");
            let names = spec.get("names").cloned().unwrap_or_default();
            default_to(spec, "conversion", json!({"strategy": "None"}));
            let kind = object::text(&names, "/kind").to_owned();
            if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
                default_to(names, "singular", kind.to_lowercase());
                default_to(names, "listKind", format!("{kind}List"));
            }
        }
        resource if resource.ends_with("bindings.rbac.authorization.k8s.io") => {
            if let Some(role) = value.get_mut("roleRef").and_then(Value::as_object_mut) {
                default_to(role, "apiGroup", "rbac.authorization.k8s.io");
            }
            for subject in value.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
                let account = subject["kind"] == "ServiceAccount";
                if let Some(subject) = subject.as_object_mut().filter(|_| !account) {
                    default_to(subject, "apiGroup", "rbac.authorization.k8s.io");
                }
            }
        }
        _ => {}
    }
}

fn secret(value: &mut Value) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let Some(map) = value.as_object_mut() else { return };
    default_to(map, "type", "Opaque");
    let plain = map.remove("stringData");
    for (name, text) in plain.iter().filter_map(Value::as_object).flatten() {
        let encoded = STANDARD.encode(text.as_str().unwrap_or_default());
        object::map_in(value, "data").insert(name.clone(), encoded.into());
    }
}

/// What there is of an object before it is created: the structures that it cannot be without, as nobody manages them.
pub(super) fn blank(kind: &Kind) -> Value {
    if kind.custom {
        return json!({"metadata": {}});
    }
    match kind.plural.as_str() {
        "customresourcedefinitions" => json!({"metadata": {}, "spec": {"names": {}}, "status": {}}),
        "deployments" => json!({
            "metadata": {}, "status": {}, "spec": {"strategy": {}, "template": {"metadata": {}, "spec": {}}},
        }),
        "daemonsets" | "statefulsets" | "replicasets" | "jobs" => json!({
            "metadata": {}, "status": {}, "spec": {"updateStrategy": {}, "template": {"metadata": {}, "spec": {}}},
        }),
        "rolebindings" | "clusterrolebindings" => json!({"metadata": {}, "roleRef": {}}),
        _ => json!({"metadata": {}, "spec": {}, "status": {}}),
    }
}

/// What a new object has as its status, whatever the request says, and what else only the server writes.
pub(super) fn begin(kind: &Kind, value: &mut Value) {
    if kind.status
        && let Some(map) = value.as_object_mut()
    {
        map.remove("status");
    }
    match kind.resource().as_str() {
        "services" => value["status"] = json!({"loadBalancer": {}}),
        "pods" => value["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"}),
        "deployments.apps" => value["status"] = json!({}),
        "customresourcedefinitions.apiextensions.k8s.io" => {
            let names = json!({"plural": "", "kind": ""});
            value["status"] = json!({"acceptedNames": names, "conditions": null, "storedVersions": stored(value)});
        }
        "namespaces" => {
            value["status"] = json!({"phase": "Active"});
            object::map_in(value, "spec").insert("finalizers".to_owned(), json!(["kubernetes"]));
        }
        _ => {}
    }
}

/// The definition once its names are accepted and it is served; none when that is so already.
pub(super) fn established(definition: &Value, now: &str) -> Option<Value> {
    let told =
        object::list(definition, "/status/conditions").iter().any(|condition| condition["type"] == "Established");
    if told {
        return None;
    }
    let condition = |name: &str, reason: &str, message: &str| json!({"type": name, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now});
    let mut established = definition.clone();
    established["status"] = json!({
        "acceptedNames": definition["spec"]["names"],
        "storedVersions": stored(definition),
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    });
    Some(established)
}

fn stored(definition: &Value) -> Vec<&Value> {
    let versions = object::list(definition, "/spec/versions").iter();
    versions.filter(|version| version["storage"] == true).map(|version| &version["name"]).collect()
}

/// Whether the objects differ in what their controllers look at.
pub(super) fn differs(kind: &Kind, old: &Value, new: &Value) -> bool {
    let aside: &[&str] = if kind.status { &["metadata", "status", "apiVersion"] } else { &["metadata", "apiVersion"] };
    let looked_at = |object: &Value| {
        let fields = object.as_object().into_iter().flatten().filter(|(name, _)| !aside.contains(&name.as_str()));
        fields.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>()
    };
    let labels =
        kind.resource() == "endpointslices.discovery.k8s.io" && old["metadata"]["labels"] != new["metadata"]["labels"];
    labels || looked_at(old) != looked_at(new)
}

/// What is wrong with the metadata.
pub(super) fn invalid_metadata(kind: &Kind, value: &Value, old: Option<&Value>) -> Vec<Cause> {
    let name = object::name(value);
    let mut causes = Vec::new();
    let held = old.filter(|old| object::is_ending(old)).map(|old| object::texts(old, "/metadata/finalizers"));
    let new = |finalizer: &&str| held.as_ref().is_some_and(|held| !held.contains(finalizer));
    let added: Vec<_> = object::texts(value, "/metadata/finalizers").into_iter().filter(new).collect();
    if !added.is_empty() {
        let why = "no new finalizers can be added if the object is being deleted, found new finalizers";
        let added: Vec<_> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
        let added = format!("[]string{{{}}}", added.join(", "));
        causes.push(Cause::forbidden("metadata.finalizers", &format!("{why} {added}")));
    }
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Some(why) = bad_name(&kind.resource(), name) {
        causes.push(Cause::invalid("metadata.name", &json!(name), &why));
    }
    for label in value.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flat_map(Map::values) {
        let text = label.as_str().unwrap_or_default();
        let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let ends = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric());
        let good = text.len() <= 63 && text.chars().all(inner) && ends;
        if !text.is_empty() && !good {
            let why = if text.len() > 63 {
                "must be no more than 63 bytes".to_owned()
            } else {
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
                 start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
                 validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                    .to_owned()
            };
            causes.push(Cause::invalid("metadata.labels", label, &why));
        }
    }
    causes
}

fn bad_name(resource: &str, name: &str) -> Option<String> {
    let (good, longest, why) = match resource {
        resource if resource.contains("rbac.authorization.k8s.io") => {
            return (name.contains(['/', '%']) || [".", ".."].contains(&name))
                .then(|| "may not contain '/'".to_owned());
        }
        "services" => (is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()), 63, LABEL_1035),
        "namespaces" => (is_label(name), 63, LABEL),
        _ => (name.split('.').all(is_label), 253, SUBDOMAIN),
    };
    if name.len() > longest {
        return Some(format!("must be no more than {longest} characters"));
    }
    (!good).then(|| why.to_owned())
}

/// Whether it is a label of RFC 1123, whatever its length.
pub(super) fn is_label(text: &str) -> bool {
    let inner = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    inner && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

/// What is wrong with an object, its metadata aside.
pub(super) fn invalid(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    match kind.resource().as_str() {
        "services" => service::invalid(new),
        "pods" => pod::invalid(&new["spec"], "spec"),
        "deployments.apps" | "daemonsets.apps" | "statefulsets.apps" => {
            pod::invalid(&new["spec"]["template"]["spec"], "spec.template.spec")
        }
        "endpointslices.discovery.k8s.io" => slice(new, old),
        resource if resource.ends_with("bindings.rbac.authorization.k8s.io") => {
            let changed = old.is_some_and(|old| old["roleRef"] != new["roleRef"]);
            let cause = || Cause::invalid("roleRef", &new["roleRef"], "cannot change roleRef");
            changed.then(cause).into_iter().collect()
        }
        "leases.coordination.k8s.io" => {
            let seconds = &new["spec"]["leaseDurationSeconds"];
            let bad = seconds.as_i64().is_some_and(|seconds| seconds <= 0);
            let cause = || Cause::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0");
            bad.then(cause).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn slice(new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let kind = object::text(new, "/addressType");
    let supported = ["\"FQDN\"", "\"IPv4\"", "\"IPv6\""].map(str::to_owned);
    if kind.is_empty() {
        causes.push(Cause::required("addressType", ""));
    } else if !["IPv4", "IPv6", "FQDN"].contains(&kind) {
        causes.push(Cause::unsupported("addressType", &new["addressType"], &supported));
    }
    if old.is_some_and(|old| old["addressType"] != new["addressType"]) {
        return vec![Cause::invalid("addressType", &new["addressType"], "field is immutable")];
    }
    for (index, endpoint) in object::list(new, "/endpoints").iter().enumerate() {
        let at = format!("endpoints[{index}].addresses");
        let addresses = object::texts(endpoint, "/addresses");
        if addresses.is_empty() {
            causes.push(Cause::required(at.clone(), "must contain at least 1 address"));
        }
        for (place, address) in addresses.iter().enumerate() {
            let why = match (kind, address.parse::<IpAddr>()) {
                ("FQDN", _) | ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => continue,
                (_, Err(_)) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned(),
                (_, Ok(_)) => format!("must be an {kind} address"),
            };
            causes.push(Cause::invalid(format!("{at}[{place}]"), &json!(address), &why));
        }
    }
    causes
}
