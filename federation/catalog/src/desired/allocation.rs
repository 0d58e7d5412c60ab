//! The ports that gateway pods listen on for derived Services.
//!
//! Owns who has which. A port that was freed is given to nobody for a while: some node may still lead clients of its former
//! import there. Nothing is stored: the derived Services are the record.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    mem,
    time::Duration,
};

use federation_model::{
    addr::{Port, Transport},
    derived::DerivedAddresses,
    import::address::AddressKey,
    stable_hash::fnv1a,
    time::Timestamp,
};

use super::Present;

/// How long a freed port is given to nobody: longer than any proxy of a node takes to hear of a deleted Service.
const REST: Duration = Duration::from_secs(300);

/// The ports that may be allocated: a range that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// The port `offset` after the first one, around the end.
    fn nth(self, offset: u32) -> Option<Port> {
        let offset = u16::try_from(offset % self.len()).ok()?;
        Port::new(self.first.number().checked_add(offset)?)
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
    now: Timestamp,
    taken: BTreeSet<Port>,
    asked: BTreeSet<Owner>,
}

impl Allocations {
    pub(super) fn new(range: PortRange, reserved: BTreeSet<Port>) -> Self {
        Self { range, reserved, held: BTreeMap::new(), resting: BTreeMap::new() }
    }

    /// Takes up what the derived Services there are say. Of two that name one port the older one keeps it.
    pub(super) fn begin(&mut self, present: &Present, now: Timestamp) -> Round<'_> {
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
        Round { allocations: self, now, taken, asked: BTreeSet::new() }
    }

    fn may_have(&self, port: Port) -> bool {
        self.range.contains(port) && !self.reserved.contains(&port)
    }

    /// The first port from the hash of its owner on that may be given, so that two gateways that plan from nothing agree on
    /// most.
    fn free(&self, (key, port, transport): &Owner, taken: &BTreeSet<Port>) -> Option<Port> {
        let seed = fnv1a(format!("{key}:{port}/{}", transport.label()).as_bytes());
        let start = u32::try_from(seed % u64::from(self.range.len())).unwrap_or(0);
        let candidates = (0..self.range.len()).filter_map(|step| self.range.nth(start + step));
        candidates
            .filter(|port| self.may_have(*port))
            .find(|port| !taken.contains(port) && !self.resting.contains_key(port))
    }
}

impl Round<'_> {
    /// The port that leads to `port` of `key`: the one it has, or else a free one.
    pub(super) fn port_of(&mut self, key: &AddressKey, port: Port, transport: Transport) -> Option<Port> {
        let owner = (key.clone(), port, transport);
        let found = match self.allocations.held.get(&owner) {
            Some(held) => *held,
            None => {
                let free = self.allocations.free(&owner, &self.taken)?;
                self.taken.insert(free);
                self.allocations.held.insert(owner.clone(), free);
                free
            }
        };
        self.asked.insert(owner);
        Some(found)
    }

    /// The range the ports are of.
    pub(super) fn range(&self) -> PortRange {
        self.allocations.range
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
