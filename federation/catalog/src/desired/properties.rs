//! The ClusterProperties that say which cluster of which set this is (KEP-2149).
//!
//! Owns the two well-known names, which exist while the cluster is a member and not longer. Never touches one that somebody
//! else made: who is right is for a person to say.

use std::collections::BTreeMap;

use federation_model::finding::Finding;

use super::{Change, Present, Wanted};

/// The id of the cluster in its set.
pub const CLUSTER: &str = "cluster.clusterset.k8s.io";
/// The set.
pub const CLUSTER_SET: &str = "clusterset.k8s.io";

/// A ClusterProperty as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertySpec {
    /// `metadata.name`.
    pub name: &'static str,
    /// `spec.value`.
    pub value: String,
}

/// A ClusterProperty there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentProperty {
    /// `metadata.uid`.
    pub uid: String,
    /// Whether a gateway made it.
    pub ours: bool,
    /// `spec.value`.
    pub value: String,
}

/// What is to be done; nothing where the kind is not served.
pub(super) fn changes(wanted: &Wanted<'_>, present: &Present, findings: &mut Vec<Finding>) -> Vec<Change> {
    let Some(there) = &present.properties else { return Vec::new() };
    let mut changes = Vec::new();
    let values = wanted.cluster_set.map(|set| [(CLUSTER, wanted.cluster.as_str()), (CLUSTER_SET, set)]);
    let values: BTreeMap<&'static str, &str> = values.into_iter().flatten().collect();
    for (name, value) in &values {
        match there.get(*name) {
            Some(property) if property.value == *value => {}
            Some(property) if !property.ours => findings.push(contradicted(name, value, &property.value)),
            Some(_) | None => changes.push(Change::Property(PropertySpec { name, value: (*value).to_owned() })),
        }
    }
    for name in [CLUSTER, CLUSTER_SET] {
        if let Some(property) = there.get(name).filter(|property| property.ours && !values.contains_key(name)) {
            changes.push(Change::DeleteProperty { name, uid: property.uid.clone() });
        }
    }
    changes
}

fn contradicted(name: &str, value: &str, there: &str) -> Finding {
    let there: String = there.chars().take(80).collect();
    Finding::failed(
        "cluster properties",
        format!("ClusterProperty {name} says {there:?}, made by somebody else; here it is {value:?}"),
        "a cluster is in one cluster set at a time: leave the other one, or this one",
    )
}
