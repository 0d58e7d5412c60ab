//! Revocations.
//!
//! Owns what may be revoked and what lifting one means. Never says who must have heard of it: the acknowledgements do.

use std::sync::Arc;

use federation_model::{
    names::ClusterName,
    revocation::{Line, MAX_REVOCATIONS, Revocation, RevocationId, Serial, Subject, TooManyRevocations},
    spiffe::TrustDomain,
    time::Timestamp,
};
use proto::convert::revocation::Asked;

use super::{State, Write};

/// Lifted revocations that are remembered, for members that start over and would keep them otherwise. A member that was away
/// for more goes on refusing what the oldest ones revoked.
pub const MAX_LIFTED: usize = MAX_REVOCATIONS;

/// A revocation to make.
#[derive(Debug, Clone)]
pub struct NewRevocation {
    /// Its name, random.
    pub id: RevocationId,
    /// What is to be revoked.
    pub asked: Asked,
    /// Why.
    pub reason: Line,
    /// The operator who asks.
    pub by: Line,
    /// The serial numbers of the chain the operator showed.
    pub shown: Vec<Serial>,
    /// When.
    pub at: Timestamp,
}

/// What a request to revoke came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The revocation in force.
    pub revocation: Arc<Revocation>,
    /// Whether it was before.
    pub already: bool,
    /// What may not be as meant.
    pub warnings: Vec<String>,
}

/// Why something is not revoked, or not lifted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevocationRefusal {
    /// The cluster's trust domain is not known.
    #[error(
        "cluster {0} is not a member of this set, so its trust domain is not known: `fedctl members` shows who is; revoke what it has with `fedctl revoke id 'spiffe://TRUST-DOMAIN/*'`"
    )]
    NotAMember(ClusterName),
    /// The service would lock itself and its operators out.
    #[error(
        "{0} is of the federation service itself, which would lock out its operators: a lost operator credential is replaced by removing <store>/operator, and revoked by its serial number then"
    )]
    Own(Subject),
    /// The operator would revoke what it calls with.
    #[error(
        "{0} is part of the credential you call with: make a new one by removing <store>/operator, and revoke the old one with that"
    )]
    OwnCredential(Subject),
    /// There is no room.
    #[error(transparent)]
    TooMany(#[from] TooManyRevocations),
    /// There is no such revocation.
    #[error(
        "there is no revocation {0}: `fedctl revoke list` shows them; if members hold it from before the store was restored, lift it there with --force"
    )]
    Unknown(RevocationId),
}

impl State {
    /// Revokes something. Doing it twice gives the revocation there is.
    ///
    /// # Errors
    /// When the service would lock itself out, the cluster is not known, or there is no room.
    pub fn revoke(&self, new: NewRevocation) -> Result<(Vec<Write>, Revoked), RevocationRefusal> {
        let subject = match self.asked_subject(&new)? {
            Ok(subject) => subject,
            Err(held) => return Ok((Vec::new(), Revoked { revocation: held, already: true, warnings: Vec::new() })),
        };
        if self.revocations.len() >= MAX_REVOCATIONS {
            return Err(TooManyRevocations.into());
        }
        let warnings = self.warning_of(&subject).into_iter().collect();
        let gone = match &subject {
            Subject::Cluster { cluster, .. } => self.members.contains_key(cluster).then(|| cluster.clone()),
            Subject::Id(_) | Subject::Prefix(_) | Subject::Serial { .. } => None,
        };
        let NewRevocation { id, reason, by, at, .. } = new;
        let revocation = Arc::new(Revocation { id, subject, reason, by, at });
        let revoked = Write::Revocation(Arc::clone(&revocation));
        let writes = gone.map(Write::MemberGone).into_iter().chain([revoked]).collect();
        Ok((writes, Revoked { revocation, already: false, warnings }))
    }

    /// What is to be revoked, or the revocation that does it already.
    fn asked_subject(&self, new: &NewRevocation) -> Result<Result<Subject, Arc<Revocation>>, RevocationRefusal> {
        let subject = match &new.asked {
            Asked::Cluster(cluster) => match (self.revocations.of_cluster(cluster), self.members.get(cluster)) {
                (Some(held), None) => return Ok(Err(Arc::clone(held))),
                (_, Some(record)) => Subject::Cluster {
                    cluster: cluster.clone(),
                    trust_domain: record.member.bundle.trust_domain.clone(),
                },
                (None, None) => return Err(RevocationRefusal::NotAMember(cluster.clone())),
            },
            Asked::Subject(subject) => subject.clone(),
        };
        self.check_own(&subject, &new.shown)?;
        Ok(match self.revocations.of_subject(&subject) {
            Some(held) => Err(Arc::clone(held)),
            None => Ok(subject),
        })
    }

    /// Nobody may lock the service out of itself.
    fn check_own(&self, subject: &Subject, shown: &[Serial]) -> Result<(), RevocationRefusal> {
        if *subject.trust_domain() != self.federation.trust_domain {
            return Ok(());
        }
        match subject {
            // An operator's old credential has the id of the new one, and must be revocable.
            Subject::Serial { serial, .. } if shown.contains(serial) => {
                Err(RevocationRefusal::OwnCredential(subject.clone()))
            }
            Subject::Serial { .. } => Ok(()),
            Subject::Cluster { .. } | Subject::Id(_) | Subject::Prefix(_) => {
                Err(RevocationRefusal::Own(subject.clone()))
            }
        }
    }

    fn warning_of(&self, subject: &Subject) -> Option<String> {
        let known = |trust_domain: &TrustDomain| {
            let mut members = self.members.values();
            members.any(|record| record.member.bundle.trust_domain == *trust_domain)
                || self.federation.trust_domain == *trust_domain
        };
        let trust_domain = subject.trust_domain();
        (!known(trust_domain)).then(|| {
            format!("no member has the trust domain {trust_domain}: nothing is cut now; if it is mistyped, lift this revocation")
        })
    }

    /// Lifts a revocation. Doing it twice is fine. With `force` members are told even of one that is not known here: they may
    /// hold it from before the store was restored.
    ///
    /// # Errors
    /// When there is no such revocation.
    pub fn reinstate(
        &self,
        id: &RevocationId,
        force: bool,
        at: Timestamp,
    ) -> Result<(Vec<Write>, Option<Arc<Revocation>>), RevocationRefusal> {
        let held = self.revocations.named(id).cloned();
        match &held {
            Some(_) => {}
            None if force => {}
            None if self.reinstated.contains_key(id) => return Ok((Vec::new(), None)),
            None => return Err(RevocationRefusal::Unknown(*id)),
        }
        let surplus = (self.reinstated.len() + 1).saturating_sub(MAX_LIFTED);
        let mut oldest: Vec<_> = self.reinstated.iter().map(|(id, at)| (*at, *id)).collect();
        oldest.sort_unstable();
        let forgotten = oldest.into_iter().take(surplus).map(|(_, id)| Write::ReinstatedGone(id));
        Ok((forgotten.chain([Write::Reinstated(*id, at)]).collect(), held))
    }
}

#[cfg(test)]
mod tests;
