//! The statuses of ServiceImports and ServiceExports.
//!
//! Owns when a condition changes and since when it holds. Never words the conditions of exports: `conditions` does.

use std::collections::BTreeSet;

use federation_model::{
    names::{ClusterName, ServiceKey},
    time::Timestamp,
};

use super::{
    Present, Wanted,
    allocation::Refusal,
    derived_services, service_imports,
    service_imports::{ImportSpec, PresentImport},
};
use crate::conditions::{Condition, ConditionKind, ConditionStatus};

/// The most bytes of a condition's message that the API takes.
const MAX_MESSAGE: usize = 32 * 1024;

/// A condition as an object has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentCondition {
    /// `type`.
    pub kind: String,
    /// `status`.
    pub status: String,
    /// `reason`.
    pub reason: String,
    /// `message`.
    pub message: String,
    /// `observedGeneration`; 0 when not set.
    pub generation: i64,
    /// `lastTransitionTime`.
    pub since: Timestamp,
}

/// A condition to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StampedCondition {
    /// What it says.
    pub condition: Condition,
    /// `observedGeneration`.
    pub generation: i64,
    /// `lastTransitionTime`: when `status` became what it is.
    pub since: Timestamp,
}

/// A ServiceExport there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentExport {
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.conditions`.
    pub conditions: Vec<PresentCondition>,
}

/// The status of a ServiceExport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportStatus {
    /// Its namespace and name.
    pub key: ServiceKey,
    /// `conditions`.
    pub conditions: Vec<StampedCondition>,
}

/// The status of a ServiceImport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportStatus {
    /// Its namespace and name.
    pub key: ServiceKey,
    /// `clusters`: those whose exports count now.
    pub clusters: BTreeSet<ClusterName>,
    /// `conditions`.
    pub conditions: Vec<StampedCondition>,
}

/// The statuses of exports that are to be written.
pub(super) fn of_exports<'a>(
    wanted: &'a Wanted<'_>,
    present: &'a Present,
    now: Timestamp,
) -> impl Iterator<Item = ExportStatus> + 'a {
    present.exports.iter().filter_map(move |(key, there)| {
        let conditions = stamped(wanted.exports.get(key)?, &there.conditions, there.generation, now)?;
        Some(ExportStatus { key: key.clone(), conditions })
    })
}

/// The statuses of imports that are to be written; those of imports that exist.
pub(super) fn of_imports<'a>(
    wanted: &'a Wanted<'_>,
    present: &'a Present,
    (imports, services): (&'a service_imports::Desired, &'a derived_services::Desired),
    now: Timestamp,
) -> impl Iterator<Item = ImportStatus> + 'a {
    let counting: BTreeSet<ClusterName> = wanted.reachable.iter().chain([wanted.cluster]).cloned().collect();
    imports.values().filter_map(move |spec| {
        let there = present.imports.get(&spec.key)?;
        let clusters = || spec.exporters.intersection(&counting);
        let ready = [ready(spec, wanted, clusters().next().is_some(), services.refused.get(&spec.key))];
        let same_clusters = clusters().map(ClusterName::as_str).eq(there.clusters.iter().map(String::as_str));
        let conditions = match stamped(&ready, &there.conditions, there.generation, now) {
            Some(conditions) => conditions,
            None if same_clusters => return None,
            None => as_they_are(&ready, there),
        };
        Some(ImportStatus { key: spec.key.clone(), clusters: clusters().cloned().collect(), conditions })
    })
}

/// The `Ready` condition of an import.
fn ready(spec: &ImportSpec, wanted: &Wanted<'_>, reachable: bool, refused: Option<&Refusal>) -> Condition {
    let pending = |message: String| Condition {
        kind: ConditionKind::Ready,
        status: ConditionStatus::False,
        reason: "Pending".to_owned(),
        message,
    };
    let Some(import) = wanted.imports.get(&spec.key) else {
        return pending("nothing is known of its exports yet".to_owned());
    };
    if derived_services::carried(import).next().is_none() {
        return pending("it has no TCP port, and others are not carried between clusters".to_owned());
    }
    if derived_services::has_one_address(import) && spec.fields.ips.is_empty() {
        return pending(match refused {
            Some(refusal) => format!("no port is left for it: {refusal}; {}", refusal.remedy()),
            None => "its derived Service has no address yet".to_owned(),
        });
    }
    if !reachable {
        let exporters: Vec<&str> = spec.exporters.iter().map(ClusterName::as_str).collect();
        return pending(format!("no tunnel to the clusters that export it: {}", exporters.join(", ")));
    }
    Condition {
        kind: ConditionKind::Ready,
        status: ConditionStatus::True,
        reason: "Ready".to_owned(),
        message: "the import has an address and a cluster to go to".to_owned(),
    }
}

/// The conditions to be written; nothing when those there say the same.
fn stamped(
    desired: &[Condition],
    present: &[PresentCondition],
    generation: i64,
    now: Timestamp,
) -> Option<Vec<StampedCondition>> {
    let mut changed = false;
    let stamped = desired.iter().map(|condition| {
        let condition = Condition { message: clipped(&condition.message).to_owned(), ..condition.clone() };
        let there = present.iter().find(|there| there.kind == condition.kind.to_string());
        let same_status = there.is_some_and(|there| there.status == condition.status.to_string());
        let same = same_status
            && there.is_some_and(|there| {
                there.reason == condition.reason && there.message == condition.message && there.generation == generation
            });
        changed |= !same;
        let since = there.filter(|_| same_status).map_or(now, |there| there.since);
        StampedCondition { condition, generation, since }
    });
    let stamped: Vec<StampedCondition> = stamped.collect();
    changed.then_some(stamped)
}

fn as_they_are(desired: &[Condition], there: &PresentImport) -> Vec<StampedCondition> {
    let since = |condition: &Condition| {
        there.conditions.iter().find(|there| there.kind == condition.kind.to_string()).map(|there| there.since)
    };
    let stamp = |condition: &Condition| StampedCondition {
        condition: condition.clone(),
        generation: there.generation,
        since: since(condition).unwrap_or_default(),
    };
    desired.iter().map(stamp).collect()
}

fn clipped(message: &str) -> &str {
    if message.len() <= MAX_MESSAGE {
        return message;
    }
    let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    &message[..end]
}
