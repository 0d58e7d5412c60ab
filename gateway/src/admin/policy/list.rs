//! The policies a gateway has read, what they hold for, and what is wrong with them.
//!
//! Owns the form of the answer. What is wrong is found by `gateway_core::policy`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

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

use crate::{admin::Administration, config::PolicyConfig};

/// Every policy, by namespace, name and kind. Compares policies with each other, so it may take a while.
pub(super) fn policies(this: &Administration) -> Vec<Policy> {
    let manifests = this.manifests.borrow().clone();
    let tables = this.tables.borrow().clone();
    let policies = &manifests.objects.policies;
    let root = &this.config.policy.root_namespace;
    let found = findings(this);
    let origin = |kind: PolicyKind, key: &PolicyKey| manifests.policy_origins.get(&(kind, key.clone()));
    let list = List { exported: tables.exported_services().collect(), root, found };
    let authorization = policies.authorization.values().map(|policy| {
        let told = list.policy(PolicyKind::Authorization, &policy.key, action(policy.action), list.authorized(policy));
        placed(told, origin(PolicyKind::Authorization, &policy.key))
    });
    let authentication = policies.authentication.values().map(|policy| {
        let told = list.policy(PolicyKind::Authentication, &policy.key, mode(policy.mode), list.authenticated(policy));
        placed(told, origin(PolicyKind::Authentication, &policy.key))
    });
    let broken = policies.broken.iter().map(|((kind, key), policy)| {
        list.policy(*kind, key, "BROKEN", list.selected(key, std::iter::once(policy.services.as_slice())))
    });
    let mut all: Vec<Policy> = authorization.chain(authentication).chain(broken).collect();
    all.sort_by(|a, b| (&a.namespace, &a.name, &a.kind).cmp(&(&b.namespace, &b.name, &b.kind)));
    all
}

/// What is wrong with the policies of this gateway, as it knows its services and callers.
pub(in crate::admin) fn findings(this: &Administration) -> Vec<PolicyFinding> {
    let manifests = this.manifests.borrow().clone();
    let tables = this.tables.borrow().clone();
    let PolicyConfig { root_namespace, trust_domain_aliases } = &this.config.policy;
    analyze(&manifests.objects.policies, root_namespace, trust_domain_aliases, &surroundings(&tables))
}

/// What this gateway knows around its policies: its exports, and the principals of its own pods.
fn surroundings(tables: &Tables) -> Surroundings {
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

fn placed(policy: Policy, origin: Option<&(PathBuf, u32)>) -> Policy {
    match origin {
        Some((file, line)) => Policy { file: file.display().to_string(), line: *line, ..policy },
        None => policy,
    }
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
            findings: found.map(|found| (&Finding::from(found)).into()).collect(),
            file: String::new(),
            line: 0,
        }
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
