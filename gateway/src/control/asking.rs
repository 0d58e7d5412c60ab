//! What the controllers of a Kubernetes cluster are asked for.
//!
//! Owns the difference between what routes now and what has objects: a cluster that cannot be reached at the moment keeps its
//! imports, so that they have their addresses when it comes back. Never writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use federation_catalog::{
    conditions::{self, Condition},
    local::LocalState,
    merge,
    peers::PeerCatalogs,
};
use federation_kube::controllers::Asked;
use federation_model::{
    catalog::Catalog,
    import::Imports,
    names::{ClusterName, ServiceKey},
};
use tokio::sync::watch;

use super::Members;

/// Where the controllers read what is asked for; nothing before the first compile.
pub type Asking = watch::Sender<Option<Arc<Asked>>>;

/// What one compile knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// What this cluster exports.
    pub(super) catalog: &'a Catalog,
    /// What became of its exports.
    pub(super) local: &'a LocalState,
    /// The catalogs of the others.
    pub(super) peers: &'a PeerCatalogs,
    /// Who they may be of.
    pub(super) members: &'a Members,
    /// The set this cluster is a member of.
    pub(super) cluster_set: Option<&'a str>,
    /// What routes now.
    pub(super) imports: &'a Arc<Imports>,
}

/// Tells the controllers, when it is something new.
pub(super) fn ask(asking: &Asking, known: &Known<'_>) {
    let asked = asked(known);
    asking.send_if_modified(|current| {
        let changed = current.as_deref() != Some(&asked);
        if changed {
            *current = Some(Arc::new(asked));
        }
        changed
    });
}

fn asked(known: &Known<'_>) -> Asked {
    let members = known.members;
    let heard: BTreeSet<&ClusterName> = known.peers.known().map(|catalog| &catalog.cluster).collect();
    let reachable: BTreeSet<ClusterName> = known
        .peers
        .visible()
        .map(|catalog| &catalog.cluster)
        .filter(|name| members.contains_key(*name))
        .cloned()
        .collect();
    let all_count = heard.iter().all(|name| reachable.contains(*name) || !members.contains_key(*name));
    let imports = if all_count {
        known.imports.clone()
    } else {
        let theirs = known.peers.known().filter(|catalog| members.contains_key(&catalog.cluster));
        Arc::new(merge::merge(std::iter::once(known.catalog).chain(theirs)))
    };
    Asked {
        cluster_set: known.cluster_set.map(ToOwned::to_owned),
        imports,
        reachable,
        unheard: members.keys().filter(|name| !heard.contains(name)).cloned().collect(),
        exports: conditions(known),
    }
}

fn conditions(known: &Known<'_>) -> BTreeMap<ServiceKey, Vec<Condition>> {
    let of_export = |key: &ServiceKey| {
        let own = known.local.conditions.get(key)?;
        let mut conditions = vec![own.valid.clone(), own.ready.clone()];
        conditions.extend(known.imports.get(key).filter(|_| own.is_exported()).map(conditions::of_conflicts));
        Some((key.clone(), conditions))
    };
    known.local.conditions.keys().filter_map(of_export).collect()
}
