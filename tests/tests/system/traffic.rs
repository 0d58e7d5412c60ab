//! Connections of applications from one cluster to another: what arrives, how it ends, and what is recorded of it.

use std::{collections::BTreeSet, io::ErrorKind, time::Duration};

use tests::{
    client::{bytes, line, part, rest, say, soon},
    fleet::{Fleet, Settings},
    manifests::Export,
    probe::Echo,
    wait::until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

const API: &str = "production/api";

/// East calls, west answers as `west`.
async fn east_and_west() -> (Fleet, Echo) {
    let fleet = Fleet::of(&["east", "west"]).await;
    let echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    (fleet, echo)
}

#[tokio::test]
async fn a_connection_reaches_the_other_cluster_and_half_close_is_carried_both_ways() {
    let (fleet, _echo) = east_and_west().await;
    let mut stream = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west", "the server speaks first and is heard");
    assert_eq!(say(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(part(&mut stream).await.unwrap(), "bye\n", "the end of one direction leaves the other one open");
}

#[tokio::test]
async fn a_client_that_only_sends_and_ends_still_gets_the_whole_answer() {
    let (fleet, _echo) = east_and_west().await;
    let mut stream = fleet["east"].connect(API, 8080).await;
    stream.write_all(b"all at once").await.unwrap();
    assert_eq!(part(&mut stream).await.unwrap(), "west\nall at oncebye\n");
}

#[tokio::test]
async fn large_transfers_arrive_whole_in_both_directions_at_once() {
    let (fleet, _echo) = east_and_west().await;
    let mut stream = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    let sent = bytes(4 << 20, 7);
    let (mut from, mut to) = stream.split();
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let ((), received) = tokio::join!(write, rest(&mut from));
    let received = received.unwrap();
    assert_eq!(received.len(), sent.len() + 4);
    assert!(received.starts_with(&sent), "the bytes that came back differ");
}

#[tokio::test]
async fn many_connections_at_once_do_not_mix() {
    let (fleet, _echo) = east_and_west().await;
    let address = fleet["east"].address_of(API).await;
    let mut clients = JoinSet::new();
    for number in 0..64 {
        clients.spawn(async move {
            let mut stream = TcpStream::connect((address, 8080)).await.unwrap();
            let own = bytes(20_000, number);
            stream.write_all(&own).await.unwrap();
            stream.shutdown().await.unwrap();
            let received = rest(&mut stream).await.unwrap();
            assert_eq!(received, [b"west\n", own.as_slice(), b"bye\n"].concat());
        });
    }
    clients.join_all().await;
    until("all of them are recorded as completed", async || {
        (fleet["east"].metrics().await.ended("Outbound", "completed") == 64.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_outbound_only_cluster_imports_and_exports() {
    let fleet = Fleet::with([Settings::of("east"), Settings::outbound_only("north")]).await;
    let _east = Echo::start("east", fleet["east"].at(10, 8080), false).await.unwrap();
    let _north = Echo::start("north", fleet["north"].at(10, 9090), false).await.unwrap();
    fleet["east"].export(&Export::new(API, 8080, fleet["east"].host(10)));
    fleet["north"].export(&Export::new("production/db", 9090, fleet["north"].host(10)));
    fleet["north"].sees(API, &["east"]).await;
    fleet["east"].sees("production/db", &["north"]).await;
    for (from, service, port, name) in [("north", API, 8080, "east"), ("east", "production/db", 9090, "north")] {
        let mut stream = fleet[from].connect(service, port).await;
        assert_eq!(line(&mut stream).await.unwrap(), name);
        assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
    }
}

#[tokio::test]
async fn a_service_that_this_cluster_exports_too_is_served_from_here() {
    let (fleet, _west) = east_and_west().await;
    let _east = Echo::start("east", fleet["east"].at(10, 8080), false).await.unwrap();
    fleet["east"].export(&Export::new(API, 8080, fleet["east"].host(10)));
    fleet["east"].sees(API, &["east", "west"]).await;
    for _ in 0..8 {
        let mut stream = fleet["east"].connect(API, 8080).await;
        assert_eq!(line(&mut stream).await.unwrap(), "east");
        assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
    }
    until("all of them are recorded as local", async || {
        (fleet["east"].metrics().await.ended("Local", "completed") == 8.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reset_of_the_destination_arrives_as_a_reset_and_not_as_an_end() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let listener = TcpListener::bind(fleet["west"].at(10, 8080)).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let mut client = fleet["east"].connect(API, 8080).await;
    client.write_all(b"ping").await.unwrap();
    let (mut server, _) = soon("the connection at its destination", listener.accept()).await.unwrap();
    let mut ping = [0; 4];
    server.read_exact(&mut ping).await.unwrap();
    server.write_all(b"half an ans").await.unwrap();
    let mut answer = [0; 11];
    soon("the answer", client.read_exact(&mut answer)).await.unwrap();
    server.set_zero_linger().unwrap();
    drop(server);
    let end = rest(&mut client).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    for (cluster, direction) in [("east", "Outbound"), ("west", "Inbound")] {
        until("the reset is recorded", async || {
            let metrics = fleet[cluster].metrics().await;
            (metrics.ended(direction, "destination-reset") == 1.0 && metrics.all_ended() == 1.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_reset_of_the_client_arrives_as_a_reset_and_not_as_an_end() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let listener = TcpListener::bind(fleet["west"].at(10, 8080)).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let mut client = fleet["east"].connect(API, 8080).await;
    client.write_all(b"half an upl").await.unwrap();
    let (mut server, _) = soon("the connection at its destination", listener.accept()).await.unwrap();
    let mut upload = [0; 11];
    soon("the upload", server.read_exact(&mut upload)).await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let end = rest(&mut server).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    for (cluster, direction) in [("east", "Outbound"), ("west", "Inbound")] {
        until("the reset is recorded", async || {
            let metrics = fleet[cluster].metrics().await;
            (metrics.ended(direction, "client-reset") == 1.0 && metrics.all_ended() == 1.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_destination_that_reads_no_more_but_still_sends_is_heard_to_its_end() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let listener = TcpListener::bind(fleet["west"].at(10, 8080)).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let mut client = fleet["east"].connect(API, 8080).await;
    let (mut server, _) = soon("the connection at its destination", listener.accept()).await.unwrap();
    // The server ends its direction first; the client goes on sending.
    server.write_all(b"enough").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), b"enough");
    client.write_all(b"but I am not done").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap(), b"but I am not done");
}

#[tokio::test]
async fn a_slow_reader_gets_everything_and_holds_up_nobody_else() {
    let (fleet, _echo) = east_and_west().await;
    let mut slow = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut slow).await.unwrap(), "west");
    let sent = bytes(6 << 20, 3);
    // More than every buffer on the way holds: the writer stands still until the reader goes on.
    let (mut from, mut to) = slow.into_split();
    let writing = {
        let sent = sent.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        });
        tasks
    };
    for _ in 0..4 {
        let mut quick = fleet["east"].connect(API, 8080).await;
        assert_eq!(line(&mut quick).await.unwrap(), "west");
        assert_eq!(part(&mut quick).await.unwrap(), "bye\n");
    }
    let received = rest(&mut from).await.unwrap();
    writing.join_all().await;
    assert_eq!(received.len(), sent.len() + 4);
    assert!(received.starts_with(&sent), "the bytes that came back differ");
}

#[tokio::test]
async fn readers_that_stand_still_hold_up_nobody_else() {
    let (fleet, _echo) = east_and_west().await;
    let listener = TcpListener::bind(fleet["west"].at(11, 9090)).await.unwrap();
    fleet["west"].export(&Export::new("production/bulk", 9090, fleet["west"].host(11)));
    fleet["east"].sees("production/bulk", &["west"]).await;
    let mut senders = JoinSet::new();
    let mut still = Vec::new();
    for _ in 0..24 {
        still.push(fleet["east"].connect("production/bulk", 9090).await);
        let (mut server, _) = soon("the connection at its destination", listener.accept()).await.unwrap();
        senders.spawn(async move {
            let chunk = bytes(1 << 20, 1);
            // Until nobody takes anything any more.
            while let Ok(Ok(())) = timeout(Duration::from_secs(2), server.write_all(&chunk)).await {}
            server
        });
    }
    let servers = senders.join_all().await;
    let mut stream = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    assert_eq!(say(&mut stream, "through").await.unwrap(), "through");
    drop((servers, still));
}

#[tokio::test]
async fn a_connection_without_a_byte_for_the_idle_limit_is_ended_and_recorded_as_that() {
    let east = Settings::of("east").limits("idle_timeout = \"300ms\"");
    let fleet = Fleet::with([east, Settings::of("west")]).await;
    let _echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let mut stream = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    assert_eq!(rest(&mut stream).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(fleet["east"].metrics().await.ended("Outbound", "idle-timeout"), 1.0);
}

#[tokio::test]
async fn a_connection_over_the_limit_is_refused_while_the_others_go_on() {
    let east = Settings::of("east").limits("connections = 1");
    let fleet = Fleet::with([east, Settings::of("west")]).await;
    let _echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let mut first = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut first).await.unwrap(), "west");
    assert_eq!(fleet["east"].refusal(API, 8080).await, ErrorKind::ConnectionReset);
    assert_eq!(say(&mut first, "still here").await.unwrap(), "still here");
    assert_eq!(part(&mut first).await.unwrap(), "bye\n");
    assert_eq!(fleet["east"].metrics().await.ended("Outbound", "over-capacity"), 1.0);
    // The place is free again.
    until("the first one has ended", async || (fleet["east"].metrics().await.open() == 0.0).then_some(())).await;
    let mut third = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut third).await.unwrap(), "west");
}

#[tokio::test]
async fn withdrawing_an_export_cuts_the_connections_to_it() {
    let (fleet, _echo) = east_and_west().await;
    let other = Export::new("production/other", 8080, fleet["west"].host(10));
    fleet["west"].export(&other);
    fleet["east"].sees("production/other", &["west"]).await;
    let mut cut = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut cut).await.unwrap(), "west");
    let mut stays = fleet["east"].connect("production/other", 8080).await;
    assert_eq!(line(&mut stays).await.unwrap(), "west");
    fleet["west"].withdraw(&Export::new(API, 8080, fleet["west"].host(10)));
    assert_eq!(rest(&mut cut).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(part(&mut stays).await.unwrap(), "bye\n");
    for (cluster, direction) in [("east", "Outbound"), ("west", "Inbound")] {
        until("the cut is recorded", async || {
            (fleet[cluster].metrics().await.ended(direction, "not-exported") == 1.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_peer_that_has_all_its_streams_open_is_told_so_and_gets_further_ones_later() {
    let west = Settings::of("west").limits("streams_per_peer = 2");
    let fleet = Fleet::with([Settings::of("east"), west]).await;
    let _echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = fleet["east"].connect(API, 8080).await;
        assert_eq!(line(&mut stream).await.unwrap(), "west");
        open.push(stream);
    }
    assert_eq!(fleet["east"].refusal(API, 8080).await, ErrorKind::ConnectionReset);
    assert_eq!(fleet["east"].metrics().await.ended("Outbound", "tunnel-busy"), 1.0);
    let mut waiting = fleet["east"].connect(API, 8080).await;
    assert_eq!(part(&mut open[0]).await.unwrap(), "bye\n");
    assert_eq!(line(&mut waiting).await.unwrap(), "west", "the place of the one that ended is taken");
}

#[tokio::test]
async fn clients_of_a_service_with_affinity_stay_with_their_cluster() {
    let fleet = Fleet::of(&["east", "west", "north"]).await;
    let mut echoes = Vec::new();
    for name in ["west", "north"] {
        let cluster = &fleet[name];
        echoes.push(Echo::start(name, cluster.at(10, 8080), false).await.unwrap());
        for (service, affinity) in [("production/sticky", "ClientIP"), ("production/free", "None")] {
            let export = Export::new(service, 8080, cluster.host(10));
            let yaml = export.yaml().replace("spec: {ports", &format!("spec: {{sessionAffinity: {affinity}, ports"));
            cluster.write(&export.file(), &yaml);
        }
    }
    let mut answered = BTreeSet::new();
    for service in ["production/sticky", "production/free"] {
        fleet["east"].sees(service, &["north", "west"]).await;
        for client in 20..28 {
            for _ in 0..4 {
                let mut stream = fleet["east"].connect_from(fleet["east"].host(client), service, 8080).await;
                answered.insert((service, client, line(&mut stream).await.unwrap()));
            }
        }
    }
    let sticky = answered.iter().filter(|(service, _, _)| *service == "production/sticky");
    assert_eq!(sticky.count(), 8, "each client has one cluster: {answered:?}");
    let free: BTreeSet<_> =
        answered.iter().filter(|(s, _, _)| *s == "production/free").map(|(_, _, name)| name).collect();
    assert_eq!(free.len(), 2, "both clusters are used: {answered:?}");
}

/// What a client does to its connection, by number.
async fn misbehave(number: usize, mut stream: TcpStream) {
    // Whatever happens to such a client is its own business; what is recorded is not.
    match number % 6 {
        0 => {
            let _ = stream.set_zero_linger();
        }
        1 => {
            let _ = stream.shutdown().await;
        }
        2 => {
            let _ = stream.write_all(&bytes(100_000, 1)).await;
            let _ = stream.set_zero_linger();
        }
        3 => {
            let _ = line(&mut stream).await;
            let _ = stream.set_zero_linger();
        }
        4 => {
            let _ = stream.write_all(b"x").await;
            let _ = part(&mut stream).await;
        }
        _ => {
            let _ = stream.write_all(&bytes(300_000, 2)).await;
        }
    }
}

#[tokio::test]
async fn whatever_clients_do_nothing_is_left_open_and_nothing_goes_unrecorded() {
    let (fleet, _echo) = east_and_west().await;
    let address = fleet["east"].address_of(API).await;
    let mut clients = JoinSet::new();
    for number in 0..180 {
        clients.spawn(async move {
            if let Ok(stream) = TcpStream::connect((address, 8080)).await {
                misbehave(number, stream).await;
            }
        });
    }
    clients.join_all().await;
    for cluster in ["east", "west"] {
        let metrics = until("every connection has ended", async || {
            let metrics = fleet[cluster].metrics().await;
            (metrics.open() == 0.0 && (cluster == "west" || metrics.all_ended() == 180.0)).then_some(metrics)
        })
        .await;
        let outcomes = ["completed", "client-reset", "destination-reset"];
        let direction = if cluster == "east" { "Outbound" } else { "Inbound" };
        let known: f64 = outcomes.iter().map(|outcome| metrics.ended(direction, outcome)).sum();
        assert_eq!(known, metrics.all_ended(), "{cluster}: {metrics:?}");
    }
    let mut after = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut after).await.unwrap(), "west");
}

#[tokio::test]
async fn every_connection_leaves_exactly_one_outcome_at_each_end() {
    let (fleet, echo) = east_and_west().await;
    for _ in 0..3 {
        let mut stream = fleet["east"].connect(API, 8080).await;
        assert_eq!(line(&mut stream).await.unwrap(), "west");
        assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
    }
    echo.stop().await;
    assert_eq!(fleet["east"].refusal(API, 8080).await, ErrorKind::ConnectionReset, "nobody listens there any more");
    let settled = async |cluster: &str| {
        until("every connection has ended", async || {
            let metrics = fleet[cluster].metrics().await;
            (metrics.open() == 0.0 && metrics.all_ended() >= 4.0).then_some(metrics)
        })
        .await
    };
    let (east, west) = (settled("east").await, settled("west").await);
    assert_eq!((east.ended("Outbound", "completed"), west.ended("Inbound", "completed")), (3.0, 3.0));
    assert_eq!((east.ended("Outbound", "connect-refused"), west.ended("Inbound", "connect-refused")), (1.0, 1.0));
    assert_eq!((east.all_ended(), west.all_ended()), (4.0, 4.0), "{east:?}\n{west:?}");
    let carried = |metrics: &tests::http::Metrics, flow| {
        metrics.sum("landbridge_gateway_connection_bytes_total", &[&format!("flow=\"{flow}\"")])
    };
    assert_eq!((carried(&east, "received"), carried(&west, "received")), (27.0, 27.0), "three times west, bye");
}
