//! Clusters that go away, come back or cannot be reached: what connections see of it.

use std::{io::ErrorKind, time::Duration};

use tests::{
    client::{bytes, line, not_within, part, rest, say, soon},
    dns::{self, NO_SUCH_NAME, Type},
    fleet::{Fleet, Settings, host_of},
    manifests::Export,
    probe::Echo,
    wait::until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const API: &str = "production/api";

/// East calls; west is preferred, north is next.
async fn preferred_and_next() -> (Fleet, Echo, Echo) {
    let fleet = Fleet::with(["east", "west", "north"].map(Settings::attentive)).await;
    let mut echoes = Vec::new();
    for (name, priority) in [("west", "0"), ("north", "1")] {
        let cluster = &fleet[name];
        echoes.push(Echo::start(name, cluster.at(10, 8080), false).await.unwrap());
        cluster.export(&Export::new(API, 8080, cluster.host(10)).annotated("priority", priority));
    }
    fleet["east"].sees(API, &["north", "west"]).await;
    let (north, west) = (echoes.pop().unwrap(), echoes.pop().unwrap());
    (fleet, west, north)
}

/// Who answers a new connection of east.
async fn answered_by(fleet: &Fleet) -> String {
    let mut stream = fleet["east"].connect(API, 8080).await;
    let name = line(&mut stream).await.unwrap();
    assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
    name
}

#[tokio::test]
async fn connections_go_to_the_next_cluster_when_the_preferred_gateway_dies_and_back_when_it_returns() {
    let (mut fleet, _west, _north) = preferred_and_next().await;
    assert_eq!(answered_by(&fleet).await, "west");
    fleet["west"].kill().await;
    // Before the loss is noticed an attempt may take a while; it must not fail.
    assert_eq!(answered_by(&fleet).await, "north");
    fleet["east"].sees(API, &["north"]).await;
    assert_eq!(answered_by(&fleet).await, "north");
    fleet["west"].start().await;
    fleet["east"].sees(API, &["north", "west"]).await;
    until("west is preferred again", async || (answered_by(&fleet).await == "west").then_some(())).await;
}

#[tokio::test]
async fn a_destination_that_refuses_is_replaced_without_the_client_noticing_and_its_first_bytes_arrive_whole() {
    let (fleet, west, _north) = preferred_and_next().await;
    west.stop().await;
    let sent = bytes(40_000, 11);
    let mut stream = fleet["east"].connect(API, 8080).await;
    stream.write_all(&sent).await.unwrap();
    stream.shutdown().await.unwrap();
    let received = rest(&mut stream).await.unwrap();
    assert_eq!(received, [b"north\n", sent.as_slice(), b"bye\n"].concat());
    let metrics = fleet["east"].metrics().await;
    assert!(metrics.sum("landbridge_gateway_connection_retries_total", &[]) >= 1.0, "{metrics:?}");
}

#[tokio::test]
async fn a_client_that_sends_more_than_is_kept_is_failed_over_whole() {
    let (fleet, west, _north) = preferred_and_next().await;
    west.stop().await;
    let sent = bytes(2 << 20, 13);
    let mut stream = fleet["east"].connect(API, 8080).await;
    let (mut from, mut to) = stream.split();
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let ((), received) = tokio::join!(write, rest(&mut from));
    assert!(received.unwrap() == [b"north\n", sent.as_slice(), b"bye\n"].concat(), "the bytes that came back differ");
}

#[tokio::test]
async fn a_client_whose_gateway_dies_is_not_taken_for_one_that_is_done() {
    let mut fleet = Fleet::with(["east", "west"].map(Settings::attentive)).await;
    let listener = TcpListener::bind(fleet["west"].at(10, 8080)).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let mut client = fleet["east"].connect(API, 8080).await;
    client.write_all(b"half an upl").await.unwrap();
    let (mut server, _) = soon("the connection at its destination", listener.accept()).await.unwrap();
    let mut upload = [0; 11];
    soon("the upload", server.read_exact(&mut upload)).await.unwrap();
    fleet["east"].kill().await;
    assert_eq!(rest(&mut server).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    until("the loss is recorded", async || {
        (fleet["west"].metrics().await.ended("Inbound", "tunnel-lost") == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refusal_everywhere_is_told_honestly() {
    let (fleet, west, north) = preferred_and_next().await;
    west.stop().await;
    north.stop().await;
    let refusal = fleet["east"].refusal(API, 8080).await;
    assert_eq!(refusal, ErrorKind::ConnectionReset, "an end would look like an empty answer");
    assert_eq!(fleet["east"].metrics().await.ended("Outbound", "connect-refused"), 1.0);
}

#[tokio::test]
async fn a_partition_withdraws_the_services_beyond_it_and_healing_brings_them_back() {
    let fleet = Fleet::with(["east", "west"].map(Settings::attentive)).await;
    let _echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let mut open = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut open).await.unwrap(), "west");

    fleet.partition("east", "west");
    fleet["east"].reaches("west", false).await;
    fleet["west"].reaches("east", false).await;
    let answer = dns::ask(fleet["east"].dns(), &host_of(API), Type::A).await.unwrap();
    assert_eq!(answer.code, NO_SUCH_NAME);
    assert!(rest(&mut open).await.is_err(), "a lost connection must not look complete");

    fleet.heal("east", "west");
    fleet["east"].sees(API, &["west"]).await;
    assert_eq!(answered_by(&fleet).await, "west");
}

#[tokio::test]
async fn services_of_a_lost_peer_keep_their_names_for_the_hold_down() {
    let east = Settings { tunnel: "hold_down = \"3s\"".to_owned(), ..Settings::attentive("east") };
    let fleet = Fleet::with([east, Settings::attentive("west")]).await;
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let address = fleet["east"].address_of(API).await;
    fleet.partition("east", "west");
    fleet["east"].reaches("west", false).await;
    assert_eq!(fleet["east"].resolve(&host_of(API)).await, [address]);
    assert_eq!(fleet["east"].refusal(API, 8080).await, ErrorKind::ConnectionReset, "nobody is there to serve it");
    until("the name is gone", async || fleet["east"].resolve(&host_of(API)).await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn transfers_complete_over_a_path_that_loses_and_delays() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let _echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    fleet.weather(0.05, Duration::from_millis(20));
    let mut stream = fleet["east"].connect(API, 8080).await;
    let sent = bytes(512 << 10, 5);
    let (mut from, mut to) = stream.split();
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let ((), received) = tokio::join!(write, rest(&mut from));
    assert_eq!(received.unwrap(), [b"west\n", sent.as_slice(), b"bye\n"].concat());
    assert!(fleet.network().dropped() > 20, "the path lost nothing: {}", fleet.network().dropped());
}

#[tokio::test]
async fn a_cluster_joins_over_a_path_that_loses_and_delays() {
    let mut fleet = Fleet::of(&["east"]).await;
    fleet.weather(0.1, Duration::from_millis(20));
    fleet.add(Settings::of("west")).await;
    fleet.join("west").await;
    fleet.connected().await;
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
}

#[tokio::test]
async fn a_gateway_that_is_stopped_lets_open_connections_finish_and_loses_none() {
    let (mut fleet, _west, _north) = preferred_and_next().await;
    // One connection through the draining gateway as the destination, one as the source.
    let _east = Echo::start("east", fleet["east"].at(10, 9090), false).await.unwrap();
    fleet["east"].export(&Export::new("production/back", 9090, fleet["east"].host(10)));
    fleet["west"].sees("production/back", &["east"]).await;
    let mut into = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut into).await.unwrap(), "west");
    let mut out = fleet["west"].connect("production/back", 9090).await;
    assert_eq!(line(&mut out).await.unwrap(), "east");

    fleet["west"].ask_to_stop();
    fleet["east"].sees(API, &["north"]).await;
    assert_eq!(answered_by(&fleet).await, "north", "new connections go elsewhere");
    until("the draining gateway says so", async || {
        fleet["west"].get("/readyz").await.filter(|(status, body)| *status == 503 && body.contains("shutting down"))
    })
    .await;
    for (stream, size) in [(&mut into, 300_000), (&mut out, 200_000)] {
        let sent = bytes(size, 1);
        let (mut from, mut to) = stream.split();
        let write = async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let ((), received) = tokio::join!(write, rest(&mut from));
        assert_eq!(received.unwrap(), [sent.as_slice(), b"bye\n"].concat());
    }
    soon("the gateway has drained", fleet["west"].stop()).await;
    assert_eq!(fleet["east"].metrics().await.ended("Outbound", "completed"), 2.0);
}

#[tokio::test]
async fn connections_that_outlive_the_grace_are_cut_and_not_ended_cleanly() {
    let west = Settings::of("west").limits("drain_timeout = \"200ms\"");
    let mut fleet = Fleet::with([Settings::of("east"), west]).await;
    let _echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let mut stream = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    soon("the gateway stops although a connection is open", fleet["west"].stop()).await;
    assert!(rest(&mut stream).await.is_err(), "a connection that was cut must not look complete");
}

#[tokio::test]
async fn a_destination_that_never_accepts_is_given_up_in_time() {
    let west = Settings::of("west").limits("connect_timeout = \"300ms\"");
    let fleet = Fleet::with([Settings::of("east"), west]).await;
    // TEST-NET-1 answers nobody; where the host says so at once, that is a refusal.
    fleet["west"].export(&Export::new(API, 8080, "192.0.2.1".parse().unwrap()));
    fleet["east"].sees(API, &["west"]).await;
    assert_eq!(fleet["east"].refusal(API, 8080).await, ErrorKind::ConnectionReset);
    let metrics = fleet["east"].metrics().await;
    let given_up = metrics.ended("Outbound", "connect-timeout") + metrics.ended("Outbound", "connect-refused");
    assert_eq!(given_up, 1.0, "{metrics:?}");
}

#[tokio::test]
async fn a_connection_survives_a_short_outage_of_the_path() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let listener = TcpListener::bind(fleet["west"].at(10, 8080)).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let mut client = fleet["east"].connect(API, 8080).await;
    client.write_all(b"before\n").await.unwrap();
    let (mut server, _) = soon("the connection at its destination", listener.accept()).await.unwrap();
    assert_eq!(line(&mut server).await.unwrap(), "before");
    fleet.partition("east", "west");
    client.write_all(b"during\n").await.unwrap();
    not_within(Duration::from_millis(300), "the partition let something through", line(&mut server)).await;
    fleet.heal("east", "west");
    assert_eq!(line(&mut server).await.unwrap(), "during");
    drop(server);
    assert!(say(&mut client, "after").await.is_err());
}

#[tokio::test]
async fn a_gateway_that_died_and_is_back_disowns_its_old_tunnels_long_before_they_would_time_out() {
    let patient = |name: &str| Settings { lease: Duration::from_secs(400), ..Settings::of(name) };
    let mut fleet = Fleet::with(["east", "west"].map(patient)).await;
    fleet["west"].kill().await;
    fleet["west"].start().await;
    // West has a tunnel again, by whoever dialled, and east holds no dead one beside it.
    fleet["west"].reaches("east", true).await;
    until("the old tunnel is given up", async || {
        let status = fleet["east"].admin().await.status().await.unwrap();
        let west = status.peers.into_iter().find(|peer| peer.cluster == "west")?;
        (west.tunnels.len() == 1).then_some(())
    })
    .await;
}
