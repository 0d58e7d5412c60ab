//! Which rules a call can match, found from its caller and from its service at once.
//!
//! Owns the two indexes of a set of rules and their intersection: the shorter of two lists is walked and the longer one
//! searched, so that neither a service that thousands of policies select nor a caller that thousands of policies name is
//! slow by itself. Never judges a field that is not indexed.

use std::{collections::HashMap, ops::ControlFlow};

use federation_model::{
    names::{ClusterName, ServiceKey},
    spiffe::TrustDomain,
};

use super::{fields::Facts, pattern_map::PatternMap};

/// An entry of `from` or `to` of one policy, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RuleId {
    /// The position of the policy in its set.
    pub(super) policy: u32,
    /// The position of the entry in the policy.
    pub(super) entry: u32,
}

/// Rules in ascending order.
pub(super) type Rules = Box<[RuleId]>;

/// Entries of `to` by the services they select.
#[derive(Default)]
pub(super) struct ServiceIndex {
    pub(super) by_namespace: PatternMap<PatternMap<Rules>>,
}

impl ServiceIndex {
    /// The lists of entries that select `service`.
    pub(super) fn selecting<'a>(&'a self, service: &'a ServiceKey) -> impl Iterator<Item = &'a [RuleId]> {
        let namespaces = self.by_namespace.matching(service.namespace.as_str());
        namespaces.flat_map(|names| names.matching(service.name.as_str())).map(AsRef::as_ref)
    }

    /// The policies that select `service`, ascending.
    pub(super) fn policies(&self, service: &ServiceKey) -> Vec<u32> {
        let mut policies: Vec<u32> = self.selecting(service).flatten().map(|id| id.policy).collect();
        policies.sort_unstable();
        policies.dedup();
        policies
    }
}

/// Entries of `from`, each by the first of these properties that it speaks of.
#[derive(Default)]
pub(super) struct CallerIndex {
    pub(super) principals: HashMap<TrustDomain, PatternMap<Rules>>,
    pub(super) principals_anywhere: PatternMap<Rules>,
    pub(super) namespaces: PatternMap<Rules>,
    pub(super) trust_domains: HashMap<TrustDomain, Rules>,
    pub(super) clusters: HashMap<ClusterName, Rules>,
    pub(super) everybody: Rules,
}

impl CallerIndex {
    /// The lists of entries that may mean the caller. What they were found by holds; the rest is to be judged.
    pub(super) fn meaning<'a>(&'a self, facts: &'a Facts<'_>) -> impl Iterator<Item = &'a [RuleId]> {
        let known = facts.principal.into_iter().flat_map(|id| {
            let (domain, path) = (id.trust_domain(), id.path());
            (self.principals.get(domain).into_iter().flat_map(move |paths| paths.matching(path)))
                .chain(self.principals_anywhere.matching(path))
                .chain(self.trust_domains.get(domain))
        });
        (known.chain(facts.namespace.into_iter().flat_map(|namespace| self.namespaces.matching(namespace))))
            .chain(self.clusters.get(facts.source_cluster))
            .chain([&self.everybody])
            .map(AsRef::as_ref)
    }
}

/// Visits each policy that both lists have, in ascending order, with its entries in either.
pub(super) fn intersect<'a>(
    mut left: &'a [RuleId],
    mut right: &'a [RuleId],
    mut visit: impl FnMut(&'a [RuleId], &'a [RuleId]) -> ControlFlow<()>,
) {
    while let (Some(first), Some(other)) = (left.first(), right.first()) {
        if first.policy < other.policy {
            left = from_policy(left, other.policy);
        } else if other.policy < first.policy {
            right = from_policy(right, first.policy);
        } else {
            let (entries, rest) = left.split_at(left.len() - from_policy(left, first.policy + 1).len());
            let (others, other_rest) = right.split_at(right.len() - from_policy(right, first.policy + 1).len());
            if visit(entries, others).is_break() {
                return;
            }
            (left, right) = (rest, other_rest);
        }
    }
}

/// The part of `rules` that starts with `policy` or a later one. What is near the beginning is found fast.
pub(super) fn from_policy(rules: &[RuleId], policy: u32) -> &[RuleId] {
    let mut reach = 1;
    while reach < rules.len() && rules[reach].policy < policy {
        reach *= 2;
    }
    let near = &rules[..rules.len().min(reach + 1)];
    &rules[near.partition_point(|id| id.policy < policy)..]
}
