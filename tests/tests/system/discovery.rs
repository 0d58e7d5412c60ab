//! Services and their names: what one cluster writes down, and what the others find.

use std::{collections::BTreeSet, io::ErrorKind};

use tests::{
    client::{line, part},
    dns::{self, NO_ERROR, NO_SUCH_NAME, REFUSED, Type},
    fleet::{Cluster, Fleet, host_of},
    manifests::Export,
    probe::Echo,
    wait::until,
};

const API: &str = "production/api";

/// Waits until the name has (no) addresses in a cluster.
async fn resolves(cluster: &Cluster, host: &str, addresses: usize) {
    until(&format!("{host} has {addresses} addresses in {}", cluster.name()), async || {
        (cluster.resolve(host).await.len() == addresses).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_name_appears_and_disappears_in_the_other_cluster_with_its_manifest() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let host = host_of(API);
    assert_eq!(dns::ask(east.dns(), &host, Type::A).await.unwrap().code, NO_SUCH_NAME);
    let export = Export::new(API, 8080, west.host(10));
    for _ in 0..2 {
        west.export(&export);
        resolves(east, &host, 1).await;
        resolves(west, &host, 1).await;
        west.withdraw(&export);
        resolves(east, &host, 0).await;
        resolves(west, &host, 0).await;
    }
    assert_eq!(dns::ask(east.dns(), &host, Type::A).await.unwrap().code, NO_SUCH_NAME);
}

#[tokio::test]
async fn names_answer_by_type_and_over_both_transports() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    west.export(&Export::new(API, 8080, west.host(10)));
    resolves(east, &host_of(API), 1).await;
    let (server, host) = (east.dns(), host_of(API));

    let a = dns::ask(server, &host, Type::A).await.unwrap();
    assert!(a.authoritative && a.records[0].ttl == 5, "{a:?}");
    assert_eq!(dns::ask_over_tcp(server, &host, Type::A).await.unwrap().records, a.records);
    let upper = dns::ask(server, &host.to_uppercase(), Type::A).await.unwrap();
    assert_eq!(upper.addresses(), a.addresses(), "names know no case");

    let srv = dns::ask(server, &format!("_main._tcp.{host}"), Type::Srv).await.unwrap();
    assert!(srv.records[0].data.ends_with(&format!(" 8080 {host}")), "{srv:?}");
    let version = dns::ask(server, "dns-version.clusterset.local", Type::Txt).await.unwrap();
    assert_eq!((version.records[0].data.as_str(), version.records[0].ttl), ("1.0.0", 28_800));

    let no_data = dns::ask(server, &host, Type::Aaaa).await.unwrap();
    assert_eq!((no_data.code, no_data.records.len()), (NO_ERROR, 0));
    assert_eq!(no_data.authority[0].kind, Type::Soa as u16, "a negative answer says how long it holds");
    let unknown = dns::ask(server, "nobody.production.svc.clusterset.local", Type::A).await.unwrap();
    assert_eq!((unknown.code, unknown.authority[0].kind), (NO_SUCH_NAME, Type::Soa as u16));
    assert_eq!(dns::ask(server, "example.com", Type::A).await.unwrap().code, REFUSED);
}

#[tokio::test]
async fn a_bad_manifest_is_set_aside_with_its_reason_while_everything_else_stays() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let west = &fleet["west"];
    let _echo = Echo::start("west", west.at(10, 8080), false).await.unwrap();
    west.export(&Export::new(API, 8080, west.host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let bad = Export { port: 0, ..Export::new("production/bad", 8080, west.host(11)) };
    west.write("bad.yaml", &bad.yaml());
    west.write("worse.yaml", "kind: [\n");
    let quarantined = until("both files are quarantined", async || {
        let quarantined = west.admin().await.status().await.unwrap().quarantined;
        let files: BTreeSet<_> =
            quarantined.iter().map(|q| q.file.rsplit('/').next().unwrap_or("").to_owned()).collect();
        files.is_superset(&["bad.yaml".to_owned(), "worse.yaml".to_owned()].into()).then_some(quarantined)
    })
    .await;
    let fault = quarantined.iter().find(|q| q.file.ends_with("bad.yaml")).unwrap();
    assert!(fault.object.contains("production/bad") && fault.reason.contains("port"), "{fault:?}");
    assert!(fault.line > 0, "{fault:?}");
    let findings = west.admin().await.check().await.unwrap();
    assert!(findings.iter().any(|finding| finding.detail.contains("worse.yaml")), "{findings:?}");

    let mut stream = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
    let mended = Export::new("production/bad", 8080, west.host(11));
    west.write("bad.yaml", &mended.yaml());
    fleet["east"].sees("production/bad", &["west"]).await;
}

#[tokio::test]
async fn a_service_without_an_export_stays_at_home() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let export = Export::new("production/private", 8080, west.host(10));
    let yaml = export.yaml();
    let (without_export, _) = yaml.rsplit_once("---\n").unwrap();
    west.write("private.yaml", without_export);
    // What is written later is seen later: once the second is there, the first would be.
    west.export(&Export::new(API, 8080, west.host(10)));
    east.sees(API, &["west"]).await;
    assert_eq!(east.resolve(&host_of("production/private")).await.len(), 0);
    assert_eq!(west.resolve(&host_of("production/private")).await.len(), 0);
}

#[tokio::test]
async fn endpoints_of_a_headless_service_have_names_of_their_own_and_are_reached_by_them() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let _zero = Echo::start("zero", west.at(10, 5432), false).await.unwrap();
    let _one = Echo::start("one", west.at(11, 5432), false).await.unwrap();
    let hosts = [west.host(10), west.host(11)];
    let export = Export { headless: true, ..Export::new("production/db", 5432, hosts[0]) }.endpoints(&hosts);
    west.export(&export);
    let service = host_of("production/db");
    resolves(east, &service, 2).await;
    for (ip, name) in hosts.iter().zip(["zero", "one"]) {
        let host = format!("{}.west.{service}", ip.to_string().replace('.', "-"));
        let address = east.resolve(&host).await[0];
        let mut stream = east.dial(east.host(99), (address, 5432).into()).await;
        assert_eq!(line(&mut stream).await.unwrap(), name);
        assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
    }
    west.export(&export.endpoints(&hosts[..1]));
    resolves(east, &service, 1).await;
}

