//! Trust bundles as JWKS documents (SPIFFE Trust Domain and Bundle, section 4).
//!
//! Owns the text form. Never fetches a document, never merges two trust domains.

use std::time::Duration;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use federation_model::{
    bundle::{MAX_AUTHORITIES, TrustBundle},
    spiffe::TrustDomain,
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::{trust, trust::BundleFault, x509::Parsed};

/// The largest document read: 16 authorities of 8 KiB, and as much again for keys of other kinds.
pub const MAX_DOCUMENT: usize = 256 * 1024;
const X509_USE: &str = "x509-svid";

/// Why a document is not a bundle.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BundleError {
    /// Too large.
    #[error("the bundle document of {0} has {1} bytes, {MAX_DOCUMENT} are accepted")]
    TooLarge(TrustDomain, usize),
    /// Not the JSON expected.
    #[error(
        "the bundle document of {trust_domain} is not a SPIFFE bundle ({reason}): it is a JSON object with \"keys\""
    )]
    Json {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// Why.
        reason: String,
    },
    /// An X.509 entry without exactly one certificate.
    #[error(
        "key {index} in the bundle document of {trust_domain} has {count} certificates in x5c: an x509-svid key has exactly one"
    )]
    Certificates {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// Which key, from 0.
        index: usize,
        /// How many.
        count: usize,
    },
    /// A certificate that is not base64.
    #[error("key {index} in the bundle document of {trust_domain} is not base64 of DER: {reason}")]
    Encoding {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// Which key, from 0.
        index: usize,
        /// Why.
        reason: String,
    },
    /// An authority that is not usable.
    #[error(transparent)]
    Fault(#[from] BundleFault),
}

/// A bundle with what its publisher says about reading it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The bundle.
    pub bundle: TrustBundle,
    /// `spiffe_refresh_hint`, when there is one.
    pub refresh_hint: Option<Duration>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    keys: Vec<Key>,
    #[serde(default)]
    spiffe_sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spiffe_refresh_hint: Option<u64>,
}

#[derive(Default, Serialize, Deserialize)]
struct Key {
    #[serde(default)]
    kty: String,
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    crv: Option<&'static str>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    x5c: Vec<String>,
}

/// The document of a bundle.
#[must_use]
pub fn to_jwks(bundle: &TrustBundle, refresh_hint: Duration) -> String {
    let document = Document {
        keys: bundle.authorities.iter().map(key).collect(),
        spiffe_sequence: bundle.sequence,
        spiffe_refresh_hint: Some(refresh_hint.as_secs()),
    };
    serde_json::to_string_pretty(&document).expect("texts and numbers alone always serialize")
}

/// Reads the document of one trust domain. Keys of other kinds and uses are passed over, as the specification demands.
///
/// # Errors
/// When it is not a bundle, or holds an authority that is not usable.
pub fn from_jwks(td: &TrustDomain, text: &str) -> Result<Published, BundleError> {
    if text.len() > MAX_DOCUMENT {
        return Err(BundleError::TooLarge(td.clone(), text.len()));
    }
    let document: Document = serde_json::from_str(text)
        .map_err(|e| BundleError::Json { trust_domain: td.clone(), reason: e.to_string() })?;
    let mut authorities = Vec::new();
    for (index, key) in document.keys.iter().enumerate() {
        let known = matches!(key.kty.as_str(), "EC" | "RSA" | "OKP");
        if !known || key.usage.as_deref() != Some(X509_USE) {
            continue;
        }
        let [certificate] = key.x5c.as_slice() else {
            return Err(BundleError::Certificates { trust_domain: td.clone(), index, count: key.x5c.len() });
        };
        let der = BASE64_STANDARD.decode(certificate).map_err(|e| BundleError::Encoding {
            trust_domain: td.clone(),
            index,
            reason: e.to_string(),
        })?;
        authorities.push(CertificateDer::from(der));
        if authorities.len() > MAX_AUTHORITIES {
            return Err(BundleFault::TooMany(td.clone(), document.keys.len()).into());
        }
    }
    let bundle = TrustBundle { trust_domain: td.clone(), sequence: document.spiffe_sequence, authorities };
    trust::check(&bundle)?;
    Ok(Published { bundle, refresh_hint: document.spiffe_refresh_hint.map(Duration::from_secs) })
}

