//! Findings about policies that say what others say already, or the opposite.
//!
//! Owns the comparison of rules with each other. Never looks at what is known of services and callers.

use std::collections::BTreeMap;

use federation_model::{
    finding::Level,
    policy::{Action, AuthorizationPolicy, Effect, PolicyKey, PolicyKind},
};

use super::{
    super::{
        containment::{covers_source, covers_target},
        fields::Scope,
        rules::CompiledPolicy,
    },
    Findings, World,
};

/// A policy, as written and compiled.
type Policy<'a> = (&'a AuthorizationPolicy, &'a CompiledPolicy);

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let mut by_action: BTreeMap<Action, Group<'_>> = BTreeMap::new();
    for (policy, compiled) in &world.authorization {
        by_action.entry(policy.action).or_default().add((*policy, compiled));
        check_entries((policy, compiled), findings);
    }
    let denying = by_action.get(&Action::Enforce(Effect::Deny));
    for (action, group) in &by_action {
        for policy in &group.all {
            check_repetition(*policy, group, findings);
            if let (Action::Enforce(Effect::Allow), Some(denying)) = (action, denying) {
                check_denied(*policy, denying, findings);
            }
        }
    }
}

/// The policies of one action, by what they can hold for.
#[derive(Default)]
struct Group<'a> {
    all: Vec<Policy<'a>>,
    by_scope: BTreeMap<Scope, Vec<Policy<'a>>>,
}

impl<'a> Group<'a> {
    fn add(&mut self, policy: Policy<'a>) {
        self.all.push(policy);
        self.by_scope.entry(policy.1.scope.clone()).or_default().push(policy);
    }

    /// Those that may hold for a service that a policy of this scope holds for.
    fn beside(&self, scope: &Scope) -> impl Iterator<Item = Policy<'a>> {
        let everywhere = scope.is_none().then_some(&self.all);
        let own = scope.is_some().then(|| self.by_scope.get(scope)).flatten();
        let root = scope.is_some().then(|| self.by_scope.get(&None)).flatten();
        [everywhere, own, root].into_iter().flatten().flatten().copied()
    }
}

/// For each entry of `narrow`, whether one of `wide` means all that it means: of `from`, and of `to`.
fn covered(wide: &CompiledPolicy, narrow: &CompiledPolicy) -> (Vec<bool>, Vec<bool>) {
    let to = narrow
        .to
        .iter()
        .map(|rule| wide.to.iter().any(|wider| covers_target((wider, &wide.scope), (rule, &narrow.scope))));
    let to: Vec<bool> = to.collect();
    if !to.contains(&true) {
        return (vec![false; narrow.from.len()], to);
    }
    let from = narrow.from.iter().map(|rule| wide.from.iter().any(|wider| covers_source(wider, rule)));
    (from.collect(), to)
}

/// Whether every call that matches `narrow` matches `wide`.
fn covers(wide: &CompiledPolicy, narrow: &CompiledPolicy) -> bool {
    let (from, to) = covered(wide, narrow);
    !from.contains(&false) && !to.contains(&false)
}

/// Entries that another entry of the same policy makes superfluous.
fn check_entries((policy, compiled): Policy<'_>, findings: &mut Findings) {
    let of = (PolicyKind::Authorization, &policy.key);
    let mut report = |list: &str, entry: usize, other: usize| {
        let text = format!("{list}[{entry}] means nothing that {list}[{other}] does not mean");
        findings.add(of, Level::Warning, text, format!("take one of the two out of `{list}`"));
    };
    let (from, to, scope) = (&compiled.from, &compiled.to, &compiled.scope);
    for entry in 0..from.len() {
        if let Some(other) = superfluous(entry, from.len(), |a, b| covers_source(&from[a], &from[b])) {
            report("from", entry, other);
        }
    }
    for entry in 0..to.len() {
        let covers = |a: usize, b: usize| covers_target((&to[a], scope), (&to[b], scope));
        if let Some(other) = superfluous(entry, to.len(), covers) {
            report("to", entry, other);
        }
    }
}

/// The first other entry that covers this one; of two that cover each other the later one is superfluous.
fn superfluous(entry: usize, count: usize, covers: impl Fn(usize, usize) -> bool) -> Option<usize> {
    (0..count).find(|other| *other != entry && covers(*other, entry) && (*other < entry || !covers(entry, *other)))
}

/// A policy that says nothing that another one with the same action does not say.
fn check_repetition((policy, compiled): Policy<'_>, group: &Group<'_>, findings: &mut Findings) {
    let repeats = |(other, by): &Policy<'_>| {
        other.key != policy.key && covers(by, compiled) && (other.key < policy.key || !covers(compiled, by))
    };
    if let Some((other, _)) = group.beside(&compiled.scope).find(repeats) {
        let text = format!("it says nothing that AuthorizationPolicy {} does not say", other.key);
        findings.add(
            (PolicyKind::Authorization, &policy.key),
            Level::Warning,
            text,
            "delete one of the two".to_owned(),
        );
    }
}

/// What an ALLOW policy allows in vain.
fn check_denied((policy, compiled): Policy<'_>, denying: &Group<'_>, findings: &mut Findings) {
    let of = (PolicyKind::Authorization, &policy.key);
    let mut matrix = vec![vec![None; compiled.to.len()]; compiled.from.len()];
    for (deny, by) in denying.beside(&compiled.scope) {
        let (from, to) = covered(by, compiled);
        if !from.contains(&false) && !to.contains(&false) {
            let same = if covers(compiled, by) { ", in the same words" } else { "" };
            let text =
                format!("AuthorizationPolicy {} denies all that it allows{same}, and DENY comes first", deny.key);
            let remedy = "delete one of the two, or narrow the DENY policy".to_owned();
            findings.add(of, Level::Failed, text, remedy);
            return;
        }
        for (row, _) in matrix.iter_mut().zip(&from).filter(|(_, covered)| **covered) {
            for (cell, _) in row.iter_mut().zip(&to).filter(|(_, covered)| **covered) {
                cell.get_or_insert(&deny.key);
            }
        }
    }
    let mut report = |list: &str, entry: usize, cells: &[Option<&PolicyKey>]| {
        if let (Some(Some(first)), true) = (cells.first(), cells.iter().all(Option::is_some)) {
            let text = format!("{list}[{entry}] is in vain: AuthorizationPolicy {first} denies all that it allows");
            let remedy = format!("take the entry out of `{list}`, or narrow the DENY policy");
            findings.add(of, Level::Warning, text, remedy);
        }
    };
    for (entry, row) in matrix.iter().enumerate() {
        report("from", entry, row);
    }
    for entry in 0..compiled.to.len() {
        report("to", entry, &matrix.iter().map(|row| row[entry]).collect::<Vec<_>>());
    }
}
