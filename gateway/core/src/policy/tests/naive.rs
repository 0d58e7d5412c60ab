//! The rules of policies, written down as plainly as they can be: every policy is tried, in order, on every call.

use std::borrow::Cow;

use federation_model::{
    caller::Assurance,
    names::{Namespace, ServiceKey},
    policy::{
        Action, AuthenticationMode, AuthorizationPolicy, Effect, Policies, PolicyKey, SourceRule, TargetRule,
        pattern::{PrincipalPattern, ServicePattern, TextPattern},
    },
    spiffe::TrustDomain,
};

use super::super::{
    Aspect, Basis, Call, HttpRequest, Judgement, RefusedBy, TrustDomainAliases, Verdict, namespace_of,
    path::{canonical_path, canonical_pattern},
};

/// Policies and what they are read with.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) policies: Policies,
    pub(super) root: Namespace,
    pub(super) aliases: TrustDomainAliases,
}

/// A judgement without its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) by: String,
    pub(super) audited: Vec<String>,
}

impl From<Judgement> for Answer {
    fn from(judgement: Judgement) -> Self {
        let audited = judgement.audited.iter().map(ToString::to_string).collect();
        let (allowed, by) = match judgement.verdict {
            Verdict::Allowed(Basis::NothingSelects) => (true, "nothing".to_owned()),
            Verdict::Allowed(Basis::Rule(rule)) => (true, rule.to_string()),
            Verdict::Refused(refusal) => match refusal.by {
                RefusedBy::NotAllowed { policies, .. } => (false, format!("none of {policies}")),
                RefusedBy::Path { policy, .. } => (false, format!("path {policy}")),
                by @ (RefusedBy::Strict { .. } | RefusedBy::Broken { .. } | RefusedBy::Rule(_)) => {
                    (false, by.to_string())
                }
            },
        };
        Self { allowed, by, audited }
    }
}

impl World {
    pub(super) fn judge(&self, call: &Call<'_>, aspect: Aspect<'_>) -> Answer {
        let refused = |by: String| Answer { allowed: false, by, audited: Vec::new() };
        if let Some(strict) = self.strict(call.service).filter(|_| call.caller.assurance() < Assurance::Mtls) {
            return refused(format!("PeerAuthentication {strict}"));
        }
        for ((kind, key), broken) in &self.policies.broken {
            if self.selects(key, &broken.services, call.service) {
                return refused(format!("{kind} {key}"));
            }
        }
        if has_ambiguous_path(aspect) {
            for policy in self.with(|action| matches!(action, Action::Enforce(_))) {
                if self.judges_path(policy, call) {
                    return refused(format!("path {}", policy.key));
                }
            }
        }
        if let Some(rule) = self.first(Action::Enforce(Effect::Deny), call, aspect) {
            return refused(rule);
        }
        let selecting = |action| {
            self.with(move |is| is == action).filter(|policy| self.selecting(policy, call.service).next().is_some())
        };
        let allowing = self.first(Action::Enforce(Effect::Allow), call, aspect);
        let enforced = selecting(Action::Enforce(Effect::Allow)).count();
        if allowing.is_none() && enforced > 0 {
            return refused(format!("none of {enforced}"));
        }
        let mut audited: Vec<String> = Vec::new();
        for policy in self.with(|is| is == Action::Audit(Effect::Deny)) {
            if let Some(rule) = self.matches(policy, call, aspect) {
                audited.push(rule);
            } else if has_ambiguous_path(aspect) && self.judges_path(policy, call) {
                audited.push(format!("AuthorizationPolicy {}", policy.key));
            }
        }
        let passes = allowing.is_some() || self.first(Action::Audit(Effect::Allow), call, aspect).is_some();
        for policy in selecting(Action::Audit(Effect::Allow)) {
            if !passes || has_ambiguous_path(aspect) && self.judges_path(policy, call) {
                audited.push(format!("AuthorizationPolicy {}", policy.key));
            }
        }
        Answer { allowed: true, by: allowing.unwrap_or_else(|| "nothing".to_owned()), audited }
    }

    /// The `PeerAuthentication` in force, if it is strict.
    fn strict(&self, service: &ServiceKey) -> Option<&PolicyKey> {
        let every = [ServicePattern { namespace: None, name: TextPattern::Any }];
        let mut best: Option<(i32, AuthenticationMode, &PolicyKey)> = None;
        for policy in self.policies.authentication.values() {
            let services = if policy.services.is_empty() { &every[..] } else { &policy.services };
            for pattern in services.iter().filter(|pattern| pattern.matches(self.own(&policy.key), service)) {
                let in_one =
                    self.own(&policy.key).is_some() || matches!(pattern.namespace, Some(TextPattern::Exact(_)));
                let closeness = match (&pattern.name, in_one) {
                    (TextPattern::Any, false) => 0,
                    (TextPattern::Any, true) => 1,
                    (TextPattern::Exact(_) | TextPattern::Prefix(_) | TextPattern::Suffix(_), _) => 2,
                };
                let stricter = |mode| mode == AuthenticationMode::Strict;
                let closer =
                    best.is_none_or(|(level, mode, _)| (closeness, stricter(policy.mode)) > (level, stricter(mode)));
                if closer {
                    best = Some((closeness, policy.mode, &policy.key));
                }
            }
        }
        best.filter(|(_, mode, _)| *mode == AuthenticationMode::Strict).map(|(_, _, key)| key)
    }

