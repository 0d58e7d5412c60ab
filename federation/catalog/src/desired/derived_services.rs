//! The derived Services there should be: one for each import with an address, one for each endpoint of a headless one.
//!
//! Owns their ports, their names and which Services are ours. Never touches a Service that somebody else made.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use federation_model::{
    addr::{Port, Transport},
    catalog::ServicePort,
    derived::{DerivedPort, DerivedService, PlacedService},
    finding::Finding,
    import::{
        Import, ImportKind,
        address::{AddressKey, keys_of},
    },
    names::{PortName, ServiceKey},
    time::Timestamp,
};

use super::{
    Change, Exporters, Present, Wanted,
    allocation::{Allocations, Refusal, Round},
    awaited,
    metadata::app_protocol,
};

/// What its findings are about.
const FINDING: &str = "derived services";
/// The most ports that one finding names.
const MAX_SHOWN: usize = 5;

/// A derived Service as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// `metadata.name`, in the namespace of the gateway.
    pub name: String,
    /// What it says.
    pub service: DerivedService,
    /// The clusters that export what it gives an address to.
    pub exporters: Exporters,
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
    pub exporters: Exporters,
}

impl PresentService {
    fn addresses(&self) -> &[IpAddr] {
        self.placed.as_ref().map_or(&[], |placed| &placed.addresses)
    }
}

/// The derived Services there should be.
#[derive(Debug, Default)]
pub(super) struct Desired {
    /// By name.
    pub(super) services: BTreeMap<String, ServiceSpec>,
    /// Who exports each import, and the name of its Service where it has one address.
    pub(super) of_imports: BTreeMap<ServiceKey, OfImport>,
    /// Why imports lack ports: one reason of each.
    pub(super) refused: BTreeMap<ServiceKey, Refusal>,
}

/// What the Services of an import and its ServiceImport have in common.
#[derive(Debug)]
pub(super) struct OfImport {
    pub(super) exporters: Exporters,
    pub(super) name: Option<String>,
}

pub(super) fn desired(
    wanted: &Wanted<'_>,
    present: &Present,
    allocations: &mut Allocations,
    now: Timestamp,
    findings: &mut Vec<Finding>,
) -> Desired {
    let mut round = allocations.begin(wanted.imports, present, now);
    let mut desired = Desired::default();
    let mut refusals = Refusals::default();
    for (service, import) in wanted.imports {
        if !present.namespaces.contains(&service.namespace) {
            continue;
        }
        let exporters: Exporters = Arc::new(import.sources.keys().cloned().collect());
        let mut of_import = OfImport { exporters, name: None };
        for key in keys_of(service, import) {
            let name = DerivedService::name_of(&key);
            if has_one_address(import) {
                of_import.name = Some(name.clone());
            }
            if present.services.get(&name).is_some_and(|service| !service.ours) {
                findings.push(foreign(&key, &name));
                continue;
            }
            let meant = ports_of(&key, import);
            let ports = allocated(&key, &meant, &mut round, &mut refusals);
            if !ports.is_empty() {
                let exporters = exporters_of(&key, &of_import.exporters);
                let service = DerivedService { key, ports, session_affinity: import.session_affinity };
                desired.services.insert(name.clone(), ServiceSpec { name, service, exporters });
            }
        }
        desired.of_imports.insert(service.clone(), of_import);
    }
    round.end();
    findings.extend(refusals.findings());
    desired.refused = refusals.of_imports;
    desired
}

fn foreign(key: &AddressKey, name: &str) -> Finding {
    let detail =
        format!("import {key} has no address: Service {name} of the gateway's namespace was made by somebody else");
    Finding::failed(FINDING, detail, "delete or rename that Service; the import follows by itself")
}

/// The ports that have a place. Those that have none are left out: they take nothing away from the others.
fn allocated(
    key: &AddressKey,
    meant: &[&ServicePort],
    round: &mut Round<'_>,
    refusals: &mut Refusals,
) -> Vec<DerivedPort> {
    let mut ports = Vec::with_capacity(meant.len());
    for port in meant {
        match round.port_of(key, port.port, port.transport) {
            Ok(allocated) => ports.push(DerivedPort {
                name: name_in(meant, port),
                transport: port.transport,
                port: port.port,
                allocated,
                app_protocol: app_protocol(port.app_protocol.as_deref()),
            }),
            Err(refusal) => refusals.add(key, port.port, refusal),
        }
    }
    ports
}

fn exporters_of(key: &AddressKey, all: &Exporters) -> Exporters {
    match key {
        AddressKey::Service(_) => all.clone(),
        AddressKey::Endpoint(_, cluster, _) => Arc::new(BTreeSet::from([cluster.clone()])),
    }
}

/// The ports that have no place, by reason: a cluster can export more of them than anybody would read.
#[derive(Debug, Default)]
struct Refusals {
    by_reason: BTreeMap<Refusal, Refused>,
    of_imports: BTreeMap<ServiceKey, Refusal>,
}

/// What was refused for one reason.
#[derive(Debug, Default)]
struct Refused {
    count: usize,
    shown: Vec<String>,
}

impl Refusals {
    fn add(&mut self, key: &AddressKey, port: Port, refusal: Refusal) {
        self.of_imports.entry(key.service().clone()).or_insert_with(|| refusal.clone());
        let refused = self.by_reason.entry(refusal).or_default();
        refused.count += 1;
        if refused.shown.len() < MAX_SHOWN {
            refused.shown.push(format!("{key}:{port}"));
        }
    }

    fn findings(&self) -> impl Iterator<Item = Finding> {
        self.by_reason.iter().map(|(refusal, refused)| {
            let more = match refused.count.saturating_sub(refused.shown.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let detail = format!("ports of imports lead nowhere, {}{more}: {refusal}", refused.shown.join(", "));
            Finding::failed(FINDING, detail, refusal.remedy())
        })
    }
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
        // One too many is forgotten when it is written for something else.
        same && there.exporters.is_superset(&spec.exporters)
    };
    desired
        .services
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
        service.ours && !desired.services.contains_key(*name) && !awaited(&service.exporters, wanted)
    };
    present
        .services
        .iter()
        .filter(unwanted)
        .map(|(name, service)| Change::DeleteService { name: name.clone(), uid: service.uid.clone() })
}

/// The addresses that the Service of this name has, where it is as it should be.
pub(super) fn addresses<'a>(name: &str, desired: &Desired, present: &'a Present) -> &'a [IpAddr] {
    match (desired.services.get(name), present.services.get(name)) {
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
