use std::{sync::Arc, time::Duration};

use federation_model::{
    bundle::{Fingerprint, TrustBundle},
    revocation::{Revocation, RevocationId, Subject},
    spiffe::TrustDomain,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::*;
use crate::{
    Validity,
    ca::{Authority, SvidRequest},
    validity::calendar,
};

mod paths;

const NOW: Timestamp = Timestamp(1_700_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn td(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

fn authority(name: &str) -> Authority {
    Authority::generate(&td(name), "root", Validity::starting(NOW, 100 * HOUR)).unwrap()
}

fn trusting(authorities: &[&Authority]) -> TrustStore {
    let store = TrustStore::new();
    store.replace(authorities.iter().map(|a| a.bundle(1))).unwrap();
    store
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// Parameters of a leaf without fault.
fn good() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let validity = Validity::starting(NOW, HOUR);
    params.not_before = calendar(validity.not_before).unwrap();
    params.not_after = calendar(validity.not_after).unwrap();
    params.subject_alt_names = vec![uri("spiffe://east.example/ns/a/sa/b")];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

type Fault = fn(&mut CertificateParams);
type Expected = fn(&VerifyError) -> bool;

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row per rule")]
fn every_rule_of_svids_has_its_own_refusal_with_a_remedy() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign, KeyEncipherment};
    use VerifyError as E;
    let table: &[(&str, Fault, Expected)] = &[
        ("no URI name", |p| p.subject_alt_names.clear(), |e| matches!(e, E::NoUriSan)),
        (
            "a DNS name alone",
            |p| p.subject_alt_names = vec![SanType::DnsName("a.example".try_into().unwrap())],
            |e| matches!(e, E::NoUriSan),
        ),
        (
            "two URI names",
            |p| p.subject_alt_names.push(uri("spiffe://east.example/ns/a/sa/c")),
            |e| matches!(e, E::TwoUriSans(2)),
        ),
        (
            "a URI of another scheme",
            |p| p.subject_alt_names = vec![uri("https://east.example/a")],
            |e| matches!(e, E::NotSpiffe { .. }),
        ),
        (
            "a dot segment",
            |p| p.subject_alt_names = vec![uri("spiffe://east.example/a/../b")],
            |e| matches!(e, E::NotSpiffe { .. }),
        ),
        ("no path", |p| p.subject_alt_names = vec![uri("spiffe://east.example")], |e| matches!(e, E::NoPath(_))),
        ("an authority", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), |e| matches!(e, E::IsCa(_))),
        ("no key usage", |p| p.key_usages.clear(), |e| matches!(e, E::NoKeyUsage(_))),
        ("no digitalSignature", |p| p.key_usages = vec![KeyEncipherment], |e| matches!(e, E::NoDigitalSignature(_))),
        (
            "keyCertSign",
            |p| p.key_usages = vec![DigitalSignature, KeyCertSign],
            |e| matches!(e, E::SignsCertificates(_)),
        ),
        ("cRLSign", |p| p.key_usages = vec![DigitalSignature, CrlSign], |e| matches!(e, E::SignsCrls(_))),
        (
            "a key usage that is not critical",
            |p| {
                p.key_usages.clear();
                // KeyUsage (2.5.29.15): a bit string of one bit, digitalSignature.
                p.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 7, 0x80]));
            },
            |e| matches!(e, E::KeyUsageNotCritical(_)),
        ),
        ("no clientAuth", |p| p.extended_key_usages = vec![ServerAuth], |e| matches!(e, E::NoClientAuth(_))),
        ("no serverAuth", |p| p.extended_key_usages = vec![ClientAuth], |e| matches!(e, E::NoServerAuth(_))),
        (
            "an end in the past",
            |p| p.not_after = calendar(Timestamp(NOW.0 - 1)).unwrap(),
            |e| matches!(e, E::Expired { .. }),
        ),
        (
            "a start in the future beyond the clock skew",
            |p| p.not_before = calendar(Timestamp(NOW.0 + 61)).unwrap(),
            |e| matches!(e, E::NotYetValid { .. }),
        ),
        (
            "the trust domain of another member",
            |p| p.subject_alt_names = vec![uri("spiffe://west.example/ns/a/sa/b")],
            |e| matches!(e, E::WrongAuthority { .. }),
        ),
        (
            "a trust domain nobody has",
            |p| p.subject_alt_names = vec![uri("spiffe://north.example/ns/a/sa/b")],
            |e| matches!(e, E::UnknownTrustDomain(_)),
        ),
        (
            "a revoked trust domain",
            |p| p.subject_alt_names = vec![uri("spiffe://revoked.example/ns/a/sa/b")],
            |e| matches!(e, E::NothingTrusted(_)),
        ),
    ];
    let (east, west, revoked) = (authority("east.example"), authority("west.example"), td("revoked.example"));
    let store = TrustStore::new();
    let empty = TrustBundle { trust_domain: revoked, sequence: 9, authorities: vec![] };
    store.replace([east.bundle(1), west.bundle(1), empty]).unwrap();

    let sound = east.sign(&good());
    let chain = [sound, east.certificate().clone()];
    for usage in [Usage::Client, Usage::Server] {
        assert!(verify_leaf(&chain, &store, NOW, usage).is_ok());
        assert!(verify_leaf(&chain[..1], &store, NOW, usage).is_ok());
    }
    for (name, fault, expected) in table {
        let mut params = good();
        fault(&mut params);
        let error = verify_leaf(&[east.sign(&params)], &store, NOW, Usage::Client).expect_err(name);
        assert!(expected(&error), "{name}: {error:?}");
        assert!(error.to_string().contains(':'), "{name}: no remedy in {error}");
    }
}

