//! A store that was restored from an older copy: who notices, and how it ends.
//!
//! Owns what a member is told that has seen more than the store holds, who hears of that, and the call with which an operator
//! goes on. Never decides it by itself: a reset makes members forget who joined and believe who left.

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use federation_model::{audit::Action, mark::Mark, names::ClusterName};
use proto::{
    convert::member::Refusal,
    federation::v1::{RecoverResponse, WatchRequest},
};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::{Context, refuse::status};
use crate::{
    registry::Undecided,
    state::{
        audit::By,
        rewind::{Rewound, Seen},
    },
};

/// The first message follows the headers at once.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

/// Where a watch resumes.
pub(super) async fn first(requests: &mut Streaming<WatchRequest>) -> Result<Seen, Status> {
    match timeout(FIRST_MESSAGE, requests.message()).await {
        Ok(Ok(Some(WatchRequest { store_id, revision, mark }))) => {
            Ok(Seen { store_id, revision, mark: Mark::from_bytes(&mark) })
        }
        Ok(Ok(None)) | Err(_) => Err(status(Refusal::Invalid, "the watch did not say where to resume")),
        Ok(Err(status)) => Err(status),
    }
}

/// Why somebody who is `refused` cannot watch: it may be a member that joined, or changed its bundle, after the copy was made
/// that the store was restored from, and must not take that for the end of its membership. Only its own word is for it, so
/// nobody else hears of it.
pub(super) async fn refused(context: &Context, mut requests: Streaming<WatchRequest>, refused: Status) -> Status {
    let Ok(seen) = first(&mut requests).await else { return refused };
    match context.registry.state().resume(&seen) {
        Ok(()) => refused,
        Err(rewound) => context.refuse(Refusal::Rewound, rewound.to_string()),
    }
}

/// Goes on under another store id.
pub(super) async fn recover(context: &Context, by: By) -> Result<RecoverResponse, Status> {
    let store_id: Arc<str> = format!("{:032x}", rand::random::<u128>()).into();
    let next = Arc::clone(&store_id);
    let decision = context
        .registry
        .decide(by, move |state| Ok::<_, Infallible>((state.recover(next), Arc::clone(&state.store_id))));
    match decision.await {
        Ok((former, revision)) => {
            tracing::warn!(%former, %store_id, revision, "the store goes on under another id: members take its state anew");
            let (former_store_id, store_id) = (former.to_string(), store_id.to_string());
            Ok(RecoverResponse { former_store_id, store_id, revision })
        }
        Err(Undecided::Unavailable(reason)) => Err(status(Refusal::Unavailable, reason)),
        Err(Undecided::Refused(never)) => match never {},
    }
}

impl Context {
    /// Tells everybody who has to know that a member has seen more than the store holds.
    pub(super) async fn rewound(&self, cluster: &ClusterName, rewound: Rewound) -> Status {
        self.metrics.rewound();
        if self.first_in_a_while(cluster) {
            let Rewound { seen, at } = rewound;
            tracing::error!(%cluster, seen, at, "a member has seen what is not in the store: it was restored from an older copy; run fedctl recover when that is meant");
            let detail = format!("it has seen revision {seen}, the store is at revision {at}");
            let entry = By::service(self.clock.now()).entry(Action::RewindDetected, cluster.as_str(), &detail);
            let by = By::service(self.clock.now());
            let told = self.registry.decide(by, move |_| Ok::<_, Infallible>((vec![entry], ())));
            if told.await.is_err() {
                tracing::warn!(%cluster, detail, "a restored store is not in the audit log");
            }
        }
        self.refuse(Refusal::Rewound, rewound.to_string())
    }

    /// Holders of the lock only count, so a poisoned one is still whole.
    fn first_in_a_while(&self, cluster: &ClusterName) -> bool {
        let mut told = self.rewinds.lock().unwrap_or_else(PoisonError::into_inner);
        let first = told.check(cluster, Instant::now()).is_ok();
        if first {
            told.count(cluster, Instant::now());
        }
        first
    }
}
