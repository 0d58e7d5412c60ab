//! What policies in AUDIT would have refused, by policy, caller, service and hour.
//!
//! Owns the counts, their limits, and the form in which they outlive the process. Never judges a call and never touches a
//! disk: the time is an argument, the shell keeps the file.

use std::collections::BTreeMap;

use federation_model::{
    addr::Port,
    caller::Assurance,
    names::{ClusterName, ServiceKey},
    policy::PolicyKey,
    spiffe::SpiffeId,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// How long counts are kept: a policy is tried for weeks before it is made real.
pub const KEPT_SECONDS: u64 = 30 * 24 * HOUR;
/// How many counts are kept. The oldest hours go first.
pub const MAX_COUNTS: usize = 50_000;
/// How many bytes of names and ids they may have together: another cluster chooses the ids of its callers, and all of this is
/// written to disk again and again. An id of a common length leaves room for [`MAX_COUNTS`].
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

const HOUR: u64 = 3600;

/// Which calls are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Audited {
    /// The policy.
    pub policy: PolicyKey,
    /// The caller, when it is known.
    pub principal: Option<SpiffeId>,
    /// How it is known.
    pub assurance: Assurance,
    /// The cluster it called from.
    pub cluster: ClusterName,
    /// What it called.
    pub service: ServiceKey,
    /// The service port.
    pub port: Port,
}

impl Audited {
    /// The bytes of its names and ids.
    fn weight(&self) -> usize {
        let Self { policy, principal, assurance: _, cluster, service, port: _ } = self;
        let principal = principal.as_ref().map_or(0, |id| id.trust_domain().as_str().len() + id.path().len());
        let policy = policy.namespace.as_str().len() + policy.name.len();
        policy + principal + cluster.as_str().len() + service.namespace.as_str().len() + service.name.as_str().len()
    }
}

/// How often, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Connections, or requests where the port is delivered as `http`.
    pub calls: u64,
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
}

/// The counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// By the hour since 1970, so that the oldest are found first.
    hours: BTreeMap<u64, BTreeMap<Audited, Count>>,
    counts: usize,
    /// The weight of all counts.
    bytes: usize,
    /// How many calls were counted in hours that had to go before their time.
    dropped: u64,
}

impl Ledger {
    /// Counts one call.
    pub fn count(&mut self, audited: Audited, now: Timestamp) {
        self.forget(now);
        self.add(now.0 / HOUR, audited, Count { calls: 1, first: now, last: now });
        self.bound();
    }

    fn add(&mut self, hour: u64, audited: Audited, new: Count) {
        match self.hours.entry(hour).or_default().entry(audited) {
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let count = entry.get_mut();
                count.calls = count.calls.saturating_add(new.calls);
                count.first = count.first.min(new.first);
                count.last = count.last.max(new.last);
            }
            std::collections::btree_map::Entry::Vacant(entry) => {
                self.counts += 1;
                self.bytes += entry.key().weight();
                entry.insert(new);
            }
        }
    }

    /// Drops what is older than [`KEPT_SECONDS`].
    fn forget(&mut self, now: Timestamp) {
        let oldest = now.0.saturating_sub(KEPT_SECONDS) / HOUR;
        while let Some(entry) = self.hours.first_entry().filter(|entry| *entry.key() < oldest) {
            let gone = entry.remove();
            self.counts -= gone.len();
            self.bytes -= gone.keys().map(Audited::weight).sum::<usize>();
        }
    }

    /// Drops the oldest hours, within an hour the first counts, until [`MAX_COUNTS`] and [`MAX_BYTES`] are kept to.
    fn bound(&mut self) {
        while self.counts > MAX_COUNTS || self.bytes > MAX_BYTES {
            let Some(mut hour) = self.hours.first_entry() else { return };
            if let Some((audited, count)) = hour.get_mut().pop_first() {
                self.counts -= 1;
                self.bytes -= audited.weight();
                self.dropped = self.dropped.saturating_add(count.calls);
            }
            if hour.get().is_empty() {
                hour.remove();
            }
        }
    }

    /// The counts of the hours from that of `since` on, those of one policy when one is named.
    #[must_use]
    pub fn report(&self, since: Timestamp, policy: Option<&PolicyKey>) -> BTreeMap<Audited, Count> {
        let mut sum: BTreeMap<Audited, Count> = BTreeMap::new();
        for (audited, count) in self.hours.range(since.0 / HOUR..).flat_map(|(_, counts)| counts) {
            if policy.is_some_and(|policy| *policy != audited.policy) {
                continue;
            }
            let entry = sum.entry(audited.clone()).or_insert(Count { calls: 0, ..*count });
            entry.calls = entry.calls.saturating_add(count.calls);
            entry.first = entry.first.min(count.first);
            entry.last = entry.last.max(count.last);
        }
        sum
    }

    /// How many calls are not counted any more although they are recent.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The counts in the form in which they are kept.
    #[must_use]
    pub fn to_kept(&self) -> Kept {
        let kept = |(hour, counts): (&u64, &BTreeMap<Audited, Count>)| {
            let hour = *hour;
            counts.iter().map(move |(audited, count)| KeptCount::new(hour, audited, count)).collect::<Vec<_>>()
        };
        Kept { version: VERSION, dropped: self.dropped, counts: self.hours.iter().flat_map(kept).collect() }
    }

    /// The counts that were kept; what does not parse any more is left out.
    #[must_use]
    pub fn from_kept(kept: &Kept) -> Self {
        let mut ledger = Self { dropped: kept.dropped, ..Self::default() };
        for count in &kept.counts {
            if let Some((audited, value)) = count.value() {
                ledger.add(count.hour, audited, value);
            }
        }
        ledger.bound();
        ledger
    }
}