#[test]
fn the_authority_itself_is_no_leaf() {
    let east = authority("east.example");
    let error = verify_leaf(&[east.certificate().clone()], &trusting(&[&east]), NOW, Usage::Client).unwrap_err();
    assert!(matches!(error, VerifyError::IsCa(_)), "{error:?}");
    assert_eq!(verify_leaf(&[], &trusting(&[&east]), NOW, Usage::Client), Err(VerifyError::NoCertificate));
}

#[test]
fn a_forged_authority_of_the_same_name_is_told_apart_from_a_missing_intermediate() {
    let (east, forged) = (authority("east.example"), authority("east.example"));
    let store = trusting(&[&east]);
    let leaf = forged.sign(&good());
    let error = verify_leaf(&[leaf.clone(), forged.certificate().clone()], &store, NOW, Usage::Server).unwrap_err();
    assert!(matches!(error, VerifyError::WrongAuthority { .. }), "{error:?}");

    let other_name = Authority::generate(&td("east.example"), "other", Validity::starting(NOW, HOUR)).unwrap();
    let error = verify_leaf(&[other_name.sign(&good())], &store, NOW, Usage::Server).unwrap_err();
    assert!(matches!(error, VerifyError::NoAuthority { .. }), "{error:?}");
}

#[test]
fn a_leaf_under_an_intermediate_is_verified_and_the_intermediate_must_be_allowed_to_sign() {
    let root = Authority::generate(&td("east.example"), "root", Validity::starting(NOW, 100 * HOUR)).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = good();
    params.distinguished_name.push(DnType::CommonName, "intermediate");
    params.subject_alt_names = vec![uri("spiffe://east.example")];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // An authority that may have one below it.
    let mut top = good();
    top.distinguished_name.push(DnType::CommonName, "top");
    top.subject_alt_names = vec![uri("spiffe://east.example")];
    top.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    top.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let top_key = KeyPair::generate().unwrap();
    let top = rcgen::CertifiedIssuer::self_signed(top, top_key).unwrap();
    let leaf_key = KeyPair::generate().unwrap();
    let store = TrustStore::new();
    let bundle = TrustBundle { authorities: vec![top.der().clone()], ..root.bundle(1) };
    store.replace([bundle]).unwrap();

    let intermediate = rcgen::CertifiedIssuer::signed_by(params.clone(), &key, &top).unwrap();
    let leaf = good().signed_by(&leaf_key, &intermediate).unwrap();
    let chain = [leaf.der().clone(), intermediate.der().clone()];
    assert!(verify_leaf(&chain, &store, NOW, Usage::Client).is_ok());
    assert!(matches!(verify_leaf(&chain[..1], &store, NOW, Usage::Client), Err(VerifyError::NoAuthority { .. })));

    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let blunt = params.signed_by(&key, &top).unwrap();
    let chain = [chain[0].clone(), blunt.der().clone()];
    let error = verify_leaf(&chain, &store, NOW, Usage::Client).unwrap_err();
    assert!(matches!(error, VerifyError::SignerMayNotSign(_)), "{error:?}");

    let chain = [chain[0].clone(), intermediate.der().clone()];
    let serial = serial_of(&chain[1]).unwrap();
    store.revoke(&revoked(Subject::Serial { trust_domain: td("east.example"), serial }));
    let error = verify_leaf(&chain, &store, NOW, Usage::Client).unwrap_err();
    assert!(matches!(error, VerifyError::Revoked { .. }), "a revoked signer signs no more: {error:?}");
}

