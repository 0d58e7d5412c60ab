//! Whoever may speak for a cluster's trust domain: its authority, or a gateway with a certificate of that authority.
//!
//! Owns the choice of the key and the verification of what it signed. Never decides what is signed.

use std::sync::Arc;

use federation_model::{bundle::TrustBundle, spiffe::SpiffeId, time::Timestamp};
use rustls::SignatureScheme;
use rustls_pki_types::CertificateDer;

use crate::{
    ca::Authority,
    svid::Svid,
    tls::provider,
    trust::TrustStore,
    verify::{Usage, VerifyError, verify_leaf},
    x509::Malformed,
};

/// The most bytes of a signature: RSA-4096, and some room.
pub const MAX_SIGNATURE: usize = 1024;

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("signing with {what} failed: {reason}")]
pub struct SigningError {
    what: String,
    reason: String,
}

/// Why a signature does not hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SignatureError {
    /// Nobody signed.
    #[error("it names no signer")]
    NoSigner,
    /// The signature is too long.
    #[error("its signature has {0} bytes, {MAX_SIGNATURE} are accepted")]
    TooLong(usize),
    /// The signer's certificate cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The signer is neither an authority nor a gateway.
    #[error("its signer is no authority of the trust domain, and no gateway under one: {0}")]
    Signer(#[from] Box<VerifyError>),
    /// The signer is a workload, not the gateway.
    #[error("its signer is {found}, only {expected} or an authority of the trust domain may sign")]
    NotTheGateway {
        /// Who signed.
        found: SpiffeId,
        /// Who may.
        expected: SpiffeId,
    },
    /// The bytes were not signed by that key.
    #[error("its signature is not that of the key it names")]
    Signature,
}

/// A key that speaks for a trust domain.
#[derive(Debug, Clone)]
pub enum Signer {
    /// The authority itself.
    Authority(Arc<Authority>),
    /// A gateway: where the authority's key is kept elsewhere.
    Gateway(Arc<Svid>),
}

impl Signer {
    /// The certificates that lead from the key to an authority, the signer's own first.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        match self {
            Self::Authority(authority) => authority.chain().to_vec(),
            Self::Gateway(svid) => svid.chain().to_vec(),
        }
    }

    /// Signs `message`, which must begin with a text that nothing else begins with.
    ///
    /// # Errors
    /// When the library fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        match self {
            Self::Authority(authority) => authority.prove(message).map_err(|error| SigningError {
                what: format!("the authority {}", authority.fingerprint()),
                reason: error.to_string(),
            }),
            Self::Gateway(svid) => sign_with(svid, message),
        }
    }
}

/// Signs with the key of a leaf.
///
/// # Errors
/// When the key knows no scheme of TLS 1.3, or the library fails.
pub fn sign_with(svid: &Svid, message: &[u8]) -> Result<Vec<u8>, SigningError> {
    const SCHEMES: [SignatureScheme; 6] = [
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ECDSA_NISTP521_SHA512,
        SignatureScheme::ED25519,
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PSS_SHA384,
    ];
    let failed = |reason: String| SigningError { what: format!("the certificate of {}", svid.id()), reason };
    let certified = svid.certified_key();
    let signer = certified.key.choose_scheme(&SCHEMES);
    let signer = signer.ok_or_else(|| failed("its key is of a kind that TLS 1.3 does not use".to_owned()))?;
    signer.sign(message).map_err(|error| failed(error.to_string()))
}

