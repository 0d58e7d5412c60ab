use federation_model::time::Timestamp;

use super::*;
use crate::state::{
    NotAMember,
    tests::{empty_set, record},
};

struct Running {
    _dir: tempfile::TempDir,
    registry: Registry,
    stop: CancellationToken,
    owner: tokio::task::JoinSet<Result<(), StoreError>>,
}

fn by() -> By {
    By::service(Timestamp(7))
}

fn running() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let state = empty_set();
    store.create(&state).unwrap();
    let (registry, owner) = registry(store, state, Arc::new(TrustStore::new()), Metrics::default());
    let (stop, mut tasks) = (CancellationToken::new(), tokio::task::JoinSet::new());
    tasks.spawn(owner.run(stop.clone()));
    Running { _dir: dir, registry, stop, owner: tasks }
}

#[tokio::test]
async fn a_decision_is_in_force_when_its_caller_hears_of_it() {
    let set = running();
    let decision = set.registry.decide(by(), |_| Ok::<_, NotAMember>((vec![Write::Member(record("west"))], "value")));
    assert_eq!(decision.await.unwrap(), ("value", 1));
    assert!(set.registry.state().members.contains_key(&"west".parse().unwrap()));
    let told = set.registry.store().entries(1, 9).unwrap();
    assert_eq!((told.len(), told[0].head()), (1, set.registry.state().audit.head));
}

#[tokio::test]
async fn decisions_see_the_ones_before_them() {
    let set = running();
    let join = |name: &'static str| {
        set.registry.decide(by(), move |state: &State| {
            let count = state.members.len();
            Ok::<_, NotAMember>((vec![Write::Member(record(name))], count))
        })
    };
    let (first, second, third) = tokio::join!(join("a"), join("b"), join("c"));
    assert_eq!([first.unwrap(), second.unwrap(), third.unwrap()], [(0, 1), (1, 2), (2, 3)]);
}

#[tokio::test]
async fn a_refusal_changes_nothing() {
    let set = running();
    let refused = set.registry.decide(by(), |state| state.remove(&"west".parse().unwrap()).map(|writes| (writes, ())));
    assert!(matches!(refused.await, Err(Undecided::Refused(NotAMember(_)))));
    assert_eq!(set.registry.state().revision, 0);
    assert_eq!(set.registry.state().audit.head.index, 0);
}

#[tokio::test]
async fn a_stopped_owner_says_so() {
    let mut set = running();
    set.stop.cancel();
    set.owner.join_next().await.unwrap().unwrap().unwrap();
    let late = set.registry.decide(by(), |_| Ok::<_, NotAMember>((Vec::new(), ())));
    assert!(matches!(late.await, Err(Undecided::Unavailable(reason)) if reason.contains("stopping")));
}
