//! The signature over the end of an audit log.
//!
//! Owns the bytes that are signed, and their verification. It says that the authority of a federation service had this log
//! and no other at that time; whoever holds the key of that authority can say so of another log as well, which is why heads
//! of earlier exports are worth keeping.

use federation_model::{audit::Head, bundle::Fingerprint, spiffe::TrustDomain, time::Timestamp};
use rustls_pki_types::CertificateDer;

use crate::{
    ca::{Authority, CaError, check_authority},
    tls::provider,
};

/// The most bytes of a signature: RSA-4096 and some room.
pub const MAX_SIGNATURE: usize = 1024;
/// First bytes of everything that is sealed; no certificate and no other transcript starts so.
const DOMAIN: &[u8] = b"landbridge audit seal v1\0";

/// What a seal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The store the log belongs to.
    pub store_id: &'a str,
    /// The trust domain of the federation service.
    pub trust_domain: &'a TrustDomain,
    /// The number of the oldest entry that is kept.
    pub first: u64,
    /// The end of the log, which stands for all of it.
    pub head: Head,
    /// When it was sealed.
    pub at: Timestamp,
}

impl Statement<'_> {
    /// The bytes to sign: fields with their lengths, in this order.
    fn transcript(&self, authority: &Fingerprint) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        let fields: [&[u8]; 7] = [
            authority.as_bytes(),
            self.trust_domain.as_str().as_bytes(),
            self.store_id.as_bytes(),
            &self.first.to_be_bytes(),
            &self.head.index.to_be_bytes(),
            self.head.hash.as_bytes(),
            &self.at.0.to_be_bytes(),
        ];
        for field in fields {
            out.extend_from_slice(&(field.len() as u64).to_be_bytes());
            out.extend_from_slice(field);
        }
        out
    }
}

/// Why a seal does not hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The certificate of the sealing authority is none.
    #[error("the seal carries a certificate that is no authority of {trust_domain}: {reason}")]
    Authority {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// Why.
        reason: String,
    },
    /// The signature is another one's, or over something else.
    #[error("the seal's signature does not hold")]
    Signature,
}

/// Signs what is said about a log.
///
/// # Errors
/// When the library fails.
pub fn seal(authority: &Authority, statement: &Statement<'_>) -> Result<Vec<u8>, CaError> {
    authority.prove(&statement.transcript(&authority.fingerprint()))
}

/// Verifies that the authority with this certificate signed `statement`. Whether it is the right authority is for the
/// caller to compare, and so is the time: a log is kept longer than certificates last.
///
/// # Errors
/// When it did not.
pub fn verify(certificate: &CertificateDer<'_>, statement: &Statement<'_>, signature: &[u8]) -> Result<(), SealError> {
    let trust_domain = statement.trust_domain;
    let unusable = |reason: String| SealError::Authority { trust_domain: trust_domain.clone(), reason };
    check_authority(certificate, trust_domain).map_err(|error| unusable(error.to_string()))?;
    let key = webpki::EndEntityCert::try_from(certificate).map_err(|error| unusable(error.to_string()))?;
    let transcript = statement.transcript(&Fingerprint::of(certificate));
    let algorithms = provider().signature_verification_algorithms.all;
    let signed = signature.len() <= MAX_SIGNATURE
        && algorithms.iter().any(|algorithm| key.verify_signature(*algorithm, &transcript, signature).is_ok());
    if signed { Ok(()) } else { Err(SealError::Signature) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Validity;

    fn authority(trust_domain: &TrustDomain) -> Authority {
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        Authority::generate(trust_domain, "federation", validity).unwrap()
    }

    #[test]
    fn a_seal_holds_for_what_it_was_made_for_and_for_nothing_else() {
        let (domain, elsewhere) =
            (TrustDomain::new("federation.internal").unwrap(), TrustDomain::new("elsewhere.internal").unwrap());
        let (ours, theirs) = (authority(&domain), authority(&domain));
        let said =
            Statement { store_id: "s", trust_domain: &domain, first: 1, head: Head::start("s"), at: Timestamp(7) };
        let signature = seal(&ours, &said).unwrap();
        assert_eq!(verify(ours.certificate(), &said, &signature), Ok(()));
        for other in [
            Statement { store_id: "t", ..said },
            Statement { first: 2, ..said },
            Statement { head: Head::start("t"), ..said },
            Statement { head: Head { index: 1, ..said.head }, ..said },
            Statement { at: Timestamp(8), ..said },
        ] {
            assert_eq!(verify(ours.certificate(), &other, &signature), Err(SealError::Signature), "{other:?}");
        }
        assert_eq!(verify(theirs.certificate(), &said, &signature), Err(SealError::Signature));
        assert_eq!(verify(ours.certificate(), &said, &[0; MAX_SIGNATURE + 1]), Err(SealError::Signature));
        let moved = Statement { trust_domain: &elsewhere, ..said };
        assert!(matches!(verify(ours.certificate(), &moved, &signature), Err(SealError::Authority { .. })));
    }

    #[test]
    fn a_leaf_seals_nothing() {
        let domain = TrustDomain::new("federation.internal").unwrap();
        let id = federation_model::spiffe::parse_workload_id("spiffe://federation.internal/landbridge/operator/admin")
            .unwrap();
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(60));
        let request = crate::ca::SvidRequest { id, names: Vec::new(), validity };
        let svid = authority(&domain).issue(&request).unwrap();
        let said =
            Statement { store_id: "s", trust_domain: &domain, first: 1, head: Head::start("s"), at: Timestamp(7) };
        assert!(matches!(verify(&svid.chain()[0], &said, &[]), Err(SealError::Authority { .. })));
    }
}
