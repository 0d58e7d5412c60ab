//! The addresses of imports in a cluster without ClusterIPs: one of `outbound.vip_cidr` for each.
//!
//! Owns which key has which address, and that it keeps it. Never binds an address and never writes a file: [`Assignments`]
//! is a value that the gateway stores and gives back.
//!
//! An address is found by probing from the hash of its key, so that two runs that never saw each other's assignments agree
//! on nearly all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    slice,
};

use federation_model::{import::address::AddressKey, stable_hash::fnv1a};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// How many keys that are not wanted any more keep their address: a service that comes back finds its old one.
pub const MAX_REMEMBERED: usize = 16_384;
/// The most addresses used of one range; an IPv6 range is never searched beyond.
const MAX_USED: u128 = 1 << 24;

/// Which key has which address, in both directions; stored as a map of strings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<AddressKey, IpAddr>", into = "BTreeMap<AddressKey, IpAddr>")]
pub struct Assignments {
    by_key: BTreeMap<AddressKey, IpAddr>,
    by_address: BTreeMap<IpAddr, AddressKey>,
}

impl Assignments {
    /// The address of `key`.
    #[must_use]
    pub fn address(&self, key: &AddressKey) -> Option<IpAddr> {
        self.by_key.get(key).copied()
    }

    /// The same, where a key may have several: a slice of one, or of none.
    #[must_use]
    pub fn addresses(&self, key: &AddressKey) -> &[IpAddr] {
        self.by_key.get(key).map_or(&[], slice::from_ref)
    }

    /// The key at `address`.
    #[must_use]
    pub fn key(&self, address: IpAddr) -> Option<&AddressKey> {
        self.by_address.get(&address)
    }

    /// Every assignment.
    pub fn iter(&self) -> impl Iterator<Item = (&AddressKey, IpAddr)> {
        self.by_key.iter().map(|(key, address)| (key, *address))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Gives `address` to `key`, unless one of them is taken.
    fn insert(&mut self, key: &AddressKey, address: IpAddr) {
        if !self.by_key.contains_key(key) && !self.by_address.contains_key(&address) {
            self.by_key.insert(key.clone(), address);
            self.by_address.insert(address, key.clone());
        }
    }

    fn remove(&mut self, key: &AddressKey) -> Option<IpAddr> {
        let address = self.by_key.remove(key)?;
        self.by_address.remove(&address);
        Some(address)
    }
}

impl From<BTreeMap<AddressKey, IpAddr>> for Assignments {
    fn from(map: BTreeMap<AddressKey, IpAddr>) -> Self {
        let mut assignments = Self::default();
        map.iter().for_each(|(key, address)| assignments.insert(key, *address));
        assignments
    }
}

impl From<Assignments> for BTreeMap<AddressKey, IpAddr> {
    fn from(assignments: Assignments) -> Self {
        assignments.by_key
    }
}

/// A range without a usable address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the range {0} has no usable address for imports; give outbound.vip_cidr at least a /30, or a /126 for IPv6")]
pub struct RangeTooSmall(pub IpNet);

/// A key that got no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no address is left in {range} for {key}; make outbound.vip_cidr larger")]
pub struct RangeFull {
    /// The range.
    pub range: IpNet,
    /// What has no address.
    pub key: AddressKey,
}

/// What [`AddressPlan::assign`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assigned {
    /// Every assignment, those of keys that are not wanted at the moment among them: store these.
    pub assignments: Assignments,
    /// Wanted keys without an address.
    pub refused: Vec<RangeFull>,
}

/// A range that addresses are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPlan {
    range: IpNet,
    /// Usable addresses, from the one after the network address on.
    capacity: u128,
}

impl AddressPlan {
    /// A plan over `range`, of which network, broadcast and `127.0.0.1` are never used.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn new(range: IpNet) -> Result<Self, RangeTooSmall> {
        let range = range.trunc();
        let bits = u32::from(range.max_prefix_len() - range.prefix_len());
        let size = if bits >= 127 { u128::MAX } else { 1 << bits };
        let capacity = size.saturating_sub(2);
        if capacity == 0 {
            return Err(RangeTooSmall(range));
        }
        Ok(Self { range, capacity })
    }

    /// Gives every wanted key an address: the one it had in `previous`, or else a free one. What is not wanted keeps its
    /// address while there is room.
    #[must_use]
    pub fn assign(&self, previous: &Assignments, wanted: &BTreeSet<AddressKey>) -> Assigned {
        let mut assigned = Assigned::default();
        let in_range = |address: IpAddr| self.range.contains(&address) && self.usable(address);
        for (key, address) in previous.iter().filter(|(_, address)| in_range(*address)) {
            assigned.assignments.insert(key, address);
        }
        let mut idle: Vec<AddressKey> =
            assigned.assignments.iter().map(|(key, _)| key).filter(|key| !wanted.contains(*key)).cloned().collect();
        for key in idle.split_off(idle.len().min(MAX_REMEMBERED)) {
            assigned.assignments.remove(&key);
        }
        for key in wanted {
            if assigned.assignments.address(key).is_some() {
                continue;
            }
            let address = self.free(key, &assigned.assignments).or_else(|| {
                let forgotten = idle.pop()?;
                assigned.assignments.remove(&forgotten)
            });
            match address {
                Some(address) => assigned.assignments.insert(key, address),
                None => assigned.refused.push(RangeFull { range: self.range, key: key.clone() }),
            }
        }
        assigned
    }

    /// The first free address from the hash of `key` on.
    fn free(&self, key: &AddressKey, taken: &Assignments) -> Option<IpAddr> {
        let count = self.capacity.min(MAX_USED);
        // Every usable address taken: said without a search through all of them.
        let unusable = u128::from(self.loopback_offset().is_some());
        if taken.len() as u128 >= count - unusable {
            return None;
        }
        let start = u128::from(fnv1a(key.to_string().as_bytes())) % count;
        (0..count)
            .map(|step| self.nth((start + step) % count))
            .find(|address| self.usable(*address) && taken.key(*address).is_none())
    }

    /// The offset of `127.0.0.1`, when the range has it: programs listen there without asking.
    fn loopback_offset(&self) -> Option<u128> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.range.contains(&loopback).then(|| u128::from(u32::from(Ipv4Addr::LOCALHOST)) - self.first())
    }

    fn usable(&self, address: IpAddr) -> bool {
        address != IpAddr::V4(Ipv4Addr::LOCALHOST)
            && address != self.range.network()
            && address != self.range.broadcast()
    }

    fn first(&self) -> u128 {
        match self.range.network() {
            IpAddr::V4(ip) => u128::from(u32::from(ip)) + 1,
            IpAddr::V6(ip) => u128::from(ip) + 1,
        }
    }

    /// The usable address number `offset`, which is below the capacity.
    fn nth(&self, offset: u128) -> IpAddr {
        let number = self.first() + offset;
        match self.range {
            // An offset below the capacity of an IPv4 range stays within 32 bits.
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

#[cfg(test)]
mod tests;
