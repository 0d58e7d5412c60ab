//! HTTP/2 end to end, gRPC included.

use std::sync::Arc;

use bytes::Bytes;
use federation_model::outcome::Outcome;
use futures::StreamExt as _;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};

use super::frames::{DATA, END_HEADERS, END_STREAM, GET, GO_AWAY, HEADERS, RESET, asks, frame, hello, kinds_until};
use super::stage::{Body, Set, Stage, no_body, soon, text, two, until};
use crate::{ConnectError, Refused};
use tokio::io::AsyncWriteExt as _;

fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://api.example{path}")).body(no_body()).unwrap()
}

/// A call of gRPC with two messages.
fn call(path: &str) -> Request<Body> {
    let frames = [Frame::data(Bytes::from_static(b"ping")), Frame::data(Bytes::from_static(b"pong"))];
    let body = StreamBody::new(futures::stream::iter(frames.map(Ok)));
    Request::post(format!("http://api.example{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(BoxBody::new(body))
        .unwrap()
}

async fn client(set: &Set) -> (Stage, hyper::client::conn::http2::SendRequest<Body>) {
    let mut stage = set.open();
    let io = std::mem::replace(&mut stage.client, tokio::io::duplex(1).0);
    let sender = two(io, &mut stage.tasks).await;
    (stage, sender)
}

#[tokio::test]
async fn a_grpc_call_passes_with_its_messages_and_trailers() {
    let set = Set::answering(true, |request| {
        Box::pin(async move {
            assert_eq!(request.version(), http::Version::HTTP_2);
            assert_eq!(request.headers()["te"], "trailers");
            assert_eq!(request.headers()["x-landbridge-assurance"], "attested");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            let frames = futures::stream::iter([Ok(Frame::data(body)), Ok(Frame::trailers(trailers))]);
            let mut reply = http::Response::new(BoxBody::new(StreamBody::new(frames)));
            reply.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            reply
        })
    });
    let (mut stage, mut client) = client(&set).await;
    let response = soon(client.send_request(call("/shop.Api/Talk"))).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let body = soon(response.into_body().collect()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), "pingpong");
    drop(client);
    assert_eq!(stage.served().await.outcome, Outcome::Completed);
    let record = &set.records()[0];
    assert_eq!((record.sent, record.received, record.outcome), (8, 8, Outcome::Completed));
}

#[tokio::test]
async fn a_grpc_call_that_is_refused_or_finds_no_endpoint_ends_with_a_status_of_grpc() {
    let mut set = Set::new(|_| Err(ConnectError::NoEndpoint));
    set.verdict = Arc::new(|_, _, path| {
        let denied = Refused {
            outcome: Outcome::Denied,
            status: StatusCode::FORBIDDEN,
            reason: "not for you: 100 %".into(),
            rule: None,
            remedy: None,
        };
        if path == "/a.B/Denied" { Err(denied) } else { Ok(()) }
    });
    let (_stage, mut client) = client(&set).await;
    for (path, status, label) in [("/a.B/Denied", "7", "denied"), ("/a.B/Gone", "14", "no-endpoint")] {
        let response = soon(client.send_request(call(path))).await.unwrap();
        assert_eq!((response.status(), &response.headers()["grpc-status"]), (StatusCode::OK, &status.parse().unwrap()));
        assert_eq!(response.headers()["x-landbridge-refused"], label);
        if status == "7" {
            assert_eq!(response.headers()["grpc-message"], "not for you: 100 %25");
        }
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    let response = soon(client.send_request(get("/"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "what is not gRPC gets a status of HTTP");
}

#[tokio::test]
async fn many_requests_share_one_connection_to_the_endpoint() {
    let set = Set::echo(true);
    let (mut stage, client) = client(&set).await;
    let asked = (0..100).map(|n| {
        let mut client = client.clone();
        async move {
            let response = client.send_request(get(&format!("/{n}"))).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(body.starts_with(format!("GET http://api.example/{n} HTTP/2.0\n").as_bytes()), "{body:?}");
        }
    });
    soon(futures::future::join_all(asked)).await;
    drop(client);
    let served = stage.served().await;
    assert_eq!((served.outcome, served.requests, set.dialled()), (Outcome::Completed, 100, 1));
}

#[tokio::test]
async fn forged_headers_and_trailers_are_removed_over_http_2_too() {
    let set = Set::echo(true);
    let (_stage, mut client) = client(&set).await;
    let trailers = HeaderMap::from_iter([
        ("client_cert".parse().unwrap(), "evil".parse().unwrap()),
        ("x-sum".parse().unwrap(), "fine".parse().unwrap()),
    ]);
    let frames = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"body"))), Ok(Frame::trailers(trailers))]);
    let request = Request::post("http://api.example/")
        .header("x_forwarded_client_cert", "evil")
        .header("x-landbridge-assurance", "evil")
        .body(BoxBody::new(StreamBody::new(frames)))
        .unwrap();
    let response = soon(client.send_request(request)).await.unwrap();
    let asked = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(asked.ends_with("\n\nbodyx-sum: fine\n") && !asked.contains("evil"), "{asked}");
}

