//! The derived Services there should be: one for each import with an address, one for each endpoint of a headless one.
//!
//! Owns their ports, their names and which Services are ours. Never touches a Service that somebody else made.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use federation_model::{
    addr::{Port, Transport},
    catalog::ServicePort,
    derived::{DerivedPort, DerivedService, PlacedService},
    finding::Finding,
    import::{
        Import, ImportKind,
        address::{AddressKey, address_keys},
    },
    names::{ClusterName, PortName},
    time::Timestamp,
};

use super::{
    Change, Present, Wanted,
    allocation::{Allocations, Round},
    awaited,
    metadata::app_protocol,
};

/// A derived Service as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// `metadata.name`, in the namespace of the gateway.
    pub name: String,
    /// What it says.
    pub service: DerivedService,
    /// The clusters that export what it gives an address to.
    pub exporters: BTreeSet<ClusterName>,
}

/// A Service of the gateway's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentService {
    /// `metadata.uid`.
    pub uid: String,
    /// Whether a gateway made it.
    pub ours: bool,
    /// What it says, where it is a derived Service in good order under the name of its key.
    pub placed: Option<PlacedService>,
    /// The clusters that exported what it gives an address to, when it was written last.
    pub exporters: BTreeSet<ClusterName>,
}

impl PresentService {
    fn addresses(&self) -> &[IpAddr] {
        self.placed.as_ref().map_or(&[], |placed| &placed.addresses)
    }
}

/// The derived Services there should be, by name.
pub(super) type Desired = BTreeMap<String, ServiceSpec>;

pub(super) fn desired(
    wanted: &Wanted<'_>,
    present: &Present,
    allocations: &mut Allocations,
    now: Timestamp,
    findings: &mut Vec<Finding>,
) -> Desired {
    let mut round = allocations.begin(present, now);
    let mut desired = Desired::new();
    for key in address_keys(wanted.imports) {
        let Some(import) = wanted.imports.get(key.service()) else { continue };
        if !present.namespaces.contains(&key.service().namespace) {
            continue;
        }
        match spec(&key, import, present, &mut round) {
            Ok(spec) => {
                desired.insert(spec.name.clone(), spec);
            }
            Err(Unplaced::NoPort) => {}
            Err(unplaced) => findings.push(unplaced.finding(&key)),
        }
    }
    round.end();
    desired
}

/// Why something has no derived Service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Unplaced {
    /// Nothing of it can be carried; its ServiceImport says so.
    #[error("it has no TCP port")]
    NoPort,
    #[error("every port of {0} is allocated")]
    NoFreePort(String),
    #[error("Service {0} of the gateway's namespace was made by somebody else")]
    Foreign(String),
}

impl Unplaced {
    fn finding(&self, key: &AddressKey) -> Finding {
        let hint = match self {
            Self::NoPort => "export a TCP port of it",
            Self::NoFreePort(_) => "make kubernetes.import_ports larger",
            Self::Foreign(_) => "delete or rename that Service; the import follows by itself",
        };
        Finding::failed("derived services", format!("import {key} has no address: {self}"), hint)
    }
}

fn spec(key: &AddressKey, import: &Import, present: &Present, round: &mut Round<'_>) -> Result<ServiceSpec, Unplaced> {
    let name = DerivedService::name_of(key);
    if present.services.get(&name).is_some_and(|service| !service.ours) {
        return Err(Unplaced::Foreign(name));
    }
    let meant = ports_of(key, import);
    if meant.is_empty() {
        return Err(Unplaced::NoPort);
    }
    let mut ports = Vec::with_capacity(meant.len());
    for port in &meant {
        let no_free_port = || Unplaced::NoFreePort(round.range().to_string());
        let range = no_free_port();
        let allocated = round.port_of(key, port.port, port.transport).ok_or(range)?;
        ports.push(DerivedPort {
            name: name_in(&meant, port),
            transport: port.transport,
            port: port.port,
            allocated,
            app_protocol: app_protocol(port.app_protocol.as_deref()),
        });
    }
    let exporters = match key {
        AddressKey::Service(_) => import.sources.keys().cloned().collect(),
        AddressKey::Endpoint(_, cluster, _) => BTreeSet::from([cluster.clone()]),
    };
    let service = DerivedService { key: key.clone(), ports, session_affinity: import.session_affinity };
    Ok(ServiceSpec { name, service, exporters })
}

/// The ports of an import that gateways listen for: those over TCP, and for an endpoint those its cluster exposes.
fn ports_of<'a>(key: &AddressKey, import: &'a Import) -> Vec<&'a ServicePort> {
    let exposed = |port: &ServicePort| match key {
        AddressKey::Service(_) => true,
        AddressKey::Endpoint(_, cluster, _) => {
            import.sources.get(cluster).is_some_and(|source| source.ports.contains(&(port.port, port.transport)))
        }
    };
    import.ports.iter().filter(|port| port.transport == Transport::Tcp && exposed(port)).collect()
}

/// A Service with several ports must name each, an import need not.
fn name_in(ports: &[&ServicePort], port: &ServicePort) -> Option<PortName> {
    if port.name.is_some() || ports.len() == 1 {
        return port.name.clone();
    }
    let taken = |name: &PortName| ports.iter().any(|other| other.name.as_ref() == Some(name));
    let candidates = (0..=ports.len()).map(|n| {
        let suffix = if n == 0 { String::new() } else { format!("-{n}") };
        format!("p{}{suffix}", port.port)
    });
    candidates.filter_map(|name| name.parse().ok()).find(|name| !taken(name))
}

/// What is to be written.
pub(super) fn changed<'a>(desired: &'a Desired, present: &'a Present) -> impl Iterator<Item = ServiceSpec> + 'a {
    let as_desired = |spec: &ServiceSpec, there: &PresentService| {
        let same = there.placed.as_ref().is_some_and(|placed| placed.service == spec.service);
        same && there.exporters == spec.exporters
    };
    desired
        .values()
        .filter(move |spec| !present.services.get(&spec.name).is_some_and(|there| as_desired(spec, there)))
        .cloned()
}

/// What nothing asks for any more.
pub(super) fn garbage<'a>(
    desired: &'a Desired,
    wanted: &'a Wanted<'_>,
    present: &'a Present,
) -> impl Iterator<Item = Change> + 'a {
    let unwanted = |(name, service): &(&String, &PresentService)| {
        service.ours && !desired.contains_key(*name) && !awaited(&service.exporters, wanted)
    };
    present
        .services
        .iter()
        .filter(unwanted)
        .map(|(name, service)| Change::DeleteService { name: name.clone(), uid: service.uid.clone() })
}

/// The addresses that the Service of `key` has, where it is as it should be.
pub(super) fn addresses<'a>(key: &AddressKey, desired: &Desired, present: &'a Present) -> &'a [IpAddr] {
    let name = DerivedService::name_of(key);
    match (desired.get(&name), present.services.get(&name)) {
        (Some(_), Some(there)) => there.addresses(),
        (Some(_) | None, Some(_) | None) => &[],
    }
}

/// Whether an import is reached at one address, and so has the same addresses in its ServiceImport.
pub(super) const fn has_one_address(import: &Import) -> bool {
    matches!(import.kind, ImportKind::ClusterSetIp)
}

/// The port numbers an import asks gateways to listen for.
pub(super) fn carried(import: &Import) -> impl Iterator<Item = Port> {
    import.ports.iter().filter(|port| port.transport == Transport::Tcp).map(|port| port.port)
}
