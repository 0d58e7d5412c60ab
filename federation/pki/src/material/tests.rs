use std::time::Duration;

use federation_model::spiffe::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

use super::*;
use crate::{trust::TrustStore, validity::calendar, verify::verify_leaf};

const NOW: Timestamp = Timestamp(1_700_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const GATEWAY: &str = "spiffe://east.example/landbridge/gateway";

type Shape = fn(&mut CertificateParams);
type Ca = CertifiedIssuer<'static, KeyPair>;

fn same(_: &mut CertificateParams) {}

fn gateway() -> SpiffeId {
    SpiffeId::new(GATEWAY).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let validity = Validity::starting(NOW, HOUR);
    params.not_before = calendar(validity.not_before).unwrap();
    params.not_after = calendar(validity.not_after).unwrap();
    params
}

/// An authority without a SPIFFE name, as a corporate PKI has them.
fn ca_params(name: &str, shape: Shape) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    shape(&mut params);
    params
}

fn root(shape: Shape) -> Ca {
    CertifiedIssuer::self_signed(ca_params("root", shape), KeyPair::generate().unwrap()).unwrap()
}

fn below(issuer: &Ca, name: &str, shape: Shape) -> Ca {
    CertifiedIssuer::signed_by(ca_params(name, shape), KeyPair::generate().unwrap(), issuer).unwrap()
}

