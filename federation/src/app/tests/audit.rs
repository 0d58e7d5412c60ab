use federation_client::operator::Wanted;
use federation_model::audit::{Action, Entry};
use federation_pki::export::{Examination, Examined};

use super::*;

async fn listed(service: &Service) -> Vec<Entry> {
    service.operator().await.audit(&Wanted::default()).await.unwrap()
}

fn told(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| format!("{} {} {}", entry.event.actor, entry.event.action, entry.event.subject))
        .collect()
}

async fn exported(service: &Service) -> Examined {
    let mut lines = service.operator().await.export_audit().await.unwrap();
    let mut examination = Examination::default();
    while let Some(part) = lines.next().await.unwrap() {
        part.iter().for_each(|line| examination.line(line).unwrap());
    }
    examination.finish().unwrap()
}

#[tokio::test]
async fn everything_that_changes_the_set_is_in_the_log_with_who_did_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = service(&dir).await;
    let west = cluster("west");
    let token = first.token("west").await;
    west.join(&token).await.unwrap();
    let answer = west.join(&token).await.unwrap();
    let client = west.client(&answer);
    client.publish(&Publication { zone: "z".to_owned(), ..Publication::default() }).await.unwrap();
    client.leave().await.unwrap();
    joined(&first, &west).await;
    let mut operator = first.operator().await;
    operator.remove_member(&name("west")).await.unwrap();
    let (_, unused) = operator.create_token(&name("east"), TTL).await.unwrap();
    operator.revoke_token(&unused.id).await.unwrap();
    operator.revoke_token(&unused.id).await.unwrap();
    let expected = [
        "service set-up federation",
        "operator:admin token-created west",
        "member:west join west",
        "member:west member-changed west",
        "member:west member-left west",
        "operator:admin token-created west",
        "member:west join west",
        "operator:admin member-removed west",
        "operator:admin token-created east",
        "operator:admin token-revoked east",
    ];
    let entries = listed(&first).await;
    assert_eq!(told(&entries), expected);
    let joins = Wanted { action: Some(Action::Join), limit: 1, subject: "wes".to_owned(), since: 0 };
    assert_eq!(operator.audit(&joins).await.unwrap(), entries[6..7]);
    assert_eq!(operator.audit(&Wanted { since: 2, ..joins }).await.unwrap(), entries[2..3]);
    let detail = &entries[2].event.detail;
    assert!(
        detail.contains(&format!("token {}, authority {}, from 127.0.0.1", token.id, west.authority.fingerprint())),
        "{detail}"
    );
    assert!(!entries.iter().any(|entry| entry.to_line().contains(&token.to_string())));

    let whole = exported(&first).await;
    assert_eq!((whole.entries, whole.head), (10, entries[9].head()));
    let authority = token.pin;
    assert_eq!(whole.authority, authority);
    first.stopped().await;
    let second = service(&dir).await;
    assert_eq!(listed(&second).await, entries);
    second.token("north").await;
    let later = exported(&second).await;
    assert_eq!((later.entries, later.authority), (11, authority));
}

#[tokio::test]
async fn a_stranger_that_is_refused_again_and_again_writes_one_entry() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let (west, token) = (cluster("west"), service.token("west").await);
    for _ in 0..5 {
        let guessed = JoinToken { secret: TokenSecret::random(), ..token.clone() };
        assert_eq!(refusal(&west.join(&guessed).await.unwrap_err()), Some(Refusal::TokenUnknown));
    }
    let entries = listed(&service).await;
    assert_eq!(told(&entries[2..]), ["stranger:127.0.0.1 join-refused west"]);
    assert!(entries[2].event.detail.starts_with("token-unknown: "), "{:?}", entries[2]);
}

#[tokio::test]
async fn a_member_cannot_fill_the_log_with_changes_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let (_, client) = joined(&service, &cluster("west")).await;
    let zone = |number: u32| Publication { zone: number.to_string(), ..Publication::default() };
    let mut changes = 0;
    let error = loop {
        match client.publish(&zone(changes)).await {
            Ok(_) => changes += 1,
            Err(error) => break error,
        }
        assert!(changes < 100);
    };
    assert!(error.to_string().contains("changes its addresses too often"), "{error}");
    client.publish(&zone(changes - 1)).await.unwrap();
    assert_eq!(listed(&service).await.len(), 3 + usize::try_from(changes).unwrap());
}

#[tokio::test]
async fn the_log_of_a_store_that_was_made_without_one_begins_with_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let other = cluster_in("federation", "federation.internal").authority;
    Store::open(dir.path()).unwrap().create(&State::new("store-1", other.bundle(1))).unwrap();
    let service = service(&dir).await;
    let entries = listed(&service).await;
    assert_eq!(told(&entries), ["service log-started federation", "service authority-changed federation"]);
    assert!(entries[0].event.detail.contains("store store-1") && entries[0].event.detail.contains("0 members"));
}

#[tokio::test]
async fn a_service_whose_log_was_tampered_with_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    service(&dir).await.stopped().await;
    // The last entry is taken off, as somebody would who wants to undo it.
    let database = redb::Database::open(dir.path().join("set.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let table = redb::TableDefinition::<u64, &str>::new("audit");
    transaction.open_table(table).unwrap().remove(1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = format!("{:#}", start(config(dir.path()), CancellationToken::new()).await.unwrap_err());
    assert!(error.contains("it ends with entry 0, and 1 were written"), "{error}");
}

#[tokio::test]
async fn a_long_log_is_exported_whole_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::new("store-1", cluster_in("federation", "federation.internal").authority.bundle(1));
    let store = Store::open(dir.path()).unwrap();
    store.create(&state).unwrap();
    let writes: Vec<_> =
        (0..1000).map(|number| By::service(Timestamp(7)).entry(Action::Join, "west", &number.to_string())).collect();
    store.commit(&writes, 0, &state.applied(&writes)).unwrap();
    drop(store);
    let service = service(&dir).await;
    // And the authority that was replaced.
    assert_eq!(exported(&service).await.entries, 1001);
    assert_eq!(listed(&service).await.len(), 1001);
}
