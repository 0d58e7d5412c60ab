//! The order in which clusters are tried for one connection.
//!
//! Owns the choice among candidates and the memory of which of them failed lately. Never opens a stream, never decides what
//! a candidate is: [`crate::tables`] does. Randomness, load and time are arguments.
//!
//! ```text
//! with ready endpoints, not ejected:  this cluster, then each priority in turn; within one, by weight, distance and load
//! ejected ones:                       last, since trying one is better than refusing
//! ```

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use federation_model::{
    names::{ClusterName, ServiceKey},
    stable_hash::fnv1a,
};

use crate::tables::{Candidate, Route};

/// How many failures in a row eject a cluster for a service.
pub const FAILURES_TO_EJECT: u32 = 3;
/// How long the first ejection lasts; each further one lasts that much longer.
pub const EJECTION: Duration = Duration::from_secs(5);
/// The longest ejection.
pub const MAX_EJECTION: Duration = Duration::from_secs(60);
/// The most pairs of service and cluster whose failures are remembered; beyond that the longest quiet one is forgotten.
pub const MAX_TRACKED: usize = 8192;
/// Distances below this count as equal: less is noise.
const NEAR: Duration = Duration::from_millis(2);
/// The least part of its weight that a distant cluster keeps, as a divisor.
const MAX_DISTANCE_PENALTY: u64 = 16;
/// Streams one cluster may have beyond its share before load overrules weight.
const LOAD_SLACK: u64 = 8;

/// What is known of the way to one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Streams that are open.
    pub outstanding: u32,
    /// Round-trip time of the tunnel, once measured.
    pub rtt: Option<Duration>,
}

/// What decides where nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// Random bits: every connection is placed anew.
    Random(u64),
    /// A hash of the client: its connections stay together as long as the candidates do (session affinity).
    Sticky(u64),
}

/// Chooses among the candidates of routes.
#[derive(Debug, Default)]
pub struct Picker {
    failures: Mutex<BTreeMap<(ServiceKey, ClusterName), Failures>>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    in_a_row: u32,
    ejections: u32,
    until: Option<Instant>,
    last: Instant,
}

/// A candidate with the share it should get.
#[derive(Debug, Clone, Copy)]
struct Weighed<'a> {
    candidate: &'a Candidate,
    share: u64,
    outstanding: u64,
}

impl Picker {
    /// A picker that has seen no failure.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The clusters of `route` in the order to try them.
    pub fn order(
        &self,
        route: &Route,
        load: impl Fn(&ClusterName) -> Load,
        draw: Draw,
        now: Instant,
    ) -> Vec<ClusterName> {
        let (mut ejected, mut usable): (Vec<&Candidate>, Vec<&Candidate>) =
            route.candidates.iter().partition(|candidate| self.is_ejected(&route.service, &candidate.cluster, now));
        let rank = |candidate: &&Candidate| (candidate.ready == 0, !candidate.local, candidate.priority);
        usable.sort_by_key(rank);
        ejected.sort_by_key(rank);
        let mut order = Vec::with_capacity(route.candidates.len());
        for tier in usable.chunk_by(|a, b| rank(a) == rank(b)) {
            order.extend(tier_order(&weigh(tier, &load), draw));
        }
        order.extend(ejected.into_iter().map(|candidate| candidate.cluster.clone()));
        order
    }

    /// A connection to `service` in `cluster` was made.
    pub fn succeeded(&self, service: &ServiceKey, cluster: &ClusterName) {
        self.locked().remove(&(service.clone(), cluster.clone()));
    }

    /// A connection to `service` in `cluster` was not made, for a reason that another cluster may not have.
    pub fn failed(&self, service: &ServiceKey, cluster: &ClusterName, now: Instant) {
        let mut failures = self.locked();
        let key = (service.clone(), cluster.clone());
        if failures.len() >= MAX_TRACKED && !failures.contains_key(&key) {
            let quiet = failures.iter().min_by_key(|(_, entry)| entry.last).map(|(key, _)| key.clone());
            quiet.and_then(|quiet| failures.remove(&quiet));
        }
        let entry = failures.entry(key).or_insert(Failures { in_a_row: 0, ejections: 0, until: None, last: now });
        entry.in_a_row = entry.in_a_row.saturating_add(1);
        entry.last = now;
        // Failures of connections that were under way when the ejection began do not lengthen it.
        if entry.in_a_row >= FAILURES_TO_EJECT && entry.until.is_none_or(|until| now >= until) {
            entry.ejections = entry.ejections.saturating_add(1);
            entry.until = Some(now + EJECTION.saturating_mul(entry.ejections).min(MAX_EJECTION));
        }
    }

