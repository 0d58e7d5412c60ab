//! The documents that are applied, one for each kind.
//!
//! Owns their JSON: exactly the fields that belong to the field manager of the gateways, so that what is left out is taken back
//! and what others own stays theirs.

use std::collections::{BTreeMap, BTreeSet};

use federation_catalog::desired::{
    EXPORTERS, IMPORT, MANAGED_BY, MANAGER, WRITTEN,
    derived_services::ServiceSpec,
    properties::PropertySpec,
    service_imports::ImportSpec,
    slices::{Family, GatewayEndpoint, SliceSpec},
    statuses::{ExportStatus, ImportStatus, StampedCondition},
};
use federation_model::{
    addr::{Port, Transport},
    catalog::SessionAffinity,
    import::{ImportKind, address::AddressKey},
    names::{ClusterName, PortName},
    time::Timestamp,
};
use k8s_openapi::jiff;
use serde_json::{Map, Value, json};

/// The label that says who keeps an EndpointSlice; the controller of Kubernetes leaves those of others alone.
pub(super) const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The value of that label.
pub(super) const SLICE_MANAGER: &str = "gateway.landbridge.dev";
/// The label of an EndpointSlice with the name of its Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label with the name of the imported service (KEP-1645).
const IMPORTED_SERVICE: &str = "multicluster.kubernetes.io/service-name";
/// The label with the cluster that an endpoint of a headless import is in (KEP-1645).
const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";
/// The label with the namespace of the imported service.
const IMPORTED_NAMESPACE: &str = "landbridge.dev/import-namespace";

/// A derived Service in `namespace`.
pub(super) fn service(spec: &ServiceSpec, namespace: &str) -> Value {
    let service = &spec.service;
    let mut body = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": spec.name,
            "namespace": namespace,
            "labels": labels(&service.key),
            "annotations": { IMPORT: service.key.to_string(), EXPORTERS: joined(&spec.exporters) },
        },
        "spec": {
            "type": "ClusterIP",
            "ipFamilyPolicy": "PreferDualStack",
            "ports": service.ports.iter().map(|port| {
                let mut value = named_port(port.name.as_ref(), port.transport, port.port);
                value.insert("targetPort".to_owned(), json!(port.allocated.number()));
                with(value, "appProtocol", port.app_protocol.as_deref())
            }).collect::<Vec<_>>(),
        },
    });
    set_affinity(&mut body["spec"], service.session_affinity);
    body
}

fn set_affinity(spec: &mut Value, affinity: SessionAffinity) {
    match affinity {
        SessionAffinity::None => spec["sessionAffinity"] = json!("None"),
        SessionAffinity::ClientIp { timeout_seconds } => {
            spec["sessionAffinity"] = json!("ClientIP");
            spec["sessionAffinityConfig"] = json!({ "clientIP": { "timeoutSeconds": timeout_seconds } });
        }
    }
}

fn labels(key: &AddressKey) -> Value {
    let service = key.service();
    let mut labels = json!({
        MANAGED_BY: MANAGER,
        IMPORTED_SERVICE: service.name.as_str(),
        IMPORTED_NAMESPACE: service.namespace.as_str(),
    });
    if let AddressKey::Endpoint(_, cluster, _) = key {
        labels[SOURCE_CLUSTER] = json!(cluster.as_str());
    }
    labels
}

fn named_port(name: Option<&PortName>, transport: Transport, port: Port) -> Map<String, Value> {
    let mut value = Map::new();
    if let Some(name) = name {
        value.insert("name".to_owned(), json!(name.as_str()));
    }
    value.insert("protocol".to_owned(), json!(protocol(transport)));
    value.insert("port".to_owned(), json!(port.number()));
    value
}

fn with(mut value: Map<String, Value>, name: &str, word: Option<&str>) -> Value {
    if let Some(word) = word {
        value.insert(name.to_owned(), json!(word));
    }
    Value::Object(value)
}

const fn protocol(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

/// An EndpointSlice in `namespace`.
pub(super) fn slice(spec: &SliceSpec, namespace: &str) -> Value {
    let ports = spec.ports.iter().map(|(name, transport, port)| {
        // The name of the only port is empty in a slice, never absent.
        let mut value = named_port(name.as_ref(), *transport, *port);
        value.entry("name").or_insert_with(|| json!(""));
        Value::Object(value)
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": spec.name,
            "namespace": namespace,
            "labels": {
                SERVICE_NAME: spec.service,
                SLICE_MANAGED_BY: SLICE_MANAGER,
                MANAGED_BY: MANAGER,
            },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": spec.service, "uid": spec.service_uid,
                "controller": true, "blockOwnerDeletion": false,
            }],
        },
        "addressType": spec.family.label(),
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": spec.endpoints.iter().map(|endpoint| self::endpoint(endpoint, namespace)).collect::<Vec<_>>(),
    })
}

