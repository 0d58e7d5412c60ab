//! The endpoints of one service, from its EndpointSlices.
//!
//! Owns how slices are read: a port is found by the name of the service port, as kube-proxy does, so that a named target
//! port may differ from pod to pod; a pod with addresses of both families is one endpoint.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

use federation_model::{
    addr::Port,
    export::{Endpoint, EndpointState},
    names::{EndpointName, ServiceKey},
};

use super::{CarriedPort, Targets, warning::Warning};
use crate::objects::{
    AddressType, EndpointSliceObject, ObjectKey, Protocol, ServicePortObject, SliceEndpoint, SlicePort, TargetPort,
};

/// What makes two entries of slices the same endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner<'a> {
    Pod(&'a ObjectKey),
    Address(IpAddr),
}

/// The endpoints that take connections, or still serve those of the last resort.
pub(super) fn of_service(
    key: &ServiceKey,
    ports: &[CarriedPort<'_>],
    slices: &[&EndpointSliceObject],
    warnings: &mut Vec<Warning>,
) -> Vec<Endpoint> {
    let mut slices = slices.to_vec();
    // A pod with both families is reached by IPv4, so those slices come first.
    slices.sort_by_key(|slice| slice.address_type == AddressType::Ipv6);
    slices.retain(|slice| slice.address_type != AddressType::Fqdn);
    warn_of_ports_nowhere(key, ports, &slices, warnings);
    let mut found: BTreeMap<Owner<'_>, Endpoint> = BTreeMap::new();
    for slice in slices {
        let targets = targets(ports, &slice.ports);
        // A service without ports can be headless: its endpoints have names and nothing else.
        if targets.is_empty() && !ports.is_empty() {
            continue;
        }
        for entry in &slice.endpoints {
            if let Some((owner, endpoint)) = endpoint(entry, slice.address_type, &targets) {
                add(&mut found, owner, endpoint);
            }
        }
    }
    let mut endpoints: Vec<Endpoint> = found.into_values().collect();
    endpoints.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
    endpoints
}

fn add<'a>(found: &mut BTreeMap<Owner<'a>, Endpoint>, owner: Owner<'a>, endpoint: Endpoint) {
    match found.entry(owner) {
        Entry::Vacant(vacant) => {
            vacant.insert(endpoint);
        }
        Entry::Occupied(mut occupied) => {
            let known = occupied.get_mut();
            // Slices that split the ports of one address complete each other; the other family adds nothing.
            if known.address == endpoint.address {
                known.ports.extend(endpoint.ports);
                known.state = known.state.min(endpoint.state);
            }
        }
    }
}

fn endpoint<'a>(
    entry: &'a SliceEndpoint,
    address_type: AddressType,
    targets: &Targets,
) -> Option<(Owner<'a>, Endpoint)> {
    let state = if entry.ready {
        EndpointState::Ready
    } else if entry.serving && entry.terminating {
        EndpointState::Terminating
    } else {
        return None;
    };
    // The addresses of one entry are interchangeable (EndpointSlice API), so the first stands for all.
    let address = *entry.addresses.iter().find(|ip| match address_type {
        AddressType::Ipv4 => ip.is_ipv4(),
        AddressType::Ipv6 => ip.is_ipv6(),
        AddressType::Fqdn => false,
    })?;
    let name = entry.hostname.clone().unwrap_or_else(|| dashed(address));
    let owner = entry.pod.as_ref().map_or(Owner::Address(address), Owner::Pod);
    Some((owner, Endpoint { address, name, ports: targets.clone(), state }))
}

/// Where the service ports are on the endpoints of a slice.
fn targets(ports: &[CarriedPort<'_>], slice_ports: &[SlicePort]) -> Targets {
    ports
        .iter()
        .filter_map(|carried| {
            let (port, transport) = carried;
            let slice_port = slice_ports.iter().find(|slice_port| is_same(carried, slice_port))?;
            let target = slice_port.port.or_else(|| numbered_target(port))?;
            Some(((port.port, *transport), target))
        })
        .collect()
}

fn is_same((port, transport): &CarriedPort<'_>, slice_port: &SlicePort) -> bool {
    slice_port.name == port.name && slice_port.protocol == Protocol::Carried(*transport)
}

/// Where a port is when the slice says "every port".
fn numbered_target(port: &ServicePortObject) -> Option<Port> {
    match &port.target_port {
        None => Some(port.port),
        Some(TargetPort::Number(target)) => Some(*target),
        // Only the slice knows what a name stands for.
        Some(TargetPort::Name(_)) => None,
    }
}

fn warn_of_ports_nowhere(
    key: &ServiceKey,
    ports: &[CarriedPort<'_>],
    slices: &[&EndpointSliceObject],
    warnings: &mut Vec<Warning>,
) {
    let with_endpoints = || slices.iter().filter(|slice| !slice.endpoints.is_empty());
    if with_endpoints().next().is_none() {
        return;
    }
    for carried in ports {
        let somewhere = with_endpoints().any(|slice| !targets(&[*carried], &slice.ports).is_empty());
        if !somewhere {
            let (port, _) = carried;
            let name = port.name.as_ref().map_or_else(String::new, ToString::to_string);
            warnings.push(Warning::PortNowhere { service: key.clone(), port: port.port, name });
        }
    }
}

/// The name of an endpoint without a host name: its address with dashes, as the conformance suite expects it.
fn dashed(address: IpAddr) -> EndpointName {
    let short = address.to_string().replace(['.', ':'], "-");
    let full = || match address {
        IpAddr::V4(ip) => ip.octets().map(|octet| octet.to_string()).join("-"),
        // A compressed address may start or end with a colon, which a label must not with its dash.
        IpAddr::V6(ip) => ip.segments().map(|segment| format!("{segment:x}")).join("-"),
    };
    short
        .parse()
        .or_else(|_| full().parse())
        .expect("numbers joined by single dashes, at most 39 characters, are a valid label")
}
