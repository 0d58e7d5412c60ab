//! A Secret that holds the state of a gateway, whose pods come and go.
//!
//! Owns reading and writing it whole, and that nobody overwrites what he has not seen. Never looks into what it holds.

use std::{collections::BTreeMap, fmt};

use federation_catalog::desired::{MANAGED_BY, MANAGER};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, api::PostParams};

use crate::{call::CallError, connect::Cluster};

/// The most bytes of a Secret that an API server takes, with some room for its metadata.
pub const MAX_BYTES: usize = 1000 * 1000;

/// The Secret of one gateway Deployment.
pub struct StateSecret {
    secrets: Api<Secret>,
    name: String,
    server: String,
}

/// What the Secret holds, by key. Never shown: keys are in it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Contents(pub BTreeMap<String, Vec<u8>>);

/// A version of the Secret that was read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(Option<String>);

/// Why the state is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// Another gateway wrote meanwhile.
    #[error("another gateway wrote Secret {0} meanwhile")]
    Overtaken(String),
    /// More than a Secret holds.
    #[error("the state has {bytes} bytes, and a Secret holds {MAX_BYTES}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// The API server refuses, or cannot be reached.
    #[error("Secret {name}: {error}")]
    Call {
        /// Its name.
        name: String,
        /// Why.
        error: CallError,
    },
}

impl KeepError {
    /// Whether the same may succeed later without anybody doing anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Overtaken(_) => true,
            Self::TooLarge { .. } => false,
            Self::Call { error, .. } => match error {
                CallError::Unreachable { .. }
                | CallError::Throttled { .. }
                | CallError::Failed { .. }
                | CallError::Expired { .. }
                | CallError::Conflict { .. }
                | CallError::Unauthorized { .. } => true,
                CallError::Untrusted { .. }
                | CallError::Forbidden { .. }
                | CallError::NotFound { .. }
                | CallError::Rejected { .. }
                | CallError::Unreadable { .. }
                | CallError::Credentials { .. } => false,
            },
        }
    }
}

impl Version {
    /// The resource version.
    #[must_use]
    pub fn number(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Debug for StateSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl StateSecret {
    /// The Secret `name` of `namespace`. Asks for nothing yet.
    #[must_use]
    pub fn new(cluster: &Cluster, namespace: &str, name: &str) -> Self {
        Self {
            secrets: Api::namespaced(cluster.client(), namespace),
            name: name.to_owned(),
            server: cluster.server().to_owned(),
        }
    }

    /// What it holds; nothing when there is none yet.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn load(&self) -> Result<Option<(Contents, Version)>, KeepError> {
        let secret = self.secrets.get_opt(&self.name).await.map_err(|error| self.failed(&error))?;
        Ok(secret.map(|secret| {
            let contents = secret.data.into_iter().flatten().map(|(key, ByteString(bytes))| (key, bytes)).collect();
            (Contents(contents), Version(secret.metadata.resource_version))
        }))
    }

    /// Writes all of it: over the version that was read, or as a new one where there was none.
    ///
    /// # Errors
    /// When it was changed meanwhile, is too large, or cannot be written.
    pub async fn save(&self, contents: &Contents, over: Option<&Version>) -> Result<Version, KeepError> {
        let bytes = contents.0.iter().map(|(key, bytes)| key.len() + bytes.len()).sum();
        if bytes > MAX_BYTES {
            return Err(KeepError::TooLarge { bytes });
        }
        let data = contents.0.iter().map(|(key, bytes)| (key.clone(), ByteString(bytes.clone()))).collect();
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: over.and_then(|version| version.0.clone()),
                labels: Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
                ..ObjectMeta::default()
            },
            type_: Some("landbridge.dev/state".to_owned()),
            data: Some(data),
            ..Secret::default()
        };
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let written = match over {
            Some(_) => self.secrets.replace(&self.name, &parameters, &secret).await,
            None => self.secrets.create(&parameters, &secret).await,
        };
        written.map(|secret| Version(secret.metadata.resource_version)).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &kube::Error) -> KeepError {
        let (name, error) = (self.name.clone(), CallError::of(error, &self.server));
        if matches!(error, CallError::Conflict { .. }) {
            KeepError::Overtaken(name)
        } else {
            KeepError::Call { name, error }
        }
    }
}
