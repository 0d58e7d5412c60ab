//! All policies of one action, compiled.
//!
//! Owns the search for those that a call matches. Never says what a match means: [`super::PolicyTable`] does.

use std::{ops::ControlFlow, sync::Arc};

use federation_model::policy::{Action, PolicyKey, SourceRule, TargetRule};

use super::{
    fields::{Facts, Handle, Scope, selects, source_mismatch, target_mismatch},
    index::{CallerIndex, RuleId, ServiceIndex, intersect},
    verdict::Rule,
};

/// The policies of one action, in the order of their keys.
pub(super) struct RuleSet {
    pub(super) action: Action,
    pub(super) policies: Box<[CompiledPolicy]>,
    pub(super) callers: CallerIndex,
    pub(super) services: ServiceIndex,
}

/// A policy whose trust domain aliases are resolved and whose paths are canonical. Neither list is empty.
pub(super) struct CompiledPolicy {
    pub(super) key: Arc<PolicyKey>,
    pub(super) scope: Scope,
    pub(super) from: Box<[SourceRule]>,
    pub(super) to: Box<[TargetRule]>,
    /// Whether `from` and `to` are written, rather than what stands for their absence.
    pub(super) written: (bool, bool),
}

/// A policy that a call matches, with the first entries of `from` and `to` that do. In the order of what is reported first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Match {
    pub(super) policy: u32,
    pub(super) from: u32,
    pub(super) to: u32,
}

impl RuleSet {
    pub(super) fn empty(action: Action) -> Self {
        let (callers, services) = (CallerIndex::default(), ServiceIndex::default());
        Self { action, policies: Box::default(), callers, services }
    }

    /// The match with the lowest policy key, therein the first entries.
    pub(super) fn first_match(&self, facts: &Facts<'_>) -> Option<Match> {
        let mut first: Option<Match> = None;
        self.scan(facts, |found| {
            first = Some(first.map_or(found, |best| best.min(found)));
            // What follows in these lists has a higher key.
            ControlFlow::Break(())
        });
        first
    }

    /// A match for each policy that the call matches.
    pub(super) fn every_match(&self, facts: &Facts<'_>) -> Vec<Match> {
        let mut all = Vec::new();
        self.scan(facts, |found| {
            all.push(found);
            ControlFlow::Continue(())
        });
        all.sort_unstable();
        all.dedup_by_key(|found| found.policy);
        all
    }

    /// The first policy that selects the service and judges requests to this port by their path.
    pub(super) fn first_with_paths(&self, facts: &Facts<'_>) -> Option<u32> {
        let lists = self.services.selecting(facts.service);
        lists.filter_map(|rules| rules.iter().find(|id| self.judges_paths(**id, facts))).map(|id| id.policy).min()
    }

    /// Every policy that selects the service and judges requests to this port by their path.
    pub(super) fn all_with_paths(&self, facts: &Facts<'_>) -> Vec<u32> {
        let mut policies = self.services.policies(facts.service);
        policies.retain(|policy| {
            let policy = self.policy(*policy);
            policy.to.iter().any(|rule| has_paths_for(rule, facts) && selects(rule, &policy.scope, facts.service))
        });
        policies
    }

    fn judges_paths(&self, id: RuleId, facts: &Facts<'_>) -> bool {
        has_paths_for(&self.policy(id.policy).to[id.entry as usize], facts)
    }

    pub(super) fn policy(&self, position: u32) -> &CompiledPolicy {
        &self.policies[position as usize]
    }

    /// Calls `found` for matches, in ascending order within each pair of lists, until it breaks.
    fn scan(&self, facts: &Facts<'_>, mut found: impl FnMut(Match) -> ControlFlow<()>) {
        for targets in self.services.selecting(facts.service) {
            for sources in self.callers.meaning(facts) {
                intersect(sources, targets, |sources, targets| match self.judge(sources, targets, facts) {
                    Some(matched) => found(matched),
                    None => ControlFlow::Continue(()),
                });
            }
        }
    }

    /// Entries of one policy: the first of either kind whose remaining fields the call meets.
    fn judge(&self, sources: &[RuleId], targets: &[RuleId], facts: &Facts<'_>) -> Option<Match> {
        let compiled = self.policy(sources.first()?.policy);
        let effect = self.action.effect();
        let to = targets.iter().find(|id| target_mismatch(&compiled.to[id.entry as usize], effect, facts).is_none())?;
        let from = sources.iter().find(|id| {
            let rule = &compiled.from[id.entry as usize];
            source_mismatch(rule, facts, Handle::of(rule).field()).is_none()
        })?;
        Some(Match { policy: from.policy, from: from.entry, to: to.entry })
    }

    /// The match in words.
    pub(super) fn rule(&self, found: Match) -> Rule {
        let compiled = self.policy(found.policy);
        Rule {
            action: self.action,
            policy: compiled.key.clone(),
            from: compiled.written.0.then_some(found.from),
            to: compiled.written.1.then_some(found.to),
        }
    }

    /// The policy as a whole, in words.
    pub(super) fn whole(&self, policy: u32) -> Rule {
        Rule { action: self.action, policy: self.policy(policy).key.clone(), from: None, to: None }
    }
}

fn has_paths_for(rule: &TargetRule, facts: &Facts<'_>) -> bool {
    !rule.paths.is_empty() && (rule.ports.is_empty() || rule.ports.contains(&facts.port))
}
