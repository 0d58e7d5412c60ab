//! What the API server has, as the plain values the planner compares.
//!
//! Owns the reading of objects a gateway wrote. What cannot be read is there all the same, without contents: it is written
//! anew when it is ours, and left alone when it is not.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use federation_catalog::desired::{
    EXPORTERS, Exporters, IMPORT, MANAGED_BY, MANAGER,
    derived_services::PresentService,
    properties::PresentProperty,
    service_imports::{ImportFields, PresentImport},
    slices::{Family, GatewayEndpoint, GatewayPod, PresentSlice, SliceSpec},
    statuses::{PresentCondition, PresentExport},
};
use federation_model::{
    addr::{Port, Transport},
    catalog::SessionAffinity,
    derived::{DerivedPort, DerivedService, PlacedService},
    import::ImportKind,
    names::PortName,
    time::Timestamp,
};
use k8s_openapi::{
    api::{
        core::v1::{Pod, Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, ObjectMeta, Time},
        util::intstr::IntOrString,
    },
};
use kube::api::DynamicObject;
use serde::Deserialize;

use super::documents::{SERVICE_NAME, SLICE_MANAGED_BY, SLICE_MANAGER};

/// A Service of the gateway's namespace.
pub(super) fn service(object: &Service) -> PresentService {
    let metadata = &object.metadata;
    PresentService {
        uid: metadata.uid.clone().unwrap_or_default(),
        ours: is_ours(metadata),
        placed: placed(object),
        exporters: exporters(metadata),
    }
}

/// A derived Service in good order. It counts only under the name of what it gives an address to, so that no other object of
/// the namespace can speak for an import.
pub(crate) fn placed(object: &Service) -> Option<PlacedService> {
    let metadata = &object.metadata;
    let key = annotation(metadata, IMPORT)?.parse().ok()?;
    if !is_labelled(metadata) || metadata.name.as_deref()? != DerivedService::name_of(&key) {
        return None;
    }
    let spec = object.spec.as_ref()?;
    let no_selector = spec.selector.as_ref().is_none_or(BTreeMap::is_empty);
    let plain = spec.type_.as_deref().unwrap_or("ClusterIP") == "ClusterIP";
    let ports: Option<Vec<DerivedPort>> = spec.ports.iter().flatten().map(derived_port).collect();
    let ports = ports.filter(|ports| no_selector && plain && !ports.is_empty())?;
    let addresses =
        spec.cluster_ips.iter().flatten().chain(spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none()));
    Some(PlacedService {
        service: DerivedService { key, ports, session_affinity: affinity(spec) },
        addresses: addresses.filter_map(|ip| ip.parse().ok()).collect(),
        created: created(metadata.creation_timestamp.as_ref()),
    })
}

fn derived_port(port: &ServicePort) -> Option<DerivedPort> {
    let allocated = match port.target_port.as_ref()? {
        IntOrString::Int(number) => number_of(*number)?,
        IntOrString::String(_) => return None,
    };
    Some(DerivedPort {
        name: name_of(port.name.as_deref())?,
        transport: transport(port.protocol.as_deref())?,
        port: number_of(port.port)?,
        allocated,
        app_protocol: port.app_protocol.clone(),
    })
}

fn affinity(spec: &ServiceSpec) -> SessionAffinity {
    let seconds = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    affinity_of(spec.session_affinity.as_deref(), seconds)
}

/// `ClientIP` without a time has the one that Kubernetes gives it.
fn affinity_of(word: Option<&str>, seconds: Option<i32>) -> SessionAffinity {
    match word {
        Some("ClientIP") => SessionAffinity::ClientIp {
            timeout_seconds: seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(10_800),
        },
        Some(_) | None => SessionAffinity::None,
    }
}

/// An EndpointSlice of the gateway's namespace.
pub(super) fn slice(object: &EndpointSlice) -> PresentSlice {
    let metadata = &object.metadata;
    let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    PresentSlice {
        uid: metadata.uid.clone().unwrap_or_default(),
        ours: label(SLICE_MANAGED_BY).as_deref() == Some(SLICE_MANAGER),
        service: label(SERVICE_NAME).unwrap_or_default(),
        spec: slice_spec(object, label(SERVICE_NAME)),
    }
}

fn slice_spec(object: &EndpointSlice, service: Option<String>) -> Option<SliceSpec> {
    let ports: Option<Vec<_>> = object.ports.iter().flatten().map(slice_port).collect();
    let endpoints: Option<Vec<_>> = object.endpoints.iter().map(endpoint).collect();
    let family = match object.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        _ => return None,
    };
    let owner = object.metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Service");
    Some(SliceSpec {
        name: object.metadata.name.clone()?,
        service: service?,
        service_uid: owner?.uid.clone(),
        family,
        ports: ports?,
        endpoints: endpoints?,
    })
}

fn slice_port(port: &EndpointPort) -> Option<(Option<PortName>, Transport, Port)> {
    Some((name_of(port.name.as_deref())?, transport(port.protocol.as_deref())?, number_of(port.port?)?))
}

fn endpoint(endpoint: &Endpoint) -> Option<GatewayEndpoint> {
    let conditions = endpoint.conditions.as_ref()?;
    let target = endpoint.target_ref.as_ref()?;
    let [ip] = endpoint.addresses.as_slice() else { return None };
    Some(GatewayEndpoint {
        ip: ip.parse().ok()?,
        ready: conditions.ready?,
        serving: conditions.serving?,
        terminating: conditions.terminating?,
        node: endpoint.node_name.clone(),
        pod: (target.name.clone()?, target.uid.clone()?),
    })
}

