//! From the objects of this cluster to what it exports and whose addresses are whose.
//!
//! Owns the rules of exporting: explicit and local (a Service without a ServiceExport here is not exported), what can be
//! exported, and what is held back when an annotation cannot be understood. Never looks at other clusters: that is
//! [`crate::merge`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use federation_model::{
    addr::{Port, Transport},
    catalog::{
        Catalog, CatalogError, EndpointCounts, ExportedService, MAX_HEADLESS_ENDPOINTS, MAX_METADATA,
        MAX_METADATA_BYTES, MAX_SERVICES, MAX_WEIGHT, ServiceKind, ServicePort,
    },
    export::{Endpoint, EndpointState, LocalExport},
    names::{ClusterName, EndpointName, ServiceKey},
    spiffe::{SpiffeId, TrustDomain},
};

use crate::{
    conditions::ExportConditions,
    objects::{
        DELIVER, EXPORT_TO, EndpointSliceObject, Objects, PRIORITY, Protocol, ServiceExportObject, ServiceObject,
        ServicePortObject, ServiceType, TLS_CLIENT_IDENTITY, TLS_SERVER_NAME, TLS_SPIFFE_ID, WEIGHT,
    },
};

mod audience;
mod deliver;
mod endpoints;
mod owners;
pub mod warning;

use self::{audience::AudienceFault, deliver::DeliverFault, owners::Owners, warning::Warning};

/// The priority of an export that names none; lower is preferred.
pub const DEFAULT_PRIORITY: u32 = 0;
/// The weight of an export that names none.
pub const DEFAULT_WEIGHT: u32 = 100;

/// The annotations of a ServiceExport that mean something.
const KNOWN: [&str; 7] = [DELIVER, TLS_SPIFFE_ID, TLS_SERVER_NAME, TLS_CLIENT_IDENTITY, PRIORITY, WEIGHT, EXPORT_TO];

/// What the objects of this cluster say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LocalState {
    /// What it exports.
    pub exports: Arc<BTreeMap<ServiceKey, LocalExport>>,
    /// Whose address is whose: the pods that may call through the gateway.
    pub pods: Arc<BTreeMap<IpAddr, Arc<SpiffeId>>>,
    /// What became of each ServiceExport.
    pub conditions: BTreeMap<ServiceKey, ExportConditions>,
    /// What is not as its author may think.
    pub warnings: Vec<Warning>,
}

impl LocalState {
    /// All that this cluster exports; which of it another cluster is told is in its edition
    /// ([`federation_model::edition::Editions`]).
    #[must_use]
    pub fn catalog(&self, cluster: ClusterName) -> Catalog {
        let services = self.exports.iter().map(|(key, export)| (key.clone(), export.service.clone())).collect();
        Catalog { cluster, services }
    }
}

/// Why a ServiceExport does not take effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Held {
    #[error("there is no Service {0} in this cluster; create it, or delete the ServiceExport")]
    NoService(ServiceKey),
    #[error("Service {0} is of type ExternalName, which cannot be exported")]
    ExternalName(ServiceKey),
    /// Another way than the one meant could let callers forge what the service trusts, so none is used.
    #[error(transparent)]
    Deliver(#[from] DeliverFault),
    /// Whoever it is told could be somebody it is kept from.
    #[error(transparent)]
    Audience(#[from] AudienceFault),
    /// One service over a limit would make every peer refuse the whole catalog.
    #[error("other clusters would not accept it: {0}")]
    OverLimit(CatalogError),
    #[error("this cluster exports {MAX_SERVICES} older services already, which is the most")]
    TooManyServices,
}

impl Held {
    fn conditions(&self) -> ExportConditions {
        let message = self.to_string();
        match self {
            Self::NoService(_) => ExportConditions::without_service(&message),
            Self::ExternalName(_) => ExportConditions::of_invalid_type(&message),
            Self::Deliver(_) | Self::Audience(_) | Self::OverLimit(_) | Self::TooManyServices => {
                ExportConditions::failed(&message)
            }
        }
    }
}

/// Compiles the objects of the cluster whose trust domain is `trust_domain`, once.
#[must_use]
pub fn compile(objects: &Objects, trust_domain: &TrustDomain) -> LocalState {
    let mut compiler = Compiler::new(trust_domain.clone());
    compiler.update(objects);
    compiler.state
}

/// Compiles the objects of a cluster again and again: what they share with those before is not compiled anew.
#[derive(Debug, Clone)]
pub struct Compiler {
    objects: Objects,
    /// Those of the exports alone.
    warnings: Vec<Warning>,
    owners: Owners,
    state: LocalState,
}

impl Compiler {
    /// A compiler for the cluster whose trust domain is `trust_domain`.
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            objects: Objects::default(),
            warnings: Vec::new(),
            owners: Owners::new(trust_domain),
            state: LocalState::default(),
        }
    }

    /// What the objects last given say; nothing was exported before any were.
    #[must_use]
    pub fn state(&self) -> &LocalState {
        &self.state
    }

    /// Takes over the objects there are now.
    pub fn update(&mut self, objects: &Objects) {
        let known = std::mem::replace(&mut self.objects, objects.clone());
        let exports_stand = Arc::ptr_eq(&known.services, &objects.services)
            && Arc::ptr_eq(&known.endpoint_slices, &objects.endpoint_slices)
            && Arc::ptr_eq(&known.service_exports, &objects.service_exports);
        if !exports_stand {
            let Exporting { exports, conditions, warnings } = export_all(objects);
            self.state.exports = Arc::new(exports);
            self.state.conditions = conditions;
            self.warnings = warnings;
        }
        let pods_stand = Arc::ptr_eq(&known.pods, &objects.pods);
        if !pods_stand {
            self.owners.update(&objects.pods);
            self.state.pods = self.owners.principals().clone();
        }
        if !(exports_stand && pods_stand) {
            self.state.warnings = self.warnings.iter().chain(self.owners.warnings()).cloned().collect();
        }
    }
}

