//! A service whose store was restored from an older copy.

use federation_client::operator::Wanted;
use federation_model::audit::Action;

use super::*;

/// The service, after `change`, with the store that it had before.
async fn restored(dir: &tempfile::TempDir, first: Service, change: impl AsyncFnOnce(&Service)) -> Service {
    let (port, directory) = (first.address.port().number(), first.directory.clone());
    let again = async || {
        let mut config = config(&directory);
        config.grpc.listen.set_port(port);
        service_with(config).await
    };
    first.stopped().await;
    let (store, copy) = (dir.path().join("set.redb"), dir.path().join("copy"));
    std::fs::copy(&store, &copy).unwrap();
    let newer = again().await;
    change(&newer).await;
    newer.stopped().await;
    std::fs::rename(copy, store).unwrap();
    again().await
}

async fn refused(watch: &mut Watch) -> (Option<Refusal>, String) {
    loop {
        match event(watch).await {
            WatchEvent::Disconnected { error: MemberError::Call(error), .. } if error.refusal().is_some() => {
                return (error.refusal(), error.to_string());
            }
            WatchEvent::Disconnected { .. } => {}
            other @ (WatchEvent::Connected { .. } | WatchEvent::Update(_)) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_member_that_has_seen_more_is_not_reset_until_an_operator_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let first = service(&dir).await;
    let (west, east) = (cluster("west"), cluster("east"));
    let (old, _) = joined(&first, &west).await;
    let mut newer = None;
    let service = restored(&dir, first, async |service| {
        newer = Some(joined(service, &east).await);
    })
    .await;
    let (newer, eastern) = newer.unwrap();
    assert_eq!((newer.position.revision, newer.position.store_id.clone()), (2, old.position.store_id.clone()));

    // East is no member here, and must not take that for a removal; nor must west, which is one.
    let western = west.client(&old);
    for client in [&eastern, &western] {
        let (refusal, told) = refused(&mut client.watch(newer.position.clone())).await;
        assert_eq!(refusal, Some(Refusal::Rewound));
        assert!(told.contains("seen revision 2") && told.contains("at revision 1"), "{told}");
    }
    // Nobody but members is in the log, and a member once.
    refused(&mut western.watch(newer.position.clone())).await;
    let mut operator = service.operator().await;
    let wanted = Wanted { action: Some(Action::RewindDetected), ..Wanted::default() };
    let entries = operator.audit(&wanted).await.unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (&*entry.event.subject, &*entry.event.detail)).collect();
    assert_eq!(told, [("west", "it has seen revision 2, the store is at revision 1")]);

    // A member that has seen no more follows.
    let mut open = western.watch(old.position.clone());
    assert!(!update(&mut open).await.reset);
    let recovered = operator.recover().await.unwrap();
    assert_eq!((&recovered.former_store_id, recovered.revision), (&old.position.store_id, 1));
    let reset = update(&mut open).await;
    assert_eq!((reset.reset, &reset.position.store_id), (true, &recovered.store_id), "an open watch hears of it");
    assert!(update(&mut western.watch(newer.position.clone())).await.reset);
    let mut watch = eastern.watch(newer.position.clone());
    let WatchEvent::Disconnected { error, .. } = event(&mut watch).await else { panic!("east is no member") };
    assert!(error.not_a_member() && !error.not_a_member_in(&newer.position.store_id), "{error}");
    service.stopped().await;
}

#[tokio::test]
async fn a_restored_service_that_went_on_has_another_past() {
    let dir = tempfile::tempdir().unwrap();
    let first = service(&dir).await;
    let (answer, western) = joined(&first, &cluster("west")).await;
    let mut seen = None;
    let service = restored(&dir, first, async |service| {
        joined(service, &cluster("east")).await;
        seen = Some(update(&mut western.watch(answer.position.clone())).await.position);
    })
    .await;
    let seen = seen.unwrap();
    joined(&service, &cluster("north")).await;
    joined(&service, &cluster("south")).await;
    let (refusal, told) = refused(&mut western.watch(seen.clone())).await;
    assert_eq!(refusal, Some(Refusal::Rewound));
    assert!(told.contains("seen another revision 2") && told.contains("at revision 3"), "{told}");
    // What nobody marked is not compared.
    let unmarked = Position { mark: None, ..seen };
    assert!(!update(&mut western.watch(unmarked)).await.reset);
    service.stopped().await;
}

#[tokio::test]
async fn a_cluster_that_was_truly_removed_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let (answer, client) = joined(&service, &cluster("west")).await;
    service.operator().await.remove_member(&name("west")).await.unwrap();
    let WatchEvent::Disconnected { error, .. } = event(&mut client.watch(answer.position.clone())).await else {
        panic!("west is no member")
    };
    assert!(error.not_a_member_in(&answer.position.store_id), "{error}");
    service.stopped().await;
}