fn leaf(issuer: &Ca, shape: Shape) -> (String, KeyPair) {
    let mut params = params("gateway");
    params.subject_alt_names = vec![uri(GATEWAY)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    shape(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key)
}

fn judge(certificate: &str, key: &KeyPair, authorities: Option<&str>) -> Result<Material, MaterialError> {
    judge_at(certificate, &key.serialize_pem(), authorities, NOW)
}

fn judge_at(
    certificate: &str,
    key: &str,
    authorities: Option<&str>,
    now: Timestamp,
) -> Result<Material, MaterialError> {
    Material::from_secret(SecretTexts { certificate, key, authorities }, &gateway(), now)
}

/// Whether a peer that has the published authorities, and no others, believes leaves of this material.
fn believed(material: &Material) -> bool {
    let id = gateway();
    let bundle = TrustBundle {
        trust_domain: TrustDomain::new("east.example").unwrap(),
        sequence: 1,
        authorities: material.authorities(),
    };
    let store = TrustStore::new();
    store.replace([bundle]).unwrap();
    let svid = match material {
        Material::Issuer(authority) => {
            let validity = Validity::starting(NOW, HOUR);
            authority.issue(&SvidRequest { id: id.clone(), names: vec![], validity }).unwrap()
        }
        Material::Leaf { svid, .. } => svid.clone(),
    };
    verify_leaf(svid.chain(), &store, NOW, Usage::Client) == Ok(id)
}

#[test]
fn an_intermediate_is_an_issuer_and_its_root_is_not_published() {
    let root = root(same);
    let intermediate = below(&root, "east", |p| {
        p.subject_alt_names = vec![uri("spiffe://east.example")];
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    for authorities in [Some(root.pem()), None] {
        let material = judge(&intermediate.pem(), intermediate.key(), authorities.as_deref()).unwrap();
        assert_eq!((material.label(), material.authorities()), ("issuer", vec![intermediate.der().clone()]));
        assert_eq!(material.expires_at(), NOW.after(HOUR));
        assert!(believed(&material));
    }
    let with_root = format!("{}{}", intermediate.pem(), root.pem());
    let material = judge(&with_root, intermediate.key(), Some(&root.pem())).unwrap();
    assert_eq!(material.authorities(), vec![intermediate.der().clone()]);
}

#[test]
fn a_root_of_ones_own_is_an_issuer() {
    let root = root(|p| p.subject_alt_names = vec![uri("spiffe://east.example")]);
    let material = judge(&root.pem(), root.key(), Some(&root.pem())).unwrap();
    assert!(matches!(&material, Material::Issuer(authority) if authority.certificate() == root.der()));
    assert!(believed(&material));
    assert!(judge(&root.pem(), root.key(), Some(" \n")).is_ok(), "an empty ca.crt is none");
}

#[test]
fn a_ready_leaf_publishes_what_issued_it() {
    let root = root(same);
    let intermediate = below(&root, "east", same);
    let (short, key) = leaf(&intermediate, same);
    let chain = format!("{short}{}", intermediate.pem());
    for authorities in [Some(root.pem()), None] {
        let material = judge(&chain, &key, authorities.as_deref()).unwrap();
        assert_eq!((material.label(), material.authorities()), ("leaf", vec![intermediate.der().clone()]));
        assert!(believed(&material));
    }
    let (direct, key) = leaf(&root, same);
    let spare = below(&root, "spare", same);
    let material = judge(&direct, &key, Some(&format!("{}{}", spare.pem(), root.pem()))).unwrap();
    assert_eq!(material.authorities(), vec![spare.der().clone(), root.der().clone()]);
    assert!(believed(&material));
}

#[test]
fn parts_that_are_no_pem_or_do_not_belong_together_are_named() {
    use MaterialError as E;
    let root = root(same);
    let (cert, key) = leaf(&root, same);
    let (ca, key_pem) = (root.pem(), key.serialize_pem());
    let judge = |cert: &str, key: &str, ca: &str| judge_at(cert, key, Some(ca), NOW).unwrap_err();
    assert!(matches!(judge("", &key_pem, &ca), E::NotPem { place: "tls.crt", .. }));
    assert!(matches!(judge(&key_pem, &key_pem, &ca), E::NotPem { place: "tls.crt", .. }));
    assert!(matches!(judge(&cert, &cert, &ca), E::NotPem { place: "tls.key", .. }));
    assert!(matches!(judge(&cert, &key_pem, "no PEM"), E::NotPem { place: "ca.crt", .. }));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(judge(broken, &key_pem, &ca), E::Malformed { place: "tls.crt", number: 1, .. }));
    assert!(matches!(
        judge(&cert, &key_pem, &format!("{ca}{broken}")),
        E::Malformed { place: "ca.crt", number: 2, .. }
    ));
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(matches!(judge(&cert, broken, &ca), E::UnusableKey { place: "tls.key", .. }));
    for encrypted in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n",
    ] {
        assert_eq!(judge(&cert, encrypted, &ca), E::EncryptedKey("tls.key"));
    }
    let other = KeyPair::generate().unwrap().serialize_pem();
    assert_eq!(judge(&cert, &other, &ca), E::KeyMismatch { key: "tls.key", certificate: "tls.crt" });
    assert!(matches!(judge(&" ".repeat(MAX_TEXT + 1), &key_pem, &ca), E::TooLarge { place: "tls.crt", .. }));
    assert!(matches!(judge(&cert, &" ".repeat(MAX_TEXT + 1), &ca), E::TooLarge { place: "tls.key", .. }));
}

#[test]
fn a_chain_in_the_wrong_order_says_what_must_come_first() {
    let root = root(same);
    let (upper, lower) = (below(&root, "upper", same), below(&root, "lower", same));
    let lower_of_upper = below(&upper, "lower of upper", same);
    let (cert, key) = leaf(&lower_of_upper, same);
    let (ca, pem) = (root.pem(), lower_of_upper.pem());
    let judge = |certs: &[&str]| judge(&certs.concat(), &key, Some(&ca)).map(drop).map_err(|e| e.to_string());
    assert_eq!(judge(&[&cert, &pem, &upper.pem()]), Ok(()));
    let error = judge(&[&pem, &upper.pem(), &cert]).unwrap_err();
    assert!(error.contains("certificate 3 (CN=gateway) belongs to the key and must come first"), "{error}");
    let error = judge(&[&cert, &upper.pem(), &pem]).unwrap_err();
    assert!(error.contains("certificate 1 (CN=gateway) was issued by CN=lower of upper"), "{error}");
    assert!(error.contains("must come next, not CN=upper"), "{error}");
    let error = judge(&[&cert, &pem]).unwrap_err();
    assert!(
        error.contains("tls.crt does not lead to ca.crt (the issuer of its last certificate is CN=upper)"),
        "{error}"
    );
    let error = judge(&[&cert, &pem, &upper.pem(), &ca, &lower.pem()]).unwrap_err();
    assert!(error.contains("tls.crt holds 5 certificates, 4 are accepted"), "{error}");
}

#[test]
fn more_certificates_than_accepted_are_refused() {
    let root = root(same);
    let (cert, key) = leaf(&root, same);
    let error = judge(&cert, &key, Some(&root.pem().repeat(MAX_AUTHORITIES + 1))).unwrap_err();
    assert!(matches!(error, MaterialError::TooMany { place: "ca.crt", count: 17, most: MAX_AUTHORITIES }), "{error}");
    let (a, b) = (below(&root, "a", same), below(&root, "b", same));
    let c = below(&a, "c", same);
    let chain = [c.pem(), a.pem(), root.pem(), b.pem()].concat();
    let error = judge(&chain, c.key(), None).unwrap_err();
    assert!(matches!(error, MaterialError::TooMany { place: "tls.crt", count: 4, most: 3 }), "{error}");
}

#[test]
fn the_time_of_every_certificate_of_the_chain_counts() {
    let root = root(same);
    let (cert, key) = leaf(&root, |p| p.not_after = calendar(NOW.after(HOUR / 2)).unwrap());
    let (ca, key) = (root.pem(), key.serialize_pem());
    let at = |now| judge_at(&cert, &key, Some(&ca), now);
    let start = Timestamp(NOW.0 - 60);
    assert!(at(Timestamp(start.0 - 60)).is_ok(), "a clock that is a minute behind is allowed for");
    assert!(matches!(at(Timestamp(start.0 - 61)), Err(MaterialError::NotYetValid { number: 1, .. })));
    assert!(at(NOW.after(HOUR / 2)).is_ok());
    let error = at(Timestamp(NOW.0 + 1801)).unwrap_err();
    assert!(matches!(error, MaterialError::Expired { place: "tls.crt", number: 1, .. }), "{error}");

    let old = below(&root, "old", |p| p.not_after = calendar(Timestamp(NOW.0 - 1)).unwrap());
    let (cert, key) = leaf(&old, same);
    let error = judge(&format!("{cert}{}", old.pem()), &key, Some(&ca)).unwrap_err();
    assert!(matches!(error, MaterialError::Expired { place: "tls.crt", number: 2, .. }), "{error}");

    let gone = root_that_ended();
    let (cert, key) = leaf(&gone, same);
    let error = judge(&cert, &key, Some(&gone.pem())).unwrap_err();
    assert!(matches!(error, MaterialError::Expired { place: "ca.crt", number: 1, .. }), "{error}");
    assert!(error.to_string().contains("certificate 1 of ca.crt (CN=root) expired at 2023-"), "{error}");
}

fn root_that_ended() -> Ca {
    root(|p| p.not_after = calendar(Timestamp(NOW.0 - 1)).unwrap())
}

#[test]
fn authorities_that_may_not_issue_these_leaves_are_refused_with_the_reason() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    use MaterialError as E;
    type Expected = fn(&MaterialError) -> bool;
    let table: &[(&str, Shape, Expected)] = &[
        (
            "no keyCertSign",
            |p| p.key_usages = vec![KeyUsagePurpose::CrlSign],
            |e| matches!(e, E::MayNotSign("tls.crt")),
        ),
        ("no key usage", |p| p.key_usages.clear(), |e| matches!(e, E::MayNotSign("tls.crt"))),
        ("for servers alone", |p| p.extended_key_usages = vec![ServerAuth], |e| matches!(e, E::Purpose("tls.crt"))),
        (
            "another trust domain",
            |p| p.subject_alt_names = vec![uri("spiffe://west.example")],
            |e| matches!(e, E::WrongTrustDomain { place: "tls.crt", .. }),
        ),
        (
            "a name with a path",
            |p| p.subject_alt_names = vec![uri("spiffe://east.example/ca")],
            |e| matches!(e, E::AuthorityName { .. }),
        ),
        (
            "URI name constraints",
            |p| p.custom_extensions.push(uri_constraints("east.example")),
            |e| matches!(e, E::UriConstraints { place: "tls.crt", .. }),
        ),
    ];
    let root = root(same);
    for (name, shape, expected) in table {
        let ca = below(&root, "east", *shape);
        let error = judge(&ca.pem(), ca.key(), Some(&root.pem())).expect_err(name);
        assert!(expected(&error), "{name}: {error:?}");
        assert!(error.to_string().contains(':'), "{name}: no remedy in {error}");
    }
    let both = below(&root, "east", |p| p.extended_key_usages = vec![ClientAuth, ServerAuth]);
    assert!(judge(&both.pem(), both.key(), Some(&root.pem())).is_ok());
}

