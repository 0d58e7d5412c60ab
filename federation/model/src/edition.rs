//! The catalog of this cluster as each of the other clusters is told it.
//!
//! Owns which catalog a cluster gets, and that clusters which are told the same share one value. Never travels: sessions
//! send one edition each.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    catalog::{Catalog, ExportedService},
    export::{Audience, LocalExport},
    names::{ClusterName, ServiceKey},
};

/// One catalog for each other cluster. At most one value for each member, and one for all where no export names clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Editions {
    /// What is exported to everyone: what a cluster gets that no export names.
    common: Arc<Catalog>,
    /// The clusters that get more.
    special: BTreeMap<ClusterName, Arc<Catalog>>,
}

impl From<Catalog> for Editions {
    /// The same catalog for everyone.
    fn from(catalog: Catalog) -> Self {
        Self { common: Arc::new(catalog), special: BTreeMap::new() }
    }
}

impl Editions {
    /// What `cluster` is told. One that was no member when the editions were made gets what is exported to everyone.
    #[must_use]
    pub fn of(&self, cluster: &ClusterName) -> &Arc<Catalog> {
        self.special.get(cluster).unwrap_or(&self.common)
    }

    /// Makes the editions of these exports for these clusters; whether that changed any. An edition that stays as it was
    /// stays the same value, so that whoever holds it has nothing to compare.
    pub fn update<'a>(
        &mut self,
        exports: &BTreeMap<ServiceKey, LocalExport>,
        members: impl IntoIterator<Item = &'a ClusterName>,
    ) -> bool {
        let (common, restricted) = divide(exports);
        // By what of the restricted they are told, so that each such catalog is made once.
        let mut readers: BTreeMap<Vec<&ServiceKey>, Vec<&ClusterName>> = BTreeMap::new();
        if !restricted.is_empty() {
            for member in members {
                let told = restricted.iter().filter(|(_, export)| export.audience.includes(member));
                readers.entry(told.map(|(key, _)| *key).collect()).or_default().push(member);
            }
        }
        let name = self.common.cluster.clone();
        let mut special = BTreeMap::new();
        for (told, clusters) in readers {
            let (Some(first), false) = (clusters.first(), told.is_empty()) else { continue };
            let mut services = common.clone();
            services.extend(told.iter().map(|key| ((*key).clone(), exports[*key].service.clone())));
            let edition = unless_changed(self.of(first), Catalog { cluster: name.clone(), services });
            special.extend(clusters.into_iter().map(|cluster| (cluster.clone(), edition.clone())));
        }
        let next = Self { common: unless_changed(&self.common, Catalog { cluster: name, services: common }), special };
        let changed = *self != next;
        *self = next;
        changed
    }
}

/// The services exported to everyone, and the exports that name clusters.
fn divide(
    exports: &BTreeMap<ServiceKey, LocalExport>,
) -> (BTreeMap<ServiceKey, ExportedService>, Vec<(&ServiceKey, &LocalExport)>) {
    let (mut common, mut restricted) = (BTreeMap::new(), Vec::new());
    for (key, export) in exports {
        match &export.audience {
            Audience::Everyone => drop(common.insert(key.clone(), export.service.clone())),
            Audience::Only(_) => restricted.push((key, export)),
        }
    }
    (common, restricted)
}

