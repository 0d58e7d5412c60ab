//! Whether a directory that gives nothing usable is being updated, or broken.
//!
//! Owns the time an update may take. Never reads.

use std::time::Duration;

use tokio::time::Instant;

/// How long an update of three files may be half done. Kubernetes swaps them at once; a script that copies them needs well
/// below a second.
pub const SETTLE: Duration = Duration::from_secs(5);

/// What to make of one reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<T> {
    /// It can be used.
    Usable(T),
    /// Not usable, but perhaps half done: read again soon.
    Doubtful,
    /// Not usable for so long that somebody must look.
    Faulty(String),
}

/// Since when nothing usable was read.
#[derive(Debug, Default)]
pub struct Settling {
    since: Option<Instant>,
}

impl Settling {
    /// Takes in one reading.
    pub fn handle_reading<T, E: ToString>(&mut self, reading: Result<T, E>, now: Instant) -> Verdict<T> {
        match reading {
            Ok(read) => {
                self.since = None;
                Verdict::Usable(read)
            }
            Err(_) if now < *self.since.get_or_insert(now) + SETTLE => Verdict::Doubtful,
            Err(error) => Verdict::Faulty(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_that_stays_half_done_becomes_a_fault_and_one_that_is_finished_does_not() {
        let mut settling = Settling::default();
        let start = Instant::now();
        let bad = || Err::<u8, _>("half");
        assert!(matches!(settling.handle_reading(bad(), start), Verdict::Doubtful));
        assert!(matches!(settling.handle_reading(bad(), start + SETTLE / 2), Verdict::Doubtful));
        let done = settling.handle_reading(Ok::<u8, String>(7), start + SETTLE / 2);
        assert_eq!(done, Verdict::Usable(7));
        assert!(
            matches!(settling.handle_reading(bad(), start + SETTLE), Verdict::Doubtful),
            "a new update, a new wait"
        );
        let late = settling.handle_reading(bad(), start + 2 * SETTLE);
        assert!(matches!(&late, Verdict::Faulty(reason) if reason == "half"), "{late:?}");
    }
}
