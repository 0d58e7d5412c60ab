//! What stands above a leaf: time, path length, flags and names of authorities.

use rcgen::CertifiedIssuer;

use super::*;

type Ca = CertifiedIssuer<'static, KeyPair>;
type Shape = fn(&mut CertificateParams);

fn ca_params(name: &str, shape: Shape) -> CertificateParams {
    let mut params = good();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![uri("spiffe://east.example")];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    shape(&mut params);
    params
}

fn root(shape: Shape) -> Ca {
    CertifiedIssuer::self_signed(ca_params("root", shape), KeyPair::generate().unwrap()).unwrap()
}

fn below(issuer: &Ca, shape: Shape) -> Ca {
    CertifiedIssuer::signed_by(ca_params("intermediate", shape), KeyPair::generate().unwrap(), issuer).unwrap()
}

fn judge(leaf: Shape, above: &[&Ca], roots: &[&Ca], now: Timestamp) -> Result<SpiffeId, VerifyError> {
    let (chain, store) = (chain(leaf, above.iter().chain(roots).next().unwrap(), above), trusting_all(roots));
    let judge = |usage| verify_leaf(&chain, &store, now, usage);
    assert_eq!(judge(Usage::Client), judge(Usage::Server));
    judge(Usage::Client)
}

fn chain(leaf: Shape, issuer: &Ca, above: &[&Ca]) -> Vec<CertificateDer<'static>> {
    let mut params = good();
    leaf(&mut params);
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap();
    std::iter::once(leaf.der()).chain(above.iter().map(|ca| ca.der())).cloned().collect()
}

fn trusting_all(roots: &[&Ca]) -> TrustStore {
    let authorities = roots.iter().map(|ca| ca.der().clone()).collect();
    let store = TrustStore::new();
    store.replace([TrustBundle { trust_domain: td("east.example"), sequence: 1, authorities }]).unwrap();
    store
}

fn same(_: &mut CertificateParams) {}

fn starting_in(seconds: u64, params: &mut CertificateParams) {
    params.not_before = calendar(Timestamp(NOW.0 + seconds)).unwrap();
}

fn ended(params: &mut CertificateParams) {
    params.not_after = calendar(Timestamp(NOW.0 - 1)).unwrap();
}

#[test]
fn an_authority_past_its_end_is_not_believed_and_its_successor_is() {
    let old = root(ended);
    let error = judge(same, &[], &[&old], NOW).unwrap_err();
    assert!(matches!(error, VerifyError::AuthorityExpired { .. }), "{error:?}");
    assert!(error.to_string().contains(&Fingerprint::of(old.der()).to_string()), "{error}");
    let by_old = below(&old, same);
    let error = judge(same, &[&by_old], &[&old], NOW).unwrap_err();
    assert!(matches!(error, VerifyError::AuthorityExpired { .. }), "{error:?}");

    // The same key and name, a later end: as an authority is renewed.
    let key = KeyPair::from_pem(&old.key().serialize_pem()).unwrap();
    let renewed = CertifiedIssuer::self_signed(ca_params("root", same), key).unwrap();
    for roots in [[&old, &renewed], [&renewed, &old]] {
        assert!(judge(same, &[], &roots, NOW).is_ok());
    }
    assert!(judge(same, &[&by_old], &[&old, &renewed], NOW).is_ok());
}

#[test]
fn an_authority_that_is_prepared_counts_from_its_start() {
    let next = root(|p| starting_in(61, p));
    let error = judge(same, &[], &[&next], NOW).unwrap_err();
    assert!(matches!(error, VerifyError::AuthorityNotYetValid { .. }), "{error:?}");
    assert!(judge(same, &[], &[&next], NOW.after(Duration::from_secs(1))).is_ok());
}

#[test]
fn every_start_is_allowed_for_by_the_clock_skew_and_no_end_is() {
    let root = root(same);
    assert!(judge(|p| starting_in(60, p), &[], &[&root], NOW).is_ok());
    assert!(matches!(judge(|p| starting_in(61, p), &[], &[&root], NOW), Err(VerifyError::NotYetValid { .. })));
    assert!(matches!(judge(ended, &[], &[&root], NOW), Err(VerifyError::Expired { .. })));

    let young = below(&root, |p| starting_in(60, p));
    assert!(judge(|p| starting_in(60, p), &[&young], &[&root], NOW).is_ok());
    assert!(judge(same, &[&young], &[&root], NOW).is_ok());
    let too_young = below(&root, |p| starting_in(61, p));
    assert!(matches!(judge(same, &[&too_young], &[&root], NOW), Err(VerifyError::SignerExpired(_))));
    let over = below(&root, ended);
    assert!(matches!(judge(same, &[&over], &[&root], NOW), Err(VerifyError::SignerExpired(_))));
}

