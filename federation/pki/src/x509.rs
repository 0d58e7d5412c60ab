//! The few fields of X.509 certificates this crate looks at.
//!
//! Owns parsing. Never judges: that is [`crate::verify`].

use federation_model::{
    revocation::Serial,
    spiffe::{SpiffeIdError, TrustDomain},
    time::Timestamp,
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

use crate::validity::Validity;

/// A certificate that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate cannot be read ({0}): it must be one X.509 version 3 certificate in DER")]
pub struct Malformed(pub(crate) String);

/// A view of one certificate.
#[derive(Debug)]
pub(crate) struct Parsed<'a>(X509Certificate<'a>);

/// What the key usage extension says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyUsage {
    pub(crate) critical: bool,
    pub(crate) digital_signature: bool,
    pub(crate) key_cert_sign: bool,
    pub(crate) crl_sign: bool,
}

/// What the extended key usage extension says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExtendedKeyUsage {
    pub(crate) server_auth: bool,
    pub(crate) client_auth: bool,
}

impl<'a> Parsed<'a> {
    pub(crate) fn from_der(der: &'a [u8]) -> Result<Self, Malformed> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|e| Malformed(e.to_string()))?;
        if !rest.is_empty() {
            return Err(Malformed(format!("{} bytes follow it", rest.len())));
        }
        Ok(Self(certificate))
    }

    pub(crate) fn is_ca(&self) -> Result<bool, Malformed> {
        let constraints = self.0.basic_constraints().map_err(malformed)?;
        Ok(constraints.is_some_and(|c| c.value.ca))
    }

    pub(crate) fn key_usage(&self) -> Result<Option<KeyUsage>, Malformed> {
        Ok(self.0.key_usage().map_err(malformed)?.map(|usage| KeyUsage {
            critical: usage.critical,
            digital_signature: usage.value.digital_signature(),
            key_cert_sign: usage.value.key_cert_sign(),
            crl_sign: usage.value.crl_sign(),
        }))
    }

    pub(crate) fn extended_key_usage(&self) -> Result<Option<ExtendedKeyUsage>, Malformed> {
        let usage = self.0.extended_key_usage().map_err(malformed)?;
        Ok(usage.map(|u| ExtendedKeyUsage { server_auth: u.value.server_auth, client_auth: u.value.client_auth }))
    }

    /// The URIs among the subject alternative names.
    pub(crate) fn uris(&self) -> Result<Vec<&str>, Malformed> {
        let Some(names) = self.0.subject_alternative_name().map_err(malformed)? else { return Ok(Vec::new()) };
        let uri = |name| if let &GeneralName::URI(uri) = name { Some(uri) } else { None };
        Ok(names.value.general_names.iter().filter_map(uri).collect())
    }

    pub(crate) fn names_are_critical(&self) -> Result<bool, Malformed> {
        Ok(self.0.subject_alternative_name().map_err(malformed)?.is_some_and(|names| names.critical))
    }

    /// The trust domain an authority says it is of: its one URI name, when it has names.
    pub(crate) fn authority_domain(&self) -> Result<Option<TrustDomain>, AuthorityName> {
        match self.uris()?.as_slice() {
            [] => Ok(None),
            // A scheme is compared without regard to case (SPIFFE-ID section 2).
            [uri] => match uri.split_at_checked("spiffe://".len()) {
                Some((scheme, name)) if scheme.eq_ignore_ascii_case("spiffe://") => {
                    Ok(Some(TrustDomain::new(name).map_err(|e| AuthorityName::NotTrustDomain((*uri).into(), e))?))
                }
                Some(_) | None => Err(AuthorityName::NotSpiffe((*uri).into())),
            },
            many => Err(AuthorityName::Many(many.len())),
        }
    }

    pub(crate) fn subject_is_empty(&self) -> bool {
        self.0.subject().iter().next().is_none()
    }

    /// How many authorities may stand between this one and a leaf; nothing when there is no limit.
    pub(crate) fn path_length(&self) -> Result<Option<u32>, Malformed> {
        let constraints = self.0.basic_constraints().map_err(malformed)?;
        Ok(constraints.and_then(|c| c.value.path_len_constraint))
    }

    /// Whether it constrains the URI names below it (RFC 5280 section 4.2.1.10).
    pub(crate) fn constrains_uris(&self) -> Result<bool, Malformed> {
        let Some(constraints) = self.0.name_constraints().map_err(malformed)? else { return Ok(false) };
        let subtrees = constraints.value.permitted_subtrees.iter().chain(&constraints.value.excluded_subtrees);
        Ok(subtrees.flatten().any(|subtree| matches!(subtree.base, GeneralName::URI(_))))
    }

    /// The subject for people.
    pub(crate) fn subject_text(&self) -> String {
        self.0.subject().to_string()
    }

    pub(crate) fn subject(&self) -> &[u8] {
        self.0.subject().as_raw()
    }

    pub(crate) fn issuer(&self) -> &[u8] {
        self.0.issuer().as_raw()
    }

    pub(crate) fn issuer_text(&self) -> String {
        self.0.issuer().to_string()
    }

    /// Whether `below` has this subject as its issuer, and a signature by this key.
    pub(crate) fn issued(&self, below: &Parsed<'_>) -> bool {
        self.subject() == below.issuer() && below.0.verify_signature(Some(self.0.public_key())).is_ok()
    }

    pub(crate) fn validity(&self) -> Validity {
        let validity = self.0.validity();
        Validity {
            not_before: timestamp(validity.not_before.timestamp()),
            not_after: timestamp(validity.not_after.timestamp()),
        }
    }

    pub(crate) fn serial(&self) -> Serial {
        Serial::from_bytes(self.0.raw_serial())
    }

    /// Modulus and exponent without leading zeros, when the key is an RSA one.
    pub(crate) fn rsa(&self) -> Option<(&[u8], &[u8])> {
        let Ok(PublicKey::RSA(key)) = self.0.public_key().parsed() else { return None };
        Some((without_leading_zeros(key.modulus), without_leading_zeros(key.exponent)))
    }

    pub(crate) fn public_key(&self) -> &SubjectPublicKeyInfo<'_> {
        self.0.public_key()
    }
}

/// Why the name of an authority is not that of a trust domain.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AuthorityName {
    /// The certificate does not parse.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// More than one URI.
    #[error("it has {0} URI names: an authority has one, spiffe://<trust domain>, or none")]
    Many(usize),
    /// The URI is not a SPIFFE one.
    #[error("its URI name {0:?} does not start with spiffe://")]
    NotSpiffe(String),
    /// The URI does not name a trust domain.
    #[error("its URI name {0:?} does not name a trust domain: {1}")]
    NotTrustDomain(String, SpiffeIdError),
}

fn malformed(error: x509_parser::error::X509Error) -> Malformed {
    Malformed(error.to_string())
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    &bytes[start..]
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp(u64::try_from(seconds).unwrap_or(0))
}
