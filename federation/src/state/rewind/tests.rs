use federation_model::{audit::Action, member::Change};
use proto::convert::member::Refusal;

use super::*;
use crate::state::{
    MAX_LOG,
    audit::By,
    tests::{NOW, empty_set, record},
};

/// A revision with the entry that tells of it, as the registry makes them.
fn joined(state: &State, cluster: &str) -> State {
    let mut writes = vec![Write::Member(record(cluster))];
    writes.extend(state.told(&writes, &By::service(NOW)));
    state.applied(&writes)
}

fn seen(state: &State) -> Seen {
    Seen { store_id: state.store_id.to_string(), revision: state.revision, mark: state.mark() }
}

/// A copy of the store, and the store after some more.
fn copied() -> (State, State) {
    let copy = joined(&empty_set(), "west");
    let newer = joined(&joined(&copy, "east"), "north");
    (copy, newer)
}

#[test]
fn a_member_that_knows_a_part_of_this_store_resumes() {
    let (copy, newer) = copied();
    assert_eq!((newer.resume(&seen(&copy)), newer.resume(&seen(&newer))), (Ok(()), Ok(())));
    assert_ne!(copy.mark(), newer.mark());
}

#[test]
fn a_member_that_has_seen_more_than_the_store_holds_is_not_reset() {
    let (copy, newer) = copied();
    let rewound = copy.resume(&seen(&newer)).unwrap_err();
    assert_eq!(rewound, Rewound { seen: 3, at: 1 });
    let told = rewound.to_string();
    assert!(told.contains("has seen revision 3 of the set") && told.contains("is at revision 1"), "{told}");
    assert!(told.contains("fedctl recover"), "{told}");
    // Neither is one that knows no mark: the number alone says it.
    assert_eq!(copy.resume(&Seen { mark: None, ..seen(&newer) }), Err(rewound));
    assert_eq!(Refusal::Rewound.label(), "rewound");
}

#[test]
fn a_restored_store_that_went_on_does_not_hide_it() {
    let (copy, newer) = copied();
    let mut restored = copy;
    for cluster in ["south", "center", "island"] {
        restored = joined(&restored, cluster);
        assert!(restored.resume(&seen(&newer)).is_err(), "at revision {}", restored.revision);
    }
    let told = restored.resume(&seen(&newer)).unwrap_err().to_string();
    assert!(told.contains("has seen another revision 3 of the set") && told.contains("at revision 4"), "{told}");
}

#[test]
fn what_is_not_known_is_not_compared() {
    let (copy, newer) = copied();
    let gone_on = joined(&joined(&joined(&copy, "south"), "center"), "island");
    assert_eq!(gone_on.resume(&Seen { mark: None, ..seen(&newer) }), Ok(()), "the member knows no mark");
    let mut unmarked = gone_on.clone();
    unmarked.log.iter_mut().for_each(|logged| logged.mark = None);
    assert_eq!((unmarked.resume(&seen(&newer)), unmarked.mark()), (Ok(()), None), "the store knows none");
    let mut long = gone_on;
    for _ in 0..MAX_LOG {
        long = joined(&long, "south");
    }
    assert_eq!(long.resume(&seen(&newer)), Ok(()), "the revision is not remembered any more");
}

#[test]
fn a_member_that_has_seen_nothing_or_another_store_is_told_everything() {
    let (copy, newer) = copied();
    let waiting = Seen { revision: 0, ..seen(&newer) };
    let stranger = Seen { store_id: "store-2".to_owned(), ..seen(&newer) };
    assert_eq!((copy.resume(&waiting), copy.resume(&stranger)), (Ok(()), Ok(())));
    assert!(copy.since("store-1", 0).reset && copy.since("store-2", newer.revision).reset);
}

#[test]
fn a_recovered_store_resets_its_members_and_goes_on_with_its_log() {
    let (copy, newer) = copied();
    let writes = copy.recover("store-2".into());
    let told = copy.told(&writes, &By::service(NOW));
    let [Write::Audit { event, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((event.action, &*event.detail), (Action::Restored, "store store-1 goes on as store-2, at revision 1"));
    let recovered = copy.applied(&[writes, told].concat());
    assert_eq!((&*recovered.store_id, recovered.revision), ("store-2", 1));
    assert_eq!((recovered.audit.head.index, &*recovered.audit.origin), (copy.audit.head.index + 1, "store-1"));
    assert_eq!(recovered.resume(&seen(&newer)), Ok(()));
    let missed = recovered.since("store-1", newer.revision);
    assert!(missed.reset && missed.changes.contains(&Change::Upsert(record("west").member)), "{missed:?}");
    // From there on it is a store like every other.
    let next = joined(&recovered, "east");
    assert_eq!(next.resume(&seen(&recovered)), Ok(()));
    assert_eq!(recovered.resume(&seen(&next)), Err(Rewound { seen: 2, at: 1 }));
}
