//! The status conditions of a ServiceExport, worded as the multi-cluster services API has them (mcs-api v1beta1), and two of our
//! own.
//!
//! Owns types, reasons and messages. Never writes them anywhere: `federation-kube` and `fedctl` do.

mod reach;

use std::fmt;

use federation_model::{
    export::Audience,
    import::{Conflict, Import},
};

pub use reach::{of_reach, why_not};

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `type`.
    pub kind: ConditionKind,
    /// `status`.
    pub status: ConditionStatus,
    /// `reason`, one of those the API names; several conflicts are joined with commas.
    pub reason: String,
    /// `message`, for people.
    pub message: String,
}

/// `type` of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionKind {
    /// Whether the export names something that can be exported.
    Valid,
    /// Whether other clusters are told of it.
    Ready,
    /// Whether exports of other clusters disagree with it.
    Conflict,
    /// Whether the clusters it is for have taken it over.
    Imported,
    /// Whether it can be reached from them.
    Reachable,
}

/// `status` of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionStatus {
    /// `True`.
    True,
    /// `False`.
    False,
    /// `Unknown`.
    Unknown,
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "Valid",
            Self::Ready => "Ready",
            Self::Conflict => "Conflict",
            Self::Imported => "landbridge.dev/Imported",
            Self::Reachable => "landbridge.dev/Reachable",
        })
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        })
    }
}

/// What one cluster can say of its own export; [`of_conflicts`] says the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportConditions {
    /// `Valid`: `Valid`, `NoService` or `InvalidServiceType`.
    pub valid: Condition,
    /// `Ready`: `Exported`, `Pending` or `Failed`.
    pub ready: Condition,
}

impl ExportConditions {
    /// The conditions of an export that `audience` is told of.
    #[must_use]
    pub fn exported(audience: &Audience) -> Self {
        let message = match audience {
            Audience::Everyone => "the service is in the catalog of this cluster".to_owned(),
            Audience::Only(_) => format!("the service is in the catalog of this cluster, for {audience}"),
        };
        Self {
            valid: condition(ConditionKind::Valid, true, "Valid", "the service can be exported"),
            ready: condition(ConditionKind::Ready, true, "Exported", &message),
        }
    }

    /// The conditions of an export whose service does not exist.
    #[must_use]
    pub fn without_service(message: &str) -> Self {
        Self {
            valid: condition(ConditionKind::Valid, false, "NoService", message),
            ready: condition(ConditionKind::Ready, false, "Pending", message),
        }
    }

    /// The conditions of an export whose service has a type that cannot be exported.
    #[must_use]
    pub fn of_invalid_type(message: &str) -> Self {
        Self {
            valid: condition(ConditionKind::Valid, false, "InvalidServiceType", message),
            ready: condition(ConditionKind::Ready, false, "Failed", message),
        }
    }

    /// The conditions of an export of a good service that is held back.
    #[must_use]
    pub fn failed(message: &str) -> Self {
        Self {
            valid: condition(ConditionKind::Valid, true, "Valid", "the service can be exported"),
            ready: condition(ConditionKind::Ready, false, "Failed", message),
        }
    }

    /// Whether other clusters are told of the export.
    #[must_use]
    pub fn is_exported(&self) -> bool {
        self.ready.status == ConditionStatus::True
    }
}

/// The `Conflict` condition of every export that makes up `import`.
#[must_use]
pub fn of_conflicts(import: &Import) -> Condition {
    if import.conflicts.is_empty() {
        return condition(ConditionKind::Conflict, false, "NoConflicts", "all exports agree");
    }
    let reasons: Vec<&str> = import.conflicts.iter().map(|conflict| conflict.reason()).collect();
    let what: Vec<&str> = import.conflicts.iter().map(|conflict| subject(*conflict)).collect();
    let clusters: Vec<&str> = import.sources.keys().map(AsRef::as_ref).collect();
    let message = format!(
        "the exports of clusters {} disagree on {}; the oldest export wins",
        clusters.join(", "),
        what.join(", ")
    );
    condition(ConditionKind::Conflict, true, &reasons.join(","), &message)
}

fn condition(kind: ConditionKind, holds: bool, reason: &str, message: &str) -> Condition {
    let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
    Condition { kind, status, reason: reason.to_owned(), message: message.to_owned() }
}

const fn subject(conflict: Conflict) -> &'static str {
    match conflict {
        Conflict::Port => "ports",
        Conflict::Type => "being headless",
        Conflict::SessionAffinity => "session affinity",
        Conflict::SessionAffinityConfig => "session affinity settings",
        Conflict::Annotations => "exported annotations",
        Conflict::Labels => "exported labels",
        Conflict::InternalTrafficPolicy => "internalTrafficPolicy",
        Conflict::TrafficDistribution => "trafficDistribution",
    }
}
