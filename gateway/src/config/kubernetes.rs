//! How a gateway in a Kubernetes cluster reaches its API server, and what it watches there.
//!
//! Owns what is found out when a setting is empty. Never connects.

use std::{fs, path::PathBuf};

use federation_catalog::desired::PortRange;
use federation_kube::connect::{Access, ConnectOptions};
use federation_model::{
    names::{NameError, Namespace},
    spiffe::as_text,
};
use serde::Deserialize;

/// The most of `kubernetes.namespaces`: each has a watch for every kind.
pub(super) const MAX_NAMESPACES: usize = 64;
/// Where Kubernetes tells a pod its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The Secret with the state of a gateway.
const STATE_SECRET: &str = "landbridge-gateway-state";

/// `[kubernetes]`, used when `catalog.source` is `kubernetes`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// The kubeconfig file; without one, the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; without one, its current one.
    pub context: Option<String>,
    /// The namespace of this gateway; without one, what the pod says.
    pub namespace: Option<Namespace>,
    /// The namespaces that are watched; the whole cluster when empty.
    pub namespaces: Vec<Namespace>,
    /// The name of the pod; without one, that in `POD_NAME`.
    pub pod: Option<String>,
    /// The Secret that keeps the state of the gateway when its pod ends; off when empty.
    pub state_secret: Option<String>,
    /// The ports that gateway pods listen on for imports.
    #[serde(with = "as_text")]
    pub import_ports: PortRange,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        // Below the range that Linux takes ports of outgoing connections from, and that of node ports.
        let import_ports = "20000-29999".parse().expect("a constant of two numbers, the smaller one first, is a range");
        Self {
            kubeconfig: None,
            context: None,
            namespace: None,
            namespaces: Vec::new(),
            pod: None,
            state_secret: Some(STATE_SECRET.to_owned()),
            import_ports,
        }
    }
}

/// Why it is not known which namespace the gateway is in.
#[derive(Debug, thiserror::Error)]
pub enum OwnNamespaceError {
    /// Nothing says so.
    #[error(
        "the namespace of this gateway is not known: set kubernetes.namespace, or POD_NAMESPACE from metadata.namespace in the pod"
    )]
    Unknown,
    /// What says so is no namespace.
    #[error("{from} does not name a namespace: {source}")]
    Invalid {
        /// Where it was read.
        from: &'static str,
        /// What is wrong with it.
        source: NameError,
    },
}

impl KubernetesConfig {
    /// Which API server, as whom.
    #[must_use]
    pub fn connect_options(&self) -> ConnectOptions {
        ConnectOptions {
            access: match &self.kubeconfig {
                None => Access::Pod,
                Some(file) => Access::File(file.clone(), self.context.clone()),
            },
            user_agent: concat!("landbridge-gateway/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// The namespace of this gateway: the setting, else `POD_NAMESPACE`, else that of the service account.
    ///
    /// # Errors
    /// When none of them names one.
    pub fn own_namespace(&self) -> Result<Namespace, OwnNamespaceError> {
        if let Some(namespace) = &self.namespace {
            return Ok(namespace.clone());
        }
        let found = [
            ("POD_NAMESPACE", std::env::var("POD_NAMESPACE").ok()),
            (NAMESPACE_FILE, fs::read_to_string(NAMESPACE_FILE).ok()),
        ];
        let mut named = found.iter().filter_map(|(from, text)| Some((*from, text.as_deref()?.trim())));
        let (from, text) = named.find(|(_, text)| !text.is_empty()).ok_or(OwnNamespaceError::Unknown)?;
        text.parse().map_err(|source| OwnNamespaceError::Invalid { from, source })
    }

    /// The name of this gateway's pod: the setting, else `POD_NAME`.
    #[must_use]
    pub fn pod_name(&self) -> Option<String> {
        self.pod.clone().or_else(|| std::env::var("POD_NAME").ok()).filter(|name| !name.is_empty())
    }
}
