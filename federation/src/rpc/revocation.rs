//! The calls about revocations.
//!
//! Owns converting them, and the wait for the acknowledgements of a revision. Never decides what may be revoked.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use federation_model::{
    audit::{Actor, Text},
    names::ClusterName,
    revocation::{Line, RevocationId, Subject},
};
use federation_pki::verify::serial_of;
use futures::{Stream, stream};
use proto::{
    convert::{
        ConvertError,
        member::Refusal,
        revocation::{Standing, asked, messages},
    },
    federation::v1 as wire,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::Status;

use super::{
    Context,
    caller::Peer,
    refuse::{invalid, status},
};
use crate::{
    presence::{Changes, Seen},
    registry::Undecided,
    state::{
        State,
        revocation::{NewRevocation, RevocationRefusal},
    },
};

/// The longest a client may wait in one call; it can ask again.
const AWAIT_LIMIT: Duration = Duration::from_secs(3600);

/// Revokes what is asked.
pub(super) async fn revoke(
    context: &Context,
    peer: &Peer,
    request: wire::RevokeRequest,
) -> Result<wire::RevokeResponse, Status> {
    let operator = context.operator(peer)?;
    let audited = context.by(Actor::Operator(Text::fitting(&operator)), peer);
    let (asked, reason) = asked(request).map_err(|error| invalid(&error))?;
    let by: Line = operator.parse().map_err(|error| invalid(&ConvertError::new("RevokeRequest", "operator", error)))?;
    let new = NewRevocation {
        id: RevocationId::from_bits(rand::random()),
        asked,
        reason,
        by,
        shown: peer.chain.iter().filter_map(|cert| serial_of(cert).ok()).collect(),
        at: context.clock.now(),
    };
    let (revoked, revision) = context
        .registry
        .decide(audited, move |state| state.revoke(new))
        .await
        .map_err(|error| refused(context, error))?;
    let revocation = &revoked.revocation;
    if let Subject::Cluster { cluster, .. } = &revocation.subject {
        context.presence.forget(cluster);
    }
    Ok(wire::RevokeResponse {
        revocation: Some((&**revocation).into()),
        revision,
        already: revoked.already,
        warnings: revoked.warnings,
    })
}

/// Every revocation in force.
pub(super) fn list(context: &Context, peer: &Peer) -> Result<wire::ListRevocationsResponse, Status> {
    context.operator(peer)?;
    let state = context.registry.state();
    Ok(wire::ListRevocationsResponse { revocations: messages(&state.revocations), revision: state.revision })
}

/// Lifts a revocation.
pub(super) async fn reinstate(
    context: &Context,
    peer: &Peer,
    request: wire::ReinstateRequest,
) -> Result<wire::ReinstateResponse, Status> {
    let by = context.by(Actor::Operator(Text::fitting(&context.operator(peer)?)), peer);
    let unusable = |error| invalid(&ConvertError::new("ReinstateRequest", "id", error));
    let id = request.id.parse().map_err(unusable)?;
    let (force, now) = (request.force, context.clock.now());
    let decision = context.registry.decide(by, move |state| state.reinstate(&id, force, now));
    let (lifted, revision) = decision.await.map_err(|error| refused(context, error))?;
    Ok(wire::ReinstateResponse { revision, revocation: lifted.map(|revocation| (&*revocation).into()) })
}

fn refused(context: &Context, undecided: Undecided<RevocationRefusal>) -> Status {
    match undecided {
        Undecided::Refused(refusal) => {
            let reason = match refusal {
                RevocationRefusal::NotAMember(_) | RevocationRefusal::Unknown(_) => Refusal::NotFound,
                RevocationRefusal::Own(_) | RevocationRefusal::OwnCredential(_) => Refusal::OwnIdentity,
                RevocationRefusal::TooMany(_) => Refusal::TooManyRevocations,
            };
            context.refuse(reason, refusal.to_string())
        }
        Undecided::Unavailable(reason) => status(Refusal::Unavailable, reason),
    }
}

/// Tells how far every member is with a revision, until all that watch have acknowledged it.
pub(super) fn acknowledgements(
    context: &Context,
    peer: &Peer,
    request: &wire::AwaitAcknowledgementRequest,
) -> Result<impl Stream<Item = Result<wire::Acknowledgement, Status>> + Send + 'static, Status> {
    context.operator(peer)?;
    let now = context.registry.state().revision;
    if request.revision > now {
        let text = format!("there is no revision {} yet: the set is at {now}", request.revision);
        return Err(context.refuse(Refusal::Invalid, text));
    }
    let mut states = context.registry.states();
    states.mark_changed();
    let awaiting = Awaiting {
        states,
        changes: context.presence.changes(),
        context: context.clone(),
        revision: request.revision,
        told: BTreeMap::new(),
        news: VecDeque::new(),
        deadline: Instant::now() + AWAIT_LIMIT,
    };
    Ok(stream::unfold(Some(awaiting), |awaiting| async {
        let (result, awaiting) = awaiting?.next().await?;
        Some((result, awaiting))
    }))
}

struct Awaiting {
    states: watch::Receiver<Arc<State>>,
    changes: Changes,
    context: Context,
    revision: u64,
    /// What the client knows of each member.
    told: BTreeMap<ClusterName, Standing>,
    /// What it does not know yet; one entry for each member at most.
    news: VecDeque<wire::Acknowledgement>,
    deadline: Instant,
}

impl Awaiting {
    /// The next message, and what follows unless it was the last one.
    async fn next(mut self) -> Option<(Result<wire::Acknowledgement, Status>, Option<Self>)> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Some((Ok(news), Some(self)));
            }
            let looked = !self.told.is_empty();
            if looked && !self.told.values().any(|standing| *standing == Standing::Pending) {
                return None;
            }
            tokio::select! {
                biased;
                () = self.context.stop.cancelled() => {
                    let text = "the federation service is stopping: ask again";
                    return Some((Err(status(Refusal::Unavailable, text)), None));
                }
                () = sleep_until(self.deadline) => return None,
                changed = self.states.changed() => changed.ok()?,
                () = self.changes.changed() => {}
            }
            self.look();
            // A set without members has nobody to wait for.
            if self.told.is_empty() {
                return None;
            }
        }
    }

    fn look(&mut self) {
        let state = Arc::clone(&self.states.borrow_and_update());
        let gone: Vec<_> = self.told.keys().filter(|name| !state.members.contains_key(*name)).cloned().collect();
        for cluster in state.members.keys().chain(&gone) {
            let seen = self.context.presence.of(cluster);
            let standing = match (state.members.contains_key(cluster), seen.watches) {
                (false, _) => Standing::Gone,
                (true, _) if seen.acknowledged >= self.revision => Standing::Acknowledged,
                (true, 0) => Standing::Away,
                (true, _) => Standing::Pending,
            };
            if self.told.insert(cluster.clone(), standing) != Some(standing) {
                self.news.push_back(message(cluster, standing, seen));
            }
        }
    }
}

fn message(cluster: &ClusterName, standing: Standing, seen: Seen) -> wire::Acknowledgement {
    wire::Acknowledgement {
        cluster: cluster.to_string(),
        state: wire::AcknowledgementState::from(standing).into(),
        acknowledged: seen.acknowledged,
        last_seen: seen.last_seen.map_or(0, |at| at.0),
    }
}
