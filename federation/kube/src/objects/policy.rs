//! Policies become the values of `federation_model::policy`.
//!
//! Owns what an object may say: a field that could match nothing, or more than its author meant, is an error that names its
//! path and what to write instead. Whether a service or a principal exists is not asked here. Never reads text.

use federation_model::{
    addr::Port,
    caller::Assurance,
    names::MAX_LABEL,
    policy::{
        Action, AuthenticationMode, AuthorizationPolicy, Effect, PeerAuthentication, PolicyKey, SourceRule, TargetRule,
        pattern::{ServicePattern, TextPattern},
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{FieldError, object_key, parse, port};
use crate::crd::policy::{self as crd, ActionWord, AssuranceWord, EffectWord, MAX_ENTRIES, MAX_RULES, ModeWord};

/// Converts an AuthorizationPolicy.
///
/// # Errors
/// When a field is not valid; the error begins with its path.
pub fn authorization_policy(object: &crd::AuthorizationPolicy) -> Result<AuthorizationPolicy, FieldError> {
    let spec = &object.spec;
    Ok(AuthorizationPolicy {
        key: key(&object.metadata)?,
        action: action(spec.action, spec.audits)?,
        from: list("spec.from", spec.from.as_deref(), MAX_RULES, source)?,
        to: list("spec.to", spec.to.as_deref(), MAX_RULES, target)?,
    })
}

/// Converts a PeerAuthentication.
///
/// # Errors
/// When a field is not valid; the error begins with its path.
pub fn peer_authentication(object: &crd::PeerAuthentication) -> Result<PeerAuthentication, FieldError> {
    Ok(PeerAuthentication {
        key: key(&object.metadata)?,
        services: texts("spec.services", object.spec.services.as_deref(), service)?,
        mode: match object.spec.mode {
            ModeWord::Strict => AuthenticationMode::Strict,
            ModeWord::Permissive => AuthenticationMode::Permissive,
        },
    })
}

fn key(metadata: &ObjectMeta) -> Result<PolicyKey, FieldError> {
    object_key(metadata).map(|key| PolicyKey { namespace: key.namespace, name: key.name.to_string() })
}

fn action(action: ActionWord, audits: Option<EffectWord>) -> Result<Action, FieldError> {
    let effect = audits.map(|audits| match audits {
        EffectWord::Allow => Effect::Allow,
        EffectWord::Deny => Effect::Deny,
    });
    match (action, effect) {
        (ActionWord::Allow, None) => Ok(Action::Enforce(Effect::Allow)),
        (ActionWord::Deny, None) => Ok(Action::Enforce(Effect::Deny)),
        (ActionWord::Audit, Some(effect)) => Ok(Action::Audit(effect)),
        (ActionWord::Audit, None) => {
            Err(FieldError::new("spec.audits", "action AUDIT needs it; write what is to be reported, ALLOW or DENY"))
        }
        (ActionWord::Allow | ActionWord::Deny, Some(_)) => Err(FieldError::new(
            "spec.audits",
            "it goes with action AUDIT alone; leave it out, or write AUDIT to only report",
        )),
    }
}

fn source(path: &str, rule: &crd::SourceSpec) -> Result<SourceRule, FieldError> {
    let field = |name| format!("{path}.{name}");
    if *rule == crd::SourceSpec::default() {
        return Err(FieldError::new(path, "an empty rule matches every caller; leave from out when that is meant"));
    }
    Ok(SourceRule {
        principals: texts(&field("principals"), rule.principals.as_deref(), parse)?,
        namespaces: texts(&field("namespaces"), rule.namespaces.as_deref(), label)?,
        clusters: texts(&field("clusters"), rule.clusters.as_deref(), parse)?,
        trust_domains: texts(&field("trustDomains"), rule.trust_domains.as_deref(), parse)?,
        assurance: rule.assurance.map(|word| match word {
            AssuranceWord::Attested => Assurance::Attested,
            AssuranceWord::Mtls => Assurance::Mtls,
        }),
    })
}

fn target(path: &str, rule: &crd::TargetSpec) -> Result<TargetRule, FieldError> {
    let field = |name| format!("{path}.{name}");
    if *rule == crd::TargetSpec::default() {
        return Err(FieldError::new(
            path,
            "an empty rule matches every service of the namespace; leave to out when that is meant",
        ));
    }
    Ok(TargetRule {
        services: texts(&field("services"), rule.services.as_deref(), service)?,
        ports: list(&field("ports"), rule.ports.as_deref(), MAX_ENTRIES, |path, number| -> Result<Port, _> {
            port(path, *number)
        })?,
        methods: texts(&field("methods"), rule.methods.as_deref(), method)?,
        paths: texts(&field("paths"), rule.paths.as_deref(), http_path)?,
    })
}

/// A list of texts within its limit.
fn texts<T>(
    path: &str,
    entries: Option<&[String]>,
    convert: impl Fn(&str, &str) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    list(path, entries, MAX_ENTRIES, |path, text| convert(path, text))
}

/// A list within its limit. One that is written has entries: an empty one reads as nothing to one and as everything to
/// another.
fn list<F, T>(
    path: &str,
    entries: Option<&[F]>,
    most: usize,
    convert: impl Fn(&str, &F) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    let Some(entries) = entries else { return Ok(Vec::new()) };
    if entries.is_empty() {
        return Err(FieldError::new(path, "the list is empty, which could mean everything or nothing; leave it out"));
    }
    if entries.len() > most {
        let reason = format!("{} entries are more than the {most} there may be; write a second policy", entries.len());
        return Err(FieldError::new(path, reason));
    }
    entries.iter().enumerate().map(|(index, entry)| convert(&format!("{path}[{index}]"), entry)).collect()
}

/// A pattern of services.
pub(crate) fn service(path: &str, text: &str) -> Result<ServicePattern, FieldError> {
    let pattern: ServicePattern = parse(path, text)?;
    if let Some(namespace) = &pattern.namespace {
        check_label(path, namespace)?;
    }
    check_label(path, &pattern.name)?;
    Ok(pattern)
}

/// A pattern of labels, as names of namespaces are.
fn label(path: &str, text: &str) -> Result<TextPattern, FieldError> {
    let pattern = parse(path, text)?;
    check_label(path, &pattern)?;
    Ok(pattern)
}

/// A pattern that no name could match is a mistake, and in a DENY one that lets everything in.
fn check_label(path: &str, pattern: &TextPattern) -> Result<(), FieldError> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    match literal(pattern) {
        Some(text) if text.len() > MAX_LABEL || !text.bytes().all(allowed) => Err(FieldError::new(
            path,
            format!(
                "{:?} is no part of a name; write at most {MAX_LABEL} lowercase letters, digits and '-', with a * at one \
                 end if need be",
                shown(text)
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// A pattern of HTTP methods (RFC 9110 section 9.1: they are case-sensitive, and those that exist are in capitals).
fn method(path: &str, text: &str) -> Result<TextPattern, FieldError> {
    let pattern = parse(path, text)?;
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"!#$%&'+-.^_`|~".contains(&b);
    match literal(&pattern) {
        Some(text) if !text.bytes().all(allowed) => Err(FieldError::new(
            path,
            format!("{:?} is not a method; write it in capitals, such as GET, or * for all", shown(text)),
        )),
        Some(_) | None => Ok(pattern),
    }
}

/// A pattern of paths (RFC 3986 section 3.3), without query and fragment.
fn http_path(path: &str, text: &str) -> Result<TextPattern, FieldError> {
    let pattern = parse(path, text)?;
    let fail = |reason: &str| Err(FieldError::new(path, format!("{:?} {reason}", shown(text))));
    if let TextPattern::Exact(start) | TextPattern::Prefix(start) = &pattern
        && !start.starts_with('/')
    {
        return fail("does not begin with /; write /path, /path* or *end");
    }
    let literal = literal(&pattern).unwrap_or_default();
    if literal.contains(['?', '#']) {
        return fail("has a query or a fragment, which are not compared; write the path alone");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()+,;=:@".contains(&b);
    if !literal.bytes().all(allowed) {
        return fail("has a character that no path has; write it percent-encoded");
    }
    Ok(pattern)
}

/// The text of a pattern beside its `*`.
fn literal(pattern: &TextPattern) -> Option<&str> {
    match pattern {
        TextPattern::Any => None,
        TextPattern::Exact(text) | TextPattern::Prefix(text) | TextPattern::Suffix(text) => Some(text),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