fn endpoint(endpoint: &GatewayEndpoint, namespace: &str) -> Value {
    let (name, uid) = &endpoint.pod;
    let mut value = Map::new();
    value.insert("addresses".to_owned(), json!([endpoint.ip]));
    value.insert(
        "conditions".to_owned(),
        json!({ "ready": endpoint.ready, "serving": endpoint.serving, "terminating": endpoint.terminating }),
    );
    value.insert("targetRef".to_owned(), json!({ "kind": "Pod", "namespace": namespace, "name": name, "uid": uid }));
    with(value, "nodeName", endpoint.node.as_deref())
}

/// A ServiceImport of `version`, such as `multicluster.x-k8s.io/v1beta1`.
pub(super) fn import(spec: &ImportSpec, version: &str) -> Value {
    let fields = &spec.fields;
    let mut labels: BTreeMap<&str, &str> = spec.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
    labels.insert(MANAGED_BY, MANAGER);
    let (exporters, written) = (joined(&spec.exporters), spec.written());
    let mut annotations: BTreeMap<&str, &str> =
        spec.annotations.iter().map(|(name, value)| (&**name, &**value)).collect();
    annotations.extend([(EXPORTERS, &*exporters), (WRITTEN, &*written)]);
    let mut body = json!({
        "apiVersion": version,
        "kind": "ServiceImport",
        "metadata": {
            "name": spec.key.name.as_str(),
            "namespace": spec.key.namespace.as_str(),
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {
            "type": match fields.kind {
                ImportKind::ClusterSetIp => "ClusterSetIP",
                ImportKind::Headless => "Headless",
            },
            "ports": fields.ports.iter().map(|port| {
                let value = named_port(port.name.as_ref(), port.transport, port.port);
                with(value, "appProtocol", port.app_protocol.as_deref())
            }).collect::<Vec<_>>(),
            "ips": fields.ips,
            "ipFamilies": fields.families().map(Family::label).collect::<Vec<_>>(),
        },
    });
    let spec = &mut body["spec"];
    set_affinity(spec, fields.session_affinity);
    for (name, word) in [
        ("internalTrafficPolicy", &fields.internal_traffic_policy),
        ("trafficDistribution", &fields.traffic_distribution),
    ] {
        if let Some(word) = word {
            spec[name] = json!(word);
        }
    }
    body
}

/// The status of a ServiceImport; with `slices` it says that there are no EndpointSlices beside it (KEP-1645), which not every
/// definition of the kind has a field for.
pub(super) fn import_status(status: &ImportStatus, version: &str, slices: bool) -> Value {
    let clusters = status.clusters.iter().map(|cluster| json!({ "cluster": cluster.as_str() }));
    let mut body = json!({
        "apiVersion": version,
        "kind": "ServiceImport",
        "metadata": { "name": status.key.name.as_str(), "namespace": status.key.namespace.as_str() },
        "status": { "clusters": clusters.collect::<Vec<_>>(), "conditions": conditions(&status.conditions) },
    });
    if slices {
        body["status"]["endpointSliceObjects"] = json!("Absent");
    }
    body
}

/// A ClusterProperty of `version`.
pub(super) fn property(spec: &PropertySpec, version: &str) -> Value {
    json!({
        "apiVersion": version,
        "kind": "ClusterProperty",
        "metadata": { "name": spec.name, "labels": { MANAGED_BY: MANAGER } },
        "spec": { "value": spec.value },
    })
}

/// The status of a ServiceExport.
pub(super) fn export_status(status: &ExportStatus, version: &str) -> Value {
    json!({
        "apiVersion": version,
        "kind": "ServiceExport",
        "metadata": { "name": status.key.name.as_str(), "namespace": status.key.namespace.as_str() },
        "status": { "conditions": conditions(&status.conditions) },
    })
}

fn conditions(stamped: &[StampedCondition]) -> Vec<Value> {
    let value = |stamped: &StampedCondition| {
        json!({
            "type": stamped.condition.kind.to_string(),
            "status": stamped.condition.status.to_string(),
            "reason": stamped.condition.reason,
            "message": stamped.condition.message,
            "observedGeneration": stamped.generation,
            "lastTransitionTime": rfc3339(stamped.since),
        })
    };
    stamped.iter().map(value).collect()
}

fn rfc3339(time: Timestamp) -> String {
    let seconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    // A time beyond what the type holds cannot come from a clock; the epoch says as much.
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

fn joined(clusters: &BTreeSet<ClusterName>) -> String {
    clusters.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(",")
}
