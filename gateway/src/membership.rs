//! This cluster's membership: what the federation service told, kept on disk, and followed while the service is there.
//!
//! Owns the last verified state. Everything that needs members, bundles or trust reads it from here, so a gateway starts and
//! runs without the federation service; only changes wait for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use federation_client::{
    membership::{FederationEndpoint, Joined},
    watch::{MAX_FORMER, Position, WatchUpdate},
};
use federation_model::{
    addr::GatewayAddr,
    bundle::TrustBundle,
    mark::Mark,
    member::{Change, Member},
    names::ClusterName,
    revocation::Revocations,
    spiffe::{SpiffeId, TrustDomain, parse_workload_id},
};
use federation_runtime::state::{self, StateError};
use prost::Message as _;
use proto::{convert::revocation, federation::v1};

pub mod continuity;
pub mod effects;
pub mod follow;
mod foreign;
pub mod link;
mod metrics;
mod revocations;

pub use continuity::{Known, Refused};

/// What a member knows of its cluster set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// This cluster as the federation service admitted it.
    pub own: ClusterName,
    /// The id the service presents.
    pub federation_id: SpiffeId,
    /// The service's authorities.
    pub federation: TrustBundle,
    /// Where the service is reached.
    pub addresses: Vec<GatewayAddr>,
    /// How much of the set's history is applied.
    pub position: Position,
    /// Every member, this cluster among them.
    pub members: BTreeMap<ClusterName, Member>,
    /// Whether the join waits for approval: until then the service tells of no other member.
    pub pending: bool,
    /// The bundles of trust domains outside the set.
    pub foreign: BTreeMap<TrustDomain, TrustBundle>,
    /// Every revocation it was told of that was not lifted.
    pub revocations: Arc<Revocations>,
}

/// What an update means for this cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// It is still a member.
    Member {
        /// The state after the update.
        next: Box<Membership>,
        /// What of the update is not believed.
        refused: Vec<Refused>,
    },
    /// It was removed from the set.
    Removed,
}

impl Membership {
    /// The members that are other clusters.
    #[must_use]
    pub fn others(&self) -> BTreeMap<ClusterName, Member> {
        self.members.iter().filter(|(cluster, _)| **cluster != self.own).map(|(c, m)| (c.clone(), m.clone())).collect()
    }

    /// What its clients need to know of the service.
    #[must_use]
    pub fn endpoint(&self) -> FederationEndpoint {
        FederationEndpoint {
            addresses: self.addresses.clone(),
            bundle: self.federation.clone(),
            id: self.federation_id.clone(),
        }
    }

    /// The state after `update`; `known` is what is remembered of former members.
    #[must_use]
    pub fn after(&self, update: WatchUpdate, known: &mut Known) -> Applied {
        let mut next = self.clone();
        let mut refused = Vec::new();
        next.revocations = revocations::after(&self.revocations, &update);
        if update.reset {
            let named = |change: &Change| match change {
                Change::Upsert(member) => Some(member.cluster.clone()),
                Change::Removed(_)
                | Change::Federation(_)
                | Change::Foreign(_)
                | Change::ForeignRemoved(_)
                | Change::Revoked(_)
                | Change::Reinstated(_) => None,
            };
            let named: BTreeSet<ClusterName> = update.changes.iter().filter_map(named).collect();
            let gone: Vec<ClusterName> = next.members.keys().filter(|held| !named.contains(*held)).cloned().collect();
            gone.iter().for_each(|cluster| next.forget(cluster, known));
            next.foreign.clear();
        }
        for change in update.changes {
            match change {
                Change::Upsert(member) => refused.extend(next.admit(member, known)),
                Change::Removed(cluster) => next.forget(&cluster, known),
                Change::Federation(bundle) => next.federation = bundle,
                Change::Foreign(bundle) => {
                    next.foreign.insert(bundle.trust_domain.clone(), bundle);
                }
                Change::ForeignRemoved(trust_domain) => {
                    next.foreign.remove(&trust_domain);
                }
                Change::Revoked(_) | Change::Reinstated(_) => {}
            }
        }
        next.position = update.position;
        next.pending = update.pending;
        if !next.members.contains_key(&next.own) {
            return Applied::Removed;
        }
        Applied::Member { next: Box::new(next), refused }
    }

