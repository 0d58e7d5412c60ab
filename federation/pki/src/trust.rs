//! Whom to believe now: the authorities of every trust domain, and what was revoked, each replaced whole.
//!
//! Owns the current bundles and revocations: a handshake sees both as they were at one moment. Never merges the bundles of
//! different trust domains, never fetches them, never decides what is revoked.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use federation_model::{
    bundle::{MAX_AUTHORITIES, TrustBundle},
    revocation::{Revocations, Serial},
    spiffe::TrustDomain,
};
use rustls_pki_types::TrustAnchor;

use crate::{
    ca::{CaError, check_authority},
    x509::Parsed,
};

/// Why a bundle is not used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BundleFault {
    /// Two bundles of one trust domain.
    #[error("there are several bundles of trust domain {0}: nothing of it is trusted until one remains")]
    Duplicate(TrustDomain),
    /// Too many authorities.
    #[error("the bundle of {0} has {1} authorities, {MAX_AUTHORITIES} are accepted: retire the old ones")]
    TooMany(TrustDomain, usize),
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
    authorities: Vec<Anchor>,
    /// Those of the authorities that are not revoked.
    believed: Vec<TrustAnchor<'static>>,
}

/// An authority that certificates are verified against.
#[derive(Debug, Clone)]
struct Anchor {
    serial: Serial,
    anchor: TrustAnchor<'static>,
}

impl Anchors {
    fn new(mut bundles: BTreeMap<String, Held>, revocations: Arc<Revocations>) -> Self {
        for held in bundles.values_mut() {
            let td = &held.bundle.trust_domain;
            let believed = held.authorities.iter().filter(|held| revocations.of_serial(td, &held.serial).is_none());
            held.believed = believed.map(|held| held.anchor.clone()).collect();
        }
        Self { bundles, revocations }
    }

    /// The anchors of one trust domain and no other.
    pub(crate) fn of(&self, td: &TrustDomain) -> Option<&[TrustAnchor<'static>]> {
        self.bundles.get(td.as_str()).map(|held| held.believed.as_slice())
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
            let authorities = anchors(&bundle).unwrap_or_else(|fault| {
                faults.push(fault);
                Vec::new()
            });
            if let Some(held) = next.get_mut(td.as_str()) {
                held.authorities.clear();
                faults.push(BundleFault::Duplicate(td));
            } else {
                next.insert(td.as_str().to_owned(), Held { bundle, authorities, believed: Vec::new() });
            }
        }
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

fn anchors(bundle: &TrustBundle) -> Result<Vec<Anchor>, BundleFault> {
    let td = &bundle.trust_domain;
    if bundle.authorities.len() > MAX_AUTHORITIES {
        return Err(BundleFault::TooMany(td.clone(), bundle.authorities.len()));
    }
    let anchor = |(index, der)| {
        let fault = |reason| BundleFault::Authority { trust_domain: td.clone(), index, reason };
        check_authority(der, td).map_err(fault)?;
        let malformed = |malformed| fault(CaError::Malformed(malformed));
        let anchor =
            webpki::anchor_from_trusted_cert(der).map_err(|e| malformed(crate::x509::Malformed(e.to_string())))?;
        Ok(Anchor { serial: Parsed::from_der(der).map_err(malformed)?.serial(), anchor: anchor.to_owned() })
    };
    bundle.authorities.iter().enumerate().map(anchor).collect()
}

/// Checks that every authority of a bundle is usable.
///
/// # Errors
/// When one is not.
pub fn check(bundle: &TrustBundle) -> Result<(), BundleFault> {
    anchors(bundle).map(drop)
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
        let of = |td| anchors.of(&TrustDomain::new(td).unwrap()).map(<[_]>::len);
        assert_eq!((of("north.example"), of("west.example"), of("east.example")), (Some(1), Some(0), None));
    }

    #[test]
    fn two_bundles_of_one_trust_domain_cancel_each_other() {
        let store = TrustStore::new();
        let error = store.replace([bundle("west.example"), bundle("west.example")]).unwrap_err();
        assert!(matches!(error.0.as_slice(), [BundleFault::Duplicate(_)]), "{error}");
        assert_eq!(store.anchors().of(&TrustDomain::new("west.example").unwrap()).map(<[_]>::len), Some(0));
    }
}
