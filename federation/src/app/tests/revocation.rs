//! Revocations as members and operators meet them at the service.

use federation_client::operator::Acknowledgement;
use federation_model::revocation::{Line, Revocation, RevocationId, Subject};
use proto::convert::revocation::{Asked, Standing};

use super::*;

fn asked(text: &str) -> Asked {
    Asked::Subject(Subject::parse_id(text).unwrap())
}

fn why() -> Line {
    "key lost".parse().unwrap()
}

/// What is told until nobody is waited for any more.
async fn told(operator: &mut OperatorClient, revision: u64) -> Vec<Acknowledgement> {
    let mut acknowledgements = operator.acknowledgements(revision).await.unwrap();
    let mut told = Vec::new();
    while let Some(news) = timeout(DEADLINE, acknowledgements.next()).await.unwrap().unwrap() {
        told.push(news);
    }
    told
}

fn last(told: &[Acknowledgement]) -> Vec<(String, Standing)> {
    let mut standings = std::collections::BTreeMap::new();
    for news in told {
        standings.insert(news.cluster.to_string(), news.standing);
    }
    standings.into_iter().collect()
}

#[tokio::test]
async fn a_revocation_is_told_to_watchers_listed_and_lifted_again() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let (answer, client) = joined(&service, &cluster("west")).await;
    let mut watch = client.watch(answer.position);
    update(&mut watch).await;
    let mut operator = service.operator().await;
    let revoked = operator.revoke(&asked("spiffe://west.example/ns/a/*"), &why()).await.unwrap();
    assert!(!revoked.already && revoked.warnings.is_empty());
    let told = update(&mut watch).await;
    assert_eq!(
        (told.position.revision, subjects(&told)),
        (revoked.revision, vec!["!id spiffe://west.example/ns/a/*".to_owned()])
    );
    let [listed]: [Revocation; 1] = operator.list_revocations().await.unwrap().try_into().unwrap();
    assert_eq!((&listed, listed.by.as_str(), listed.reason.as_str()), (&revoked.revocation, "admin", "key lost"));
    let again = operator.revoke(&asked("spiffe://west.example/ns/a/*"), &why()).await.unwrap();
    assert!(again.already && again.revision == revoked.revision && again.revocation == revoked.revocation);
    let (newcomer, _) = joined(&service, &cluster("east")).await;
    assert!(newcomer.revocations.named(&listed.id).is_some(), "a new member starts with all of them");
    update(&mut watch).await;

    let lifted = operator.reinstate(&listed.id, false).await.unwrap();
    assert_eq!(lifted.revocation, Some(listed.clone()));
    assert_eq!(subjects(&update(&mut watch).await), [format!("~{}", listed.id)]);
    assert!(operator.list_revocations().await.unwrap().is_empty());
    let unknown = operator.reinstate(&RevocationId::from_bits(1), false).await.unwrap_err();
    assert_eq!(unknown.refusal(), Some(Refusal::NotFound));
    assert!(operator.reinstate(&RevocationId::from_bits(1), true).await.unwrap().revocation.is_none());
}

#[tokio::test]
async fn revocations_survive_a_restart_and_are_told_to_whoever_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let first = service(&dir).await;
    let (answer, _) = joined(&first, &cluster("west")).await;
    let west = cluster("west");
    let mut operator = first.operator().await;
    let revoked = operator.revoke(&asked("spiffe://west.example/ns/a/*"), &why()).await.unwrap();
    let other = operator.revoke(&asked("spiffe://west.example/ns/b"), &why()).await.unwrap();
    operator.reinstate(&other.revocation.id, false).await.unwrap();
    drop((west, operator));
    let port = first.address.port().number();
    first.stopped().await;
    let mut config = config(dir.path());
    config.grpc.listen.set_port(port);
    let second = service_with(config).await;
    let listed = second.operator().await.list_revocations().await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&revoked.revocation));
    let (east, client) = joined(&second, &cluster("east")).await;
    assert_eq!(east.position.store_id, answer.position.store_id);
    let everything = update(&mut client.watch(Position::default())).await;
    assert!(everything.reset);
    let told = subjects(&everything);
    assert!(told.contains(&format!("!{}", revoked.revocation.subject)), "{told:?}");
    assert!(told.contains(&format!("~{}", other.revocation.id)), "{told:?}");
}

#[tokio::test]
async fn a_revoked_gateway_id_or_serial_loses_its_watch_and_may_not_call_until_it_has_another_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let west = cluster("west");
    let (answer, client) = joined(&service, &west).await;
    let identity = west.identity(&west.member.gateway_id.to_string());
    let federation = FederationEndpoint {
        addresses: answer.addresses.clone(),
        bundle: answer.federation.clone(),
        id: answer.federation_id.clone(),
    };
    let stolen = MemberClient::new(federation, Arc::clone(&identity)).unwrap();
    let (mut watch, mut other) = (stolen.watch(answer.position.clone()), client.watch(answer.position.clone()));
    update(&mut watch).await;
    update(&mut other).await;
    let serial = Asked::Subject(Subject::Serial {
        trust_domain: west.member.bundle.trust_domain.clone(),
        serial: identity.current().serial().parse().unwrap(),
    });
    let mut operator = service.operator().await;
    operator.revoke(&serial, &why()).await.unwrap();
    let WatchEvent::Disconnected { error, .. } = event(&mut watch).await else { panic!("the watch goes on") };
    assert!(error.to_string().contains("key lost") && !error.not_a_member(), "{error}");
    let MemberError::Call(error) = stolen.publish(&Publication::default()).await.unwrap_err() else { panic!() };
    assert_eq!(error.refusal(), Some(Refusal::Revoked));
    assert_eq!(subjects(&update(&mut other).await).len(), 1, "the other gateway of the cluster goes on");
    assert!(client.publish(&Publication::default()).await.is_ok());

    operator.revoke(&asked(&west.member.gateway_id.to_string()), &why()).await.unwrap();
    let MemberError::Call(error) = client.publish(&Publication::default()).await.unwrap_err() else { panic!() };
    assert_eq!(error.refusal(), Some(Refusal::Revoked));
}

