//! From when until when a certificate is valid.
//!
//! Owns the allowance for clock skew. Never reads a clock.

use std::time::Duration;

use federation_model::time::Timestamp;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// How far the clocks of two gateways may differ before a fresh certificate is refused.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The time in which a certificate is valid, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not valid before.
    pub not_before: Timestamp,
    /// Not valid after.
    pub not_after: Timestamp,
}

impl Validity {
    /// `lifetime` from `now` on, backdated by [`CLOCK_SKEW`].
    #[must_use]
    pub fn starting(now: Timestamp, lifetime: Duration) -> Self {
        Self { not_before: Timestamp(now.0.saturating_sub(CLOCK_SKEW.as_secs())), not_after: now.after(lifetime) }
    }

    /// Whether `now` lies within.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether a verifier whose clock says `now` accepts a certificate of this validity. A start is allowed for by
    /// [`CLOCK_SKEW`]: the clock of whoever issued a minute ago may be ahead. An end is not: a certificate is renewed long
    /// before it, and one that leaked must not live on.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Term {
        if now > self.not_after {
            Term::Over
        } else if now.after(CLOCK_SKEW) < self.not_before {
            Term::Ahead
        } else {
            Term::Running
        }
    }
}

/// Where a verifier's clock stands relative to a validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// Before the start, by more than [`CLOCK_SKEW`].
    Ahead,
    /// Within.
    Running,
    /// After the end.
    Over,
}

/// The instant for X.509, or nothing when it lies beyond the year 9999.
pub(crate) fn calendar(time: Timestamp) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(time.0).ok()?).ok()
}

/// The instant for people, RFC 3339.
pub(crate) fn date(time: Timestamp) -> String {
    calendar(time).and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{} s after 1970", time.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validity_starts_before_now_by_the_clock_skew_and_ends_after_the_lifetime() {
        let validity = Validity::starting(Timestamp(1_000), Duration::from_secs(10));
        assert_eq!(validity, Validity { not_before: Timestamp(940), not_after: Timestamp(1_010) });
        assert!(validity.contains(Timestamp(940)) && validity.contains(Timestamp(1_010)));
        assert!(!validity.contains(Timestamp(939)) && !validity.contains(Timestamp(1_011)));
        assert_eq!(date(Timestamp(0)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_start_is_allowed_for_by_the_clock_skew_and_an_end_is_not() {
        let validity = Validity { not_before: Timestamp(1_000), not_after: Timestamp(2_000) };
        for (now, term) in [
            (939, Term::Ahead),
            (940, Term::Running),
            (1_000, Term::Running),
            (2_000, Term::Running),
            (2_001, Term::Over),
        ] {
            assert_eq!(validity.at(Timestamp(now)), term, "{now}");
        }
    }
}