    /// Takes in what is told of a member, as far as it is believed; what is not.
    pub fn admit(&mut self, offered: Member, known: &mut Known) -> Option<Refused> {
        let cluster = offered.cluster.clone();
        if cluster == self.own {
            // Nobody has to tell this cluster what its own bundle is.
            self.members.insert(cluster, offered);
            return None;
        }
        match continuity::judge(self.members.get(&cluster), known, &offered) {
            Ok(()) => {
                known.forget(&offered);
                self.members.insert(cluster, offered);
                None
            }
            Err(error) => {
                if let Some(held) = self.members.get_mut(&cluster) {
                    // Where it listens and what it is called may be told by anybody: whoever answers there proves who it is.
                    held.advertise.clone_from(&offered.advertise);
                    held.region.clone_from(&offered.region);
                    held.zone.clone_from(&offered.zone);
                }
                Some(Refused { member: offered, error })
            }
        }
    }

    fn forget(&mut self, cluster: &ClusterName, known: &mut Known) {
        if let Some(gone) = self.members.remove(cluster)
            && *cluster != self.own
        {
            known.remember(&gone);
        }
    }
}

/// Where the membership survives a restart.
#[derive(Debug, Clone)]
pub struct MembershipFile(PathBuf);

impl MembershipFile {
    /// The file in a state directory.
    #[must_use]
    pub fn in_dir(state_dir: &Path) -> Self {
        Self(state_dir.join("membership.pb"))
    }

    /// Reads the last membership; none when this cluster has not joined.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub fn load(&self) -> anyhow::Result<Option<Membership>> {
        let bytes = match state::read_private(&self.0) {
            Ok(bytes) => bytes,
            Err(StateError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let decoded = v1::JoinResponse::decode(bytes.as_slice()).map_err(anyhow::Error::from).and_then(from_message);
        decoded.map(Some).with_context(|| {
            format!("{} is damaged: restore it, or remove it and join again with fedctl join", self.0.display())
        })
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, membership: &Membership) -> Result<(), StateError> {
        state::write_private(&self.0, &to_message(membership).encode_to_vec())
    }

    /// Forgets the membership.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&self) -> Result<(), StateError> {
        state::remove(&self.0)
    }
}

impl From<Joined> for Membership {
    fn from(joined: Joined) -> Self {
        let own = joined.member.cluster.clone();
        let all = joined.members.into_iter().chain(std::iter::once(joined.member));
        Self {
            own,
            federation_id: joined.federation_id,
            federation: joined.federation,
            addresses: joined.addresses,
            position: joined.position,
            members: all.map(|member| (member.cluster.clone(), member)).collect(),
            pending: joined.pending,
            foreign: joined.foreign.into_iter().map(|bundle| (bundle.trust_domain.clone(), bundle)).collect(),
            revocations: joined.revocations,
        }
    }
}

fn from_message(message: v1::JoinResponse) -> anyhow::Result<Membership> {
    let members = message.members.into_iter().map(Member::try_from).collect::<Result<_, _>>()?;
    Ok(Membership::from(Joined {
        member: message.member.context("it names no member")?.try_into()?,
        federation: message.federation.context("it has no authorities of the federation service")?.try_into()?,
        federation_id: parse_workload_id(&message.federation_id)?,
        members,
        revocations: Arc::new(revocation::set(message.revocations)?),
        position: Position {
            store_id: message.store_id,
            revision: message.revision,
            mark: Mark::from_bytes(&message.mark),
            former: message.former_store_ids.into_iter().take(MAX_FORMER).collect(),
        },
        addresses: message.addresses.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        pending: message.pending,
        foreign: message.foreign.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
    }))
}

fn to_message(membership: &Membership) -> v1::JoinResponse {
    v1::JoinResponse {
        member: membership.members.get(&membership.own).map(Into::into),
        federation: Some((&membership.federation).into()),
        federation_id: membership.federation_id.to_string(),
        members: membership.members.values().map(Into::into).collect(),
        revision: membership.position.revision,
        store_id: membership.position.store_id.clone(),
        addresses: membership.addresses.iter().map(ToString::to_string).collect(),
        pending: membership.pending,
        foreign: membership.foreign.values().map(Into::into).collect(),
        revocations: revocation::messages(&membership.revocations),
        mark: membership.position.mark.map(|mark| mark.as_bytes().to_vec().into()).unwrap_or_default(),
        former_store_ids: membership.position.former.clone(),
    }
}

/// A membership shared by those who read it.
pub type Current = Option<Arc<Membership>>;

#[cfg(test)]
mod tests {
    use super::*;
    use federation_model::{lineage::Lineage, time::Timestamp};
    use federation_pki::{Validity, ca::Authority, signer::Signer};

