//! The ALLOW policy that misses a call by the least.
//!
//! Owns the advice for a call that no policy allows. Never decides.

use std::sync::Arc;

use federation_model::policy::PolicyKey;

use super::{
    fields::{Facts, Field, Handle, source_mismatch, target_mismatch},
    index::{RuleId, from_policy},
    rules::RuleSet,
    verdict::Refusal,
};

/// Policies that are compared with a refused call: a caller cannot make a gateway walk all of them at each attempt.
const COMPARED: usize = 16;

/// The policy, and what in it does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// The policy.
    pub policy: Arc<PolicyKey>,
    /// The closest entry of `from`, and its first field that the caller does not meet; nothing when the caller matches.
    pub from: Option<(u32, Field)>,
    /// The closest entry of `to`, and its first field that the call does not meet; nothing when the call matches.
    pub to: Option<(u32, Field)>,
    /// The part of the call that the field of `to` was compared with.
    got: String,
}

impl Nearest {
    /// Of the policies that select the service.
    pub(super) fn find(allow: &RuleSet, (first, others): (u32, &[u32]), facts: &Facts<'_>) -> Self {
        let others = others.iter().take(COMPARED - 1).map(|policy| Self::of(allow, *policy, facts));
        let nearer = |best: Self, next: Self| if next.distance() < best.distance() { next } else { best };
        others.fold(Self::of(allow, first, facts), nearer)
    }

    fn of(allow: &RuleSet, policy: u32, facts: &Facts<'_>) -> Self {
        let (compiled, effect) = (allow.policy(policy), allow.action.effect());
        let meant = entries(allow.callers.meaning(facts), policy).map(|entry| {
            let rule = &compiled.from[entry as usize];
            (entry, source_mismatch(rule, facts, Handle::of(rule).field()))
        });
        let selecting = entries(allow.services.selecting(facts.service), policy)
            .map(|entry| (entry, target_mismatch(&compiled.to[entry as usize], effect, facts)));
        // An entry that the index does not return differs in what it is found by.
        let first = compiled.from.first().and_then(|rule| Handle::of(rule).field());
        let from = closest(meant, (0, first.unwrap_or(Field::Principals)));
        let to = closest(selecting, (0, Field::Services));
        let got = to.map(|(_, field)| facts.got(field)).unwrap_or_default();
        Self { policy: compiled.key.clone(), from, to, got }
    }

    fn distance(&self) -> impl Ord + use<> {
        let left = |missing: Option<(u32, Field)>| missing.map(|(_, field)| std::cmp::Reverse(field));
        (usize::from(self.from.is_some()) + usize::from(self.to.is_some()), left(self.from), left(self.to))
    }

    pub(super) fn remedy(&self, refusal: &Refusal) -> String {
        let policy = &self.policy;
        match (self.from, self.to) {
            (Some((_, Field::Assurance)), None) => refusal.prove_the_key(),
            (Some(_), None) => match &refusal.principal {
                Some(id) => {
                    format!("add `principals: [\"{id}\"]` as an entry of `from` to AuthorizationPolicy {policy}")
                }
                None => unknown_caller(refusal),
            },
            (None, Some((to, field))) => self.widen(to, field, refusal),
            (Some(_), Some(_)) | (None, None) => write_one(refusal),
        }
    }

    fn widen(&self, to: u32, field: Field, refusal: &Refusal) -> String {
        let (policy, port) = (&self.policy, refusal.port);
        match field {
            Field::Ports => format!("add {port} to to[{to}].ports of AuthorizationPolicy {policy}"),
            Field::Methods | Field::Paths if self.got.is_empty() => format!(
                "deliver port {port} of {} as http, or take `methods` and `paths` out of to[{to}] of AuthorizationPolicy \
                 {policy}",
                refusal.service
            ),
            Field::Methods | Field::Paths => {
                format!("add {:?} to to[{to}].{} of AuthorizationPolicy {policy}", self.got, field.name())
            }
            Field::Services
            | Field::Principals
            | Field::Namespaces
            | Field::TrustDomains
            | Field::Clusters
            | Field::Assurance => write_one(refusal),
        }
    }
}

fn write_one(refusal: &Refusal) -> String {
    let (service, port) = (&refusal.service, refusal.port);
    let Some(id) = &refusal.principal else { return unknown_caller(refusal) };
    format!(
        "write an AuthorizationPolicy in namespace {} with action: ALLOW, from: [{{principals: [\"{id}\"]}}] and to: \
         [{{services: [{}], ports: [{port}]}}]",
        service.namespace, service.name
    )
}

fn unknown_caller(refusal: &Refusal) -> String {
    format!(
        "have the caller known: it runs as a Pod outside the host's network, or calls outbound.mtls_listen of its gateway in \
         {} with its X.509-SVID",
        refusal.source_cluster
    )
}

/// The entries of one policy in the lists of an index.
fn entries<'a>(lists: impl Iterator<Item = &'a [RuleId]>, policy: u32) -> impl Iterator<Item = u32> {
    lists.flat_map(move |list| {
        let list = from_policy(list, policy);
        list.iter().take_while(move |id| id.policy == policy).map(|id| id.entry)
    })
}

/// The entry that got furthest, `otherwise` when there are none; nothing when one matches.
fn closest(mismatches: impl Iterator<Item = (u32, Option<Field>)>, otherwise: (u32, Field)) -> Option<(u32, Field)> {
    let mut best = otherwise;
    for (entry, mismatch) in mismatches {
        let field = mismatch?;
        if best.1 < field {
            best = (entry, field);
        }
    }
    Some(best)
}