    fn with(&self, action: impl Fn(Action) -> bool) -> impl Iterator<Item = &AuthorizationPolicy> {
        self.policies.authorization.values().filter(move |policy| action(policy.action))
    }

    fn first(&self, action: Action, call: &Call<'_>, aspect: Aspect<'_>) -> Option<String> {
        self.with(|is| is == action).find_map(|policy| self.matches(policy, call, aspect))
    }

    fn own<'a>(&self, key: &'a PolicyKey) -> Option<&'a Namespace> {
        (key.namespace != self.root).then_some(&key.namespace)
    }

    fn selects(&self, key: &PolicyKey, services: &[ServicePattern], service: &ServiceKey) -> bool {
        let own = self.own(key);
        let everything = services.is_empty() && own.is_none_or(|own| *own == service.namespace);
        everything || services.iter().any(|pattern| pattern.matches(own, service))
    }

    /// The entries of `to` that select the service; one that asks nothing stands for an empty list.
    fn selecting(
        &self,
        policy: &AuthorizationPolicy,
        service: &ServiceKey,
    ) -> impl Iterator<Item = (usize, TargetRule)> {
        let to = if policy.to.is_empty() { vec![TargetRule::default()] } else { policy.to.clone() };
        let selects = |rule: &TargetRule| self.selects(&policy.key, &rule.services, service);
        to.into_iter().enumerate().filter(|(_, rule)| selects(rule)).collect::<Vec<_>>().into_iter()
    }

    fn judges_path(&self, policy: &AuthorizationPolicy, call: &Call<'_>) -> bool {
        self.selecting(policy, call.service).any(|(_, rule)| !rule.paths.is_empty() && on_port(&rule, call))
    }

    fn matches(&self, policy: &AuthorizationPolicy, call: &Call<'_>, aspect: Aspect<'_>) -> Option<String> {
        let effect = policy.action.effect();
        let from = if policy.from.is_empty() { vec![SourceRule::default()] } else { policy.from.clone() };
        let from = from.iter().position(|rule| self.is_caller(rule, call))?;
        let mut to = self.selecting(policy, call.service);
        let (to, _) = to.find(|(_, rule)| on_port(rule, call) && is_request(rule, effect, aspect))?;
        let from = if policy.from.is_empty() { String::new() } else { format!(" from[{from}]") };
        let to = if policy.to.is_empty() { String::new() } else { format!(" to[{to}]") };
        Some(format!("AuthorizationPolicy {}{from}{to}", policy.key))
    }

    fn is_caller(&self, rule: &SourceRule, call: &Call<'_>) -> bool {
        let id = call.caller.principal();
        let stands_for = |written: &TrustDomain, is: &TrustDomain| {
            written == is || self.aliases.0.get(written).is_some_and(|all| all.contains(is))
        };
        let is_principal = |pattern: &PrincipalPattern| {
            id.is_some_and(|id| {
                let domain = pattern.trust_domain.as_ref();
                domain.is_none_or(|domain| stands_for(domain, id.trust_domain())) && pattern.path.matches(id.path())
            })
        };
        let namespace = id.and_then(namespace_of);
        (rule.principals.is_empty() || rule.principals.iter().any(is_principal))
            && (rule.namespaces.is_empty()
                || namespace.is_some_and(|is| rule.namespaces.iter().any(|pattern| pattern.matches(is))))
            && (rule.trust_domains.is_empty()
                || id.is_some_and(|id| rule.trust_domains.iter().any(|domain| stands_for(domain, id.trust_domain()))))
            && (rule.clusters.is_empty() || rule.clusters.contains(call.source_cluster))
            && rule.assurance.is_none_or(|least| call.caller.assurance() >= least)
    }
}

fn on_port(rule: &TargetRule, call: &Call<'_>) -> bool {
    rule.ports.is_empty() || rule.ports.contains(&call.port)
}

fn is_request(rule: &TargetRule, effect: Effect, aspect: Aspect<'_>) -> bool {
    if rule.methods.is_empty() && rule.paths.is_empty() {
        return true;
    }
    match aspect {
        Aspect::Bytes => effect == Effect::Deny,
        Aspect::HttpConnection => effect == Effect::Allow,
        Aspect::HttpRequest(request) => {
            let path = path_of(request);
            (rule.methods.is_empty() || rule.methods.iter().any(|pattern| pattern.matches(request.method)))
                && (rule.paths.is_empty()
                    || path.is_some_and(|path| rule.paths.iter().any(|want| canonical_pattern(want).matches(&path))))
        }
    }
}

fn path_of(HttpRequest { method, path }: HttpRequest<'_>) -> Option<Cow<'_, str>> {
    canonical_path(path).ok().filter(|path| path != "*" || method == "OPTIONS")
}

pub(super) fn has_ambiguous_path(aspect: Aspect<'_>) -> bool {
    match aspect {
        Aspect::Bytes | Aspect::HttpConnection => false,
        Aspect::HttpRequest(request) => path_of(request).is_none(),
    }
}
