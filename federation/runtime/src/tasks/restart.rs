//! How long a task rests before it is started again.
//!
//! Owns the arithmetic of the pauses. Never sleeps.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The pauses of a task that is restarted: they double from `first` to `longest`, each shortened at random by up to a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// After a run of this length the pauses start over.
    pub healthy_after: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { first: Duration::from_millis(250), longest: seconds(30), healthy_after: seconds(60) }
    }
}

impl Restart {
    pub(super) fn pauses(self) -> Pauses {
        Pauses { rule: self, next: self.first, random: RandomState::new() }
    }
}

#[derive(Debug)]
pub(super) struct Pauses {
    rule: Restart,
    next: Duration,
    random: RandomState,
}

impl Pauses {
    pub(super) fn after_running(&mut self, ran: Duration) -> Duration {
        if ran >= self.rule.healthy_after {
            self.next = self.rule.first;
        }
        let whole = self.next;
        self.next = (whole * 2).min(self.rule.longest);
        // The keys of the hasher are random per task, so tasks of many programs do not restart in step.
        let share = f64::from(self.random.hash_one(whole) as u32) / f64::from(u32::MAX);
        whole.mul_f64(0.5 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_a_healthy_run() {
        let rule =
            Restart { first: Duration::from_secs(1), longest: Duration::from_secs(4), healthy_after: Duration::MAX };
        let mut pauses = Restart { healthy_after: Duration::from_secs(60), ..rule }.pauses();
        for whole in [1, 2, 4, 4] {
            let pause = pauses.after_running(Duration::ZERO);
            assert!(pause <= Duration::from_secs(whole) && pause >= Duration::from_millis(whole * 500), "{pause:?}");
        }
        assert!(pauses.after_running(Duration::from_secs(61)) <= Duration::from_secs(1));
    }
}
