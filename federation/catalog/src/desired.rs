//! The objects an importing cluster should have, compared with those it has.
//!
//! Owns every decision of the controllers: which derived Services, EndpointSlices, ServiceImports and statuses there should
//! be, which of those present are ours, and what is to be written or deleted. Level-triggered: the same inputs give the same
//! changes, and none once they are made. Never talks to an API server: `federation-kube` reads [`Present`] and makes the
//! [`Change`]s.
//!
//! ```text
//! imports, exports ──┐
//!                    ├── Planner::plan ──> changes, in the order they are to be made, and findings
//! Present ───────────┘
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use federation_model::{
    addr::Port,
    finding::Finding,
    import::Imports,
    names::{ClusterName, Namespace, ServiceKey},
    time::Timestamp,
};

use crate::conditions::Condition;

mod allocation;
pub mod derived_services;
mod metadata;
pub mod properties;
pub mod service_imports;
pub mod slices;
pub mod statuses;

use allocation::Allocations;
pub use allocation::PortRange;
use derived_services::{PresentService, ServiceSpec};
use properties::{PresentProperty, PropertySpec};
use service_imports::{ImportSpec, PresentImport};
use slices::{GatewayPod, PresentSlice, SliceSpec};
use statuses::{ExportStatus, ImportStatus, PresentExport};

/// The value of `app.kubernetes.io/managed-by` on everything a gateway makes, and its field manager.
pub const MANAGER: &str = "landbridge-gateway";
/// The label that says who made an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The annotation of a derived Service that says what it gives an address to.
pub const IMPORT: &str = "landbridge.dev/import";
/// The annotation that names the clusters which exported the service when the object was written last.
pub const EXPORTERS: &str = "landbridge.dev/exporters";
/// The annotation of a ServiceImport with a digest of everything that was written into it.
pub const WRITTEN: &str = "landbridge.dev/written";
/// The annotation of a ServiceImport that names the derived Service, which is in the namespace of the gateway.
pub const DERIVED_SERVICE: &str = "multicluster.kubernetes.io/derived-service";

/// Clusters that export something. Many objects have the same, and share them.
pub type Exporters = Arc<BTreeSet<ClusterName>>;

/// What the tables of a gateway ask for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// This cluster.
    pub cluster: &'a ClusterName,
    /// The cluster set this cluster is a member of.
    pub cluster_set: Option<&'a str>,
    /// What the last known catalogs of all members make together. A cluster that cannot be reached at the moment still
    /// exports: its imports keep their objects and so their addresses.
    pub imports: &'a Imports,
    /// The other clusters whose exports count now.
    pub reachable: &'a BTreeSet<ClusterName>,
    /// The members that have not said yet what they export. What only they may export is left alone.
    pub unheard: &'a BTreeSet<ClusterName>,
    /// The conditions of the exports of this cluster.
    pub exports: &'a BTreeMap<ServiceKey, Vec<Condition>>,
}

/// The objects there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Present {
    /// The namespaces of the cluster, or those this gateway is for.
    pub namespaces: BTreeSet<Namespace>,
    /// Every Service of the gateway's own namespace.
    pub services: BTreeMap<String, PresentService>,
    /// Every EndpointSlice of the gateway's own namespace.
    pub slices: BTreeMap<String, PresentSlice>,
    /// Every ServiceImport.
    pub imports: BTreeMap<ServiceKey, PresentImport>,
    /// Every ServiceExport.
    pub exports: BTreeMap<ServiceKey, PresentExport>,
    /// Every ClusterProperty; nothing where the kind is not served or may not be read.
    pub properties: Option<BTreeMap<String, PresentProperty>>,
    /// The gateway pods of this cluster, by name.
    pub gateways: BTreeMap<String, GatewayPod>,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Apply a derived Service.
    Service(ServiceSpec),
    /// Apply an EndpointSlice of a derived Service.
    Slice(SliceSpec),
    /// Apply a ServiceImport, its status excepted.
    Import(ImportSpec),
    /// Apply the status of a ServiceImport.
    ImportStatus(ImportStatus),
    /// Apply the status of a ServiceExport.
    ExportStatus(ExportStatus),
    /// Apply a ClusterProperty.
    Property(PropertySpec),
    /// Delete a ClusterProperty, if it is still the one with this uid.
    DeleteProperty {
        /// Its name.
        name: &'static str,
        /// `metadata.uid`.
        uid: String,
    },
    /// Delete a ServiceImport, if it is still the one with this uid.
    DeleteImport {
        /// Its namespace and name.
        key: ServiceKey,
        /// `metadata.uid`.
        uid: String,
    },
    /// Delete an EndpointSlice of the gateway's namespace, if it is still the one with this uid.
    DeleteSlice {
        /// Its name.
        name: String,
        /// `metadata.uid`.
        uid: String,
    },
    /// Delete a Service of the gateway's namespace, if it is still the one with this uid.
    DeleteService {
        /// Its name.
        name: String,
        /// `metadata.uid`.
        uid: String,
    },
}

