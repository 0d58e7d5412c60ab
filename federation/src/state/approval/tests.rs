use std::{collections::BTreeSet, sync::Arc};

use federation_model::time::Timestamp;
use federation_pki::ca::Authority;
use proptest::prelude::*;

use super::*;
use crate::state::{
    Publication,
    join::{Here, Joining},
    tests::{authority, empty_set, here, joining, record, with_member, with_token},
};

fn cautious(state: &State) -> Here {
    Here { require_approval: true, ..here(state) }
}

/// A set in which `cluster` waits for approval.
fn with_waiting(state: &State, cluster: &str, authority: &Arc<Authority>) -> (State, Joining) {
    let (state, token) = with_token(state, cluster);
    let joining = joining(&state, &token, cluster, authority);
    let admitted = state.join(&joining, &cautious(&state)).unwrap();
    assert!(admitted.record.pending);
    (state.applied(&admitted.writes), joining)
}

fn name(cluster: &str) -> ClusterName {
    cluster.parse().unwrap()
}

/// The members a watcher knows that starts over, or resumes.
fn known(missed: &Missed) -> BTreeSet<String> {
    let upserted = |change: &Change| match change {
        Change::Upsert(member) => Some(member.cluster.to_string()),
        Change::Removed(_)
        | Change::Federation(_)
        | Change::Foreign(_)
        | Change::ForeignRemoved(_)
        | Change::Revoked(_)
        | Change::Reinstated(_) => None,
    };
    missed.changes.iter().filter_map(upserted).collect()
}

#[test]
fn a_waiting_cluster_is_unknown_to_the_others_and_they_to_it_until_it_is_approved() {
    let (set, _) = with_member(&empty_set(), "east", &authority("east.example"));
    let west = authority("west.example");
    let (state, _) = with_waiting(&set, "west", &west);
    assert_eq!((state.revision, state.log.len()), (set.revision, set.log.len()));
    assert_eq!(known(&state.since("store-1", 0)), ["east".to_owned()].into());
    let record = &state.members[&name("west")];
    assert_eq!(state.known_to(record), (Vec::new(), 0));
    let told = state.told_while_waiting(record);
    assert_eq!((told.reset, told.revision, known(&told)), (true, 0, ["west".to_owned()].into()));
    // It is believed all the same when it watches.
    assert!(state.bundles().contains(&record.member.bundle));

    let approved = state.applied(&state.approve(&name("west"), &west.fingerprint()).unwrap());
    assert_eq!(approved.revision, set.revision + 1);
    let missed = approved.since("store-1", set.revision);
    assert_eq!((missed.reset, known(&missed)), (false, ["west".to_owned()].into()));
    let everything = approved.since("store-1", 0);
    assert_eq!((everything.reset, known(&everything).len()), (true, 2));
    assert_eq!(approved.known_to(&approved.members[&name("west")]).1, approved.revision);
    assert!(approved.approve(&name("west"), &west.fingerprint()).unwrap().is_empty());
}

#[test]
fn nobody_is_approved_in_the_place_of_another() {
    let (west, other) = (authority("west.example"), authority("west.example"));
    let (state, _) = with_waiting(&empty_set(), "west", &west);
    let error = state.approve(&name("west"), &other.fingerprint()).unwrap_err();
    assert!(error.to_string().contains(&format!("joined with the authority {}", west.fingerprint())), "{error}");
    assert_eq!(state.approve(&name("east"), &west.fingerprint()), Err(ApprovalRefusal::Unknown(name("east"))));
    // The operator looked at west, which was removed, and another one has come meanwhile.
    let state = state.applied(&state.remove(&name("west")).unwrap());
    let (state, _) = with_waiting(&state, "west", &other);
    assert!(matches!(state.approve(&name("west"), &west.fingerprint()), Err(ApprovalRefusal::AnotherAuthority { .. })));
}

