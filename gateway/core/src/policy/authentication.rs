//! How well callers must be known: `PeerAuthentication`, and the policies that cannot be read.
//!
//! Owns which of several `PeerAuthentication` objects is in force for a service. Never looks at who calls.

use std::{cmp::Reverse, sync::Arc};

use federation_model::{
    names::ServiceKey,
    policy::{
        AuthenticationMode, PolicyKey, PolicyKind,
        pattern::{ServicePattern, TextPattern},
    },
};
use serde::Serialize;

use super::{fields::Scope, index::ServiceIndex};

/// How closely a `PeerAuthentication` means a service, least first: the closest one is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Closeness {
    /// It means the services of more than one namespace.
    Cluster,
    /// It means all services of one namespace.
    Namespace,
    /// It means services by their names.
    Service,
}

/// Every `PeerAuthentication`, in the order of their keys.
#[derive(Default)]
pub(super) struct Authentication {
    pub(super) policies: Box<[CompiledAuthentication]>,
    pub(super) services: ServiceIndex,
}

pub(super) struct CompiledAuthentication {
    pub(super) key: Arc<PolicyKey>,
    pub(super) scope: Scope,
    pub(super) mode: AuthenticationMode,
    /// Never empty.
    pub(super) services: Box<[ServicePattern]>,
}

impl Authentication {
    /// What is in force for the service: the closest, of equally close ones the stricter, of those the lowest key.
    pub(super) fn in_force(&self, service: &ServiceKey) -> Option<(&CompiledAuthentication, Closeness)> {
        let rules = self.services.selecting(service).flatten();
        let found = rules.map(|id| {
            let compiled = &self.policies[id.policy as usize];
            let closeness = closeness(&compiled.services[id.entry as usize], &compiled.scope);
            let strict = compiled.mode == AuthenticationMode::Strict;
            ((closeness, strict, Reverse(id.policy)), compiled)
        });
        found.max_by_key(|(rank, _)| *rank).map(|((closeness, ..), compiled)| (compiled, closeness))
    }
}

/// How closely a pattern of a policy of this scope means the services it matches.
pub(super) fn closeness(pattern: &ServicePattern, scope: &Scope) -> Closeness {
    let one_namespace = scope.is_some() || matches!(pattern.namespace, Some(TextPattern::Exact(_)));
    match (&pattern.name, one_namespace) {
        (TextPattern::Exact(_) | TextPattern::Prefix(_) | TextPattern::Suffix(_), _) => Closeness::Service,
        (TextPattern::Any, true) => Closeness::Namespace,
        (TextPattern::Any, false) => Closeness::Cluster,
    }
}

/// Every policy that cannot be read, in the order of their kinds and keys.
#[derive(Default)]
pub(super) struct Broken {
    pub(super) policies: Box<[CompiledBroken]>,
    pub(super) services: ServiceIndex,
}

pub(super) struct CompiledBroken {
    pub(super) kind: PolicyKind,
    pub(super) key: Arc<PolicyKey>,
    pub(super) reason: Arc<str>,
}

impl Broken {
    /// The first one that selects the service.
    pub(super) fn first(&self, service: &ServiceKey) -> Option<&CompiledBroken> {
        let first = self.services.selecting(service).filter_map(|rules| rules.first()).min()?;
        Some(&self.policies[first.policy as usize])
    }
}
