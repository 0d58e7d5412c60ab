//! The owner of all polls.
//!
//! Owns which poll runs, each in a task of its own, and who waits for its end. Never awaits a poll: one endpoint that never
//! answers delays no other.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use federation_model::spiffe::TrustDomain;
use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use super::{
    Probe, Refresh,
    poll::{PollError, Polled},
    schedule::Schedule,
};

/// Asks the endpoints of all foreign trust domains, for as long as it runs.
#[derive(Debug)]
pub(crate) struct Poller {
    probe: Probe,
    refreshes: mpsc::Receiver<Refresh>,
    schedule: Schedule,
    polls: JoinSet<Polled>,
    /// Whose each poll is; as many as there are trust domains.
    running: BTreeMap<TrustDomain, AbortHandle>,
    /// Who waits for the end of the poll that runs or comes next.
    waiting: BTreeMap<TrustDomain, Vec<oneshot::Sender<()>>>,
}

impl Poller {
    pub(super) fn new(probe: Probe, refreshes: mpsc::Receiver<Refresh>) -> Self {
        let (schedule, polls) = (Schedule::default(), JoinSet::new());
        Self { probe, refreshes, schedule, polls, running: BTreeMap::new(), waiting: BTreeMap::new() }
    }

    /// Polls until `stop`; what runs then is given up.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut states = self.probe.registry.states();
        loop {
            states.mark_unchanged();
            self.reconcile();
            self.start_due();
            let next = self.schedule.next();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = states.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(refresh) = self.refreshes.recv() => self.hurry(refresh),
                Some(ended) = self.polls.join_next_with_id() => self.ended(ended),
                () = at(next) => {}
            }
        }
    }

    fn reconcile(&mut self) {
        let state = self.probe.registry.state();
        self.probe.metrics.foreign().known(state.foreign.len());
        for trust_domain in self.schedule.reconcile(&state.foreign, Instant::now()) {
            if let Some(poll) = self.running.remove(&trust_domain) {
                poll.abort();
            }
            self.probe.standings.forget(&trust_domain);
            self.probe.metrics.foreign().forget(&trust_domain);
        }
        self.probe.standings.retain(&state.foreign);
        // Whoever waits for a trust domain that is gone waits no more; others may have given up.
        self.waiting.retain(|trust_domain, waiting| {
            waiting.retain(|done| !done.is_closed());
            !waiting.is_empty() && state.foreign.contains_key(trust_domain)
        });
    }

    fn start_due(&mut self) {
        for trust_domain in self.schedule.take_due(Instant::now()) {
            let poll = self.polls.spawn(self.probe.clone().poll(trust_domain.clone()));
            self.running.insert(trust_domain, poll);
        }
    }

    fn hurry(&mut self, refresh: Refresh) {
        let Refresh { trust_domain, done } = refresh;
        // The change that made it known may have come in the meantime.
        self.reconcile();
        if self.schedule.hurry(&trust_domain, Instant::now()) {
            self.waiting.entry(trust_domain).or_default().push(done);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Polled), JoinError>) {
        let (id, polled) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let id = error.id();
                (id, Err(PollError::Unavailable(format!("the poll panicked, which is a bug: {error}"))))
            }
        };
        // One that was given up is not among them any more: what it found counts for nothing.
        let Some(trust_domain) = self.running.iter().find(|(_, poll)| poll.id() == id).map(|(name, _)| name.clone())
        else {
            return;
        };
        self.running.remove(&trust_domain);
        let pause = self.probe.settle(&trust_domain, &polled);
        self.schedule.finished(&trust_domain, Instant::now(), pause.unwrap_or(Duration::ZERO));
        if pause.is_none() {
            // The next one begins at once; whoever waits, waits for that.
            return;
        }
        for done in self.waiting.remove(&trust_domain).unwrap_or_default() {
            // Who gave up is told nothing.
            let _ = done.send(());
        }
    }
}

async fn at(next: Option<Instant>) {
    match next {
        Some(next) => sleep_until(next.into()).await,
        None => std::future::pending().await,
    }
}
