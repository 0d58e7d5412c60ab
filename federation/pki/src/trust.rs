//! Whom to believe now: the authorities of every trust domain, and what was revoked, each replaced whole.
//!
//! Owns the current bundles and revocations: a handshake sees both as they were at one moment. Never merges the bundles of
//! different trust domains, never fetches them, never decides what is revoked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use federation_model::{
    bundle::{MAX_AUTHORITIES, TrustBundle},
    revocation::Revocations,
    spiffe::TrustDomain,
};

use crate::ca::{CaError, check_authority};

mod roots;

pub(crate) use self::roots::Roots;

/// Why a bundle is not used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BundleFault {
    /// Two bundles of one trust domain.
    #[error("there are several bundles of trust domain {0}: nothing of it is trusted until one remains")]
    Duplicate(TrustDomain),
    /// Too many authorities.
    #[error("the bundle of {0} has {1} authorities, {MAX_AUTHORITIES} are accepted: retire the old ones")]
    TooMany(TrustDomain, usize),
    /// One public key is an authority of two trust domains.
    #[error(
        "an authority of {0} has the same key as one of {1}: each could issue for the other, so nothing of both is trusted; give each cluster an authority of its own (an intermediate below the shared root, published without that root)"
    )]
    Shared(TrustDomain, TrustDomain),
    /// An authority is not one.
    #[error("authority {index} of trust domain {trust_domain} is not usable: {reason}")]
    Authority {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// Which one, from 0.
        index: usize,
        /// Why.
        reason: CaError,
    },
}

/// Bundles that were left out; those of the other trust domains are in force.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} bundle(s) are not usable and nothing of their trust domains is believed: {}", .0.len(), listed(.0))]
pub struct TrustError(pub Vec<BundleFault>);

