//! The cluster set as a value: members, tokens, revocations, foreign trust domains, revisions.
//!
//! Owns every decision about them. A decision gives the writes it needs and changes nothing; [`State::applied`] gives the
//! next state. Never reads a clock, a disk or a random number: they are arguments.
//!
//! ```text
//! state.join(..) ── writes ──> store.commit ──> state.applied(writes) ──> watchers: state.since(position)
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use federation_model::{
    audit::Event,
    bundle::TrustBundle,
    lineage::Lineage,
    member::{Change, Member},
    names::ClusterName,
    revocation::{Revocation, RevocationId, Revocations},
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use federation_pki::{
    continuity::{self, ContinuityError, Standing},
    token::TokenId,
    trust::{self, BundleFault},
};

pub mod approval;
pub mod audit;
pub mod foreign;
pub mod join;
pub mod numbering;
pub mod revocation;
pub mod rewind;
pub mod tokens;

pub use audit::Trail;
pub use foreign::ForeignRecord;
pub use rewind::Logged;
pub use tokens::TokenRecord;

/// Changes that are remembered: a watcher that missed more starts over.
pub const MAX_LOG: usize = 1024;

/// A member as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// What the other members know of it.
    pub member: Member,
    /// Name and version of its gateways.
    pub software: String,
    /// The token it joined with.
    pub token: TokenId,
    /// Whether it waits for approval: then no other member hears of it, and it hears of none.
    pub pending: bool,
}

/// What a revision changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A member came, changed or went.
    Member(ClusterName),
    /// The authorities of the service.
    Federation,
    /// The bundle of a trust domain outside the set came, changed or went.
    Foreign(TrustDomain),
    /// A revocation came or was lifted.
    Revocation(RevocationId),
}

/// One change of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A member came or changed what it says of itself.
    Member(MemberRecord),
    /// A member changed something that concerns nobody else.
    MemberQuietly(MemberRecord),
    /// A member went.
    MemberGone(ClusterName),
    /// A token came or changed.
    Token(TokenRecord),
    /// A token is forgotten.
    TokenGone(TokenId),
    /// The authorities of the service changed.
    Federation(TrustBundle),
    /// An entry of the audit log.
    Audit {
        /// When.
        at: Timestamp,
        /// What happened.
        event: Event,
    },
    /// The bundle of a foreign trust domain came or changed.
    Foreign(ForeignRecord),
    /// Something about a foreign trust domain changed that concerns no member.
    ForeignQuietly(ForeignRecord),
    /// A foreign trust domain went.
    ForeignGone(TrustDomain),
    /// Something was revoked.
    Revocation(Arc<Revocation>),
    /// A revocation was lifted; that is remembered, for members that start over would keep it otherwise.
    Reinstated(RevocationId, Timestamp),
    /// It is forgotten that a revocation was lifted.
    ReinstatedGone(RevocationId),
    /// The store goes on under another id.
    StoreId(Arc<str>),
}

impl Write {
    /// Whether it may change whom to believe. A member that waits for approval is believed to be who it is, although nobody
    /// hears of it.
    #[must_use]
    pub fn concerns_trust(&self) -> bool {
        match self {
            Self::Member(_)
            | Self::MemberQuietly(_)
            | Self::MemberGone(_)
            | Self::Federation(_)
            | Self::Revocation(_)
            | Self::Reinstated(..) => true,
            Self::Token(_)
            | Self::TokenGone(_)
            | Self::Audit { .. }
            | Self::Foreign(_)
            | Self::ForeignQuietly(_)
            | Self::ForeignGone(_)
            | Self::ReinstatedGone(_)
            | Self::StoreId(_) => false,
        }
    }
}

/// The whole set at one revision; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Which store the revisions belong to.
    pub store_id: Arc<str>,
    /// Grows with every change that watchers are told about.
    pub revision: u64,
    /// The authorities of the service itself.
    pub federation: TrustBundle,
    /// Every member.
    pub members: BTreeMap<ClusterName, Arc<MemberRecord>>,
    /// Every token that is remembered.
    pub tokens: BTreeMap<TokenId, Arc<TokenRecord>>,
    /// Every trust domain outside the set whose bundle is read.
    pub foreign: foreign::ForeignRecords,
    /// Every revocation in force; the same value until one comes or is lifted.
    pub revocations: Arc<Revocations>,
    /// Revocations that were lifted, and when; at most [`revocation::MAX_LIFTED`].
    pub reinstated: BTreeMap<RevocationId, Timestamp>,
    /// What was served of trust domains whose cluster left.
    pub left: numbering::Marks,
    /// The last [`MAX_LOG`] revisions.
    pub log: VecDeque<Logged>,
    /// The audit log.
    pub audit: Trail,
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Whether the watcher must forget what it knows.
    pub reset: bool,
    /// The state after the changes.
    pub revision: u64,
    /// Each changed member and foreign trust domain once, as it is now.
    pub changes: Vec<Change>,
}

