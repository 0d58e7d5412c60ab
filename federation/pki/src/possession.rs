//! Proof that a joining cluster holds the key of the authority it announces, or of a gateway under it.
//!
//! Owns the bytes that are signed, and their verification. Never signs: [`crate::signer::Signer`] does.

use federation_model::{
    bundle::{Fingerprint, TrustBundle},
    names::ClusterName,
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use rustls_pki_types::CertificateDer;

use crate::{
    signer::{self, SignatureError},
    token::TokenId,
};

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
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PossessionError {
    /// The bundle is empty.
    #[error("the bundle of {0} holds no authority: announce the cluster's own authority first in it")]
    NoAuthority(TrustDomain),
    /// The signature is another one's, or over something else.
    #[error(
        "the proof was not made for this very join with the key of an authority of {trust_domain}, or of a gateway under it ({reason}): run fedctl join where that key is, with this token"
    )]
    NotProven {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// Why.
        reason: SignatureError,
    },
}

/// Verifies that an authority of the bundle in `transcript`, or a gateway under it, signed it; without a `signer` it is the
/// first authority.
///
/// # Errors
/// When it did not.
pub fn verify(
    transcript: &Transcript<'_>,
    now: Timestamp,
    signer: &[CertificateDer<'_>],
    proof: &[u8],
) -> Result<(), PossessionError> {
    let Transcript { bundle, gateway_id, .. } = transcript;
    let first = bundle.authorities.first().ok_or_else(|| PossessionError::NoAuthority(bundle.trust_domain.clone()))?;
    let signer = if signer.is_empty() { std::slice::from_ref(first) } else { signer };
    let message = transcript.bytes();
    signer::verify(bundle, gateway_id, now, signer, (&message, proof))
        .map_err(|reason| PossessionError::NotProven { trust_domain: bundle.trust_domain.clone(), reason })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        Validity,
        ca::{Authority, SvidRequest},
        signer::sign_with,
    };

    const NOW: Timestamp = Timestamp(1_700_000_000);

    fn authority() -> Authority {
        let validity = Validity::starting(NOW, Duration::from_secs(3600));
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
        assert_eq!(verify(&join, NOW, &[], &proof), Ok(()));
        assert_eq!(verify(&join, NOW, &[west.certificate().clone()], &proof), Ok(()));
        let validity = Validity::starting(NOW, Duration::from_secs(60));
        let gateway = west.issue(&SvidRequest { id: gateway_id.clone(), names: vec![], validity }).unwrap();
        assert_eq!(verify(&join, NOW, gateway.chain(), &sign_with(&gateway, &join.bytes()).unwrap()), Ok(()));

        let (next, elsewhere) = (TokenId::random(), Fingerprint::of(b"elsewhere"));
        let cluster2 = "east".parse().unwrap();
        let (later, theirs) = (west.bundle(2), other.bundle(1));
        for changed in [
            Transcript { token_id: &next, ..join },
            Transcript { cluster: &cluster2, ..join },
            Transcript { federation: &elsewhere, ..join },
            Transcript { bundle: &later, ..join },
            Transcript { bundle: &theirs, ..join },
        ] {
            assert!(verify(&changed, NOW, &[], &proof).is_err(), "{changed:?}");
        }
        assert!(verify(&join, NOW, &[], &proof[1..]).is_err());
        assert!(verify(&join, NOW, &[other.certificate().clone()], &proof).is_err());
        let empty = TrustBundle { authorities: Vec::new(), ..bundle.clone() };
        let nothing = verify(&Transcript { bundle: &empty, ..join }, NOW, &[], &proof);
        assert!(matches!(nothing, Err(PossessionError::NoAuthority(_))), "{nothing:?}");
    }
}
