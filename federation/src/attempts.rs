//! How often somebody may do what costs others something.
//!
//! Owns the table of what was done: refused joins by address, changes of a member by cluster. Never reads a clock.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Keys that are remembered; a few dozen bytes each. More than a set has members.
const MAX_KEYS: usize = 4096;

/// What was done, by whom.
#[derive(Debug)]
pub(crate) struct Attempts<K> {
    allowed: u32,
    /// One of them is forgiven after this time.
    forgiven_after: Duration,
    /// When all of somebody will be forgiven.
    until: BTreeMap<K, Instant>,
}

impl<K: Ord + Clone> Attempts<K> {
    /// Allows `allowed` at once.
    pub(crate) fn new(allowed: u32, forgiven_after: Duration) -> Self {
        Self { allowed: allowed.max(1), forgiven_after, until: BTreeMap::new() }
    }

    /// Whether `key` may try again, else how long it must wait.
    pub(crate) fn check(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let Some(until) = self.until.get(key) else { return Ok(()) };
        let debt = until.saturating_duration_since(now);
        let most = self.forgiven_after * (self.allowed - 1);
        if debt <= most { Ok(()) } else { Err(debt - most) }
    }

    /// Remembers one.
    pub(crate) fn count(&mut self, key: &K, now: Instant) {
        if !self.until.contains_key(key) && self.until.len() >= MAX_KEYS {
            self.make_room(now);
        }
        let until = self.until.entry(key.clone()).or_insert(now);
        *until = (*until).max(now) + self.forgiven_after;
    }

    /// Forgets who is forgiven, else the one that would be forgiven first.
    fn make_room(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
        if self.until.len() >= MAX_KEYS
            && let Some(first) = self.until.iter().min_by_key(|(_, until)| **until).map(|(key, _)| key.clone())
        {
            self.until.remove(&first);
        }
    }
}

/// What one host may choose its addresses from: for IPv6 its /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const FORGIVEN_AFTER: Duration = Duration::from_secs(6);

    #[test]
    fn an_address_waits_after_too_many_failures_and_is_forgiven_one_by_one() {
        let (mut attempts, now) = (Attempts::new(3, FORGIVEN_AFTER), Instant::now());
        for _ in 0..3 {
            assert!(attempts.check(&HERE, now).is_ok());
            attempts.count(&HERE, now);
        }
        assert_eq!(attempts.check(&HERE, now), Err(FORGIVEN_AFTER));
        assert!(attempts.check(&"192.0.2.1".parse().unwrap(), now).is_ok());
        let later = now + FORGIVEN_AFTER;
        assert!(attempts.check(&HERE, later).is_ok());
        attempts.count(&HERE, later);
        assert_eq!(attempts.check(&HERE, later), Err(FORGIVEN_AFTER));
        assert!(attempts.check(&HERE, now + Duration::from_secs(3600)).is_ok());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let (mut attempts, now) = (Attempts::new(1, FORGIVEN_AFTER), Instant::now());
        attempts.count(&network("2001:db8::1".parse().unwrap()), now);
        assert!(attempts.check(&network("2001:db8::2".parse().unwrap()), now).is_err());
        assert!(attempts.check(&network("2001:db8:0:1::2".parse().unwrap()), now).is_ok());
    }

    #[test]
    fn the_table_never_grows_beyond_its_limit() {
        let (mut attempts, now) = (Attempts::new(1, FORGIVEN_AFTER), Instant::now());
        for number in 0..MAX_KEYS as u32 + 10 {
            attempts.count(&number, now + Duration::from_millis(u64::from(number)));
        }
        assert_eq!(attempts.until.len(), MAX_KEYS);
    }
}
