//! What programs log, kept to be read.
//!
//! Owns the text. Programs that are started while logs are captured write into them, down to the last detail; so do the
//! libraries they use.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Dispatch,
    level_filters::LevelFilter,
    subscriber::{DefaultGuard, NoSubscriber},
};
use tracing_subscriber::{fmt::MakeWriter, util::SubscriberInitExt as _};

/// What captures, for as long as it lives.
#[derive(Debug)]
pub struct Capture {
    _logs: DefaultGuard,
    /// With one subscriber alone, `tracing` asks the thread that comes first to a place in the code whether it is of interest,
    /// and takes the answer for all threads: those of other tests would turn it off.
    _second: Dispatch,
}

/// The logs of some programs.
#[derive(Debug, Clone, Default)]
pub struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    /// Captures what this thread logs, and every program that it starts, for as long as the value lives.
    #[must_use]
    pub fn capture(&self) -> Capture {
        let subscriber = tracing_subscriber::fmt().with_writer(self.clone()).with_ansi(false);
        // This also takes the records of libraries that use `log`, as the programs do.
        let logs = subscriber.with_max_level(LevelFilter::TRACE).set_default();
        Capture { _logs: logs, _second: Dispatch::new(NoSubscriber::default()) }
    }

    /// Everything so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl<'a> MakeWriter<'a> for Logs {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
