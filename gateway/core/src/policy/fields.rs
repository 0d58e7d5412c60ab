//! The fields of a rule, one by one.
//!
//! Owns what each field asks of a call. Never searches: the index has found the rules, or an explanation walks them all.

use std::borrow::Cow;

use federation_model::{
    addr::Port,
    caller::Assurance,
    names::{ClusterName, Namespace, ServiceKey},
    policy::{
        Effect, SourceRule, TargetRule,
        pattern::{PrincipalPattern, TextPattern},
    },
    spiffe::{SpiffeId, TrustDomain},
};
use serde::Serialize;

use super::{
    Aspect, Call,
    path::{AmbiguousPath, canonical_path},
};

/// A field of a rule, in the order in which fields are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Field {
    /// `from[].principals`
    Principals,
    /// `from[].namespaces`
    Namespaces,
    /// `from[].trustDomains`
    TrustDomains,
    /// `from[].clusters`
    Clusters,
    /// `from[].assurance`
    Assurance,
    /// `to[].services`
    Services,
    /// `to[].ports`
    Ports,
    /// `to[].methods`
    Methods,
    /// `to[].paths`
    Paths,
}

impl Field {
    /// Its name in an object.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Principals => "principals",
            Self::Namespaces => "namespaces",
            Self::TrustDomains => "trustDomains",
            Self::Clusters => "clusters",
            Self::Assurance => "assurance",
            Self::Services => "services",
            Self::Ports => "ports",
            Self::Methods => "methods",
            Self::Paths => "paths",
        }
    }
}

/// Everything that rules ask about one call, found out once.
pub(super) struct Facts<'a> {
    pub(super) principal: Option<&'a SpiffeId>,
    pub(super) namespace: Option<&'a str>,
    pub(super) assurance: Assurance,
    pub(super) source_cluster: &'a ClusterName,
    pub(super) service: &'a ServiceKey,
    pub(super) port: Port,
    pub(super) http: Http<'a>,
}

/// What is known of the HTTP side of a call.
pub(super) enum Http<'a> {
    /// Nothing, ever.
    Bytes,
    /// Nothing yet.
    Connection,
    Request {
        method: &'a str,
        path: Result<Cow<'a, str>, AmbiguousPath>,
    },
}

impl<'a> Facts<'a> {
    pub(super) fn new(call: &Call<'a>, aspect: Aspect<'a>) -> Self {
        let principal = call.caller.principal();
        Self {
            principal,
            namespace: principal.and_then(namespace_of),
            assurance: call.caller.assurance(),
            source_cluster: call.source_cluster,
            service: call.service,
            port: call.port,
            http: Http::new(aspect),
        }
    }

    /// What a field is compared with, in words; empty when the call has no such thing.
    pub(super) fn got(&self, field: Field) -> String {
        match (field, &self.http) {
            (Field::Principals | Field::TrustDomains, _) => self.principal.map(ToString::to_string).unwrap_or_default(),
            (Field::Namespaces, _) => self.namespace.unwrap_or_default().to_owned(),
            (Field::Clusters, _) => self.source_cluster.to_string(),
            (Field::Assurance, _) => self.assurance.to_string(),
            (Field::Services, _) => self.service.to_string(),
            (Field::Ports, _) => self.port.to_string(),
            (Field::Methods, Http::Request { method, .. }) => (*method).to_owned(),
            (Field::Paths, Http::Request { path: Ok(path), .. }) => path.to_string(),
            (Field::Methods | Field::Paths, Http::Request { .. } | Http::Bytes | Http::Connection) => String::new(),
        }
    }

    /// Why the path of the request can be read in several ways.
    pub(super) fn ambiguous_path(&self) -> Option<AmbiguousPath> {
        match &self.http {
            Http::Bytes | Http::Connection => None,
            Http::Request { path, .. } => path.as_ref().err().copied(),
        }
    }
}

impl<'a> Http<'a> {
    fn new(aspect: Aspect<'a>) -> Self {
        match aspect {
            Aspect::Bytes => Self::Bytes,
            Aspect::HttpConnection => Self::Connection,
            Aspect::HttpRequest(request) => Self::Request {
                method: request.method,
                path: match canonical_path(request.path) {
                    // Only OPTIONS has a target without a path (RFC 9110 section 7.1).
                    Ok(path) if path == "*" && request.method != "OPTIONS" => Err(AmbiguousPath::NotAbsolute),
                    path => path,
                },
            },
        }
    }
}

/// The namespace in the id of a Kubernetes workload: `/ns/<namespace>/sa/<service account>`, and no other form.
#[must_use]
pub fn namespace_of(id: &SpiffeId) -> Option<&str> {
    namespace_in(id.path())
}