fn key(der: &CertificateDer<'_>) -> Key {
    let shared = Key { usage: Some(X509_USE.into()), x5c: vec![BASE64_STANDARD.encode(der)], ..Key::default() };
    let Ok(parsed) = Parsed::from_der(der) else { return shared };
    let point = parsed.public_key().subject_public_key.data.as_ref();
    let encode = |bytes: &[u8]| Some(BASE64_URL_SAFE_NO_PAD.encode(bytes));
    // An uncompressed point is 04, x, y (SEC 1 section 2.3.3), its length tells the curve; an Ed25519 key is x alone.
    let crv = match (point.first(), point.len()) {
        (Some(4), 65) => Some("P-256"),
        (Some(4), 97) => Some("P-384"),
        (Some(4), 133) => Some("P-521"),
        _ => None,
    };
    if crv.is_some() {
        let (x, y) = point[1..].split_at(point.len() / 2);
        return Key { kty: "EC".into(), crv, x: encode(x), y: encode(y), ..shared };
    }
    match parsed.rsa() {
        Some((n, e)) => Key { kty: "RSA".into(), n: encode(n), e: encode(e), ..shared },
        None => Key { kty: "OKP".into(), crv: Some("Ed25519"), x: encode(point), ..shared },
    }
}

#[cfg(test)]
mod tests {
    use federation_model::time::Timestamp;

    use super::*;
    use crate::{Validity, ca::Authority};

    fn authority(td: &TrustDomain) -> Authority {
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        Authority::generate(td, "root", validity).unwrap()
    }

    #[test]
    fn a_bundle_survives_its_document() {
        let td = TrustDomain::new("east.example").unwrap();
        let mut bundle = authority(&td).bundle(7);
        bundle.authorities.push(authority(&td).certificate().clone());
        let text = to_jwks(&bundle, Duration::from_secs(300));
        assert!(text.contains("\"kty\": \"EC\"") && text.contains("\"crv\": \"P-256\""), "{text}");
        let read = from_jwks(&td, &text).unwrap();
        assert_eq!(read, Published { bundle, refresh_hint: Some(Duration::from_secs(300)) });
    }

    #[test]
    fn keys_of_unknown_kind_or_use_are_passed_over_and_no_keys_means_nothing_is_trusted() {
        let td = TrustDomain::new("east.example").unwrap();
        let text = r#"{"keys":[{"kty":"EC","use":"jwt-svid","kid":"1","crv":"P-256","x":"a","y":"b"},
            {"kty":"new","use":"x509-svid"},{"kty":"EC","use":"wit-svid"}],"spiffe_sequence":3}"#;
        let read = from_jwks(&td, text).unwrap();
        assert_eq!((read.bundle.sequence, read.bundle.authorities.len(), read.refresh_hint), (3, 0, None));
    }

    #[test]
    fn malformed_documents_are_refused() {
        let td = TrustDomain::new("east.example").unwrap();
        let other = authority(&TrustDomain::new("west.example").unwrap()).bundle(1);
        for text in [
            "",
            "[]",
            "{}",
            r#"{"keys":[],"keys":[]}"#,
            r#"{"keys":[],"spiffe_sequence":1,"spiffe_sequence":2}"#,
            r#"{"keys":[{"kty":"EC","use":"x509-svid"}]}"#,
            r#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":["a","b"]}]}"#,
            r#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":["!"]}]}"#,
            r#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":["AAAA"]}]}"#,
            to_jwks(&other, Duration::ZERO).as_str(),
            " ".repeat(MAX_DOCUMENT + 1).as_str(),
        ] {
            assert!(from_jwks(&td, text).is_err(), "{}", &text[..text.len().min(80)]);
        }
    }
}
