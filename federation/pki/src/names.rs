//! Certificates that a gateway shows to the applications of its own cluster, one for each name of an import.
//!
//! Owns which of them are kept, how many, and when one is issued again. Never decides which names there are, never asks who
//! looks at them; their keys stay here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use federation_model::{bundle::Fingerprint, revocation::Revocations, spiffe::SpiffeId, time::Timestamp};
use rustls::sign::CertifiedKey;

use crate::{
    Validity,
    ca::{Authority, CaError, SubjectName, SvidRequest},
    renew,
    signer::Signer,
    svid::Svid,
};

/// The most certificates that are kept: some kilobytes each. A cluster with more imports in use issues some again.
pub const MAX_KEPT: usize = 1024;

/// What every certificate says, whatever its name.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The id beside the name: that of the gateway, for clients that verify ids rather than names.
    pub id: SpiffeId,
    /// The lifetime of a certificate that is issued.
    pub ttl: Duration,
}

/// The certificates in use, by name.
#[derive(Debug)]
pub struct NameCertificates {
    shown: Shown,
    kept: BTreeMap<String, Kept>,
    issued: u64,
}

#[derive(Debug)]
struct Kept {
    svid: Svid,
    /// The authority that issued it.
    issuer: Fingerprint,
    /// The how manieth it was.
    number: u64,
}

impl NameCertificates {
    /// None yet.
    #[must_use]
    pub fn new(shown: Shown) -> Self {
        Self { shown, kept: BTreeMap::new(), issued: 0 }
    }

    /// What is shown to a client that asks for `name` at `now`: a certificate of this name where `voucher` is an authority,
    /// issued again at half of its life, under another authority, or when it was revoked; else the gateway's own, which has no
    /// names.
    ///
    /// # Errors
    /// When none can be issued.
    pub fn present(
        &mut self,
        name: &str,
        voucher: &Signer,
        revocations: &Revocations,
        now: Timestamp,
    ) -> Result<Arc<CertifiedKey>, CaError> {
        let authority = match voucher {
            Signer::Authority(authority) => authority,
            Signer::Gateway(svid) => return Ok(svid.certified_key()),
        };
        let issuer = authority.fingerprint();
        let good = |kept: &&Kept| {
            let due = renew::due(&kept.svid.validity(), 0.5);
            kept.issuer == issuer && now < due && !is_revoked(&kept.svid, revocations)
        };
        if let Some(kept) = self.kept.get(name).filter(good) {
            return Ok(kept.svid.certified_key());
        }
        let svid = self.issue(name, authority, now)?;
        let certified = svid.certified_key();
        self.keep(name, svid, issuer);
        Ok(certified)
    }

    fn issue(&self, name: &str, authority: &Authority, now: Timestamp) -> Result<Svid, CaError> {
        let names = vec![name.parse::<SubjectName>()?];
        let validity = Validity::starting(now, self.shown.ttl);
        authority.issue(&SvidRequest { id: self.shown.id.clone(), names, validity })
    }

    fn keep(&mut self, name: &str, svid: Svid, issuer: Fingerprint) {
        if self.kept.len() >= MAX_KEPT && !self.kept.contains_key(name) {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.number).map(|(name, _)| name.clone());
            oldest.map(|oldest| self.kept.remove(&oldest));
        }
        self.issued += 1;
        self.kept.insert(name.to_owned(), Kept { svid, issuer, number: self.issued });
    }
}

fn is_revoked(svid: &Svid, revocations: &Revocations) -> bool {
    revocations.of_serial(svid.id().trust_domain(), svid.serial_number()).is_some()
}

#[cfg(test)]
mod tests {
    use federation_model::{
        revocation::{Revocation, RevocationId, Serial, Subject},
        spiffe::TrustDomain,
    };
    use rustls_pki_types::{CertificateDer, ServerName};

    use super::*;
    use crate::verify::serial_of;

