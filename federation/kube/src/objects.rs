//! Kubernetes objects become the plain values of `federation_catalog::objects`.
//!
//! Owns the defaults that Kubernetes gives to absent fields, and the checks an API server would have made. A value out
//! of its grammar is an error that names the field; fields that are not read are not checked. Never reads text.

use std::{net::IpAddr, str::FromStr};

use federation_catalog::objects::{
    ANNOTATION_PREFIX, AddressType, EndpointSliceObject, ObjectKey, PodObject, PodPhase, Protocol, ServiceExportObject,
    ServiceObject, ServicePortObject, ServiceType, SliceEndpoint, SlicePort, TargetPort,
};
use federation_model::{
    addr::{Port, Transport},
    catalog::{MAX_AFFINITY_SECONDS, SessionAffinity},
    names::{ClusterName, Namespace, PortName, ServiceKey, ServiceName},
    time::Timestamp,
};
use k8s_openapi::{
    api::{
        core::v1::{Pod, Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, Time},
        util::intstr::IntOrString,
    },
};

use crate::crd::ServiceExport;

pub mod policy;

/// The namespace of an object that names none, as `kubectl apply` has it by default.
pub const DEFAULT_NAMESPACE: &str = "default";

/// When an export without `metadata.creationTimestamp` was created: later than any that has one (9999-12-31T23:59:59Z).
///
/// The oldest export wins a conflict between clusters. The API server stamps every object; a manifest need not be stamped.
/// The time of the file would change with every edit, copy and restart, and differ between replicas that read copies of one
/// directory, so a conflict would be decided anew each time. Hence an undated export never overrides a dated one, and among
/// undated ones the tie is broken as between exports of the same second.
pub const UNDATED: Timestamp = Timestamp(253_402_300_799);

/// The label that names the service of an EndpointSlice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that names the cluster an imported EndpointSlice comes from.
const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";
/// The label that says who keeps an EndpointSlice.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Who keeps those that the gateway makes: the addresses in them are those of gateways.
pub const SLICES_OF_GATEWAY: &str = "gateway.landbridge.dev";
/// `sessionAffinityConfig.clientIP.timeoutSeconds` when not set (Kubernetes API reference).
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;
/// The longest name of an object (RFC 1123 subdomain).
const MAX_OBJECT_NAME: usize = 253;

/// A field that Kubernetes would not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldError {
    field: String,
    reason: String,
}

impl FieldError {
    fn new(field: impl Into<String>, reason: impl ToString) -> Self {
        Self { field: field.into(), reason: reason.to_string() }
    }
}

/// Converts a Service.
///
/// # Errors
/// When a field that is read is not valid.
pub fn service(object: &Service) -> Result<ServiceObject, FieldError> {
    let absent = ServiceSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&absent);
    let ports = spec.ports.iter().flatten().enumerate().map(|(index, port)| service_port(index, port));
    Ok(ServiceObject {
        key: service_key(&object.metadata)?,
        service_type: service_type(spec)?,
        ports: ports.collect::<Result<_, _>>()?,
        session_affinity: session_affinity(spec)?,
        internal_traffic_policy: spec.internal_traffic_policy.clone().filter(|text| !text.is_empty()),
        traffic_distribution: spec.traffic_distribution.clone().filter(|text| !text.is_empty()),
    })
}

/// Converts an EndpointSlice.
///
/// # Errors
/// When a field that is read is not valid.
pub fn endpoint_slice(object: &EndpointSlice) -> Result<EndpointSliceObject, FieldError> {
    let key = object_key(&object.metadata)?;
    let address_type = match object.address_type.as_str() {
        "IPv4" => AddressType::Ipv4,
        "IPv6" => AddressType::Ipv6,
        "FQDN" => AddressType::Fqdn,
        other => return Err(FieldError::new("addressType", format!("{other:?} is none of IPv4, IPv6 and FQDN"))),
    };
    let endpoints = object
        .endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| slice_endpoint(&format!("endpoints[{index}]"), endpoint, address_type, &key));
    let ports = object.ports.iter().flatten().enumerate().map(|(index, port)| slice_port(index, port));
    let service = label::<ServiceName>(&object.metadata, SERVICE_NAME)?;
    let from = label::<ClusterName>(&object.metadata, SOURCE_CLUSTER)?;
    let imported = from.is_some() || text_label(&object.metadata, MANAGED_BY) == Some(SLICES_OF_GATEWAY);
    let endpoints: Vec<SliceEndpoint> = endpoints.collect::<Result<_, _>>()?;
    // Nobody asks for the others, of which there can be as many as of those that count.
    let used = service.is_some() && !imported;
    Ok(EndpointSliceObject {
        service,
        imported,
        address_type,
        ports: ports.collect::<Result<_, _>>()?,
        endpoints: if used { endpoints } else { Vec::new() },
        key,
    })
}

