//! Policies that change while connections live.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use tests::{
    client::{line, rest, say, soon},
    logs::Logs,
    wait::until,
    web::{self, ENDLESS},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::{Client, Connection, Mode, Sees, World, authorization};
use crate::fedctl::{fedctl, gateway, words};

/// What is promised is a second; a machine that runs other tests at the same time gets two more.
const AT_ONCE: Duration = Duration::from_secs(3);

const NO_EAST: &str = "action: DENY, from: [{clusters: [east], assurance: attested}]";

/// A connection that is greeted.
async fn greeted(world: &World, client: Client, mode: Mode) -> Connection {
    let mut stream = world.connect(client, mode).await.unwrap();
    stream.write_all(b"hello\n").await.unwrap();
    assert_eq!((line(&mut stream).await.unwrap(), line(&mut stream).await.unwrap()), ("west".into(), "hello".into()));
    stream
}

/// A response that has begun and does not end.
async fn streaming(world: &World, client: Client, path: &str) -> Connection {
    let mut stream = world.connect(client, Mode::Http).await.unwrap();
    assert_eq!(web::ask(&mut stream, &web::get(path, "")).await.unwrap().status, 200);
    until_chunk(&mut stream, path).await;
    stream
}

/// Reads what a response begins with.
async fn until_chunk(stream: &mut Connection, path: &str) {
    let wanted = format!("GET {path}\n");
    let mut seen = String::new();
    while !seen.contains(&wanted) {
        seen.push(char::from(soon("the beginning of the response", stream.read_u8()).await.unwrap()));
    }
    let mut end = [0; 2];
    soon("the end of the chunk", stream.read_exact(&mut end)).await.unwrap();
}

async fn websocket(world: &World, client: Client) -> Connection {
    let mut stream = world.connect(client, Mode::Http).await.unwrap();
    assert_eq!(web::ask(&mut stream, &web::websocket("/chat")).await.unwrap().status, 101);
    stream
}

/// It ends, and not cleanly: half of something must not look whole.
async fn is_cut(mut stream: Connection, what: &str) {
    let ended = rest(&mut stream).await;
    assert_eq!(ended.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "{what}");
}

