//! When which endpoint is asked.
//!
//! Owns the times, and that each endpoint is asked once at a time. Never reads a clock.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use federation_model::{bundle::TrustBundle, foreign::BundleSource, spiffe::TrustDomain};

use crate::state::{ForeignRecord, foreign::ForeignRecords};

/// When its publisher says nothing (SPIFFE Trust Domain and Bundle, section 4.1.2).
const DEFAULT: Duration = Duration::from_secs(5 * 60);
/// However often a publisher wants to be asked: it is one of a hundred.
const SHORTEST: Duration = Duration::from_secs(60);
/// However seldom: a removed authority is believed for as long.
const LONGEST: Duration = Duration::from_secs(3600);

/// How often an endpoint is asked.
pub(crate) fn interval(record: &ForeignRecord) -> Duration {
    record.refresh_hint.unwrap_or(DEFAULT).clamp(SHORTEST, LONGEST)
}

/// The pause until the next poll: the interval, a tenth more or less, so that many importers do not ask in step. The same
/// after a failure, for a publisher in trouble is not helped by more requests. `jitter` is from 0 to 1.
pub(super) fn pause(interval: Duration, jitter: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
}

/// What was said of a trust domain; another endpoint is asked at once.
type Said = (BundleSource, Option<TrustBundle>);

#[derive(Debug)]
struct Entry {
    said: Said,
    at: Instant,
    polling: bool,
}

/// The next poll of every trust domain.
#[derive(Debug, Default)]
pub(super) struct Schedule(BTreeMap<TrustDomain, Entry>);

impl Schedule {
    /// Takes over what is known now; gives the trust domains whose poll, if there is one, is of no more use.
    pub(super) fn reconcile(&mut self, known: &ForeignRecords, now: Instant) -> Vec<TrustDomain> {
        let said = |record: &ForeignRecord| (record.source.clone(), record.endpoint_bundle.clone());
        let mut void = Vec::new();
        self.0.retain(|trust_domain, entry| {
            let stays = known.get(trust_domain).is_some_and(|record| said(record) == entry.said);
            if !stays {
                void.push(trust_domain.clone());
            }
            stays
        });
        for (trust_domain, record) in known {
            let fresh = || Entry { said: said(record), at: now, polling: false };
            self.0.entry(trust_domain.clone()).or_insert_with(fresh);
        }
        void
    }

    /// The trust domains to ask now; each is being asked until [`Schedule::finished`].
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<TrustDomain> {
        let due = self.0.iter_mut().filter(|(_, entry)| !entry.polling && entry.at <= now);
        due.map(|(trust_domain, entry)| {
            entry.polling = true;
            trust_domain.clone()
        })
        .collect()
    }

    /// Makes a trust domain due; whether it is known. One that is being asked is not asked twice.
    pub(super) fn hurry(&mut self, trust_domain: &TrustDomain, now: Instant) -> bool {
        self.0.get_mut(trust_domain).map(|entry| entry.at = entry.at.min(now)).is_some()
    }

    /// A poll ended; the next one begins after `pause`.
    pub(super) fn finished(&mut self, trust_domain: &TrustDomain, now: Instant, pause: Duration) {
        if let Some(entry) = self.0.get_mut(trust_domain) {
            (entry.at, entry.polling) = (now + pause, false);
        }
    }

    /// When somebody is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter(|entry| !entry.polling).map(|entry| entry.at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::state::foreign::tests::records;

    fn known() -> ForeignRecords {
        records().map(|record| (record.source.trust_domain.clone(), Arc::new(record))).into()
    }

    fn names(domains: &[TrustDomain]) -> Vec<&str> {
        domains.iter().map(TrustDomain::as_str).collect()
    }

    #[test]
    fn hints_are_followed_within_bounds() {
        let [spiffe, _] = records();
        let of = |hint: Option<u64>| {
            interval(&ForeignRecord { refresh_hint: hint.map(Duration::from_secs), ..spiffe.clone() }).as_secs()
        };
        let hints = [None, Some(0), Some(59), Some(90), Some(3601), Some(u64::MAX)];
        assert_eq!(hints.map(of), [300, 60, 60, 90, 3600, 3600]);
        let pauses = [0.0, 0.5, 1.0, 7.0].map(|jitter| pause(DEFAULT, jitter).as_secs());
        assert_eq!(pauses, [270, 300, 330, 330]);
    }

    #[test]
    fn each_trust_domain_is_asked_once_at_a_time_and_one_that_takes_long_delays_nobody() {
        let (mut schedule, known, now) = (Schedule::default(), known(), Instant::now());
        assert!(schedule.reconcile(&known, now).is_empty());
        let due = schedule.take_due(now);
        assert_eq!(names(&due), ["spire.example", "web.example"]);
        let (spire, web) = (&due[0], &due[1]);
        assert_eq!((schedule.take_due(now), schedule.next()), (Vec::new(), None));
        schedule.finished(web, now, Duration::from_secs(60));
        assert_eq!(schedule.next(), Some(now + Duration::from_secs(60)));
        // The other one never answers.
        let later = now + Duration::from_secs(60);
        assert_eq!(names(&schedule.take_due(later)), ["web.example"]);
        assert!(schedule.hurry(spire, later));
        assert!(schedule.take_due(later).is_empty());
        schedule.finished(web, later, Duration::from_secs(60));
        assert!(schedule.hurry(web, later));
        assert_eq!(names(&schedule.take_due(later)), ["web.example"]);
    }

    #[test]
    fn what_is_said_anew_is_asked_at_once_and_what_is_gone_never() {
        let (mut schedule, mut known, now) = (Schedule::default(), known(), Instant::now());
        schedule.reconcile(&known, now);
        schedule.take_due(now);
        let spire = TrustDomain::new("spire.example").unwrap();
        let mut moved = ForeignRecord::clone(&known[&spire]);
        // What was read is no reason to read again.
        moved.bundle = None;
        known.insert(spire.clone(), Arc::new(moved.clone()));
        assert!(schedule.reconcile(&known, now).is_empty());
        moved.source.url = "https://else.example/".parse().unwrap();
        known.insert(spire.clone(), Arc::new(moved));
        assert_eq!(names(&schedule.reconcile(&known, now)), ["spire.example"]);
        assert_eq!(names(&schedule.take_due(now)), ["spire.example"]);
        known.clear();
        assert_eq!(schedule.reconcile(&known, now).len(), 2);
        assert!(!schedule.hurry(&spire, now));
        schedule.finished(&spire, now, Duration::ZERO);
        assert_eq!((schedule.take_due(now), schedule.next()), (Vec::new(), None));
    }
}
