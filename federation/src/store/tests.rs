use federation_model::{
    revocation::{Revocation, RevocationId, Subject},
    spiffe::TrustDomain,
};

use super::*;
use crate::state::{
    audit::By,
    tests::{authority, empty_set, here, joining, record, with_token},
};

fn commit(store: &Store, state: &State, writes: &[Write]) -> State {
    let after = state.applied(writes);
    store.commit(writes, state.revision, &after).unwrap();
    after
}

/// A set with a member, a used token, a ready one and a removed member.
fn filled(store: &Store) -> State {
    let state = empty_set();
    store.create(&state).unwrap();
    let (with, token) = with_token(&state, "west");
    let writes: Vec<_> = with.tokens.values().map(|token| Write::Token((**token).clone())).collect();
    let state = commit(store, &state, &writes);
    let asked = joining(&state, &token, "west", &authority("west.example"));
    let admitted = state.join(&asked, &here(&state)).unwrap();
    let state = commit(store, &state, &admitted.writes);
    let state = commit(store, &state, &[Write::Member(record("east"))]);
    let state = commit(store, &state, &[Write::MemberGone("east".parse().unwrap())]);
    let state = subjects().into_iter().enumerate().fold(state, |state, (number, subject)| {
        commit(store, &state, &[Write::Revocation(revocation(number as u64, subject))])
    });
    commit(store, &state, &[Write::Reinstated(RevocationId::from_bits(0), Timestamp(9))])
}

/// One of each kind, and one more.
fn subjects() -> Vec<Subject> {
    let trust_domain = TrustDomain::new("west.example").unwrap();
    let id = |text: &str| Subject::parse_id(text).unwrap();
    vec![
        id("spiffe://west.example/lifted"),
        id("spiffe://west.example/ns/a"),
        id("spiffe://west.example/ns/b/*"),
        id("spiffe://north.example/*"),
        Subject::Serial { trust_domain: trust_domain.clone(), serial: "0a0b".parse().unwrap() },
        Subject::Cluster { cluster: "west".parse().unwrap(), trust_domain },
    ]
}

fn revocation(number: u64, subject: Subject) -> Arc<Revocation> {
    let (reason, by) = ("key \"lost\"".parse().unwrap(), "admin".parse().unwrap());
    Arc::new(Revocation { id: RevocationId::from_bits(number), subject, reason, by, at: Timestamp(7) })
}

#[test]
fn a_new_store_is_empty_and_a_reopened_one_holds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.load().unwrap().is_none());
    let state = filled(&store);
    drop(store);
    assert_eq!(Store::open(dir.path()).unwrap().load().unwrap().unwrap(), state);
    assert_eq!((state.revocations.len(), state.reinstated.len(), state.left.len()), (5, 1, 1));
}

#[test]
fn a_store_of_the_version_before_revocations_has_none_and_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let state = empty_set();
    store.create(&state).unwrap();
    let transaction = store.database.begin_write().unwrap();
    assert!(transaction.delete_table(REVOCATIONS).unwrap() && transaction.delete_table(REINSTATED).unwrap());
    transaction.commit().unwrap();
    assert_eq!(store.load().unwrap().unwrap(), state);
    let next = commit(&store, &state, &[Write::Revocation(revocation(1, subjects().remove(0)))]);
    assert_eq!(store.load().unwrap().unwrap(), next);
}

#[test]
fn a_revocation_is_read_as_the_first_version_wrote_it() {
    let text = r#"{"id":"00000000000000ff","subject":{"cluster":{"cluster":"west","trust_domain":"west.example"}},"reason":"key lost","by":"admin","at":7}"#;
    let read = StoredRevocation::parse(text).unwrap();
    assert_eq!(read.to_string(), "cluster west (west.example) was revoked (key lost), revocation 00000000000000ff");
    assert_eq!(StoredRevocation::text(&read), text);
}