#[test]
fn a_waiting_cluster_that_is_removed_or_changes_is_told_to_nobody() {
    let west = authority("west.example");
    let (state, _) = with_waiting(&empty_set(), "west", &west);
    let publication = Publication {
        advertise: vec!["moved.example:1".parse().unwrap()],
        region: String::new(),
        zone: String::new(),
        software: "gateway/2".to_owned(),
    };
    let moved = state.applied(&state.publish(&name("west"), publication).unwrap());
    assert!(moved.members[&name("west")].pending);
    assert_eq!(moved.members[&name("west")].member.advertise[0].to_string(), "moved.example:1");
    let removed = moved.applied(&moved.remove(&name("west")).unwrap());
    assert!(removed.members.is_empty());
    assert_eq!((state.revision, moved.revision, removed.revision), (0, 0, 0));
}

#[test]
fn who_was_approved_stays_so_when_it_joins_anew_and_who_was_not_still_waits() {
    let west = authority("west.example");
    for approved in [true, false] {
        let (mut state, first) = with_waiting(&empty_set(), "west", &west);
        assert!(state.join(&first, &cautious(&state)).unwrap().record.pending, "a repetition changes nothing");
        if approved {
            state = state.applied(&state.approve(&name("west"), &west.fingerprint()).unwrap());
        }
        let (state, token) = with_token(&state, "west");
        let again = joining(&state, &token, "west", &west);
        let admitted = state.join(&again, &cautious(&state)).unwrap();
        assert_eq!(admitted.record.pending, !approved);
        assert!(!state.join(&again, &here(&state)).unwrap().record.pending, "approval is not asked for any more");
    }
}

#[test]
fn a_member_that_comes_back_and_waits_is_gone_for_those_who_knew_it() {
    let west = authority("west.example");
    let (state, _) = with_member(&empty_set(), "west", &west);
    let seen = state.revision;
    let state = state.applied(&state.remove(&name("west")).unwrap());
    let (state, _) = with_waiting(&state, "west", &west);
    assert_eq!(state.since("store-1", seen).changes, [Change::Removed(name("west"))]);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, bool),
    Approve(u8),
    Remove(u8),
}

proptest! {
    /// Whatever happens, a watcher that resumes from any revision knows exactly the approved members.
    #[test]
    fn no_watcher_ever_hears_of_a_waiting_cluster(
        steps in prop::collection::vec(
            prop_oneof![
                (0..3_u8, any::<bool>()).prop_map(|(cluster, pending)| Step::Put(cluster, pending)),
                (0..3_u8).prop_map(Step::Approve),
                (0..3_u8).prop_map(Step::Remove),
            ],
            1..30,
        ),
        pick in any::<prop::sample::Index>(),
    ) {
        let mut history = vec![empty_set()];
        for step in steps {
            let state = history.last().unwrap();
            let cluster = |number: u8| name(&format!("c{number}"));
            let writes = match step {
                Step::Put(number, pending) => {
                    let held = state.members.get(&cluster(number));
                    // As in a join: nobody falls back.
                    let pending = pending && held.is_none_or(|held| held.pending);
                    let mut record = MemberRecord { pending, ..record(&format!("c{number}")) };
                    record.member.joined_at = Timestamp(history.len() as u64);
                    vec![Write::Member(record)]
                }
                Step::Approve(number) => match state.members.get(&cluster(number)) {
                    Some(held) => {
                        let fingerprint = held.member.bundle.fingerprints().next().unwrap();
                        state.approve(&cluster(number), &fingerprint).unwrap()
                    }
                    None => Vec::new(),
                },
                Step::Remove(number) => state.remove(&cluster(number)).unwrap_or_default(),
            };
            history.push(state.applied(&writes));
        }
        let members = |state: &State| -> Vec<Member> { state.approved().map(|record| record.member.clone()).collect() };
        let (seen, now) = (pick.get(&history), history.last().unwrap());
        let mut known: std::collections::BTreeMap<_, _> =
            members(seen).into_iter().map(|member| (member.cluster.clone(), member)).collect();
        let missed = now.since("store-1", seen.revision);
        if missed.reset {
            known.clear();
        }
        for change in missed.changes {
            match change {
                Change::Upsert(member) => drop(known.insert(member.cluster.clone(), member)),
                Change::Removed(cluster) => drop(known.remove(&cluster)),
                Change::Federation(_)
                | Change::Foreign(_)
                | Change::ForeignRemoved(_)
                | Change::Revoked(_)
                | Change::Reinstated(_) => {}
            }
        }
        prop_assert_eq!(known.into_values().collect::<Vec<_>>(), members(now));
    }
}
