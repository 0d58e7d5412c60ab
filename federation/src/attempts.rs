//! How often one address may fail to join.
//!
//! Owns the table of failures. Never reads a clock.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// One failure is forgiven after this time.
const FORGIVEN_AFTER: Duration = Duration::from_secs(6);
/// Addresses that are remembered; a few dozen bytes each.
const MAX_ADDRESSES: usize = 4096;

/// Failures by address, IPv6 by the /64 that one host may choose from.
#[derive(Debug)]
pub(crate) struct Attempts {
    allowed: u32,
    /// When all failures of an address will be forgiven.
    until: BTreeMap<IpAddr, Instant>,
}

impl Attempts {
    /// Allows `allowed` failures at once.
    pub(crate) fn new(allowed: u32) -> Self {
        Self { allowed: allowed.max(1), until: BTreeMap::new() }
    }

    /// Whether `address` may try again, else how long it must wait.
    pub(crate) fn check(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let Some(until) = self.until.get(&key(address)) else { return Ok(()) };
        let debt = until.saturating_duration_since(now);
        let most = FORGIVEN_AFTER * (self.allowed - 1);
        if debt <= most { Ok(()) } else { Err(debt - most) }
    }

    /// Remembers a failure.
    pub(crate) fn failed(&mut self, address: IpAddr, now: Instant) {
        let key = key(address);
        if !self.until.contains_key(&key) && self.until.len() >= MAX_ADDRESSES {
            self.make_room(now);
        }
        let until = self.until.entry(key).or_insert(now);
        *until = (*until).max(now) + FORGIVEN_AFTER;
    }

    /// Forgets who is forgiven, else the one that would be forgiven first.
    fn make_room(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
        if self.until.len() >= MAX_ADDRESSES
            && let Some(first) = self.until.iter().min_by_key(|(_, until)| **until).map(|(key, _)| *key)
        {
            self.until.remove(&first);
        }
    }
}

fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn an_address_waits_after_too_many_failures_and_is_forgiven_one_by_one() {
        let (mut attempts, now) = (Attempts::new(3), Instant::now());
        for _ in 0..3 {
            assert!(attempts.check(HERE, now).is_ok());
            attempts.failed(HERE, now);
        }
        assert_eq!(attempts.check(HERE, now), Err(FORGIVEN_AFTER));
        assert!(attempts.check("192.0.2.1".parse().unwrap(), now).is_ok());
        let later = now + FORGIVEN_AFTER;
        assert!(attempts.check(HERE, later).is_ok());
        attempts.failed(HERE, later);
        assert_eq!(attempts.check(HERE, later), Err(FORGIVEN_AFTER));
        assert!(attempts.check(HERE, now + Duration::from_secs(3600)).is_ok());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let (mut attempts, now) = (Attempts::new(1), Instant::now());
        attempts.failed("2001:db8::1".parse().unwrap(), now);
        assert!(attempts.check("2001:db8::2".parse().unwrap(), now).is_err());
        assert!(attempts.check("2001:db8:0:1::2".parse().unwrap(), now).is_ok());
    }

    #[test]
    fn the_table_never_grows_beyond_its_limit() {
        let (mut attempts, now) = (Attempts::new(1), Instant::now());
        for number in 0..MAX_ADDRESSES as u32 + 10 {
            attempts.failed(std::net::Ipv4Addr::from(number).into(), now + Duration::from_millis(u64::from(number)));
        }
        assert_eq!(attempts.until.len(), MAX_ADDRESSES);
    }
}
