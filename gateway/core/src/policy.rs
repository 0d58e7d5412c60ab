//! Whether a call may pass: every policy of a cluster, compiled.
//!
//! Owns the order in which policies speak, and what they say together. Never reads an object, never changes: other policies
//! are another table. A caller that is not known matches no principal, no namespace and no trust domain.
//!
//! ```text
//! path ── fields                   what a rule asks, what a call answers
//! pattern_map ── index ── rules    the rules that a caller and a service have in common
//! authentication                   how well a caller must be known
//! verdict ── nearest ── explain    the answer, what would change it, and every step towards it
//! containment ── analysis          what is wrong with policies before anybody calls
//! ```

use std::fmt;

use federation_model::{
    addr::Port,
    caller::{Assurance, Caller},
    names::{ClusterName, Namespace, ServiceKey},
    policy::{Action, AuthenticationMode, Effect, Policies},
};

mod analysis;
mod authentication;
mod compile;
mod containment;
mod explain;
mod fields;
mod index;
mod nearest;
mod path;
mod pattern_map;
mod rules;
mod verdict;

pub use analysis::{PolicyFinding, Surroundings, analyze};
pub use authentication::Closeness;
pub use compile::TrustDomainAliases;
pub use containment::{covers, covers_principal};
pub use explain::{Considered, Entry, Explanation, Mismatch};
pub use fields::{Field, namespace_of};
pub use nearest::Nearest;
pub use path::{AmbiguousPath, canonical_path};
pub use verdict::{Basis, Judgement, Refusal, RefusedBy, Rule, Ruling, Verdict};

use authentication::{Authentication, Broken};
use fields::Facts;
use rules::RuleSet;

/// Who calls what.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Who calls, and how that is known.
    pub caller: &'a Caller,
    /// The cluster of the gateway that vouches for the caller.
    pub source_cluster: &'a ClusterName,
    /// The service.
    pub service: &'a ServiceKey,
    /// The service port.
    pub port: Port,
}

/// An HTTP request within a call.
#[derive(Debug, Clone, Copy)]
pub struct HttpRequest<'a> {
    /// Its method, as sent: methods are case-sensitive (RFC 9110 section 9.1).
    pub method: &'a str,
    /// The path of its target without the query, as sent; `*` for `OPTIONS *`, empty when the target has none.
    pub path: &'a str,
}

/// What of a call is judged.
#[derive(Debug, Clone, Copy)]
pub enum Aspect<'a> {
    /// A connection to a port that is not delivered as `http`: fields that speak of requests allow nothing here, and an
    /// entry of `to` in a DENY policy holds as if they were absent.
    Bytes,
    /// A connection to a port that is delivered as `http`, before its first request: fields that speak of requests may
    /// still allow, and deny nothing yet.
    HttpConnection,
    /// One request of such a connection.
    HttpRequest(HttpRequest<'a>),
}

/// Every policy of a cluster, ready to judge.
pub struct PolicyTable {
    broken: Broken,
    authentication: Authentication,
    deny: RuleSet,
    allow: RuleSet,
    audited_deny: RuleSet,
    audited_allow: RuleSet,
}

impl fmt::Debug for PolicyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyTable").field("policies", &self.len()).finish_non_exhaustive()
    }
}

impl Default for PolicyTable {
    /// The table of no policies: everything passes.
    fn default() -> Self {
        Self {
            broken: Broken::default(),
            authentication: Authentication::default(),
            deny: RuleSet::empty(Action::Enforce(Effect::Deny)),
            allow: RuleSet::empty(Action::Enforce(Effect::Allow)),
            audited_deny: RuleSet::empty(Action::Audit(Effect::Deny)),
            audited_allow: RuleSet::empty(Action::Audit(Effect::Allow)),
        }
    }
}

impl PolicyTable {
    /// The table of these policies. Those of `root_namespace` hold for the services of every namespace.
    #[must_use]
    pub fn compile(policies: &Policies, root_namespace: &Namespace, aliases: &TrustDomainAliases) -> Self {
        let set = |action| compile::rule_set(policies, action, root_namespace, aliases);
        Self {
            broken: compile::broken(policies, root_namespace),
            authentication: compile::authentication(policies, root_namespace),
            deny: set(Action::Enforce(Effect::Deny)),
            allow: set(Action::Enforce(Effect::Allow)),
            audited_deny: set(Action::Audit(Effect::Deny)),
            audited_allow: set(Action::Audit(Effect::Allow)),
        }
    }