#[tokio::test]
async fn a_host_that_differs_from_the_authority_is_refused() {
    let set = Set::echo(true);
    let (_stage, mut client) = client(&set).await;
    for (host, status) in [("api.example", 200), ("API.example", 200), ("other.example", 400)] {
        let request = Request::get("http://api.example/").header("host", host).body(no_body()).unwrap();
        assert_eq!(soon(client.send_request(request)).await.unwrap().status(), status, "{host}");
    }
    assert_eq!(set.judged(), 2);
}

#[tokio::test]
async fn an_endpoint_that_breaks_off_one_response_leaves_the_others_alone() {
    let (tell, told) = tokio::sync::watch::channel(false);
    let set = Set::answering(true, move |request| {
        let mut told = told.clone();
        Box::pin(async move {
            if request.uri().path() == "/good" {
                return text(200, "good");
            }
            let broken = futures::stream::once(async move {
                told.wait_for(|told| *told).await.unwrap();
                Err(std::io::Error::other("broken"))
            });
            let half = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"half")))]);
            http::Response::new(BoxBody::new(StreamBody::new(half.chain(broken))))
        })
    });
    let (mut stage, mut client) = client(&set).await;
    let response = soon(client.send_request(get("/bad"))).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(soon(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "half");
    tell.send_replace(true);
    let end = soon(body.frame()).await;
    assert!(end.as_ref().is_some_and(Result::is_err), "the end of the body is not made up: {end:?}");
    let response = soon(client.send_request(get("/good"))).await.unwrap();
    assert_eq!(soon(response.into_body().collect()).await.unwrap().to_bytes(), "good");
    drop((client, body));
    let served = stage.served().await;
    assert_eq!((served.outcome, set.dialled()), (Outcome::Completed, 1));
    let outcomes: Vec<_> = set.recorded().into_iter().map(|(_, path, _, outcome)| (path, outcome)).collect();
    assert_eq!(outcomes, [("/bad".into(), Outcome::DestinationReset), ("/good".into(), Outcome::Completed)]);
}

#[tokio::test]
async fn a_request_the_client_takes_back_is_taken_back_from_the_endpoint() {
    let gone = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&gone);
    let set = Set::answering(true, move |_| {
        let told = Told(Arc::clone(&told));
        Box::pin(async move {
            let _told = told;
            std::future::pending().await
        })
    });
    let (_stage, mut client) = client(&set).await;
    let asked = client.send_request(get("/"));
    let dialled = async {
        until("the endpoint is dialled", || set.dialled() == 1).await;
        // The request is at the endpoint once it has been judged and its connection is made.
        tokio::task::yield_now().await;
    };
    tokio::select! {
        _ = asked => panic!("nobody answers"),
        () = dialled => {}
    }
    soon(gone.notified()).await;
    until("it is recorded", || !set.recorded().is_empty()).await;
    assert_eq!(set.recorded(), [("GET".into(), "/".into(), None, Outcome::ClientReset)]);
}

/// Tells that whoever held it has been dropped.
struct Told(Arc<tokio::sync::Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// An endpoint whose responses go on for ever.
fn endless() -> Set {
    Set::answering(true, |_| {
        Box::pin(async {
            let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"x")))]);
            http::Response::new(BoxBody::new(StreamBody::new(first.chain(futures::stream::pending()))))
        })
    })
}

#[tokio::test]
async fn a_cut_ends_every_stream_with_its_outcome() {
    let set = endless();
    let (mut stage, mut client) = client(&set).await;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let mut body = soon(client.send_request(get("/"))).await.unwrap().into_body();
        assert!(soon(body.frame()).await.unwrap().is_ok());
        bodies.push(body);
    }
    stage.cut(Outcome::Revoked);
    assert_eq!(stage.served().await.outcome, Outcome::Revoked);
    for mut body in bodies {
        assert!(soon(body.frame()).await.is_none_or(|frame| frame.is_err()), "it ends");
    }
    assert_eq!(set.recorded().iter().filter(|(.., outcome)| *outcome == Outcome::Revoked).count(), 3);
}

