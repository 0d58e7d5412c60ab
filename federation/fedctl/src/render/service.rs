//! The certificates of the federation service, and of the operator who asks it.

use std::time::Duration;

use federation_client::operator::Listing;
use federation_model::{finding::Finding, time::Timestamp};
use federation_pki::{
    certificate::CertificateFacts,
    horizon::{AUTHORITY_NOTICE, LONGEST_NOTICE},
    renew,
};

use super::{Look, certificates::CertificateView};
use crate::clock;

/// What the service and the operator present, leaf first, and what members believe the service by.
#[derive(Debug, Clone)]
pub(crate) struct ServiceCertificates {
    service: Vec<CertificateFacts>,
    renewal: Option<Timestamp>,
    authorities: Vec<CertificateFacts>,
    operator: Vec<CertificateFacts>,
}

impl ServiceCertificates {
    pub(crate) fn new(listing: &Listing, operator: &[CertificateFacts]) -> Self {
        let facts = |ders: &mut dyn Iterator<Item = _>| ders.filter_map(|der| CertificateFacts::of(der).ok()).collect();
        Self {
            service: facts(&mut listing.certificate.iter()),
            renewal: listing.next_renewal,
            authorities: facts(&mut listing.federation.authorities.iter()),
            operator: operator.to_vec(),
        }
    }

    /// One view for each.
    pub(crate) fn views(&self) -> Vec<CertificateView> {
        let service = CertificateView::of("service", &self.service, self.renewal);
        let authorities = self
            .authorities
            .iter()
            .filter_map(|facts| CertificateView::of("federation", std::slice::from_ref(facts), None));
        let operator = CertificateView::of("operator", &self.operator, self.operator_renewal());
        service.into_iter().chain(authorities).chain(operator).collect()
    }

    /// When the service writes a new one into its own directory; it does not know of copies.
    fn operator_renewal(&self) -> Option<Timestamp> {
        self.operator.first().map(|facts| renew::due(&facts.validity, 0.5))
    }

    /// What ends without being replaced.
    pub(crate) fn findings(&self, look: Look) -> Vec<Finding> {
        let service = self.service.first().map(|facts| service(facts, look));
        let last = self.authorities.iter().max_by_key(|facts| facts.validity.not_after);
        let authority = last.map(|facts| authority(facts, look));
        let operator = self.operator.first().map(|facts| operator(facts, look));
        service.into_iter().chain(authority).chain(operator).collect()
    }
}

fn ends(facts: &CertificateFacts, look: Look) -> String {
    let word = if facts.validity.not_after < look.now { "ended" } else { "ends" };
    format!("it {word} {}", clock::away(look.now, Some(facts.validity.not_after)))
}

/// Whether the end is nearer than this.
fn near(facts: &CertificateFacts, notice: Duration, look: Look) -> bool {
    facts.validity.not_after.since(look.now) < notice
}

fn service(facts: &CertificateFacts, look: Look) -> Finding {
    let check = "service certificate";
    if look.now < renew::late(&facts.validity) {
        return Finding::ok(check, ends(facts, look));
    }
    Finding::warning(
        check,
        format!("{}, and was not renewed at half of its life", ends(facts, look)),
        "the log of landbridge-federation: it says why; gateways stop following the service when the certificate has ended",
    )
}

fn authority(facts: &CertificateFacts, look: Look) -> Finding {
    let (check, life) = ("service authority", facts.validity.not_after.since(facts.validity.not_before));
    if !near(facts, LONGEST_NOTICE.min(life / AUTHORITY_NOTICE), look) {
        return Finding::ok(check, ends(facts, look));
    }
    Finding::warning(
        check,
        format!("{}, and then no gateway believes the federation service", ends(facts, look)),
        "put another authority into `trust.ca_dir` of the federation service: members that follow it believe that one before it is used",
    )
}

fn operator(facts: &CertificateFacts, look: Look) -> Finding {
    let (check, life) = ("operator credential", facts.validity.not_after.since(facts.validity.not_before));
    if !near(facts, LONGEST_NOTICE.min(life / 4), look) {
        return Finding::ok(check, ends(facts, look));
    }
    Finding::warning(
        check,
        format!(
            "{}; the federation service has written a newer one, and this is a copy of the former",
            ends(facts, look)
        ),
        "copy <store>/operator of the federation service to the directory of --operator again",
    )
}

#[cfg(test)]
mod tests {
    use federation_model::{finding::Level, spiffe::TrustDomain};
    use federation_pki::{
        ca::{Authority, SvidRequest},
        validity::Validity,
    };

    use super::*;
    use crate::tests::{NOW, listing};

    const DAY: u64 = 86_400;

    /// Ages in days: of the service's certificate, its authority and the credential.
    fn certificates(service: f64, authority: u64, operator: u64) -> ServiceCertificates {
        let domain = TrustDomain::new("federation.internal").unwrap();
        let since = |age: u64, days: u64| Validity::starting(Timestamp(NOW - age), Duration::from_secs(days * DAY));
        let issuer = Authority::generate(&domain, "federation", since(authority * DAY, 3650)).unwrap();
        let leaf = |path: &str, validity| {
            let id = federation_model::spiffe::SpiffeId::new(format!("spiffe://{domain}/{path}")).unwrap();
            issuer.issue(&SvidRequest { id, names: Vec::new(), validity }).unwrap()
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a day in seconds is small"
        )]
        let age = (service * 86_400.0) as u64;
        let (service, operator) = (
            leaf("landbridge/federation", since(age, 1)),
            leaf("landbridge/operator/admin", since(operator * DAY, 365)),
        );
        let mut listing = listing();
        listing.certificate = service.chain().to_vec();
        listing.next_renewal = Some(Timestamp(NOW + 600));
        listing.federation = issuer.bundle(1);
        let operator: Vec<_> = operator.chain().iter().map(|der| CertificateFacts::of(der).unwrap()).collect();
        ServiceCertificates::new(&listing, &operator)
    }

    #[test]
    fn each_is_shown_with_who_issued_it_and_when_it_is_renewed() {
        let views = certificates(0.1, 10, 10).views();
        let shown: Vec<_> = views.iter().map(|view| (view.role, view.id.as_str(), view.issuers.len())).collect();
        assert_eq!(
            shown,
            [
                ("service", "spiffe://federation.internal/landbridge/federation", 1),
                ("federation", "spiffe://federation.internal", 0),
                ("operator", "spiffe://federation.internal/landbridge/operator/admin", 1),
            ]
        );
        assert_eq!(views[0].next_renewal.as_deref(), Some("2026-01-02T03:14:05Z"));
        assert!(views[1].next_renewal.is_none() && views[2].next_renewal.is_some());
    }

    #[test]
    fn what_was_not_renewed_in_time_is_a_warning_with_a_remedy() {
        use Level::{Ok, Warning};
        let look = Look { now: Timestamp(NOW), color: false };
        let levels = |held: ServiceCertificates| {
            let found = held.findings(look);
            assert!(found.iter().all(|finding| (finding.level == Ok) == finding.hint.is_empty()), "{found:?}");
            found.into_iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(certificates(0.1, 10, 10)), [Ok, Ok, Ok]);
        assert_eq!(levels(certificates(0.8, 10, 10)), [Warning, Ok, Ok]);
        assert_eq!(levels(certificates(0.1, 3630, 10)), [Ok, Warning, Ok]);
        assert_eq!(levels(certificates(0.1, 10, 340)), [Ok, Ok, Warning]);
        assert_eq!(ServiceCertificates::new(&listing(), &[]).findings(look), []);
    }
}