fn revoked(subject: Subject) -> Arc<Revocations> {
    let revocation = Revocation {
        id: RevocationId::from_bits(0xab),
        subject,
        reason: "key lost".parse().unwrap(),
        by: "admin".parse().unwrap(),
        at: NOW,
    };
    Arc::new(Revocations::of([Arc::new(revocation)]).unwrap())
}

#[test]
fn a_revoked_id_prefix_or_serial_is_refused_with_the_revocation_and_others_pass() {
    let east = authority("east.example");
    let store = trusting(&[&east]);
    let leaf = east.sign(&good());
    let serial = |cert: &CertificateDer<'_>, domain: &str| Subject::Serial {
        trust_domain: td(domain),
        serial: serial_of(cert).unwrap(),
    };
    let id = |text: &str| Subject::parse_id(text).unwrap();
    let chain = [leaf.clone(), east.certificate().clone()];
    for subject in [
        id("spiffe://east.example/ns/a/sa/b"),
        id("spiffe://east.example/ns/a/*"),
        id("spiffe://east.example/*"),
        Subject::Cluster { cluster: "east".parse().unwrap(), trust_domain: td("east.example") },
        serial(&leaf, "east.example"),
    ] {
        store.revoke(&revoked(subject.clone()));
        let error = verify_leaf(&chain, &store, NOW, Usage::Client).unwrap_err();
        assert!(matches!(error, VerifyError::Revoked { .. }), "{subject}: {error:?}");
        let text = error.to_string();
        let told = ["(key lost)", "fedctl revoke reinstate 00000000000000ab"].iter().all(|part| text.contains(part));
        assert!(told, "{text}");
    }
    for subject in [
        id("spiffe://east.example/ns/a/sa/c"),
        id("spiffe://east.example/ns/a/s/*"),
        id("spiffe://west.example/*"),
        serial(&east.sign(&good()), "east.example"),
        serial(&leaf, "west.example"),
    ] {
        store.revoke(&revoked(subject.clone()));
        assert!(verify_leaf(&chain, &store, NOW, Usage::Client).is_ok(), "{subject}");
    }
    store.revoke(&Arc::default());
    assert!(verify_leaf(&chain, &store, NOW, Usage::Client).is_ok());
}

#[test]
fn a_revoked_authority_is_no_root_whether_its_certificate_is_shown_or_not() {
    let (east, other) = (authority("east.example"), authority("east.example"));
    let store = TrustStore::new();
    let both = TrustBundle {
        authorities: [&east, &other].map(|authority| authority.certificate().clone()).into(),
        ..east.bundle(1)
    };
    let serial = serial_of(east.certificate()).unwrap();
    store.revoke(&revoked(Subject::Serial { trust_domain: td("east.example"), serial }));
    store.replace([both.clone()]).unwrap();
    let (leaf, of_other) = (east.sign(&good()), other.sign(&good()));
    assert!(verify_leaf(std::slice::from_ref(&leaf), &store, NOW, Usage::Client).is_err());
    assert!(verify_leaf(&[leaf.clone(), east.certificate().clone()], &store, NOW, Usage::Client).is_err());
    assert!(verify_leaf(&[of_other], &store, NOW, Usage::Client).is_ok());
    store.revoke(&Arc::default());
    assert!(verify_leaf(&[leaf], &store, NOW, Usage::Client).is_ok(), "what is lifted is a root again");
    assert_eq!(store.bundles(), [both], "the bundle is what was published, whatever is revoked of it");
}

#[test]
fn replacing_the_bundles_keeps_the_revocations() {
    let east = authority("east.example");
    let store = trusting(&[&east]);
    store.revoke(&revoked(Subject::parse_id("spiffe://east.example/*").unwrap()));
    store.replace([east.bundle(2)]).unwrap();
    let error = verify_leaf(&[east.sign(&good())], &store, NOW, Usage::Server).unwrap_err();
    assert!(matches!(error, VerifyError::Revoked { .. }), "{error:?}");
    assert_eq!(store.revocations().len(), 1);
}