#[tokio::test]
async fn a_drain_lets_streams_finish_and_takes_no_more() {
    let (tell, told) = tokio::sync::watch::channel(false);
    let set = Set::answering(true, move |_| {
        let mut told = told.clone();
        Box::pin(async move {
            told.wait_for(|told| *told).await.unwrap();
            text(200, "done")
        })
    });
    let (mut stage, mut client) = client(&set).await;
    let asked = client.send_request(get("/"));
    until("the endpoint is dialled", || set.dialled() == 1).await;
    stage.drain();
    tell.send_replace(true);
    let response = soon(asked).await.unwrap();
    assert_eq!(soon(response.into_body().collect()).await.unwrap().to_bytes(), "done");
    // The client has not left: the connection ends because it was told to take it no more.
    assert_eq!(stage.served().await.outcome, Outcome::Completed);
    assert!(soon(client.send_request(get("/"))).await.is_err());
    assert_eq!(set.judged(), 1);
}

#[tokio::test]
async fn an_endpoint_that_does_not_speak_http_2_is_a_502() {
    let set = Set::saying(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let (_stage, mut client) = client(&set).await;
    let response = soon(client.send_request(get("/"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(response.headers()["x-landbridge-refused"], "destination-reset");
}

#[tokio::test]
async fn half_a_body_does_not_look_whole_when_its_stream_is_reset_without_an_error() {
    let set = Set::new(|_| {
        Ok(Box::new(|io| {
            Box::pin(async move {
                let mut connection = h2::server::handshake(io).await.unwrap();
                let (_, mut respond) = connection.accept().await.unwrap().unwrap();
                let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"half"), false).unwrap();
                let mut flushed = std::pin::pin!(tokio::time::sleep(std::time::Duration::from_millis(100)));
                tokio::select! {
                    _ = connection.accept() => panic!("there is no second request"),
                    () = &mut flushed => body.send_reset(h2::Reason::NO_ERROR),
                }
                let _ = connection.accept().await;
            })
        }))
    });
    let (_stage, mut client) = client(&set).await;
    let body = soon(client.send_request(get("/"))).await.unwrap().into_body();
    let body = soon(body.collect()).await;
    assert!(body.is_err(), "{body:?}");
    until("it is recorded", || !set.recorded().is_empty()).await;
    assert_eq!(set.recorded()[0].3, Outcome::DestinationReset);
}

#[tokio::test]
async fn a_client_that_is_cut_is_told_to_go_away() {
    let set = endless();
    let mut stage = set.open();
    stage.client.write_all(&[hello(), asks(1)].concat()).await.unwrap();
    assert_eq!(kinds_until(&mut stage.client, &[DATA]).await.last(), Some(&DATA));
    stage.cut(Outcome::Revoked);
    let kinds = kinds_until(&mut stage.client, &[GO_AWAY]).await;
    assert_eq!(kinds.last(), Some(&GO_AWAY), "{kinds:?}");
}

/// A header that is not in the tables of HPACK.
fn header(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0x40, length(name)][..], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

#[tokio::test]
async fn requests_that_http_2_calls_malformed_are_reset_and_judged_by_nobody() {
    for (what, block) in [
        ("Connection", [GET, &header("connection", "close")].concat()),
        ("Keep-Alive", [GET, &header("keep-alive", "timeout=5")].concat()),
        ("Transfer-Encoding", [GET, &header("transfer-encoding", "chunked")].concat()),
        ("Upgrade", [GET, &header("upgrade", "h2c")].concat()),
        ("TE that is not trailers", [GET, &header("te", "gzip")].concat()),
        ("a name in capitals", [GET, &header("X-Up", "y")].concat()),
        ("an unknown pseudo-header", [GET, &header(":x", "y")].concat()),
        ("a pseudo-header after others", [&header("x", "y"), GET].concat()),
        ("the method twice", [&[0x82], GET].concat()),
        ("no path", [0x82, 0x86, 0x41, 0x01, b'a'].to_vec()),
        ("a length without a body", [GET, &header("content-length", "5")].concat()),
        ("a line break in a value", [GET, &header("x", "a\r\nclient-cert: b")].concat()),
        ("a NUL in a value", [GET, &header("x", "a\0b")].concat()),
        ("a space in a name", [GET, &header("x y", "a")].concat()),
    ] {
        let set = Set::echo(true);
        let mut stage = set.open();
        let asked = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block);
        stage.client.write_all(&[hello(), asked].concat()).await.unwrap();
        let kinds = kinds_until(&mut stage.client, &[RESET, GO_AWAY, HEADERS]).await;
        assert!(!kinds.contains(&HEADERS), "{what}: {kinds:?}");
        assert_eq!(set.judged(), 0, "{what}");
    }
}
