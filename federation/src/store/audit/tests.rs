use federation_model::audit::verify;

use super::{super::*, *};
use crate::state::{
    audit::By,
    tests::{NOW, empty_set, record},
};

fn entry(number: u64) -> Write {
    let action = if number % 2 == 1 { Action::Join } else { Action::MemberLeft };
    By::service(NOW).entry(action, &format!("cluster-{number}"), "")
}

fn commit(store: &Store, state: &State, writes: &[Write]) -> State {
    let after = state.applied(writes);
    store.commit(writes, state.revision, &after).unwrap();
    after
}

/// A store with entries 1 to `length`, three in each transaction.
fn filled(directory: &Path, length: u64) -> (Store, State) {
    let store = Store::open(directory).unwrap();
    let mut state = empty_set();
    store.create(&state).unwrap();
    let numbers: Vec<u64> = (1..=length).collect();
    for chunk in numbers.chunks(3) {
        state = commit(&store, &state, &chunk.iter().copied().map(entry).collect::<Vec<_>>());
    }
    (store, state)
}

/// What somebody did to the store.
type Tampered<'a> = &'a dyn Fn(&WriteTransaction);

fn numbers(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.index).collect()
}

#[test]
fn entries_are_on_disk_with_what_they_tell_of_and_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = filled(dir.path(), 10);
    let state = commit(&store, &state, &[Write::Member(record("west")), entry(11)]);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.load().unwrap().unwrap(), state);
    let all = store.entries(1, 99).unwrap();
    assert_eq!(verify(&all, Start::of("store-1", 1)), Ok(state.audit.head));
    assert_eq!(numbers(&store.entries(4, 2).unwrap()), [4, 5]);
    let find = |wanted: Wanted| numbers(&store.find(&wanted).unwrap());
    let any = Wanted { limit: 3, ..Wanted::default() };
    assert_eq!(find(any.clone()), [9, 10, 11], "the newest");
    assert_eq!(find(Wanted { since: Some(2), ..any.clone() }), [2, 3, 4]);
    assert_eq!(find(Wanted { action: Some(Action::MemberLeft), ..any.clone() }), [6, 8, 10]);
    assert_eq!(find(Wanted { subject: "r-1".to_owned(), limit: 9, ..any }), [1, 10, 11]);
    // Words that stand elsewhere in an entry, and characters that JSON escapes.
    for text in ["join", "service", "\"", "\\"] {
        assert_eq!(find(Wanted { subject: text.to_owned(), ..any.clone() }), [0; 0], "{text}");
    }
    let odd = commit(&store, &state, &[By::service(NOW).entry(Action::Join, "a \"b\" \\ c", "")]);
    assert_eq!(find(Wanted { subject: "\"b\" \\".to_owned(), ..any }), [odd.audit.head.index]);
}

#[test]
fn an_entry_survives_a_crash_together_with_its_change_or_neither_does() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = filled(dir.path(), 4);
    let writes = [Write::Member(record("west")), entry(5)];
    let after = state.applied(&writes);
    let transaction = store.database.begin_write().unwrap();
    writes.iter().for_each(|write| put(&transaction, write).unwrap());
    store.put_audit(&transaction, &writes, &after).unwrap();
    let crashed = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join(FILE), crashed.path().join(FILE)).unwrap();
    drop(transaction);
    let reopened = Store::open(crashed.path()).unwrap();
    assert_eq!(reopened.load().unwrap().unwrap(), state);
    let next = commit(&reopened, &state, &writes);
    assert_eq!(reopened.load().unwrap().unwrap(), next);
}

