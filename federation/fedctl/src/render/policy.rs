//! Policies: what they decide, what they hold for, and what those in AUDIT would have refused.

use std::collections::{BTreeMap, btree_map::Entry};

use federation_model::time::Timestamp;
use proto::gateway::v1::{
    AuditedCalls, ConsideredPolicy, Policy, ReportPoliciesResponse, TestPolicyResponse, TestedCall,
};
use serde::Serialize;

use super::{Look, Mood, count, mood_cell, or_dash, some, text_of};
use crate::clock;

/// Services of one policy that a table names; the rest are counted.
const SHOWN_SERVICES: usize = 4;
/// A caller without a principal.
const NOBODY: &str = "a caller that is not known";

/// What the tables in force decide about calls that nobody makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TestsView {
    pub(crate) generation: u64,
    pub(crate) calls: Vec<TestView>,
}

/// One of these calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TestView {
    pub(crate) service: String,
    pub(crate) port: u32,
    pub(crate) delivered: String,
    pub(crate) cluster: String,
    pub(crate) principal: Option<String>,
    pub(crate) assurance: String,
    pub(crate) allowed: bool,
    /// What decides alone: nothing when no policy does, or several do together.
    pub(crate) rule: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) remedy: Option<String>,
    pub(crate) considered: Vec<ConsideredView>,
    pub(crate) audited: Vec<String>,
}

/// A policy that holds for the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ConsideredView {
    pub(crate) policy: String,
    pub(crate) action: String,
    pub(crate) matched: bool,
    pub(crate) detail: String,
}

impl From<TestPolicyResponse> for TestsView {
    fn from(response: TestPolicyResponse) -> Self {
        Self { generation: response.generation, calls: response.calls.into_iter().map(TestView::from).collect() }
    }
}

impl From<TestedCall> for TestView {
    fn from(call: TestedCall) -> Self {
        Self {
            service: call.service,
            port: call.port,
            delivered: call.delivered,
            cluster: call.cluster,
            principal: some(call.principal),
            assurance: call.assurance,
            allowed: call.allowed,
            rule: some(call.rule),
            reason: some(call.reason),
            remedy: some(call.remedy),
            considered: call.considered.into_iter().map(ConsideredView::from).collect(),
            audited: call.audited,
        }
    }
}

impl From<ConsideredPolicy> for ConsideredView {
    fn from(considered: ConsideredPolicy) -> Self {
        let ConsideredPolicy { policy, action, matched, detail } = considered;
        Self { policy, action, matched, detail }
    }
}

impl TestsView {
    pub(crate) fn all_allowed(&self) -> bool {
        self.calls.iter().all(|call| call.allowed)
    }

    pub(crate) fn text(&self, look: Look) -> String {
        let calls: Vec<String> = self.calls.iter().map(|call| call.text(look)).collect();
        calls.join("\n")
    }
}

impl TestView {
    fn text(&self, look: Look) -> String {
        let (word, mood) = if self.allowed { ("allowed", Mood::Good) } else { ("refused", Mood::Bad) };
        let mut verdict = look.facts();
        verdict.add_row([mood_cell(word, mood), self.call().into()]);
        for (name, text) in [("why", &self.reason), ("remedy", &self.remedy)] {
            if let Some(text) = text {
                verdict.add_row([name, text.as_str()]);
            }
        }
        for policy in &self.audited {
            verdict.add_row(["on trial", &format!("{policy} would refuse it")]);
        }
        let mut text = text_of(verdict);
        if !self.considered.is_empty() {
            let mut table = look.table(&["  POLICY", "ACTION", "MATCHES", "WHY"]);
            for ConsideredView { policy, action, matched, detail } in &self.considered {
                let matches = if *matched { "yes" } else { "no" };
                table.add_row([&format!("  {policy}"), action, matches, or_dash(detail)]);
            }
            text.push('\n');
            text.push_str(&text_of(table));
        }
        text
    }

    /// Who calls what, and how well the caller is known.
    fn call(&self) -> String {
        let Self { service, port, delivered, cluster, principal, assurance, .. } = self;
        let caller = match principal {
            Some(principal) => format!("{principal} ({assurance}, cluster {cluster})"),
            None => format!("{NOBODY} (cluster {cluster})"),
        };
        format!("{caller} -> {service}:{port} ({delivered})")
    }
}

