//! Whether the program can do its work, as named conditions.
//!
//! Owns the conditions and their reasons. Never decides one: the parts of the program do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use serde::Serialize;

/// The conditions of one program; ready when all of them hold.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<&'static str, State>>>,
}

#[derive(Debug, Clone)]
enum State {
    Holds,
    Endangered(String),
    Fails(String),
}

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether every condition holds.
    pub ready: bool,
    /// Each condition.
    pub conditions: Vec<ConditionReport>,
}

/// One condition of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConditionReport {
    /// Its name.
    pub name: &'static str,
    /// Whether it holds.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What will make it fail unless somebody does something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl ConditionReport {
    fn new(name: &'static str, state: &State) -> Self {
        let (ready, reason, warning) = match state {
            State::Holds => (true, None, None),
            State::Endangered(warning) => (true, None, Some(warning.clone())),
            State::Fails(reason) => (false, Some(reason.clone()), None),
        };
        Self { name, ready, reason, warning }
    }
}

impl Readiness {
    /// Adds a condition that does not hold yet.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        self.conditions().insert(name, State::Fails("starting".to_owned()));
        Condition { name, readiness: self.clone() }
    }

    /// Every condition as it is.
    #[must_use]
    pub fn report(&self) -> Report {
        let held = self.conditions();
        let conditions: Vec<_> = held.iter().map(|(name, state)| ConditionReport::new(name, state)).collect();
        Report { ready: conditions.iter().all(|condition| condition.ready), conditions }
    }

    /// The first condition that does not hold, `name: reason`.
    #[must_use]
    pub fn blocked_by(&self) -> Option<String> {
        self.conditions().iter().find_map(|(name, state)| match state {
            State::Holds | State::Endangered(_) => None,
            State::Fails(reason) => Some(format!("{name}: {reason}")),
        })
    }

    /// Every condition that is endangered, `name: warning`.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let report = self.report().conditions;
        report.into_iter().filter_map(|of| Some(format!("{}: {}", of.name, of.warning?))).collect()
    }

    /// Adds the conditions to what is measured.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Holders of the lock only replace values, so a poisoned one is still whole.
    fn conditions(&self) -> MutexGuard<'_, BTreeMap<&'static str, State>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is asked of each condition.
type Measure = fn(&ConditionReport) -> bool;

impl Collector for Readiness {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let conditions = self.report().conditions;
        let gauges: [(&str, &str, Measure); 2] = [
            ("condition_holds", "Conditions of being ready, 1 or 0; all of them must hold", |of| of.ready),
            ("condition_endangered", "Conditions that will not hold for long unless somebody acts: 1", |of| {
                of.warning.is_some()
            }),
        ];
        for (name, help, is) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for condition in &conditions {
                let gauge = ConstGauge::new(i64::from(is(condition)));
                gauge.encode(family.encode_family(&[("condition", condition.name)])?)?;
            }
        }
        Ok(())
    }
}

/// One condition, in the hands of the part that knows it.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

impl Condition {
    /// It holds.
    pub fn holds(&self) {
        self.readiness.conditions().insert(self.name, State::Holds);
    }

    /// It holds, and will not for long because of `warning`: the program stays ready.
    pub fn endangered(&self, warning: impl Into<String>) {
        self.readiness.conditions().insert(self.name, State::Endangered(warning.into()));
    }

    /// It does not hold, because of `reason`.
    pub fn fails(&self, reason: impl Into<String>) {
        self.readiness.conditions().insert(self.name, State::Fails(reason.into()));
    }
}