#[test]
fn only_so_many_entries_are_kept_and_the_log_says_where_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut state) = filled(dir.path(), 4);
    state.audit.limit = 6;
    for number in 5..=9 {
        state = commit(&store, &state, &[entry(number)]);
    }
    assert_eq!((state.audit.first, state.audit.head.index), (4, 9));
    let loaded = store.load().unwrap().unwrap().audit;
    assert_eq!((loaded.first, loaded.head), (4, state.audit.head));
    assert_eq!(numbers(&store.entries(1, 99).unwrap()), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_log_that_was_tampered_with_keeps_the_service_from_starting_and_is_named() {
    let change = |change: Tampered<'_>| {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = filled(dir.path(), 9);
        let transaction = store.database.begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
        store.load().unwrap_err().to_string()
    };
    let table = |transaction: &WriteTransaction, change: &dyn Fn(&mut redb::Table<'_, u64, &str>)| {
        change(&mut transaction.open_table(AUDIT).unwrap());
    };
    let line = |table: &redb::Table<'_, u64, &str>, index: u64| table.get(index).unwrap().unwrap().value().to_owned();
    let cases: [(&str, Tampered<'_>); 8] = [
        ("entry 7 was changed", &|transaction| {
            table(transaction, &|table| {
                let changed = line(table, 7).replace("cluster-7", "cluster-8");
                table.insert(7, &*changed).unwrap();
            });
        }),
        ("entry 4 is not an entry: it says that it is entry 5", &|transaction| {
            table(transaction, &|table| {
                let other = line(table, 5);
                table.insert(4, &*other).unwrap();
            });
        }),
        ("entries 1 to 9 should be there, and there are 8 entries", &|transaction| {
            table(transaction, &|table| drop(table.remove(4).unwrap()));
        }),
        ("it ends with entry 8, and 9 were written", &|transaction| {
            table(transaction, &|table| drop(table.remove(9).unwrap()));
        }),
        ("entry 9 was rewritten", &|transaction| {
            table(transaction, &|table| {
                let before = Entry::from_line(&line(table, 8)).unwrap();
                let event = Entry::from_line(&line(table, 2)).unwrap().event;
                table.insert(9, &*Entry::next(&before.head(), NOW, event).to_line()).unwrap();
            });
        }),
        ("it ends with entry 0, and 9 were written", &|transaction| {
            transaction.delete_table(AUDIT).unwrap();
        }),
        ("it ends with entry 9, and 0 were written", &|transaction| {
            transaction.open_table(TEXTS).unwrap().remove(KEY_HEAD).unwrap();
        }),
        ("entry 3 is not an entry: ", &|transaction| {
            table(transaction, &|table| drop(table.insert(3, "{}").unwrap()));
        }),
    ];
    for (reason, tampered) in cases {
        let error = change(tampered);
        assert!(error.contains(reason) && error.contains("restore a backup"), "{reason}: {error}");
    }
}

#[test]
fn the_beginning_of_a_log_that_is_kept_whole_must_be_that_of_this_store() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = filled(dir.path(), 5);
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(TEXTS).unwrap().insert(KEY_STORE_ID, "another").unwrap();
    transaction.commit().unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(error.contains("entry 1 is not the beginning of this store's log"), "{error}");
}

/// The tables of the format before there was an audit log.
#[test]
fn a_store_of_the_format_before_is_read_and_is_of_this_one_from_its_next_write_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let state = empty_set();
    store.create(&state).unwrap();
    let text = r#"{"cluster":"west","gateway_id":"spiffe://west.example/landbridge/gateway","advertise":["gateway.example:15443"],"bundle":{"trust_domain":"west.example","sequence":1,"authorities":["AQID"]},"region":"","zone":"","joined_at":0,"software":"gateway/1","token":"0123456789abcdef"}"#;
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(NUMBERS).unwrap().insert(KEY_SCHEMA, OLDEST_SCHEMA).unwrap();
    transaction.open_table(MEMBERS).unwrap().insert("west", text).unwrap();
    transaction.commit().unwrap();
    let loaded = store.load().unwrap().unwrap();
    assert!(!loaded.members[&"west".parse().unwrap()].pending, "who is in the store was admitted");
    assert_eq!(loaded.audit, state.audit);
    let after = commit(&store, &loaded, &[entry(1)]);
    assert_eq!(store.load().unwrap().unwrap(), after);
    let transaction = store.database.begin_read().unwrap();
    let schema = transaction.open_table(NUMBERS).unwrap().get(KEY_SCHEMA).unwrap().unwrap().value();
    assert_eq!(schema, SCHEMA, "an older program must not take it any more");
}

#[test]
fn what_is_sealed_is_what_is_on_disk_or_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (store, state) = filled(dir.path(), 3);
    let mut other = state.applied(&[entry(4)]);
    other.audit.head = state.audit.head;
    assert!(matches!(store.commit(&[entry(4)], state.revision, &other), Err(StoreError::Audit { .. })));
    assert_eq!(store.load().unwrap().unwrap(), state);
}
