//! Headers that introduce a caller, as a client might send them itself.
//!
//! Owns their names and their removal. Never sets one: `introduction` does.

use http::{HeaderMap, HeaderName};

/// Names that only a gateway may set: ours, Envoy's, those of RFC 9440, Linkerd's.
const RESERVED: [&str; 4] = ["x-forwarded-client-cert", "client-cert", "client-cert-chain", "l5d-client-id"];
/// What every other name that only a gateway may set begins with.
const PREFIX: &str = "x-landbridge-";
/// A name clients may set and whose last value is ours: only its other spellings are refused.
const APPENDED: &str = "x-forwarded-for";

/// Removes every copy of a reserved header, and every name that a framework which turns header names into variables
/// (CGI, WSGI, PHP) reads as one: they write the same letter for `-`, `_` and sometimes any other punctuation.
pub(crate) fn remove(headers: &mut HeaderMap) {
    let mut found: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        if is_forged(name.as_str()) {
            found.push(name.clone());
        }
    }
    for name in found {
        headers.remove(name);
    }
}

fn is_forged(name: &str) -> bool {
    // Every reserved name begins with one of these; most others are sorted out here.
    if !matches!(name.as_bytes().first(), Some(b'x' | b'c' | b'l')) {
        return false;
    }
    RESERVED.iter().any(|reserved| reads_as(name, reserved))
        || name.get(..PREFIX.len()).is_some_and(|start| reads_as(start, PREFIX))
        || (name != APPENDED && reads_as(name, APPENDED))
}

/// Whether `name` is `reserved`, all punctuation taken for the same; header names are lower case here.
fn reads_as(name: &str, reserved: &str) -> bool {
    let folded = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
    name.len() == reserved.len() && name.bytes().zip(reserved.bytes()).all(|(a, b)| folded(a) == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_reserved_name_is_forged() {
        for name in [
            "x-forwarded-client-cert",
            "x_forwarded_client_cert",
            "x-forwarded_client-cert",
            "x.forwarded.client.cert",
            "client-cert",
            "client_cert",
            "client-cert-chain",
            "client_cert-chain",
            "l5d-client-id",
            "l5d_client_id",
            "x-landbridge-assurance",
            "x_landbridge_anything",
            "x-landbridge-",
            "x_forwarded_for",
            "x-forwarded_for",
        ] {
            assert!(is_forged(name), "{name}");
        }
    }

    #[test]
    fn other_names_are_let_through() {
        for name in [
            "x-forwarded-for",
            "x-forwarded-proto",
            "forwarded",
            "client-certificate",
            "x-client-cert",
            "x-landbridge",
            "cookie",
            "content-length",
            "l5d-client-ids",
            "xlandbridge-assurance",
        ] {
            assert!(!is_forged(name), "{name}");
        }
    }

    #[test]
    fn every_copy_is_removed_and_the_rest_stays() {
        let mut headers = HeaderMap::new();
        for name in ["client-cert", "client-cert", "accept", "x_landbridge_source_cluster", "accept"] {
            headers.append(HeaderName::from_static(name), http::HeaderValue::from_static("1"));
        }
        remove(&mut headers);
        assert_eq!(headers.keys_len(), 1);
        assert_eq!(headers.get_all("accept").iter().count(), 2);
    }
}
