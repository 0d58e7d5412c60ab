//! The EndpointSlices of derived Services: the gateway pods of this cluster, on the allocated ports.
//!
//! Owns which pods are in them and in which state. Never lists an endpoint of another cluster: what leaves the cluster goes
//! through a gateway.

use std::{collections::BTreeMap, net::IpAddr};

use federation_model::{
    addr::{Port, Transport},
    derived::DerivedPort,
    names::PortName,
};

use super::{
    Change, Present, Wanted, awaited,
    derived_services::{self, PresentService},
};

/// The most endpoints of one EndpointSlice, and so the most gateway pods that take part.
const MAX_ENDPOINTS: usize = 1000;

/// A gateway pod of this cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayPod {
    /// `status.podIPs`.
    pub ips: Vec<IpAddr>,
    /// Whether its `Ready` condition holds.
    pub ready: bool,
    /// Whether it is being deleted: it finishes what it has and takes nothing new.
    pub terminating: bool,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// `metadata.uid`.
    pub uid: String,
}

/// The address family of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// As `addressType` and `ipFamilies` have it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// That of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V6 => "6",
        }
    }
}

/// An EndpointSlice as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceSpec {
    /// `metadata.name`, in the namespace of the gateway.
    pub name: String,
    /// The derived Service it belongs to.
    pub service: String,
    /// The uid of that Service, which owns it: it goes when the Service does.
    pub service_uid: String,
    /// `addressType`.
    pub family: Family,
    /// `ports`: each by name, transport and number.
    pub ports: Vec<(Option<PortName>, Transport, Port)>,
    /// `endpoints`, in order of address.
    pub endpoints: Vec<GatewayEndpoint>,
}

/// One gateway pod in a slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayEndpoint {
    /// Its address of the slice's family.
    pub ip: IpAddr,
    /// `conditions.ready`: takes new connections.
    pub ready: bool,
    /// `conditions.serving`: answers, whether it goes away or not.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// `nodeName`.
    pub node: Option<String>,
    /// `targetRef.name` and `targetRef.uid`.
    pub pod: (String, String),
}

/// An EndpointSlice of the gateway's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentSlice {
    /// `metadata.uid`.
    pub uid: String,
    /// Whether a gateway made it.
    pub ours: bool,
    /// The Service it belongs to.
    pub service: String,
    /// What it says, where it can be read.
    pub spec: Option<SliceSpec>,
}

/// The slices there should be, by name.
pub(super) type Desired = BTreeMap<String, SliceSpec>;

/// The slices of the derived Services that exist: one without a Service would be nobody's.
pub(super) fn desired(
    services: &derived_services::Desired,
    present: &BTreeMap<String, PresentService>,
    gateways: &BTreeMap<String, GatewayPod>,
) -> Desired {
    let of_family = [Family::V4, Family::V6].map(|family| (family, endpoints(gateways, family)));
    let mut desired = Desired::new();
    for (name, spec) in &services.services {
        let Some(there) = present.get(name) else { continue };
        for (family, endpoints) in &of_family {
            if there.placed.as_ref().is_some_and(|placed| placed.addresses.iter().any(|ip| Family::of(*ip) == *family))
            {
                let slice = SliceSpec {
                    name: format!("{name}-{}", family.suffix()),
                    service: name.clone(),
                    service_uid: there.uid.clone(),
                    family: *family,
                    ports: spec.service.ports.iter().map(port).collect(),
                    endpoints: endpoints.clone(),
                };
                desired.insert(slice.name.clone(), slice);
            }
        }
    }
    desired
}

fn port(port: &DerivedPort) -> (Option<PortName>, Transport, Port) {
    (port.name.clone(), port.transport, port.allocated)
}

fn endpoints(gateways: &BTreeMap<String, GatewayPod>, family: Family) -> Vec<GatewayEndpoint> {
    let of_pod = |(name, pod): (&String, &GatewayPod)| {
        let ip = pod.ips.iter().find(|ip| Family::of(**ip) == family)?;
        Some(GatewayEndpoint {
            ip: *ip,
            ready: pod.ready && !pod.terminating,
            serving: pod.ready,
            terminating: pod.terminating,
            node: pod.node.clone(),
            pod: (name.clone(), pod.uid.clone()),
        })
    };
    let mut endpoints: Vec<GatewayEndpoint> = gateways.iter().filter_map(of_pod).collect();
    endpoints.sort();
    endpoints.truncate(MAX_ENDPOINTS);
    endpoints
}

/// What is to be written.
pub(super) fn changed<'a>(desired: &'a Desired, present: &'a Present) -> impl Iterator<Item = SliceSpec> + 'a {
    let foreign = |spec: &SliceSpec| present.slices.get(&spec.name).is_some_and(|there| !there.ours);
    let as_desired = |spec: &SliceSpec| {
        present.slices.get(&spec.name).and_then(|there| there.spec.as_ref()).is_some_and(|there| there == spec)
    };
    desired.values().filter(move |spec| !foreign(spec) && !as_desired(spec)).cloned()
}

/// What belongs to no derived Service any more. Those of a Service that goes with them go first, so that it drains.
pub(super) fn garbage<'a>(
    desired: &'a Desired,
    wanted: &'a Wanted<'_>,
    present: &'a Present,
) -> impl Iterator<Item = Change> + 'a {
    let kept_with_service = |slice: &PresentSlice| {
        present.services.get(&slice.service).is_some_and(|service| awaited(&service.exporters, wanted))
    };
    let unwanted = move |(name, slice): &(&String, &PresentSlice)| {
        slice.ours && !desired.contains_key(*name) && !kept_with_service(slice)
    };
    present
        .slices
        .iter()
        .filter(unwanted)
        .map(|(name, slice)| Change::DeleteSlice { name: name.clone(), uid: slice.uid.clone() })
}
