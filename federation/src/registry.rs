//! The single owner of the set while the program runs.
//!
//! Owns the order of decisions: one at a time, each on disk, together with the entry of the audit log that tells of it,
//! before it is in force and before its caller hears of it. Never decides itself.

use std::sync::Arc;

use federation_pki::trust::TrustStore;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    state::{State, Write, audit::By},
    store::{Store, StoreError},
};

/// Decisions that wait. Each takes one disk write, so this many are done within a second or two.
const MAX_WAITING: usize = 256;

/// Tells the caller whether the writes are durable.
type Finish = Box<dyn FnOnce(Result<u64, String>) + Send>;
/// Looks at the state; gives the writes and who waits for them, or nothing when the caller was refused already.
type Command = Box<dyn FnOnce(&State) -> Option<(Vec<Write>, Finish)> + Send>;

/// Why a decision gave nothing.
#[derive(Debug)]
pub(crate) enum Undecided<E> {
    /// It was refused.
    Refused(E),
    /// It could not be made durable, or the program stops.
    Unavailable(String),
}

/// A way to the owner.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<Arc<State>>,
    store: Arc<Store>,
}

impl Registry {
    /// For what is read from the disk alone: the audit log, as far as the state says that it goes.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The state now.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// The state, and every later one.
    pub(crate) fn states(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// Has `decision` made; gives what it gave, and the revision after it, once its writes are durable and the audit log
    /// tells that they are `by` somebody.
    pub(crate) async fn decide<T, E, D>(&self, by: By, decision: D) -> Result<(T, u64), Undecided<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
        D: FnOnce(&State) -> Result<(Vec<Write>, T), E> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let command: Command = Box::new(move |state| match decision(state) {
            Ok((mut writes, value)) => {
                writes.extend(state.told(&writes, &by));
                let finish = move |durable: Result<u64, String>| {
                    // The caller may have gone; the decision holds all the same.
                    let _ = reply.send(durable.map(|revision| (value, revision)).map_err(Undecided::Unavailable));
                };
                Some((writes, Box::new(finish) as Finish))
            }
            Err(error) => {
                let _ = reply.send(Err(Undecided::Refused(error)));
                None
            }
        });
        let stopping = || Undecided::Unavailable("the federation service is stopping".to_owned());
        self.commands.send(command).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

/// The owner itself.
#[derive(Debug)]
pub(crate) struct Owner {
    store: Arc<Store>,
    commands: mpsc::Receiver<Command>,
    state: watch::Sender<Arc<State>>,
    trust: Arc<TrustStore>,
    metrics: Metrics,
}

/// The owner of `state`, and a way to it.
pub(crate) fn registry(store: Store, state: State, trust: Arc<TrustStore>, metrics: Metrics) -> (Registry, Owner) {
    let (sender, commands) = mpsc::channel(MAX_WAITING);
    let state = Arc::new(state);
    let (states, receiver) = watch::channel(Arc::clone(&state));
    let store = Arc::new(store);
    let owner = Owner { store: Arc::clone(&store), commands, state: states, trust, metrics };
    owner.metrics.observe(&state);
    owner.believe(&state);
    (Registry { commands: sender, state: receiver, store }, owner)
}

impl Owner {
    /// Decides until `stop`.
    ///
    /// # Errors
    /// When the store fails: what is on disk is not known then, so the program is to start again.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        loop {
            let command = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                command = self.commands.recv() => command,
            };
            let Some(command) = command else { return Ok(()) };
            self.handle(command).await?;
        }
    }

    async fn handle(&mut self, command: Command) -> Result<(), StoreError> {
        let before = Arc::clone(&self.state.borrow());
        let Some((writes, finish)) = command(&before) else { return Ok(()) };
        if writes.is_empty() {
            finish(Ok(before.revision));
            return Ok(());
        }
        let after = Arc::new(before.applied(&writes));
        let concerns_trust = writes.iter().any(Write::concerns_trust);
        match self.commit(writes, before.revision, Arc::clone(&after)).await {
            Ok(()) => {
                let revision = after.revision;
                self.metrics.observe(&after);
                if concerns_trust {
                    // First: whoever hears of the new state verifies by it.
                    self.believe(&after);
                }
                self.state.send_replace(after);
                finish(Ok(revision));
                Ok(())
            }
            Err(error) => {
                finish(Err("the federation service cannot write its store: see its log".to_owned()));
                Err(error)
            }
        }
    }

    async fn commit(&self, writes: Vec<Write>, before: u64, after: Arc<State>) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || store.commit(&writes, before, &after)).await {
            Ok(committed) => committed,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Puts the revocations and the bundles of the state in force.
    fn believe(&self, state: &State) {
        self.trust.revoke(&state.revocations);
        if let Err(error) = self.trust.replace(state.bundles()) {
            tracing::error!(%error, "members whose bundle cannot be used are refused");
        }
    }
}

#[cfg(test)]
mod tests;
