//! A member of the cluster set.
//!
//! Owns what every member knows of every other. Never admits anybody: the federation service does.

use std::sync::Arc;

use crate::{
    addr::GatewayAddr,
    bundle::TrustBundle,
    lineage::Lineage,
    names::ClusterName,
    revocation::{Revocation, RevocationId},
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};

/// The most gateway addresses of one member.
pub const MAX_ADVERTISED: usize = 16;

/// One cluster of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, unique in the set.
    pub cluster: ClusterName,
    /// The id its gateways present on tunnels; its trust domain is the cluster's, unique in the set.
    pub gateway_id: SpiffeId,
    /// Where its gateways listen; empty when the cluster only dials out.
    pub advertise: Vec<GatewayAddr>,
    /// The authorities of its trust domain.
    pub bundle: TrustBundle,
    /// The versions of its bundle as the cluster signed them; the newest one is `bundle`. Without any, nothing but the word
    /// of whoever told of this member speaks for it.
    pub lineage: Lineage,
    /// Its region, may be empty.
    pub region: String,
    /// Its zone, may be empty.
    pub zone: String,
    /// When it joined.
    pub joined_at: Timestamp,
}

/// What happened to the set since a watcher last heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A cluster joined, or a member changed what it says of itself.
    Upsert(Member),
    /// A cluster is no longer a member.
    Removed(ClusterName),
    /// The authorities of the federation service itself.
    Federation(TrustBundle),
    /// The bundle of a trust domain outside the set: its workloads can be verified, and nobody of it becomes a peer.
    Foreign(TrustBundle),
    /// Nothing of this trust domain outside the set is believed any more.
    ForeignRemoved(TrustDomain),
    /// Something is no longer to be believed.
    Revoked(Arc<Revocation>),
    /// A revocation was lifted. Nothing else lifts one: what a watcher is not told of stays revoked.
    Reinstated(RevocationId),
}