impl State {
    /// A set without members.
    #[must_use]
    pub fn new(store_id: &str, federation: TrustBundle) -> Self {
        Self {
            store_id: store_id.into(),
            revision: 0,
            federation,
            members: BTreeMap::new(),
            tokens: BTreeMap::new(),
            foreign: BTreeMap::new(),
            revocations: Arc::default(),
            reinstated: BTreeMap::new(),
            left: BTreeMap::new(),
            log: VecDeque::new(),
            audit: Trail::start(store_id),
        }
    }

    /// The state after `writes`.
    #[must_use]
    pub fn applied(&self, writes: &[Write]) -> Self {
        let mut next = self.clone();
        for write in writes {
            let subject = next.subject_of(write);
            next.apply(write);
            if let Some(subject) = subject {
                next.revision += 1;
                next.log.push_back(Logged { revision: next.revision, subject, mark: None });
            }
        }
        next.mark_since(self.revision);
        while next.log.len() > MAX_LOG {
            next.log.pop_front();
        }
        next
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Member(record) | Write::MemberQuietly(record) => {
                self.members.insert(record.member.cluster.clone(), Arc::new(record.clone()));
            }
            Write::MemberGone(cluster) => {
                self.mark_left(cluster);
                self.members.remove(cluster);
            }
            Write::Token(record) => {
                self.tokens.insert(record.id, Arc::new(record.clone()));
            }
            Write::TokenGone(id) => {
                self.tokens.remove(id);
            }
            Write::Federation(bundle) => self.federation = bundle.clone(),
            Write::Audit { at, event } => self.audit.append(*at, event.clone()),
            Write::Foreign(record) | Write::ForeignQuietly(record) => {
                self.foreign.insert(record.source.trust_domain.clone(), Arc::new(record.clone()));
            }
            Write::ForeignGone(trust_domain) => {
                self.foreign.remove(trust_domain);
            }
            Write::Revocation(revocation) => {
                // The decision has made sure that there is room.
                let _ = Arc::make_mut(&mut self.revocations).add(Arc::clone(revocation));
                self.reinstated.remove(&revocation.id);
            }
            Write::Reinstated(id, at) => {
                Arc::make_mut(&mut self.revocations).lift(id);
                self.reinstated.insert(*id, *at);
            }
            Write::ReinstatedGone(id) => {
                self.reinstated.remove(id);
            }
            Write::StoreId(id) => self.store_id = Arc::clone(id),
        }
    }

    /// What a watcher missed that has seen `revision` of store `store_id`; whether it can be told that, [`Self::resume`] says.
    #[must_use]
    pub fn since(&self, store_id: &str, revision: u64) -> Missed {
        let known = store_id == &*self.store_id && revision > 0 && revision <= self.revision;
        let remembered = self.log.front().is_some_and(|first| first.revision <= revision.saturating_add(1));
        if !known || !(remembered || revision == self.revision) {
            return self.everything();
        }
        let subjects: BTreeSet<&Subject> =
            self.log.iter().filter(|logged| logged.revision > revision).map(|logged| &logged.subject).collect();
        let changes = subjects.into_iter().map(|subject| self.change_of(subject)).collect();
        Missed { reset: false, revision: self.revision, changes }
    }

    fn everything(&self) -> Missed {
        let members = self.approved().map(|record| Change::Upsert(record.member.clone()));
        let federation = std::iter::once(Change::Federation(self.federation.clone()));
        let foreign = self.foreign_bundles().cloned().map(Change::Foreign);
        let revoked = self.revocations.iter().cloned().map(Change::Revoked);
        let reinstated = self.reinstated.keys().copied().map(Change::Reinstated);
        let changes = federation.chain(members).chain(foreign).chain(revoked).chain(reinstated).collect();
        Missed { reset: true, revision: self.revision, changes }
    }

    fn change_of(&self, subject: &Subject) -> Change {
        match subject {
            Subject::Federation => Change::Federation(self.federation.clone()),
            Subject::Foreign(trust_domain) => self.foreign_change(trust_domain),
            Subject::Member(cluster) => match self.members.get(cluster).filter(|record| !record.pending) {
                Some(record) => Change::Upsert(record.member.clone()),
                None => Change::Removed(cluster.clone()),
            },
            Subject::Revocation(id) => match self.revocations.named(id) {
                Some(revocation) => Change::Revoked(Arc::clone(revocation)),
                None => Change::Reinstated(*id),
            },
        }
    }

    /// The bundles to believe clients by: those of the members, and the service's own for operators.
    #[must_use]
    pub fn bundles(&self) -> Vec<TrustBundle> {
        let members = self.members.values().map(|record| record.member.bundle.clone());
        members.chain(std::iter::once(self.federation.clone())).collect()
    }

    /// The member whose gateways present `id`.
    #[must_use]
    pub fn member_of(&self, id: &SpiffeId) -> Option<&Arc<MemberRecord>> {
        self.members.values().find(|record| record.member.gateway_id == *id)
    }

    /// Replaces what a member says of itself. A publication that changes nothing gives no writes.
    ///
    /// # Errors
    /// When it is no member (any more).
    pub fn publish(&self, cluster: &ClusterName, publication: Publication) -> Result<Vec<Write>, NotAMember> {
        let held = self.members.get(cluster).ok_or_else(|| NotAMember(cluster.clone()))?;
        let Publication { advertise, region, zone, software } = publication;
        let member = Member { advertise, region, zone, ..held.member.clone() };
        let announced = member != held.member;
        let record = MemberRecord { member, software, ..MemberRecord::clone(held) };
        Ok(if announced {
            vec![Write::Member(record)]
        } else if record != **held {
            vec![Write::MemberQuietly(record)]
        } else {
            Vec::new()
        })
    }

    /// Announces newer versions of a member's bundle; no writes when the newest is known.
    ///
    /// # Errors
    /// When it is no member, or a version is not spoken for by the one before.
    pub fn publish_bundle(&self, cluster: &ClusterName, lineage: &Lineage) -> Result<Vec<Write>, BundleRefusal> {
        let held = self.members.get(cluster).ok_or_else(|| NotAMember(cluster.clone()))?;
        let newest = lineage.newest().ok_or_else(|| ContinuityError::Unsigned(cluster.clone()))?;
        match held.member.lineage.newest() {
            Some(known) => match continuity::advance(known, lineage)? {
                Standing::Same => return Ok(Vec::new()),
                Standing::Newer => {}
            },
            None => continuity::check(cluster, lineage)?,
        }
        if newest.bundle.trust_domain != held.member.bundle.trust_domain {
            return Err(ContinuityError::Unsigned(cluster.clone()).into());
        }
        let bundle = newest.bundle.clone();
        self.check_bundle(&bundle)?;
        if let Some(foreign) = self.foreign_with_key_of(&bundle) {
            return Err(BundleFault::Shared(bundle.trust_domain, foreign.clone()).into());
        }
        let member = Member { bundle, lineage: lineage.clone(), ..held.member.clone() };
        Ok(vec![Write::Member(MemberRecord { member, ..MemberRecord::clone(held) })])
    }

    /// A bundle is usable, and has no key of another trust domain of the set: members would believe neither of the two.
    fn check_bundle(&self, bundle: &TrustBundle) -> Result<(), BundleFault> {
        let members = self.members.values().map(|record| &record.member.bundle);
        trust::check_beside(bundle, members.chain([&self.federation]))
    }

    /// Ends a membership.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn remove(&self, cluster: &ClusterName) -> Result<Vec<Write>, NotAMember> {
        if self.members.contains_key(cluster) {
            Ok(vec![Write::MemberGone(cluster.clone())])
        } else {
            Err(NotAMember(cluster.clone()))
        }
    }

    /// Announces the authorities the service has now; no writes when it is known.
    #[must_use]
    pub fn announce(&self, bundle: &TrustBundle) -> Vec<Write> {
        if self.federation.trust_domain == bundle.trust_domain && self.federation.authorities == bundle.authorities {
            return Vec::new();
        }
        vec![Write::Federation(TrustBundle { sequence: self.federation.sequence + 1, ..bundle.clone() })]
    }
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Where its gateways listen.
    pub advertise: Vec<federation_model::addr::GatewayAddr>,
    /// Its region, may be empty.
    pub region: String,
    /// Its zone, may be empty.
    pub zone: String,
    /// Name and version of its gateways.
    pub software: String,
}

/// Why a member's bundle is not announced.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BundleRefusal {
    /// Whoever announces it is no member.
    #[error(transparent)]
    NotAMember(#[from] NotAMember),
    /// It does not follow the one before.
    #[error(transparent)]
    Continuity(#[from] ContinuityError),
    /// It is not usable, or has a key of another trust domain.
    #[error(transparent)]
    Fault(#[from] BundleFault),
}

/// There is no such member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cluster {0} is not a member of this set: `fedctl members` shows who is")]
pub struct NotAMember(pub ClusterName);

#[cfg(test)]
pub(crate) mod tests;
