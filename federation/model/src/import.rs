//! What the exports of all clusters become in each of them.
//!
//! Owns the shape of a merged import. Never merges: that is `federation-catalog`.

pub mod address;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    addr::{Port, Transport},
    catalog::{EndpointCounts, ServicePort, SessionAffinity},
    names::{ClusterName, EndpointName, ServiceKey},
    time::Timestamp,
};

/// Every import of the cluster set, as one cluster sees it.
pub type Imports = BTreeMap<ServiceKey, Import>;

/// One service of the cluster set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// ClusterSetIP or Headless, as the oldest export says.
    pub kind: ImportKind,
    /// The union of the ports, without duplicate names or numbers.
    pub ports: Vec<ServicePort>,
    /// Client affinity, as the oldest export says.
    pub session_affinity: SessionAffinity,
    /// `spec.internalTrafficPolicy`, as the oldest export says.
    pub internal_traffic_policy: Option<String>,
    /// `spec.trafficDistribution`, as the oldest export says.
    pub traffic_distribution: Option<String>,
    /// The exported labels of the oldest export.
    pub labels: BTreeMap<String, String>,
    /// The exported annotations of the oldest export.
    pub annotations: BTreeMap<String, String>,
    /// The clusters that export it.
    pub sources: BTreeMap<ClusterName, ImportSource>,
    /// What the exports disagree on; reported on all of them.
    pub conflicts: BTreeSet<Conflict>,
}

/// Whether an import has one address or one for each endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportKind {
    /// One address.
    ClusterSetIp,
    /// One address for every ready endpoint.
    Headless,
}

/// What one cluster offers of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportSource {
    /// What its own export says it is, whatever the oldest one says.
    pub kind: ImportKind,
    /// Since when it exports it.
    pub exported_at: Timestamp,
    /// The service ports this cluster really exposes; traffic to others never goes there.
    pub ports: BTreeSet<(Port, Transport)>,
    /// Its endpoints by state.
    pub health: EndpointCounts,
    /// Its ready endpoints, when the import is headless.
    pub endpoints: Vec<EndpointName>,
    /// Lower is preferred.
    pub priority: u32,
    /// Share within one priority.
    pub weight: u32,
}

/// A property on which exports disagree: the reasons of the `Conflict` condition (mcs-api `ServiceExport`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conflict {
    /// Ports with one name or number differ.
    Port,
    /// Some are headless, some are not.
    Type,
    /// Session affinity differs.
    SessionAffinity,
    /// Session affinity settings differ.
    SessionAffinityConfig,
    /// Exported annotations differ.
    Annotations,
    /// Exported labels differ.
    Labels,
    /// `internalTrafficPolicy` differs.
    InternalTrafficPolicy,
    /// `trafficDistribution` differs.
    TrafficDistribution,
}

impl Conflict {
    /// The reason written into the condition.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Port => "PortConflict",
            Self::Type => "TypeConflict",
            Self::SessionAffinity => "SessionAffinityConflict",
            Self::SessionAffinityConfig => "SessionAffinityConfigConflict",
            Self::Annotations => "AnnotationsConflict",
            Self::Labels => "LabelsConflict",
            Self::InternalTrafficPolicy => "InternalTrafficPolicyConflict",
            Self::TrafficDistribution => "TrafficDistributionConflict",
        }
    }
}
