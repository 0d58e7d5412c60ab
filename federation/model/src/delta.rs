//! The difference between two states of one catalog.
//!
//! Owns `diff` and `apply`, which are each other's inverse. Never numbers the deltas: the session that sends them does.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    catalog::{Catalog, CatalogDigest, ExportedService},
    names::ServiceKey,
};

/// What turns one catalog state into the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Services that are new or changed.
    pub upserts: BTreeMap<ServiceKey, ExportedService>,
    /// Services that are no longer exported.
    pub removals: BTreeSet<ServiceKey>,
    /// The digest of the state after the delta, so that a divergence is seen at once.
    pub digest: CatalogDigest,
}

/// A delta that does not lead to the state its sender had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the catalog after the delta has digest {found:?}, its sender had {expected:?}; a snapshot is needed")]
pub struct Diverged {
    /// What the sender has.
    pub expected: CatalogDigest,
    /// What applying gave.
    pub found: CatalogDigest,
}

impl Delta {
    /// What turns `old` into `new`.
    #[must_use]
    pub fn between(old: &Catalog, new: &Catalog) -> Self {
        let changed = |(key, service): &(&ServiceKey, &ExportedService)| old.services.get(*key) != Some(*service);
        Self {
            upserts: new.services.iter().filter(changed).map(|(key, service)| (key.clone(), service.clone())).collect(),
            removals: old.services.keys().filter(|key| !new.services.contains_key(*key)).cloned().collect(),
            digest: new.digest(),
        }
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removals.is_empty()
    }

    /// The state after the delta.
    ///
    /// # Errors
    /// When the result is not the state the sender had; `catalog` is then no longer in step with it.
    pub fn apply(self, catalog: &Catalog) -> Result<Catalog, Diverged> {
        let mut services = catalog.services.clone();
        services.retain(|key, _| !self.removals.contains(key));
        services.extend(self.upserts);
        let next = Catalog { cluster: catalog.cluster.clone(), services };
        match next.digest() {
            found if found == self.digest => Ok(next),
            found => Err(Diverged { expected: self.digest, found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addr::{Port, Transport},
        catalog::{EndpointCounts, ServiceKind, ServicePort, SessionAffinity},
        time::Timestamp,
    };
    use proptest::prelude::*;

    fn service(port: u16, ready: u32) -> ExportedService {
        ExportedService {
            exported_at: Timestamp(1),
            kind: ServiceKind::ClusterSetIp,
            ports: vec![ServicePort {
                name: None,
                transport: Transport::Tcp,
                port: Port::new(port).unwrap(),
                app_protocol: None,
            }],
            health: EndpointCounts { ready, terminating: 0 },
            session_affinity: SessionAffinity::None,
            priority: 0,
            weight: 100,
            internal_traffic_policy: None,
            traffic_distribution: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    fn catalogs() -> impl Strategy<Value = Catalog> {
        proptest::collection::btree_map(0u8..12, (1u16.., 0u32..5), 0..12).prop_map(|services| Catalog {
            cluster: "west".parse().unwrap(),
            services: services
                .into_iter()
                .map(|(n, (port, ready))| (format!("ns/s{n}").parse().unwrap(), service(port, ready)))
                .collect(),
        })
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_new_catalog(old in catalogs(), new in catalogs()) {
            let delta = Delta::between(&old, &new);
            prop_assert_eq!(delta.is_empty(), old == new);
            prop_assert_eq!(delta.apply(&old).unwrap(), new);
        }

        #[test]
        fn applying_to_another_base_is_seen_as_a_divergence(old in catalogs(), other in catalogs(), new in catalogs()) {
            match Delta::between(&old, &new).apply(&other) {
                Ok(catalog) => prop_assert_eq!(catalog, new),
                Err(diverged) => prop_assert_ne!(diverged.expected, diverged.found),
            }
        }
    }
}
