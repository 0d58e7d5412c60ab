//! Which member is at the other end of a connection.
//!
//! Owns the way from a verified certificate to a cluster, and the judgement whether a tunnel may go on when members change.
//! Never handshakes.

use std::{collections::BTreeMap, sync::Arc};

use federation_model::{member::Member, names::ClusterName, spiffe::SpiffeId, time::Timestamp};
use federation_pki::{
    trust::TrustStore,
    verify::{Usage, VerifyError, spiffe_id_of, verify_leaf},
};
use gateway_core::session::Held;
use quinn::{Connection, Side};
use rustls_pki_types::CertificateDer;

use crate::credential::{Credential, CredentialError};

/// The other members, as the federation last told.
pub(crate) type Members = Arc<BTreeMap<ClusterName, Member>>;

/// The peer of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) cluster: ClusterName,
    pub(crate) gateway_id: SpiffeId,
    /// What it uses its certificate for.
    pub(crate) usage: Usage,
}

/// Why a connection belongs to nobody.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentifyError {
    #[error("the peer presented no certificate")]
    NoCertificate,
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(
        "{0} is not the gateway id of a member: it was removed, or the federation's members did not arrive here yet"
    )]
    NotMember(SpiffeId),
}

/// The member whose gateway is at the other end. The certificate was verified in the handshake.
pub(crate) fn identify(
    connection: &Connection,
    members: &Members,
    now: Timestamp,
) -> Result<(Peer, Credential), IdentifyError> {
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or(IdentifyError::NoCertificate)?;
    let gateway_id = spiffe_id_of(chain.first().ok_or(IdentifyError::NoCertificate)?)?;
    let member = members
        .values()
        .find(|member| member.gateway_id == gateway_id)
        .ok_or_else(|| IdentifyError::NotMember(gateway_id.clone()))?;
    let usage = match connection.side() {
        Side::Client => Usage::Server,
        Side::Server => Usage::Client,
    };
    let peer = Peer { cluster: member.cluster.clone(), gateway_id, usage };
    Ok((peer, Credential::new(*chain, now)?))
}

/// Whether a peer that was believed is still to be believed; why not, otherwise.
///
/// Judged by what is trusted and revoked now, and at the time its credential was verified: the age of its certificate has not
/// changed.
pub(crate) fn still_trusted(
    peer: &Peer,
    credential: &Credential,
    members: &Members,
    trust: &TrustStore,
) -> Result<(), String> {
    let Some(member) = members.get(&peer.cluster) else {
        return Err(format!("cluster {} is no longer a member", peer.cluster));
    };
    if member.gateway_id != peer.gateway_id {
        return Err(format!("the gateway id of cluster {} is {} by now", peer.cluster, member.gateway_id));
    }
    let verified = verify_leaf(&credential.chain, trust, credential.verified_at, peer.usage);
    verified.map(drop).map_err(|error| error.to_string())
}

/// The version of the peer's trust bundle that is believed here.
pub(crate) fn held(peer: &ClusterName, members: &Members) -> Option<Held> {
    let newest = members.get(peer)?.lineage.newest()?;
    Some(Held { sequence: newest.bundle.sequence, digest: newest.digest() })
}
