//! The Services that give imports their addresses in a Kubernetes cluster.
//!
//! Owns what such a Service says and which of them count. Never reads or writes one: `federation-kube` does, and
//! `federation-catalog` decides what they should say.
//!
//! ```text
//! client ── ClusterIP of the derived Service : port ── EndpointSlice ──> gateway pod : allocated port ──> the import
//! ```

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    addr::{Port, Transport},
    catalog::SessionAffinity,
    import::address::AddressKey,
    names::PortName,
    time::Timestamp,
};

/// The longest name of a Service (RFC 1035 label).
const MAX_NAME: usize = 63;
/// How much of the hash is in the name of a derived Service.
const NAME_HASH_BYTES: usize = 8;

/// The Service of one import, or of one endpoint of a headless one, as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedService {
    /// What it gives an address to.
    pub key: AddressKey,
    /// Its ports; never empty.
    pub ports: Vec<DerivedPort>,
    /// Client affinity, so that a client stays with one gateway pod where the gateway itself keeps it with one cluster.
    pub session_affinity: SessionAffinity,
}

impl DerivedService {
    /// The name of the Service that gives `key` its address: namespace and service as far as they fit, for people, and a
    /// hash, for uniqueness.
    #[must_use]
    pub fn name_of(key: &AddressKey) -> String {
        let hash = digest(&SHA256, key.to_string().as_bytes());
        let hash: String = hash.as_ref().iter().take(NAME_HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
        let service = key.service();
        let mut name = format!("{}-{}", service.namespace, service.name);
        // Both are ASCII, and a name may not begin with a digit (RFC 1035 label).
        name.truncate(MAX_NAME - 2 - 2 * NAME_HASH_BYTES - 1);
        format!("i-{}-{hash}", name.trim_end_matches('-'))
    }
}

/// One port of a derived Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DerivedPort {
    /// The name of the import's port.
    pub name: Option<PortName>,
    /// TCP or UDP.
    pub transport: Transport,
    /// The port clients use: that of the import.
    pub port: Port,
    /// The port every gateway pod listens on for it, and for nothing else.
    pub allocated: Port,
    /// `appProtocol`, when set.
    pub app_protocol: Option<String>,
}

/// A derived Service as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedService {
    /// What it says.
    pub service: DerivedService,
    /// `spec.clusterIPs`: one for each address family, none before the API server has given any.
    pub addresses: Vec<IpAddr>,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
}

/// Where the imports of a Kubernetes cluster are reached: what all its derived Services say together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DerivedAddresses {
    by_key: BTreeMap<AddressKey, Vec<IpAddr>>,
    by_allocated: BTreeMap<(Port, Transport), (AddressKey, Port)>,
}

impl DerivedAddresses {
    /// What `services` say together. Where two of them name one allocated port the older one has it, and of two that were
    /// created in one second the one whose key comes first: a port must never lead to two imports.
    #[must_use]
    pub fn new<'a>(services: impl IntoIterator<Item = &'a PlacedService>) -> Self {
        let mut services: Vec<&PlacedService> = services.into_iter().collect();
        services.sort_by(|a, b| (a.created, &a.service.key).cmp(&(b.created, &b.service.key)));
        let mut addresses = Self::default();
        for placed in services {
            let key = &placed.service.key;
            for port in &placed.service.ports {
                if let Entry::Vacant(free) = addresses.by_allocated.entry((port.allocated, port.transport)) {
                    free.insert((key.clone(), port.port));
                }
            }
            addresses.by_key.entry(key.clone()).or_insert_with(|| placed.addresses.clone());
        }
        addresses
    }

    /// The addresses of `key`, at most one of each family.
    #[must_use]
    pub fn addresses(&self, key: &AddressKey) -> &[IpAddr] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    /// What a connection to an allocated port is for, and the port of it that the client meant.
    #[must_use]
    pub fn destination(&self, allocated: Port, transport: Transport) -> Option<(&AddressKey, Port)> {
        self.by_allocated.get(&(allocated, transport)).map(|(key, port)| (key, *port))
    }

    /// Every allocated port.
    pub fn allocated(&self) -> impl Iterator<Item = (Port, Transport)> {
        self.by_allocated.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    fn placed(key: &str, allocated: u16, created: u64) -> PlacedService {
        PlacedService {
            service: DerivedService {
                key: key.parse().unwrap(),
                ports: vec![DerivedPort {
                    name: None,
                    transport: Transport::Tcp,
                    port: port(80),
                    allocated: port(allocated),
                    app_protocol: None,
                }],
                session_affinity: SessionAffinity::None,
            },
            addresses: vec!["10.0.0.1".parse().unwrap()],
            created: Timestamp(created),
        }
    }

    #[test]
    fn an_allocated_port_that_two_services_name_leads_to_the_older_one() {
        let services = [placed("shop/new", 20_000, 9), placed("shop/old", 20_000, 3)];
        let addresses = DerivedAddresses::new(&services);
        let (key, meant) = addresses.destination(port(20_000), Transport::Tcp).unwrap();
        assert_eq!(key.to_string(), "shop/old");
        assert_eq!(meant.number(), 80);
        assert_eq!(addresses, DerivedAddresses::new(services.iter().rev()), "in whatever order they are given");
    }

    #[test]
    fn names_are_labels_that_tell_keys_apart_which_read_alike() {
        let name = |key: &str| DerivedService::name_of(&key.parse().unwrap());
        assert!(name("shop/cart").starts_with("i-shop-cart-"), "{}", name("shop/cart"));
        assert_ne!(name("a-b/c"), name("a/b-c"));
        assert_ne!(name("shop/db"), name("shop/db/west/db-0"));
        let long = format!("{}/{}", "n".repeat(63), "s".repeat(63));
        assert!(name(&long).len() <= MAX_NAME, "{}", name(&long));
    }

    #[test]
    fn a_port_of_one_transport_leads_nowhere_over_the_other() {
        let addresses = DerivedAddresses::new(&[placed("shop/cart", 20_000, 1)]);
        assert!(addresses.destination(port(20_000), Transport::Udp).is_none());
    }
}
