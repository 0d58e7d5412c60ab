//! A program of the cluster set, in a runtime of its own.
//!
//! Owns the runtime: ending it ends every task and closes every socket at once, as the end of a process does. Never shares a
//! task with another program.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{Dispatch, dispatcher, subscriber::NoSubscriber};

/// How long a runtime may take to end: its tasks end where they wait, at once.
const END: Duration = Duration::from_secs(10);

/// A program that runs.
#[derive(Debug)]
pub struct Process {
    runtime: Guard,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

/// A runtime that may be dropped anywhere.
#[derive(Debug)]
pub(crate) struct Guard(Option<Runtime>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Guard {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self(Some(runtime))
    }

    /// Ends every task and closes every socket.
    pub(crate) async fn end(mut self) {
        if let Some(runtime) = self.0.take() {
            // Ending a runtime blocks, which no asynchronous task may.
            let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(END)).await;
            ended.expect("the shutdown of a runtime does not panic");
        }
    }
}

impl Process {
    /// Starts a program: `start` gives what the starter wants to know, and the future that runs until the token is cancelled.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start<T, S, R>(
        name: &str,
        start: impl FnOnce(CancellationToken) -> S + Send + 'static,
    ) -> anyhow::Result<(Self, T)>
    where
        T: Send + 'static,
        S: Future<Output = anyhow::Result<(T, R)>>,
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        // As a child process inherits its standard error: the program logs where its starter does.
        let logs = dispatcher::get_default(Dispatch::clone);
        let inherit = move || {
            if !logs.is::<NoSubscriber>() {
                // The thread is the program's own until it ends.
                std::mem::forget(dispatcher::set_default(&logs));
            }
        };
        let mut runtime = Builder::new_multi_thread();
        runtime.worker_threads(1).enable_all().thread_name(name).on_thread_start(inherit);
        let runtime = runtime.build()?;
        let handle = runtime.handle().clone();
        let runtime = Guard::new(runtime);
        let stop = CancellationToken::new();
        let (starter, token) = (handle.clone(), stop.clone());
        // As `main` does it: a program starts on one thread, its tasks run on others.
        let starting = handle.spawn_blocking(move || starter.block_on(start(token)));
        let (value, run) = match starting.await? {
            Ok(started) => started,
            Err(error) => {
                runtime.end().await;
                return Err(error);
            }
        };
        let running = handle.spawn(run);
        Ok((Self { runtime, stop, running }, value))
    }

    /// Asks the program to stop; it goes on until it is done.
    pub fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    /// Asks the program to stop, and waits until it has.
    ///
    /// # Errors
    /// What it ended with.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let ended = self.running.await.context("the program panicked");
        self.runtime.end().await;
        ended?
    }

    /// Ends the program where it stands.
    pub async fn kill(self) {
        self.runtime.end().await;
    }
}
