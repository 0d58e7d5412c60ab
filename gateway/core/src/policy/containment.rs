//! Whether one rule means everything that another one means.
//!
//! Owns containment of patterns and of rules. It is never claimed where it does not hold; where it could only be shown by
//! knowing all names there are, it is not found.

use federation_model::{
    caller::Assurance,
    policy::{
        SourceRule, TargetRule,
        pattern::{PrincipalPattern, ServicePattern, TextPattern},
    },
};

use super::{compile::namespace, fields::Scope};

/// Comparisons that two lists are worth: of longer ones containment is not found.
const COMPARED: usize = 1 << 20;

/// Whether every text that matches `narrow` matches `wide`.
#[must_use]
pub fn covers(wide: &TextPattern, narrow: &TextPattern) -> bool {
    match (wide, narrow) {
        (TextPattern::Any, _) => true,
        (TextPattern::Prefix(affix) | TextPattern::Suffix(affix), _) if affix.is_empty() => true,
        (TextPattern::Exact(one), TextPattern::Exact(other)) => one == other,
        (TextPattern::Prefix(start), TextPattern::Exact(text) | TextPattern::Prefix(text)) => text.starts_with(start),
        (TextPattern::Suffix(end), TextPattern::Exact(text) | TextPattern::Suffix(text)) => text.ends_with(end),
        (TextPattern::Exact(_), TextPattern::Any | TextPattern::Prefix(_) | TextPattern::Suffix(_))
        | (TextPattern::Prefix(_), TextPattern::Any | TextPattern::Suffix(_))
        | (TextPattern::Suffix(_), TextPattern::Any | TextPattern::Prefix(_)) => false,
    }
}

/// Whether every id that matches `narrow` matches `wide`. Aliases are to be resolved before.
#[must_use]
pub fn covers_principal(wide: &PrincipalPattern, narrow: &PrincipalPattern) -> bool {
    let domain = wide.trust_domain.is_none() || wide.trust_domain == narrow.trust_domain;
    domain && covers(&wide.path, &narrow.path)
}

/// Whether every caller that meets `narrow` meets `wide`.
pub(super) fn covers_source(wide: &SourceRule, narrow: &SourceRule) -> bool {
    let least = |rule: &SourceRule| rule.assurance.unwrap_or(Assurance::None);
    covers_list(&wide.principals, &narrow.principals, covers_principal)
        && (covers_list(&wide.namespaces, &narrow.namespaces, covers) || namespaces_of_principals(wide, narrow))
        && (covers_list(&wide.trust_domains, &narrow.trust_domains, PartialEq::eq)
            || domains_of_principals(wide, narrow))
        && covers_list(&wide.clusters, &narrow.clusters, PartialEq::eq)
        && least(wide) <= least(narrow)
}

/// Whether `narrow` selects anything, and every service and port that it selects is one that `wide` selects, and every request likewise. A rule
/// that speaks of requests does not cover one that does not, since they differ where there are none.
pub(super) fn covers_target(wide: (&TargetRule, &Scope), narrow: (&TargetRule, &Scope)) -> bool {
    let ((rule, _), (other, _)) = (wide, narrow);
    covers_list(&rule.ports, &other.ports, PartialEq::eq)
        && covers_list(&rule.methods, &other.methods, covers)
        && covers_list(&rule.paths, &other.paths, covers)
        && covers_services(wide, narrow)
}

fn covers_services(wide: (&TargetRule, &Scope), narrow: (&TargetRule, &Scope)) -> bool {
    let wide: Vec<_> = selected(wide.0, wide.1).collect();
    let by_one = |(namespace, name): &(TextPattern, TextPattern)| {
        wide.iter().any(|(wider, names)| covers(wider, namespace) && covers(names, name))
    };
    let narrow: Vec<_> = selected(narrow.0, narrow.1).collect();
    let worth_it = wide.len().saturating_mul(narrow.len()) <= COMPARED;
    worth_it && !narrow.is_empty() && narrow.iter().all(by_one)
}

/// The namespaces and names that an entry of `to` selects.
fn selected<'a>(rule: &'a TargetRule, scope: &'a Scope) -> impl Iterator<Item = (TextPattern, TextPattern)> + 'a {
    let every = rule.services.is_empty().then_some(ServicePattern { namespace: None, name: TextPattern::Any });
    let every = every.and_then(|pattern| Some((namespace(&pattern, scope)?, pattern.name)));
    let written =
        rule.services.iter().filter_map(move |pattern| Some((namespace(pattern, scope)?, pattern.name.clone())));
    every.into_iter().chain(written)
}

/// An empty list asks for nothing, so it covers every list, and only an empty one covers it.
fn covers_list<T>(wide: &[T], narrow: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    if wide.len().saturating_mul(narrow.len()) > COMPARED {
        return false;
    }
    wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|one| wide.iter().any(|wider| covers(wider, one)))
}

/// Whether the principals of `narrow` are of namespaces that `wide` means.
fn namespaces_of_principals(wide: &SourceRule, narrow: &SourceRule) -> bool {
    !narrow.principals.is_empty()
        && narrow.principals.iter().all(|principal| match &principal.path {
            TextPattern::Exact(path) => {
                super::fields::namespace_in(path).is_some_and(|is| wide.namespaces.iter().any(|want| want.matches(is)))
            }
            TextPattern::Any | TextPattern::Prefix(_) | TextPattern::Suffix(_) => false,
        })
}

/// Whether the principals of `narrow` are of trust domains that `wide` means.
fn domains_of_principals(wide: &SourceRule, narrow: &SourceRule) -> bool {
    let meant = |principal: &PrincipalPattern| {
        principal.trust_domain.as_ref().is_some_and(|domain| wide.trust_domains.contains(domain))
    };
    !narrow.principals.is_empty() && narrow.principals.iter().all(meant)
}
