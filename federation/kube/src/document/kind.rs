//! The kinds that are read, and an object of one of them.
//!
//! Owns their names, groups and versions. Never parses.

use std::fmt;

use federation_catalog::objects::{EndpointSliceObject, Objects, PodObject, ServiceExportObject, ServiceObject};
use federation_model::policy::{AuthorizationPolicy, PeerAuthentication, PolicyKey, PolicyKind};

use crate::crd;

/// The kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Service,
    EndpointSlice,
    Pod,
    ServiceExport,
    AuthorizationPolicy,
    PeerAuthentication,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Service,
        Self::EndpointSlice,
        Self::Pod,
        Self::ServiceExport,
        Self::AuthorizationPolicy,
        Self::PeerAuthentication,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            Self::ServiceExport => "ServiceExport",
            Self::AuthorizationPolicy => PolicyKind::Authorization.name(),
            Self::PeerAuthentication => PolicyKind::Authentication.name(),
        }
    }

    /// The API groups a document of this kind may be meant for, the right one first; others define kinds of the same name.
    pub(crate) const fn groups(self) -> &'static [&'static str] {
        match self {
            Self::Service | Self::Pod => &[""],
            Self::EndpointSlice => &["discovery.k8s.io"],
            // The second is the group of the examples in KEP-1645, for which no resource was ever published.
            Self::ServiceExport => &[crd::GROUP, "multicluster.k8s.io"],
            // Those are what somebody writes who does not look it up.
            Self::AuthorizationPolicy | Self::PeerAuthentication => {
                &[crd::policy::GROUP, "landbridge.dev", "security.landbridge.dev", "policies.landbridge.dev"]
            }
        }
    }

    /// The versions that are read, the preferred one first.
    pub(crate) const fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Service | Self::Pod => &["v1"],
            Self::EndpointSlice => &["discovery.k8s.io/v1"],
            Self::ServiceExport => &["multicluster.x-k8s.io/v1beta1", "multicluster.x-k8s.io/v1alpha1"],
            Self::AuthorizationPolicy | Self::PeerAuthentication => &[crd::policy::API_VERSION],
        }
    }

    /// Which kind of policy it is, if it is one.
    pub(crate) const fn policy(self) -> Option<PolicyKind> {
        match self {
            Self::Service | Self::EndpointSlice | Self::Pod | Self::ServiceExport => None,
            Self::AuthorizationPolicy => Some(PolicyKind::Authorization),
            Self::PeerAuthentication => Some(PolicyKind::Authentication),
        }
    }
}

/// An object among all of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectId {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

/// One object that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Object {
    Service(ServiceObject),
    EndpointSlice(EndpointSliceObject),
    Pod(PodObject),
    ServiceExport(ServiceExportObject),
    AuthorizationPolicy(AuthorizationPolicy),
    PeerAuthentication(PeerAuthentication),
}

impl Object {
    /// Which policy it is, when it is one.
    pub(crate) fn policy(&self) -> Option<(PolicyKind, PolicyKey)> {
        match self {
            Self::AuthorizationPolicy(policy) => Some((PolicyKind::Authorization, policy.key.clone())),
            Self::PeerAuthentication(policy) => Some((PolicyKind::Authentication, policy.key.clone())),
            Self::Service(_) | Self::EndpointSlice(_) | Self::Pod(_) | Self::ServiceExport(_) => None,
        }
    }

    /// Adds or replaces it; whether that changed anything.
    pub(crate) fn insert_into(self, objects: &mut Objects) -> bool {
        match self {
            Self::Service(service) => objects.insert_service(service),
            Self::EndpointSlice(slice) => objects.insert_endpoint_slice(slice),
            Self::Pod(pod) => objects.insert_pod(pod),
            Self::ServiceExport(export) => objects.insert_service_export(export),
            Self::AuthorizationPolicy(policy) => objects.insert_authorization_policy(policy),
            Self::PeerAuthentication(policy) => objects.insert_peer_authentication(policy),
        }
    }
}