#[tokio::test]
async fn a_copy_of_before_the_last_recovery_is_not_taken_for_another_store() {
    let dir = tempfile::tempdir().unwrap();
    let first = service(&dir).await;
    let (old, western) = joined(&first, &cluster("west")).await;
    let mut seen = None;
    let service = restored(&dir, first, async |service| {
        service.operator().await.recover().await.unwrap();
        joined(service, &cluster("east")).await;
        seen = Some(update(&mut western.watch(old.position.clone())).await.position);
    })
    .await;
    let seen = seen.unwrap();
    assert_eq!(seen.former, std::slice::from_ref(&old.position.store_id));
    let mut watch = western.watch(seen.clone());
    let told = loop {
        match event(&mut watch).await {
            WatchEvent::Connected { .. } => {}
            WatchEvent::Disconnected { error, .. } => break error,
            WatchEvent::Update(update) => panic!("{update:?}"),
        }
    };
    assert!(told.rewound(), "{told}");
    assert!(told.to_string().contains("a copy older than the recovery"), "{told}");
    assert!(told.to_string().contains("`fedctl recover`"), "{told}");
    service.operator().await.recover().await.unwrap();
    let after = update(&mut western.watch(seen.clone())).await;
    assert!(after.reset);
    assert_eq!(after.position.former, [seen.former[0].clone(), seen.store_id]);
    service.stopped().await;
}

#[tokio::test]
async fn a_member_whose_authority_was_rotated_since_the_copy_is_told_how_to_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let first = service(&dir).await;
    let (west, next) = (cluster("west"), cluster("west"));
    let (old, western) = joined(&first, &west).await;
    let newest = west.member.lineage.newest().unwrap();
    let now = (&west.signer, SystemTime::now().into());
    let rotated = continuity::next(newest, vec![next.authority.certificate().clone()], now).unwrap();
    let lineage = Lineage::new(vec![newest.clone(), rotated.clone()]);
    let service = restored(&dir, first, async |_| {
        western.publish_bundle(&lineage).await.unwrap();
        next.client(&old).publish(&Publication::default()).await.unwrap();
    })
    .await;

    let MemberError::Call(error) = next.client(&old).publish(&Publication::default()).await.unwrap_err() else {
        panic!("the service answers")
    };
    assert_eq!(error.refusal(), Some(Refusal::CertificateRefused));
    let told = error.to_string();
    for words in ["restored from a copy", "`fedctl token create`", "`fedctl leave --force` and `fedctl join`"] {
        assert!(told.contains(words), "{told}");
    }
    // What it is told to do works, as its lineage goes on from what the store knows.
    let member = Member { bundle: rotated.bundle, lineage, ..west.member.clone() };
    let again = Cluster { member, authority: next.authority, signer: next.signer };
    let (_, client) = joined(&service, &again).await;
    client.publish(&Publication::default()).await.unwrap();
    service.stopped().await;
}
