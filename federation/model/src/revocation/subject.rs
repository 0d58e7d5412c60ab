//! What can be revoked, and how a person writes it.
//!
//! Owns the rule that a prefix covers whole path segments, and the one form of a serial number. Never looks anything up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    names::ClusterName,
    spiffe::{MAX_SPIFFE_ID, SpiffeId, SpiffeIdError, TrustDomain, parse_workload_id},
};

/// The longest serial number, in bytes (RFC 5280 section 4.1.2.2).
pub const MAX_SERIAL: usize = 20;

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A cluster with everything of its trust domain; neither its name nor its trust domain may join again.
    Cluster {
        /// Its name.
        cluster: ClusterName,
        /// Its trust domain.
        trust_domain: TrustDomain,
    },
    /// One SPIFFE ID.
    Id(SpiffeId),
    /// Every SPIFFE ID under a prefix.
    Prefix(IdPrefix),
    /// One certificate.
    Serial {
        /// The trust domain whose authority issued it: serial numbers are unique within it alone.
        trust_domain: TrustDomain,
        /// Its serial number.
        serial: Serial,
    },
}

/// Why a text is no SPIFFE ID, or prefix of some, that could be revoked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SubjectError {
    /// The grammar is not met.
    #[error(
        "{text:?} is not a SPIFFE ID ({reason}): write spiffe://<trust domain>/<path>, or spiffe://<trust domain>/<path>/* for all below it"
    )]
    NotSpiffe {
        /// The text.
        text: String,
        /// Why.
        reason: SpiffeIdError,
    },
    /// A trust domain is named as if it were an id.
    #[error("{0} names a trust domain: write {0}/* to revoke everything in it")]
    TrustDomain(SpiffeId),
}

impl Subject {
    /// Reads a SPIFFE ID, or with `/*` at its end the prefix of all ids at and below it.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse_id(text: &str) -> Result<Self, SubjectError> {
        let fail = |reason| SubjectError::NotSpiffe { text: text.chars().take(120).collect(), reason };
        if text.ends_with("/*") {
            return text.parse().map(Self::Prefix).map_err(fail);
        }
        match SpiffeId::new(text).map_err(fail)? {
            id if id.path().is_empty() => Err(SubjectError::TrustDomain(id)),
            id => parse_workload_id(&id.to_string()).map(Self::Id).map_err(fail),
        }
    }

    /// The trust domain it lies in.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Cluster { trust_domain, .. } | Self::Serial { trust_domain, .. } => trust_domain,
            Self::Id(id) => id.trust_domain(),
            Self::Prefix(prefix) => prefix.trust_domain(),
        }
    }

    /// Whether `id` is covered, whatever certificate it is proven by.
    #[must_use]
    pub fn covers(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Cluster { trust_domain, .. } => id.is_member_of(trust_domain),
            Self::Id(revoked) => revoked == id,
            Self::Prefix(prefix) => prefix.covers(id),
            Self::Serial { .. } => false,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster { cluster, trust_domain } => write!(f, "cluster {cluster} ({trust_domain})"),
            Self::Id(id) => write!(f, "id {id}"),
            Self::Prefix(prefix) => write!(f, "id {prefix}"),
            Self::Serial { trust_domain, serial } => write!(f, "serial {serial} of {trust_domain}"),
        }
    }
}

/// All SPIFFE IDs at and below a path, written with `/*` at the end: `spiffe://west.example/ns/a/*` covers
/// `spiffe://west.example/ns/a` and `spiffe://west.example/ns/a/sa/b`, never `spiffe://west.example/ns/ab`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdPrefix(SpiffeId);

impl IdPrefix {
    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        self.0.trust_domain()
    }

    /// The path; empty for the whole trust domain.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// Whether `id` is at or below it.
    #[must_use]
    pub fn covers(&self, id: &SpiffeId) -> bool {
        let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        id.is_member_of(self.trust_domain()) && id.path().strip_prefix(self.path()).is_some_and(below)
    }
}

impl FromStr for IdPrefix {
    type Err = SpiffeIdError;
    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > MAX_SPIFFE_ID {
            return Err(SpiffeIdError::SpiffeIdTooLong { max: MAX_SPIFFE_ID });
        }
        SpiffeId::new(text.strip_suffix("/*").unwrap_or(text)).map(Self)
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/*", self.0)
    }
}

impl fmt::Debug for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The serial number of a certificate: lowercase hexadecimal, whole bytes, no leading zero bytes (DER writes one where the
/// highest bit is set, `openssl` leaves it out).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(String);

impl Serial {
    /// The serial number in these bytes, big endian.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or_else(|| bytes.len().saturating_sub(1));
        Self(bytes.iter().skip(start).map(|byte| format!("{byte:02x}")).collect())
    }

    /// The hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is not a serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the serial number of a certificate: write 1 to 40 hexadecimal digits, with or without colons, as openssl x509 -serial shows it"
)]
pub struct SerialError(String);

impl FromStr for Serial {
    type Err = SerialError;
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let fail = || SerialError(text.chars().take(80).collect());
        let digits: String = text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
        let digits = digits.trim_start_matches('0');
        let hex = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let zero = digits.is_empty() && text.contains('0');
        if !hex || digits.len() > 2 * MAX_SERIAL || (digits.is_empty() && !zero) {
            return Err(fail());
        }
        let padding = if digits.is_empty() { "00" } else { &"0"[..digits.len() % 2] };
        Ok(Self(format!("{padding}{digits}")))
    }
}

impl TryFrom<String> for Serial {
    type Error = SerialError;
    fn try_from(text: String) -> Result<Self, SerialError> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
