//! From policies as they are written to the indexes that judge calls.
//!
//! Owns the resolution of trust domain aliases, of empty lists and of the scope of a policy. Never judges.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use federation_model::{
    names::{ClusterName, Namespace},
    policy::{
        Action, AuthorizationPolicy, Policies, SourceRule, TargetRule,
        pattern::{PrincipalPattern, ServicePattern, TextPattern},
    },
    spiffe::TrustDomain,
};

use super::{
    authentication::{Authentication, Broken, CompiledAuthentication, CompiledBroken},
    fields::{Handle, Scope},
    index::{CallerIndex, RuleId, Rules, ServiceIndex},
    path::canonical_pattern,
    pattern_map::PatternMap,
    rules::{CompiledPolicy, RuleSet},
};

/// Names under which meshes know trust domains: each stands, in a policy, for itself and for all that it is mapped to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustDomainAliases(pub BTreeMap<TrustDomain, BTreeSet<TrustDomain>>);

impl TrustDomainAliases {
    /// What the name stands for, itself among it; an alias of an alias is not followed.
    pub fn resolve<'a>(&'a self, domain: &'a TrustDomain) -> impl Iterator<Item = &'a TrustDomain> {
        let others = self.0.get(domain).into_iter().flatten().filter(move |other| *other != domain);
        std::iter::once(domain).chain(others)
    }

    pub(super) fn principals(&self, pattern: &PrincipalPattern) -> Vec<PrincipalPattern> {
        match &pattern.trust_domain {
            None => vec![pattern.clone()],
            Some(domain) => {
                let of = |domain: &TrustDomain| PrincipalPattern {
                    trust_domain: Some(domain.clone()),
                    path: pattern.path.clone(),
                };
                self.resolve(domain).map(of).collect()
            }
        }
    }
}

/// The namespace that a policy of `namespace` is confined to; nothing in the root namespace.
pub(super) fn scope(namespace: &Namespace, root: &Namespace) -> Scope {
    (namespace != root).then(|| namespace.clone())
}

/// The policies of one action.
pub(super) fn rule_set(policies: &Policies, action: Action, root: &Namespace, aliases: &TrustDomainAliases) -> RuleSet {
    let (mut callers, mut services) = (CallerBuilder::default(), ServiceBuilder::default());
    let mut compiled = Vec::new();
    for policy in policies.authorization.values().filter(|policy| policy.action == action) {
        let position = position(compiled.len());
        let policy = compile(policy, root, aliases);
        for (entry, rule) in policy.from.iter().enumerate() {
            callers.add(rule, id(position, entry));
        }
        for (entry, rule) in policy.to.iter().enumerate() {
            services.add(&rule.services, &policy.scope, id(position, entry));
        }
        compiled.push(policy);
    }
    RuleSet { action, policies: compiled.into(), callers: callers.build(), services: services.build() }
}

/// Every `PeerAuthentication`.
pub(super) fn authentication(policies: &Policies, root: &Namespace) -> Authentication {
    let mut services = ServiceBuilder::default();
    let mut compiled: Vec<CompiledAuthentication> = Vec::new();
    for policy in policies.authentication.values() {
        let scope = scope(&policy.key.namespace, root);
        let patterns = if policy.services.is_empty() { vec![every_service()] } else { policy.services.clone() };
        for (entry, pattern) in patterns.iter().enumerate() {
            services.add(std::slice::from_ref(pattern), &scope, id(position(compiled.len()), entry));
        }
        let key = Arc::new(policy.key.clone());
        compiled.push(CompiledAuthentication { key, scope, mode: policy.mode, services: patterns.into() });
    }
    Authentication { policies: compiled.into(), services: services.build() }
}

/// Every policy that cannot be read.
pub(super) fn broken(policies: &Policies, root: &Namespace) -> Broken {
    let mut services = ServiceBuilder::default();
    let mut compiled = Vec::new();
    for ((kind, key), policy) in &policies.broken {
        services.add(&policy.services, &scope(&key.namespace, root), id(position(compiled.len()), 0));
        let (key, reason) = (Arc::new(key.clone()), policy.reason.as_str().into());
        compiled.push(CompiledBroken { kind: *kind, key, reason });
    }
    Broken { policies: compiled.into(), services: services.build() }
}

