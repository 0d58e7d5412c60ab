//! SIGTERM and SIGINT.
//!
//! Owns their meaning: the first asks the program to stop, the second ends it at once. Never stops anything itself.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of a program that a second signal ended (128 + SIGINT, as shells report it).
pub const FORCED_EXIT: i32 = 130;

/// The handlers of both signals, in force from [`Signals::install`] on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes both signals over.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal and says its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Runs `program` to its end. The first signal cancels `stop`; the second ends the process with [`FORCED_EXIT`].
    pub async fn run<T>(mut self, stop: &CancellationToken, program: impl Future<Output = T>) -> T {
        let mut program = std::pin::pin!(program);
        tokio::select! {
            result = &mut program => return result,
            name = self.next() => {
                tracing::info!(signal = name, "stopping; a second signal ends the program at once");
                stop.cancel();
            }
        }
        tokio::select! {
            result = &mut program => result,
            name = self.next() => {
                tracing::warn!(signal = name, "ended before everything had stopped");
                std::process::exit(FORCED_EXIT)
            }
        }
    }
}
