//! The ports that gateway pods listen on for derived Services.
//!
//! Owns who has which. A port that was freed is given to nobody for a while: some node may still lead clients of its former
//! import there. Nothing is stored: the derived Services are the record. What is held is never taken away; when few ports are
//! free, a cluster that has its share gets no new one, so that none can use up what others need.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    mem,
    time::Duration,
};

use federation_model::{
    addr::{Port, Transport},
    derived::DerivedAddresses,
    import::{Imports, address::AddressKey},
    names::ClusterName,
    stable_hash::fnv1a,
    time::Timestamp,
};

use super::Present;

mod share;

use share::Shares;

/// How long a freed port is given to nobody: longer than any proxy of a node takes to hear of a deleted Service.
const REST: Duration = Duration::from_secs(300);

/// Ports are scarce when fewer than one of this many is free.
const SCARCE: usize = 4;

/// The ports that may be allocated: a range that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: Port,
    last: Port,
}

/// Why two numbers are not a range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of ports; write it as \"20000-29999\", the smaller one first")]
pub struct PortRangeError(String);

impl std::str::FromStr for PortRange {
    type Err = PortRangeError;
    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let port = |text: &str| text.trim().parse::<u16>().ok().and_then(Port::new);
        let ends = text.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)));
        match ends {
            Some((first, last)) if first <= last => Ok(Self { first, last }),
            Some(_) | None => Err(PortRangeError(text.chars().take(40).collect())),
        }
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl PortRange {
    fn contains(self, port: Port) -> bool {
        (self.first..=self.last).contains(&port)
    }

    fn len(self) -> u32 {
        u32::from(self.last.number() - self.first.number()) + 1
    }

    fn iter(self) -> impl Iterator<Item = Port> {
        (self.first.number()..=self.last.number()).filter_map(Port::new)
    }

    /// The port `offset` after the first one, around the end.
    fn nth(self, offset: u32) -> Option<Port> {
        let offset = u16::try_from(offset % self.len()).ok()?;
        Port::new(self.first.number().checked_add(offset)?)
    }
}

/// Why a port of an import leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(super) enum Refusal {
    /// None is left.
    #[error("every port of {0} is allocated")]
    Exhausted(PortRange),
    /// What is left is for others.
    #[error("cluster {0} already has its share of the ports {1}, of which few are left")]
    Share(ClusterName, PortRange),
}

impl Refusal {
    /// What a person can do.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Exhausted(_) => "make kubernetes.import_ports larger".to_owned(),
            Self::Share(cluster, _) => {
                format!("export fewer ports from {cluster}, or make kubernetes.import_ports larger")
            }
        }
    }
}

/// A port of an import, or of an endpoint of a headless one.
type Owner = (AddressKey, Port, Transport);

/// Who has which port.
#[derive(Debug, Clone)]
pub(super) struct Allocations {
    range: PortRange,
    reserved: BTreeSet<Port>,
    /// As the last planning left it: what was decided may not have been written yet.
    held: BTreeMap<Owner, Port>,
    /// Until when a freed port rests.
    resting: BTreeMap<Port, Timestamp>,
}

/// The allocations during one planning.
#[derive(Debug)]
pub(super) struct Round<'a> {
    allocations: &'a mut Allocations,
    imports: &'a Imports,
    now: Timestamp,
    taken: BTreeSet<Port>,
    asked: BTreeSet<Owner>,
    /// What can be given; looked for once somebody needs it.
    open: Option<Open>,
}

impl Allocations {
    pub(super) fn new(range: PortRange, reserved: BTreeSet<Port>) -> Self {
        Self { range, reserved, held: BTreeMap::new(), resting: BTreeMap::new() }
    }

