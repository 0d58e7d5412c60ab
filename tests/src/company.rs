//! The PKI of a company: one root, intermediates below it, and leaves, as cert-manager puts them into Secrets.
//!
//! Owns the keys. Never decides who uses them.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use federation_model::time::Timestamp;
use federation_pki::Validity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

type Ca = CertifiedIssuer<'static, KeyPair>;

/// Long enough for every test.
const LIFE: Duration = Duration::from_secs(7200);

/// What a Secret of the type `kubernetes.io/tls` holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// `tls.crt`
    pub certificate: String,
    /// `tls.key`
    pub key: String,
    /// `ca.crt`
    pub authorities: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A root that several clusters share.
pub struct Company(Ca);

impl fmt::Debug for Company {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Company")
    }
}

impl Default for Company {
    fn default() -> Self {
        let mut params = params("Company root", LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(Ca::self_signed(params, new_key()).expect("the root can be encoded"))
    }
}

impl Company {
    /// A new intermediate for a trust domain.
    #[must_use]
    pub fn intermediate(&self, domain: &str) -> Intermediate {
        self.shaped(domain, LIFE, |_| {})
    }

    /// One that ends after `life`.
    #[must_use]
    pub fn brief_intermediate(&self, domain: &str, life: Duration) -> Intermediate {
        self.shaped(domain, life, |_| {})
    }

    /// One whose certificate is changed before it is signed.
    #[must_use]
    pub fn shaped(&self, domain: &str, life: Duration, shape: impl FnOnce(&mut CertificateParams)) -> Intermediate {
        self.signed(domain, new_key(), life, shape)
    }

    /// The same name and key again, with a new certificate.
    ///
    /// # Panics
    /// Never: a key that was written can be read.
    #[must_use]
    pub fn again(&self, intermediate: &Intermediate) -> Intermediate {
        let key = KeyPair::from_pem(&intermediate.ca.key().serialize_pem()).expect("the key was written just now");
        self.signed(&intermediate.domain, key, LIFE, |_| {})
    }

    fn signed(
        &self,
        domain: &str,
        key: KeyPair,
        life: Duration,
        shape: impl FnOnce(&mut CertificateParams),
    ) -> Intermediate {
        let mut params = params(&format!("Company {domain}"), life);
        params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        shape(&mut params);
        let ca = Ca::signed_by(params, key, &self.0).expect("the intermediate can be encoded");
        Intermediate { ca, domain: domain.to_owned(), root: self.0.pem() }
    }
}

/// An authority below the root, for one trust domain.
pub struct Intermediate {
    ca: Ca,
    domain: String,
    root: String,
}

impl fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intermediate").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl Intermediate {
    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.ca.der()
    }

    /// The Secret of a certificate with `isCA: true`: a gateway issues from it.
    #[must_use]
    pub fn secret(&self) -> Secret {
        Secret { certificate: self.ca.pem(), key: self.ca.key().serialize_pem(), authorities: self.root.clone() }
    }

    /// The Secret of a ready leaf for the gateway.
    ///
    /// # Panics
    /// Never: the leaf has a form that can be encoded.
    #[must_use]
    pub fn leaf(&self) -> Secret {
        let mut params = params("gateway", LIFE);
        params.subject_alt_names = vec![uri(&format!("spiffe://{}/landbridge/gateway", self.domain))];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = new_key();
        let leaf = params.signed_by(&key, &self.ca).expect("the leaf can be encoded");
        Secret {
            certificate: format!("{}{}", leaf.pem(), self.ca.pem()),
            key: key.serialize_pem(),
            authorities: self.root.clone(),
        }
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

fn params(name: &str, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let validity = Validity::starting(SystemTime::now().into(), life);
    (params.not_before, params.not_after) = (date(validity.not_before), date(validity.not_after));
    params.use_authority_key_identifier_extension = true;
    params
}

fn date(at: Timestamp) -> OffsetDateTime {
    let seconds = i64::try_from(at.0).expect("tests run in the present");
    OffsetDateTime::from_unix_timestamp(seconds).expect("tests run in the present")
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("trust domains are ASCII"))
}
