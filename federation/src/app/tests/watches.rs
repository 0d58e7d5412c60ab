//! Watches of members: what they tell, and how they end and resume.

use super::*;

#[tokio::test]
async fn a_watch_tells_changes_as_they_happen_and_acknowledgements_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let (west, east) = (cluster("west"), cluster("east"));
    let (answer, client) = joined(&service, &west).await;
    let mut watch = client.watch(Position::default());
    let first = update(&mut watch).await;
    assert!(first.reset);
    assert_eq!(subjects(&first), ["federation", "+west"]);
    let (_, eastern) = joined(&service, &east).await;
    let second = update(&mut watch).await;
    assert_eq!((second.reset, subjects(&second)), (false, vec!["+east".to_owned()]));
    watch.acknowledge(second.position.revision);
    let mut operator = service.operator().await;
    let shown = timeout(DEADLINE, async {
        loop {
            let listing = operator.list_members().await.unwrap();
            let status = listing.members.into_iter().find(|status| status.member.cluster == name("west")).unwrap();
            if status.acknowledged == second.position.revision {
                return status;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(shown.await.unwrap().watching);
    let publication = Publication { zone: "z".to_owned(), ..Publication::default() };
    let revision = eastern.publish(&publication).await.unwrap();
    let third = update(&mut watch).await;
    assert_eq!((third.position.revision, subjects(&third)), (revision, vec!["+east".to_owned()]));
    assert_eq!(third.position.store_id, answer.position.store_id);
}

#[tokio::test]
async fn a_watch_that_resumes_gets_only_what_it_missed_even_from_a_restarted_service() {
    let dir = tempfile::tempdir().unwrap();
    let first = service(&dir).await;
    let (west, east, north) = (cluster("west"), cluster("east"), cluster("north"));
    let (answer, _) = joined(&first, &west).await;
    joined(&first, &north).await;
    let (_, eastern) = joined(&first, &east).await;
    let port = first.address.port().number();
    let directory = first.directory.clone();
    eastern.leave().await.unwrap();
    first.stopped().await;

    let mut config = config(&directory);
    config.grpc.listen.set_port(port);
    let second = service_with(config).await;
    let mut watch = west.client(&answer).watch(answer.position.clone());
    let missed = update(&mut watch).await;
    assert_eq!((missed.reset, subjects(&missed)), (false, vec!["-east".to_owned(), "+north".to_owned()]));
    second.operator().await.remove_member(&name("north")).await.unwrap();
    assert_eq!(subjects(&update(&mut watch).await), ["-north"]);
}

#[tokio::test]
async fn a_watch_reconnects_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let first = service(&dir).await;
    let (answer, client) = joined(&first, &cluster("west")).await;
    let (port, directory) = (first.address.port().number(), first.directory.clone());
    let mut watch = client.watch(answer.position);
    update(&mut watch).await;
    first.stopped().await;
    let lost = event(&mut watch).await;
    assert!(matches!(lost, WatchEvent::Disconnected { .. }), "{lost:?}");
    let mut config = config(&directory);
    config.grpc.listen.set_port(port);
    let _second = service_with(config).await;
    loop {
        match event(&mut watch).await {
            WatchEvent::Connected { .. } | WatchEvent::Disconnected { .. } => {}
            WatchEvent::Update(update) => {
                assert!(!update.reset && update.changes.is_empty());
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_removed_member_is_told_and_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let (answer, client) = joined(&service, &cluster("west")).await;
    let store_id = answer.position.store_id.clone();
    let mut watch = client.watch(answer.position);
    update(&mut watch).await;
    let mut operator = service.operator().await;
    operator.remove_member(&name("west")).await.unwrap();
    let WatchEvent::Disconnected { error, .. } = event(&mut watch).await else { panic!("the watch goes on") };
    assert!(error.not_a_member() && error.not_a_member_in(&store_id), "{error}");
    let error = client.publish(&Publication::default()).await.unwrap_err();
    assert!(error.not_a_member(), "{error}");
    let again = operator.remove_member(&name("west")).await.unwrap_err();
    assert_eq!(again.refusal(), Some(Refusal::NotFound));
}

#[tokio::test]
async fn a_service_that_lost_its_store_cannot_say_that_a_member_of_the_old_one_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let port = service.address.port().number();
    let (answer, client) = joined(&service, &cluster("west")).await;
    service.stopped().await;
    std::fs::remove_file(dir.path().join("set.redb")).unwrap();
    let mut config = config(dir.path());
    config.grpc.listen.set_port(port);
    let _service = service_with(config).await;
    let error = client.publish(&Publication::default()).await.unwrap_err();
    assert!(error.not_a_member(), "{error}");
    assert!(!error.not_a_member_in(&answer.position.store_id), "{error}");
}
