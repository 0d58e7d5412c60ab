//! What is watched at an API server.
//!
//! Owns the names of the kinds there, and the versions that are read, the preferred one first. Never watches.

use std::fmt;

use federation_model::names::Namespace;
use kube::core::{ApiResource, GroupVersionKind};

use crate::{
    crd::{GROUP, policy},
    document::Kind,
};

/// A kind that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    /// `v1` Namespaces, their names alone.
    Namespaces,
    /// `v1` Services.
    Services,
    /// `discovery.k8s.io/v1` EndpointSlices.
    EndpointSlices,
    /// `v1` Pods.
    Pods,
    /// `multicluster.x-k8s.io` ServiceExports.
    ServiceExports,
    /// `policy.landbridge.dev` AuthorizationPolicies.
    AuthorizationPolicies,
    /// `policy.landbridge.dev` PeerAuthentications.
    PeerAuthentications,
}

impl Watched {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Namespaces,
        Self::Services,
        Self::EndpointSlices,
        Self::Pods,
        Self::ServiceExports,
        Self::AuthorizationPolicies,
        Self::PeerAuthentications,
    ];

    /// The name of the resource in URLs, roles and `kubectl`.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Pods => "pods",
            Self::ServiceExports => "serviceexports",
            Self::AuthorizationPolicies => "authorizationpolicies",
            Self::PeerAuthentications => "peerauthentications",
        }
    }

    /// The API group; empty for the core group.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::Namespaces | Self::Services | Self::Pods => "",
            Self::EndpointSlices => "discovery.k8s.io",
            Self::ServiceExports => GROUP,
            Self::AuthorizationPolicies | Self::PeerAuthentications => policy::GROUP,
        }
    }

    /// The versions that are read, the preferred one first.
    pub(super) const fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Namespaces | Self::Services | Self::Pods | Self::EndpointSlices => &["v1"],
            Self::ServiceExports => &["v1beta1", "v1alpha1"],
            Self::AuthorizationPolicies | Self::PeerAuthentications => &[policy::VERSION],
        }
    }

    /// Whether it is there only when somebody installed it.
    pub(super) const fn is_custom(self) -> bool {
        match self {
            Self::Namespaces | Self::Services | Self::Pods | Self::EndpointSlices => false,
            Self::ServiceExports | Self::AuthorizationPolicies | Self::PeerAuthentications => true,
        }
    }

    /// The kind of its objects, as manifests have it; nothing for namespaces, which no manifest needs.
    pub(super) const fn kind(self) -> Option<Kind> {
        match self {
            Self::Namespaces => None,
            Self::Services => Some(Kind::Service),
            Self::EndpointSlices => Some(Kind::EndpointSlice),
            Self::Pods => Some(Kind::Pod),
            Self::ServiceExports => Some(Kind::ServiceExport),
            Self::AuthorizationPolicies => Some(Kind::AuthorizationPolicy),
            Self::PeerAuthentications => Some(Kind::PeerAuthentication),
        }
    }

    /// The resource in the version with this number.
    pub(super) fn api_resource(self, version: &str) -> ApiResource {
        let kind = self.kind().map_or("Namespace", Kind::name);
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(self.group(), version, kind), self.resource())
    }
}

/// `pods`, `serviceexports.multicluster.x-k8s.io`: as `kubectl` takes it.
impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource())?;
        if self.group().is_empty() { Ok(()) } else { write!(f, ".{}", self.group()) }
    }
}

/// One watch: a kind, in one namespace or in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchId {
    /// The kind.
    pub watched: Watched,
    /// The namespace; all when there is none.
    pub namespace: Option<Namespace>,
}

impl fmt::Display for WatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.watched.resource())?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}
