//! Proof that a joining cluster holds the key of the authority it announces.
//!
//! Owns the bytes that are signed, and their verification. Never signs: [`crate::ca::Authority::prove`] does.

use federation_model::{
    bundle::{Fingerprint, TrustBundle},
    names::ClusterName,
    spiffe::SpiffeId,
};

use crate::{tls::provider, token::TokenId};

/// The most bytes of a proof: an RSA-4096 signature and some room.
pub const MAX_PROOF: usize = 1024;
/// First bytes of every transcript. No certificate starts so, hence no proof can be passed off as one.
const DOMAIN: &[u8] = b"landbridge join v1\0";

/// Everything a join commits to. Both sides build it from what they hold, so a proof is worth nothing anywhere else.
#[derive(Debug, Clone, Copy)]
pub struct Transcript<'a> {
    /// The token.
    pub token_id: &'a TokenId,
    /// The cluster that joins.
    pub cluster: &'a ClusterName,
    /// The id of its gateways.
    pub gateway_id: &'a SpiffeId,
    /// Its first bundle.
    pub bundle: &'a TrustBundle,
    /// The authority of the federation service it joins.
    pub federation: &'a Fingerprint,
}

impl Transcript<'_> {
    /// The bytes to sign: fields with their lengths, in this order.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        let mut field = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        field(self.token_id.to_string().as_bytes());
        field(self.cluster.as_str().as_bytes());
        field(self.gateway_id.to_string().as_bytes());
        field(self.bundle.trust_domain.as_str().as_bytes());
        field(&self.bundle.sequence.to_be_bytes());
        self.bundle.fingerprints().for_each(|fingerprint| field(fingerprint.as_bytes()));
        field(self.federation.as_bytes());
        out
    }
}

/// Why a proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PossessionError {
    /// The bundle is empty.
    #[error("the bundle of {0} holds no authority: announce the cluster's own authority first in it")]
    NoAuthority(String),
    /// The authority does not parse.
    #[error("the first authority of {trust_domain} cannot be read: {reason}")]
    Malformed {
        /// The trust domain.
        trust_domain: String,
        /// Why.
        reason: String,
    },
    /// The proof is too long.
    #[error("the proof has {0} bytes, {MAX_PROOF} are accepted")]
    TooLong(usize),
    /// The signature is another one's, or over something else.
    #[error(
        "the proof was not made with the key of the first authority of {0} for this very join: run fedctl join where that key is, with this token"
    )]
    NotProven(String),
}

/// Verifies that the key of the first authority in `bundle` signed `transcript`.
///
/// # Errors
/// When it did not.
pub fn verify(bundle: &TrustBundle, transcript: &[u8], proof: &[u8]) -> Result<(), PossessionError> {
    let trust_domain = || bundle.trust_domain.to_string();
    if proof.len() > MAX_PROOF {
        return Err(PossessionError::TooLong(proof.len()));
    }
    let authority = bundle.authorities.first().ok_or_else(|| PossessionError::NoAuthority(trust_domain()))?;
    let authority = webpki::EndEntityCert::try_from(authority)
        .map_err(|e| PossessionError::Malformed { trust_domain: trust_domain(), reason: e.to_string() })?;
    let algorithms = provider().signature_verification_algorithms;
    let proven =
        algorithms.all.iter().any(|algorithm| authority.verify_signature(*algorithm, transcript, proof).is_ok());
    if proven { Ok(()) } else { Err(PossessionError::NotProven(trust_domain())) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use federation_model::{spiffe::TrustDomain, time::Timestamp};

    use super::*;
    use crate::{Validity, ca::Authority};

    fn authority() -> Authority {
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        Authority::generate(&TrustDomain::new("west.example").unwrap(), "west", validity).unwrap()
    }

    #[test]
    fn a_proof_holds_for_the_join_it_was_made_for_and_for_no_other() {
        let (west, other) = (authority(), authority());
        let bundle = west.bundle(1);
        let (token_id, cluster) = (TokenId::random(), "west".parse().unwrap());
        let gateway_id = SpiffeId::new("spiffe://west.example/landbridge/gateway").unwrap();
        let federation = Fingerprint::of(b"federation");
        let join = Transcript {
            token_id: &token_id,
            cluster: &cluster,
            gateway_id: &gateway_id,
            bundle: &bundle,
            federation: &federation,
        };
        let proof = west.prove(&join.bytes()).unwrap();
        assert_eq!(verify(&bundle, &join.bytes(), &proof), Ok(()));

        let (next, elsewhere) = (TokenId::random(), Fingerprint::of(b"elsewhere"));
        let cluster2 = "east".parse().unwrap();
        let later = west.bundle(2);
        for changed in [
            Transcript { token_id: &next, ..join },
            Transcript { cluster: &cluster2, ..join },
            Transcript { federation: &elsewhere, ..join },
            Transcript { bundle: &later, ..join },
        ] {
            assert!(verify(&bundle, &changed.bytes(), &proof).is_err(), "{changed:?}");
        }
        assert!(verify(&other.bundle(1), &join.bytes(), &proof).is_err());
        assert!(verify(&bundle, &join.bytes(), &proof[1..]).is_err());
        assert!(verify(&bundle, &join.bytes(), &vec![0; MAX_PROOF + 1]).is_err());
    }
}