#[tokio::test]
async fn a_conflict_is_decided_by_the_older_export_and_reported_by_every_cluster() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let old = Export::new("production/db", 5432, west.host(10));
    let new = Export { headless: true, ..Export::new("production/db", 5432, east.host(10)) };
    west.export(&Export { created: Some("2024-01-01T00:00:00Z"), ..old });
    east.export(&Export { created: Some("2025-01-01T00:00:00Z"), ..new });
    for cluster in [east, west] {
        cluster.sees("production/db", &["east", "west"]).await;
        let import = cluster.tables().await["imports"]["production/db"].clone();
        assert_eq!(import["type"], "ClusterSetIP", "the older export says what the service is");
        assert_eq!(import["conflicts"].as_array().unwrap().len(), 1, "{import}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_ready_gets_no_connections() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let _ready = Echo::start("ready", west.at(10, 8080), false).await.unwrap();
    let _unready = Echo::start("unready", west.at(11, 8080), false).await.unwrap();
    let export = Export::new(API, 8080, west.host(10)).endpoints(&[west.host(10), west.host(11)]);
    let unready = format!("{{addresses: [\"{}\"]}}", west.host(11));
    let yaml = export.yaml().replace(&unready, &unready.replace('}', ", conditions: {ready: false}}"));
    assert!(yaml.contains("ready: false"));
    west.write(&export.file(), &yaml);
    east.sees(API, &["west"]).await;
    for _ in 0..8 {
        let mut stream = east.connect(API, 8080).await;
        assert_eq!(line(&mut stream).await.unwrap(), "ready");
    }
    let ready = format!("{{addresses: [\"{}\"]}}", west.host(10));
    west.write(&export.file(), &yaml.replace(&ready, &ready.replace('}', ", conditions: {ready: false}}")));
    east.sees(API, &[]).await;
    assert_eq!(east.refusal(API, 8080).await, ErrorKind::ConnectionReset, "there is no ready endpoint left");
    assert_eq!(east.metrics().await.ended("Outbound", "no-healthy-cluster"), 1.0);
}

#[tokio::test]
async fn an_import_keeps_its_address_when_it_comes_back_and_over_a_restart() {
    let mut fleet = Fleet::of(&["east", "west"]).await;
    let export = Export::new(API, 8080, fleet["west"].host(10));
    fleet["west"].export(&export);
    let before = fleet["east"].address_of(API).await;
    for number in 0..20 {
        let more = Export::new(&format!("production/more-{number}"), 8080, fleet["west"].host(10));
        fleet["west"].export(&more);
    }
    fleet["west"].withdraw(&export);
    fleet["east"].sees("production/more-19", &["west"]).await;
    fleet["east"].sees(API, &[]).await;
    fleet["east"].stop().await;
    fleet["west"].export(&export);
    fleet["east"].start().await;
    assert_eq!(fleet["east"].address_of(API).await, before);
}

#[tokio::test]
async fn a_large_catalog_arrives_whole_and_changes_of_it_travel_alone() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let export = |number: usize| Export::new(&format!("production/s{number}"), 8080, west.host(10));
    let all: Vec<_> = (0..600).map(|number| export(number).yaml()).collect();
    west.write("all.yaml", &all.join("---\n"));
    until("all services are imported", async || {
        (east.tables().await["imports"].as_object()?.len() == 600).then_some(())
    })
    .await;
    west.write("all.yaml", &all[1..].join("---\n"));
    until("one service is gone", async || (east.tables().await["imports"].as_object()?.len() == 599).then_some(()))
        .await;
    assert_eq!(east.resolve(&host_of("production/s0")).await.len(), 0);
    assert_eq!(east.resolve(&host_of("production/s599")).await.len(), 1);
    let addresses: BTreeSet<_> = {
        let tables = east.tables().await;
        let imports = tables["imports"].as_object().unwrap().values();
        imports.flat_map(|import| import["addresses"].as_object().unwrap().values().map(ToString::to_string)).collect()
    };
    assert_eq!(addresses.len(), 599, "every service has an address of its own");
}

