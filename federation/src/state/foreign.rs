//! Trust domains outside the set, whose bundles are read from bundle endpoints.
//!
//! Owns which are known, what their endpoints are believed by, and whether a bundle that was read replaces the last good one.
//! A bundle that is not accepted changes nothing. Never fetches, and never lets a foreign trust domain be one of the set.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use federation_model::{
    bundle::{Fingerprint, TrustBundle},
    foreign::{BundleSource, EndpointProfile},
    member::{Change, Member},
    spiffe::TrustDomain,
    time::Timestamp,
};
use federation_pki::{
    bundle::{Published, keys},
    trust,
};
use proto::convert::member::MAX_BUNDLE;

use super::{State, Write};

mod refusal;

pub use refusal::{ForeignRefusal, ImportRefusal, Owner};

/// Foreign trust domains at a time. Each is a small request every few minutes, and a bundle in the memory of every gateway.
pub const MAX_FOREIGN: usize = 100;

/// A foreign trust domain as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRecord {
    /// Where its bundle is read from.
    pub source: BundleSource,
    /// What an endpoint with an id of another trust domain is believed by, when nothing newer of that one is known here.
    pub endpoint_bundle: Option<TrustBundle>,
    /// The last good bundle; none before the first.
    pub bundle: Option<TrustBundle>,
    /// Whether the document of that bundle had a sequence: then all later ones must have a higher one.
    pub sequenced: bool,
    /// How often its publisher wants it to be read.
    pub refresh_hint: Option<Duration>,
    /// When it was added.
    pub added_at: Timestamp,
    /// When the bundle changed last.
    pub changed_at: Option<Timestamp>,
}

/// A foreign trust domain to add.
#[derive(Debug, Clone)]
pub struct NewForeign {
    /// Where its bundle is read from.
    pub source: BundleSource,
    /// With `https_spiffe`: what the endpoint is believed by at first. Its sequence counts for nothing.
    pub bootstrap: Option<TrustBundle>,
}

/// What became of a bundle that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is in force.
    Changed,
    /// It is the one that was in force.
    Unchanged,
    /// What was said of the trust domain changed while it was read: it counts for nothing.
    Superseded,
}

impl State {
    /// Adds a foreign trust domain, or replaces what was said of it; its last good bundle stays. A new bootstrap bundle of
    /// the trust domain itself takes the place of the last good one, which is how an operator begins anew.
    ///
    /// # Errors
    /// When it belongs to the set, or its endpoint could not be believed.
    pub fn add_foreign(
        &self,
        new: NewForeign,
        now: Timestamp,
    ) -> Result<(Vec<Write>, Arc<ForeignRecord>), ForeignRefusal> {
        let NewForeign { source, bootstrap } = new;
        let trust_domain = source.trust_domain.clone();
        if let Some(by) = self.owner_of(&trust_domain) {
            return Err(ForeignRefusal::TrustDomainTaken { trust_domain, by });
        }
        let held = self.foreign.get(&trust_domain);
        if held.is_none() && self.foreign.len() >= MAX_FOREIGN {
            return Err(ForeignRefusal::TooMany);
        }
        let fresh = ForeignRecord {
            source: source.clone(),
            endpoint_bundle: None,
            bundle: None,
            sequenced: false,
            refresh_hint: None,
            added_at: now,
            changed_at: None,
        };
        let before = held.map_or(fresh, |held| ForeignRecord { source: source.clone(), ..ForeignRecord::clone(held) });
        let record = Arc::new(self.bootstrapped(before, bootstrap, now)?);
        Ok((self.kept(&record), record))
    }

