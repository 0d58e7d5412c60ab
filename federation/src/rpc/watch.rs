//! One watch of one member.
//!
//! Owns when it is told what, and when the watch ends: with the membership, with the certificate or its revocation, with the
//! program. Never keeps what was sent: a slow watcher is told the newest state, once. A member that waits for approval is
//! told of itself alone, and of everything when it is approved.

use std::{sync::Arc, time::Duration};

use federation_model::{member::Change, names::ClusterName, revocation::Revocations};
use futures::{Stream, stream};
use proto::{
    convert::member::Refusal,
    federation::v1::{WatchRequest, WatchResponse},
};
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};
use tonic::{Status, Streaming};

use super::{Context, caller::Peer, recovery, refuse::status};
use crate::{
    presence::{MAX_WATCHES, Watching},
    state::State,
};

/// How often the caller is verified again: its certificate may expire while the watch is open.
const VERIFY_EVERY: Duration = Duration::from_secs(60);

/// Reads where the member stands, and tells it from there on.
pub(super) async fn open(
    context: Context,
    peer: Peer,
    cluster: ClusterName,
    mut requests: Streaming<WatchRequest>,
) -> Result<impl Stream<Item = Result<WatchResponse, Status>> + Send, Status> {
    let Some(watching) = context.presence.watch(&cluster, context.clock.now()) else {
        let text = format!("cluster {cluster} has {MAX_WATCHES} watches open: are as many gateways running?");
        return Err(context.refuse(Refusal::TooManyWatches, text));
    };
    let first = recovery::first(&mut requests).await?;
    if let Err(rewound) = context.registry.state().resume(&first) {
        return Err(context.rewound(&cluster, rewound).await);
    }
    let mut verify = interval(VERIFY_EVERY);
    verify.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut states = context.registry.states();
    states.mark_changed();
    let watcher = Watcher {
        context,
        peer,
        cluster,
        requests,
        // None: what came since the call was verified counts as well.
        judged: Arc::default(),
        states,
        store_id: first.store_id,
        revision: first.revision,
        greeted: false,
        waiting: Vec::new(),
        verify,
        watching,
    };
    Ok(stream::unfold(Some(watcher), |watcher| async {
        let (result, watcher) = watcher?.next().await?;
        Some((result, watcher))
    }))
}

struct Watcher {
    context: Context,
    peer: Peer,
    cluster: ClusterName,
    requests: Streaming<WatchRequest>,
    states: watch::Receiver<Arc<State>>,
    /// What the member knows.
    store_id: String,
    revision: u64,
    /// Whether it was told anything: the first message comes even when nothing changed.
    greeted: bool,
    /// What it was told while it waits for approval.
    waiting: Vec<Change>,
    verify: Interval,
    /// The revocations by which the caller was judged last.
    judged: Arc<Revocations>,
    watching: Watching,
}

impl Watcher {
    /// The next message, and the watcher unless it was the last one.
    async fn next(mut self) -> Option<(Result<WatchResponse, Status>, Option<Self>)> {
        loop {
            tokio::select! {
                biased;
                () = self.context.stop.cancelled() => {
                    let text = "the federation service is stopping: connect again";
                    return Some((Err(status(Refusal::Unavailable, text)), None));
                }
                changed = self.states.changed() => {
                    changed.ok()?;
                    match self.tell() {
                        Ok(Some(response)) => return Some((Ok(response), Some(self))),
                        Ok(None) => {}
                        Err(status) => return Some((Err(status), None)),
                    }
                }
                request = self.requests.message() => {
                    // No member has applied what it was not told.
                    let acknowledged = request.ok()??.revision.min(self.revision);
                    self.watching.acknowledged(acknowledged, self.context.clock.now());
                }
                _ = self.verify.tick() => {
                    if let Err(status) = self.context.member(&self.peer) {
                        return Some((Err(status), None));
                    }
                }
            }
        }
    }

    /// What the member missed; nothing when nothing concerns it.
    fn tell(&mut self) -> Result<Option<WatchResponse>, Status> {
        let state = Arc::clone(&self.states.borrow_and_update());
        let Some(record) = state.members.get(&self.cluster) else {
            let text = format!("cluster {} is no longer a member of this set: it left or was removed", self.cluster);
            return Err(self.context.refuse(Refusal::NotAMember, text));
        };
        if !Arc::ptr_eq(&self.judged, &state.revocations) {
            self.judged = Arc::clone(&state.revocations);
            self.context.member(&self.peer)?;
        }
        // A store that goes on under another id has something to tell everybody.
        let same_store = *state.store_id == *self.store_id;
        let pending = record.pending;
        let missed = if pending {
            let missed = state.told_while_waiting(record);
            if same_store && missed.changes == self.waiting {
                return Ok(None);
            }
            self.waiting.clone_from(&missed.changes);
            missed
        } else if self.greeted && same_store && state.revision == self.revision {
            return Ok(None);
        } else {
            state.since(&self.store_id, self.revision)
        };
        (self.store_id, self.revision, self.greeted) = (state.store_id.to_string(), missed.revision, true);
        let mark = if pending { None } else { state.mark() };
        Ok(Some(WatchResponse {
            store_id: self.store_id.clone(),
            revision: missed.revision,
            reset: missed.reset,
            changes: missed.changes.iter().map(Into::into).collect(),
            pending,
            mark: mark.map(|mark| mark.as_bytes().to_vec().into()).unwrap_or_default(),
        }))
    }
}
