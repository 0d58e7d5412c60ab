//! What is wrong with policies before anybody calls.
//!
//! Owns the findings about policies: what selects nothing, means nobody, says nothing new or contradicts another. Never
//! judges a call, and never claims what it cannot know: what is not given as known is not missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use federation_model::{
    addr::Port,
    finding::{Finding, Level},
    names::{Namespace, ServiceKey},
    policy::{AuthorizationPolicy, Policies, PolicyKey, PolicyKind},
    spiffe::{SpiffeId, TrustDomain},
};
use serde::Serialize;

use super::{
    compile::{TrustDomainAliases, compile},
    rules::CompiledPolicy,
};

mod callers;
mod overlap;
mod targets;

/// What is known around the policies.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// All services that are exported here; nothing when they are not known.
    pub services: Option<BTreeSet<ServiceKey>>,
    /// All principals of those trust domains whose principals are all known.
    pub principals: BTreeMap<TrustDomain, BTreeSet<SpiffeId>>,
    /// The ports that are delivered as `http`; nothing when they are not known.
    pub http_ports: Option<BTreeSet<(ServiceKey, Port)>>,
}

/// Something that is wrong with a policy, or will surprise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyFinding {
    /// The kind of the object.
    pub kind: &'static str,
    /// Its namespace and name.
    pub policy: String,
    /// [`Level::Failed`] when the policy, or a part of it, cannot do what it says; else [`Level::Warning`].
    pub severity: Level,
    /// What is wrong, and where.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for PolicyFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}; {}", self.kind, self.policy, self.text, self.remedy)
    }
}

impl From<&PolicyFinding> for Finding {
    fn from(found: &PolicyFinding) -> Self {
        Self {
            check: format!("{} {}", found.kind, found.policy),
            level: found.severity,
            detail: found.text.clone(),
            hint: found.remedy.clone(),
        }
    }
}

/// Everything that is wrong with the policies, in the order of kinds and keys.
#[must_use]
pub fn analyze(
    policies: &Policies,
    root_namespace: &Namespace,
    aliases: &TrustDomainAliases,
    surroundings: &Surroundings,
) -> Vec<PolicyFinding> {
    let authorization = policies.authorization.values();
    let world = World {
        policies,
        root: root_namespace,
        aliases,
        known: surroundings,
        authorization: authorization.map(|policy| (policy, compile(policy, root_namespace, aliases))).collect(),
    };
    let mut findings = Findings::default();
    unreadable(&world, &mut findings);
    targets::check(&world, &mut findings);
    callers::check(&world, &mut findings);
    overlap::check(&world, &mut findings);
    let mut all = findings.all;
    // The worst first within each policy.
    all.sort_by(|a, b| (a.kind, &a.policy, b.severity).cmp(&(b.kind, &b.policy, a.severity)));
    all
}

struct World<'a> {
    policies: &'a Policies,
    root: &'a Namespace,
    aliases: &'a TrustDomainAliases,
    known: &'a Surroundings,
    /// As written, and with aliases resolved.
    authorization: Vec<(&'a AuthorizationPolicy, CompiledPolicy)>,
}

#[derive(Default)]
struct Findings {
    all: Vec<PolicyFinding>,
}

impl Findings {
    fn add(&mut self, (kind, policy): (PolicyKind, &PolicyKey), severity: Level, text: String, remedy: String) {
        self.all.push(PolicyFinding { kind: kind.name(), policy: policy.to_string(), severity, text, remedy });
    }
}

fn unreadable(world: &World<'_>, findings: &mut Findings) {
    for ((kind, key), policy) in &world.policies.broken {
        let text = format!("it cannot be read, so it refuses every call to what it selects: {}", policy.reason);
        findings.add((*kind, key), Level::Failed, text, "correct or delete it".to_owned());
    }
}
