use super::*;

fn cautious(directory: &Path) -> Config {
    let mut config = config(directory);
    config.join.require_approval = true;
    config
}

async fn approve(service: &Service, cluster: &Cluster) -> Result<u64, OperatorError> {
    let fingerprint = cluster.authority.fingerprint();
    service.operator().await.approve_member(&cluster.member.cluster, &fingerprint).await
}

#[tokio::test]
async fn a_cluster_that_waits_is_told_of_itself_alone_and_of_everything_once_it_is_approved() {
    let dir = tempfile::tempdir().unwrap();
    let service = service_with(cautious(dir.path())).await;
    let (east, west) = (cluster("east"), cluster("west"));
    let (_, eastern) = joined(&service, &east).await;
    approve(&service, &east).await.unwrap();
    let mut watching = eastern.watch(Position::default());
    assert_eq!(subjects(&update(&mut watching).await), ["federation", "+east"]);

    let (answer, client) = joined(&service, &west).await;
    assert!(answer.pending && answer.members.is_empty() && answer.position.revision == 0, "{answer:?}");
    let mut waiting = client.watch(answer.position);
    let first = update(&mut waiting).await;
    assert!(first.pending && first.reset && first.position.revision == 0, "{first:?}");
    assert_eq!(subjects(&first), ["federation", "+west"]);
    let listing = service.operator().await.list_members().await.unwrap();
    let status = listing.members.iter().find(|status| status.member.cluster == name("west")).unwrap();
    assert!(status.pending && status.watching);
    // What it says of itself while it waits concerns itself alone.
    let publication = Publication { zone: "z".to_owned(), ..Publication::default() };
    client.publish(&publication).await.unwrap();
    assert_eq!(subjects(&update(&mut waiting).await), ["federation", "+west"]);

    let wrong = service.operator().await.approve_member(&name("west"), &east.authority.fingerprint()).await;
    assert_eq!(wrong.unwrap_err().refusal(), Some(Refusal::AnotherAuthority));
    approve(&service, &west).await.unwrap();
    let whole = update(&mut waiting).await;
    assert!(!whole.pending && whole.reset && whole.position.revision == 2, "{whole:?}");
    assert_eq!(subjects(&whole), ["federation", "+east", "+west"]);
    let told = update(&mut watching).await;
    assert_eq!((told.reset, subjects(&told)), (false, vec!["+west".to_owned()]), "the first that east hears of it");
}

#[tokio::test]
async fn waiting_survives_a_restart_of_the_service_and_a_rejected_cluster_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let first = service_with(cautious(dir.path())).await;
    let (west, north) = (cluster("west"), cluster("north"));
    let (answer, client) = joined(&first, &west).await;
    let (_, northern) = joined(&first, &north).await;
    let port = first.address.port().number();
    first.stopped().await;
    let mut config = cautious(dir.path());
    config.grpc.listen.set_port(port);
    let second = service_with(config).await;
    let mut waiting = client.watch(answer.position.clone());
    assert!(update(&mut waiting).await.pending);
    let mut rejected = northern.watch(answer.position);
    assert!(update(&mut rejected).await.pending);
    second.operator().await.remove_member(&name("north")).await.unwrap();
    let WatchEvent::Disconnected { error, .. } = event(&mut rejected).await else { panic!("the watch goes on") };
    assert!(error.not_a_member(), "{error}");
    approve(&second, &west).await.unwrap();
    let whole = update(&mut waiting).await;
    assert_eq!((whole.pending, subjects(&whole)), (false, vec!["federation".to_owned(), "+west".to_owned()]));
    let metrics = get(second.admin, "/metrics").await;
    for line in ["landbridge_federation_members 1\n", "landbridge_federation_pending_members 0\n"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}
