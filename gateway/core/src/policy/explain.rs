//! Every step of a judgement, for those who ask why.
//!
//! Owns how a judgement is laid open. Never decides: the verdict is that of [`PolicyTable::judge`], and what is shown of each
//! policy is compared anew, field by field.

use std::fmt::Display;

use federation_model::{
    caller::Assurance,
    policy::{Action, AuthenticationMode, Effect, PolicyKey, PolicyKind, SourceRule, TargetRule},
};
use serde::Serialize;

use super::{
    Aspect, Basis, Call, Judgement, PolicyTable, RefusedBy, Rule, Verdict,
    authentication::{CompiledAuthentication, CompiledBroken},
    fields::{Facts, Field, selects, source_mismatch, target_mismatch},
    rules::{CompiledPolicy, RuleSet},
};

/// Policies that are shown; whoever writes more of them for one service reads the first.
const SHOWN_POLICIES: usize = 200;
/// Entries of `from` or `to` that are shown of one policy.
const SHOWN_ENTRIES: usize = 32;
/// Values of one field that are shown.
const SHOWN_VALUES: usize = 8;

/// Why a call passes or does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether it passes.
    pub allowed: bool,
    /// What decides, in one sentence.
    pub reason: String,
    /// What to change so that a refused call passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The policies that select the service, in the order in which they speak.
    pub policies: Vec<Considered>,
    /// How many more select it than are shown.
    pub omitted: usize,
    /// The policies in AUDIT that would refuse the call.
    pub audited: Vec<String>,
}

/// What one policy says of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Considered {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace and name.
    pub policy: String,
    /// ALLOW, DENY, AUDIT ALLOW, AUDIT DENY, STRICT, PERMISSIVE, or BROKEN for one that cannot be read.
    pub action: &'static str,
    /// Whether the call matches; of a `PeerAuthentication`, whether it is the one in force and is not met; of a broken
    /// policy, always.
    pub matched: bool,
    /// Whether the verdict is in its name.
    pub decides: bool,
    /// Its entries of `from`: the first ones, and the first that matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Entry>,
    /// Its entries of `to`: the first ones, and the first that matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Entry>,
}

/// What one entry of `from` or `to` says of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its position, from 0.
    pub entry: usize,
    /// The first field that does not match; nothing when all do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<Mismatch>,
}

/// A field that does not match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mismatch {
    /// The field.
    pub field: Field,
    /// What it asks for.
    pub wanted: String,
    /// What the call has; empty when it has no such thing.
    pub got: String,
}

impl PolicyTable {
    /// What [`Self::judge`] says of the call, and what every policy that selects the service contributes.
    #[must_use]
    pub fn explain(&self, call: &Call<'_>, aspect: Aspect<'_>) -> Explanation {
        let facts = Facts::new(call, aspect);
        let judgement = self.judge_facts(&facts);
        let selecting = self.selecting(&facts);
        let shown = selecting.iter().enumerate().filter(|(at, one)| *at < SHOWN_POLICIES || one.decides(&judgement));
        let policies: Vec<Considered> = shown.map(|(_, one)| one.considered(&facts, one.decides(&judgement))).collect();
        let (reason, remedy) = match &judgement.verdict {
            Verdict::Allowed(basis) => (basis.to_string(), None),
            Verdict::Refused(refusal) => (refusal.cause(), Some(refusal.remedy())),
        };
        Explanation {
            allowed: judgement.is_allowed(),
            reason,
            remedy,
            omitted: selecting.len() - policies.len(),
            policies,
            audited: judgement.audited.iter().map(ToString::to_string).collect(),
        }
    }

