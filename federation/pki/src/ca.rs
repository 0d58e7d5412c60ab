//! The certificate authority of one trust domain.
//!
//! Owns its key and decides what goes into a certificate. Never takes names or usages from a request's own certificate
//! extensions: the caller says which id was attested, and everything else is fixed here.

use std::{fmt, net::IpAddr, str::FromStr};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use federation_model::{
    bundle::{Fingerprint, TrustBundle},
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SigningKey,
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::{
    secret::SecretPem,
    svid::{self, Svid},
    validity::{Validity, calendar, date},
    x509::{AuthorityName, Malformed, Parsed},
};

/// The most certificates in one chain: a leaf, its authority, and room for two more above.
pub const MAX_CHAIN: usize = 4;
const MAX_ISSUERS: usize = MAX_CHAIN - 1;
/// The most DNS names and addresses of one leaf.
pub const MAX_NAMES: usize = 32;

/// Why an authority could not be made, loaded or used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CaError {
    /// The text holds no usable PEM.
    #[error("the {what} is not usable PEM ({reason}): give an unencrypted PEM file")]
    Pem {
        /// Certificate or key.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The certificate does not parse.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Too many certificates.
    #[error(
        "the authority's file holds {0} certificates, {MAX_ISSUERS} are accepted: leave out what the issuing certificate does not need"
    )]
    ChainTooLong(usize),
    /// The key is another one.
    #[error("the private key does not belong to the authority's certificate: give the pair that was issued together")]
    KeyMismatch,
    /// basicConstraints say that this is no authority.
    #[error("the certificate is not an authority (basicConstraints cA is false): give a CA certificate, not a leaf")]
    NotCa,
    /// keyUsage does not allow to sign certificates.
    #[error("the authority may not sign certificates (keyUsage lacks keyCertSign): issue it again with that usage")]
    NoKeyCertSign,
    /// The authority is of another trust domain.
    #[error("the authority is of trust domain {found}, this cluster is configured as {expected}: correct one of them")]
    WrongTrustDomain {
        /// In the certificate.
        found: TrustDomain,
        /// Expected.
        expected: TrustDomain,
    },
    /// The authority's URI name is no trust domain.
    #[error("the authority's name is not acceptable: {0}")]
    Name(#[from] AuthorityName),
    /// The id asked for is not this authority's to give.
    #[error("{id} lies outside trust domain {trust_domain}: an authority issues inside its own trust domain only")]
    ForeignId {
        /// The id.
        id: SpiffeId,
        /// The authority's trust domain.
        trust_domain: TrustDomain,
    },
    /// The id names a trust domain.
    #[error("{0} has no path: a leaf names a workload, spiffe://<trust domain>/<path>")]
    NoPath(SpiffeId),
    /// Too many names.
    #[error("{0} names are asked for one certificate, {MAX_NAMES} are accepted")]
    TooManyNames(usize),
    /// A name cannot be written into a certificate.
    #[error("{0:?} cannot be a DNS name of a certificate: use letters, digits, '-' and '.'")]
    BadName(String),
    /// Nothing is left of the validity.
    #[error("nothing can be issued from {} on: the authority expires at {}, renew it first", date(*.not_before), date(*.expires_at))]
    Expired {
        /// Start asked for.
        not_before: Timestamp,
        /// End of the authority.
        expires_at: Timestamp,
    },
    /// A time that X.509 cannot hold.
    #[error("{0:?} lies outside what a certificate can say (years up to 9999): shorten the lifetime")]
    Time(Validity),
    /// The subject of the authority cannot be repeated byte for byte as issuer.
    #[error(
        "the authority's subject name has a form that cannot be copied into a leaf: issue the authority with UTF8String or PrintableString attributes"
    )]
    SubjectForm,
    /// The cryptographic library failed.
    #[error("{doing} failed in the cryptographic library: {reason}")]
    Crypto {
        /// What was tried.
        doing: &'static str,
        /// Why.
        reason: String,
    },
}

