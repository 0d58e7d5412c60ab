//! The tasks of a program, each with a name and a written rule for its end.
//!
//! Owns every background task: it starts them, hears of their end, restarts or stops by the rule, and stops them stage by
//! stage with a deadline. Never knows what a task does. The only place that calls `tokio::spawn`.
//!
//! ```text
//! Tasks::run:  stop asked, or a task ended that must not
//!                -> Accept stops -> Work stops -> (deadline: abort, name the stuck) -> Support stops
//! ```

use std::{
    collections::BTreeMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

mod restart;

pub use restart::Restart;

/// How long the last stage, and tasks that were aborted, may take: they only close files and sockets.
const SUPPORT_GRACE: Duration = Duration::from_secs(2);

/// When a task is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Takes new work in: listeners. Stops first.
    Accept,
    /// Does the work.
    Work,
    /// Serves the other two: admin port, state writers, telemetry. Stops last.
    Support,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Accept, Self::Work, Self::Support];
}

/// What the end of a task means while nobody asked it to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// The program cannot go on without it.
    Stop,
    /// It may end when its work is done; a failure or a panic stops the program.
    Finishes,
}

/// What a task may return: nothing, or a result.
pub trait TaskOutput {
    /// As a result.
    ///
    /// # Errors
    /// The task's own.
    fn into_result(self) -> Result<(), anyhow::Error>;
}

impl TaskOutput for () {
    fn into_result(self) -> Result<(), anyhow::Error> {
        Ok(())
    }
}

impl<E: Into<anyhow::Error>> TaskOutput for Result<(), E> {
    fn into_result(self) -> Result<(), anyhow::Error> {
        self.map_err(Into::into)
    }
}

/// How one task ended.
#[derive(Debug)]
pub enum TaskEnd {
    /// It returned.
    Finished,
    /// It returned an error.
    Failed(anyhow::Error),
    /// It panicked with this message.
    Panicked(String),
}

impl fmt::Display for TaskEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("ended although nobody asked it to"),
            Self::Failed(error) => write!(f, "failed: {error:#}"),
            Self::Panicked(message) => write!(f, "panicked: {message}; this is a bug, please report it"),
        }
    }
}

/// Why the program stopped.
#[derive(Debug)]
pub enum End {
    /// It was asked to.
    Asked,
    /// A task ended that must not end.
    Task {
        /// Its name.
        name: &'static str,
        /// How it ended.
        how: TaskEnd,
    },
}

/// The end of [`Tasks::run`].
#[derive(Debug)]
pub struct Shutdown {
    /// Why the program stopped.
    pub end: End,
    /// Tasks that did not stop in time and were aborted.
    pub stuck: Vec<&'static str>,
}

impl Shutdown {
    /// Nothing when the program was asked to stop, else what ended it.
    ///
    /// # Errors
    /// When a task ended that must not end.
    pub fn into_result(self) -> Result<(), anyhow::Error> {
        match self.end {
            End::Asked => Ok(()),
            End::Task { name, how } => Err(anyhow::anyhow!("task {name} {how}")),
        }
    }
}

/// Owns the tasks of a program; dropping it aborts them all.
#[derive(Debug)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stop: CancellationToken,
    stages: [CancellationToken; 3],
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    running: BTreeMap<u64, Running>,
    /// The first end that stops the program.
    fatal: Option<(&'static str, TaskEnd)>,
    closed: bool,
}

#[derive(Debug)]
struct Running {
    name: &'static str,
    stage: Stage,
    abort: Option<AbortHandle>,
}

