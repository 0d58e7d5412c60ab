//! When a certificate is to be issued again.
//!
//! Owns the one rule: at half life, spread so that a fleet does not renew at once. Never reads a clock, never draws random
//! numbers.

use std::time::Duration;

use federation_model::time::Timestamp;

use crate::validity::{CLOCK_SKEW, Validity};

/// How far from half life renewals are spread, as part of the whole life, to either side.
pub const SPREAD: f64 = 0.1;
/// The part of a life after which a certificate that was not renewed is late: renewals are due long before.
pub const LATE: f64 = 0.75;
/// The part of a life after which nobody is waited for any more.
pub const URGENT: f64 = 0.9;
/// The first pause after a renewal that failed, and the longest.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// See [`FIRST_RETRY`]: five minutes are little in a life of hours, and enough for whoever mends the authority.
pub const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// When to renew: half life, moved by `jitter` (0 to 1) up to [`SPREAD`] to either side. The allowance for clocks, by which
/// certificates are backdated, is no part of their life.
#[must_use]
pub fn due(validity: &Validity, jitter: f64) -> Timestamp {
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.5 };
    part(validity, 0.5 - SPREAD + 2.0 * SPREAD * jitter)
}

/// From when on a certificate that is not renewed is late.
#[must_use]
pub fn late(validity: &Validity) -> Timestamp {
    part(validity, LATE)
}

/// From when on nobody is waited for any more.
#[must_use]
pub fn urgent(validity: &Validity) -> Timestamp {
    part(validity, URGENT)
}

fn part(validity: &Validity, part: f64) -> Timestamp {
    let from = validity.not_before.after(CLOCK_SKEW).min(validity.not_after.max(validity.not_before));
    from.after(validity.not_after.since(from).mul_f64(part))
}

/// The pause before attempt `failures + 1`: doubled each time, moved by `jitter` (0 to 1) down to half of it.
#[must_use]
pub fn retry(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.min(16));
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.5 };
    doubled.min(LONGEST_RETRY).mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_around_half_life() {
        let validity = Validity::starting(Timestamp(1_000), Duration::from_secs(1_000));
        assert_eq!(due(&validity, 0.5), Timestamp(1_500));
        assert_eq!(due(&validity, 0.0), Timestamp(1_400));
        assert_eq!(due(&validity, 1.0), Timestamp(1_600));
        assert_eq!(due(&validity, f64::NAN), Timestamp(1_500));
        assert_eq!((late(&validity), urgent(&validity)), (Timestamp(1_750), Timestamp(1_900)));
    }

    #[test]
    fn a_certificate_that_ends_before_it_starts_is_due_at_once() {
        let validity = Validity { not_before: Timestamp(5), not_after: Timestamp(1) };
        assert_eq!(due(&validity, 0.7), Timestamp(5));
    }

    #[test]
    fn failed_renewals_are_tried_again_in_growing_pauses_up_to_a_limit() {
        assert_eq!(retry(0, 1.0), FIRST_RETRY);
        assert_eq!(retry(3, 1.0), Duration::from_secs(8));
        assert_eq!(retry(3, 0.0), Duration::from_secs(4));
        assert_eq!(retry(u32::MAX, 1.0), LONGEST_RETRY);
    }
}