#[test]
fn who_does_not_prove_an_id_is_not_told_that_it_is_revoked() {
    let (east, forged) = (authority("east.example"), authority("east.example"));
    let store = trusting(&[&east]);
    store.revoke(&revoked(Subject::parse_id("spiffe://east.example/*").unwrap()));
    let error = verify_leaf(&[forged.sign(&good())], &store, NOW, Usage::Client).unwrap_err();
    assert!(!error.to_string().contains("revoke"), "{error}");
}

#[test]
fn garbage_is_refused_and_never_panics() {
    let east = authority("east.example");
    let store = trusting(&[&east]);
    let good = east.sign(&good());
    for length in 0..good.len() {
        let cut = CertificateDer::from(&good[..length]);
        assert!(verify_leaf(&[cut], &store, NOW, Usage::Client).is_err());
    }
    for position in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[position] ^= 0x55;
        assert!(verify_leaf(&[CertificateDer::from(bytes)], &store, NOW, Usage::Client).is_err(), "{position}");
    }
}

#[test]
fn a_pinned_authority_is_believed_for_its_federation_service_alone() {
    let fed = authority("federation.internal");
    let issue = |authority: &Authority, id: &str| {
        let id = SpiffeId::new(id).unwrap();
        authority.issue(&SvidRequest { id, names: vec![], validity: Validity::starting(NOW, HOUR) }).unwrap()
    };
    let server = issue(&fed, "spiffe://federation.internal/landbridge/federation");
    let pinned = PinnedAuthority(fed.fingerprint());
    assert_eq!(pinned.verify(server.chain(), NOW).unwrap(), *server.id());

    let operator = issue(&fed, "spiffe://federation.internal/landbridge/operator/anne");
    assert!(matches!(pinned.verify(operator.chain(), NOW), Err(VerifyError::NotFederation(_))));
    assert!(matches!(pinned.verify(&server.chain()[..1], NOW), Err(VerifyError::PinMissing(_))));
    assert!(matches!(
        PinnedAuthority(server.fingerprint()).verify(server.chain(), NOW),
        Err(VerifyError::PinMissing(_))
    ));

    let forged = authority("federation.internal");
    let fake = issue(&forged, "spiffe://federation.internal/landbridge/federation");
    assert!(matches!(pinned.verify(fake.chain(), NOW), Err(VerifyError::PinMissing(_))));
    let mixed = [fake.chain()[0].clone(), fed.certificate().clone()];
    assert!(matches!(pinned.verify(&mixed, NOW), Err(VerifyError::WrongAuthority { .. })));
    assert!(matches!(pinned.verify(server.chain(), NOW.after(2 * HOUR)), Err(VerifyError::Expired { .. })));

    // An authority of another trust domain that signs the federation's id.
    let east = authority("east.example");
    let mut params = good();
    params.subject_alt_names = vec![uri("spiffe://federation.internal/landbridge/federation")];
    let stolen = [east.sign(&params), east.certificate().clone()];
    let error = PinnedAuthority(east.fingerprint()).verify(&stolen, NOW).unwrap_err();
    assert!(matches!(error, VerifyError::PinUnusable { .. }), "{error:?}");
}

#[test]
fn a_workload_of_another_trust_domain_is_refused_even_where_its_authority_is_believed() {
    let (east, west) = (authority("east.example"), authority("west.example"));
    let store = trusting(&[&east, &west]);
    let judged = |authority: &Authority, id: &str, now| {
        let id = SpiffeId::new(id).unwrap();
        let request = SvidRequest { id, names: vec![], validity: Validity::starting(NOW, HOUR) };
        verify_workload(authority.issue(&request).unwrap().chain(), &store, &td("east.example"), now)
    };
    let own = "spiffe://east.example/ns/a/sa/b";
    assert_eq!(judged(&east, own, NOW).unwrap().to_string(), own);
    let other = judged(&west, "spiffe://west.example/ns/a/sa/b", NOW).unwrap_err();
    assert!(matches!(other, VerifyError::OtherTrustDomain { .. }), "{other}");
    let expired = judged(&east, own, NOW.after(2 * HOUR)).unwrap_err();
    let none = verify_workload(&[], &store, &td("east.example"), NOW).unwrap_err();
    assert!(matches!(expired, VerifyError::Expired { .. }), "{expired}");
    assert_eq!(none, VerifyError::NoCertificate);
}