impl Change {
    /// Whether it concerns an object of the multi-cluster services API, whose definitions may not be installed.
    #[must_use]
    pub const fn is_of_the_api(&self) -> bool {
        match self {
            Self::Import(_) | Self::ImportStatus(_) | Self::ExportStatus(_) | Self::DeleteImport { .. } => true,
            Self::Service(_)
            | Self::Slice(_)
            | Self::Property(_)
            | Self::DeleteProperty { .. }
            | Self::DeleteSlice { .. }
            | Self::DeleteService { .. } => false,
        }
    }
}

/// What is to be done, and what cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The writes, in the order they are to be made.
    pub changes: Vec<Change>,
    /// What somebody has to look at.
    pub findings: Vec<Finding>,
}

/// Decides what to write. Holds nothing but which allocated ports were freed a short time ago.
#[derive(Debug, Clone)]
pub struct Planner {
    allocations: Allocations,
}

impl Planner {
    /// A planner that allocates ports of `range`, those of `reserved` excepted.
    #[must_use]
    pub fn new(range: PortRange, reserved: BTreeSet<Port>) -> Self {
        Self { allocations: Allocations::new(range, reserved) }
    }

    /// What is to be done at `now`.
    pub fn plan(&mut self, wanted: &Wanted<'_>, present: &Present, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        let services = derived_services::desired(wanted, present, &mut self.allocations, now, &mut plan.findings);
        plan.changes.extend(derived_services::changed(&services, present).map(Change::Service));
        let slices = slices::desired(&services, &present.services, &present.gateways);
        plan.changes.extend(slices::changed(&slices, present).map(Change::Slice));
        let imports = service_imports::desired(wanted, present, &services, &mut plan.findings);
        let rewritten: Vec<ImportSpec> = service_imports::changed(&imports, present).collect();
        // The status of what is being rewritten would be of the generation before.
        let unsettled: BTreeSet<&ServiceKey> = rewritten.iter().map(|spec| &spec.key).collect();
        let statuses = statuses::of_imports(wanted, present, (&imports, &services), now);
        let settled = statuses.filter(|status| !unsettled.contains(&status.key));
        let statuses: Vec<Change> = settled.map(Change::ImportStatus).collect();
        plan.changes.extend(rewritten.into_iter().map(Change::Import));
        plan.changes.extend(statuses);
        plan.changes.extend(statuses::of_exports(wanted, present, now).map(Change::ExportStatus));
        plan.changes.extend(properties::changes(wanted, present, &mut plan.findings));
        // Names go before addresses do, and addresses before what they lead to.
        plan.changes.extend(service_imports::garbage(&imports, wanted, present));
        plan.changes.extend(slices::garbage(&slices, wanted, present));
        plan.changes.extend(derived_services::garbage(&services, wanted, present));
        plan
    }
}

/// Whether an object that nothing asks for now may still be asked for by a member that has not spoken yet.
fn awaited(exporters: &BTreeSet<ClusterName>, wanted: &Wanted<'_>) -> bool {
    !exporters.is_disjoint(wanted.unheard)
}

#[cfg(test)]
mod tests;
