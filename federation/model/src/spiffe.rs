//! SPIFFE trust domains and ids, parsed by the `spiffe` crate.
//!
//! Owns how they are written in stored values. Never compares ids by text: the parsed value is the identity.

pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};

/// The longest SPIFFE ID accepted or sent, in bytes (SPIFFE-ID section 2.3).
pub const MAX_SPIFFE_ID: usize = 2048;

/// Parses a SPIFFE ID that names a workload: at most [`MAX_SPIFFE_ID`] bytes, with a path.
///
/// # Errors
/// When the grammar is not met, the text is too long, or there is no path (such an id names a trust domain).
pub fn parse_workload_id(text: &str) -> Result<SpiffeId, SpiffeIdError> {
    if text.len() > MAX_SPIFFE_ID {
        return Err(SpiffeIdError::SpiffeIdTooLong { max: MAX_SPIFFE_ID });
    }
    let id = SpiffeId::new(text)?;
    if id.path().is_empty() {
        return Err(SpiffeIdError::EmptySegment);
    }
    Ok(id)
}

/// The id of a Kubernetes workload, `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
///
/// # Errors
/// When the service account has characters a SPIFFE path cannot hold.
pub fn service_account_id(
    trust_domain: &TrustDomain,
    namespace: &crate::names::Namespace,
    service_account: &str,
) -> Result<SpiffeId, SpiffeIdError> {
    SpiffeId::from_segments(trust_domain.clone(), &["ns", namespace.as_str(), "sa", service_account])
}

/// `#[serde(with = "as_text")]` for [`SpiffeId`] and [`TrustDomain`].
pub mod as_text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the value as text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads the value from text.
    ///
    /// # Errors
    /// When the text does not parse.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