impl Shared {
    /// Holders of the lock only move values, so a poisoned one is still whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    /// No tasks yet; cancelling `stop` asks the program to stop.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        let stages = [CancellationToken::new(), CancellationToken::new(), CancellationToken::new()];
        Self { shared: Arc::new(Shared { stop, stages, state: Mutex::default(), changed: Notify::new() }) }
    }

    /// Starts tasks that stop at `stage`.
    #[must_use]
    pub fn stage(&self, stage: Stage) -> Spawner {
        let stop = self.shared.stages[stage as usize].clone();
        Spawner { shared: Arc::clone(&self.shared), stage, stop }
    }

    /// Cancelling it asks the program to stop.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }

    /// Waits until the program is asked to stop or a task ends that must not, then stops stage by stage. The first two
    /// stages share `grace`; what is left of them after it is aborted.
    pub async fn run(self, grace: Duration) -> Shutdown {
        let end = self.ended().await;
        if let End::Task { name, how } = &end {
            tracing::error!(task = name, "{how}; stopping");
        }
        self.shared.stop.cancel();
        let deadline = Instant::now() + grace;
        let mut stuck = Vec::new();
        for stage in Stage::ALL {
            self.shared.stages[stage as usize].cancel();
            let until = match stage {
                Stage::Accept | Stage::Work => deadline,
                Stage::Support => Instant::now() + SUPPORT_GRACE,
            };
            if timeout_at(until, self.idle(stage)).await.is_err() {
                stuck.extend(self.abort(|task| task.stage == stage));
                // An aborted task ends at its next await; one that never awaits is left behind.
                let _ = timeout_at(Instant::now() + SUPPORT_GRACE, self.idle(stage)).await;
            }
        }
        for name in &stuck {
            tracing::warn!(task = name, "did not stop in time and was aborted");
        }
        Shutdown { end, stuck }
    }

    async fn ended(&self) -> End {
        loop {
            let changed = self.shared.changed.notified();
            if let Some((name, how)) = self.shared.state().fatal.take() {
                return End::Task { name, how };
            }
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return End::Asked,
                () = changed => {}
            }
        }
    }

    async fn idle(&self, stage: Stage) {
        loop {
            let changed = self.shared.changed.notified();
            if self.shared.state().running.values().all(|task| task.stage != stage) {
                return;
            }
            changed.await;
        }
    }

    fn abort(&self, which: impl Fn(&Running) -> bool) -> Vec<&'static str> {
        let state = self.shared.state();
        let chosen: Vec<&Running> = state.running.values().filter(|task| which(task)).collect();
        chosen.iter().filter_map(|task| task.abort.as_ref()).for_each(AbortHandle::abort);
        chosen.iter().map(|task| task.name).collect()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.stages.iter().for_each(CancellationToken::cancel);
        self.shared.state().closed = true;
        self.abort(|_| true);
    }
}

/// Starts tasks of one stage.
#[derive(Debug, Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
    stage: Stage,
    stop: CancellationToken,
}

impl Spawner {
    /// Cancelled when the tasks of this stage are to stop.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Cancelling it asks the whole program to stop.
    #[must_use]
    pub fn stop_program(&self) -> &CancellationToken {
        &self.shared.stop
    }

    /// Starts a task; `rule` says what its end means before it was told to stop.
    pub fn spawn<F>(&self, name: &'static str, rule: OnEnd, future: F)
    where
        F: Future + Send + 'static,
        F::Output: TaskOutput,
    {
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        self.start(name, async move {
            let how = caught(future).await;
            match (rule, &how) {
                (OnEnd::Finishes, TaskEnd::Finished) => {}
                (OnEnd::Stop, TaskEnd::Finished) if stop.is_cancelled() => {}
                (OnEnd::Stop | OnEnd::Finishes, TaskEnd::Failed(_)) if stop.is_cancelled() => {
                    tracing::warn!(task = name, "{how} while it was stopping");
                }
                (OnEnd::Stop, TaskEnd::Finished)
                | (OnEnd::Stop | OnEnd::Finishes, TaskEnd::Failed(_) | TaskEnd::Panicked(_)) => {
                    shared.state().fatal.get_or_insert((name, how));
                }
            }
        });
    }

    /// Starts a task that is made anew, after a growing pause, whenever it ends before it was told to stop.
    pub fn spawn_restarting<F, M>(&self, name: &'static str, restart: Restart, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future + Send + 'static,
        F::Output: TaskOutput,
    {
        let stop = self.stop.clone();
        self.start(name, async move {
            let mut pauses = restart.pauses();
            while !stop.is_cancelled() {
                let started = Instant::now();
                let how = caught(make()).await;
                if stop.is_cancelled() {
                    return;
                }
                let pause = pauses.after_running(started.elapsed());
                tracing::warn!(task = name, ?pause, "{how}; it is started again");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    #[expect(clippy::disallowed_methods, reason = "this is the owner every task is to have")]
    fn start(&self, name: &'static str, body: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.shared.state();
        if state.closed {
            return;
        }
        let id = state.next;
        state.next += 1;
        state.running.insert(id, Running { name, stage: self.stage, abort: None });
        let ended = Ended { shared: Arc::clone(&self.shared), id };
        let handle = tokio::spawn(async move {
            let _ended = ended;
            body.await;
        });
        // The task cannot have removed its entry yet: that needs the lock that is held here.
        if let Some(task) = state.running.get_mut(&id) {
            task.abort = Some(handle.abort_handle());
        }
    }
}

/// Takes the task off the list however it ends, by abort too.
struct Ended {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shared.state().running.remove(&self.id);
        self.shared.changed.notify_waiters();
    }
}

async fn caught<F>(future: F) -> TaskEnd
where
    F: Future,
    F::Output: TaskOutput,
{
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(output) => match output.into_result() {
            Ok(()) => TaskEnd::Finished,
            Err(error) => TaskEnd::Failed(error),
        },
        Err(panic) => TaskEnd::Panicked(message_of(panic.as_ref())),
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests;