    fn selecting(&self, facts: &Facts<'_>) -> Vec<Selecting<'_>> {
        let service = facts.service;
        let in_force = self.authentication.in_force(service).map(|(policy, _)| &policy.key);
        let mut all = Vec::new();
        for position in self.authentication.services.policies(service) {
            let policy = &self.authentication.policies[position as usize];
            all.push(Selecting::Authentication { policy, in_force: in_force == Some(&policy.key) });
        }
        let broken = self.broken.services.policies(service).into_iter();
        all.extend(broken.map(|position| Selecting::Broken(&self.broken.policies[position as usize])));
        for set in [&self.deny, &self.allow, &self.audited_deny, &self.audited_allow] {
            let policies = set.services.policies(service).into_iter();
            all.extend(policies.map(|position| Selecting::Authorization(set, set.policy(position))));
        }
        all
    }
}

/// A policy that selects the service.
enum Selecting<'a> {
    Authentication { policy: &'a CompiledAuthentication, in_force: bool },
    Broken(&'a CompiledBroken),
    Authorization(&'a RuleSet, &'a CompiledPolicy),
}

impl Selecting<'_> {
    fn decides(&self, judgement: &Judgement) -> bool {
        match (self, &judgement.verdict) {
            (Self::Authentication { policy, .. }, Verdict::Refused(refusal)) => match &refusal.by {
                RefusedBy::Strict { policy: by, .. } => *by == policy.key,
                RefusedBy::Broken { .. }
                | RefusedBy::Path { .. }
                | RefusedBy::Rule(_)
                | RefusedBy::NotAllowed { .. } => false,
            },
            (Self::Broken(policy), Verdict::Refused(refusal)) => match &refusal.by {
                RefusedBy::Broken { kind, policy: by, .. } => (*kind, by) == (policy.kind, &policy.key),
                RefusedBy::Strict { .. }
                | RefusedBy::Path { .. }
                | RefusedBy::Rule(_)
                | RefusedBy::NotAllowed { .. } => false,
            },
            (Self::Authorization(_, policy), Verdict::Refused(refusal)) => match &refusal.by {
                RefusedBy::Path { policy: by, .. } | RefusedBy::Rule(Rule { policy: by, .. }) => *by == policy.key,
                RefusedBy::Strict { .. } | RefusedBy::Broken { .. } | RefusedBy::NotAllowed { .. } => false,
            },
            (Self::Authorization(_, policy), Verdict::Allowed(Basis::Rule(rule))) => rule.policy == policy.key,
            (Self::Authorization(..), Verdict::Allowed(Basis::NothingSelects))
            | (Self::Authentication { .. } | Self::Broken(_), Verdict::Allowed(_)) => false,
        }
    }

    fn considered(&self, facts: &Facts<'_>, decides: bool) -> Considered {
        let whole = |kind: PolicyKind, key: &PolicyKey, action, matched| Considered {
            kind: kind.name(),
            policy: key.to_string(),
            action,
            matched,
            decides,
            from: Vec::new(),
            to: Vec::new(),
        };
        match self {
            Self::Authentication { policy, in_force } => {
                let (action, unmet) = match policy.mode {
                    AuthenticationMode::Strict => ("STRICT", facts.assurance < Assurance::Mtls),
                    AuthenticationMode::Permissive => ("PERMISSIVE", false),
                };
                whole(PolicyKind::Authentication, &policy.key, action, *in_force && unmet)
            }
            Self::Broken(policy) => whole(policy.kind, &policy.key, "BROKEN", true),
            Self::Authorization(set, policy) => {
                let from = |rule: &SourceRule| source_mismatch(rule, facts, None);
                let to = |rule: &TargetRule| {
                    let selected = selects(rule, &policy.scope, facts.service);
                    if selected { target_mismatch(rule, set.action.effect(), facts) } else { Some(Field::Services) }
                };
                // All entries are compared, so that an entry that is not shown still counts.
                let from: Vec<_> = policy.from.iter().map(from).collect();
                let to: Vec<_> = policy.to.iter().map(to).collect();
                let matched = from.contains(&None) && to.contains(&None);
                Considered {
                    from: entries(&from, policy.written.0, |at, field| {
                        mismatch_of_source(&policy.from[at], field, facts)
                    }),
                    to: entries(&to, policy.written.1, |at, field| mismatch_of_target(&policy.to[at], field, facts)),
                    ..whole(PolicyKind::Authorization, &policy.key, action(set.action), matched)
                }
            }
        }
    }
}

const fn action(action: Action) -> &'static str {
    match action {
        Action::Enforce(Effect::Allow) => "ALLOW",
        Action::Enforce(Effect::Deny) => "DENY",
        Action::Audit(Effect::Allow) => "AUDIT ALLOW",
        Action::Audit(Effect::Deny) => "AUDIT DENY",
    }
}

/// The first entries, and the first that matches.
fn entries(all: &[Option<Field>], written: bool, mismatch: impl Fn(usize, Field) -> Mismatch) -> Vec<Entry> {
    let matching = all.iter().position(Option::is_none);
    let shown = (0..all.len()).filter(|at| written && (*at < SHOWN_ENTRIES || Some(*at) == matching));
    shown.map(|at| Entry { entry: at, mismatch: all[at].map(|field| mismatch(at, field)) }).collect()
}

fn mismatch_of_source(rule: &SourceRule, field: Field, facts: &Facts<'_>) -> Mismatch {
    let wanted = match field {
        Field::Principals => values(&rule.principals),
        Field::Namespaces => values(&rule.namespaces),
        Field::TrustDomains => values(&rule.trust_domains),
        Field::Clusters => values(&rule.clusters),
        Field::Assurance => rule.assurance.map(|least| format!("{least} or better")).unwrap_or_default(),
        Field::Services | Field::Ports | Field::Methods | Field::Paths => String::new(),
    };
    Mismatch { field, wanted, got: facts.got(field) }
}

fn mismatch_of_target(rule: &TargetRule, field: Field, facts: &Facts<'_>) -> Mismatch {
    let wanted = match field {
        Field::Services => values(&rule.services),
        Field::Ports => values(&rule.ports),
        Field::Methods => values(&rule.methods),
        Field::Paths => values(&rule.paths),
        Field::Principals | Field::Namespaces | Field::TrustDomains | Field::Clusters | Field::Assurance => {
            String::new()
        }
    };
    Mismatch { field, wanted, got: facts.got(field) }
}

fn values(all: &[impl Display]) -> String {
    let mut text: Vec<String> = all.iter().take(SHOWN_VALUES).map(ToString::to_string).collect();
    if let Some(more) = all.len().checked_sub(SHOWN_VALUES).filter(|more| *more > 0) {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}