#[test]
fn path_lengths_of_authorities_and_intermediates_are_kept() {
    let zero: Shape = |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let one: Shape = |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let (flat, tall) = (root(zero), root(same));
    assert!(judge(same, &[], &[&flat], NOW).is_ok());
    let lower = below(&flat, same);
    assert!(matches!(judge(same, &[&lower], &[&flat], NOW), Err(VerifyError::PathTooLong(_))));

    let upper = below(&tall, zero);
    let lower = CertifiedIssuer::signed_by(ca_params("lower", same), KeyPair::generate().unwrap(), &upper).unwrap();
    assert!(matches!(judge(same, &[&lower, &upper], &[&tall], NOW), Err(VerifyError::PathTooLong(_))));
    let upper = below(&tall, one);
    let lower = CertifiedIssuer::signed_by(ca_params("lower", same), KeyPair::generate().unwrap(), &upper).unwrap();
    assert!(judge(same, &[&lower, &upper], &[&tall], NOW).is_ok());
}

#[test]
fn only_authorities_of_this_trust_domain_for_this_purpose_stand_above_a_leaf() {
    type Expected = fn(&VerifyError) -> bool;
    let table: &[(Shape, Expected)] = &[
        (|p| p.is_ca = IsCa::ExplicitNoCa, |e| matches!(e, VerifyError::SignerIsLeaf(_))),
        (|p| p.is_ca = IsCa::NoCa, |e| matches!(e, VerifyError::SignerIsLeaf(_))),
        (|p| p.key_usages.clear(), |e| matches!(e, VerifyError::SignerMayNotSign(_))),
        (
            |p| p.subject_alt_names = vec![uri("spiffe://west.example")],
            |e| matches!(e, VerifyError::ForeignSigner { .. }),
        ),
        (
            |p| p.subject_alt_names = vec![uri("spiffe://east.example/a")],
            |e| matches!(e, VerifyError::ForeignSigner { .. }),
        ),
        (
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
            |e| matches!(e, VerifyError::SignerPurpose(_)),
        ),
    ];
    let root = root(same);
    for (shape, expected) in table {
        let signer = below(&root, *shape);
        let error = judge(same, &[&signer], &[&root], NOW).unwrap_err();
        assert!(expected(&error), "{error:?}");
    }
    assert!(judge(same, &[&below(&root, |p| p.subject_alt_names.clear())], &[&root], NOW).is_ok());
}

/// See docs/decisions/0011-keys-published-by-others.md.
#[test]
fn an_intermediate_below_a_published_root_speaks_for_whoever_published_the_root_and_for_nobody_else() {
    let nameless = |params: &mut CertificateParams| params.subject_alt_names.clear();
    let shared = root(nameless);
    let of_west = below(&shared, nameless);
    let store = TrustStore::new();
    let bundle =
        |name, ca: &Ca| TrustBundle { trust_domain: td(name), sequence: 1, authorities: vec![ca.der().clone()] };
    store.replace([bundle("east.example", &shared), bundle("west.example", &of_west)]).unwrap();
    let judge = |leaf: Shape, above: &[&Ca]| verify_leaf(&chain(leaf, above[0], above), &store, NOW, Usage::Client);
    let east: Shape = same;
    let west: Shape = |params| params.subject_alt_names = vec![uri("spiffe://west.example/ns/a/sa/b")];
    assert_eq!(judge(east, &[&of_west]).unwrap().trust_domain(), &td("east.example"));
    assert_eq!(judge(west, &[&of_west]).unwrap().trust_domain(), &td("west.example"));
    // Neither the root nor another intermediate below it speaks for west.
    let other = below(&shared, nameless);
    assert!(judge(west, &[&other]).is_err() && judge(west, &[&shared]).is_err());
    // With a name of its own trust domain, the intermediate is confined to it.
    let named = below(&shared, |params| params.subject_alt_names = vec![uri("spiffe://west.example")]);
    assert!(matches!(judge(east, &[&named]), Err(VerifyError::ForeignSigner { .. })));
}
