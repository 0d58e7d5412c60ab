//! Trust bundles and fingerprints as values.
//!
//! Owns what is known of the authorities of one trust domain. Never verifies a certificate: that is `federation-pki`.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;

use crate::spiffe::TrustDomain;

/// The most authorities of one trust domain: old and new root during a rotation, with room for cross-signed ones.
pub const MAX_AUTHORITIES: usize = 16;

/// The X.509 authorities of one trust domain (SPIFFE Trust Domain and Bundle, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// The trust domain; leaves of any other are never verified against these authorities.
    pub trust_domain: TrustDomain,
    /// `spiffe_sequence`: grows with every change.
    pub sequence: u64,
    /// The authorities, DER; none means that nothing of this trust domain is trusted.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl TrustBundle {
    /// The fingerprints of the authorities, in order.
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> + '_ {
        self.authorities.iter().map(|der| Fingerprint::of(der))
    }
}

/// SHA-256 of a certificate in DER, written `SHA256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(out)
    }

    /// A fingerprint from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SHA256:")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A string that is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a fingerprint: write SHA256: and 64 hexadecimal digits")]
pub struct FingerprintError(String);

impl FromStr for Fingerprint {
    type Err = FingerprintError;
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let fail = || FingerprintError(text.chars().take(80).collect());
        let digits = text.strip_prefix("SHA256:").ok_or_else(fail)?.as_bytes();
        if digits.len() != 64 {
            return Err(fail());
        }
        let nibble = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
                return Err(fail());
            };
            *byte = high << 4 | low;
        }
        Ok(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_survive_display_and_parse_and_nothing_else_parses() {
        let fingerprint = Fingerprint::of(b"certificate");
        assert_eq!(fingerprint.to_string().parse::<Fingerprint>().unwrap(), fingerprint);
        for text in ["", "SHA256:", "SHA256:00", &fingerprint.to_string()[7..], &format!("SHA256:{}", "g0".repeat(32))]
        {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