/// A gateway pod; nothing of one that has ended, whose address may be another pod's by now.
pub(super) fn gateway_pod(pod: &Pod) -> Option<GatewayPod> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    Some(GatewayPod {
        ips: status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect(),
        ready,
        terminating: pod.metadata.deletion_timestamp.is_some(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        uid: pod.metadata.uid.clone()?,
    })
}

/// A ServiceImport, in whatever version it is served.
pub(super) fn import(object: &DynamicObject) -> PresentImport {
    let metadata = &object.metadata;
    let body = ImportBody::deserialize(&object.data).unwrap_or_default();
    let status = body.status.unwrap_or_default();
    PresentImport {
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or(0),
        ours: is_ours(metadata),
        labels: metadata.labels.clone().unwrap_or_default(),
        annotations: metadata.annotations.clone().unwrap_or_default(),
        fields: body.spec.and_then(ImportSpecBody::fields),
        exporters: exporters(metadata),
        clusters: status.clusters.into_iter().map(|cluster| cluster.cluster).collect(),
        conditions: conditions(&status.conditions),
    }
}

/// A ServiceExport, in whatever version it is served.
pub(super) fn export(object: &DynamicObject) -> PresentExport {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Body {
        status: Option<ConditionsBody>,
    }
    let body = Body::deserialize(&object.data).unwrap_or_default();
    PresentExport {
        generation: object.metadata.generation.unwrap_or(0),
        conditions: conditions(&body.status.unwrap_or_default().conditions),
    }
}

/// A ClusterProperty, in whatever version it is served.
pub(super) fn property(object: &DynamicObject) -> PresentProperty {
    let value = object.data.get("spec").and_then(|spec| spec.get("value")).and_then(serde_json::Value::as_str);
    PresentProperty {
        uid: object.metadata.uid.clone().unwrap_or_default(),
        ours: is_ours(&object.metadata),
        value: value.unwrap_or_default().to_owned(),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ConditionsBody {
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ImportBody {
    spec: Option<ImportSpecBody>,
    status: Option<ImportStatusBody>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ImportStatusBody {
    clusters: Vec<ClusterBody>,
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct ClusterBody {
    cluster: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ImportSpecBody {
    #[serde(rename = "type")]
    kind: String,
    ports: Vec<ServicePort>,
    ips: Vec<String>,
    ip_families: Vec<String>,
    session_affinity: Option<String>,
    session_affinity_config: Option<AffinityBody>,
    internal_traffic_policy: Option<String>,
    traffic_distribution: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct AffinityBody {
    client_ip: Option<ClientIpBody>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ClientIpBody {
    timeout_seconds: Option<i32>,
}

impl ImportSpecBody {
    fn fields(self) -> Option<ImportFields> {
        let kind = match self.kind.as_str() {
            "ClusterSetIP" => ImportKind::ClusterSetIp,
            "Headless" => ImportKind::Headless,
            _ => return None,
        };
        let seconds = self.session_affinity_config.and_then(|config| config.client_ip?.timeout_seconds);
        let ports: Option<Vec<_>> = self.ports.iter().map(import_port).collect();
        let ips: Option<Vec<IpAddr>> = self.ips.iter().map(|ip| ip.parse().ok()).collect();
        let fields = ImportFields {
            kind,
            ports: ports?,
            ips: ips?,
            session_affinity: affinity_of(self.session_affinity.as_deref(), seconds),
            internal_traffic_policy: self.internal_traffic_policy,
            traffic_distribution: self.traffic_distribution,
        };
        let families = fields.families().map(Family::label).eq(self.ip_families.iter().map(String::as_str));
        families.then_some(fields)
    }
}

fn import_port(port: &ServicePort) -> Option<federation_model::catalog::ServicePort> {
    Some(federation_model::catalog::ServicePort {
        name: name_of(port.name.as_deref())?,
        transport: transport(port.protocol.as_deref())?,
        port: number_of(port.port)?,
        app_protocol: port.app_protocol.clone(),
    })
}

fn conditions(conditions: &[Condition]) -> Vec<PresentCondition> {
    let present = |condition: &Condition| PresentCondition {
        kind: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        generation: condition.observed_generation.unwrap_or(0),
        since: created(Some(&condition.last_transition_time)),
    };
    conditions.iter().map(present).collect()
}

/// Whether a gateway made it: it says so, or the record of its writers does after somebody removed the label.
fn is_ours(metadata: &ObjectMeta) -> bool {
    let applied = |entry: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or("").is_empty()
    };
    is_labelled(metadata) || metadata.managed_fields.iter().flatten().any(applied)
}

fn is_labelled(metadata: &ObjectMeta) -> bool {
    metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn exporters(metadata: &ObjectMeta) -> Exporters {
    let text = annotation(metadata, EXPORTERS).unwrap_or("");
    Arc::new(text.split(',').filter_map(|name| name.trim().parse().ok()).collect())
}

/// A name that is a name, or none; nothing for what is not a name.
fn name_of(text: Option<&str>) -> Option<Option<PortName>> {
    match text {
        None | Some("") => Some(None),
        Some(text) => text.parse().ok().map(Some),
    }
}

fn transport(protocol: Option<&str>) -> Option<Transport> {
    match protocol.unwrap_or("TCP") {
        "TCP" => Some(Transport::Tcp),
        "UDP" => Some(Transport::Udp),
        _ => None,
    }
}

fn number_of(number: i32) -> Option<Port> {
    u16::try_from(number).ok().and_then(Port::new)
}

fn created(time: Option<&Time>) -> Timestamp {
    time.map_or_else(Timestamp::default, |time| Timestamp(u64::try_from(time.0.as_second()).unwrap_or(0)))
}