/// One policy, with its aliases resolved and its paths in canonical form.
pub(super) fn compile(policy: &AuthorizationPolicy, root: &Namespace, aliases: &TrustDomainAliases) -> CompiledPolicy {
    let source = |rule: &SourceRule| SourceRule {
        principals: rule.principals.iter().flat_map(|pattern| aliases.principals(pattern)).collect(),
        trust_domains: rule.trust_domains.iter().flat_map(|domain| aliases.resolve(domain)).cloned().collect(),
        ..rule.clone()
    };
    let target =
        |rule: &TargetRule| TargetRule { paths: rule.paths.iter().map(canonical_pattern).collect(), ..rule.clone() };
    let written = (!policy.from.is_empty(), !policy.to.is_empty());
    CompiledPolicy {
        key: Arc::new(policy.key.clone()),
        scope: scope(&policy.key.namespace, root),
        from: if written.0 { policy.from.iter().map(source).collect() } else { [SourceRule::default()].into() },
        to: if written.1 { policy.to.iter().map(target).collect() } else { [TargetRule::default()].into() },
        written,
    }
}

fn every_service() -> ServicePattern {
    ServicePattern { namespace: None, name: TextPattern::Any }
}

fn id(policy: u32, entry: usize) -> RuleId {
    RuleId { policy, entry: position(entry) }
}

fn position(index: usize) -> u32 {
    u32::try_from(index).expect("four thousand million rules do not fit into memory")
}

/// Lists that grow in ascending order, since policies and their entries are added in order.
type Lists<K> = BTreeMap<K, Vec<RuleId>>;

fn append(list: &mut Vec<RuleId>, id: RuleId) {
    if list.last() != Some(&id) {
        list.push(id);
    }
}

fn append_each<K: Ord + Clone>(lists: &mut Lists<K>, keys: &[K], id: RuleId) {
    for key in keys {
        append(lists.entry(key.clone()).or_default(), id);
    }
}

fn patterns(lists: Lists<TextPattern>) -> PatternMap<Rules> {
    PatternMap::new(lists.into_iter().map(|(pattern, list)| (pattern, list.into())).collect())
}

#[derive(Default)]
struct ServiceBuilder {
    by_namespace: BTreeMap<TextPattern, Lists<TextPattern>>,
}

impl ServiceBuilder {
    fn add(&mut self, services: &[ServicePattern], scope: &Scope, id: RuleId) {
        let every = [every_service()];
        for pattern in if services.is_empty() { &every } else { services } {
            let Some(namespace) = namespace(pattern, scope) else { continue };
            let names = self.by_namespace.entry(namespace).or_default();
            append(names.entry(pattern.name.clone()).or_default(), id);
        }
    }

    fn build(self) -> ServiceIndex {
        let namespaces = self.by_namespace.into_iter().map(|(namespace, names)| (namespace, patterns(names)));
        ServiceIndex { by_namespace: PatternMap::new(namespaces.collect()) }
    }
}

/// The namespaces that a pattern means in a policy of this scope; nothing when it means none.
pub(super) fn namespace(pattern: &ServicePattern, scope: &Scope) -> Option<TextPattern> {
    let Some(own) = scope else { return Some(pattern.namespace.clone().unwrap_or(TextPattern::Any)) };
    let meant = pattern.namespace.as_ref().is_none_or(|namespace| namespace.matches(own.as_str()));
    meant.then(|| TextPattern::Exact(own.as_str().to_owned()))
}

#[derive(Default)]
struct CallerBuilder {
    principals: BTreeMap<Option<TrustDomain>, Lists<TextPattern>>,
    namespaces: Lists<TextPattern>,
    trust_domains: Lists<TrustDomain>,
    clusters: Lists<ClusterName>,
    everybody: Vec<RuleId>,
}

impl CallerBuilder {
    fn add(&mut self, rule: &SourceRule, id: RuleId) {
        match Handle::of(rule) {
            Handle::Principals(patterns) => {
                for pattern in patterns {
                    let paths = self.principals.entry(pattern.trust_domain.clone()).or_default();
                    append(paths.entry(pattern.path.clone()).or_default(), id);
                }
            }
            Handle::Namespaces(patterns) => append_each(&mut self.namespaces, patterns, id),
            Handle::TrustDomains(domains) => append_each(&mut self.trust_domains, domains, id),
            Handle::Clusters(clusters) => append_each(&mut self.clusters, clusters, id),
            Handle::Nothing => append(&mut self.everybody, id),
        }
    }

    fn build(mut self) -> CallerIndex {
        CallerIndex {
            principals_anywhere: patterns(self.principals.remove(&None).unwrap_or_default()),
            principals: (self.principals.into_iter())
                .filter_map(|(domain, paths)| Some((domain?, patterns(paths))))
                .collect(),
            namespaces: patterns(self.namespaces),
            trust_domains: self.trust_domains.into_iter().map(|(domain, list)| (domain, list.into())).collect(),
            clusters: self.clusters.into_iter().map(|(cluster, list)| (cluster, list.into())).collect(),
            everybody: self.everybody.into(),
        }
    }
}