    /// The record with what its endpoint is believed by.
    fn bootstrapped(
        &self,
        mut record: ForeignRecord,
        bootstrap: Option<TrustBundle>,
        now: Timestamp,
    ) -> Result<ForeignRecord, ForeignRefusal> {
        let EndpointProfile::HttpsSpiffe { endpoint_id } = record.source.profile.clone() else {
            record.endpoint_bundle = None;
            return if bootstrap.is_none() { Ok(record) } else { Err(ForeignRefusal::BootstrapUnused) };
        };
        if let Some(bootstrap) = bootstrap {
            self.check_bootstrap(&bootstrap, endpoint_id.trust_domain())?;
            if bootstrap.trust_domain != record.source.trust_domain {
                record.endpoint_bundle = Some(bootstrap);
            } else if !record.bundle.as_ref().is_some_and(|held| same_authorities(held, &bootstrap)) {
                (record.sequenced, record.changed_at) = (false, Some(now));
                record.bundle = Some(TrustBundle { sequence: 0, ..bootstrap });
            }
        }
        record.endpoint_bundle =
            record.endpoint_bundle.filter(|bundle| bundle.trust_domain == *endpoint_id.trust_domain());
        let anchor = self.anchor_of(&record);
        if anchor.is_none_or(|bundle| bundle.authorities.is_empty()) {
            return Err(ForeignRefusal::NoBootstrap { endpoint_id });
        }
        Ok(record)
    }

    fn check_bootstrap(&self, bootstrap: &TrustBundle, of: &TrustDomain) -> Result<(), ForeignRefusal> {
        let invalid = |reason: String| ForeignRefusal::BootstrapInvalid { reason };
        if bootstrap.trust_domain != *of {
            return Err(invalid(format!("it is of {}, and the id of the endpoint is of {of}", bootstrap.trust_domain)));
        }
        if bootstrap.authorities.is_empty() {
            return Err(invalid("it holds no authority".to_owned()));
        }
        trust::check(bootstrap).map_err(|fault| invalid(fault.to_string()))?;
        match self.owner_of(of) {
            Some(by) => Err(invalid(format!("{of} belongs to {by}, whose bundle is known here: leave it out"))),
            None => self.check_keys(bootstrap).map_err(|refusal| invalid(refusal.to_string())),
        }
    }

    /// Forgets a foreign trust domain; nothing of it is believed from then on.
    ///
    /// # Errors
    /// When it is not known.
    pub fn remove_foreign(&self, trust_domain: &TrustDomain) -> Result<Vec<Write>, ForeignRefusal> {
        match self.foreign.get(trust_domain) {
            Some(_) => Ok(vec![Write::ForeignGone(trust_domain.clone())]),
            None => Err(ForeignRefusal::Unknown(trust_domain.clone())),
        }
    }

    /// What the `https_spiffe` endpoint of `record` is believed by: the newest bundle known here of the trust domain of its
    /// id. None when it has another profile, or nothing is known.
    #[must_use]
    pub fn anchor_of<'a>(&'a self, record: &'a ForeignRecord) -> Option<&'a TrustBundle> {
        let of = record.source.profile.endpoint_id()?.trust_domain();
        if *of == record.source.trust_domain {
            return record.bundle.as_ref();
        }
        let known = if *of == self.federation.trust_domain {
            Some(&self.federation)
        } else {
            self.member_with(of).map(|member| &member.bundle).or_else(|| self.foreign.get(of)?.bundle.as_ref())
        };
        known.or(record.endpoint_bundle.as_ref())
    }

    /// Judges a document that was read for `polled`, as the record was when the reading began.
    ///
    /// # Errors
    /// When it cannot replace the last good bundle.
    pub fn import(
        &self,
        polled: &ForeignRecord,
        published: Published,
        now: Timestamp,
    ) -> Result<(Vec<Write>, Imported), ImportRefusal> {
        let Published { bundle, sequenced, refresh_hint } = published;
        let held = match self.foreign.get(&polled.source.trust_domain) {
            Some(held) if **held == *polled && bundle.trust_domain == polled.source.trust_domain => held,
            Some(_) | None => return Ok((Vec::new(), Imported::Superseded)),
        };
        if let Some(by) = self.owner_of(&bundle.trust_domain) {
            return Err(ImportRefusal::TrustDomainTaken { by });
        }
        let size: usize = bundle.authorities.iter().map(|der| der.len()).sum();
        if size > MAX_BUNDLE {
            return Err(ImportRefusal::TooLarge(size));
        }
        let same = held.bundle.as_ref().is_some_and(|held| same_authorities(held, &bundle));
        check_sequence(held, &bundle, sequenced, same)?;
        if !same {
            self.check_keys(&bundle)?;
        }
        // The order of the same authorities means nothing.
        let next = match &held.bundle {
            Some(before) if same => TrustBundle { sequence: bundle.sequence, ..before.clone() },
            Some(_) | None => bundle,
        };
        let changed = held.bundle.as_ref() != Some(&next);
        let changed_at = if same { held.changed_at } else { Some(now) };
        let record =
            ForeignRecord { bundle: Some(next), sequenced, refresh_hint, changed_at, ..ForeignRecord::clone(held) };
        let imported = if changed { Imported::Changed } else { Imported::Unchanged };
        Ok((self.kept(&record), imported))
    }

