use federation_model::member::Change;
use proptest::prelude::*;
use proto::convert::member::Refusal;

use super::*;
use crate::state::{
    MAX_LOG,
    tests::{authority, empty_set, here, joining, record, with_token},
};

const NOW: Timestamp = Timestamp(1_800_000_000);

fn cluster(name: &str) -> Asked {
    Asked::Cluster(name.parse().unwrap())
}

fn id(text: &str) -> Asked {
    Asked::Subject(Subject::parse_id(text).unwrap())
}

fn serial(trust_domain: &str, serial: &str) -> Asked {
    let trust_domain = TrustDomain::new(trust_domain).unwrap();
    Asked::Subject(Subject::Serial { trust_domain, serial: serial.parse().unwrap() })
}

fn new(number: u64, asked: Asked) -> NewRevocation {
    NewRevocation {
        id: RevocationId::from_bits(number),
        asked,
        reason: "key lost".parse().unwrap(),
        by: "admin".parse().unwrap(),
        shown: vec!["0a".parse().unwrap()],
        at: NOW,
    }
}

fn revoked(state: &State, number: u64, asked: Asked) -> State {
    state.applied(&state.revoke(new(number, asked)).unwrap().0)
}

fn west() -> State {
    empty_set().applied(&[Write::Member(record("west")), Write::Member(record("east"))])
}

#[test]
fn revoking_a_cluster_ends_its_membership_and_tells_both_in_one_decision() {
    let before = west();
    let after = revoked(&before, 1, cluster("west"));
    assert!(!after.members.contains_key(&"west".parse().unwrap()));
    let missed = after.since("store-1", before.revision);
    let [Change::Removed(gone), Change::Revoked(told)] = missed.changes.as_slice() else { panic!("{missed:?}") };
    assert_eq!((gone.as_str(), told.subject.to_string()), ("west", "cluster west (west.example)".to_owned()));
    assert_eq!(after.revision, before.revision + 2);
}

#[test]
fn revoking_twice_gives_the_revocation_there_is_and_changes_nothing() {
    for asked in [cluster("west"), id("spiffe://west.example/ns/a/*"), serial("west.example", "01")] {
        let state = revoked(&west(), 1, asked.clone());
        let (writes, again) = state.revoke(new(2, asked)).unwrap();
        assert!(writes.is_empty() && again.already);
        assert_eq!(again.revocation.id, RevocationId::from_bits(1));
    }
}

#[test]
fn a_revoked_cluster_joins_neither_by_its_name_nor_with_its_trust_domain_until_it_is_reinstated() {
    let state = revoked(&west(), 1, cluster("west"));
    for (name, domain) in [("west", "other.example"), ("west", "west.example"), ("north", "west.example")] {
        let (state, token) = with_token(&state, name);
        let asked = joining(&state, &token, name, &authority(domain));
        let refused = state.join(&asked, &here(&state)).unwrap_err();
        assert_eq!(refused.refusal(), Refusal::Revoked, "{name} {domain}: {refused}");
        assert!(refused.to_string().contains("fedctl revoke reinstate 0000000000000001"), "{refused}");
    }
    let state = state.applied(&state.reinstate(&RevocationId::from_bits(1), false, NOW).unwrap().0);
    let (state, token) = with_token(&state, "west");
    let asked = joining(&state, &token, "west", &authority("west.example"));
    assert!(state.join(&asked, &here(&state)).is_ok());
}

#[test]
fn a_revoked_gateway_id_does_not_join() {
    for text in ["spiffe://north.example/landbridge/gateway", "spiffe://north.example/*"] {
        let (state, token) = with_token(&revoked(&west(), 1, id(text)), "north");
        let asked = joining(&state, &token, "north", &authority("north.example"));
        assert_eq!(state.join(&asked, &here(&state)).unwrap_err().refusal(), Refusal::Revoked, "{text}");
    }
}

#[test]
fn the_service_never_locks_itself_or_its_operators_out() {
    let state = west();
    for own in [
        id("spiffe://federation.internal/landbridge/federation"),
        id("spiffe://federation.internal/landbridge/operator/admin"),
        id("spiffe://federation.internal/landbridge/*"),
        id("spiffe://federation.internal/*"),
    ] {
        assert!(matches!(state.revoke(new(1, own)), Err(RevocationRefusal::Own(_))));
    }
    let own = state.revoke(new(1, serial("federation.internal", "0a"))).unwrap_err();
    assert!(matches!(own, RevocationRefusal::OwnCredential(_)));
    // A credential that was stolen and replaced has the id of the one in use.
    assert!(state.revoke(new(1, serial("federation.internal", "0b"))).is_ok());
}