fn unless_changed(before: &Arc<Catalog>, now: Catalog) -> Arc<Catalog> {
    if **before == now { before.clone() } else { Arc::new(now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::{EndpointCounts, ServiceKind, SessionAffinity},
        export::DeliverModes,
        time::Timestamp,
    };

    fn cluster(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    /// Exports by name, number of endpoints, and audience (`None`: everyone).
    fn exports(list: &[(&str, u32, Option<&[&str]>)]) -> BTreeMap<ServiceKey, LocalExport> {
        let export = |(name, ready, audience): &(&str, u32, Option<&[&str]>)| {
            let service = ExportedService {
                exported_at: Timestamp(1),
                kind: ServiceKind::ClusterSetIp,
                ports: Vec::new(),
                health: EndpointCounts { ready: *ready, terminating: 0 },
                session_affinity: SessionAffinity::None,
                priority: 0,
                weight: 100,
                internal_traffic_policy: None,
                traffic_distribution: None,
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
            };
            let audience = audience
                .map_or(Audience::Everyone, |only| Audience::Only(only.iter().map(|name| cluster(name)).collect()));
            let export = LocalExport { service, endpoints: Vec::new(), deliver: DeliverModes::default(), audience };
            (format!("shop/{name}").parse().unwrap(), export)
        };
        list.iter().map(export).collect()
    }

    fn told(editions: &Editions, to: &str) -> Vec<String> {
        editions.of(&cluster(to)).services.keys().map(|key| key.name.to_string()).collect()
    }

    const MEMBERS: [&str; 4] = ["north", "south", "west", "far"];

    fn update(editions: &mut Editions, list: &[(&str, u32, Option<&[&str]>)]) -> bool {
        let members = MEMBERS.map(cluster);
        editions.update(&exports(list), &members)
    }

    fn east() -> Editions {
        Catalog::empty(cluster("east")).into()
    }

    #[test]
    fn exports_to_everyone_are_one_value_for_everyone() {
        let mut editions = east();
        assert!(update(&mut editions, &[("a", 1, None), ("b", 1, None)]));
        assert_eq!(told(&editions, "west"), ["a", "b"]);
        assert!(Arc::ptr_eq(editions.of(&cluster("west")), editions.of(&cluster("nobody"))));
        assert!(!update(&mut editions, &[("a", 1, None), ("b", 1, None)]), "nothing changed");
    }

    #[test]
    fn a_cluster_is_told_of_what_names_it_and_of_nothing_that_names_others() {
        let mut editions = east();
        let list: &[(&str, u32, Option<&[&str]>)] =
            &[("a", 1, None), ("b", 1, Some(&["north", "west"])), ("c", 1, Some(&["west"])), ("d", 1, Some(&[]))];
        assert!(update(&mut editions, list));
        assert_eq!(told(&editions, "west"), ["a", "b", "c"]);
        assert_eq!(told(&editions, "north"), ["a", "b"]);
        assert_eq!(told(&editions, "south"), ["a"]);
        assert!(Arc::ptr_eq(editions.of(&cluster("south")), editions.of(&cluster("far"))));
    }

    #[test]
    fn a_named_cluster_that_is_no_member_costs_nothing_and_is_told_when_it_is_one() {
        let mut editions = east();
        let list = exports(&[("a", 1, Some(&["west"]))]);
        assert!(!editions.update(&list, &[cluster("north")]), "the edition of everyone is still empty");
        assert_eq!(told(&editions, "west"), Vec::<String>::new());
        assert!(editions.update(&list, &[cluster("north"), cluster("west")]));
        assert_eq!(told(&editions, "west"), ["a"]);
        assert!(editions.update(&list, &[cluster("north")]));
        assert_eq!(told(&editions, "west"), Vec::<String>::new());
    }

    #[test]
    fn a_change_that_a_cluster_is_not_told_of_leaves_its_edition_the_same_value() {
        let mut editions = east();
        update(&mut editions, &[("a", 1, None), ("b", 1, Some(&["west"])), ("c", 1, Some(&["north"]))]);
        let before = ["north", "south", "west"].map(|name| editions.of(&cluster(name)).clone());
        assert!(update(&mut editions, &[("a", 1, None), ("b", 2, Some(&["west"])), ("c", 1, Some(&["north"]))]));
        let after = ["north", "south", "west"].map(|name| editions.of(&cluster(name)).clone());
        let same: Vec<bool> = before.iter().zip(&after).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
        assert_eq!(same, [true, true, false]);
    }
}