#[tokio::test]
async fn messages_that_are_no_questions_are_answered_as_such_or_not_at_all() {
    let fleet = Fleet::of(&["east"]).await;
    let server = fleet["east"].dns();
    let question = dns::question(&host_of(API), Type::A);
    let mut broken = question.clone();
    broken.truncate(20);
    assert_eq!(dns::code_of(&dns::exchange(server, &broken).await.unwrap()), Some(dns::FORMAT_ERROR));
    let mut two = question.clone();
    two[5] = 2;
    assert_eq!(dns::code_of(&dns::exchange(server, &two).await.unwrap()), Some(dns::FORMAT_ERROR));
    let mut update = question.clone();
    update[2] = 5 << 3;
    let not_implemented = 4;
    assert_eq!(dns::code_of(&dns::exchange(server, &update).await.unwrap()), Some(not_implemented));
    // Neither an answer nor a shred of a header gets an answer; the next question does.
    let socket = tokio::net::UdpSocket::bind((server.ip(), 0)).await.unwrap();
    let mut response = question.clone();
    response[2] |= 0x80;
    socket.send_to(&response, server).await.unwrap();
    socket.send_to(&question[..7], server).await.unwrap();
    let mut id = question.clone();
    id[..2].copy_from_slice(&[0xab, 0xcd]);
    socket.send_to(&id, server).await.unwrap();
    let mut answer = [0; 512];
    let (_, from) = socket.recv_from(&mut answer).await.unwrap();
    assert_eq!((from, &answer[..2]), (server, &[0xab, 0xcd][..]), "only the question was answered");
}