#[test]
fn what_was_committed_survives_a_crash_and_what_was_not_never_happened() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let state = filled(&store);
    // A transaction that is under way when the program is killed.
    let transaction = store.database.begin_write().unwrap();
    put(&transaction, &Write::MemberGone("west".parse().unwrap())).unwrap();
    let crashed = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join(FILE), crashed.path().join(FILE)).unwrap();
    drop(transaction);
    let reopened = Store::open(crashed.path()).unwrap();
    assert_eq!(reopened.load().unwrap().unwrap(), state);
    let next = commit(&reopened, &state, &[Write::Member(record("north"))]);
    assert_eq!(reopened.load().unwrap().unwrap(), next);
}

#[test]
fn the_change_log_is_compacted_on_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut state = filled(&store);
    let many: Vec<_> = (0..MAX_LOG + 3).map(|_| Write::Member(record("east"))).collect();
    state = commit(&store, &state, &many);
    let loaded = store.load().unwrap().unwrap();
    assert_eq!(loaded.log.len(), MAX_LOG);
    assert_eq!(loaded, state);
}

#[test]
fn only_this_user_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    filled(&store);
    let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_store_of_another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    filled(&store);
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(NUMBERS).unwrap().insert(KEY_SCHEMA, 9).unwrap();
    transaction.commit().unwrap();
    assert!(store.load().unwrap_err().to_string().contains("has format 9"));
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    filled(&store);
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(MEMBERS).unwrap().insert("west", "{}").unwrap();
    transaction.commit().unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(error.contains("holds west that cannot be read: missing field"), "{error}");
}

#[test]
fn foreign_trust_domains_survive_and_a_store_from_before_them_is_read_as_having_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let state = filled(&store);
    assert!(store.load().unwrap().unwrap().foreign.is_empty());
    let [spiffe, web] = crate::state::foreign::tests::records();
    let state = commit(&store, &state, &[Write::Foreign(spiffe), Write::ForeignQuietly(web.clone())]);
    assert_eq!((store.load().unwrap().unwrap(), state.foreign.len()), (state.clone(), 2));
    let state = commit(&store, &state, &[Write::ForeignGone(web.source.trust_domain)]);
    drop(store);
    assert_eq!(Store::open(dir.path()).unwrap().load().unwrap().unwrap(), state);
}

#[test]
fn a_store_of_the_version_before_marks_knows_none_and_marks_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let state = filled(&store);
    assert!(state.log.iter().all(|logged| logged.mark.is_some()));
    let transaction = store.database.begin_write().unwrap();
    assert!(transaction.delete_table(MARKS).unwrap());
    transaction.open_table(NUMBERS).unwrap().insert(KEY_SCHEMA, 2).unwrap();
    transaction.commit().unwrap();
    let loaded = store.load().unwrap().unwrap();
    let revisions = |state: &State| state.log.iter().map(|logged| logged.revision).collect::<Vec<_>>();
    assert_eq!((revisions(&loaded), loaded.mark()), (revisions(&state), None));
    let next = commit(&store, &loaded, &[Write::Member(record("north"))]);
    let marked: Vec<_> = next.log.iter().filter(|logged| logged.mark.is_some()).collect();
    assert_eq!((marked.len(), marked[0].revision), (1, next.revision));
    drop(store);
    assert_eq!(Store::open(dir.path()).unwrap().load().unwrap().unwrap(), next);
}

#[test]
fn a_store_that_goes_on_under_another_id_keeps_its_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let by = By::service(Timestamp(7));
    let entry = |subject: &str| by.entry(federation_model::audit::Action::Join, subject, "");
    let mut state = commit(&store, &filled(&store), &[entry("west")]);
    for id in ["store-2", "store-3"] {
        let writes = state.recover(id.into());
        let told = state.told(&writes, &by);
        state = commit(&store, &state, &[writes, told].concat());
    }
    let state = commit(&store, &state, &[entry("east")]);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let loaded = store.load().unwrap().unwrap();
    assert_eq!((&*loaded.store_id, &*loaded.audit.origin), ("store-3", "store-1"));
    assert_eq!(loaded, state);
    let all = store.entries(1, 99).unwrap();
    let start = federation_model::audit::Start::of(&loaded.audit.origin, 1);
    assert_eq!(federation_model::audit::verify(&all, start), Ok(state.audit.head));
}
