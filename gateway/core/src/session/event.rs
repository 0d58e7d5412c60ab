//! What a session tells its owner.
//!
//! Owns the queue, in which events of one kind replace each other. Never drops the last word on anything.

use std::{collections::VecDeque, mem::discriminant, sync::Arc, time::Duration};

use federation_model::{
    catalog::{Catalog, CatalogDigest},
    report::ImportReport,
};

use super::credentials::{CredentialProof, Held, Judgement};

/// What a session tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The greeting is done; the first event of every session that gets this far.
    Up {
        /// Tells runs and replicas of the peer apart.
        instance: String,
        /// Name and version of the peer's program.
        software: String,
        /// The protocol version in use.
        version: u32,
        /// Whether the peer says what it imports.
        reports_imports: bool,
    },
    /// What the peer exports.
    Catalog(Arc<Catalog>),
    /// The peer exports what was held when the session began.
    Unchanged,
    /// The peer holds this cluster's catalog in this state.
    Acknowledged(CatalogDigest),
    /// The peer takes no new streams and opens none.
    PeerDraining {
        /// What the peer says about it.
        reason: String,
    },
    /// Nothing was heard for the time of the lease.
    LeaseExpired,
    /// Something was heard again.
    LeaseRestored,
    /// How far the peer's wall clock is ahead, in milliseconds; told again when it moves by [`SKEW_STEP_MILLIS`].
    Skew(i64),
    /// A measured round trip.
    Rtt(Duration),
    /// Which version of this cluster's trust bundle the peer believes.
    Held(Held),
    /// The peer wants the tunnel to be judged by a newer certificate; the owner verifies it, and answers with
    /// [`super::Session::handle_judgement`].
    Credential(CredentialProof),
    /// What became of this side's credential.
    Judged(Judgement),
    /// Which of this cluster's exports the peer imports, as far as it has said so in this session.
    ImportReport(Arc<ImportReport>),
}

/// How far the clock skew must move to be told again.
pub const SKEW_STEP_MILLIS: u64 = 50;

#[derive(Debug, Default)]
pub(super) struct Events {
    queue: VecDeque<SessionEvent>,
    told_skew: Option<i64>,
}

impl Events {
    pub(super) fn tell(&mut self, event: SessionEvent) {
        let kind = discriminant(&event);
        self.queue.retain(|earlier| discriminant(earlier) != kind);
        self.queue.push_back(event);
    }

    pub(super) fn tell_skew(&mut self, millis: i64) {
        if self.told_skew.is_none_or(|told| told.abs_diff(millis) >= SKEW_STEP_MILLIS) {
            self.told_skew = Some(millis);
            self.tell(SessionEvent::Skew(millis));
        }
    }

    pub(super) fn poll(&mut self) -> Option<SessionEvent> {
        self.queue.pop_front()
    }
}