pub(super) fn namespace_in(path: &str) -> Option<&str> {
    let (namespace, rest) = path.strip_prefix("/ns/")?.split_once('/')?;
    let account = rest.strip_prefix("sa/")?;
    (!account.contains('/')).then_some(namespace)
}

/// What an entry of `from` is found by: it holds for every caller that the index returns the entry for.
pub(super) enum Handle<'a> {
    Principals(&'a [PrincipalPattern]),
    Namespaces(&'a [TextPattern]),
    TrustDomains(&'a [TrustDomain]),
    Clusters(&'a [ClusterName]),
    /// None of these is written: it may mean everybody.
    Nothing,
}

impl<'a> Handle<'a> {
    /// The first property that the entry speaks of.
    pub(super) fn of(rule: &'a SourceRule) -> Self {
        if !rule.principals.is_empty() {
            Self::Principals(&rule.principals)
        } else if !rule.namespaces.is_empty() {
            Self::Namespaces(&rule.namespaces)
        } else if !rule.trust_domains.is_empty() {
            Self::TrustDomains(&rule.trust_domains)
        } else if !rule.clusters.is_empty() {
            Self::Clusters(&rule.clusters)
        } else {
            Self::Nothing
        }
    }

    /// The field that need not be compared again.
    pub(super) fn field(&self) -> Option<Field> {
        match self {
            Self::Principals(_) => Some(Field::Principals),
            Self::Namespaces(_) => Some(Field::Namespaces),
            Self::TrustDomains(_) => Some(Field::TrustDomains),
            Self::Clusters(_) => Some(Field::Clusters),
            Self::Nothing => None,
        }
    }
}

/// The first field of an entry of `from` that the call does not meet; `known` is one that it is known to meet.
pub(super) fn source_mismatch(rule: &SourceRule, facts: &Facts<'_>, known: Option<Field>) -> Option<Field> {
    const FIELDS: [Field; 5] =
        [Field::Principals, Field::Namespaces, Field::TrustDomains, Field::Clusters, Field::Assurance];
    FIELDS.into_iter().find(|field| Some(*field) != known && !meets(rule, facts, *field))
}

fn meets(rule: &SourceRule, facts: &Facts<'_>, field: Field) -> bool {
    match field {
        Field::Principals => {
            let id = facts.principal;
            rule.principals.is_empty() || id.is_some_and(|id| rule.principals.iter().any(|want| want.matches(id)))
        }
        Field::Namespaces => {
            let is = facts.namespace;
            rule.namespaces.is_empty() || is.is_some_and(|is| rule.namespaces.iter().any(|want| want.matches(is)))
        }
        Field::TrustDomains => {
            let id = facts.principal;
            rule.trust_domains.is_empty() || id.is_some_and(|id| rule.trust_domains.contains(id.trust_domain()))
        }
        Field::Clusters => rule.clusters.is_empty() || rule.clusters.contains(facts.source_cluster),
        Field::Assurance => rule.assurance.is_none_or(|least| facts.assurance >= least),
        Field::Services | Field::Ports | Field::Methods | Field::Paths => true,
    }
}

/// The first field of an entry of `to` that the call does not meet, apart from its services.
///
/// Where requests are never seen, fields that speak of them allow nothing and deny everything. Before the first request of
/// a connection they may still allow, and do not deny yet.
pub(super) fn target_mismatch(rule: &TargetRule, effect: Effect, facts: &Facts<'_>) -> Option<Field> {
    if !rule.ports.is_empty() && !rule.ports.contains(&facts.port) {
        return Some(Field::Ports);
    }
    let first_of_http = if rule.methods.is_empty() { Field::Paths } else { Field::Methods };
    let unmet = |unmet: bool| (unmet && rule.is_http()).then_some(first_of_http);
    match &facts.http {
        Http::Bytes => unmet(effect == Effect::Allow),
        Http::Connection => unmet(effect == Effect::Deny),
        Http::Request { method, path } => {
            if !rule.methods.is_empty() && !rule.methods.iter().any(|want| want.matches(method)) {
                return Some(Field::Methods);
            }
            let met = path.as_ref().is_ok_and(|path| rule.paths.iter().any(|want| want.matches(path)));
            (!rule.paths.is_empty() && !met).then_some(Field::Paths)
        }
    }
}

/// The namespace whose services a policy can hold for; nothing for all of them.
pub(super) type Scope = Option<Namespace>;

/// Whether an entry of `to` selects the service.
pub(super) fn selects(rule: &TargetRule, scope: &Scope, service: &ServiceKey) -> bool {
    if rule.services.is_empty() {
        return scope.as_ref().is_none_or(|own| *own == service.namespace);
    }
    rule.services.iter().any(|pattern| pattern.matches(scope.as_ref(), service))
}