/// The exports under way.
#[derive(Default)]
struct Exporting {
    exports: BTreeMap<ServiceKey, LocalExport>,
    conditions: BTreeMap<ServiceKey, ExportConditions>,
    warnings: Vec<Warning>,
}

fn export_all(objects: &Objects) -> Exporting {
    let mut exporting = Exporting::default();
    let mut slices: BTreeMap<ServiceKey, Vec<&EndpointSliceObject>> = BTreeMap::new();
    for slice in objects.endpoint_slices.values().filter(|slice| !slice.imported) {
        if let Some(service) = &slice.service {
            let key = ServiceKey::new(slice.key.namespace.clone(), service.clone());
            if objects.service_exports.contains_key(&key) {
                slices.entry(key).or_default().push(slice);
            }
        }
    }
    // The oldest first, so that a new export never pushes out one that works.
    let mut exports: Vec<&ServiceExportObject> = objects.service_exports.values().map(Arc::as_ref).collect();
    exports.sort_by_key(|export| (export.created, &export.key));
    for export in exports {
        let of_service = slices.get(&export.key).map_or(&[][..], Vec::as_slice);
        let conditions = match held_or_exported(export, objects, of_service, &mut exporting) {
            Ok(local) => {
                let conditions = ExportConditions::exported(&local.audience);
                exporting.exports.insert(export.key.clone(), local);
                conditions
            }
            Err(held) => held.conditions(),
        };
        exporting.conditions.insert(export.key.clone(), conditions);
    }
    exporting
}

fn held_or_exported(
    export: &ServiceExportObject,
    objects: &Objects,
    slices: &[&EndpointSliceObject],
    state: &mut Exporting,
) -> Result<LocalExport, Held> {
    let key = &export.key;
    let service = objects.services.get(key).ok_or_else(|| Held::NoService(key.clone()))?;
    let headless = match service.service_type {
        ServiceType::ClusterIp | ServiceType::NodePort | ServiceType::LoadBalancer => false,
        ServiceType::Headless => true,
        ServiceType::ExternalName => return Err(Held::ExternalName(key.clone())),
    };
    if state.exports.len() >= MAX_SERVICES {
        return Err(Held::TooManyServices);
    }
    let warnings = &mut state.warnings;
    let ports = carried_ports(service, warnings);
    let deliver = deliver::modes(export, &ports, warnings)?;
    let audience = audience::of(export)?;
    let endpoints = endpoints::of_service(key, &ports, slices, warnings);
    let exported = ExportedService {
        exported_at: export.created,
        kind: if headless { kind_of_headless(key, &endpoints, warnings) } else { ServiceKind::ClusterSetIp },
        ports: ports.iter().map(|(port, transport)| exported_port(port, *transport)).collect(),
        health: counts(&endpoints),
        session_affinity: service.session_affinity,
        priority: number(export, PRIORITY, 0..=u32::MAX, DEFAULT_PRIORITY, warnings),
        weight: number(export, WEIGHT, 1..=MAX_WEIGHT, DEFAULT_WEIGHT, warnings),
        internal_traffic_policy: service.internal_traffic_policy.clone(),
        traffic_distribution: service.traffic_distribution.clone(),
        labels: metadata(key, "label", &export.exported_labels, warnings),
        annotations: metadata(key, "annotation", &export.exported_annotations, warnings),
    };
    for annotation in export.annotations.keys().filter(|name| !KNOWN.contains(&name.as_str())) {
        warnings.push(Warning::UnknownAnnotation { export: key.clone(), annotation: annotation.clone() });
    }
    exported.check(key).map_err(Held::OverLimit)?;
    Ok(LocalExport { service: exported, endpoints, deliver, audience })
}