const VERSION: u32 = 1;

/// A ledger as it is written to disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    version: u32,
    dropped: u64,
    counts: Vec<KeptCount>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptCount {
    hour: u64,
    policy: (String, String),
    principal: Option<String>,
    assurance: Assurance,
    cluster: String,
    service: String,
    port: u16,
    calls: u64,
    first: u64,
    last: u64,
}

impl KeptCount {
    fn new(hour: u64, audited: &Audited, count: &Count) -> Self {
        Self {
            hour,
            policy: (audited.policy.namespace.to_string(), audited.policy.name.clone()),
            principal: audited.principal.as_ref().map(ToString::to_string),
            assurance: audited.assurance,
            cluster: audited.cluster.to_string(),
            service: audited.service.to_string(),
            port: audited.port.number(),
            calls: count.calls,
            first: count.first.0,
            last: count.last.0,
        }
    }

    fn value(&self) -> Option<(Audited, Count)> {
        let audited = Audited {
            policy: PolicyKey { namespace: self.policy.0.parse().ok()?, name: self.policy.1.clone() },
            principal: match &self.principal {
                Some(id) => Some(SpiffeId::new(id).ok()?),
                None => None,
            },
            assurance: self.assurance,
            cluster: self.cluster.parse().ok()?,
            service: self.service.parse().ok()?,
            port: Port::new(self.port)?,
        };
        Some((audited, Count { calls: self.calls, first: Timestamp(self.first), last: Timestamp(self.last) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audited(policy: &str, port: u16) -> Audited {
        Audited {
            policy: PolicyKey { namespace: "shop".parse().unwrap(), name: policy.to_owned() },
            principal: Some(SpiffeId::new("spiffe://east.example/ns/shop/sa/web").unwrap()),
            assurance: Assurance::Attested,
            cluster: "east".parse().unwrap(),
            service: "shop/api".parse().unwrap(),
            port: Port::new(port).unwrap(),
        }
    }

    #[test]
    fn calls_are_counted_by_hour_and_summed_over_a_period() {
        let mut ledger = Ledger::default();
        for now in [0, 10, HOUR + 5, 3 * HOUR] {
            ledger.count(audited("a", 80), Timestamp(now));
        }
        ledger.count(audited("b", 80), Timestamp(3 * HOUR));
        let all = ledger.report(Timestamp(0), None);
        assert_eq!(all[&audited("a", 80)], Count { calls: 4, first: Timestamp(0), last: Timestamp(3 * HOUR) });
        let late = ledger.report(Timestamp(HOUR), Some(&audited("a", 80).policy));
        assert_eq!(late.len(), 1);
        assert_eq!(late[&audited("a", 80)].calls, 2);
    }

    #[test]
    fn what_is_kept_is_read_back_and_what_is_too_old_is_forgotten() {
        let mut ledger = Ledger::default();
        ledger.count(audited("a", 80), Timestamp(HOUR));
        ledger.count(audited("a", 81), Timestamp(2 * HOUR));
        let text = serde_json::to_string(&ledger.to_kept()).unwrap();
        let mut read = Ledger::from_kept(&serde_json::from_str(&text).unwrap());
        assert_eq!(read, ledger);
        read.count(audited("a", 82), Timestamp(2 * HOUR + KEPT_SECONDS));
        let left: Vec<u16> = read.report(Timestamp(0), None).keys().map(|audited| audited.port.number()).collect();
        assert_eq!(left, [81, 82]);
    }

    #[test]
    fn the_oldest_counts_go_first_when_there_are_too_many_and_that_is_told() {
        let mut ledger = Ledger::default();
        for port in 1..=u16::MAX {
            ledger.count(audited("a", port), Timestamp(u64::from(port) / 7 * HOUR / 100));
        }
        let report = ledger.report(Timestamp(0), None);
        assert_eq!(report.len(), MAX_COUNTS);
        assert_eq!(ledger.dropped(), u64::from(u16::MAX) - MAX_COUNTS as u64);
        assert!(report.contains_key(&audited("a", u16::MAX)) && !report.contains_key(&audited("a", 1)));
    }

    #[test]
    fn callers_with_long_ids_do_not_fill_the_memory_and_what_is_forgotten_gives_its_place_back() {
        let long = |n: usize| {
            let id = format!("spiffe://east.example/{n:06}/{}", "x".repeat(1900));
            Audited { principal: Some(SpiffeId::new(id).unwrap()), ..audited("a", 80) }
        };
        let mut ledger = Ledger::default();
        for n in 0..10_000 {
            ledger.count(long(n), Timestamp(0));
        }
        let kept = ledger.report(Timestamp(0), None);
        let bytes = |kept: &BTreeMap<Audited, Count>| kept.keys().map(Audited::weight).sum::<usize>();
        assert!(bytes(&kept) <= MAX_BYTES && bytes(&kept) > MAX_BYTES - 2048, "{}", bytes(&kept));
        assert_eq!(ledger.dropped() + kept.len() as u64, 10_000);
        ledger.count(audited("a", 80), Timestamp(2 * KEPT_SECONDS));
        assert_eq!((ledger.counts, ledger.bytes), (1, audited("a", 80).weight()));
    }

    #[test]
    fn a_count_that_does_not_parse_any_more_is_left_out() {
        let mut ledger = Ledger::default();
        ledger.count(audited("a", 80), Timestamp(0));
        let text = serde_json::to_string(&ledger.to_kept()).unwrap().replace("shop/api", "no such");
        assert_eq!(Ledger::from_kept(&serde_json::from_str(&text).unwrap()), Ledger::default());
    }
}
