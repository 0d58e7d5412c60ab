//! Which refused joins are written to the audit log.
//!
//! Owns the limit: a stranger must be seen there, and must fill neither the disk nor the log, whose oldest entries are
//! dropped when there are too many. Counts what it does not write. Never reads a clock.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::attempts::network;

/// The least time between two entries about one address; what comes in between is counted.
pub(crate) const PAUSE: Duration = Duration::from_secs(60);
/// The span of the next limit.
const SPAN: Duration = Duration::from_secs(3600);
/// Entries about all addresses together within the span: about one a minute, which fills the log in two years.
const MAX_ENTRIES: usize = 60;
/// Addresses that are counted by themselves.
const MAX_ADDRESSES: usize = 256;

/// Refused joins that the log does not tell of yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Untold {
    /// From where; nothing for many addresses.
    pub(crate) from: Option<IpAddr>,
    /// How many.
    pub(crate) count: u64,
}

#[derive(Debug)]
struct Seen {
    address: IpAddr,
    written: Instant,
    more: u64,
}

/// Refused joins, IPv6 by the /64 that one host may choose from.
#[derive(Debug, Default)]
pub(crate) struct RefusedJoins {
    seen: BTreeMap<IpAddr, Seen>,
    /// When the last entries were written.
    entries: VecDeque<Instant>,
    /// Of addresses that are not counted by themselves.
    elsewhere: u64,
}

impl RefusedJoins {
    /// Whether a join that was refused just now is to be written.
    pub(crate) fn refused(&mut self, address: IpAddr, now: Instant) -> bool {
        let key = network(address);
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.more += 1;
            return false;
        }
        if self.seen.len() >= MAX_ADDRESSES || !self.may_write(now) {
            self.elsewhere += 1;
            return false;
        }
        self.entries.push_back(now);
        self.seen.insert(key, Seen { address, written: now, more: 0 });
        true
    }

    /// What is to be written of the joins that were only counted; to be asked every [`PAUSE`].
    pub(crate) fn poll_untold(&mut self, now: Instant) -> Vec<Untold> {
        let rested = |seen: &Seen| now.duration_since(seen.written) >= PAUSE;
        self.seen.retain(|_, seen| seen.more > 0 || !rested(seen));
        let mut untold = Vec::new();
        let due: Vec<IpAddr> = self.seen.iter().filter(|(_, seen)| rested(seen)).map(|(key, _)| *key).collect();
        for key in due {
            if !self.may_write(now) {
                return untold;
            }
            if let Some(seen) = self.seen.get_mut(&key) {
                untold.push(Untold { from: Some(seen.address), count: std::mem::take(&mut seen.more) });
                seen.written = now;
                self.entries.push_back(now);
            }
        }
        if self.elsewhere > 0 && self.may_write(now) {
            untold.push(Untold { from: None, count: std::mem::take(&mut self.elsewhere) });
            self.entries.push_back(now);
        }
        untold
    }

    fn may_write(&mut self, now: Instant) -> bool {
        while self.entries.front().is_some_and(|first| now.duration_since(*first) >= SPAN) {
            self.entries.pop_front();
        }
        self.entries.len() < MAX_ENTRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn the_first_refusal_of_an_address_is_written_and_the_others_are_counted() {
        let (mut joins, now) = (RefusedJoins::default(), Instant::now());
        assert!(joins.refused(HERE, now));
        assert!(!joins.refused(HERE, now) && !joins.refused(HERE, now));
        assert_eq!(joins.poll_untold(now + PAUSE / 2), []);
        assert_eq!(joins.poll_untold(now + PAUSE), [Untold { from: Some(HERE), count: 2 }]);
        assert!(!joins.refused(HERE, now + PAUSE), "the count was an entry as well");
        assert_eq!(joins.poll_untold(now + PAUSE * 2), [Untold { from: Some(HERE), count: 1 }]);
        assert_eq!(joins.poll_untold(now + PAUSE * 3), []);
        assert!(joins.refused(HERE, now + PAUSE * 3));
    }

    #[test]
    fn many_addresses_write_no_more_than_their_share_and_every_refusal_is_told() {
        let (mut joins, start) = (RefusedJoins::default(), Instant::now());
        let (mut entries, mut told) = (0, 0);
        for minute in 0..120_u32 {
            let now = start + PAUSE * minute;
            for number in 0..100 {
                let address = std::net::Ipv4Addr::from(minute * 100 + number);
                let written = u64::from(joins.refused(address.into(), now));
                (entries, told) = (entries + written, told + written);
            }
            for untold in joins.poll_untold(now) {
                (entries, told) = (entries + 1, told + untold.count);
            }
        }
        assert!(entries <= 2 * MAX_ENTRIES as u64 && joins.seen.len() <= MAX_ADDRESSES, "{entries}");
        told += joins.poll_untold(start + PAUSE * 120 + SPAN).iter().map(|untold| untold.count).sum::<u64>();
        assert_eq!(told, 120 * 100);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let (mut joins, now) = (RefusedJoins::default(), Instant::now());
        assert!(joins.refused("2001:db8::1".parse().unwrap(), now));
        assert!(!joins.refused("2001:db8::2".parse().unwrap(), now));
        assert!(joins.refused("2001:db8:0:1::1".parse().unwrap(), now));
    }
}