#[tokio::test]
async fn a_policy_cuts_at_once_what_it_refuses_and_nothing_else() {
    let world = World::new().await;
    let cut = [
        ("plain", greeted(&world, Client::Pod, Mode::Plain).await),
        ("proxy-v2", greeted(&world, Client::Pod, Mode::ProxyV2).await),
        ("tls", greeted(&world, Client::Pod, Mode::Tls).await),
        ("a response", streaming(&world, Client::Pod, ENDLESS).await),
        ("a WebSocket", websocket(&world, Client::Pod).await),
    ];
    let sealed = world.connect(Client::ServerName, Mode::Passthrough).await.unwrap();
    let mut idle = world.connect(Client::Pod, Mode::Http).await.unwrap();
    assert_eq!(web::ask(&mut idle, &web::get("/", "")).await.unwrap().status, 200);
    let mut goes_on = vec![
        greeted(&world, Client::Stranger, Mode::Plain).await,
        greeted(&world, Client::Local, Mode::Plain).await,
        websocket(&world, Client::Stranger).await,
        websocket(&world, Client::Local).await,
    ];
    let begun = Instant::now();
    world.west().write("policies.yaml", &authorization("no-east", NO_EAST));
    for (what, stream) in cut {
        is_cut(stream, what).await;
    }
    let mut sealed = sealed;
    assert!(rest(&mut sealed).await.is_err(), "TLS that passes through ends without its close_notify");
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    for stream in &mut goes_on {
        assert_eq!(say(stream, "still here").await.unwrap(), "still here");
    }
    // Between two requests there is nothing to cut: the next one is told.
    assert_eq!(web::ask(&mut idle, &web::get("/", "")).await.unwrap().status, 403);
    world.west().remove("policies.yaml");
    world.in_force(&[]).await;
    for mode in Mode::ALL {
        assert_eq!(world.call(Client::Pod, mode).await, Sees::Service, "{mode:?}");
    }
    assert_eq!(web::ask(&mut idle, &web::get("/", "")).await.unwrap().status, 200);
    until("each that was cut is recorded as denied", async || {
        (world.west().metrics().await.ended("Inbound", "denied") == 6.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_requests_under_way_the_ones_that_a_policy_means_are_cut() {
    let world = World::new().await;
    let (meant, other) = (format!("{ENDLESS}/meant"), format!("{ENDLESS}/other"));
    let (cut, mut stays) = (streaming(&world, Client::Pod, &meant).await, streaming(&world, Client::Pod, &other).await);
    let denied = format!("action: DENY, to: [{{paths: [\"{meant}\"]}}]");
    world.policies(&authorization("meant", &denied), &["meant"]).await;
    is_cut(cut, "what is denied").await;
    let more = tokio::time::timeout(Duration::from_millis(200), stays.read_u8()).await;
    assert!(more.is_err(), "what is not goes on, and has nothing to say: {more:?}");
    let mut fresh = world.connect(Client::Pod, Mode::Http).await.unwrap();
    assert_eq!(web::ask(&mut fresh, &web::get(&meant, "")).await.unwrap().status, 403);
}

#[tokio::test]
async fn a_malformed_request_does_not_hide_a_like_one_that_is_under_way() {
    let world = World::new().await;
    let stream = world.connect(Client::Pod, Mode::Http).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let request = |fields: usize| {
        let mut builder = http::Request::get(format!("http://web{ENDLESS}"));
        for number in 0..fields {
            builder = builder.header(format!("x-field-{number}"), "x");
        }
        builder.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap()
    };
    let begun = soon("the response", sender.send_request(request(0))).await.unwrap();
    assert_eq!(begun.status(), 200);
    let refused = soon("the refusal", sender.send_request(request(300))).await.unwrap();
    assert_eq!(refused.status(), 431);
    world.policies(&authorization("closed", "action: DENY"), &["closed"]).await;
    let ended = soon("the end of the connection", tasks.join_next()).await.unwrap().unwrap();
    drop((begun, ended));
    until("it is recorded as denied", async || {
        (world.west().metrics().await.ended("Inbound", "denied") == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_was_good_stays_in_force_when_its_file_is_broken() {
    let logs = Logs::default();
    let captured = logs.capture();
    let world = World::new().await;
    drop(captured);
    world.policies(&authorization("no-east", NO_EAST), &["no-east"]).await;
    assert_eq!(world.call(Client::Pod, Mode::Plain).await, Sees::Reset);
    let mut stranger = greeted(&world, Client::Stranger, Mode::Plain).await;
    world.west().write("policies.yaml", &authorization("no-east", "action: DENY, form: []"));
    let gateway = gateway(&world.fleet, "west");
    let checked = until("the check finds it", async || {
        let checked = fedctl(&words(&format!("check {gateway}"))).await;
        checked.stdout.contains("policies.yaml").then_some(checked)
    })
    .await;
    assert!(checked.code.contains("(1)") && checked.stdout.contains("form"), "{checked:?}");
    until("the log says so", async || {
        let text = logs.text();
        text.lines().any(|line| line.contains("policies.yaml") && line.contains("form")).then_some(())
    })
    .await;
    let listed = fedctl(&words(&format!("policy list {gateway}"))).await;
    assert!(listed.stdout.contains("no-east") && listed.stdout.contains("DENY"), "{listed:?}");
    for mode in [Mode::Plain, Mode::ProxyV2] {
        assert_eq!(world.call(Client::Pod, mode).await, Sees::Reset, "the version before is in force");
        assert_eq!(world.call(Client::Local, mode).await, Sees::Service);
    }
    assert_eq!(say(&mut stranger, "still here").await.unwrap(), "still here");
}

#[tokio::test]
async fn a_policy_that_was_never_good_refuses_what_it_selects_and_everybody_is_told() {
    let logs = Logs::default();
    let captured = logs.capture();
    let world = World::new().await;
    drop(captured);
    let mut lives = greeted(&world, Client::Local, Mode::Plain).await;
    let broken = authorization("never-good", "action: ALOW, to: [{services: [site, introduced]}]");
    world.policies(&broken, &["never-good"]).await;
    for client in [Client::Pod, Client::Proven, Client::Local] {
        assert_eq!(world.call(client, Mode::Http).await, Sees::Status(403), "{client:?}");
        assert_eq!(world.call(client, Mode::Plain).await, Sees::Service, "{client:?}: it does not select this one");
    }
    assert_eq!(world.call(Client::Pod, Mode::ProxyV2).await, Sees::Reset);
    assert_eq!(say(&mut lives, "still here").await.unwrap(), "still here");
    let gateway = gateway(&world.fleet, "west");
    let listed = fedctl(&words(&format!("policy list {gateway}"))).await;
    assert!(listed.code.contains("(1)"), "{listed:?}");
    for word in ["never-good", "BROKEN", "production/site", "ALOW"] {
        assert!(listed.stdout.contains(word), "{word}: {listed:?}");
    }
    let checked = fedctl(&words(&format!("check {gateway}"))).await;
    assert!(checked.code.contains("(1)") && checked.stdout.contains("ALOW"), "{checked:?}");
    let text = logs.text();
    assert!(text.lines().any(|line| line.contains("policies.yaml") && line.contains("ALOW")), "the log says so");
    let test = format!("policy test --from spiffe://east.example/ns/a/sa/b --to production/site {gateway}");
    let tested = fedctl(&words(&test)).await;
    assert!(tested.code.contains("(1)") && tested.stdout.contains("never-good"), "{tested:?}");
    world.west().remove("policies.yaml");
    world.in_force(&[]).await;
    assert_eq!(world.call(Client::Pod, Mode::Http).await, Sees::Service);
}
