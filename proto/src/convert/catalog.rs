//! Catalogs, deltas and digests, between messages of the tunnel and values of the model.
//!
//! Owns the form of [`federation_model::catalog`] on the wire. Never checks the limits of a catalog: whoever receives one
//! calls [`Catalog::accepted_from`], which also knows whose tunnel carried it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use federation_model::{
    addr::{Port, Transport},
    catalog::{
        Catalog, CatalogDigest, EndpointCounts, ExportedService, MAX_AFFINITY_SECONDS, MAX_WEIGHT, Revision,
        ServiceKind, ServicePort, SessionAffinity,
    },
    delta::Delta,
    names::{EndpointName, ServiceKey},
    time::Timestamp,
};

use super::ConvertError;
use crate::tunnel::v1 as wire;

impl From<&ServiceKey> for wire::ServiceKey {
    fn from(key: &ServiceKey) -> Self {
        Self { namespace: key.namespace.to_string(), name: key.name.to_string() }
    }
}

impl TryFrom<wire::ServiceKey> for ServiceKey {
    type Error = ConvertError;
    fn try_from(key: wire::ServiceKey) -> Result<Self, ConvertError> {
        let namespace = key.namespace.parse().map_err(ConvertError::of("ServiceKey", "namespace"))?;
        let name = key.name.parse().map_err(ConvertError::of("ServiceKey", "name"))?;
        Ok(Self::new(namespace, name))
    }
}

impl From<Transport> for wire::Transport {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
        }
    }
}

/// The transport of the field `transport` of `message`.
///
/// # Errors
/// When the number is none this version knows.
pub fn transport(message: &'static str, number: i32) -> Result<Transport, ConvertError> {
    match wire::Transport::try_from(number) {
        Ok(wire::Transport::Tcp) => Ok(Transport::Tcp),
        Ok(wire::Transport::Udp) => Ok(Transport::Udp),
        Ok(wire::Transport::Unspecified) => Err(ConvertError::new(message, "transport", "it is missing")),
        Err(_) => Err(ConvertError::new(message, "transport", format!("{number} is no transport this version knows"))),
    }
}

/// The port of the field `port` of `message`.
///
/// # Errors
/// When it is not 1 to 65535.
pub fn port(message: &'static str, number: u32) -> Result<Port, ConvertError> {
    u16::try_from(number)
        .ok()
        .and_then(Port::new)
        .ok_or_else(|| ConvertError::new(message, "port", format!("{number} is not a port from 1 to 65535")))
}

impl From<&ServicePort> for wire::Port {
    fn from(port: &ServicePort) -> Self {
        Self {
            name: port.name.as_ref().map(ToString::to_string),
            transport: wire::Transport::from(port.transport).into(),
            port: port.port.number().into(),
            app_protocol: port.app_protocol.clone(),
        }
    }
}

impl TryFrom<wire::Port> for ServicePort {
    type Error = ConvertError;
    fn try_from(message: wire::Port) -> Result<Self, ConvertError> {
        let name = message.name.map(|name| name.parse()).transpose().map_err(ConvertError::of("Port", "name"))?;
        Ok(Self {
            name,
            transport: transport("Port", message.transport)?,
            port: port("Port", message.port)?,
            app_protocol: message.app_protocol,
        })
    }
}

/// The message of one exported service.
#[must_use]
pub fn service_message(key: &ServiceKey, service: &ExportedService) -> wire::Service {
    let (headless, endpoints) = match &service.kind {
        ServiceKind::ClusterSetIp => (false, Vec::new()),
        ServiceKind::Headless(endpoints) => (true, endpoints.iter().map(ToString::to_string).collect()),
    };
    wire::Service {
        key: Some(key.into()),
        exported_at: service.exported_at.0,
        headless,
        endpoints,
        ports: service.ports.iter().map(Into::into).collect(),
        ready: service.health.ready,
        terminating: service.health.terminating,
        client_ip_affinity: match service.session_affinity {
            SessionAffinity::None => 0,
            SessionAffinity::ClientIp { timeout_seconds } => timeout_seconds,
        },
        priority: service.priority,
        weight: service.weight,
        internal_traffic_policy: service.internal_traffic_policy.clone(),
        traffic_distribution: service.traffic_distribution.clone(),
        labels: service.labels.clone(),
        annotations: service.annotations.clone(),
    }
}

impl TryFrom<wire::Service> for (ServiceKey, ExportedService) {
    type Error = ConvertError;
    fn try_from(message: wire::Service) -> Result<Self, ConvertError> {
        let key = message.key.ok_or_else(|| ConvertError::new("Service", "key", "it is missing"))?.try_into()?;
        let service = ExportedService {
            exported_at: Timestamp(message.exported_at),
            kind: kind(message.headless, message.endpoints)?,
            ports: message.ports.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            health: EndpointCounts { ready: message.ready, terminating: message.terminating },
            session_affinity: affinity(message.client_ip_affinity)?,
            priority: message.priority,
            weight: weight(message.weight)?,
            internal_traffic_policy: message.internal_traffic_policy,
            traffic_distribution: message.traffic_distribution,
            labels: message.labels,
            annotations: message.annotations,
        };
        Ok((key, service))
    }
}