    const NOW: Timestamp = Timestamp(1_700_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const API: &str = "api.production.svc.clusterset.local";

    fn authority() -> Arc<Authority> {
        let validity = Validity::starting(NOW, 24 * HOUR);
        Arc::new(Authority::generate(&TrustDomain::new("east.example").unwrap(), "east", validity).unwrap())
    }

    fn id() -> SpiffeId {
        SpiffeId::new("spiffe://east.example/landbridge/gateway").unwrap()
    }

    struct Shop {
        names: NameCertificates,
        voucher: Signer,
        revocations: Revocations,
    }

    impl Shop {
        fn of(authority: &Arc<Authority>) -> Self {
            let names = NameCertificates::new(Shown { id: id(), ttl: HOUR });
            Self { names, voucher: Signer::Authority(authority.clone()), revocations: Revocations::default() }
        }

        fn leaf(&mut self, name: &str, now: Timestamp) -> CertificateDer<'static> {
            self.names.present(name, &self.voucher, &self.revocations, now).unwrap().cert[0].clone()
        }
    }

    #[test]
    fn a_certificate_is_good_for_its_name_alone_and_names_the_gateway() {
        let mut shop = Shop::of(&authority());
        let leaf = shop.leaf(API, NOW);
        let parsed = webpki::EndEntityCert::try_from(&leaf).unwrap();
        let good_for = |name| parsed.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap()).is_ok();
        assert!(good_for(API) && !good_for("web.production.svc.clusterset.local"));
        assert_eq!(crate::verify::check_leaf(&leaf), Ok(id()));
    }

    #[test]
    fn a_certificate_is_kept_until_half_of_its_life_another_authority_or_its_revocation() {
        let mut shop = Shop::of(&authority());
        let first = shop.leaf(API, NOW);
        assert_eq!(shop.leaf(API, NOW.after(HOUR / 2 - Duration::from_secs(1))), first);
        let late = NOW.after(HOUR / 2 + Duration::from_secs(1));
        let second = shop.leaf(API, late);
        assert_ne!(second, first);
        let serial: Serial = serial_of(&second).unwrap();
        let subject = Subject::Serial { trust_domain: id().trust_domain().clone(), serial };
        let (reason, by) = ("key lost".parse().unwrap(), "admin".parse().unwrap());
        let revocation = Revocation { id: RevocationId::from_bits(1), subject, reason, by, at: NOW };
        shop.revocations = Revocations::of([Arc::new(revocation)]).unwrap();
        let third = shop.leaf(API, late);
        assert_ne!(third, second);
        assert_eq!(shop.leaf(API, late), third);
        shop.voucher = Signer::Authority(authority());
        assert_ne!(shop.leaf(API, late), third);
    }

    #[test]
    fn a_gateway_that_cannot_issue_shows_its_own_certificate() {
        let authority = authority();
        let request = SvidRequest { id: id(), names: vec![], validity: Validity::starting(NOW, HOUR) };
        let own = Arc::new(authority.issue(&request).unwrap());
        let mut shop = Shop::of(&authority);
        shop.voucher = Signer::Gateway(own.clone());
        assert_eq!(shop.leaf(API, NOW), own.chain()[0]);
    }

    #[test]
    fn the_oldest_certificate_makes_room_and_no_more_than_the_limit_are_kept() {
        let mut shop = Shop::of(&authority());
        let name = |number: usize| format!("s{number}.production.svc.clusterset.local");
        let (first, second) = (shop.leaf(&name(0), NOW), shop.leaf(&name(1), NOW));
        for number in 2..=MAX_KEPT {
            shop.leaf(&name(number), NOW);
        }
        assert_eq!(shop.names.kept.len(), MAX_KEPT);
        assert_eq!(shop.leaf(&name(1), NOW), second);
        assert_ne!(shop.leaf(&name(0), NOW), first);
        assert_eq!(shop.names.kept.len(), MAX_KEPT);
    }

    #[test]
    fn a_name_that_no_certificate_can_carry_and_an_authority_that_has_ended_are_errors() {
        let mut shop = Shop::of(&authority());
        let asked = |shop: &mut Shop, name: &str, now| {
            shop.names.present(name, &shop.voucher, &shop.revocations, now).map(drop).unwrap_err()
        };
        assert!(matches!(asked(&mut shop, "a b", NOW), CaError::BadName(_)));
        assert!(matches!(asked(&mut shop, API, NOW.after(48 * HOUR)), CaError::Expired { .. }));
    }
}