/// The policies of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PoliciesView {
    pub(crate) policies: Vec<PolicyView>,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PolicyView {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) action: String,
    pub(crate) services: Vec<String>,
    pub(crate) findings: Vec<PolicyFinding>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PolicyFinding {
    pub(crate) failed: bool,
    pub(crate) detail: String,
    pub(crate) hint: String,
}

impl From<Vec<Policy>> for PoliciesView {
    fn from(policies: Vec<Policy>) -> Self {
        Self { policies: policies.into_iter().map(PolicyView::from).collect() }
    }
}

impl From<Policy> for PolicyView {
    fn from(policy: Policy) -> Self {
        let Policy { kind, namespace, name, action, services, findings, file, line } = policy;
        let finding = |finding: proto::federation::v1::Finding| PolicyFinding {
            failed: finding.level() == proto::federation::v1::Level::Failed,
            detail: finding.detail,
            hint: finding.hint,
        };
        Self {
            kind,
            namespace,
            name,
            action,
            services,
            findings: findings.into_iter().map(finding).collect(),
            file: some(file),
            line: Some(line).filter(|line| *line != 0),
        }
    }
}

impl PolicyView {
    fn mood(&self) -> Mood {
        match (self.findings.iter().any(|finding| finding.failed), self.findings.is_empty()) {
            (true, _) => Mood::Bad,
            (false, false) => Mood::Doubtful,
            (false, true) => Mood::Good,
        }
    }

    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether it is an `AuthorizationPolicy` that decides nothing yet.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.action.starts_with("AUDIT")
    }

    /// Whether it is an `AuthorizationPolicy` that decides.
    pub(crate) fn decides(&self) -> bool {
        matches!(self.action.as_str(), "ALLOW" | "DENY")
    }

    fn holds_for(&self) -> String {
        let shown = self.services.iter().take(SHOWN_SERVICES).map(String::as_str).collect::<Vec<_>>().join(" ");
        match self.services.len().saturating_sub(SHOWN_SERVICES) {
            0 => or_dash(&shown).to_owned(),
            more => format!("{shown} and {more} more"),
        }
    }
}

impl PoliciesView {
    /// Whether nothing is wrong with any of them.
    pub(crate) fn is_well(&self) -> bool {
        self.policies.iter().all(|policy| policy.mood() != Mood::Bad)
    }

    pub(crate) fn text(&self, look: Look) -> String {
        if self.policies.is_empty() {
            return "No policies: every caller of the cluster set reaches every exported service. Next: put an \
                    AuthorizationPolicy beside the manifests\n"
                .to_owned();
        }
        let mut table = look.table(&["POLICY", "KIND", "ACTION", "HOLDS FOR", "WHERE"]);
        for policy in &self.policies {
            let place = match (&policy.file, policy.line) {
                (Some(file), Some(line)) => format!("{file}:{line}"),
                (Some(file), None) => file.clone(),
                (None, _) => "-".to_owned(),
            };
            table.add_row([
                mood_cell(policy.key(), policy.mood()),
                policy.kind.as_str().into(),
                policy.action.as_str().into(),
                policy.holds_for().into(),
                place.into(),
            ]);
        }
        let mut text = text_of(table);
        for policy in &self.policies {
            for PolicyFinding { detail, hint, .. } in &policy.findings {
                text.push_str(&format!("\n{}: {detail}\n  try: {hint}\n", policy.key()));
            }
        }
        text
    }
}

/// What policies in AUDIT would have refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ReportView {
    pub(crate) since: Option<String>,
    /// The policies in AUDIT, of which these are the counts; those that are not any more may have counts too.
    pub(crate) on_trial: Vec<String>,
    pub(crate) calls: Vec<AuditedView>,
    /// Calls that are not counted any more.
    pub(crate) dropped: u64,
}

/// Calls of one caller to one port that one policy would have refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AuditedView {
    pub(crate) policy: String,
    pub(crate) principal: Option<String>,
    pub(crate) assurance: String,
    pub(crate) cluster: String,
    pub(crate) service: String,
    pub(crate) port: u32,
    pub(crate) calls: u64,
    pub(crate) first: Option<String>,
    pub(crate) last: Option<String>,
    #[serde(skip)]
    last_at: Option<Timestamp>,
}

