//! Findings about whom policies mean.
//!
//! Owns principals and assurance. Never looks at requests.

use std::collections::BTreeSet;

use federation_model::{
    caller::Assurance,
    finding::Level,
    names::ServiceKey,
    policy::{
        Action, AuthenticationMode, Effect, PolicyKind, SourceRule,
        pattern::{PrincipalPattern, TextPattern},
    },
};

use super::{
    super::{
        authentication::Authentication,
        compile::{authentication, namespace},
        fields::selects,
        rules::CompiledPolicy,
    },
    Findings, World,
};

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for (policy, _) in &world.authorization {
        let of = (PolicyKind::Authorization, &policy.key);
        for (entry, rule) in policy.from.iter().enumerate() {
            for pattern in rule.principals.iter().filter(|pattern| is_unknown(world, pattern)) {
                let text = format!("from[{entry}].principals: {pattern} matches no principal that is known here");
                let remedy = "correct the namespace or the service account, or run the workload".to_owned();
                findings.add(of, Level::Warning, text, remedy);
            }
        }
        let everybody = policy.from.is_empty() || policy.from.contains(&SourceRule::default());
        if everybody && policy.action.effect() == Effect::Allow {
            let text = "it allows everybody, callers that are not known among them".to_owned();
            let remedy = "name the callers in `from`; principals: [\"*\"] means all that are known".to_owned();
            findings.add(of, Level::Warning, text, remedy);
        }
    }
    check_assurance(world, findings);
}

/// Whether a pattern means only trust domains whose principals are all known, and none of them.
fn is_unknown(world: &World<'_>, pattern: &PrincipalPattern) -> bool {
    let Some(written) = &pattern.trust_domain else { return false };
    let is_alias = world.aliases.0.contains_key(written);
    let patterns = world.aliases.principals(pattern);
    let mut meant = patterns.iter().filter(|meant| !is_alias || meant.trust_domain.as_ref() != Some(written));
    meant.all(|meant| {
        let known = meant.trust_domain.as_ref().and_then(|domain| world.known.principals.get(domain));
        known.is_some_and(|ids| !ids.iter().any(|id| meant.matches(id)))
    })
}

/// Services to which STRICT admits none of the callers that their ALLOW policies were written for.
fn check_assurance(world: &World<'_>, findings: &mut Findings) {
    let in_force = authentication(world.policies, world.root);
    let allow = Action::Enforce(Effect::Allow);
    let allowing: Vec<_> = world.authorization.iter().filter(|(policy, _)| policy.action == allow).collect();
    for service in services(world, &allowing.iter().map(|(_, compiled)| compiled).collect::<Vec<_>>()) {
        let Some(strict) = strict(&in_force, &service) else { continue };
        let selects =
            |compiled: &CompiledPolicy| compiled.to.iter().any(|rule| selects(rule, &compiled.scope, &service));
        let entries: Vec<_> = (allowing.iter().filter(|(_, compiled)| selects(compiled)))
            .flat_map(|(policy, compiled)| compiled.from.iter().map(move |rule| (*policy, rule)))
            .collect();
        let lower = |rule: &SourceRule| rule.assurance.is_some_and(|least| least < Assurance::Mtls);
        let Some((policy, _)) = entries.first() else { continue };
        if entries.iter().all(|(_, rule)| lower(rule)) {
            let text = format!(
                "it admits callers to {service} that do not prove their own key, and PeerAuthentication {strict} is STRICT \
                 there"
            );
            let remedy =
                "ask for assurance: mtls here, or write a PeerAuthentication with mode: PERMISSIVE for the service";
            findings.add((PolicyKind::Authorization, &policy.key), Level::Warning, text, remedy.to_owned());
        }
    }
}

fn strict(authentication: &Authentication, service: &ServiceKey) -> Option<String> {
    let (policy, _) = authentication.in_force(service)?;
    match policy.mode {
        AuthenticationMode::Strict => Some(policy.key.to_string()),
        AuthenticationMode::Permissive => None,
    }
}

/// The services that are known; else those that the policies name in full.
fn services(world: &World<'_>, policies: &[&CompiledPolicy]) -> BTreeSet<ServiceKey> {
    if let Some(known) = &world.known.services {
        return known.clone();
    }
    let named = policies.iter().flat_map(|compiled| {
        let patterns = compiled.to.iter().flat_map(|rule| &rule.services);
        patterns.filter_map(|pattern| named(&namespace(pattern, &compiled.scope)?, &pattern.name))
    });
    named.collect()
}

fn named(namespace: &TextPattern, name: &TextPattern) -> Option<ServiceKey> {
    match (namespace, name) {
        (TextPattern::Exact(namespace), TextPattern::Exact(name)) => {
            Some(ServiceKey::new(namespace.parse().ok()?, name.parse().ok()?))
        }
        (TextPattern::Any | TextPattern::Prefix(_) | TextPattern::Suffix(_), _)
        | (TextPattern::Exact(_), TextPattern::Any | TextPattern::Prefix(_) | TextPattern::Suffix(_)) => None,
    }
}
