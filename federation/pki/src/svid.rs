//! An X.509-SVID: a certificate chain with its private key.
//!
//! Owns the key of a leaf. Never decides whether it is still good: [`crate::verify`] and [`crate::renew`] do.

use std::{fmt, sync::Arc};

use federation_model::{
    bundle::{Fingerprint, TrustBundle},
    revocation::Serial,
    spiffe::SpiffeId,
    time::Timestamp,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::{
    ca::MAX_CHAIN,
    secret::SecretPem,
    tls::provider,
    trust::TrustStore,
    validity::Validity,
    verify::{self, Usage, VerifyError},
    x509::{Malformed, Parsed},
};

/// Why a certificate and a key are not an SVID.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SvidError {
    /// The text holds no usable PEM.
    #[error("the {what} is not usable PEM ({reason}): give an unencrypted PEM file")]
    Pem {
        /// Certificate or key.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Too many certificates.
    #[error("the chain holds {0} certificates, {MAX_CHAIN} are accepted: leave out those that are not needed")]
    ChainTooLong(usize),
    /// The certificate cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The leaf breaks a rule of X.509-SVIDs.
    #[error("the certificate is not an X.509-SVID: {0}")]
    Leaf(#[from] VerifyError),
    /// The key is another one, or of a kind that is not supported.
    #[error("the private key does not fit the certificate ({0}): give the pair that was issued together")]
    Key(String),
}

/// A leaf certificate with its chain and its key.
#[derive(Clone)]
pub struct Svid {
    id: SpiffeId,
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
    validity: Validity,
    serial: Serial,
    certified: Arc<CertifiedKey>,
}

impl Svid {
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, key: Zeroizing<Vec<u8>>) -> Result<Self, SvidError> {
        if chain.len() > MAX_CHAIN {
            return Err(SvidError::ChainTooLong(chain.len()));
        }
        let leaf = chain.first().ok_or_else(|| SvidError::from(VerifyError::NoCertificate))?;
        let id = verify::check_leaf(leaf)?;
        let (validity, serial) = {
            let parsed = Parsed::from_der(leaf)?;
            (parsed.validity(), parsed.serial())
        };
        let der = PrivateKeyDer::try_from(key.as_slice()).map_err(|e| SvidError::Key(e.to_string()))?.clone_key();
        let certified =
            CertifiedKey::from_der(chain.clone(), der, &provider()).map_err(|e| SvidError::Key(e.to_string()))?;
        Ok(Self { id, chain, key, validity, serial, certified: Arc::new(certified) })
    }

    /// Loads an SVID: the leaf first, then the certificates above it.
    ///
    /// # Errors
    /// When the pair cannot be read, does not belong together, or the leaf breaks a rule.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, SvidError> {
        let chain = certificates(cert_pem).map_err(|reason| SvidError::Pem { what: "certificate", reason })?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|e| SvidError::Pem { what: "key", reason: e.to_string() })?;
        Self::new(chain, Zeroizing::new(key.secret_der().to_vec()))
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Not valid before.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.validity.not_before
    }

    /// Not valid after.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.validity.not_after
    }

    /// From when until when.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether an authority of `bundle` stands above it, and it is valid at `now`.
    #[must_use]
    pub fn stands_under(&self, bundle: &TrustBundle, now: Timestamp) -> bool {
        let trust = TrustStore::new();
        // A bundle that is not usable counts as empty.
        let _ = trust.replace([bundle.clone()]);
        verify::verify_leaf(&self.chain, &trust, now, Usage::Server).is_ok()
    }

    /// SHA-256 of the leaf.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.chain[0])
    }

    /// The serial number of the leaf, lowercase hexadecimal without leading zero bytes.
    #[must_use]
    pub fn serial(&self) -> &str {
        self.serial.as_str()
    }

    /// The serial number of the leaf.
    pub(crate) fn serial_number(&self) -> &Serial {
        &self.serial
    }

    /// The chain in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem(&self.chain)
    }

    /// The key in PEM.
    #[must_use]
    pub fn key_pem(&self) -> SecretPem {
        private_key_pem(&self.key)
    }

    /// The pair as rustls wants it.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.id)
            .field("serial", &self.serial)
            .field("validity", &self.validity)
            .field("key", &"hidden")
            .finish_non_exhaustive()
    }
}

/// The certificates in a PEM text, at least one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    if chain.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(chain) }
}

/// A private key in DER as PEM.
pub(crate) fn private_key_pem(der: &[u8]) -> SecretPem {
    // The label follows the encoding: RFC 5208, RFC 5915, RFC 8017.
    let label = match PrivateKeyDer::try_from(der) {
        Ok(PrivateKeyDer::Sec1(_)) => "EC PRIVATE KEY",
        Ok(PrivateKeyDer::Pkcs1(_)) => "RSA PRIVATE KEY",
        Ok(_) | Err(_) => "PRIVATE KEY",
    };
    SecretPem::new(encode(label, der))
}

/// Certificates as PEM.
pub(crate) fn pem(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|der| encode("CERTIFICATE", der)).collect()
}

/// One PEM section (RFC 7468: lines of 64 characters).
fn encode(label: &str, der: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let body = Zeroizing::new(BASE64_STANDARD.encode(der));
    let mut out = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40);
    out.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in body.as_bytes().chunks(64) {
        out.extend(line.iter().copied().map(char::from));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{Authority, SvidRequest};
    use federation_model::spiffe::TrustDomain;
    use std::time::Duration;

    fn issued() -> Svid {
        let td = TrustDomain::new("east.example").unwrap();
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        let authority = Authority::generate(&td, "east", validity).unwrap();
        let id = SpiffeId::new("spiffe://east.example/landbridge/gateway").unwrap();
        authority.issue(&SvidRequest { id, names: vec![], validity }).unwrap()
    }

    #[test]
    fn an_svid_survives_being_written_to_pem() {
        let svid = issued();
        let again = Svid::from_pem(&svid.certificate_pem(), svid.key_pem().expose()).unwrap();
        assert_eq!((again.id(), again.chain(), again.serial()), (svid.id(), svid.chain(), svid.serial()));
        assert_eq!(again.validity(), svid.validity());
    }

    #[test]
    fn the_key_of_another_svid_is_refused() {
        let (one, other) = (issued(), issued());
        let error = Svid::from_pem(&one.certificate_pem(), other.key_pem().expose()).unwrap_err();
        assert!(matches!(error, SvidError::Key(_)), "{error}");
    }

    #[test]
    fn keys_never_show_in_debug_output() {
        let svid = issued();
        let shown = format!("{svid:?} {:?}", svid.key_pem());
        let pem = svid.key_pem();
        let secret: String = pem.expose().lines().filter(|l| !l.starts_with('-')).collect();
        assert!(!shown.contains(&secret[..20]) && shown.contains("hidden"), "{shown}");
        assert!(!shown.contains(&format!("{:?}", &svid.key[..8])), "{shown}");
    }
}