#[tokio::test]
async fn a_revoked_cluster_is_gone_and_does_not_join_again() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let west = cluster("west");
    let (answer, client) = joined(&service, &west).await;
    let mut watch = client.watch(answer.position);
    update(&mut watch).await;
    let mut operator = service.operator().await;
    let revoked = operator.revoke(&Asked::Cluster(name("west")), &why()).await.unwrap();
    assert_eq!(revoked.revocation.subject.to_string(), "cluster west (west.example)");
    let WatchEvent::Disconnected { error, .. } = event(&mut watch).await else { panic!("the watch goes on") };
    assert!(error.not_a_member(), "{error}");
    let token = service.token("west").await;
    let error = west.join(&token).await.unwrap_err();
    assert_eq!(refusal(&error), Some(Refusal::Revoked));
    assert!(error.to_string().contains(&format!("fedctl revoke reinstate {}", revoked.revocation.id)), "{error}");
    operator.reinstate(&revoked.revocation.id, false).await.unwrap();
    assert!(west.join(&token).await.is_ok(), "the token was not spent");
}

#[tokio::test]
async fn acknowledgements_are_told_as_they_come_and_end_when_nobody_who_watches_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let mut operator = service.operator().await;
    assert!(told(&mut operator, 0).await.is_empty(), "a set without members has nobody to wait for");
    let (answer, western) = joined(&service, &cluster("west")).await;
    let (_, eastern) = joined(&service, &cluster("east")).await;
    joined(&service, &cluster("north")).await;
    // West runs two gateways, north none.
    let mut watches = [&western, &western, &eastern].map(|client| client.watch(answer.position.clone()));
    for watch in &mut watches {
        update(watch).await;
    }
    let revoked = operator.revoke(&asked("spiffe://west.example/ns/a"), &why()).await.unwrap();
    let mut acknowledgements = operator.acknowledgements(revoked.revision).await.unwrap();
    let mut next = async || timeout(DEADLINE, acknowledgements.next()).await.unwrap().unwrap();
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(next().await.unwrap());
    }
    let name = |text: &str| text.to_owned();
    let standings =
        vec![(name("east"), Standing::Pending), (name("north"), Standing::Away), (name("west"), Standing::Pending)];
    assert_eq!(last(&first), standings);
    assert!(first.iter().all(|news| news.last_seen.is_some() == (news.cluster.as_str() != "north")), "{first:?}");

    let [west_one, west_two, east] = &mut watches;
    for watch in [&mut *west_one, &mut *east] {
        let told = update(watch).await;
        watch.acknowledge(told.position.revision);
    }
    let news = next().await.unwrap();
    assert_eq!((news.cluster.as_str(), news.standing), ("east", Standing::Acknowledged));
    let told_last = update(west_two).await;
    west_two.acknowledge(told_last.position.revision);
    let news = next().await.unwrap();
    assert_eq!((news.cluster.as_str(), news.standing), ("west", Standing::Acknowledged));
    assert!(next().await.is_none(), "north is away, and not waited for");
    let later = told(&mut operator, revoked.revision).await;
    assert_eq!(later.len(), 3, "whoever asks later is told at once");
    let early = operator.acknowledgements(revoked.revision + 1).await.unwrap_err();
    assert_eq!(early.refusal(), Some(Refusal::Invalid));
}

#[tokio::test]
async fn an_operator_cannot_lock_itself_out_and_can_revoke_a_stolen_credential() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(&dir).await;
    let mut operator = service.operator().await;
    let own = operator.revoke(&asked("spiffe://federation.internal/landbridge/operator/admin"), &why()).await;
    assert_eq!(own.unwrap_err().refusal(), Some(Refusal::OwnIdentity));
    let serial = |certificate: &str| {
        use rustls::pki_types::pem::PemObject as _;
        let der = rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        Asked::Subject(Subject::Serial {
            trust_domain: TrustDomain::new("federation.internal").unwrap(),
            serial: federation_pki::verify::serial_of(&der).unwrap(),
        })
    };
    let file = |name: &str| std::fs::read_to_string(service.operator_dir.join(name)).unwrap();
    for certificate in [file("tls.crt"), file("ca.crt")] {
        let own = operator.revoke(&serial(&certificate), &why()).await.unwrap_err();
        assert_eq!(own.refusal(), Some(Refusal::OwnIdentity), "{own}");
    }
    // The old credential is replaced, and revoked with the new one.
    let (stolen, certificate) = (operator, file("tls.crt"));
    let port = service.address.port().number();
    service.stopped().await;
    std::fs::remove_file(dir.path().join("operator/tls.crt")).unwrap();
    let mut config = config(dir.path());
    config.grpc.listen.set_port(port);
    let service = service_with(config).await;
    drop(stolen);
    let revoked = service.operator().await.revoke(&serial(&certificate), &why()).await.unwrap();
    assert!(revoked.warnings.is_empty(), "{:?}", revoked.warnings);
    assert!(service.operator().await.list_members().await.is_ok());
}