/// Converts a Pod. An API server states the phase of every pod; a pod of a manifest that states an address and no phase
/// counts as running.
///
/// # Errors
/// When a field that is read is not valid.
pub fn pod(object: &Pod) -> Result<PodObject, FieldError> {
    let spec = object.spec.as_ref();
    let status = object.status.as_ref();
    let single = status.and_then(|status| status.pod_ip.as_deref());
    let listed = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    let mut ips = Vec::new();
    for text in single.into_iter().chain(listed.iter().map(|entry| entry.ip.as_str())).filter(|text| !text.is_empty()) {
        let ip = parse::<IpAddr>("status.podIPs", text)?;
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    let account = spec.and_then(|spec| {
        let named = [spec.service_account_name.as_deref(), spec.service_account.as_deref()];
        named.into_iter().flatten().find(|name| !name.is_empty())
    });
    Ok(PodObject {
        key: object_key(&object.metadata)?,
        service_account: account.unwrap_or("default").into(),
        phase: match status.and_then(|status| status.phase.as_deref()) {
            Some("Running") => PodPhase::Running,
            Some("Succeeded" | "Failed") => PodPhase::Ended,
            Some(_) => PodPhase::Unsettled,
            None if ips.is_empty() => PodPhase::Unsettled,
            None => PodPhase::Running,
        },
        ips,
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
        deleted: object.metadata.deletion_timestamp.is_some(),
    })
}

/// Converts a ServiceExport; one without `metadata.creationTimestamp` is [`UNDATED`].
///
/// # Errors
/// When a field that is read is not valid.
pub fn service_export(object: &ServiceExport) -> Result<ServiceExportObject, FieldError> {
    let ours = |(key, _): &(&String, &String)| key.starts_with(ANNOTATION_PREFIX);
    let annotations = object.metadata.annotations.iter().flatten().filter(ours);
    let spec = object.spec.spec.clone().unwrap_or_default();
    Ok(ServiceExportObject {
        key: service_key(&object.metadata)?,
        created: object.metadata.creation_timestamp.as_ref().map_or(UNDATED, timestamp),
        exported_labels: spec.exported_labels.unwrap_or_default(),
        exported_annotations: spec.exported_annotations.unwrap_or_default(),
        annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
    })
}

fn service_type(spec: &ServiceSpec) -> Result<ServiceType, FieldError> {
    let headless = spec.cluster_ip.as_deref() == Some("None");
    match spec.type_.as_deref().unwrap_or_default() {
        "" | "ClusterIP" if headless => Ok(ServiceType::Headless),
        "" | "ClusterIP" => Ok(ServiceType::ClusterIp),
        "NodePort" => Ok(ServiceType::NodePort),
        "LoadBalancer" => Ok(ServiceType::LoadBalancer),
        "ExternalName" => Ok(ServiceType::ExternalName),
        other => Err(FieldError::new(
            "spec.type",
            format!("{other:?} is none of ClusterIP, NodePort, LoadBalancer and ExternalName"),
        )),
    }
}

fn service_port(index: usize, object: &ServicePort) -> Result<ServicePortObject, FieldError> {
    let field = |name| format!("spec.ports[{index}].{name}");
    let target_port = match &object.target_port {
        None => None,
        // 0 is how some writers say "not set".
        Some(IntOrString::Int(0)) => None,
        Some(IntOrString::Int(number)) => Some(TargetPort::Number(port(&field("targetPort"), *number)?)),
        Some(IntOrString::String(name)) if name.is_empty() => None,
        Some(IntOrString::String(name)) => Some(TargetPort::Name(name.clone())),
    };
    Ok(ServicePortObject {
        name: port_name(&field("name"), object.name.as_deref())?,
        protocol: protocol(object.protocol.as_deref()),
        port: port(&field("port"), object.port)?,
        app_protocol: object.app_protocol.clone().filter(|text| !text.is_empty()),
        target_port,
    })
}

fn session_affinity(spec: &ServiceSpec) -> Result<SessionAffinity, FieldError> {
    match spec.session_affinity.as_deref().unwrap_or_default() {
        "" | "None" => Ok(SessionAffinity::None),
        "ClientIP" => {
            let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            let seconds = config.and_then(|config| config.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS);
            match u32::try_from(seconds) {
                Ok(timeout_seconds @ 1..=MAX_AFFINITY_SECONDS) => Ok(SessionAffinity::ClientIp { timeout_seconds }),
                Ok(_) | Err(_) => Err(FieldError::new(
                    "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                    format!("{seconds} is not between 1 and {MAX_AFFINITY_SECONDS}"),
                )),
            }
        }
        other => Err(FieldError::new("spec.sessionAffinity", format!("{other:?} is neither None nor ClientIP"))),
    }
}

fn slice_port(index: usize, object: &EndpointPort) -> Result<SlicePort, FieldError> {
    let field = |name| format!("ports[{index}].{name}");
    Ok(SlicePort {
        name: port_name(&field("name"), object.name.as_deref())?,
        protocol: protocol(object.protocol.as_deref()),
        port: object.port.map(|number| port(&field("port"), number)).transpose()?,
    })
}

fn slice_endpoint(
    field: &str,
    object: &Endpoint,
    address_type: AddressType,
    slice: &ObjectKey,
) -> Result<SliceEndpoint, FieldError> {
    let addresses = object.addresses.iter().map(|text| slice_address(field, text, address_type));
    let conditions = object.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hostname = object.hostname.as_deref().filter(|text| !text.is_empty());
    Ok(SliceEndpoint {
        addresses: addresses.filter_map(Result::transpose).collect::<Result<_, _>>()?,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        hostname: hostname.map(|text| parse(&format!("{field}.hostname"), text)).transpose()?,
        pod: pod_of(field, object, slice)?,
    })
}

/// The address of an endpoint; nothing for a name, which is not delivered to.
fn slice_address(field: &str, text: &str, address_type: AddressType) -> Result<Option<IpAddr>, FieldError> {
    let fail = |expected| Err(FieldError::new(format!("{field}.addresses"), format!("{text:?} is not an {expected}")));
    match (address_type, text.parse::<IpAddr>()) {
        (AddressType::Fqdn, _) => Ok(None),
        (AddressType::Ipv4, Ok(ip @ IpAddr::V4(_))) | (AddressType::Ipv6, Ok(ip @ IpAddr::V6(_))) => Ok(Some(ip)),
        (AddressType::Ipv4, Ok(IpAddr::V6(_)) | Err(_)) => fail("IPv4 address, as addressType says"),
        (AddressType::Ipv6, Ok(IpAddr::V4(_)) | Err(_)) => fail("IPv6 address, as addressType says"),
    }
}

fn pod_of(field: &str, object: &Endpoint, slice: &ObjectKey) -> Result<Option<ObjectKey>, FieldError> {
    let Some(reference) = object.target_ref.as_ref().filter(|reference| reference.kind.as_deref() == Some("Pod"))
    else {
        return Ok(None);
    };
    let Some(name) = reference.name.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
    let namespace = match reference.namespace.as_deref() {
        None | Some("") => slice.namespace.clone(),
        Some(text) => parse(&format!("{field}.targetRef.namespace"), text)?,
    };
    Ok(Some(ObjectKey { namespace, name: name.into() }))
}

fn service_key(metadata: &ObjectMeta) -> Result<ServiceKey, FieldError> {
    let name = metadata.name.as_deref().unwrap_or_default();
    Ok(ServiceKey::new(namespace(metadata)?, parse("metadata.name", name)?))
}

fn object_key(metadata: &ObjectMeta) -> Result<ObjectKey, FieldError> {
    let name = metadata.name.as_deref().unwrap_or_default();
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if name.is_empty() || name.len() > MAX_OBJECT_NAME || !name.bytes().all(allowed) {
        let shown: String = name.chars().take(80).collect();
        return Err(FieldError::new(
            "metadata.name",
            format!("{shown:?} is not 1 to {MAX_OBJECT_NAME} lowercase letters, digits, '-' and '.'"),
        ));
    }
    Ok(ObjectKey { namespace: namespace(metadata)?, name: name.into() })
}

fn namespace(metadata: &ObjectMeta) -> Result<Namespace, FieldError> {
    let text = metadata.namespace.as_deref().filter(|text| !text.is_empty()).unwrap_or(DEFAULT_NAMESPACE);
    parse("metadata.namespace", text)
}

fn label<T: FromStr>(metadata: &ObjectMeta, key: &str) -> Result<Option<T>, FieldError>
where
    T::Err: ToString,
{
    text_label(metadata, key).map(|text| parse(&format!("metadata.labels[{key}]"), text)).transpose()
}

fn text_label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn port(field: &str, number: i32) -> Result<Port, FieldError> {
    let port = u16::try_from(number).ok().and_then(Port::new);
    port.ok_or_else(|| FieldError::new(field, format!("{number} is not a port number from 1 to 65535")))
}

fn port_name(field: &str, text: Option<&str>) -> Result<Option<PortName>, FieldError> {
    text.filter(|text| !text.is_empty()).map(|text| parse(field, text)).transpose()
}

fn protocol(text: Option<&str>) -> Protocol {
    match text.unwrap_or_default() {
        "" | "TCP" => Protocol::Carried(Transport::Tcp),
        "UDP" => Protocol::Carried(Transport::Udp),
        other => Protocol::Other(other.to_owned()),
    }
}

fn timestamp(time: &Time) -> Timestamp {
    Timestamp(u64::try_from(time.0.as_second()).unwrap_or(0))
}

fn parse<T: FromStr>(field: &str, text: &str) -> Result<T, FieldError>
where
    T::Err: ToString,
{
    text.parse().map_err(|error: T::Err| FieldError::new(field, error))
}
