use federation_model::{
    addr::GatewayAddr,
    audit::{Start, verify},
};
use proptest::prelude::*;

use super::*;
use crate::state::{
    Publication,
    join::Here,
    tests::{NOW, authority, empty_set, here, joining, record, with_member, with_token},
};

fn by(actor: Actor) -> By {
    By { actor, from: Some("192.0.2.7".parse().unwrap()), at: NOW }
}

fn operator() -> By {
    by(Actor::Operator(federation_model::audit::Text::fitting("admin")))
}

fn member(name: &str) -> By {
    by(Actor::Member(name.parse().unwrap()))
}

/// What the log says of `writes`.
fn words(state: &State, writes: &[Write], by: &By) -> Vec<String> {
    let word = |write: Write| {
        let Write::Audit { event, .. } = write else { panic!("{write:?}") };
        format!("{} {} {}: {}", event.actor, event.action, event.subject, event.detail)
    };
    state.told(writes, by).into_iter().map(word).collect()
}

#[test]
fn tokens_joins_and_removals_are_told_with_who_and_from_where() {
    let (set, west) = (empty_set(), authority("west.example"));
    let (state, token) = with_token(&set, "west");
    let made: Vec<_> = state.tokens.values().map(|token| Write::Token((**token).clone())).collect();
    let from = "from 192.0.2.7";
    let expected = format!("operator:admin token-created west: token {}, for 900s, {from}", token.id);
    assert_eq!(words(&set, &made, &operator()), [expected]);

    let asked = joining(&state, &token, "west", &west);
    let admitted = state.join(&asked, &here(&state)).unwrap();
    let authority = format!("authority {}", west.fingerprint());
    let expected = format!("member:west join west: token {}, {authority}, {from}", token.id);
    assert_eq!(words(&state, &admitted.writes, &member("west")), [expected]);
    let cautious = Here { require_approval: true, ..here(&state) };
    let waiting = state.join(&asked, &cautious).unwrap();
    let told = words(&state, &waiting.writes, &member("west"));
    assert!(told[0].contains("; it waits for approval, from"), "{told:?}");

    let joined = state.applied(&admitted.writes);
    assert_eq!(words(&joined, &joined.join(&asked, &here(&joined)).unwrap().writes, &member("west")), [""; 0]);
    let gone = joined.remove(&"west".parse().unwrap()).unwrap();
    assert_eq!(words(&joined, &gone, &operator()), [format!("operator:admin member-removed west: {from}")]);
    assert_eq!(words(&joined, &gone, &member("west")), [format!("member:west member-left west: {from}")]);

    let revoked = state.revoke_token(&token.id, NOW).unwrap().0;
    let expected = format!("operator:admin token-revoked west: token {}, {from}", token.id);
    assert_eq!(words(&state, &revoked, &operator()), [expected]);
}

#[test]
fn changes_of_members_and_of_the_service_are_told_with_what_changed() {
    let west = authority("west.example");
    let (state, _) = with_member(&empty_set(), "west", &west);
    let publication = |advertise: Vec<GatewayAddr>, software: &str| Publication {
        advertise,
        region: "north".to_owned(),
        zone: String::new(),
        software: software.to_owned(),
    };
    let west = "west".parse().unwrap();
    let moved = state.publish(&west, publication(vec!["a.example:1".parse().unwrap()], "gateway/1")).unwrap();
    let expected = "member:west member-changed west: advertises a.example:1, region \"north\", from 192.0.2.7";
    assert_eq!(words(&state, &moved, &member("west")), [expected]);
    let state = state.applied(&moved);
    let newer = state.publish(&west, publication(vec!["a.example:1".parse().unwrap()], "gateway/2")).unwrap();
    assert!(!newer.is_empty());
    assert_eq!(words(&state, &newer, &member("west")), [""; 0], "a release is no change of the set");

    let mut held = (*state.members[&west]).clone();
    let (old, new) = (held.member.bundle.fingerprints().next().unwrap(), authority("west.example"));
    held.member.bundle = new.bundle(2);
    let expected = format!(
        "member:west bundle-changed west: sequence 1 to 2, with {}, without {old}, from 192.0.2.7",
        new.fingerprint()
    );
    assert_eq!(words(&state, &[Write::Member(held)], &member("west")), [expected]);

    let replaced = state.announce(&authority("federation.internal").bundle(1));
    let told = words(&state, &replaced, &By::service(NOW));
    assert!(told[0].starts_with("service authority-changed federation: sequence 1 to 2, with SHA256:"), "{told:?}");
}

#[test]
fn a_stranger_is_named_once() {
    let by = by(Actor::Stranger("192.0.2.7".parse().unwrap()));
    let Write::Audit { event, .. } = by.entry(Action::JoinRefused, "west", "token-unknown") else { panic!() };
    assert_eq!((event.actor.to_string().as_str(), &*event.detail), ("stranger:192.0.2.7", "token-unknown"));
}

proptest! {
    /// The head in the state is that of the entries, however they come, and only so many are kept.
    #[test]
    fn the_entries_of_any_writes_are_one_chain(batches in prop::collection::vec(0..4_usize, 0..20), limit in 1..9_u64) {
        let mut state = empty_set();
        state.audit.limit = limit;
        let mut log = Vec::new();
        for count in batches {
            let mut writes: Vec<_> = (0..count).map(|n| By::service(NOW).entry(Action::Join, "west", &n.to_string())).collect();
            writes.insert(0, Write::Member(record("west")));
            log.extend(entries(&state.audit.head, &writes));
            state = state.applied(&writes);
        }
        prop_assert_eq!(verify(&log, Start::of("store-1", 1)), Ok(state.audit.head));
        prop_assert_eq!(state.audit.first, (log.len() as u64 + 1).saturating_sub(limit).max(1));
    }
}