/// NameConstraints (RFC 5280 section 4.2.1.10) that permit the URIs of one host.
fn uri_constraints(host: &str) -> CustomExtension {
    let wrap = |tag: u8, inner: &[u8]| [&[tag, u8::try_from(inner.len()).unwrap()], inner].concat();
    let name = wrap(0x86, host.as_bytes());
    let content = wrap(0x30, &wrap(0xa0, &wrap(0x30, &name)));
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
    extension.set_criticality(true);
    extension
}

#[test]
fn a_path_length_that_does_not_allow_the_authority_is_named() {
    let root = root(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let ca = below(&root, "east", same);
    assert_eq!(judge(&ca.pem(), ca.key(), Some(&root.pem())).unwrap_err(), MaterialError::PathTooLong("tls.crt"));
    let (cert, key) = leaf(&ca, same);
    let chain = format!("{cert}{}", ca.pem());
    assert_eq!(judge(&chain, &key, Some(&root.pem())).unwrap_err(), MaterialError::PathTooLong("tls.crt"));
}

#[test]
fn leaves_that_peers_would_refuse_are_refused_here() {
    use KeyUsagePurpose::{DigitalSignature, KeyCertSign, KeyEncipherment};
    type Expected = fn(&MaterialError) -> bool;
    type Rule = fn(&VerifyError) -> bool;
    let rule = |error: &MaterialError, accepts: Rule| matches!(error, MaterialError::Leaf { place: "tls.crt", rule } if accepts(rule));
    let table: &[(&str, Shape, Rule)] = &[
        (
            "no digitalSignature",
            |p| p.key_usages = vec![KeyEncipherment],
            |r| matches!(r, VerifyError::NoDigitalSignature(_)),
        ),
        (
            "keyCertSign",
            |p| p.key_usages = vec![DigitalSignature, KeyCertSign],
            |r| matches!(r, VerifyError::SignsCertificates(_)),
        ),
        (
            "for servers alone",
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            |r| matches!(r, VerifyError::NoClientAuth(_)),
        ),
        ("no URI name", |p| p.subject_alt_names.clear(), |r| matches!(r, VerifyError::NoUriSan)),
    ];
    let root = root(same);
    for (name, shape, accepts) in table {
        let (cert, key) = leaf(&root, *shape);
        let error = judge(&cert, &key, Some(&root.pem())).expect_err(name);
        assert!(rule(&error, *accepts), "{name}: {error:?}");
    }
    let others: &[(Shape, Expected)] = &[
        (
            |p| p.subject_alt_names = vec![uri("spiffe://east.example/ns/a/sa/b")],
            |e| matches!(e, MaterialError::WrongId { .. }),
        ),
        (
            |p| p.subject_alt_names = vec![uri("spiffe://west.example/landbridge/gateway")],
            |e| matches!(e, MaterialError::WrongId { .. }),
        ),
    ];
    for (shape, expected) in others {
        let (cert, key) = leaf(&root, *shape);
        let error = judge(&cert, &key, Some(&root.pem())).unwrap_err();
        assert!(expected(&error), "{error:?}");
    }
}

#[test]
fn a_chain_that_leads_elsewhere_than_to_its_roots_is_refused() {
    let (ours, other) = (root(same), root(same));
    let (cert, key) = leaf(&ours, same);
    let error = judge(&cert, &key, Some(&other.pem())).unwrap_err();
    assert!(matches!(error, MaterialError::NotBelow { .. }), "a root of the same name and another key: {error:?}");
    let expected = MaterialError::NothingAbove { certificate: "tls.crt", authorities: "ca.crt" };
    assert_eq!(judge(&cert, &key, None).unwrap_err(), expected);
    let blunt = below(&ours, "blunt", |p| p.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let (cert, key) = leaf(&blunt, same);
    let error = judge(&format!("{cert}{}", blunt.pem()), &key, Some(&ours.pem())).unwrap_err();
    assert_eq!(error, MaterialError::MayNotSign("tls.crt"));
    let foreign = below(&ours, "west", |p| p.subject_alt_names = vec![uri("spiffe://west.example")]);
    let (cert, key) = leaf(&foreign, same);
    let error = judge(&format!("{cert}{}", foreign.pem()), &key, Some(&ours.pem())).unwrap_err();
    assert!(matches!(error, MaterialError::WrongTrustDomain { place: "tls.crt", .. }), "{error:?}");
}

/// cert-manager writes PKCS #1 and SEC 1 unless told otherwise, and openssl puts the curve before the key.
#[test]
fn keys_in_every_usual_encoding_are_read() {
    let ec = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n\
              -----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIAnw8k+p2Ih3tLzeqXIsJZHlxnjUvgZp3VKsb18FQLxWoAoGCCqGSM49\nAwEHoUQDQgAE\n-----END EC PRIVATE KEY-----\n";
    assert!(
        matches!(private_key("tls.key", ec), Ok(key) if key.len() > 50),
        "the section with the curve is passed over"
    );
}

#[test]
fn an_svid_of_the_workload_api_publishes_the_roots_that_are_its_own() {
    let from = |chain: &[&Ca], cert: &str, key: &KeyPair, bundle: &[&Ca]| {
        let mut certificates = svid::certificates(cert).unwrap();
        certificates.extend(chain.iter().map(|ca| ca.der().clone()));
        let bundle = bundle.iter().map(|ca| ca.der().clone()).collect();
        let key = Zeroizing::new(key.serialize_der());
        Material::from_workload(certificates, key, bundle, &gateway(), NOW)
    };
    let named: Shape = |p| p.subject_alt_names = vec![uri("spiffe://east.example")];
    let (own, shared) = (root(named), root(same));
    let next = CertifiedIssuer::self_signed(ca_params("next", named), KeyPair::generate().unwrap()).unwrap();

    let (cert, key) = leaf(&own, same);
    let material = from(&[], &cert, &key, &[&own, &next]).unwrap();
    assert_eq!(material.authorities(), vec![own.der().clone(), next.der().clone()], "also the one that is prepared");
    assert!(believed(&material));

    let nested = below(&own, "nested", named);
    let (cert, key) = leaf(&nested, same);
    let material = from(&[&nested], &cert, &key, &[&own]).unwrap();
    assert_eq!(material.authorities(), vec![own.der().clone()]);
    assert!(believed(&material));

    let server = below(&shared, "server", named);
    let (cert, key) = leaf(&server, same);
    let material = from(&[&server], &cert, &key, &[&shared]).unwrap();
    assert_eq!(material.authorities(), vec![server.der().clone()], "a root without the name may be shared");
    assert!(believed(&material));

    // Under way from a root of its own to a shared one.
    let material = from(&[&server], &cert, &key, &[&shared, &own]).unwrap();
    assert_eq!(material.authorities(), vec![own.der().clone(), server.der().clone()]);
    assert!(believed(&material));

    let error = from(&[], &own.pem(), own.key(), &[&own]).unwrap_err();
    assert!(matches!(error, MaterialError::Leaf { place: "the SVID", .. }), "an authority is no SVID: {error:?}");
}

#[test]
fn material_is_the_same_while_its_certificates_are() {
    let root = root(|p| p.subject_alt_names = vec![uri("spiffe://east.example")]);
    let issuer = || judge(&root.pem(), root.key(), None).unwrap();
    assert_eq!(issuer(), issuer());
    let ready = |(cert, key): (String, KeyPair)| judge(&cert, &key, Some(&root.pem())).unwrap();
    let one = leaf(&root, same);
    assert_ne!(ready(one), ready(leaf(&root, same)));
    assert_ne!(issuer(), ready(leaf(&root, same)));
}

#[test]
fn secrets_never_show_in_debug_output() {
    let root = root(|p| p.subject_alt_names = vec![uri("spiffe://east.example")]);
    let (pem, key) = (root.pem(), root.key().serialize_pem());
    let texts = SecretTexts { certificate: &pem, key: &key, authorities: None };
    let shown = format!("{texts:?} {:?}", judge(&pem, root.key(), None).unwrap());
    assert!(shown.contains("hidden") && !shown.contains("PRIVATE"), "{shown}");
}
