//! What of an import has an address.
//!
//! Owns the keys and their text form. Never gives addresses: the range of a stand-alone gateway does, or the derived Services
//! of a Kubernetes cluster.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Import, ImportKind, ImportSource, Imports};
use crate::names::{ClusterName, EndpointName, NameError, ServiceKey};

/// What has an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AddressKey {
    /// A service as a whole.
    Service(ServiceKey),
    /// One endpoint of a headless service.
    Endpoint(ServiceKey, ClusterName, EndpointName),
}

impl AddressKey {
    /// The service it belongs to.
    #[must_use]
    pub fn service(&self) -> &ServiceKey {
        match self {
            Self::Service(service) | Self::Endpoint(service, _, _) => service,
        }
    }
}

impl fmt::Display for AddressKey {
    /// `namespace/name`, or `namespace/name/cluster/endpoint`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(f, "{service}"),
            Self::Endpoint(service, cluster, endpoint) => write!(f, "{service}/{cluster}/{endpoint}"),
        }
    }
}

/// Why a string is not an [`AddressKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressKeyError {
    /// It has neither two nor four parts.
    #[error("{0:?} is neither namespace/name nor namespace/name/cluster/endpoint")]
    Shape(String),
    /// A part is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for AddressKey {
    type Err = AddressKeyError;
    fn from_str(text: &str) -> Result<Self, AddressKeyError> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(namespace), Some(name), None, None, None) => {
                Ok(Self::Service(ServiceKey::new(namespace.parse()?, name.parse()?)))
            }
            (Some(namespace), Some(name), Some(cluster), Some(endpoint), None) => {
                let service = ServiceKey::new(namespace.parse()?, name.parse()?);
                Ok(Self::Endpoint(service, cluster.parse()?, endpoint.parse()?))
            }
            _ => Err(AddressKeyError::Shape(text.chars().take(300).collect())),
        }
    }
}

impl TryFrom<String> for AddressKey {
    type Error = AddressKeyError;
    fn try_from(text: String) -> Result<Self, AddressKeyError> {
        text.parse()
    }
}

impl From<AddressKey> for String {
    fn from(key: AddressKey) -> Self {
        key.to_string()
    }
}

/// The addresses that imports need: one for each service, or for each endpoint of a headless one.
#[must_use]
pub fn address_keys(imports: &Imports) -> BTreeSet<AddressKey> {
    imports.iter().flat_map(|(service, import)| keys_of(service, import)).collect()
}

/// The addresses that one import needs.
#[must_use]
pub fn keys_of(service: &ServiceKey, import: &Import) -> Vec<AddressKey> {
    match import.kind {
        ImportKind::ClusterSetIp => vec![AddressKey::Service(service.clone())],
        ImportKind::Headless => {
            let of_source = |(cluster, source): (&ClusterName, &ImportSource)| {
                let key = |name: &EndpointName| AddressKey::Endpoint(service.clone(), cluster.clone(), name.clone());
                source.endpoints.iter().map(key).collect::<Vec<_>>()
            };
            import.sources.iter().flat_map(of_source).collect()
        }
    }
}
