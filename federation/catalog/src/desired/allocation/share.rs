//! The equal share of each cluster in the ports for imports.
//!
//! Owns to whom a port is charged. It is the cluster that makes it needed: a cluster that exports a service of another one with
//! more ports pays for those itself, and its claim to be the older one can only charge it more. Never takes a port away.

use std::collections::{BTreeMap, BTreeSet};

use federation_model::{
    import::{ImportSource, Imports, address::AddressKey},
    names::ClusterName,
};

use super::Owner;

/// How many ports each cluster has.
#[derive(Debug)]
pub(super) struct Shares {
    /// How many are the share of each.
    each: usize,
    held: BTreeMap<ClusterName, usize>,
}

impl Shares {
    /// Counts what is held, of `usable` ports.
    pub(super) fn count<'a>(imports: &Imports, held: impl Iterator<Item = &'a Owner>, usable: usize) -> Self {
        let clusters: BTreeSet<&ClusterName> = imports.values().flat_map(|import| import.sources.keys()).collect();
        let each = usable.checked_div(clusters.len()).unwrap_or(usable).max(1);
        let mut shares = Self { each, held: BTreeMap::new() };
        for cluster in held.filter_map(|owner| charged(imports, owner)) {
            shares.add(cluster);
        }
        shares
    }

    /// Charges one more port; the cluster that would pay, when it has its share.
    pub(super) fn charge(&mut self, imports: &Imports, owner: &Owner) -> Result<(), ClusterName> {
        let Some(cluster) = charged(imports, owner) else { return Ok(()) };
        if self.held.get(cluster).is_some_and(|held| *held >= self.each) {
            return Err(cluster.clone());
        }
        self.add(cluster);
        Ok(())
    }

    fn add(&mut self, cluster: &ClusterName) {
        *self.held.entry(cluster.clone()).or_default() += 1;
    }
}

/// Whom a port is charged to: of the clusters that expose it the one whose export is the oldest; for an endpoint its cluster.
/// Nobody when nobody exports it any more.
pub(super) fn charged<'a>(imports: &'a Imports, (key, port, transport): &Owner) -> Option<&'a ClusterName> {
    let sources = &imports.get(key.service())?.sources;
    let exposes = |source: &ImportSource| source.ports.contains(&(*port, *transport));
    match key {
        AddressKey::Service(_) => {
            let exposing = sources.iter().filter(|(_, source)| exposes(source));
            exposing.min_by_key(|(cluster, source)| (source.exported_at, *cluster)).map(|(cluster, _)| cluster)
        }
        AddressKey::Endpoint(_, cluster, endpoint) => {
            let (cluster, source) = sources.get_key_value(cluster)?;
            (exposes(source) && source.endpoints.contains(endpoint)).then_some(cluster)
        }
    }
}