    fn member(cluster: &str) -> Member {
        let id = SpiffeId::new(format!("spiffe://{cluster}.example/landbridge/gateway")).unwrap();
        let validity = Validity { not_before: Timestamp(1), not_after: Timestamp(2_000_000_000) };
        let authority = Arc::new(Authority::generate(id.trust_domain(), cluster, validity).unwrap());
        let (signer, cluster) = (Signer::Authority(authority.clone()), cluster.parse().unwrap());
        let authorities = vec![authority.certificate().clone()];
        let first = federation_pki::continuity::first(&cluster, &id, authorities, (&signer, Timestamp(7))).unwrap();
        Member {
            lineage: Lineage::new(vec![first]),
            cluster,
            gateway_id: id,
            advertise: vec!["gateway.example:15443".parse().unwrap()],
            bundle: authority.bundle(1),
            region: "r".to_owned(),
            zone: String::new(),
            joined_at: Timestamp(7),
        }
    }

    fn mark(text: &str) -> Mark {
        Mark::of(&federation_model::audit::Head::start(text))
    }

    fn membership() -> Membership {
        let federation = member("federation");
        Membership::from(Joined {
            member: member("east"),
            federation: federation.bundle,
            federation_id: federation.gateway_id,
            members: vec![member("west")],
            revocations: Arc::default(),
            position: Position {
                store_id: "s".to_owned(),
                revision: 4,
                mark: Some(mark("four")),
                former: vec!["r".to_owned()],
            },
            addresses: vec!["127.0.0.1:15010".parse().unwrap()],
            pending: false,
            foreign: vec![member("spire").bundle],
        })
    }

    fn update(reset: bool, changes: Vec<Change>) -> WatchUpdate {
        let position = Position { store_id: "s".to_owned(), revision: 5, mark: Some(mark("five")), former: Vec::new() };
        WatchUpdate { position, reset, changes, pending: false }
    }

    fn after(changes: Vec<Change>, reset: bool) -> Applied {
        membership().after(update(reset, changes), &mut Known::default())
    }

    #[test]
    fn a_kept_membership_is_read_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = MembershipFile::in_dir(dir.path());
        assert_eq!(file.load().unwrap(), None);
        let kept = membership();
        file.save(&kept).unwrap();
        assert_eq!(file.load().unwrap(), Some(kept));
        file.remove().unwrap();
        assert_eq!(file.load().unwrap(), None);
    }

    #[test]
    fn a_membership_that_was_kept_before_there_were_marks_has_none() {
        let old = v1::JoinResponse { mark: Vec::new().into(), ..to_message(&membership()) };
        let read = from_message(v1::JoinResponse::decode(old.encode_to_vec().as_slice()).unwrap()).unwrap();
        assert_eq!(read.position, Position { mark: None, ..membership().position });
    }

    #[test]
    fn a_membership_that_waits_for_approval_is_kept_and_is_whole_when_it_is_approved() {
        let dir = tempfile::tempdir().unwrap();
        let file = MembershipFile::in_dir(dir.path());
        let mut waiting = Membership { pending: true, ..membership() };
        waiting.members.remove(&"west".parse().unwrap());
        file.save(&waiting).unwrap();
        let kept = file.load().unwrap().unwrap();
        assert_eq!(kept, waiting);
        let everything = vec![Change::Upsert(member("east")), Change::Upsert(member("west"))];
        let applied = kept.after(update(true, everything), &mut Known::default());
        let Applied::Member { next: approved, .. } = applied else { panic!("still a member") };
        assert!(!approved.pending && approved.others().len() == 1);
    }

    #[test]
    fn a_damaged_membership_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        state::write_private(&dir.path().join("membership.pb"), b"\xff\xff").unwrap();
        let error = format!("{:#}", MembershipFile::in_dir(dir.path()).load().unwrap_err());
        assert!(error.contains("fedctl join"), "{error}");
    }

    #[test]
    fn changes_are_applied_and_the_position_moves_on() {
        let Applied::Member { next, refused } =
            after(vec![Change::Upsert(member("north")), Change::Removed("west".parse().unwrap())], false)
        else {
            panic!("still a member");
        };
        assert_eq!((next.position.revision, refused), (5, Vec::new()));
        assert_eq!(next.others().keys().map(ToString::to_string).collect::<Vec<_>>(), ["north"]);
    }

    #[test]
    fn a_reset_without_this_cluster_means_it_was_removed() {
        assert_eq!(after(vec![Change::Upsert(member("west"))], true), Applied::Removed);
        assert_eq!(after(vec![Change::Removed("east".parse().unwrap())], false), Applied::Removed);
    }
}