/// Verifies that an authority of `bundle`, or a leaf with `gateway_id` that was valid under one at `at`, signed `message`.
///
/// # Errors
/// When it did not.
pub fn verify(
    bundle: &TrustBundle,
    gateway_id: &SpiffeId,
    at: Timestamp,
    signer: &[CertificateDer<'_>],
    (message, signature): (&[u8], &[u8]),
) -> Result<(), SignatureError> {
    let first = signer.first().ok_or(SignatureError::NoSigner)?;
    if !bundle.authorities.iter().any(|authority| authority == first) {
        let trust = TrustStore::new();
        // A bundle that is not usable counts as empty, which the verification says better.
        let _ = trust.replace([bundle.clone()]);
        let found = verify_leaf(signer, &trust, at, Usage::Client).map_err(Box::new)?;
        if found != *gateway_id {
            return Err(SignatureError::NotTheGateway { found, expected: gateway_id.clone() });
        }
    }
    verify_with(first, message, signature)
}

/// Verifies that the key of `certificate` signed `message`.
///
/// # Errors
/// When it did not.
pub fn verify_with(certificate: &CertificateDer<'_>, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    if signature.len() > MAX_SIGNATURE {
        return Err(SignatureError::TooLong(signature.len()));
    }
    let certificate = webpki::EndEntityCert::try_from(certificate).map_err(|e| Malformed(e.to_string()))?;
    let algorithms = provider().signature_verification_algorithms;
    let signed =
        algorithms.all.iter().any(|algorithm| certificate.verify_signature(*algorithm, message, signature).is_ok());
    if signed { Ok(()) } else { Err(SignatureError::Signature) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use federation_model::spiffe::TrustDomain;

    use super::*;
    use crate::{Validity, ca::SvidRequest};

    const NOW: Timestamp = Timestamp(1_700_000_000);

    fn authority() -> Authority {
        let validity = Validity::starting(NOW, Duration::from_secs(3600));
        Authority::generate(&TrustDomain::new("west.example").unwrap(), "west", validity).unwrap()
    }

    fn svid(authority: &Authority, path: &str) -> Arc<Svid> {
        let id = SpiffeId::new(format!("spiffe://west.example{path}")).unwrap();
        let validity = Validity::starting(NOW, Duration::from_secs(600));
        Arc::new(authority.issue(&SvidRequest { id, names: vec![], validity }).unwrap())
    }

    #[test]
    fn the_authority_and_the_gateway_speak_for_a_trust_domain_and_nobody_else() {
        let (west, other) = (Arc::new(authority()), Arc::new(authority()));
        let bundle = west.bundle(1);
        let gateway_id = SpiffeId::new("spiffe://west.example/landbridge/gateway").unwrap();
        let judged = |signer: Signer, at| {
            let signature = signer.sign(b"text").unwrap();
            verify(&bundle, &gateway_id, at, &signer.certificates(), (b"text", &signature))
        };
        assert_eq!(judged(Signer::Authority(west.clone()), NOW), Ok(()));
        assert_eq!(judged(Signer::Gateway(svid(&west, "/landbridge/gateway")), NOW), Ok(()));
        let late = NOW.after(Duration::from_secs(601));
        let expired = judged(Signer::Gateway(svid(&west, "/landbridge/gateway")), late);
        let Err(SignatureError::Signer(expired)) = expired else { panic!("{expired:?}") };
        assert!(matches!(*expired, VerifyError::Expired { .. }), "{expired:?}");
        let workload = judged(Signer::Gateway(svid(&west, "/ns/a/sa/b")), NOW);
        assert!(matches!(workload, Err(SignatureError::NotTheGateway { .. })), "{workload:?}");
        assert!(matches!(judged(Signer::Authority(other.clone()), NOW), Err(SignatureError::Signer(_))));
        let forged = judged(Signer::Gateway(svid(&other, "/landbridge/gateway")), NOW);
        assert!(matches!(forged, Err(SignatureError::Signer(_))), "{forged:?}");

        let signature = other.prove(b"text").unwrap();
        let stolen = verify(&bundle, &gateway_id, NOW, &[west.certificate().clone()], (b"text", &signature));
        assert_eq!(stolen, Err(SignatureError::Signature));
        let nobody = verify(&bundle, &gateway_id, NOW, &[], (b"text", &signature));
        assert_eq!(nobody, Err(SignatureError::NoSigner));
        let long = verify_with(west.certificate(), b"text", &[0; MAX_SIGNATURE + 1]);
        assert_eq!(long, Err(SignatureError::TooLong(MAX_SIGNATURE + 1)));
    }
}