    /// Takes up what the derived Services there are say. Of two that name one port the older one keeps it.
    pub(super) fn begin<'a>(&'a mut self, imports: &'a Imports, present: &Present, now: Timestamp) -> Round<'a> {
        let addresses = DerivedAddresses::new(present.services.values().filter_map(|service| service.placed.as_ref()));
        let mut held = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (allocated, transport) in addresses.allocated().filter(|(port, _)| self.may_have(*port)) {
            if let Some((key, port)) = addresses.destination(allocated, transport) {
                // One port for one owner: a Service that names two loses the second.
                if let Entry::Vacant(new) = held.entry((key.clone(), port, transport)) {
                    new.insert(allocated);
                    taken.insert(allocated);
                }
            }
        }
        for (owner, port) in mem::take(&mut self.held) {
            if !held.contains_key(&owner) && taken.insert(port) {
                held.insert(owner, port);
            }
        }
        self.held = held;
        self.resting.retain(|_, until| *until > now);
        Round { allocations: self, imports, now, taken, asked: BTreeSet::new(), open: None }
    }

    fn may_have(&self, port: Port) -> bool {
        self.range.contains(port) && !self.reserved.contains(&port)
    }

    fn open(&self, taken: &BTreeSet<Port>) -> Open {
        let all: Vec<Port> = self.range.iter().filter(|port| !self.reserved.contains(port)).collect();
        let usable = all.len();
        let given = |port: &Port| !taken.contains(port) && !self.resting.contains_key(port);
        Open { usable, free: all.into_iter().filter(given).collect(), shares: None }
    }
}

/// The ports that can be given.
#[derive(Debug)]
struct Open {
    usable: usize,
    free: BTreeSet<Port>,
    /// What each cluster has; counted once few are free.
    shares: Option<Shares>,
}

impl Open {
    /// The first free port from `start` on, around the end.
    fn from(&self, start: Option<Port>) -> Option<Port> {
        let after = start.and_then(|start| self.free.range(start..).next());
        after.or_else(|| self.free.first()).copied()
    }

    fn is_scarce(&self) -> bool {
        self.free.len() * SCARCE < self.usable
    }
}

impl Round<'_> {
    /// The port that leads to `port` of `key`: the one it has, or else a free one.
    pub(super) fn port_of(&mut self, key: &AddressKey, port: Port, transport: Transport) -> Result<Port, Refusal> {
        let owner = (key.clone(), port, transport);
        let found = match self.allocations.held.get(&owner) {
            Some(held) => *held,
            None => self.give(&owner)?,
        };
        self.asked.insert(owner);
        Ok(found)
    }

    fn give(&mut self, owner: &Owner) -> Result<Port, Refusal> {
        let Self { allocations, imports, taken, open, .. } = self;
        let range = allocations.range;
        let open = open.get_or_insert_with(|| allocations.open(taken));
        let Some(port) = open.from(start(range, owner)) else { return Err(Refusal::Exhausted(range)) };
        if open.is_scarce() {
            let shares =
                open.shares.get_or_insert_with(|| Shares::count(imports, allocations.held.keys(), open.usable));
            shares.charge(imports, owner).map_err(|cluster| Refusal::Share(cluster, range))?;
        }
        open.free.remove(&port);
        allocations.held.insert(owner.clone(), port);
        Ok(port)
    }

    /// Frees what nobody asked for.
    pub(super) fn end(self) {
        let Self { allocations, now, asked, .. } = self;
        let resting = &mut allocations.resting;
        allocations.held.retain(|owner, port| {
            let kept = asked.contains(owner);
            if !kept {
                resting.insert(*port, now.after(REST));
            }
            kept
        });
    }
}

/// Where the search for a port begins: at a hash of its owner, so that two gateways that plan from nothing agree on most.
fn start(range: PortRange, (key, port, transport): &Owner) -> Option<Port> {
    let seed = fnv1a(format!("{key}:{port}/{}", transport.label()).as_bytes());
    range.nth(u32::try_from(seed % u64::from(range.len())).unwrap_or(0))
}

#[cfg(test)]
mod tests;
