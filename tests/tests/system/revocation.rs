//! What is revoked: cut at once, refused from then on, and not brought back by anybody's silence.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use federation_client::{
    membership::{FederationEndpoint, MemberClient},
    operator::Revoked,
    watch::{Position, WatchEvent},
};
use federation_model::{
    addr::{Port, Transport},
    caller::Caller,
    outcome::Outcome,
    revocation::{RevocationId, Subject},
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
    trace::TraceContext,
};
use federation_pki::{Validity, ca::SvidRequest, identity::LiveIdentity, trust::TrustStore};
use gateway_core::header::{Destination, StreamHeader, StreamReply};
use proto::convert::{
    member::Refusal,
    revocation::{Asked, Standing},
};
use serde_json::Value;
use tests::{
    client::{line, part, rest, say, soon},
    fleet::{Cluster, Fleet, Settings},
    manifests::{Export, pod},
    peer::{Credential, Peer},
    probe::Echo,
    wait::until,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::fedctl::{fedctl, words};

const API: &str = "production/api";
const WEB: &str = "spiffe://east.example/ns/production/sa/web";
/// The pods of east, by host number: one for each service account.
const PODS: [(u8, &str); 2] = [(20, "web"), (21, "cron")];

/// West serves, and east has two pods that call it.
async fn calling(names: &[&str]) -> (Fleet, Echo) {
    let fleet = Fleet::of(names).await;
    let echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    let east = &fleet["east"];
    let pods = PODS.map(|(host, account)| pod("production", account, account, east.host(host)));
    east.write("pods.yaml", &pods.join("---\n"));
    east.sees(API, &["west"]).await;
    until("the pods are known", async || {
        (east.tables().await["principals"].as_object()?.len() == PODS.len()).then_some(())
    })
    .await;
    (fleet, echo)
}

/// A connection of a pod of east to west, after its greeting.
async fn call(east: &Cluster, host: u8) -> TcpStream {
    let mut stream = east.connect_from(east.host(host), API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    stream
}

async fn is_refused(east: &Cluster, host: u8) {
    east.refusal_from(east.host(host), API, 8080).await;
}

fn id(text: &str) -> Asked {
    Asked::Subject(Subject::parse_id(text).unwrap())
}

/// Revokes something, and waits until everybody has cut it; who was away.
async fn revoke(fleet: &Fleet, asked: Asked) -> (Revoked, Vec<String>) {
    let mut operator = fleet.federation().operator().await;
    let revoked = operator.revoke(&asked, &"key lost".parse().unwrap()).await.unwrap();
    let away = acknowledged(fleet, revoked.revision).await;
    (revoked, away)
}

/// Waits until everybody has acknowledged; who was away.
async fn acknowledged(fleet: &Fleet, revision: u64) -> Vec<String> {
    let mut operator = fleet.federation().operator().await;
    let mut acknowledgements = operator.acknowledgements(revision).await.unwrap();
    let mut standings = std::collections::BTreeMap::new();
    while let Some(news) = soon("an acknowledgement", acknowledgements.next()).await.unwrap() {
        standings.insert(news.cluster.to_string(), news.standing);
    }
    standings.into_iter().filter(|(_, standing)| *standing == Standing::Away).map(|(cluster, _)| cluster).collect()
}

async fn reinstate(fleet: &Fleet, id: RevocationId, force: bool) {
    let lifted = fleet.federation().operator().await.reinstate(&id, force).await.unwrap();
    acknowledged(fleet, lifted.revision).await;
}

async fn serial_of(cluster: &Cluster) -> Subject {
    let status = cluster.admin().await.status().await.unwrap();
    Subject::Serial {
        trust_domain: TrustDomain::new(status.trust_domain).unwrap(),
        serial: status.certificate_serial.parse().unwrap(),
    }
}

/// What a gateway knows to be revoked.
async fn revocations(cluster: &Cluster) -> usize {
    cluster.tables().await["revocations"].as_object().map_or(0, serde_json::Map::len)
}

#[tokio::test]
async fn a_revoked_id_loses_its_live_stream_at_both_ends_and_another_caller_goes_on() {
    let (fleet, _echo) = calling(&["east", "west"]).await;
    let east = &fleet["east"];
    let (mut web, mut cron) = (call(east, 20).await, call(east, 21).await);
    let (revoked, away) = revoke(&fleet, id(WEB)).await;
    assert!(away.is_empty(), "{away:?}");
    assert!(rest(&mut web).await.is_err(), "the live stream is cut, and that is no clean end");
    until("both ends have recorded it", async || {
        let [east, west] = [east.metrics().await, fleet["west"].metrics().await];
        (east.ended("Outbound", "revoked") == 1.0 && west.ended("Inbound", "revoked") == 1.0).then_some(())
    })
    .await;
    is_refused(east, 20).await;
    assert_eq!(say(&mut cron, "still here").await.unwrap(), "still here");
    drop(call(east, 21).await);
    let tables = fleet["west"].tables().await;
    assert_eq!(tables["revocations"][revoked.revocation.id.to_string()], format!("id {WEB}"));

    reinstate(&fleet, revoked.revocation.id, false).await;
    assert_eq!(part(&mut call(east, 20).await).await.unwrap(), "bye\n");
    assert_eq!(part(&mut cron).await.unwrap(), "bye\n");
}

#[tokio::test]
async fn a_revoked_prefix_covers_what_lies_below_it_and_nothing_beside_it() {
    let (fleet, _echo) = calling(&["east", "west"]).await;
    let east = &fleet["east"];
    let (mut web, mut cron) = (call(east, 20).await, call(east, 21).await);
    revoke(&fleet, id("spiffe://east.example/ns/prod/*")).await;
    revoke(&fleet, id("spiffe://east.example/ns/production/sa/we/*")).await;
    assert_eq!(say(&mut web, "untouched").await.unwrap(), "untouched");
    revoke(&fleet, id("spiffe://east.example/ns/production/sa/web/*")).await;
    assert!(rest(&mut web).await.is_err());
    assert_eq!(say(&mut cron, "untouched").await.unwrap(), "untouched");
    revoke(&fleet, id("spiffe://east.example/ns/production/*")).await;
    assert!(rest(&mut cron).await.is_err());
    is_refused(east, 21).await;
    // Whoever is no pod has no id, and so none that was revoked.
    drop(call(east, 99).await);
}

#[tokio::test]
async fn a_destination_refuses_a_revoked_caller_whatever_the_gateway_that_vouches_for_it_does() {
    let mut fleet = Fleet::of(&["west", "mallory"]).await;
    let _echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["mallory"].sees(API, &["west"]).await;
    fleet["mallory"].kill().await;
    let validity = Validity::starting(Timestamp::from(SystemTime::now()), Duration::from_secs(3600));
    let gateway_id = SpiffeId::new("spiffe://mallory.example/landbridge/gateway").unwrap();
    let request = SvidRequest { id: gateway_id, names: Vec::new(), validity };
    let credential = Credential::from(&fleet["mallory"].authority().issue(&request).unwrap());
    let trust = TrustStore::new();
    trust.replace([fleet["west"].authority().bundle(1)]).unwrap();
    let (place, target) = (fleet.place(), (fleet["west"].tunnel(), trust));
    let mut peer = Peer::dial(fleet.network(), place, credential, target).await.unwrap();
    peer.greet("mallory").await.unwrap();
    let header = |account: &str| StreamHeader {
        destination: Destination {
            service: API.parse().unwrap(),
            port: Port::new(8080).unwrap(),
            transport: Transport::Tcp,
            endpoint: None,
        },
        caller: Caller::Vouched { id: SpiffeId::new(format!("spiffe://mallory.example/sa/{account}")).unwrap() },
        trace: TraceContext::from_random(1, 2),
        client: None,
        server_name: None,
    };
    let (_, away) = revoke(&fleet, id("spiffe://mallory.example/sa/web")).await;
    assert_eq!(away, ["mallory"]);
    let mut stream = peer.stream(&header("web").encode().unwrap()).await.unwrap();
    let StreamReply::Refused { outcome, reason, .. } = stream.reply().await else { panic!("it was let in") };
    assert!(outcome == Outcome::Revoked && reason.contains("key lost"), "{outcome}: {reason}");
    let mut stream = peer.stream(&header("cron").encode().unwrap()).await.unwrap();
    assert_eq!(stream.reply().await, StreamReply::Connected);
}

#[tokio::test]
async fn a_revoked_certificate_of_a_gateway_loses_its_tunnel_until_it_has_another_one() {
    let (fleet, _echo) = calling(&["east", "west"]).await;
    let mut cron = call(&fleet["east"], 21).await;
    let serial = serial_of(&fleet["west"]).await;
    let (_, away) = revoke(&fleet, Asked::Subject(serial.clone())).await;
    assert_eq!(away, ["west"], "the service does not listen to the certificate either");
    assert!(rest(&mut cron).await.is_err());
    // Whoever stole the key is out; the gateway itself is told by the service, and issues another certificate.
    until("west has another certificate", async || (serial_of(&fleet["west"]).await != serial).then_some(())).await;
    fleet["east"].reaches("west", true).await;
    fleet["east"].sees(API, &["west"]).await;
    drop(call(&fleet["east"], 21).await);
    until("its gateway knows what is revoked", async || (revocations(&fleet["west"]).await == 1).then_some(())).await;
}

#[tokio::test]
async fn a_revoked_cluster_is_cut_off_and_does_not_come_back_until_it_is_reinstated() {
    let (fleet, _echo) = calling(&["east", "north", "west"]).await;
    let mut cron = call(&fleet["east"], 21).await;
    let (revoked, away) = revoke(&fleet, Asked::Cluster("west".parse().unwrap())).await;
    assert!(away.is_empty(), "{away:?}");
    assert!(rest(&mut cron).await.is_err());
    for name in ["east", "north"] {
        fleet[name].reaches("west", false).await;
        assert_eq!(revocations(&fleet[name]).await, 1);
    }
    fleet["east"].sees(API, &[]).await;
    until("west knows that it is no member", async || {
        let federation = fleet["west"].admin().await.status().await.unwrap().federation?;
        (!federation.joined).then_some(())
    })
    .await;
    let token = fleet.federation().token("west").await;
    let refused = fleet["west"].join(&token).await.unwrap_err().to_string();
    let remedy = format!("fedctl revoke reinstate {}", revoked.revocation.id);
    assert!(refused.contains("key lost") && refused.contains(&remedy), "{refused}");
    reinstate(&fleet, revoked.revocation.id, false).await;
    fleet["west"].join(&token).await.unwrap();
    fleet.connected().await;
    fleet["east"].sees(API, &["west"]).await;
    drop(call(&fleet["east"], 21).await);
}

#[tokio::test]
async fn fedctl_waits_for_the_members_and_names_one_that_is_away() {
    let (mut fleet, _echo) = calling(&["east", "north", "west"]).await;
    fleet["north"].stop().await;
    let (url, operator) = (fleet.federation().grpc(), fleet.federation().store().join("operator"));
    let federation = format!("--federation https://{url} --operator {}", operator.display());
    until("the service knows that north is away", async || {
        let listing = fleet.federation().operator().await.list_members().await.unwrap();
        listing.members.iter().any(|status| !status.watching).then_some(())
    })
    .await;
    let mut web = call(&fleet["east"], 20).await;
    let revoked = fedctl(&words(&format!("revoke id {WEB} --reason lost --yes {federation}"))).await;
    assert!(revoked.code.contains("(0)"), "{revoked:?}");
    assert!(rest(&mut web).await.is_err());
    for part in ["east", "west", "acknowledged", "It may still be believed in north"] {
        assert!(revoked.stdout.contains(part), "{part}: {revoked:?}");
    }
    assert!(revoked.stderr.contains("north is away (last seen"), "the plan says it before: {revoked:?}");
    let again = fedctl(&words(&format!("revoke id {WEB} --yes -o json {federation}"))).await.done();
    let again: Value = serde_json::from_str(&again).unwrap();
    let state = |cluster: &str| {
        let members = again["members"].as_array().unwrap();
        members.iter().find(|member| member["cluster"] == cluster).unwrap()["state"].clone()
    };
    assert_eq!((&again["already"], &again["complete"]), (&Value::Bool(true), &Value::Bool(true)), "{again}");
    assert_eq!(["east", "north", "west"].map(state), ["acknowledged", "away", "acknowledged"]);

    // Who was away learns of it when it is back, and until then nobody claims that it has.
    fleet["north"].start().await;
    until("north knows it", async || (revocations(&fleet["north"]).await == 1).then_some(())).await;
    let listed = fedctl(&words(&format!("revoke list {federation}"))).await.done();
    assert!(listed.contains(WEB) && listed.contains("lost"), "{listed}");
    let id = again["revocation"]["id"].as_str().unwrap();
    let lifted = fedctl(&words(&format!("revoke reinstate {id} {federation}"))).await.done();
    assert!(lifted.contains("is believed again"), "{lifted}");
    let unknown = fedctl(&words(&format!("revoke reinstate 00000000000000aa {federation}"))).await;
    assert!(unknown.code.contains("(2)") && unknown.stderr.contains("--force"), "{unknown:?}");
    until("east and west have lifted it", async || {
        let held = [revocations(&fleet["east"]).await, revocations(&fleet["west"]).await];
        (held == [0, 0]).then_some(())
    })
    .await;
    drop(call(&fleet["east"], 20).await);
}

#[tokio::test]
async fn fedctl_fails_when_a_member_that_is_there_does_not_acknowledge_in_time() {
    let mut fleet = Fleet::of(&["east", "west"]).await;
    // West's gateway makes way for one that follows the service and cuts nothing.
    fleet["west"].stop().await;
    let mut operator = fleet.federation().operator().await;
    let listing = operator.list_members().await.unwrap();
    let endpoint = FederationEndpoint {
        addresses: vec![fleet.federation().grpc().to_string().parse().unwrap()],
        bundle: listing.federation,
        id: listing.federation_id,
    };
    let validity = Validity::starting(Timestamp::from(SystemTime::now()), Duration::from_secs(3600));
    let gateway_id = SpiffeId::new("spiffe://west.example/landbridge/gateway").unwrap();
    let svid = fleet["west"].authority().issue(&SvidRequest { id: gateway_id, names: Vec::new(), validity }).unwrap();
    let client = MemberClient::new(endpoint, Arc::new(LiveIdentity::new(svid))).unwrap();
    let mut watch = client.watch(Position::default());
    while !matches!(soon("the watch", watch.next()).await, WatchEvent::Update(_)) {}
    let (url, directory) = (fleet.federation().grpc(), fleet.federation().store().join("operator"));
    let command =
        format!("revoke id {WEB} --yes --wait 1s --federation https://{url} --operator {}", directory.display());
    let late = fedctl(&words(&command)).await;
    assert!(late.code.contains("(1)"), "{late:?}");
    assert!(late.stdout.contains("Not every member has cut it off in time: west"), "{late:?}");
    // It is revoked all the same.
    assert_eq!(operator.list_revocations().await.unwrap().len(), 1);
    until("east has cut it", async || (revocations(&fleet["east"]).await == 1).then_some(())).await;
}

#[tokio::test]
async fn revocations_survive_restarts_and_are_in_force_without_the_federation_service() {
    let (mut fleet, _echo) = calling(&["east", "west"]).await;
    let (revoked, _) = revoke(&fleet, id(WEB)).await;
    fleet.stop_federation().await;
    for name in ["east", "west"] {
        fleet[name].stop().await;
        fleet[name].start().await;
    }
    fleet["east"].sees(API, &["west"]).await;
    is_refused(&fleet["east"], 20).await;
    drop(call(&fleet["east"], 21).await);
    for name in ["east", "west"] {
        assert_eq!(revocations(&fleet[name]).await, 1, "{name}");
    }
    fleet.start_federation().await;
    let listed = fleet.federation().operator().await.list_revocations().await.unwrap();
    assert_eq!(listed, [revoked.revocation]);
    fleet.add(Settings::of("north")).await;
    fleet.join("north").await;
    assert_eq!(revocations(&fleet["north"]).await, 1, "a new member starts with it");
}

#[tokio::test]
async fn a_federation_service_restored_from_an_old_backup_brings_no_revoked_identity_back() {
    let (mut fleet, _echo) = calling(&["east", "north", "west"]).await;
    fleet.stop_federation().await;
    let file = fleet.federation().store().join("set.redb");
    let backup = std::fs::read(&file).unwrap();
    fleet.start_federation().await;
    until("everybody follows the service again", async || {
        let listing = fleet.federation().operator().await.list_members().await.unwrap();
        listing.members.iter().all(|status| status.watching).then_some(())
    })
    .await;
    let (web, away) = revoke(&fleet, id(WEB)).await;
    assert!(away.is_empty(), "{away:?}");
    let (cluster, away) = revoke(&fleet, Asked::Cluster("north".parse().unwrap())).await;
    assert!(away.is_empty(), "{away:?}");
    fleet.stop_federation().await;
    std::fs::write(&file, backup).unwrap();
    fleet.start_federation().await;
    let listing = fleet.federation().operator().await.list_members().await.unwrap();
    assert_eq!(listing.members.len(), 3, "the restored service takes north for a member");
    fleet.federation().operator().await.recover().await.unwrap();
    until("east and west have heard of what the restored service knows", async || {
        let listing = fleet.federation().operator().await.list_members().await.unwrap();
        let mut heard = listing.members.iter().filter(|status| status.member.cluster.as_str() != "north");
        heard.all(|status| status.watching && status.acknowledged == listing.revision).then_some(())
    })
    .await;
    is_refused(&fleet["east"], 20).await;
    drop(call(&fleet["east"], 21).await);
    fleet["east"].knows(&["west"]).await;
    assert_eq!(revocations(&fleet["east"]).await, 2);

    let unknown = fleet.federation().operator().await.reinstate(&web.revocation.id, false).await.unwrap_err();
    assert_eq!(unknown.refusal(), Some(Refusal::NotFound));
    for id in [web.revocation.id, cluster.revocation.id] {
        reinstate(&fleet, id, true).await;
    }
    assert_eq!(part(&mut call(&fleet["east"], 20).await).await.unwrap(), "bye\n");
    fleet["east"].knows(&["north", "west"]).await;
}

/// What one round of a revoked caller who sends without end came to, from the call to revoke it on.
struct Round {
    /// Until the last byte arrived.
    last_byte: Duration,
    /// Until every member had acknowledged.
    acknowledged: Duration,
}

/// Revokes a caller that sends a little every millisecond, and lifts that again.
async fn round(fleet: &Fleet, listener: &TcpListener) -> Round {
    let east = &fleet["east"];
    let mut caller = east.connect_from(east.host(20), "production/sink", 8081).await;
    let (mut callee, _) = soon("a connection", listener.accept()).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(1));
        while caller.write_all(&[7; 256]).await.is_ok() {
            pace.tick().await;
        }
        None
    });
    callee.read_u8().await.unwrap();
    tasks.spawn(async move {
        let (mut buffer, mut last) = ([0; 4096], None);
        while callee.read(&mut buffer).await.is_ok_and(|length| length > 0) {
            last = Some(Instant::now());
        }
        last
    });
    let mut operator = fleet.federation().operator().await;
    let called = Instant::now();
    let revoked = operator.revoke(&id(WEB), &"key lost".parse().unwrap()).await.unwrap();
    let mut acknowledgements = operator.acknowledgements(revoked.revision).await.unwrap();
    while let Some(news) = soon("an acknowledgement", acknowledgements.next()).await.unwrap() {
        assert_ne!(news.standing, Standing::Away, "{news:?}");
    }
    let acknowledged = called.elapsed();
    let ends = soon("the end of the connection", tasks.join_all()).await;
    let last = ends.into_iter().flatten().max().expect("bytes arrived");
    reinstate(fleet, revoked.revocation.id, false).await;
    Round { last_byte: last.saturating_duration_since(called), acknowledged }
}