    /// The write that makes `record` the one of its trust domain; none when it is already.
    fn kept(&self, record: &ForeignRecord) -> Vec<Write> {
        let held = self.foreign.get(&record.source.trust_domain);
        if held.is_some_and(|held| **held == *record) {
            return Vec::new();
        }
        let told = held.and_then(|held| held.bundle.as_ref());
        // Members know of bundles alone.
        if told == record.bundle.as_ref() {
            vec![Write::ForeignQuietly(record.clone())]
        } else {
            vec![Write::Foreign(record.clone())]
        }
    }

    /// What members are told of a foreign trust domain now.
    pub(super) fn foreign_change(&self, trust_domain: &TrustDomain) -> Change {
        match self.foreign.get(trust_domain).and_then(|record| record.bundle.clone()) {
            Some(bundle) => Change::Foreign(bundle),
            None => Change::ForeignRemoved(trust_domain.clone()),
        }
    }

    /// The last good bundle of every foreign trust domain that has one.
    pub fn foreign_bundles(&self) -> impl Iterator<Item = &TrustBundle> {
        self.foreign.values().filter_map(|record| record.bundle.as_ref())
    }

    /// The foreign trust domain that has a key of `bundle`.
    pub(super) fn foreign_with_key_of(&self, bundle: &TrustBundle) -> Option<&TrustDomain> {
        let ours = keys(bundle);
        let shares = |foreign: &&TrustBundle| !keys(foreign).is_disjoint(&ours);
        self.foreign_bundles().find(shares).map(|foreign| &foreign.trust_domain)
    }

    /// Whose a trust domain of the set is.
    fn owner_of(&self, trust_domain: &TrustDomain) -> Option<Owner> {
        if *trust_domain == self.federation.trust_domain {
            return Some(Owner::Service);
        }
        self.member_with(trust_domain).map(|member| Owner::Member(member.cluster.clone()))
    }

    fn member_with(&self, trust_domain: &TrustDomain) -> Option<&Member> {
        self.members.values().map(|record| &record.member).find(|member| member.bundle.trust_domain == *trust_domain)
    }

    /// A key of the set would make its holder two trust domains at once.
    fn check_keys(&self, bundle: &TrustBundle) -> Result<(), ImportRefusal> {
        let foreign = keys(bundle);
        let shared = |ours: &TrustBundle| -> Option<Fingerprint> { keys(ours).intersection(&foreign).next().copied() };
        if let Some(key) = shared(&self.federation) {
            return Err(ImportRefusal::KeyTaken { key, by: Owner::Service });
        }
        for record in self.members.values() {
            if let Some(key) = shared(&record.member.bundle) {
                return Err(ImportRefusal::KeyTaken { key, by: Owner::Member(record.member.cluster.clone()) });
            }
        }
        Ok(())
    }
}

fn same_authorities(one: &TrustBundle, other: &TrustBundle) -> bool {
    let set = |bundle: &TrustBundle| -> BTreeSet<Fingerprint> { bundle.fingerprints().collect() };
    set(one) == set(other)
}

fn check_sequence(held: &ForeignRecord, next: &TrustBundle, sequenced: bool, same: bool) -> Result<(), ImportRefusal> {
    let Some(before) = held.bundle.as_ref().filter(|_| held.sequenced).map(|bundle| bundle.sequence) else {
        return Ok(());
    };
    if !sequenced {
        return Err(ImportRefusal::SequenceMissing { held: before });
    }
    if next.sequence < before {
        return Err(ImportRefusal::Backwards { held: before, read: next.sequence });
    }
    if next.sequence == before && !same {
        return Err(ImportRefusal::Forked { sequence: before });
    }
    Ok(())
}

/// Foreign trust domains by name.
pub type ForeignRecords = BTreeMap<TrustDomain, Arc<ForeignRecord>>;

#[cfg(test)]
pub(crate) mod tests;