fn kind(headless: bool, endpoints: Vec<String>) -> Result<ServiceKind, ConvertError> {
    let fail = |reason| Err(ConvertError::new("Service", "endpoints", reason));
    if !headless {
        return if endpoints.is_empty() {
            Ok(ServiceKind::ClusterSetIp)
        } else {
            fail("endpoints are named, but the service is not headless")
        };
    }
    let names: Vec<EndpointName> = endpoints
        .into_iter()
        .map(|name| name.parse())
        .collect::<Result<_, _>>()
        .map_err(ConvertError::of("Service", "endpoints"))?;
    if names.is_sorted_by(|a, b| a < b) {
        Ok(ServiceKind::Headless(names))
    } else {
        fail("they are not sorted, or one is named twice")
    }
}

fn affinity(seconds: u32) -> Result<SessionAffinity, ConvertError> {
    match seconds {
        0 => Ok(SessionAffinity::None),
        1..=MAX_AFFINITY_SECONDS => Ok(SessionAffinity::ClientIp { timeout_seconds: seconds }),
        _ => {
            Err(ConvertError::new("Service", "client_ip_affinity", format!("{seconds} is over {MAX_AFFINITY_SECONDS}")))
        }
    }
}

fn weight(weight: u32) -> Result<u32, ConvertError> {
    match weight {
        1..=MAX_WEIGHT => Ok(weight),
        _ => Err(ConvertError::new("Service", "weight", format!("{weight} is not a weight from 1 to {MAX_WEIGHT}"))),
    }
}

/// The services of a message by key.
fn services(
    message: &'static str,
    field: &'static str,
    list: Vec<wire::Service>,
) -> Result<BTreeMap<ServiceKey, ExportedService>, ConvertError> {
    let mut services = BTreeMap::new();
    for service in list {
        let (key, service): (ServiceKey, ExportedService) = service.try_into()?;
        if services.contains_key(&key) {
            return Err(ConvertError::new(message, field, format!("{key} is named twice")));
        }
        services.insert(key, service);
    }
    Ok(services)
}

impl From<&Catalog> for wire::Catalog {
    fn from(catalog: &Catalog) -> Self {
        Self {
            cluster: catalog.cluster.to_string(),
            services: catalog.services.iter().map(|(key, service)| service_message(key, service)).collect(),
        }
    }
}

impl TryFrom<wire::Catalog> for Catalog {
    type Error = ConvertError;
    fn try_from(message: wire::Catalog) -> Result<Self, ConvertError> {
        Ok(Self {
            cluster: message.cluster.parse().map_err(ConvertError::of("Catalog", "cluster"))?,
            services: services("Catalog", "services", message.services)?,
        })
    }
}

/// The digest as bytes of a message.
#[must_use]
pub fn digest_bytes(digest: &CatalogDigest) -> Bytes {
    Bytes::copy_from_slice(&digest.0)
}

/// The digest in the field `field` of `message`.
///
/// # Errors
/// When it is not 32 bytes long.
pub fn digest(message: &'static str, field: &'static str, bytes: &Bytes) -> Result<CatalogDigest, ConvertError> {
    <[u8; 32]>::try_from(bytes.as_ref())
        .map(CatalogDigest)
        .map_err(|_| ConvertError::new(message, field, format!("it is {} bytes long, not 32", bytes.len())))
}

/// The message of a delta that leads from revision `base` to `revision`.
#[must_use]
pub fn delta_message(delta: &Delta, base: Revision, revision: Revision) -> wire::CatalogDelta {
    wire::CatalogDelta {
        base: base.0,
        revision: revision.0,
        upserts: delta.upserts.iter().map(|(key, service)| service_message(key, service)).collect(),
        removals: delta.removals.iter().map(Into::into).collect(),
        digest: digest_bytes(&delta.digest),
    }
}

impl TryFrom<wire::CatalogDelta> for Delta {
    type Error = ConvertError;
    /// The delta without its numbers, which the session reads itself.
    fn try_from(message: wire::CatalogDelta) -> Result<Self, ConvertError> {
        let upserts = services("CatalogDelta", "upserts", message.upserts)?;
        let removals: BTreeSet<ServiceKey> =
            message.removals.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        if let Some(key) = removals.iter().find(|key| upserts.contains_key(*key)) {
            return Err(ConvertError::new("CatalogDelta", "removals", format!("{key} is removed and changed")));
        }
        Ok(Self { upserts, removals, digest: digest("CatalogDelta", "digest", &message.digest)? })
    }
}

#[cfg(test)]
mod tests;
