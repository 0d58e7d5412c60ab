//! Where the imports are reached in this cluster.
//!
//! Owns the two ways: an address of `outbound.vip_cidr` for each, on the real port, or the ClusterIP of a derived Service
//! that leads to a port allocated for nothing else. Never gives addresses and never binds one.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use federation_model::{
    addr::{Port, Transport},
    derived::DerivedAddresses,
    import::{
        Imports,
        address::{AddressKey, address_keys},
    },
};

use crate::addresses::Assignments;

/// Where the imports are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Places {
    /// Each at an address of this host.
    Range(Arc<Assignments>),
    /// Each at the address of a derived Service.
    Derived(Arc<DerivedAddresses>),
}

impl Default for Places {
    fn default() -> Self {
        Self::Range(Arc::default())
    }
}

impl Places {
    /// The addresses under which clients reach `key`, at most one of each family.
    #[must_use]
    pub fn addresses(&self, key: &AddressKey) -> &[IpAddr] {
        match self {
            Self::Range(assigned) => assigned.addresses(key),
            Self::Derived(derived) => derived.addresses(key),
        }
    }

    /// What a connection that arrived at `local` is for, and the port of it that the client meant.
    #[must_use]
    pub fn destination(&self, local: SocketAddr, transport: Transport) -> Option<(&AddressKey, Option<Port>)> {
        let port = Port::new(local.port());
        match self {
            Self::Range(assigned) => Some((assigned.key(local.ip().to_canonical())?, port)),
            Self::Derived(derived) => {
                let (key, meant) = derived.destination(port?, transport)?;
                Some((key, Some(meant)))
            }
        }
    }

    /// Where connections to `imports` arrive; the unspecified address stands for every address of this host.
    #[must_use]
    pub fn listeners(&self, imports: &Imports) -> BTreeSet<(IpAddr, Port, Transport)> {
        match self {
            Self::Range(assigned) => {
                let wanted = address_keys(imports);
                let found = wanted.iter().filter_map(|key| Some((assigned.address(key)?, key)));
                let of_import = |(ip, key): (IpAddr, &AddressKey)| {
                    let ports = imports.get(key.service()).into_iter().flat_map(|import| &import.ports);
                    ports.map(move |port| (ip, port.port, port.transport)).collect::<Vec<_>>()
                };
                found.flat_map(of_import).collect()
            }
            // Those of Services whose import is not there at the moment stay open: the refusal tells more than a reset.
            Self::Derived(derived) => {
                let all = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
                derived.allocated().map(|(port, transport)| (all, port, transport)).collect()
            }
        }
    }
}
