use federation_model::spiffe::parse_workload_id;
use federation_pki::ca::Authority;
use proptest::prelude::*;

use super::*;
use crate::state::{
    Missed,
    tests::{authority, empty_set, here, joining, with_token},
};

const NOW: Timestamp = Timestamp(1_800_000_000);

fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

fn source(trust_domain: &str, endpoint_id: Option<&str>) -> BundleSource {
    let profile = match endpoint_id {
        None => EndpointProfile::HttpsWeb,
        Some(id) => EndpointProfile::HttpsSpiffe { endpoint_id: parse_workload_id(id).unwrap() },
    };
    let url = format!("https://{trust_domain}:8443/bundle").parse().unwrap();
    BundleSource { trust_domain: domain(trust_domain), url, profile }
}

fn spiffe(trust_domain: &str) -> BundleSource {
    source(trust_domain, Some(&format!("spiffe://{trust_domain}/spire/server")))
}

/// One record of each profile, with everything that can be kept.
pub(crate) fn records() -> [ForeignRecord; 2] {
    let bundle =
        |name: &str| TrustBundle { trust_domain: domain(name), sequence: 7, authorities: vec![vec![1].into()] };
    let web = ForeignRecord {
        source: source("web.example", None),
        endpoint_bundle: None,
        bundle: None,
        sequenced: false,
        refresh_hint: None,
        added_at: NOW,
        changed_at: None,
    };
    let spiffe = ForeignRecord {
        source: source("spire.example", Some("spiffe://other.example/server")),
        endpoint_bundle: Some(bundle("other.example")),
        bundle: Some(bundle("spire.example")),
        sequenced: true,
        refresh_hint: Some(Duration::from_secs(300)),
        changed_at: Some(NOW),
        ..web
    };
    [spiffe, web]
}

fn published(authorities: &[&Authority], sequence: Option<u64>) -> Published {
    let mut bundle = authorities[0].bundle(sequence.unwrap_or_default());
    bundle.authorities = authorities.iter().map(|authority| authority.certificate().clone()).collect();
    Published { bundle, sequenced: sequence.is_some(), refresh_hint: None }
}

fn nothing(sequence: u64) -> Published {
    let bundle = TrustBundle { trust_domain: domain("spire.example"), sequence, authorities: Vec::new() };
    Published { bundle, sequenced: true, refresh_hint: None }
}

fn added(state: &State, source: BundleSource, bootstrap: Option<TrustBundle>) -> State {
    state.applied(&state.add_foreign(NewForeign { source, bootstrap }, NOW).unwrap().0)
}

fn refused(state: &State, source: BundleSource, bootstrap: Option<TrustBundle>) -> ForeignRefusal {
    state.add_foreign(NewForeign { source, bootstrap }, NOW).unwrap_err()
}

/// Reads `published` for spire.example.
fn import(state: &State, published: Published) -> Result<(State, Imported), ImportRefusal> {
    let polled = Arc::clone(&state.foreign[&domain("spire.example")]);
    let (writes, imported) = state.import(&polled, published, NOW.after(Duration::from_secs(60)))?;
    Ok((state.applied(&writes), imported))
}

/// A set with the member west.
fn with_west(west: &Arc<Authority>) -> State {
    let (state, token) = with_token(&empty_set(), "west");
    let admitted = state.join(&joining(&state, &token, "west", west), &here(&state)).unwrap();
    state.applied(&admitted.writes)
}

#[test]
fn a_bootstrap_bundle_of_the_trust_domain_itself_is_in_force_at_once_and_yields_to_the_first_one_read() {
    let (first, second) = (authority("spire.example"), authority("spire.example"));
    let state = added(&empty_set(), spiffe("spire.example"), Some(first.bundle(9)));
    let Missed { changes, .. } = state.since("store-1", state.revision - 1);
    assert_eq!(state.revision, 1);
    assert_eq!(changes.last(), Some(&Change::Foreign(first.bundle(0))));
    let record = &state.foreign[&domain("spire.example")];
    assert_eq!(state.anchor_of(record), Some(&first.bundle(0)));
    // Its sequence was only a text in somebody's file.
    let (state, imported) = import(&state, published(&[&second], Some(3))).unwrap();
    assert_eq!(imported, Imported::Changed);
    let record = &state.foreign[&domain("spire.example")];
    assert_eq!(state.anchor_of(record), Some(&second.bundle(3)));
}