    /// How many policies it holds, those that cannot be read among them.
    #[must_use]
    pub fn len(&self) -> usize {
        let sets = [&self.deny, &self.allow, &self.audited_deny, &self.audited_allow];
        self.broken.policies.len()
            + self.authentication.policies.len()
            + sets.iter().map(|set| set.policies.len()).sum::<usize>()
    }

    /// Whether it holds none: everything passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Judges a call: in this order STRICT, policies that cannot be read, paths with several readings where paths decide,
    /// DENY, ALLOW. Of several policies that match, the one with the lowest key is named.
    ///
    /// Nothing is allocated for a call that passes unaudited, unless the path of its request has escapes to be resolved.
    pub fn judge(&self, call: &Call<'_>, aspect: Aspect<'_>) -> Judgement {
        self.judge_facts(&Facts::new(call, aspect))
    }

    fn judge_facts(&self, facts: &Facts<'_>) -> Judgement {
        match self.verdict(facts) {
            Ok(basis) => {
                let audited = self.audited(facts, &basis);
                Judgement { verdict: Verdict::Allowed(basis), audited }
            }
            Err(by) => {
                let refusal = Box::new(Refusal {
                    by,
                    principal: facts.principal.cloned(),
                    assurance: facts.assurance,
                    source_cluster: facts.source_cluster.clone(),
                    service: facts.service.clone(),
                    port: facts.port,
                });
                Judgement { verdict: Verdict::Refused(refusal), audited: Vec::new() }
            }
        }
    }

    fn verdict(&self, facts: &Facts<'_>) -> Result<Basis, RefusedBy> {
        self.check_authentication(facts)?;
        if let Some(broken) = self.broken.first(facts.service) {
            let (policy, reason) = (broken.key.clone(), broken.reason.clone());
            return Err(RefusedBy::Broken { kind: broken.kind, policy, reason });
        }
        self.check_path(facts)?;
        if let Some(found) = self.deny.first_match(facts) {
            return Err(RefusedBy::Rule(self.deny.rule(found)));
        }
        if let Some(found) = self.allow.first_match(facts) {
            return Ok(Basis::Rule(self.allow.rule(found)));
        }
        let selecting = self.allow.services.policies(facts.service);
        let Some((first, others)) = selecting.split_first() else { return Ok(Basis::NothingSelects) };
        let nearest = Nearest::find(&self.allow, (*first, others), facts);
        Err(RefusedBy::NotAllowed { policies: selecting.len(), nearest })
    }

    fn check_authentication(&self, facts: &Facts<'_>) -> Result<(), RefusedBy> {
        if facts.assurance >= Assurance::Mtls {
            return Ok(());
        }
        match self.authentication.in_force(facts.service) {
            Some((found, closeness)) => match found.mode {
                AuthenticationMode::Strict => Err(RefusedBy::Strict { policy: found.key.clone(), closeness }),
                AuthenticationMode::Permissive => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn check_path(&self, facts: &Facts<'_>) -> Result<(), RefusedBy> {
        let Some(problem) = facts.ambiguous_path() else { return Ok(()) };
        let first = |set: &RuleSet| set.first_with_paths(facts).map(|policy| set.policy(policy).key.clone());
        match [&self.deny, &self.allow].into_iter().filter_map(first).min() {
            Some(policy) => Err(RefusedBy::Path { policy, problem }),
            None => Ok(()),
        }
    }

    /// What the policies in AUDIT would refuse of a call that passes.
    fn audited(&self, facts: &Facts<'_>, basis: &Basis) -> Vec<Rule> {
        let (deny, allow) = (&self.audited_deny, &self.audited_allow);
        let mut audited: Vec<Rule> = deny.every_match(facts).into_iter().map(|found| deny.rule(found)).collect();
        if facts.ambiguous_path().is_some() {
            audited.extend(deny.all_with_paths(facts).into_iter().map(|policy| deny.whole(policy)));
            audited.extend(allow.all_with_paths(facts).into_iter().map(|policy| allow.whole(policy)));
        }
        let allowed = match basis {
            Basis::Rule(_) => true,
            Basis::NothingSelects => allow.first_match(facts).is_some(),
        };
        if !allowed {
            audited.extend(allow.services.policies(facts.service).into_iter().map(|policy| allow.whole(policy)));
        }
        audited.sort_by(|a, b| (b.action, &a.policy).cmp(&(a.action, &b.policy)));
        audited.dedup_by(|next, kept| (next.action, &next.policy) == (kept.action, &kept.policy));
        audited
    }
}

#[cfg(test)]
mod tests;
