//! Upgrades of HTTP/1.1, WebSockets over HTTP/2, and what may not be had that way.

use std::sync::{Arc, Mutex};

use federation_model::outcome::Outcome;
use http::{Request, StatusCode};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};

use super::stage::{Set, field, head, no_body, rest, soon, text, two};

const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";

/// An endpoint that switches and then says everything twice.
fn doubling() -> Set {
    Set::new(|_| {
        Ok(Box::new(|mut io| {
            Box::pin(async move {
                let asked = head(&mut io).await.unwrap();
                assert_eq!(
                    (field(&asked, "connection"), field(&asked, "upgrade")),
                    (Some("upgrade"), Some("websocket"))
                );
                assert_eq!(field(&asked, "sec-websocket-key"), Some("k"));
                assert_eq!(field(&asked, "x-landbridge-assurance"), Some("attested"));
                let switching =
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi";
                io.write_all(switching.as_bytes()).await.unwrap();
                let mut byte = [0];
                while io.read_exact(&mut byte).await.is_ok() {
                    io.write_all(&[byte[0], byte[0]]).await.unwrap();
                }
            })
        }))
    })
}

#[tokio::test]
async fn after_an_upgrade_bytes_pass_both_ways_until_both_have_ended() {
    let set = doubling();
    let mut stage = set.open();
    // The first bytes of the other protocol come along with the request.
    stage.client.write_all(format!("{UPGRADE}ab").as_bytes()).await.unwrap();
    let answer = head(&mut stage.client).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert_eq!((field(&answer, "connection"), field(&answer, "upgrade")), (Some("upgrade"), Some("websocket")));
    let mut bytes = [0; 6];
    soon(stage.client.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"hiaabb");
    stage.client.write_all(b"c").await.unwrap();
    stage.client.shutdown().await.unwrap();
    assert_eq!(rest(&mut stage.client).await, "cc");
    assert_eq!(stage.served().await.outcome, Outcome::Completed);
    let record = &set.records()[0];
    assert_eq!((record.status.unwrap().as_u16(), record.outcome), (101, Outcome::Completed));
    assert_eq!((record.sent, record.received), (3, 8));
}

#[tokio::test]
async fn an_upgraded_connection_ends_when_it_is_cut_and_not_when_drained() {
    let set = doubling();
    let mut stage = set.open();
    stage.client.write_all(UPGRADE.as_bytes()).await.unwrap();
    head(&mut stage.client).await.unwrap();
    stage.drain();
    stage.client.write_all(b"x").await.unwrap();
    let mut bytes = [0; 4];
    soon(stage.client.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"hixx");
    stage.cut(Outcome::Revoked);
    assert_eq!(stage.served().await.outcome, Outcome::Revoked);
    assert_eq!(set.records()[0].outcome, Outcome::Revoked);
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_connection_ends_at_the_idle_limit() {
    let mut set = doubling();
    set.limits.idle = std::time::Duration::from_secs(30);
    let mut stage = set.open();
    stage.client.write_all(UPGRADE.as_bytes()).await.unwrap();
    head(&mut stage.client).await.unwrap();
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
        stage.client.write_all(b"x").await.unwrap();
    }
    assert_eq!(soon_served(&mut stage).await, Outcome::IdleTimeout);
}

async fn soon_served(stage: &mut super::stage::Stage) -> Outcome {
    // Time is paused: an hour passes at once.
    tokio::time::timeout(std::time::Duration::from_secs(3600), stage.ended()).await.unwrap().outcome
}

#[tokio::test]
async fn an_endpoint_may_answer_instead_of_switching() {
    let set = Set::answering(false, |_| Box::pin(async { text(403, "no sockets") }));
    let mut stage = set.open();
    for _ in 0..2 {
        let answer = stage.ask(UPGRADE).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("no sockets"), "{answer}");
    }
    assert_eq!(set.dialled(), 1);
}

#[tokio::test]
async fn an_upgrade_that_would_carry_unjudged_requests_is_not_passed_on() {
    for upgrade in ["h2c", "websocket, h2c", "TLS/1.0", "HTTP/2.0"] {
        let set = Set::echo(false);
        let words = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        );
        let answer = set.open().ask(words).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let asked = answer.split("\r\n\r\n").nth(1).unwrap();
        for name in ["connection", "upgrade", "http2-settings"] {
            assert_eq!(field(asked, name), None, "{upgrade}");
        }
    }
}

#[tokio::test]
async fn a_websocket_over_http_2_is_judged_as_get_and_carried() {
    let tasks = Arc::new(Mutex::new(JoinSet::new()));
    let owned = Arc::clone(&tasks);
    let mut set = Set::answering(true, move |mut request| {
        let tasks = Arc::clone(&owned);
        Box::pin(async move {
            assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
            let upgraded = hyper::upgrade::on(&mut request);
            tasks.lock().unwrap().spawn(async move {
                let mut io = TokioIo::new(upgraded.await.unwrap());
                let mut bytes = [0; 4];
                io.read_exact(&mut bytes).await.unwrap();
                io.write_all(&bytes).await.unwrap();
                io.shutdown().await.unwrap();
            });
            text(200, "")
        })
    });
    set.verdict = Arc::new(|_, method, path| {
        assert_eq!((method.as_str(), path), ("GET", "/chat"));
        Ok(())
    });
    let mut stage = set.open();
    let io = std::mem::replace(&mut stage.client, tokio::io::duplex(1).0);
    let mut client = two(io, &mut stage.tasks).await;
    let request = Request::connect("http://a.example/chat").extension(Protocol::from_static("websocket"));
    let mut response = soon(client.send_request(request.body(no_body()).unwrap())).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut io = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
    io.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    soon(io.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"ping");
    stage.cut(Outcome::Draining);
    assert_eq!(stage.served().await.outcome, Outcome::Draining);
}

#[tokio::test]
async fn a_tunnel_over_http_2_that_would_carry_unjudged_requests_is_a_501() {
    let set = Set::echo(true);
    let mut stage = set.open();
    let io = std::mem::replace(&mut stage.client, tokio::io::duplex(1).0);
    let mut client = two(io, &mut stage.tasks).await;
    for protocol in ["h2c", "HTTP/2.0", "tls"] {
        let request = Request::connect("http://a.example/chat").extension(Protocol::from_static(protocol));
        let response = soon(client.send_request(request.body(no_body()).unwrap())).await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED, "{protocol}");
    }
    assert_eq!((set.judged(), set.dialled()), (0, 0));
}

#[tokio::test]
async fn an_endpoint_that_takes_no_tunnels_over_http_2_is_a_501() {
    let set = Set::answering_without_tunnels();
    let mut stage = set.open();
    let io = std::mem::replace(&mut stage.client, tokio::io::duplex(1).0);
    let mut client = two(io, &mut stage.tasks).await;
    let request = Request::connect("http://a.example/chat").extension(Protocol::from_static("websocket"));
    let response = soon(client.send_request(request.body(no_body()).unwrap())).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
}
