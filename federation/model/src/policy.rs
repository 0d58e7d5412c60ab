//! Policies as values: which callers may reach which services, and how well a caller must be known.
//!
//! Owns the words of `policy.landbridge.dev`. Never reads an object and never decides: `federation-kube` does the one,
//! `gateway-core` the other.

use std::{collections::BTreeMap, fmt};

use crate::{
    addr::Port,
    caller::Assurance,
    names::{ClusterName, Namespace},
    spiffe::TrustDomain,
};

pub mod pattern;

use pattern::{PrincipalPattern, ServicePattern, TextPattern};

/// The namespace whose policies hold for the services of all namespaces.
pub const ROOT_NAMESPACE: &str = "landbridge-system";

/// An object by namespace and name; the name is any Kubernetes name (RFC 1123 subdomain).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    /// `metadata.namespace`.
    pub namespace: Namespace,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Every policy of a cluster. A policy holds for the services of its own namespace; one in the root namespace holds for
/// those of all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policies {
    /// `AuthorizationPolicy` objects.
    pub authorization: BTreeMap<PolicyKey, AuthorizationPolicy>,
    /// `PeerAuthentication` objects.
    pub authentication: BTreeMap<PolicyKey, PeerAuthentication>,
    /// Objects of either kind of which no version could ever be read: they refuse what they select.
    pub broken: BTreeMap<(PolicyKind, PolicyKey), BrokenPolicy>,
}

/// The kinds of policy objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// `AuthorizationPolicy`.
    Authorization,
    /// `PeerAuthentication`.
    Authentication,
}

impl PolicyKind {
    /// `kind` of the object.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorization => "AuthorizationPolicy",
            Self::Authentication => "PeerAuthentication",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who may, or may not, reach what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Its name.
    pub key: PolicyKey,
    /// What happens to a call that matches.
    pub action: Action,
    /// Who calls: one of these; empty means everybody, known or not.
    pub from: Vec<SourceRule>,
    /// What is called: one of these; empty means every service the policy can hold for, on every port.
    pub to: Vec<TargetRule>,
}

/// What a policy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// As [`Effect`] says.
    Enforce(Effect),
    /// Nothing but to report what the effect would have refused.
    Audit(Effect),
}

impl Action {
    /// The effect, in force or not.
    #[must_use]
    pub const fn effect(self) -> Effect {
        match self {
            Self::Enforce(effect) | Self::Audit(effect) => effect,
        }
    }
}

/// What a policy says of calls that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// They pass, and with any such policy everything else to the selected services is refused.
    Allow,
    /// They are refused, whatever allows them.
    Deny,
}

impl Effect {
    /// The word in an object.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
        }
    }
}

/// Properties of a caller, all of which must hold; of each list one entry. An empty list says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceRule {
    /// Its SPIFFE ID.
    pub principals: Vec<PrincipalPattern>,
    /// The namespace of its workload, as `/ns/<namespace>/sa/<service account>` says.
    pub namespaces: Vec<TextPattern>,
    /// The cluster it calls from.
    pub clusters: Vec<ClusterName>,
    /// The trust domain of its SPIFFE ID.
    pub trust_domains: Vec<TrustDomain>,
    /// How well it is known, at least.
    pub assurance: Option<Assurance>,
}

/// Properties of what is called, all of which must hold; of each list one entry. An empty list says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetRule {
    /// The service.
    pub services: Vec<ServicePattern>,
    /// The service port.
    pub ports: Vec<Port>,
    /// The HTTP method, where the port is delivered as `http`.
    pub methods: Vec<TextPattern>,
    /// The path of the request without its query, where the port is delivered as `http`.
    pub paths: Vec<TextPattern>,
}

impl TargetRule {
    /// Whether it speaks of requests, not of connections alone.
    #[must_use]
    pub fn is_http(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty()
    }
}

/// How well the callers of services must be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// Its name.
    pub key: PolicyKey,
    /// The services it holds for; empty means the namespace, in the root namespace the cluster.
    pub services: Vec<ServicePattern>,
    /// What is asked of callers.
    pub mode: AuthenticationMode,
}

/// What is asked of callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthenticationMode {
    /// They have proved their own key: assurance `mtls`.
    Strict,
    /// Nothing.
    Permissive,
}

/// A policy that cannot be read, and of which no earlier version is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenPolicy {
    /// The services it selects, as far as that can be read; empty means all that a policy of its namespace can select.
    pub services: Vec<ServicePattern>,
    /// What is wrong with it, where, and what to write instead.
    pub reason: String,
}