#[test]
fn an_endpoint_nobody_could_believe_is_not_added() {
    let west = authority("west.example");
    let state = with_west(&west);
    let refusal = refused(&state, spiffe("spire.example"), None);
    assert_eq!(
        refusal.to_string(),
        "nothing is known to believe spiffe://spire.example/spire/server by: give the bundle of trust domain spire.example with --bundle FILE"
    );
    let other = refused(&state, spiffe("spire.example"), Some(authority("other.example").bundle(1)));
    assert!(other.to_string().contains("it is of other.example"), "{other}");
    let mut empty = authority("spire.example").bundle(1);
    empty.authorities.clear();
    let empty = refused(&state, spiffe("spire.example"), Some(empty));
    assert!(empty.to_string().contains("it holds no authority"), "{empty}");
    let web = refused(&state, source("spire.example", None), Some(authority("spire.example").bundle(1)));
    assert_eq!(web, ForeignRefusal::BootstrapUnused);
    let garbage = TrustBundle { authorities: vec![vec![1, 2].into()], ..authority("spire.example").bundle(1) };
    assert!(matches!(refused(&state, spiffe("spire.example"), Some(garbage)), ForeignRefusal::BootstrapInvalid { .. }));
}

#[test]
fn an_endpoint_of_another_trust_domain_is_believed_by_the_newest_bundle_known_of_that_one() {
    let west = authority("west.example");
    let state = with_west(&west);
    // A member's: its bundle is known.
    let by_member = added(&state, source("spire.example", Some("spiffe://west.example/server")), None);
    let record = &by_member.foreign[&domain("spire.example")];
    assert_eq!(by_member.anchor_of(record).unwrap().authorities, west.bundle(1).authorities);
    assert_eq!(record.bundle, None);
    // The service's own.
    let by_service = added(&state, source("spire.example", Some("spiffe://federation.internal/x")), None);
    assert_eq!(by_service.anchor_of(&by_service.foreign[&domain("spire.example")]), Some(&state.federation));
    // A stranger's: the bootstrap bundle, until the stranger is a foreign trust domain itself.
    let stranger = authority("stranger.example");
    let asked = source("spire.example", Some("spiffe://stranger.example/x"));
    assert!(matches!(refused(&state, asked.clone(), None), ForeignRefusal::NoBootstrap { .. }));
    let state = added(&state, asked.clone(), Some(stranger.bundle(1)));
    let record = Arc::clone(&state.foreign[&domain("spire.example")]);
    assert_eq!(state.anchor_of(&record), Some(&stranger.bundle(1)));
    assert_eq!(record.bundle, None);
    let newer = authority("stranger.example");
    let state = added(&state, spiffe("stranger.example"), Some(newer.bundle(1)));
    assert_eq!(state.anchor_of(&record), Some(&newer.bundle(0)));
    // Saying the same again changes nothing.
    let (writes, _) = state.add_foreign(NewForeign { source: asked, bootstrap: None }, NOW).unwrap();
    assert!(writes.is_empty());
}

#[test]
fn trust_domains_of_the_set_are_never_foreign_and_foreign_ones_never_join() {
    let west = authority("west.example");
    let state = with_west(&west);
    for (name, by) in [("west.example", "cluster west"), ("federation.internal", "the federation service itself")] {
        let refusal = refused(&state, source(name, None), None);
        assert!(refusal.to_string().starts_with(&format!("the trust domain {name} belongs to {by}")), "{refusal}");
    }
    let spire = authority("spire.example");
    let state = added(&state, spiffe("spire.example"), Some(spire.bundle(1)));
    let (state, token) = with_token(&state, "spire");
    let error = state.join(&joining(&state, &token, "spire", &spire), &here(&state)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the trust domain spire.example is known here as a foreign one, read from a bundle endpoint: choose another `cluster.trust_domain`, or, when the cluster is to be a member from now on, run `fedctl trust foreign remove spire.example` first"
    );
    let state = state.applied(&state.remove_foreign(&domain("spire.example")).unwrap());
    assert!(state.join(&joining(&state, &token, "spire", &spire), &here(&state)).is_ok());
}