/// East and west, where a sink takes whatever is sent.
async fn sending() -> (Fleet, Echo, TcpListener) {
    let (fleet, echo) = calling(&["east", "west"]).await;
    let listener = TcpListener::bind(fleet["west"].at(11, 8081)).await.unwrap();
    fleet["west"].export(&Export::new("production/sink", 8081, fleet["west"].host(11)));
    fleet["east"].sees("production/sink", &["west"]).await;
    (fleet, echo, listener)
}

#[tokio::test]
async fn nothing_of_a_revoked_caller_arrives_once_every_member_has_acknowledged() {
    let (fleet, _echo, listener) = sending().await;
    // What a loaded machine may take between the cut and the end of the task that is cut.
    let slack = Duration::from_millis(500);
    for _ in 0..3 {
        let Round { last_byte, acknowledged } = round(&fleet, &listener).await;
        assert!(last_byte < acknowledged + slack, "last byte after {last_byte:?}, acknowledged after {acknowledged:?}");
    }
}

#[tokio::test]
#[ignore = "a measurement: cargo test -p tests --test system last_byte -- --ignored --nocapture"]
async fn the_last_byte_of_a_revoked_caller_comes_within_a_second() {
    let (fleet, _echo, listener) = sending().await;
    let mut rounds = Vec::new();
    for _ in 0..20 {
        rounds.push(round(&fleet, &listener).await);
    }
    for (what, time) in [
        ("the last byte", (|round| round.last_byte) as fn(&Round) -> Duration),
        ("every acknowledgement", |round| round.acknowledged),
    ] {
        let mut times: Vec<_> = rounds.iter().map(time).collect();
        times.sort_unstable();
        println!("revoke until {what}: median {:?}, least {:?}, most {:?}", times[10], times[0], times[19]);
        assert!(times[10] < Duration::from_secs(1), "{what}: {times:?}");
    }
}
