//! How the polls of each foreign trust domain go.
//!
//! Owns what is known of them since the start, and forgets it with the program. Never decides anything by it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use federation_model::{spiffe::TrustDomain, time::Timestamp};

use crate::state::foreign::ForeignRecords;

/// The most of an error that is kept: parts of it may come from a stranger.
const MAX_ERROR: usize = 400;

/// How the polls of one trust domain go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// When its bundle was read last.
    pub(crate) last_success: Option<Timestamp>,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// The last of them.
    pub(crate) last_error: String,
}

/// How the polls of all of them go; an entry lives as long as its trust domain is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standings(Arc<Mutex<BTreeMap<TrustDomain, Standing>>>);

impl Standings {
    pub(crate) fn of(&self, trust_domain: &TrustDomain) -> Standing {
        self.standings().get(trust_domain).cloned().unwrap_or_default()
    }

    /// A poll succeeded; gives how many before it had failed.
    pub(super) fn succeeded(&self, trust_domain: &TrustDomain, now: Timestamp) -> u32 {
        let standing = Standing { last_success: Some(now), ..Standing::default() };
        self.standings().insert(trust_domain.clone(), standing).map_or(0, |before| before.failures)
    }

    /// A poll failed; gives how many have in a row.
    pub(super) fn failed(&self, trust_domain: &TrustDomain, error: &str) -> u32 {
        let mut standings = self.standings();
        let standing = standings.entry(trust_domain.clone()).or_default();
        standing.failures = standing.failures.saturating_add(1);
        standing.last_error = error.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_ERROR).collect();
        standing.failures
    }

    /// Forgets a trust domain.
    pub(super) fn forget(&self, trust_domain: &TrustDomain) {
        self.standings().remove(trust_domain);
    }

    /// Forgets what is not known any more: a poll may have ended after its trust domain went.
    pub(super) fn retain(&self, known: &ForeignRecords) {
        self.standings().retain(|trust_domain, _| known.contains_key(trust_domain));
    }

    /// Holders of the lock only change whole entries, so a poisoned one is still whole.
    fn standings(&self) -> MutexGuard<'_, BTreeMap<TrustDomain, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_until_a_success_and_their_words_are_bounded() {
        let (standings, spire) = (Standings::default(), TrustDomain::new("spire.example").unwrap());
        assert_eq!(standings.failed(&spire, "one"), 1);
        assert_eq!(standings.failed(&spire, &format!("two\u{1b}[31m\r\n{}", "x".repeat(4096))), 2);
        let standing = standings.of(&spire);
        assert_eq!((standing.last_error.chars().count(), standing.last_success), (MAX_ERROR, None));
        assert!(!standing.last_error.contains(char::is_control) && standing.last_error.starts_with("two [31m"));
        assert_eq!(standings.succeeded(&spire, Timestamp(7)), 2);
        assert_eq!(standings.of(&spire), Standing { last_success: Some(Timestamp(7)), ..Standing::default() });
        standings.retain(&ForeignRecords::new());
        assert_eq!(standings.of(&spire), Standing::default());
    }
}