fn listed(faults: &[BundleFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[derive(Debug, Default)]
pub(crate) struct Anchors {
    bundles: BTreeMap<String, Held>,
    revocations: Arc<Revocations>,
}

/// What is held of one trust domain.
#[derive(Debug, Clone)]
struct Held {
    bundle: TrustBundle,
    authorities: Roots,
    /// Those of the authorities that are not revoked.
    believed: Roots,
}

impl Anchors {
    fn new(mut bundles: BTreeMap<String, Held>, revocations: Arc<Revocations>) -> Self {
        for held in bundles.values_mut() {
            let td = &held.bundle.trust_domain;
            held.believed = held.authorities.only(|terms| revocations.of_serial(td, &terms.serial).is_none());
        }
        Self { bundles, revocations }
    }

    /// The authorities of one trust domain and no other, without those that are revoked.
    pub(crate) fn of(&self, td: &TrustDomain) -> Option<&Roots> {
        self.bundles.get(td.as_str()).map(|held| &held.believed)
    }

    pub(crate) fn revocations(&self) -> &Revocations {
        &self.revocations
    }
}

/// The trust bundles and revocations in force.
#[derive(Debug, Default)]
pub struct TrustStore(ArcSwap<Anchors>);

impl TrustStore {
    /// Believes nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces all bundles at once; revocations stay. A bundle that is not usable counts as empty, so that one bad bundle
    /// neither keeps the others from changing nor leaves a removed authority in force.
    ///
    /// # Errors
    /// When bundles were not usable; the others are in force nevertheless.
    pub fn replace(&self, bundles: impl IntoIterator<Item = TrustBundle>) -> Result<(), TrustError> {
        let mut next = BTreeMap::<String, Held>::new();
        let mut faults = Vec::new();
        for bundle in bundles {
            let td = bundle.trust_domain.clone();
            let authorities = roots(&bundle).unwrap_or_else(|fault| {
                faults.push(fault);
                Roots::default()
            });
            if let Some(held) = next.get_mut(td.as_str()) {
                held.authorities.clear();
                faults.push(BundleFault::Duplicate(td));
            } else {
                next.insert(td.as_str().to_owned(), Held { bundle, authorities, believed: Roots::default() });
            }
        }
        faults.extend(part(&mut next));
        self.0.rcu(|now| Anchors::new(next.clone(), Arc::clone(&now.revocations)));
        if faults.is_empty() { Ok(()) } else { Err(TrustError(faults)) }
    }

    /// Replaces all revocations at once; bundles stay. In force from the next handshake on: whoever holds connections judges
    /// them again.
    pub fn revoke(&self, revocations: &Arc<Revocations>) {
        self.0.rcu(|now| Anchors::new(now.bundles.clone(), Arc::clone(revocations)));
    }

    /// The revocations in force.
    #[must_use]
    pub fn revocations(&self) -> Arc<Revocations> {
        Arc::clone(&self.0.load().revocations)
    }

    /// The bundles in force, in order of trust domain.
    #[must_use]
    pub fn bundles(&self) -> Vec<TrustBundle> {
        self.0.load().bundles.values().map(|held| held.bundle.clone()).collect()
    }

    pub(crate) fn anchors(&self) -> Arc<Anchors> {
        self.0.load_full()
    }
}

/// Empties every bundle that has the key of an authority of another: leaves tell trust domains apart by their names, and
/// whoever holds that key can write either name.
fn part(bundles: &mut BTreeMap<String, Held>) -> Vec<BundleFault> {
    let mut holders: BTreeMap<&[u8], &TrustDomain> = BTreeMap::new();
    let (mut shared, mut faults) = (BTreeSet::new(), Vec::new());
    for held in bundles.values() {
        let td = &held.bundle.trust_domain;
        for key in held.authorities.keys() {
            let holder = *holders.entry(key).or_insert(td);
            if holder != td && shared.insert(td.as_str().to_owned()) | shared.insert(holder.as_str().to_owned()) {
                faults.push(BundleFault::Shared(holder.clone(), td.clone()));
            }
        }
    }
    for (_, held) in bundles.iter_mut().filter(|(td, _)| shared.contains(*td)) {
        held.authorities.clear();
    }
    faults
}

pub(crate) fn roots(bundle: &TrustBundle) -> Result<Roots, BundleFault> {
    let td = &bundle.trust_domain;
    if bundle.authorities.len() > MAX_AUTHORITIES {
        return Err(BundleFault::TooMany(td.clone(), bundle.authorities.len()));
    }
    let mut roots = Roots::default();
    for (index, der) in bundle.authorities.iter().enumerate() {
        check_authority(der, td).and_then(|_| Ok(roots.push(der)?)).map_err(|reason| BundleFault::Authority {
            trust_domain: td.clone(),
            index,
            reason,
        })?;
    }
    Ok(roots)
}

/// Checks that every authority of a bundle is usable.
///
/// # Errors
/// When one is not.
pub fn check(bundle: &TrustBundle) -> Result<(), BundleFault> {
    roots(bundle).map(drop)
}

/// Checks a bundle before it is taken in besides `others`: it must be usable, and have no key of another trust domain. A
/// member that published such a key would turn off both.
///
/// # Errors
/// When it is not usable, or shares a key.
pub fn check_beside<'a>(
    bundle: &TrustBundle,
    others: impl IntoIterator<Item = &'a TrustBundle>,
) -> Result<(), BundleFault> {
    let ours = roots(bundle)?;
    for other in others.into_iter().filter(|other| other.trust_domain != bundle.trust_domain) {
        // What is not usable is believed by nobody, so that nothing can be shared with it.
        let theirs = roots(other).unwrap_or_default();
        if theirs.keys().any(|theirs| ours.keys().any(|ours| ours == theirs)) {
            return Err(BundleFault::Shared(bundle.trust_domain.clone(), other.trust_domain.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Validity, ca::Authority};
    use federation_model::time::Timestamp;
    use std::time::Duration;

    fn bundle(td: &str) -> TrustBundle {
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        Authority::generate(&TrustDomain::new(td).unwrap(), td, validity).unwrap().bundle(1)
    }

    #[test]
    fn an_authority_of_another_trust_domain_empties_its_bundle_and_leaves_the_others_in_force() {
        let store = TrustStore::new();
        let mut west = bundle("west.example");
        west.authorities.extend(bundle("east.example").authorities);
        let error = store.replace([bundle("north.example"), west]).unwrap_err();
        assert!(error.to_string().contains("authority 1 of trust domain west.example"), "{error}");
        let anchors = store.anchors();
        let of = |td| anchors.of(&TrustDomain::new(td).unwrap()).map(|roots| roots.anchors().len());
        assert_eq!((of("north.example"), of("west.example"), of("east.example")), (Some(1), Some(0), None));
    }

    #[test]
    fn two_bundles_of_one_trust_domain_cancel_each_other() {
        let store = TrustStore::new();
        let error = store.replace([bundle("west.example"), bundle("west.example")]).unwrap_err();
        assert!(matches!(error.0.as_slice(), [BundleFault::Duplicate(_)]), "{error}");
        assert!(store.anchors().of(&TrustDomain::new("west.example").unwrap()).unwrap().is_empty());
    }

    #[test]
    fn two_trust_domains_with_the_key_of_one_authority_are_both_not_believed() {
        let store = TrustStore::new();
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        let shared = Authority::nameless("corporate root", validity);
        let [west, east] = ["west.example", "east.example"].map(|td| {
            let mut bundle = bundle(td);
            bundle.authorities.push(shared.certificate().clone());
            bundle
        });
        let error = store.replace([bundle("north.example"), west, east]).unwrap_err();
        assert!(matches!(error.0.as_slice(), [BundleFault::Shared(..)]), "{error:?}");
        assert!(error.to_string().contains("east.example has the same key as one of west.example"), "{error}");
        let anchors = store.anchors();
        let of = |td| anchors.of(&TrustDomain::new(td).unwrap()).map(|roots| roots.anchors().len());
        assert_eq!((of("north.example"), of("west.example"), of("east.example")), (Some(1), Some(0), Some(0)));
        assert!(check_beside(&bundle("south.example"), &[bundle("north.example")]).is_ok());
        let (ours, same_domain) = (store.bundles().remove(0), store.bundles().remove(0));
        assert!(check_beside(&ours, &[same_domain]).is_ok());
        let error = check_beside(&ours, &store.bundles()).unwrap_err();
        assert!(matches!(&error, BundleFault::Shared(one, _) if *one == ours.trust_domain), "{error}");
        store.replace([bundle("west.example"), bundle("east.example")]).unwrap();
        assert!(!store.anchors().of(&TrustDomain::new("west.example").unwrap()).unwrap().is_empty());
    }

    #[test]
    fn an_authority_that_is_twice_in_a_bundle_counts_once() {
        let mut west = bundle("west.example");
        west.authorities.push(west.authorities[0].clone());
        assert_eq!(roots(&west).unwrap().anchors().len(), 1);
    }
}
