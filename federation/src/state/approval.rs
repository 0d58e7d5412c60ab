//! Members that wait for approval.
//!
//! Owns what such a member is told, who hears of it, and its approval. It has spent its token and holds its name and its
//! trust domain; beyond that it is nobody: no other member hears of it, and it hears of no other member.

use federation_model::{
    bundle::Fingerprint,
    member::{Change, Member},
    names::ClusterName,
};

use super::{MemberRecord, Missed, State, Subject, Write};

/// Why a join is not approved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalRefusal {
    /// There is no such member.
    #[error("cluster {0} has not asked to join: `fedctl members` shows who has")]
    Unknown(ClusterName),
    /// The cluster has another authority than the one that was looked at.
    #[error(
        "cluster {cluster} joined with {}, not with the authority {expected}: compare with what `fedctl status` shows there, and run `fedctl members remove {cluster}` if it is another one", .found.map_or_else(|| "no authority".to_owned(), |found| format!("the authority {found}"))
    )]
    AnotherAuthority {
        /// The cluster.
        cluster: ClusterName,
        /// Its authority.
        found: Option<Fingerprint>,
        /// The one that was looked at.
        expected: Fingerprint,
    },
}

impl State {
    /// Makes a waiting cluster a member like every other; no writes when it is one. `expected` is the fingerprint of its
    /// authority that somebody compared, so that nobody is approved who came in its place meanwhile.
    ///
    /// # Errors
    /// When there is no such cluster, or it has another authority.
    pub fn approve(&self, cluster: &ClusterName, expected: &Fingerprint) -> Result<Vec<Write>, ApprovalRefusal> {
        let held = self.members.get(cluster).ok_or_else(|| ApprovalRefusal::Unknown(cluster.clone()))?;
        // The first one, whose key the join proved, vouches for the others.
        let found = held.member.bundle.fingerprints().next();
        if found != Some(*expected) {
            return Err(ApprovalRefusal::AnotherAuthority { cluster: cluster.clone(), found, expected: *expected });
        }
        if !held.pending {
            return Ok(Vec::new());
        }
        Ok(vec![Write::Member(MemberRecord { pending: false, ..MemberRecord::clone(held) })])
    }

    /// What watchers are told about a write that is about to be made to this state.
    pub(super) fn subject_of(&self, write: &Write) -> Option<Subject> {
        match write {
            Write::Member(record) => (!record.pending).then(|| Subject::Member(record.member.cluster.clone())),
            Write::MemberGone(cluster) => {
                let unknown = self.members.get(cluster).is_some_and(|held| held.pending);
                (!unknown).then(|| Subject::Member(cluster.clone()))
            }
            Write::Federation(_) => Some(Subject::Federation),
            Write::Foreign(record) => Some(Subject::Foreign(record.source.trust_domain.clone())),
            Write::ForeignGone(trust_domain) => Some(Subject::Foreign(trust_domain.clone())),
            Write::Revocation(revocation) => Some(Subject::Revocation(revocation.id)),
            Write::Reinstated(id, _) => Some(Subject::Revocation(*id)),
            Write::MemberQuietly(_)
            | Write::Token(_)
            | Write::TokenGone(_)
            | Write::ForeignQuietly(_)
            | Write::ReinstatedGone(_)
            // Whoever watches sees it: the id is in every answer.
            | Write::StoreId(_)
            | Write::Audit { .. } => None,
        }
    }

    /// The members that others hear of.
    pub fn approved(&self) -> impl Iterator<Item = &MemberRecord> {
        self.members.values().map(AsRef::as_ref).filter(|record| !record.pending)
    }

    /// What `record` may know when it has just joined: the members, and the revision they are of.
    #[must_use]
    pub fn known_to(&self, record: &MemberRecord) -> (Vec<&Member>, u64) {
        if record.pending {
            // From revision 0 on it will be told everything.
            return (Vec::new(), 0);
        }
        (self.approved().map(|record| &record.member).collect(), self.revision)
    }

    /// What a waiting member is told: itself, and the authorities of the service that it must go on believing.
    #[must_use]
    pub fn told_while_waiting(&self, record: &MemberRecord) -> Missed {
        let changes = vec![Change::Federation(self.federation.clone()), Change::Upsert(record.member.clone())];
        Missed { reset: true, revision: 0, changes }
    }
}

#[cfg(test)]
mod tests;
