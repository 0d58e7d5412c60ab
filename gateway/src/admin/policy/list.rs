//! The policies a gateway has read, what they hold for, and what is wrong with them.
//!
//! Owns the form of the answer. What is wrong is found by `gateway_core::policy`.

use std::collections::{BTreeMap, BTreeSet};

use federation_model::{
    addr::Port,
    export::Deliver,
    finding::Finding,
    names::{Namespace, ServiceKey},
    policy::{
        Action, AuthenticationMode, AuthorizationPolicy, PeerAuthentication, PolicyKey, PolicyKind,
        pattern::ServicePattern,
    },
    spiffe::SpiffeId,
};
use gateway_core::{
    policy::{PolicyFinding, Surroundings, analyze},
    tables::Tables,
};
use proto::gateway::v1::Policy;

use super::super::Administration;

/// Every policy, by namespace, name and kind.
pub(super) fn policies(this: &Administration) -> Vec<Policy> {
    let manifests = this.manifests.borrow().clone();
    let tables = this.tables.borrow().clone();
    let policies = &manifests.objects.policies;
    let root = &this.config.policy.root_namespace;
    let found = analyze(policies, root, &this.config.policy.trust_domain_aliases, &surroundings(&tables));
    let list = List { exported: tables.exported_services().collect(), root, found };
    let authorization = policies.authorization.values().map(|policy| {
        list.policy(PolicyKind::Authorization, &policy.key, action(policy.action), list.authorized(policy))
    });
    let authentication = policies.authentication.values().map(|policy| {
        list.policy(PolicyKind::Authentication, &policy.key, mode(policy.mode), list.authenticated(policy))
    });
    let broken = policies.broken.iter().map(|((kind, key), policy)| {
        list.policy(*kind, key, "BROKEN", list.selected(key, std::iter::once(policy.services.as_slice())))
    });
    let mut all: Vec<Policy> = authorization.chain(authentication).chain(broken).collect();
    all.sort_by(|a, b| (&a.namespace, &a.name, &a.kind).cmp(&(&b.namespace, &b.name, &b.kind)));
    all
}

/// What this gateway knows around its policies: its exports, and the principals of its own pods.
pub(crate) fn surroundings(tables: &Tables) -> Surroundings {
    let services: BTreeSet<ServiceKey> = tables.exported_services().cloned().collect();
    let http = |service: &ServiceKey| {
        let is_http = |port: &Port| tables.delivery(service, *port) == Some(&Deliver::Http);
        let http = tables.exported_ports(service).filter(is_http);
        http.map(|port| (service.clone(), port)).collect::<Vec<_>>()
    };
    let http_ports = services.iter().flat_map(http).collect();
    let mut principals: BTreeMap<_, BTreeSet<SpiffeId>> = BTreeMap::new();
    for id in tables.principals() {
        principals.entry(id.trust_domain().clone()).or_default().insert(id.clone());
    }
    Surroundings { services: Some(services), principals, http_ports: Some(http_ports) }
}

struct List<'a> {
    exported: Vec<&'a ServiceKey>,
    root: &'a Namespace,
    found: Vec<PolicyFinding>,
}

impl List<'_> {
    fn authorized(&self, policy: &AuthorizationPolicy) -> Vec<String> {
        match policy.to.as_slice() {
            [] => self.selected(&policy.key, std::iter::once([].as_slice())),
            rules => self.selected(&policy.key, rules.iter().map(|rule| rule.services.as_slice())),
        }
    }

    fn authenticated(&self, policy: &PeerAuthentication) -> Vec<String> {
        self.selected(&policy.key, std::iter::once(policy.services.as_slice()))
    }

    /// The exported services that any of the lists means; an empty list means all of the policy's namespace.
    fn selected<'a>(&self, key: &PolicyKey, lists: impl Iterator<Item = &'a [ServicePattern]>) -> Vec<String> {
        let own = (key.namespace != *self.root).then_some(&key.namespace);
        let lists: Vec<&[ServicePattern]> = lists.collect();
        let means = |service: &&&ServiceKey| {
            lists.iter().any(|patterns| match patterns {
                [] => own.is_none_or(|own| *own == service.namespace),
                patterns => patterns.iter().any(|pattern| pattern.matches(own, service)),
            })
        };
        self.exported.iter().filter(means).map(ToString::to_string).collect()
    }

    fn policy(&self, kind: PolicyKind, key: &PolicyKey, action: &str, services: Vec<String>) -> Policy {
        let named = key.to_string();
        let found = self.found.iter().filter(|finding| finding.kind == kind.name() && finding.policy == named);
        Policy {
            kind: kind.name().to_owned(),
            namespace: key.namespace.to_string(),
            name: key.name.clone(),
            action: action.to_owned(),
            services,
            findings: found.map(|found| (&finding(found)).into()).collect(),
            file: String::new(),
            line: 0,
        }
    }
}

/// A finding about a policy, as other findings are told.
pub(crate) fn finding(found: &PolicyFinding) -> Finding {
    Finding {
        check: format!("{} {}", found.kind, found.policy),
        level: found.severity,
        detail: found.text.clone(),
        hint: found.remedy.clone(),
    }
}

const fn action(action: Action) -> &'static str {
    use federation_model::policy::Effect;
    match action {
        Action::Enforce(Effect::Allow) => "ALLOW",
        Action::Enforce(Effect::Deny) => "DENY",
        Action::Audit(Effect::Allow) => "AUDIT ALLOW",
        Action::Audit(Effect::Deny) => "AUDIT DENY",
    }
}

const fn mode(mode: AuthenticationMode) -> &'static str {
    match mode {
        AuthenticationMode::Strict => "STRICT",
        AuthenticationMode::Permissive => "PERMISSIVE",
    }
}