/// A number from an annotation, or the default with a warning.
fn number(
    export: &ServiceExportObject,
    annotation: &'static str,
    range: std::ops::RangeInclusive<u32>,
    default: u32,
    warnings: &mut Vec<Warning>,
) -> u32 {
    let Some(value) = export.annotations.get(annotation) else {
        return default;
    };
    match value.trim().parse() {
        Ok(number) if range.contains(&number) => number,
        Ok(_) | Err(_) => {
            let (least, most) = range.into_inner();
            let value = value.chars().take(80).collect();
            warnings.push(Warning::Annotation { export: export.key.clone(), annotation, value, least, most, default });
            default
        }
    }
}

/// The ports that can be carried, without duplicates.
fn carried_ports<'a>(
    service: &'a ServiceObject,
    warnings: &mut Vec<Warning>,
) -> Vec<(&'a ServicePortObject, Transport)> {
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut carried = Vec::with_capacity(service.ports.len());
    for port in &service.ports {
        match &port.protocol {
            Protocol::Carried(transport) => {
                let new_number = numbers.insert((port.port, *transport));
                if new_number && names.insert(port.name.clone()) {
                    carried.push((port, *transport));
                } else {
                    warnings.push(Warning::DuplicatePort { service: service.key.clone(), port: port.port });
                }
            }
            Protocol::Other(protocol) => {
                let protocol = protocol.chars().take(20).collect();
                warnings.push(Warning::Protocol { service: service.key.clone(), port: port.port, protocol });
            }
        }
    }
    carried
}

fn exported_port(port: &ServicePortObject, transport: Transport) -> ServicePort {
    ServicePort { name: port.name.clone(), transport, port: port.port, app_protocol: port.app_protocol.clone() }
}

fn counts(endpoints: &[Endpoint]) -> EndpointCounts {
    let count = |state| {
        let found = endpoints.iter().filter(|endpoint| endpoint.state == state).count();
        u32::try_from(found).unwrap_or(u32::MAX)
    };
    EndpointCounts { ready: count(EndpointState::Ready), terminating: count(EndpointState::Terminating) }
}

fn kind_of_headless(key: &ServiceKey, endpoints: &[Endpoint], warnings: &mut Vec<Warning>) -> ServiceKind {
    let ready = endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Ready);
    let mut names: Vec<EndpointName> =
        ready.map(|endpoint| endpoint.name.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    if names.len() > MAX_HEADLESS_ENDPOINTS {
        warnings.push(Warning::ManyEndpoints { service: key.clone(), count: names.len() });
        names.truncate(MAX_HEADLESS_ENDPOINTS);
    }
    ServiceKind::Headless(names)
}

/// The exported labels or annotations that fit.
fn metadata(
    key: &ServiceKey,
    what: &'static str,
    from: &BTreeMap<String, String>,
    warnings: &mut Vec<Warning>,
) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    for (name, value) in from {
        if name.len() + value.len() <= MAX_METADATA_BYTES && kept.len() < MAX_METADATA {
            kept.insert(name.clone(), value.clone());
        } else {
            let name = name.chars().take(80).collect();
            warnings.push(Warning::Metadata { export: key.clone(), what, name });
        }
    }
    kept
}

/// A service port with the transport it is carried over.
type CarriedPort<'a> = (&'a ServicePortObject, Transport);
/// From service port to the port an endpoint listens on.
type Targets = BTreeMap<(Port, Transport), Port>;

#[cfg(test)]
mod tests;
