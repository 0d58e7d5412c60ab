//! Names of clusters, namespaces, services, ports and endpoints, valid by construction.
//!
//! Owns the label grammar (RFC 1123 section 2.1). Never builds DNS names: that is
//! [`crate::sni`] and the name table of the gateway.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest label of a DNS name, in bytes (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;
/// The longest port name, in bytes: Kubernetes wants a label for Service ports; RFC 6335's 15 bytes bind container ports alone.
pub const MAX_PORT_NAME: usize = MAX_LABEL;

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {reason}")]
pub struct NameError {
    kind: &'static str,
    text: String,
    reason: &'static str,
}

fn check_label(kind: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    let fail = |reason| Err(NameError { kind, text: text.chars().take(80).collect(), reason });
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (None, _) | (_, None) => return fail("it is empty"),
        (Some(b'-'), _) | (_, Some(b'-')) => return fail("it starts or ends with '-'"),
        (Some(_), Some(_)) => {}
    }
    if bytes.len() > max {
        return fail("it is too long (63 characters at most)");
    }
    if !bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        return fail("only lowercase letters, digits and '-' may be used");
    }
    Ok(())
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check_label($kind, text, $max)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

label!(
    /// The name of a cluster in its set, an RFC 1123 label; also its id (KEP-1645: id = name).
    ClusterName, "cluster name", MAX_LABEL
);
label!(
    /// A Kubernetes namespace.
    Namespace, "namespace", MAX_LABEL
);
label!(
    /// The name of a Service.
    ServiceName, "service name", MAX_LABEL
);
label!(
    /// The name of a service port.
    PortName, "port name", MAX_PORT_NAME
);
label!(
    /// The host label of one endpoint of a headless service: its `hostname`, else its dashed IP address.
    EndpointName, "endpoint name", MAX_LABEL
);

/// A service by namespace and name: the same in every cluster of the set (KEP-1645, namespace sameness).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceKey {
    /// The namespace.
    pub namespace: Namespace,
    /// The name within the namespace.
    pub name: ServiceName,
}

impl ServiceKey {
    /// A key from its two parts.
    #[must_use]
    pub fn new(namespace: Namespace, name: ServiceName) -> Self {
        Self { namespace, name }
    }
}

impl FromStr for ServiceKey {
    type Err = NameError;
    /// Parses `namespace/name`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((namespace, name)) = text.split_once('/') else {
            return Err(NameError {
                kind: "service",
                text: text.chars().take(130).collect(),
                reason: "it is written namespace/name",
            });
        };
        Ok(Self::new(namespace.parse()?, name.parse()?))
    }
}

impl TryFrom<String> for ServiceKey {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ServiceKey> for String {
    fn from(key: ServiceKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_outside_the_grammar_are_refused_with_the_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("-a", "starts or ends"),
            ("a-", "starts or ends"),
            ("A", "lowercase"),
            ("a.b", "lowercase"),
            ("a_b", "lowercase"),
            ("é", "lowercase"),
        ] {
            let error = text.parse::<ClusterName>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        assert!("a".repeat(63).parse::<ServiceName>().is_ok());
        assert!("a".repeat(64).parse::<ServiceName>().is_err());
        assert!("a".repeat(64).parse::<PortName>().is_err());
    }

    proptest! {
        #[test]
        fn every_label_survives_display_and_parse(text in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            let name: Namespace = text.parse().unwrap();
            prop_assert_eq!(name.to_string(), text);
        }

        #[test]
        fn every_service_key_survives_display_and_parse(ns in "[a-z0-9]{1,20}", name in "[a-z][a-z0-9]{0,20}") {
            let key = ServiceKey::new(ns.parse().unwrap(), name.parse().unwrap());
            prop_assert_eq!(key.to_string().parse::<ServiceKey>().unwrap(), key);
        }

        #[test]
        fn parsing_arbitrary_text_never_panics(text in "\\PC*") {
            let _ = text.parse::<ServiceKey>();
        }
    }
}