/// A DNS name or address of a server, besides its SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectName {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl FromStr for SubjectName {
    type Err = CaError;
    /// An address where the text is one, else a DNS name.
    fn from_str(text: &str) -> Result<Self, CaError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if text.len() <= 253 && text.split('.').all(label) {
            return Ok(Self::Dns(text.to_ascii_lowercase()));
        }
        Err(CaError::BadName(text.chars().take(80).collect()))
    }
}

/// What a new leaf shall say.
#[derive(Debug, Clone)]
pub struct SvidRequest {
    /// The id; inside the authority's trust domain.
    pub id: SpiffeId,
    /// Further names.
    pub names: Vec<SubjectName>,
    /// From when until when; cut to the authority's own end.
    pub validity: Validity,
}

/// The authority of one trust domain: certificate and key.
pub struct Authority {
    trust_domain: TrustDomain,
    chain: Vec<CertificateDer<'static>>,
    validity: Validity,
    key: Zeroizing<KeyPair>,
}

impl Authority {
    /// A new self-signed authority: ECDSA P-256, may issue leaves but no further authorities.
    ///
    /// # Errors
    /// When the validity does not fit into a certificate or the library fails.
    pub fn generate(td: &TrustDomain, common_name: &str, validity: Validity) -> Result<Self, CaError> {
        let key = new_key()?;
        let mut params = params(validity)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = vec![uri(&td.id_string())?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&*key).map_err(crypto("signing the authority"))?;
        Ok(Self { trust_domain: td.clone(), chain: vec![certificate.der().clone()], validity, key })
    }

    /// Loads an authority: its certificate first, then those above it, if any.
    ///
    /// # Errors
    /// When the pair cannot be read, does not belong together, or is not an authority of `td`.
    pub fn from_pem(cert_pem: &str, key_pem: &str, td: &TrustDomain) -> Result<Self, CaError> {
        let chain =
            svid::certificates(cert_pem).map_err(|reason| CaError::Pem { what: "authority's certificate", reason })?;
        if chain.len() > MAX_ISSUERS {
            return Err(CaError::ChainTooLong(chain.len()));
        }
        let key = KeyPair::from_pem(key_pem)
            .map(Zeroizing::new)
            .map_err(|e| CaError::Pem { what: "authority's key", reason: e.to_string() })?;
        let validity = check_authority(&chain[0], td)?;
        let parsed = Parsed::from_der(&chain[0])?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(CaError::KeyMismatch);
        }
        drop(parsed);
        Ok(Self { trust_domain: td.clone(), chain, validity, key })
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The authority's certificate, and those above it.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The authority's certificate in PEM, with those above it.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        svid::pem(&self.chain)
    }

    /// The authority's key in PEM.
    #[must_use]
    pub fn key_pem(&self) -> SecretPem {
        SecretPem::new(self.key.serialize_pem())
    }

    /// SHA-256 of the certificate: what people compare and join tokens pin.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.certificate())
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The bundle with this authority alone.
    #[must_use]
    pub fn bundle(&self, sequence: u64) -> TrustBundle {
        TrustBundle { trust_domain: self.trust_domain.clone(), sequence, authorities: vec![self.certificate().clone()] }
    }

    /// When the authority's certificate ends.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.validity.not_after
    }

    /// Issues a leaf with a fresh key. Its chain holds the authority too, so that a pinned authority is found in it.
    ///
    /// # Errors
    /// When the id is not this authority's to give, the authority has expired, or the library fails.
    pub fn issue(&self, request: &SvidRequest) -> Result<Svid, CaError> {
        let validity = self.clamp(request.validity)?;
        let key = new_key()?;
        let params = self.leaf_params(request, validity)?;
        let issuer =
            Issuer::from_ca_cert_der(self.certificate(), &*self.key).map_err(crypto("reading the authority"))?;
        let leaf = params.signed_by(&*key, &issuer).map_err(crypto("signing a leaf"))?.der().clone();
        if Parsed::from_der(&leaf)?.issuer() != Parsed::from_der(self.certificate())?.subject() {
            return Err(CaError::SubjectForm);
        }
        let chain: Vec<_> = std::iter::once(leaf).chain(self.chain.iter().cloned()).collect();
        Svid::new(chain, Zeroizing::new(key.serialize_der()))
            .map_err(|e| CaError::Crypto { doing: "checking the leaf that was just issued", reason: e.to_string() })
    }

    /// Signs a transcript with the authority's key: proof of possession (see [`crate::possession`]).
    ///
    /// # Errors
    /// When the library fails.
    pub fn prove(&self, transcript: &[u8]) -> Result<Vec<u8>, CaError> {
        self.key.sign(transcript).map_err(crypto("signing a transcript"))
    }

    fn clamp(&self, wanted: Validity) -> Result<Validity, CaError> {
        let validity = Validity { not_after: wanted.not_after.min(self.validity.not_after), ..wanted };
        if validity.not_after <= validity.not_before {
            return Err(CaError::Expired { not_before: wanted.not_before, expires_at: self.validity.not_after });
        }
        Ok(validity)
    }

    fn leaf_params(&self, request: &SvidRequest, validity: Validity) -> Result<CertificateParams, CaError> {
        let id = &request.id;
        if !id.is_member_of(&self.trust_domain) {
            return Err(CaError::ForeignId { id: id.clone(), trust_domain: self.trust_domain.clone() });
        }
        if id.path().is_empty() {
            return Err(CaError::NoPath(id.clone()));
        }
        if request.names.len() > MAX_NAMES {
            return Err(CaError::TooManyNames(request.names.len()));
        }
        let mut params = params(validity)?;
        params.subject_alt_names.push(uri(&id.to_string())?);
        for name in &request.names {
            params.subject_alt_names.push(match name {
                SubjectName::Dns(dns) => {
                    SanType::DnsName(dns.as_str().try_into().map_err(|_| CaError::BadName(dns.clone()))?)
                }
                SubjectName::Ip(ip) => SanType::IpAddress(*ip),
            });
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", &self.trust_domain)
            .field("fingerprint", &self.fingerprint())
            .field("key", &"hidden")
            .finish_non_exhaustive()
    }
}

