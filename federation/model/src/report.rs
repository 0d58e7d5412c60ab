//! What a cluster says of the imports it has made of another cluster's exports.
//!
//! Owns the states of an import and what the reports of several gateways of one cluster say together. Never decides what
//! follows from them: `federation-catalog` does.

use std::{collections::BTreeMap, sync::Arc};

use crate::names::{ClusterName, ServiceKey};

/// How far a cluster is with an import, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImportState {
    /// It has an address and a name there.
    Ready,
    /// It is taken over, and has no address yet.
    NoAddress,
    /// Its namespace does not exist there.
    NoNamespace,
    /// Older exports have its ports.
    PortConflict,
    /// The oldest export is headless, and this one is not.
    TypeConflict,
    /// A state of a later version.
    Other,
}

impl ImportState {
    /// Whether the cluster has taken the export over.
    #[must_use]
    pub const fn is_imported(self) -> bool {
        match self {
            Self::Ready | Self::NoAddress => true,
            Self::NoNamespace | Self::PortConflict | Self::TypeConflict | Self::Other => false,
        }
    }
}

/// The exports of one cluster that another one imports, and how far it is with each; at most
/// [`crate::catalog::MAX_SERVICES`].
pub type ImportReport = BTreeMap<ServiceKey, ImportState>;

/// Reports by the cluster they are for.
pub type ImportReports = BTreeMap<ClusterName, Arc<ImportReport>>;

/// What was heard of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// Its gateways are of a version that does not say.
    Unable,
    /// This, the last time a tunnel to it lived.
    Said(Arc<ImportReport>),
}

/// What the gateways of one cluster say together: a service is imported when each of them imports it, and is in the worst of
/// its states. Nothing when none says anything.
#[must_use]
pub fn together(reports: &[Arc<ImportReport>]) -> Option<Arc<ImportReport>> {
    let (first, others) = reports.split_first()?;
    if others.iter().all(|other| other == first) {
        return Some(first.clone());
    }
    let worst = |(service, state): (&ServiceKey, &ImportState)| {
        let mut states = others.iter().map(|other| other.get(service).copied());
        let worst = states.try_fold(*state, |worst, state| Some(worst.max(state?)))?;
        Some((service.clone(), worst))
    };
    Some(Arc::new(first.iter().filter_map(worst).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(states: &[(&str, ImportState)]) -> Arc<ImportReport> {
        Arc::new(states.iter().map(|(name, state)| (format!("shop/{name}").parse().unwrap(), *state)).collect())
    }

    #[test]
    fn gateways_of_one_cluster_are_as_far_as_the_one_that_is_least_far() {
        use ImportState::{NoAddress, Ready};
        let (whole, behind) = (report(&[("a", Ready), ("b", Ready)]), report(&[("a", NoAddress), ("c", Ready)]));
        assert_eq!(together(&[whole.clone(), behind.clone()]), Some(report(&[("a", NoAddress)])));
        assert_eq!(together(&[behind, whole.clone()]), Some(report(&[("a", NoAddress)])));
        assert!(Arc::ptr_eq(&together(&[whole.clone(), report(&[("a", Ready), ("b", Ready)])]).unwrap(), &whole));
        assert_eq!(together(&[]), None);
    }
}
