//! When a certificate is to be issued again.
//!
//! Owns the one rule: at half life, spread so that a fleet does not renew at once. Never reads a clock, never draws random
//! numbers.

use federation_model::time::Timestamp;

use crate::validity::Validity;

/// How far from half life renewals are spread, as part of the whole life, to either side.
pub const SPREAD: f64 = 0.1;

/// When to renew: half life, moved by `jitter` (0 to 1) up to [`SPREAD`] to either side.
#[must_use]
pub fn due(validity: &Validity, jitter: f64) -> Timestamp {
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.5 };
    let life = validity.not_after.since(validity.not_before);
    validity.not_before.after(life.mul_f64(0.5 - SPREAD + 2.0 * SPREAD * jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_around_half_life() {
        let validity = Validity { not_before: Timestamp(1_000), not_after: Timestamp(2_000) };
        assert_eq!(due(&validity, 0.5), Timestamp(1_500));
        assert_eq!(due(&validity, 0.0), Timestamp(1_400));
        assert_eq!(due(&validity, 1.0), Timestamp(1_600));
        assert_eq!(due(&validity, f64::NAN), Timestamp(1_500));
    }

    #[test]
    fn a_certificate_that_ends_before_it_starts_is_due_at_once() {
        let validity = Validity { not_before: Timestamp(5), not_after: Timestamp(1) };
        assert_eq!(due(&validity, 0.7), Timestamp(5));
    }
}
