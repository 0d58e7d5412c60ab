//! What a person wants to know of a certificate.
//!
//! Owns reading it out. Never judges: [`crate::verify`] does.

use federation_model::{bundle::Fingerprint, revocation::Serial};
use rustls_pki_types::CertificateDer;

pub use crate::x509::Malformed;
use crate::{validity::Validity, x509::Parsed};

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its first URI name: the SPIFFE ID of a leaf, or the trust domain of an authority.
    pub uri: Option<String>,
    /// The subject's name, such as `CN=Landbridge east`; may be empty.
    pub subject: String,
    /// The issuer's name.
    pub issuer: String,
    /// Whether subject and issuer are the same.
    pub self_issued: bool,
    /// Whether it may issue others.
    pub is_authority: bool,
    /// The serial number.
    pub serial: Serial,
    /// From when until when.
    pub validity: Validity,
    /// SHA-256 of the whole certificate.
    pub fingerprint: Fingerprint,
}

impl CertificateFacts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(der: &CertificateDer<'_>) -> Result<Self, Malformed> {
        let parsed = Parsed::from_der(der)?;
        Ok(Self {
            uri: parsed.uris()?.first().map(|uri| (*uri).to_owned()),
            subject: parsed.subject_text(),
            issuer: parsed.issuer_text(),
            self_issued: parsed.subject() == parsed.issuer(),
            is_authority: parsed.is_ca()?,
            serial: parsed.serial(),
            validity: parsed.validity(),
            fingerprint: Fingerprint::of(der),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use federation_model::{
        spiffe::{SpiffeId, TrustDomain},
        time::Timestamp,
    };

    use super::*;
    use crate::ca::{Authority, SvidRequest};

    #[test]
    fn an_authority_and_its_leaf_say_who_they_are_and_who_issued_them() {
        let td = TrustDomain::new("east.example").unwrap();
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        let authority = Authority::generate(&td, "Landbridge east", validity).unwrap();
        let id = SpiffeId::new("spiffe://east.example/landbridge/gateway").unwrap();
        let leaf = authority.issue(&SvidRequest { id: id.clone(), names: vec![], validity }).unwrap();
        let above = CertificateFacts::of(authority.certificate()).unwrap();
        let facts = CertificateFacts::of(&leaf.chain()[0]).unwrap();
        assert_eq!(above.subject, "CN=Landbridge east");
        assert!(above.self_issued && above.is_authority && !facts.self_issued && !facts.is_authority);
        assert_eq!((facts.issuer, facts.uri), (above.subject, Some(id.to_string())));
        assert_eq!((facts.serial.to_string(), facts.fingerprint), (leaf.serial().to_string(), leaf.fingerprint()));
        assert!(CertificateFacts::of(&CertificateDer::from(vec![1, 2, 3])).is_err());
    }
}
