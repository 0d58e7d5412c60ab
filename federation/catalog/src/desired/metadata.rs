//! What other clusters may write into the metadata of objects here.
//!
//! Owns the rules for labels, annotations and application protocols that come from exports. A label can make a controller act
//! (prune, select, mirror), so what belongs to Kubernetes or to Landbridge is never taken from another cluster, and what the
//! API server would refuse is left out rather than keep the whole object from being written.

use std::collections::BTreeMap;

/// The longest name of a label, annotation or application protocol, its prefix excepted.
const MAX_NAME: usize = 63;
/// The longest prefix: a DNS name.
const MAX_PREFIX: usize = 253;
/// Domains whose names mean something to controllers.
const RESERVED: [&str; 4] = ["kubernetes.io", "k8s.io", "x-k8s.io", "landbridge.dev"];

/// The exported labels that are written into a ServiceImport.
pub(super) fn labels(exported: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let fits = |value: &str| value.is_empty() || is_name(value);
    taken(exported).filter(|(_, value)| fits(value)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The exported annotations that are written into a ServiceImport.
pub(super) fn annotations(exported: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    taken(exported).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// An application protocol that the API server accepts.
pub(super) fn app_protocol(exported: Option<&str>) -> Option<String> {
    exported.filter(|word| is_qualified(word)).map(ToOwned::to_owned)
}

fn taken(exported: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    exported.iter().filter(|(name, _)| is_qualified(name) && !is_reserved(name))
}

fn is_reserved(name: &str) -> bool {
    let prefix = name.split_once('/').map(|(prefix, _)| prefix);
    prefix.is_some_and(|prefix| {
        RESERVED.iter().any(|domain| prefix == *domain || prefix.strip_suffix(domain).is_some_and(|p| p.ends_with('.')))
    })
}

/// A qualified name of Kubernetes: an optional DNS name and a slash before a name.
fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_name(prefix) && is_name(name),
        None => is_name(text),
    }
}

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_NAME && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().copied().all(inner)
}

fn is_dns_name(text: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label =
        |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(lower);
    text.len() <= MAX_PREFIX && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, value: &str) -> bool {
        !labels(&BTreeMap::from([(name.to_owned(), value.to_owned())])).is_empty()
    }

    #[test]
    fn labels_that_mean_something_to_kubernetes_or_to_us_are_not_taken_from_another_cluster() {
        assert!(kept("team", "shop"));
        assert!(kept("example.com/team", ""));
        for name in ["app.kubernetes.io/managed-by", "kubernetes.io/x", "a.b.k8s.io/x", "landbridge.dev/x"] {
            assert!(!kept(name, "x"), "{name}");
        }
        assert!(kept("notkubernetes.io/x", "x"));
    }

    #[test]
    fn what_the_api_server_would_refuse_is_left_out() {
        for (name, value) in [("a b", "x"), ("-a", "x"), ("/a", "x"), ("a/b/c", "x"), ("A.b/c", "x"), ("a", "x y")] {
            assert!(!kept(name, value), "{name}={value}");
        }
        assert!(!kept(&"n".repeat(64), "x"));
        assert_eq!(app_protocol(Some("kubernetes.io/h2c")).as_deref(), Some("kubernetes.io/h2c"));
        assert_eq!(app_protocol(Some("h2c; drop")), None);
    }
}
