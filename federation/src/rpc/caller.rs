//! Who is calling.
//!
//! Owns the verification of every call: the chain the client showed is judged again each time, by the bundles in force and
//! the time of the call. Never trusts what was true when the connection was made.

use std::{net::SocketAddr, sync::Arc};

use federation_model::spiffe::SpiffeId;
use federation_pki::verify::{Usage, VerifyError, verify_leaf};
use proto::convert::member::Refusal;
use rustls::pki_types::CertificateDer;
use tonic::{Extensions, Status};

use super::Context;
use crate::{authority::operator_of, state::MemberRecord};

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Where it reached the service.
    pub(super) local: SocketAddr,
    /// What it showed, leaf first; the handshake proved that it holds the leaf's key, and nothing else.
    pub(super) chain: Arc<[CertificateDer<'static>]>,
}

impl Peer {
    /// The connection a call came over.
    pub(super) fn of(extensions: &Extensions) -> Result<Self, Status> {
        extensions.get().cloned().ok_or_else(|| Status::internal("the connection is not known"))
    }
}

/// What to do when a member is of another authority than the store knows: a gateway tells of a new one before it uses it.
fn remedy(error: &VerifyError) -> &'static str {
    if matches!(error, VerifyError::NoAuthority { .. } | VerifyError::WrongAuthority { .. }) {
        ". If its cluster has replaced its authority and the store of the federation service was restored from a copy of before: `fedctl token create` for that cluster, then `fedctl leave --force` and `fedctl join` at its gateway"
    } else {
        ""
    }
}

impl Context {
    /// The member that calls.
    pub(super) fn member(&self, peer: &Peer) -> Result<Arc<MemberRecord>, Status> {
        let id = self.verified(peer)?;
        let record = self.registry.state().member_of(&id).cloned().ok_or_else(|| {
            let text = format!(
                "{id} is not the gateway of a member: the id must be the one the cluster joined with, see `identity` in gateway.toml"
            );
            self.refuse(Refusal::NotAMember, text)
        })?;
        self.presence.seen(&record.member.cluster, self.clock.now());
        Ok(record)
    }

    /// The name of the operator that calls.
    pub(super) fn operator(&self, peer: &Peer) -> Result<String, Status> {
        let id = self.verified(peer)?;
        match operator_of(&id, self.service.id.trust_domain()) {
            Some(name) => Ok(name.to_owned()),
            None => {
                let text = format!("{id} is not an operator: use the credential in <store>/operator (--operator DIR)");
                Err(self.refuse(Refusal::NotAnOperator, text))
            }
        }
    }

    /// The id that the caller proves now.
    pub(super) fn verified(&self, peer: &Peer) -> Result<SpiffeId, Status> {
        if peer.chain.is_empty() {
            let text =
                "this call needs a client certificate: a member's own, or an operator credential (--operator DIR)";
            return Err(self.refuse(Refusal::NoCertificate, text));
        }
        verify_leaf(&peer.chain, &self.trust, self.clock.now(), Usage::Client).map_err(|error| {
            if let VerifyError::UnknownTrustDomain(id) = &error {
                let text = format!(
                    "the cluster of {id} is not a member of this set: it left or was removed; join again with `fedctl token create` and `fedctl join`"
                );
                return self.refuse(Refusal::NotAMember, text);
            }
            let refusal = if matches!(error, VerifyError::Revoked { .. }) {
                Refusal::Revoked
            } else {
                Refusal::CertificateRefused
            };
            self.refuse(refusal, format!("{error}{}", remedy(&error)))
        })
    }
}