#[test]
fn what_nobody_has_is_revoked_with_a_warning_and_an_unknown_cluster_is_not() {
    let (writes, told) = west().revoke(new(1, id("spiffe://wset.example/ns/a/sa/b"))).unwrap();
    assert_eq!(writes.len(), 1);
    assert!(told.warnings[0].contains("no member has the trust domain wset.example"), "{:?}", told.warnings);
    assert!(west().revoke(new(1, id("spiffe://west.example/ns/a/sa/b"))).unwrap().1.warnings.is_empty());
    let unknown = west().revoke(new(1, cluster("wset"))).unwrap_err();
    assert!(matches!(unknown, RevocationRefusal::NotAMember(_)), "{unknown}");
}

#[test]
fn lifting_is_told_and_remembered_and_needs_force_for_what_is_not_known() {
    let state = revoked(&west(), 1, id("spiffe://west.example/a"));
    let (one, other) = (RevocationId::from_bits(1), RevocationId::from_bits(2));
    let (writes, lifted) = state.reinstate(&one, false, NOW).unwrap();
    assert_eq!(lifted.map(|revocation| revocation.id), Some(one));
    let after = state.applied(&writes);
    assert!(after.revocations.is_empty());
    assert_eq!(after.since("store-1", state.revision).changes, [Change::Reinstated(one)]);
    assert!(
        after.since("another", 0).changes.contains(&Change::Reinstated(one)),
        "whoever starts over is told as well"
    );
    assert_eq!(after.reinstate(&one, false, NOW).unwrap(), (Vec::new(), None), "twice is fine");

    let unknown = after.reinstate(&other, false, NOW).unwrap_err();
    assert!(unknown.to_string().contains("--force"), "{unknown}");
    let (writes, lifted) = after.reinstate(&other, true, NOW).unwrap();
    assert_eq!(lifted, None);
    let forced = after.applied(&writes);
    assert_eq!(forced.since("store-1", after.revision).changes, [Change::Reinstated(other)]);
}

#[test]
fn revocations_and_lifted_ones_are_limited_in_number() {
    let mut state = west();
    let many = (0..MAX_REVOCATIONS as u64).map(|number| {
        let subject = Subject::parse_id(&format!("spiffe://west.example/{number}")).unwrap();
        let NewRevocation { id, reason, by, at, .. } = new(number, cluster("west"));
        Arc::new(Revocation { id, subject, reason, by, at })
    });
    state.revocations = Arc::new(federation_model::revocation::Revocations::of(many).unwrap());
    let full = state.revoke(new(u64::MAX, id("spiffe://west.example/one-more"))).unwrap_err();
    assert!(matches!(full, RevocationRefusal::TooMany(_)));

    state.reinstated = (0..MAX_LIFTED as u64).map(|n| (RevocationId::from_bits(n), Timestamp(n))).collect();
    let next = RevocationId::from_bits(u64::MAX);
    let state = state.applied(&state.reinstate(&next, true, NOW).unwrap().0);
    assert_eq!(state.reinstated.len(), MAX_LIFTED);
    assert!(state.reinstated.contains_key(&next) && !state.reinstated.contains_key(&RevocationId::from_bits(0)));
}

proptest! {
    /// Whatever is missed, a member that never forgets a revocation but by being told holds the same ones as the service.
    #[test]
    fn resuming_from_any_revision_leads_to_the_same_revocations(
        steps in prop::collection::vec((0..5_u64, any::<bool>()), 1..30), pick in any::<prop::sample::Index>(), gap: bool,
    ) {
        let mut history = vec![west()];
        for (number, comes) in steps {
            let state = history.last().unwrap();
            let one = RevocationId::from_bits(number);
            let writes = match (comes, state.revocations.named(&one).is_some()) {
                (true, false) => state.revoke(new(number, id(&format!("spiffe://west.example/{number}")))).unwrap().0,
                (false, true) => state.reinstate(&one, false, NOW).unwrap().0,
                (true, true) | (false, false) => Vec::new(),
            };
            history.push(state.applied(&writes));
        }
        let (seen, mut now) = (pick.get(&history).clone(), history.last().unwrap().clone());
        if gap {
            now = now.applied(&vec![Write::Member(record("east")); MAX_LOG + 1]);
        }
        let mut held = (*seen.revocations).clone();
        let missed = now.since("store-1", seen.revision);
        prop_assert_eq!(missed.reset, gap);
        for change in missed.changes {
            match change {
                Change::Revoked(revocation) => held.add(revocation).unwrap(),
                Change::Reinstated(id) => drop(held.lift(&id)),
                Change::Upsert(_)
                | Change::Removed(_)
                | Change::Federation(_)
                | Change::Foreign(_)
                | Change::ForeignRemoved(_) => {}
            }
        }
        prop_assert_eq!(&held, &*now.revocations);
    }
}