impl From<AuditedCalls> for AuditedView {
    fn from(audited: AuditedCalls) -> Self {
        let AuditedCalls { policy, principal, assurance, cluster, service, port, calls, first, last } = audited;
        let date = |seconds| clock::moment(seconds).and_then(clock::date);
        Self {
            policy,
            principal: some(principal),
            assurance,
            cluster,
            service,
            port,
            calls,
            first: date(first),
            last: date(last),
            last_at: clock::moment(last),
        }
    }
}

/// One count for what several counted of one caller, port and policy.
fn added(responses: Vec<ReportPoliciesResponse>) -> Vec<AuditedCalls> {
    let mut counts = BTreeMap::new();
    for audited in responses.into_iter().flat_map(|response| response.calls) {
        let AuditedCalls { policy, principal, assurance, cluster, service, port, calls: _, first: _, last: _ } =
            &audited;
        let key = [policy, principal, assurance, cluster, service].map(String::clone);
        match counts.entry((key, *port)) {
            Entry::Vacant(entry) => {
                entry.insert(audited);
            }
            Entry::Occupied(entry) => {
                let known: &mut AuditedCalls = entry.into_mut();
                known.calls = known.calls.saturating_add(audited.calls);
                (known.first, known.last) = (known.first.min(audited.first), known.last.max(audited.last));
            }
        }
    }
    counts.into_values().collect()
}

impl ReportView {
    /// What several gateways counted, together.
    pub(crate) fn new(since: Timestamp, on_trial: Vec<String>, responses: Vec<ReportPoliciesResponse>) -> Self {
        let dropped = responses.iter().map(|response| response.dropped).fold(0, u64::saturating_add);
        let mut calls: Vec<AuditedView> = added(responses).into_iter().map(AuditedView::from).collect();
        calls.sort_by(|a, b| (&a.policy, b.calls, &a.principal).cmp(&(&b.policy, a.calls, &b.principal)));
        Self { since: clock::date(since), on_trial, calls, dropped }
    }

    /// How many calls would have been refused.
    pub(crate) fn total(&self) -> u64 {
        self.calls.iter().map(|audited| audited.calls).fold(0, u64::saturating_add)
    }

    pub(crate) fn text(&self, look: Look) -> String {
        let since = self.since.as_deref().unwrap_or("the beginning");
        if self.calls.is_empty() {
            let next = "action: AUDIT and audits: ALLOW or DENY in an AuthorizationPolicy put it on trial";
            return match self.on_trial.as_slice() {
                [] => format!("No policy is in AUDIT. Next: {next}\n"),
                [policy] => format!("{policy} would have refused no call since {since}\n"),
                policies => format!("{} would have refused no call since {since}\n", policies.join(", ")),
            };
        }
        let mut table = look.table(&["POLICY", "CALLER", "ASSURANCE", "CLUSTER", "CALLED", "CALLS", "LAST"]);
        for audited in &self.calls {
            table.add_row([
                audited.policy.clone(),
                audited.principal.clone().unwrap_or_else(|| NOBODY.to_owned()),
                audited.assurance.clone(),
                audited.cluster.clone(),
                format!("{}:{}", audited.service, audited.port),
                audited.calls.to_string(),
                format!("{} ago", clock::ago(look.now, audited.last_at)),
            ]);
        }
        let total = counted(self.total(), "call", "calls");
        let mut text = format!("Since {since} policies in AUDIT would have refused {total}:\n\n{}", text_of(table));
        if self.dropped > 0 {
            let dropped = counted(self.dropped, "call is", "calls are");
            text.push_str(&format!("\n{dropped} not in these counts: there were too many different ones\n"));
        }
        text
    }
}

fn counted(number: u64, one: &str, many: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), one, many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_gateways_counted_of_one_caller_is_one_count() {
        let calls = |principal: &str, calls, first, last| AuditedCalls {
            principal: principal.to_owned(),
            calls,
            first,
            last,
            ..AuditedCalls::default()
        };
        let report = |calls, dropped| ReportPoliciesResponse { calls, dropped };
        let one = report(vec![calls("a", 2, 10, 20)], 1);
        let other = report(vec![calls("b", 1, 5, 5), calls("a", 3, 8, 15)], 2);
        assert_eq!(added(vec![one.clone(), other.clone()]), [calls("a", 5, 8, 20), calls("b", 1, 5, 5)]);
        let view = ReportView::new(Timestamp(0), Vec::new(), vec![one, other]);
        assert_eq!((view.total(), view.dropped), (6, 3));
    }
}
