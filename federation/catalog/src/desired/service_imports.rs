//! The ServiceImports there should be: one for each import, in the namespace of the same name, where that exists (KEP-1645).
//!
//! Owns what is written into them. Never touches one that another implementation of the API made.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use federation_model::{
    catalog::{ServicePort, SessionAffinity},
    finding::Finding,
    import::{Import, ImportKind},
    names::ServiceKey,
};

use super::{
    Change, Exporters, Present, Wanted, awaited, derived_services,
    metadata::{annotations, app_protocol, labels},
    slices::Family,
    statuses::PresentCondition,
};

/// A ServiceImport as it should be, its status excepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportSpec {
    /// `metadata.namespace` and `metadata.name`.
    pub key: ServiceKey,
    /// `metadata.labels`, beside those that say who made it.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`, those with a digest and the exporters excepted.
    pub annotations: BTreeMap<String, String>,
    /// The clusters that export it.
    pub exporters: Exporters,
    /// `spec`.
    pub fields: ImportFields,
}

/// `spec` of a ServiceImport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportFields {
    /// `type`.
    pub kind: ImportKind,
    /// `ports`.
    pub ports: Vec<ServicePort>,
    /// `ips`, one of each family, in the order the Service has them; `ipFamilies` follows from it.
    pub ips: Vec<IpAddr>,
    /// `sessionAffinity` and its configuration.
    pub session_affinity: SessionAffinity,
    /// `internalTrafficPolicy`, when set.
    pub internal_traffic_policy: Option<String>,
    /// `trafficDistribution`, when set.
    pub traffic_distribution: Option<String>,
}

impl ImportFields {
    /// `ipFamilies`.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        self.ips.iter().copied().map(Family::of)
    }
}

/// A ServiceImport there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentImport {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether a gateway made it.
    pub ours: bool,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `spec`, where it can be read.
    pub fields: Option<ImportFields>,
    /// The clusters that exported it, when it was written last.
    pub exporters: Exporters,
    /// `status.clusters`.
    pub clusters: BTreeSet<String>,
    /// `status.conditions`.
    pub conditions: Vec<PresentCondition>,
}

/// The imports there should be.
pub(super) type Desired = BTreeMap<ServiceKey, ImportSpec>;

pub(super) fn desired(
    wanted: &Wanted<'_>,
    present: &Present,
    services: &derived_services::Desired,
    findings: &mut Vec<Finding>,
) -> Desired {
    let mut desired = Desired::new();
    for (key, import) in wanted.imports.iter().filter(|(key, _)| present.namespaces.contains(&key.namespace)) {
        if present.imports.get(key).is_some_and(|there| !there.ours) {
            findings.push(Finding::failed(
                "imports",
                format!("ServiceImport {key} was made by somebody else and is left alone"),
                "remove the other implementation of the multi-cluster services API, and that object with it",
            ));
            continue;
        }
        desired.insert(key.clone(), spec(key, import, services, present));
    }
    desired
}

fn spec(key: &ServiceKey, import: &Import, services: &derived_services::Desired, present: &Present) -> ImportSpec {
    let of_import = services.of_imports.get(key);
    let mut annotations = annotations(&import.annotations);
    let mut ips = Vec::new();
    if let Some(name) = of_import.and_then(|of_import| of_import.name.as_ref()) {
        ips = derived_services::addresses(name, services, present).to_vec();
        annotations.insert(super::DERIVED_SERVICE.to_owned(), name.clone());
    }
    ImportSpec {
        key: key.clone(),
        labels: labels(&import.labels),
        annotations,
        exporters: of_import.map(|of_import| of_import.exporters.clone()).unwrap_or_default(),
        fields: ImportFields {
            kind: import.kind,
            ports: import.ports.iter().map(port).collect(),
            ips,
            session_affinity: import.session_affinity,
            internal_traffic_policy: import.internal_traffic_policy.clone().filter(|word| is_traffic_policy(word)),
            traffic_distribution: import.traffic_distribution.clone(),
        },
    }
}

fn port(port: &ServicePort) -> ServicePort {
    ServicePort { app_protocol: app_protocol(port.app_protocol.as_deref()), ..port.clone() }
}

/// The words the API knows; another one, from another cluster, would keep the whole object from being written.
fn is_traffic_policy(word: &str) -> bool {
    matches!(word, "Cluster" | "Local")
}

/// What is to be written.
pub(super) fn changed<'a>(desired: &'a Desired, present: &'a Present) -> impl Iterator<Item = ImportSpec> + 'a {
    let as_desired = |spec: &ImportSpec, there: &PresentImport| {
        let has = |map: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
            wanted.iter().all(|(name, value)| map.get(name) == Some(value))
        };
        there.fields.as_ref() == Some(&spec.fields)
            && there.exporters.is_superset(&spec.exporters)
            && has(&there.labels, &spec.labels)
            && there.labels.get(super::MANAGED_BY).is_some_and(|by| by == super::MANAGER)
            && has(&there.annotations, &spec.annotations)
            && there.annotations.get(super::WRITTEN) == Some(&spec.written())
    };
    desired
        .values()
        .filter(move |spec| !present.imports.get(&spec.key).is_some_and(|there| as_desired(spec, there)))
        .cloned()
}

impl ImportSpec {
    /// What tells whether labels or annotations that are no longer exported are still there: the names of those that are.
    #[must_use]
    pub fn written(&self) -> String {
        let names: Vec<&str> = self.labels.keys().chain(self.annotations.keys()).map(String::as_str).collect();
        format!("{:016x}", federation_model::stable_hash::fnv1a(names.join("\n").as_bytes()))
    }
}

/// What nothing exports any more.
pub(super) fn garbage<'a>(
    desired: &'a Desired,
    wanted: &'a Wanted<'_>,
    present: &'a Present,
) -> impl Iterator<Item = Change> + 'a {
    let unwanted = |(key, there): &(&ServiceKey, &PresentImport)| {
        there.ours && !desired.contains_key(*key) && !awaited(&there.exporters, wanted)
    };
    present
        .imports
        .iter()
        .filter(unwanted)
        .map(|(key, there)| Change::DeleteImport { key: key.clone(), uid: there.uid.clone() })
}
