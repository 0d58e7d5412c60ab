use std::time::Duration;

use super::*;
use crate::verify;

const NOW: Timestamp = Timestamp(1_700_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn td(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

fn authority() -> Authority {
    Authority::generate(&td("east.example"), "east root", Validity::starting(NOW, 24 * HOUR)).unwrap()
}

fn request(id: &str, lifetime: Duration) -> SvidRequest {
    SvidRequest { id: SpiffeId::new(id).unwrap(), names: vec![], validity: Validity::starting(NOW, lifetime) }
}

#[test]
fn an_authority_survives_being_written_to_pem_and_issues_as_before() {
    let first = authority();
    let again = Authority::from_pem(&first.certificate_pem(), first.key_pem().expose(), &td("east.example")).unwrap();
    assert_eq!((again.fingerprint(), again.expires_at()), (first.fingerprint(), first.expires_at()));
    let svid = again.issue(&request("spiffe://east.example/ns/a/sa/b", HOUR)).unwrap();
    let trust = crate::trust::TrustStore::new();
    trust.replace([first.bundle(1)]).unwrap();
    assert_eq!(verify::verify_leaf(svid.chain(), &trust, NOW, verify::Usage::Server).as_ref(), Ok(svid.id()));
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let authority = authority();
    let svid = authority.issue(&request("spiffe://east.example/a", 48 * HOUR)).unwrap();
    assert_eq!(svid.not_after(), authority.expires_at());
    assert_eq!(svid.not_before(), Timestamp(NOW.0 - 60));
    let late = SvidRequest {
        validity: Validity::starting(NOW.after(25 * HOUR), HOUR),
        ..request("spiffe://east.example/a", HOUR)
    };
    assert!(matches!(authority.issue(&late), Err(CaError::Expired { .. })));
}

#[test]
fn ids_outside_the_trust_domain_and_names_that_are_none_are_refused() {
    let authority = authority();
    let issue = |id| authority.issue(&request(id, HOUR)).unwrap_err();
    assert!(matches!(issue("spiffe://west.example/a"), CaError::ForeignId { .. }));
    assert!(matches!(issue("spiffe://east.example"), CaError::NoPath(_)));
    assert!(matches!("a b".parse::<SubjectName>(), Err(CaError::BadName(_))));
    assert_eq!("127.0.0.1".parse(), Ok(SubjectName::Ip(IpAddr::from([127, 0, 0, 1]))));
    assert_eq!("Fed.example".parse(), Ok(SubjectName::Dns("fed.example".into())));
    let many = SvidRequest {
        names: vec![SubjectName::Dns("a".into()); MAX_NAMES + 1],
        ..request("spiffe://east.example/a", HOUR)
    };
    assert!(matches!(authority.issue(&many), Err(CaError::TooManyNames(_))));
}

#[test]
fn pairs_that_are_no_authority_of_this_trust_domain_are_refused() {
    let (east, other) = (authority(), authority());
    let load = |cert: &str, key: &SecretPem, name| Authority::from_pem(cert, key.expose(), &td(name));
    let cert = east.certificate_pem();
    assert!(matches!(load(&cert, &other.key_pem(), "east.example"), Err(CaError::KeyMismatch)));
    assert!(matches!(load(&cert, &east.key_pem(), "west.example"), Err(CaError::WrongTrustDomain { .. })));
    assert!(matches!(load("", &east.key_pem(), "east.example"), Err(CaError::Pem { .. })));
    assert!(matches!(load(&cert, &SecretPem::new("x".into()), "east.example"), Err(CaError::Pem { .. })));
    assert!(matches!(load(&cert.repeat(4), &east.key_pem(), "east.example"), Err(CaError::ChainTooLong(4))));
    let leaf = east.issue(&request("spiffe://east.example/a", HOUR)).unwrap();
    assert!(matches!(
        load(&leaf.certificate_pem(), &leaf.key_pem(), "east.example"),
        Err(CaError::ChainTooLong(_) | CaError::NotCa)
    ));
}

#[test]
fn the_key_of_an_authority_never_shows_in_debug_output() {
    let authority = authority();
    let shown = format!("{authority:?}");
    assert!(shown.contains("hidden") && !shown.contains("PRIVATE"), "{shown}");
}

impl Authority {
    /// An authority that names no trust domain, as most that were not made for SPIFFE, and may have authorities below it.
    pub(crate) fn nameless(common_name: &str, validity: Validity) -> Self {
        let key = new_key().unwrap();
        let mut params = params(validity).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&*key).unwrap();
        Self { trust_domain: td("east.example"), chain: vec![certificate.der().clone()], validity, key }
    }

    /// Signs a leaf of any shape, for the tests of the verifiers.
    pub(crate) fn sign(&self, params: &CertificateParams) -> CertificateDer<'static> {
        let issuer = Issuer::from_ca_cert_der(self.certificate(), &*self.key).unwrap();
        params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
    }
}
