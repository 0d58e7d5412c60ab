//! Findings about what policies select.
//!
//! Owns services, ports, methods and paths. Never looks at callers.

use std::collections::BTreeSet;

use federation_model::{
    addr::Port,
    finding::Level,
    names::ServiceKey,
    policy::{
        Effect, PolicyKey, PolicyKind, TargetRule,
        pattern::{ServicePattern, TextPattern},
    },
};

use super::{
    super::{
        compile::{namespace, scope},
        fields::selects,
        path::check_pattern,
        rules::CompiledPolicy,
    },
    Findings, World,
};

/// Methods that are written in capital letters (RFC 9110 section 9.1, RFC 5789).
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for (policy, compiled) in &world.authorization {
        let of = (PolicyKind::Authorization, &policy.key);
        for (entry, rule) in policy.to.iter().enumerate() {
            let at = format!("to[{entry}].services");
            check_services(world, of, &at, &rule.services, findings);
            check_requests(of, entry, rule, findings);
        }
        if policy.to.is_empty() {
            check_services(world, of, "`to`", &[], findings);
        }
        check_ports(world, (&policy.key, policy.action.effect()), compiled, findings);
    }
    for policy in world.policies.authentication.values() {
        let of = (PolicyKind::Authentication, &policy.key);
        check_services(world, of, "services", &policy.services, findings);
    }
}

fn check_services(
    world: &World<'_>,
    of: (PolicyKind, &PolicyKey),
    at: &str,
    services: &[ServicePattern],
    findings: &mut Findings,
) {
    let (own, root) = (scope(&of.1.namespace, world.root), world.root);
    let none = |pattern: Option<&ServicePattern>| {
        let known = world.known.services.as_ref()?;
        let selected = known.iter().any(|service| match pattern {
            Some(pattern) => pattern.matches(own.as_ref(), service),
            None => own.as_ref().is_none_or(|own| *own == service.namespace),
        });
        (!selected).then_some(())
    };
    for pattern in services {
        if namespace(pattern, &own).is_none() {
            let text = format!("{at}: {pattern} means services of another namespace, so it selects nothing");
            let remedy = format!("write the policy in that namespace, or in the root namespace {root}");
            findings.add(of, Level::Failed, text, remedy);
        } else if none(Some(pattern)).is_some() {
            let text = format!("{at}: {pattern} selects no service that is exported here");
            findings.add(of, Level::Warning, text, "correct the name, or export the service".to_owned());
        }
    }
    if services.is_empty() && none(None).is_some() {
        let place = own.as_ref().map(|own| format!(" of namespace {own}")).unwrap_or_default();
        let text = format!("{at}: no service{place} is exported here");
        findings.add(of, Level::Warning, text, "correct the namespace, or export a service".to_owned());
    }
}

fn check_requests(of: (PolicyKind, &PolicyKey), entry: usize, rule: &TargetRule, findings: &mut Findings) {
    for path in &rule.paths {
        if let Err(problem) = check_pattern(path) {
            let text =
                format!("to[{entry}].paths: {path} {problem}, and such requests are refused before it is compared");
            findings.add(of, Level::Failed, text, "write the plain form of the path".to_owned());
        }
    }
    for method in &rule.methods {
        let upper = match method {
            TextPattern::Exact(method) => method.to_ascii_uppercase(),
            TextPattern::Any | TextPattern::Prefix(_) | TextPattern::Suffix(_) => continue,
        };
        if METHODS.contains(&upper.as_str()) && method.to_string() != upper {
            let text = format!("to[{entry}].methods: {method} is not {upper}, methods are case-sensitive");
            findings.add(of, Level::Failed, text, format!("write {upper}"));
        }
    }
}

/// Entries that speak of requests, on ports where none are seen.
fn check_ports(
    world: &World<'_>,
    (key, effect): (&PolicyKey, Effect),
    compiled: &CompiledPolicy,
    findings: &mut Findings,
) {
    let Some(http) = &world.known.http_ports else { return };
    let known = world.known.services.iter().flatten();
    let services: BTreeSet<&ServiceKey> = known.chain(http.iter().map(|(service, _)| service)).collect();
    for (entry, rule) in compiled.to.iter().enumerate().filter(|(_, rule)| rule.is_http()) {
        let selected = services.iter().copied().filter(|service| selects(rule, &compiled.scope, service));
        let places: Vec<String> = selected.flat_map(|service| places_without_requests(service, rule, http)).collect();
        let Some(place) = places.first() else { continue };
        let others = if places.len() > 1 { format!(" and {} more", places.len() - 1) } else { String::new() };
        let does = match effect {
            Effect::Allow => "allows nothing",
            Effect::Deny => "denies whole connections, whatever they carry,",
        };
        let text =
            format!("to[{entry}] speaks of requests, and {does} on {place}{others}, which is not delivered as http");
        let remedy = "deliver the port as http, or take `methods` and `paths` out of this entry".to_owned();
        findings.add((PolicyKind::Authorization, key), Level::Failed, text, remedy);
    }
}

fn places_without_requests(
    service: &ServiceKey,
    rule: &TargetRule,
    http: &BTreeSet<(ServiceKey, Port)>,
) -> Vec<String> {
    if rule.ports.is_empty() {
        let any = http.iter().any(|(with, _)| with == service);
        return if any { Vec::new() } else { vec![service.to_string()] };
    }
    let without = rule.ports.iter().filter(|port| !http.contains(&(service.clone(), **port)));
    without.map(|port| format!("{service}:{port}")).collect()
}