/// The key of `authority` in a certificate of another trust domain.
fn same_key_elsewhere(authority: &Authority, elsewhere: &str) -> Arc<Authority> {
    let copied = Authority::from_pem(&reissued(authority), authority.key_pem().expose(), &domain(elsewhere));
    Arc::new(copied.unwrap())
}

/// A certificate for the key of `authority` that names no trust domain, as roots of a company do.
fn reissued(authority: &Authority) -> String {
    let key = rcgen::KeyPair::from_pem(authority.key_pem().expose()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn a_key_of_the_set_is_refused_in_a_foreign_bundle_and_a_foreign_key_in_a_join() {
    let west = authority("west.example");
    let state = added(&with_west(&west), spiffe("spire.example"), Some(authority("spire.example").bundle(1)));
    let copied = same_key_elsewhere(&west, "spire.example");
    let error = import(&state, published(&[&copied], Some(1))).unwrap_err();
    assert!(matches!(&error, ImportRefusal::KeyTaken { by: Owner::Member(cluster), .. } if cluster.as_str() == "west"));
    let bootstrap = refused(&with_west(&west), spiffe("spire.example"), Some(copied.bundle(1)));
    assert!(bootstrap.to_string().contains("belongs to cluster west"), "{bootstrap}");

    let spire = authority("spire.example");
    let (state, _) = import(&state, published(&[&spire], Some(1))).unwrap();
    let (state, token) = with_token(&state, "north");
    let thief = same_key_elsewhere(&spire, "north.example");
    let error = state.join(&joining(&state, &token, "north", &thief), &here(&state)).unwrap_err();
    assert!(error.to_string().contains("also one of the foreign trust domain spire.example"), "{error}");
}

#[test]
fn sequences_only_go_forward_and_one_sequence_has_one_content() {
    let (a, b) = (authority("spire.example"), authority("spire.example"));
    let state = added(&empty_set(), spiffe("spire.example"), Some(a.bundle(1)));
    let (state, _) = import(&state, published(&[&a, &b], Some(5))).unwrap();
    for (refusal, next) in [
        (ImportRefusal::Backwards { held: 5, read: 4 }, published(&[&a, &b], Some(4))),
        (ImportRefusal::Backwards { held: 5, read: 0 }, nothing(0)),
        (ImportRefusal::Forked { sequence: 5 }, published(&[&a], Some(5))),
        (ImportRefusal::Forked { sequence: 5 }, nothing(5)),
        (ImportRefusal::SequenceMissing { held: 5 }, published(&[&a, &b], None)),
    ] {
        assert_eq!(import(&state, next).unwrap_err(), refusal);
        assert!(refusal.to_string().contains("`fedctl trust foreign remove`"), "{refusal}");
    }
    // The same in another order is the same.
    let (same, imported) = import(&state, published(&[&b, &a], Some(5))).unwrap();
    assert_eq!((imported, same), (Imported::Unchanged, state.clone()));
    let (state, imported) = import(&state, published(&[&b], Some(u64::MAX))).unwrap();
    assert_eq!((imported, state.foreign_bundles().next().unwrap()), (Imported::Changed, &b.bundle(u64::MAX)));
}

#[test]
fn an_empty_bundle_takes_back_all_trust_and_a_new_bootstrap_begins_anew() {
    let (a, b) = (authority("spire.example"), authority("spire.example"));
    let state = added(&empty_set(), spiffe("spire.example"), Some(a.bundle(1)));
    let (state, imported) = import(&state, nothing(6)).unwrap();
    assert_eq!(imported, Imported::Changed);
    assert!(state.foreign_bundles().next().unwrap().authorities.is_empty());
    assert!(matches!(refused(&state, spiffe("spire.example"), None), ForeignRefusal::NoBootstrap { .. }));
    let state = added(&state, spiffe("spire.example"), Some(b.bundle(1)));
    let (state, _) = import(&state, published(&[&b], Some(1))).unwrap();
    assert_eq!(state.foreign_bundles().next(), Some(&b.bundle(1)));
}

#[test]
fn publishers_that_count_nothing_may_change_their_bundle_and_begin_to_count() {
    let (a, b) = (authority("spire.example"), authority("spire.example"));
    let state = added(&empty_set(), source("spire.example", None), None);
    assert_eq!((state.revision, state.foreign_bundles().count()), (0, 0));
    for next in [published(&[&a], None), published(&[&b], None), published(&[&b], Some(1)), published(&[&a], Some(2))] {
        let expected = next.bundle.clone();
        let (state, imported) = import(&state, next).unwrap();
        assert_eq!((imported, state.foreign_bundles().next()), (Imported::Changed, Some(&expected)));
    }
}

#[test]
fn what_was_read_for_another_endpoint_counts_for_nothing() {
    let a = authority("spire.example");
    let state = added(&empty_set(), spiffe("spire.example"), Some(a.bundle(1)));
    let polled = Arc::clone(&state.foreign[&domain("spire.example")]);
    let read = published(&[&authority("spire.example")], Some(1));
    let moved = added(&state, source("spire.example", None), None);
    let removed = state.applied(&state.remove_foreign(&domain("spire.example")).unwrap());
    for state in [moved, removed] {
        assert_eq!(state.import(&polled, read.clone(), NOW).unwrap(), (Vec::new(), Imported::Superseded));
    }
    let elsewhere = published(&[&authority("else.example")], Some(1));
    assert_eq!(state.import(&polled, elsewhere, NOW).unwrap().1, Imported::Superseded);
}

#[test]
fn members_hear_of_bundles_alone_and_a_watcher_of_a_removed_one_is_told_so() {
    let a = authority("spire.example");
    let state = added(&empty_set(), source("spire.example", None), None);
    let hinted = Published { refresh_hint: Some(Duration::from_secs(90)), ..published(&[&a], Some(1)) };
    let (state, _) = import(&state, hinted).unwrap();
    assert_eq!(
        (state.revision, state.foreign[&domain("spire.example")].refresh_hint),
        (1, Some(Duration::from_secs(90)))
    );
    let (quiet, imported) = import(&state, published(&[&a], Some(1))).unwrap();
    assert_eq!((imported, quiet.revision, quiet == state), (Imported::Unchanged, 1, false));
    assert!(state.since("other", 0).changes.contains(&Change::Foreign(a.bundle(1))));
    let gone = state.applied(&state.remove_foreign(&domain("spire.example")).unwrap());
    assert_eq!(gone.since("store-1", 1).changes, [Change::ForeignRemoved(domain("spire.example"))]);
    assert!(matches!(gone.remove_foreign(&domain("spire.example")), Err(ForeignRefusal::Unknown(_))));
}

#[test]
fn as_many_trust_domains_are_known_as_may_be_and_no_more() {
    let mut state = empty_set();
    for number in 0..MAX_FOREIGN {
        state = added(&state, source(&format!("d{number}.example"), None), None);
    }
    assert_eq!(refused(&state, source("more.example", None), None), ForeignRefusal::TooMany);
    let moved = BundleSource { url: "https://else.example/".parse().unwrap(), ..source("d1.example", None) };
    assert_eq!(added(&state, moved, None).foreign.len(), MAX_FOREIGN);
}

#[test]
fn bundles_no_gateway_could_take_are_refused() {
    let mut large = published(&[&authority("spire.example")], Some(1));
    large.bundle.authorities.push(vec![0; MAX_BUNDLE].into());
    let state = added(&empty_set(), source("spire.example", None), None);
    assert!(matches!(import(&state, large), Err(ImportRefusal::TooLarge(_))));
}

proptest! {
    #[test]
    fn whatever_is_read_in_whatever_order_the_sequence_in_force_never_falls(
        reads in prop::collection::vec((0..6_u64, prop::sample::subsequence(vec![0, 1, 2], 0..3)), 1..20)
    ) {
        let authorities = [b"one", b"two", b"six"].map(|der| der.to_vec().into());
        let mut state = added(&empty_set(), source("spire.example", None), None);
        let mut last = 0;
        for (sequence, chosen) in reads {
            let authorities = chosen.into_iter().map(|index: usize| Clone::clone(&authorities[index])).collect();
            let bundle = TrustBundle { authorities, ..nothing(sequence).bundle };
            let Ok((next, _)) = import(&state, Published { bundle, ..nothing(sequence) }) else { continue };
            let now = next.foreign_bundles().next().unwrap();
            prop_assert!(now.sequence >= last);
            if let Some(before) = state.foreign_bundles().next().filter(|before| before.sequence == now.sequence) {
                prop_assert_eq!(before, now);
            }
            last = now.sequence;
            state = next;
        }
    }
}
