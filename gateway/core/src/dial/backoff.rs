//! The waits between attempts.
//!
//! Owns the growth and the jitter, which keeps gateways that lost one peer together from coming back together. Never reads
//! randomness of the system: the seed is given.

use std::time::Duration;

/// Waits that double from `initial` to `max`, each cut by up to a half.
#[derive(Debug)]
pub(super) struct Backoff {
    initial: Duration,
    max: Duration,
    state: u64,
}

impl Backoff {
    pub(super) fn new(initial: Duration, max: Duration, seed: u64) -> Self {
        Self { initial, max, state: seed }
    }

    /// The wait after so many failures in a row.
    pub(super) fn after(&mut self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.initial.saturating_mul(1 << doublings).min(self.max);
        full.mul_f64(1.0 - self.random() / 2.0)
    }

    /// SplitMix64 (Steele, Lea and Flood 2014): evenly spread over 0 to 1, good enough for jitter.
    fn random(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = (z ^ (z >> 31)) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}