/// Checks that a certificate may sign the leaves of `td`, and says from when until when.
pub(crate) fn check_authority(der: &CertificateDer<'_>, td: &TrustDomain) -> Result<Validity, CaError> {
    let parsed = Parsed::from_der(der)?;
    if !parsed.is_ca()? {
        return Err(CaError::NotCa);
    }
    // SPIFFE X509-SVID section 4.3: a signing certificate must have keyCertSign, so its absence is not permission.
    if !parsed.key_usage()?.is_some_and(|usage| usage.key_cert_sign) {
        return Err(CaError::NoKeyCertSign);
    }
    match parsed.authority_domain()? {
        Some(found) if found != *td => Err(CaError::WrongTrustDomain { found, expected: td.clone() }),
        Some(_) | None => Ok(parsed.validity()),
    }
}

fn new_key() -> Result<Zeroizing<KeyPair>, CaError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Zeroizing::new).map_err(crypto("making a key"))
}

/// Parameters with nothing of the library's defaults left (dates of 1975 to 4096 and a fixed common name).
fn params(validity: Validity) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = calendar(validity.not_before).ok_or(CaError::Time(validity))?;
    params.not_after = calendar(validity.not_after).ok_or(CaError::Time(validity))?;
    params.serial_number = Some(serial()?);
    Ok(params)
}

/// 127 random bits: positive, and not to be guessed (CA/Browser Forum wants 64 or more).
fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|e| CaError::Crypto { doing: "making a serial number", reason: e.to_string() })?;
    bytes[0] = bytes[0] & 0x7f | 0x01;
    Ok(SerialNumber::from_slice(&bytes))
}

fn uri(text: &str) -> Result<SanType, CaError> {
    Ok(SanType::URI(text.try_into().map_err(|_| CaError::BadName(text.to_owned()))?))
}

fn crypto(doing: &'static str) -> impl Fn(rcgen::Error) -> CaError {
    move |e| CaError::Crypto { doing, reason: e.to_string() }
}

#[cfg(test)]
mod tests;
