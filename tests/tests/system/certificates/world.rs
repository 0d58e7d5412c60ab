//! Certificates of every shape: a leaf, those above it, and what a verifier believes.
//!
//! Owns their making. Never judges them.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use federation_model::time::Timestamp;
use federation_pki::Validity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::NOW;

/// What a row changes; as it comes, everything is right.
pub(super) struct World {
    /// The authorities from the root down; the last one issues the leaf.
    pub(super) signers: Vec<CertificateParams>,
    pub(super) leaf: CertificateParams,
    /// Which of `signers` is in the bundle.
    pub(super) anchor: usize,
    /// The trust domain of that bundle.
    pub(super) believed_for: &'static str,
    /// Further trust domains whose bundle holds the same authority.
    pub(super) shared_with: Option<&'static str>,
    /// Changes what is presented: the certificates above the leaf, from the lowest up, without the anchor.
    pub(super) present: fn(&mut Vec<CertificateDer<'static>>),
    /// The leaf is signed by another key than that of the last signer, of the same name.
    pub(super) forged: bool,
    /// One bit of the leaf is changed.
    pub(super) damaged: bool,
    /// The clock of the verifier.
    pub(super) at: Timestamp,
}

/// What comes of it.
pub(super) struct Made {
    /// Leaf first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) bundles: Vec<(&'static str, Vec<CertificateDer<'static>>)>,
    pub(super) at: Timestamp,
}

type Ca = CertifiedIssuer<'static, KeyPair>;

impl World {
    pub(super) fn shaped(shape: fn(&mut Self)) -> Self {
        let mut world = Self {
            signers: vec![authority("root"), authority("intermediate")],
            leaf: leaf(),
            anchor: 0,
            believed_for: "east.example",
            shared_with: None,
            present: |_| {},
            forged: false,
            damaged: false,
            at: NOW,
        };
        shape(&mut world);
        world
    }

    /// The signer that issues the leaf.
    pub(super) fn issuer(&mut self) -> &mut CertificateParams {
        self.signers.last_mut().expect("a row leaves one signer at least")
    }

    /// One authority alone, which issues the leaf itself.
    pub(super) fn flat(&mut self) {
        self.signers.truncate(1);
    }

    pub(super) fn make(self) -> Made {
        let mut made: Vec<Ca> = Vec::new();
        for params in &self.signers {
            let key = KeyPair::generate().expect("a key");
            let ca = match made.last() {
                None => Ca::self_signed(params.clone(), key),
                Some(above) => Ca::signed_by(params.clone(), key, above),
            };
            made.push(ca.expect("the shapes of the rows can be encoded"));
        }
        let issuer = made.last().expect("one signer at least");
        let forger =
            self.signers.last().map(|params| Ca::self_signed(params.clone(), KeyPair::generate().expect("a key")));
        let forger = forger.expect("one signer at least").expect("the shape was encoded before");
        let signer = if self.forged { &forger } else { issuer };
        let leaf = self.leaf.signed_by(&KeyPair::generate().expect("a key"), signer);
        let mut leaf = leaf.expect("the shapes of the rows can be encoded").der().to_vec();
        if self.damaged {
            // The last byte belongs to the signature.
            *leaf.last_mut().expect("a certificate has bytes") ^= 1;
        }
        let mut above: Vec<_> = made.iter().skip(self.anchor + 1).rev().map(|ca| ca.der().clone()).collect();
        (self.present)(&mut above);
        let anchor = made[self.anchor].der().clone();
        let bundles = [Some(self.believed_for), self.shared_with].into_iter().flatten();
        Made {
            chain: std::iter::once(CertificateDer::from(leaf)).chain(above).collect(),
            bundles: bundles.map(|td| (td, vec![anchor.clone()])).collect(),
            at: self.at,
        }
    }
}

/// A sound authority of east.example.
pub(super) fn authority(name: &str) -> CertificateParams {
    let mut params = params();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![uri("spiffe://east.example")];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf() -> CertificateParams {
    let mut params = params();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.subject_alt_names = vec![uri("spiffe://east.example/ns/production/sa/frontend")];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let validity = Validity::starting(NOW, Duration::from_secs(3600));
    params.not_before = date(validity.not_before.0);
    params.not_after = date(validity.not_after.0);
    // Strict openssl wants to see whose key signed.
    params.use_authority_key_identifier_extension = true;
    params
}

/// Seconds since 1970 as a certificate has them.
pub(super) fn date(seconds: u64) -> OffsetDateTime {
    let seconds = i64::try_from(seconds).expect("the rows stay near the present");
    OffsetDateTime::from_unix_timestamp(seconds).expect("the rows stay near the present")
}

pub(super) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("the rows use ASCII"))
}

/// An extension of the arc 2.5.29.
pub(super) fn extension(number: u64, content: &[u8], critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, number], content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// One DER element of fewer than 128 bytes.
pub(super) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("the rows use short elements");
    assert!(length < 128, "the rows use short elements");
    [&[tag, length], content].concat()
}

/// Certificates as PEM.
pub(super) fn pem<'a>(certificates: impl Iterator<Item = &'a CertificateDer<'static>>) -> String {
    let section = |certificate: &CertificateDer<'_>| {
        let digits = BASE64_STANDARD.encode(certificate);
        // openssl reads lines of 64.
        let lines: Vec<_> = digits.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    certificates.map(section).collect()
}
