//! A directory that others write and this program follows: the mount of a Secret, or what a script copies.
//!
//! Owns when it is to be read again, and whether what it gave is an update under way or a fault. Never reads it, never knows
//! what is in it.
//!
//! ```text
//! read ──> handle_reading ──> usable: take it    doubtful: read again soon    faulty: keep the last good one, and say so
//!   └──────────── changed ────────────────────────────┘
//! ```

mod changes;
mod settling;

use std::{fmt, path::Path, time::Duration};

use tokio::time::Instant;

use self::changes::Changes;
pub use self::settling::{SETTLE, Settling, Verdict};

/// How often the directory is read without an event: network file systems send none, and the target of a link may change
/// elsewhere.
pub const LOOK: Duration = Duration::from_secs(30);
/// How often a directory is read that gives nothing usable yet.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// One directory.
pub struct Followed {
    changes: Changes,
    settling: Settling,
    pause: Duration,
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed").field("settling", &self.settling).field("pause", &self.pause).finish_non_exhaustive()
    }
}

impl Followed {
    /// Starts to watch. What changed before this call is not noticed: read it afterwards.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { changes: Changes::of(dir), settling: Settling::default(), pause: LOOK }
    }

    /// What to make of what was read.
    pub fn handle_reading<T, E: ToString>(&mut self, reading: Result<T, E>) -> Verdict<T> {
        let verdict = self.settling.handle_reading(reading, Instant::now());
        self.pause = if matches!(verdict, Verdict::Doubtful) { LOOK_AGAIN } else { LOOK };
        verdict
    }

    /// Returns when the directory is to be read again. Safe to cancel.
    pub async fn changed(&mut self) {
        self.changes.next_within(self.pause).await;
    }
}
