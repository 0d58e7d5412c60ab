//! Bodies in protobuf, which `kubectl` sends where it knows a kind by heart.
//!
//! Owns the shapes of the few kinds for which it does so without a manifest. Never answers in protobuf: every client takes
//! JSON too.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message;
use serde_json::{Value, json};

/// What comes before the message.
const MAGIC: &[u8] = b"k8s\0";

#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    kind: Option<Kind>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "12")]
    annotations: BTreeMap<String, String>,
}

/// Namespaces, ServiceAccounts and ConfigMaps.
#[derive(Clone, PartialEq, Message)]
struct Plain {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct ConfigMap {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(btree_map = "string, string", tag = "2")]
    data: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Secret {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(btree_map = "string, bytes", tag = "2")]
    data: BTreeMap<String, Vec<u8>>,
    #[prost(string, tag = "3")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct AccessReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<AccessSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct AccessSpec {
    #[prost(message, optional, tag = "1")]
    resource: Option<ResourceAttributes>,
    #[prost(message, optional, tag = "2")]
    path: Option<PathAttributes>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceAttributes {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    verb: String,
    #[prost(string, tag = "3")]
    group: String,
    #[prost(string, tag = "4")]
    version: String,
    #[prost(string, tag = "5")]
    resource: String,
    #[prost(string, tag = "6")]
    subresource: String,
    #[prost(string, tag = "7")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct PathAttributes {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, tag = "2")]
    verb: String,
}

#[derive(Clone, PartialEq, Message)]
struct RulesReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<RulesSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct RulesSpec {
    #[prost(string, tag = "1")]
    namespace: String,
}

/// The object of a body; none when it is no protobuf, or of a kind that is not known here.
pub(super) fn object(body: &[u8]) -> Option<Value> {
    let unknown = Unknown::decode(body.strip_prefix(MAGIC)?).ok()?;
    let Kind { api_version, kind } = unknown.kind?;
    let raw = &unknown.raw[..];
    let mut object = match kind.as_str() {
        "Namespace" | "ServiceAccount" => json!({"metadata": metadata(Plain::decode(raw).ok()?.metadata)}),
        "ConfigMap" => {
            let read = ConfigMap::decode(raw).ok()?;
            json!({"metadata": metadata(read.metadata), "data": read.data})
        }
        "Secret" => {
            let read = Secret::decode(raw).ok()?;
            let data: BTreeMap<_, _> = read.data.iter().map(|(name, value)| (name, STANDARD.encode(value))).collect();
            let kind = Some(read.kind).filter(|kind| !kind.is_empty());
            json!({"metadata": metadata(read.metadata), "data": data, "type": kind})
        }
        "SelfSubjectReview" => json!({"metadata": {}}),
        "SelfSubjectAccessReview" => json!({"metadata": {}, "spec": asked(AccessReview::decode(raw).ok()?.spec?)}),
        "SelfSubjectRulesReview" => {
            json!({"metadata": {}, "spec": {"namespace": RulesReview::decode(raw).ok()?.spec?.namespace}})
        }
        _ => return None,
    };
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    Some(object)
}

fn metadata(read: Option<Metadata>) -> Value {
    let read = read.unwrap_or_default();
    let mut metadata = json!({"name": read.name});
    if !read.namespace.is_empty() {
        metadata["namespace"] = read.namespace.into();
    }
    for (field, map) in [("labels", read.labels), ("annotations", read.annotations)] {
        if !map.is_empty() {
            metadata[field] = json!(map);
        }
    }
    metadata
}

fn asked(spec: AccessSpec) -> Value {
    if let Some(of) = spec.resource {
        return json!({"resourceAttributes": {
            "namespace": of.namespace, "verb": of.verb, "group": of.group, "version": of.version,
            "resource": of.resource, "subresource": of.subresource, "name": of.name,
        }});
    }
    let of = spec.path.unwrap_or_default();
    json!({"nonResourceAttributes": {"path": of.path, "verb": of.verb}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_kubectl_is_read() {
        let labels = [("l".to_owned(), "1".to_owned())].into();
        let metadata = Some(Metadata { name: "a".to_owned(), labels, ..Metadata::default() });
        let raw = ConfigMap { metadata, data: [("x".to_owned(), "1".to_owned())].into() }.encode_to_vec();
        let kind = Some(Kind { api_version: "v1".to_owned(), kind: "ConfigMap".to_owned() });
        let body = [MAGIC, &Unknown { kind, raw }.encode_to_vec()].concat();
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": "1"},
            "metadata": {"name": "a", "labels": {"l": "1"}}});
        assert_eq!(object(&body), Some(expected));
        assert_eq!(object(b"{}"), None);
    }
}