    /// Whether connections to `service` go to `cluster` only when nothing else is left.
    #[must_use]
    pub fn is_ejected(&self, service: &ServiceKey, cluster: &ClusterName, now: Instant) -> bool {
        let failures = self.locked();
        failures.get(&(service.clone(), cluster.clone())).and_then(|entry| entry.until).is_some_and(|until| now < until)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<(ServiceKey, ClusterName), Failures>> {
        // Every change is complete when it can panic no more, so what a panicking thread left is whole.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The share of each candidate of one tier: its weight, less the farther away it is than the nearest.
fn weigh<'a>(tier: &[&'a Candidate], load: impl Fn(&ClusterName) -> Load) -> Vec<Weighed<'a>> {
    let known: Vec<(&Candidate, Load)> = tier.iter().map(|candidate| (*candidate, load(&candidate.cluster))).collect();
    let micros = |rtt: Duration| u64::try_from(rtt.max(NEAR).as_micros()).unwrap_or(u64::MAX);
    let nearest = known.iter().filter_map(|(_, load)| load.rtt.map(micros)).min();
    known
        .into_iter()
        .map(|(candidate, load)| {
            let full = u64::from(candidate.weight.max(1)) * 1024;
            let share = match (nearest, load.rtt.map(micros)) {
                (Some(nearest), Some(rtt)) => {
                    let nearest_first = u128::from(full) * u128::from(nearest) / u128::from(rtt);
                    u64::try_from(nearest_first).unwrap_or(full).max(full / MAX_DISTANCE_PENALTY)
                }
                (None, _) | (_, None) => full,
            };
            Weighed { candidate, share: share.max(1), outstanding: load.outstanding.into() }
        })
        .collect()
}

fn tier_order(tier: &[Weighed<'_>], draw: Draw) -> Vec<ClusterName> {
    let mut rest: Vec<Weighed<'_>> = tier.to_vec();
    match draw {
        Draw::Sticky(hash) => {
            // Rendezvous hashing: a cluster that leaves moves only its own clients.
            let score = |weighed: &Weighed<'_>| {
                let bits = mix(hash ^ fnv1a(weighed.candidate.cluster.as_str().as_bytes())) >> 11;
                let uniform = (bits as f64 + 0.5) / (1u64 << 53) as f64;
                -uniform.ln() / f64::from(weighed.candidate.weight.max(1))
            };
            rest.sort_by(|a, b| score(a).total_cmp(&score(b)));
        }
        Draw::Random(bits) => {
            rest.sort_by_key(|weighed| std::cmp::Reverse(weighed.share));
            if let Some(first) = two_choices(&rest, bits) {
                rest[..=first].rotate_right(1);
            }
        }
    }
    rest.iter().map(|weighed| weighed.candidate.cluster.clone()).collect()
}

/// Draws twice by share; the second draw wins when the first is clearly busier for its share.
fn two_choices(tier: &[Weighed<'_>], bits: u64) -> Option<usize> {
    let first = draw(tier, mix(bits))?;
    let second = draw(tier, mix(bits.wrapping_add(0x9e37_79b9_7f4a_7c15)))?;
    let (a, b) = (tier[first], tier[second]);
    let busy = u128::from(a.outstanding) * u128::from(b.share);
    let limit = 2 * u128::from(b.outstanding + LOAD_SLACK) * u128::from(a.share);
    Some(if busy > limit { second } else { first })
}

/// The index at which the random number falls, each index as likely as its share.
fn draw(tier: &[Weighed<'_>], random: u64) -> Option<usize> {
    let total: u128 = tier.iter().map(|weighed| u128::from(weighed.share)).sum();
    let mut at = (u128::from(random) * total) >> 64;
    tier.iter().position(|weighed| {
        let share = u128::from(weighed.share);
        let here = at < share;
        at = at.saturating_sub(share);
        here
    })
}

/// The finalizer of SplitMix64: spreads bits that differ little over the whole word.
const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Bounds retries to a part of the connections, so that failover cannot sink the clusters that are left.
#[derive(Debug)]
pub struct RetryBudget {
    /// In hundredths of a retry.
    balance: Mutex<u32>,
}

impl RetryBudget {
    /// Hundredths that each connection earns: one retry for every five connections.
    const EARNED: u32 = 20;
    /// Hundredths that a retry costs.
    const COST: u32 = 100;
    /// The most that is saved up: a burst of 100 retries after quiet times.
    const MOST: u32 = 100 * Self::COST;

    /// A full budget.
    #[must_use]
    pub fn new() -> Self {
        Self { balance: Mutex::new(Self::MOST) }
    }

    /// A connection begins.
    pub fn earn(&self) {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        *balance = (*balance + Self::EARNED).min(Self::MOST);
    }

    /// Whether another attempt may be made; takes it from the budget.
    #[must_use]
    pub fn spend(&self) -> bool {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        match balance.checked_sub(Self::COST) {
            Some(left) => {
                *balance = left;
                true
            }
            None => false,
        }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
