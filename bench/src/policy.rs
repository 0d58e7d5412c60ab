//! What policies cost: 10,000 of them with 100,000 principals, judged in this process.
//!
//! Owns the measurement, and a judge that walks all policies to compare with. Never measures a network.

use std::{hint::black_box, time::Instant};

use anyhow::ensure;
use federation_model::{
    addr::Port,
    caller::Caller,
    names::{ClusterName, ServiceKey},
    policy::Effect,
};
use gateway_core::policy::{Aspect, Call, PolicyTable, TrustDomainAliases};

use crate::{
    measure::resident_kibibytes,
    report::{self, Figure, Report},
    spread::Spread,
};

mod world;

use world::World;

/// The figures that are promised for.
const POLICIES: usize = 10_000;
const PRINCIPALS: usize = 100_000;
/// Policies of the small world: what a decision costs with a hundredth of the policies.
const FEW: usize = 100;
/// Decisions in one round: a millisecond of them, and not minutes where each is a refusal by thousands of policies.
const DECISIONS: usize = 4000;
/// Decisions of the walk in one round: each looks at every policy.
const WALKED: usize = 20;

/// Measures all of it.
pub(crate) fn measure(rounds: u32, report: &mut Report) -> anyhow::Result<()> {
    report::progress("judging by 10,000 policies with 100,000 principals");
    let many = World::spread_out(POLICIES, PRINCIPALS);
    let before = resident_kibibytes(std::process::id())?;
    let start = Instant::now();
    let table = many.compile();
    let compiled = start.elapsed();
    let after = resident_kibibytes(std::process::id())?;
    report.add("policies: compiling 10,000 with 100,000 principals", one("ms", compiled.as_secs_f64() * 1e3));
    report.add("policies: memory of the table", one("MiB", (after - before).max(0.0) / 1024.0));

    let few = World::spread_out(FEW, FEW * PRINCIPALS / POLICIES);
    let few_table = few.compile();
    for kind in Kind::ALL {
        let calls = many.calls(kind);
        let figure = Figure::one("ns", decisions(&table, &calls, kind, rounds)?);
        let name = kind.name();
        report.add(format!("policies: a call {name}"), figure);
        let figure = Figure::one("ns", decisions(&few_table, &few.calls(kind), kind, rounds)?);
        report.add(format!("policies: a call {name}, of 100 policies"), figure);
        if let Some(note) = compare(&many, &table, &calls, kind)? {
            report.note(note);
        }
    }
    for (what, world) in [
        ("10,000 policies for one service", World::crowded(POLICIES, PRINCIPALS)),
        ("one policy with 100,000 principals", World::crowded(1, PRINCIPALS)),
    ] {
        let table = world.compile();
        for kind in [Kind::Allowed, Kind::NotAllowed] {
            let figure = Figure::one("ns", decisions(&table, &world.calls(kind), kind, rounds)?);
            report.add(format!("policies: {what}, a call {}", kind.name()), figure);
        }
    }
    Ok(())
}

fn one(unit: &'static str, value: f64) -> Figure {
    Figure::one(unit, Spread::of([value]))
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An ALLOW policy names its caller.
    Allowed,
    /// No ALLOW policy of the service names its caller.
    NotAllowed,
    /// A DENY policy names its caller.
    Denied,
    /// No policy selects the service.
    Unselected,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Allowed, Self::NotAllowed, Self::Denied, Self::Unselected];

    const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed by a policy",
            Self::NotAllowed => "allowed by none, refused with its remedy",
            Self::Denied => "denied by a policy",
            Self::Unselected => "to a service without policies",
        }
    }

    const fn passes(self) -> bool {
        match self {
            Self::Allowed | Self::Unselected => true,
            Self::NotAllowed | Self::Denied => false,
        }
    }
}

/// A call that owns its parts.
#[derive(Debug)]
pub(crate) struct Prepared {
    caller: Caller,
    cluster: ClusterName,
    service: ServiceKey,
    port: Port,
}

impl Prepared {
    fn call(&self) -> Call<'_> {
        Call { caller: &self.caller, source_cluster: &self.cluster, service: &self.service, port: self.port }
    }
}

/// Nanoseconds of one decision, by round.
fn decisions(table: &PolicyTable, calls: &[Prepared], kind: Kind, rounds: u32) -> anyhow::Result<Spread> {
    for call in calls {
        let judged = table.judge(&call.call(), Aspect::Bytes);
        ensure!(judged.is_allowed() == kind.passes(), "{kind:?} was judged otherwise: {judged:?}");
    }
    let round = |_| {
        let start = Instant::now();
        for call in calls.iter().cycle().take(DECISIONS) {
            let _ = black_box(table.judge(black_box(&call.call()), Aspect::Bytes));
        }
        start.elapsed().as_secs_f64() * 1e9 / DECISIONS as f64
    };
    Ok(Spread::of((0..rounds).map(round).collect::<Vec<_>>()))
}

/// How much longer a walk over all policies takes to say the same.
fn compare(world: &World, table: &PolicyTable, calls: &[Prepared], kind: Kind) -> anyhow::Result<Option<String>> {
    let calls = calls.get(..WALKED.min(calls.len())).unwrap_or_default();
    let start = Instant::now();
    for call in calls {
        ensure!(walk(world, black_box(&call.call())) == kind.passes(), "{kind:?} is judged otherwise by a walk");
    }
    let walked = start.elapsed().as_secs_f64() / calls.len() as f64;
    let indexed = decisions(table, calls, kind, 1)?.median() / 1e9;
    Ok((kind == Kind::Allowed || kind == Kind::NotAllowed).then(|| {
        let name = kind.name();
        let (micros, ratio) = (walked * 1e6, walked / indexed);
        format!("A walk over all 10,000 policies takes {micros:.0} us for a call {name}, {ratio:.0} times as long")
    }))
}

/// The plain way: DENY policies, then ALLOW policies, one after another.
fn walk(world: &World, call: &Call<'_>) -> bool {
    let selecting = |effect| {
        world.policies.authorization.values().filter(move |policy| {
            let own = Some(&policy.key.namespace);
            let services = policy.to.iter().flat_map(|rule| &rule.services);
            policy.action.effect() == effect && services.into_iter().any(|pattern| pattern.matches(own, call.service))
        })
    };
    let names_caller = |policy: &federation_model::policy::AuthorizationPolicy| {
        let mut patterns = policy.from.iter().flat_map(|rule| &rule.principals);
        call.caller.principal().is_some_and(|id| patterns.any(|pattern| pattern.matches(id)))
    };
    if selecting(Effect::Deny).any(names_caller) {
        return false;
    }
    let mut allowing = selecting(Effect::Allow).peekable();
    allowing.peek().is_none() || allowing.any(names_caller)
}

impl World {
    fn compile(&self) -> PolicyTable {
        PolicyTable::compile(&self.policies, &self.root, &TrustDomainAliases::default())
    }
}
