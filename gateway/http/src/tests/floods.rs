//! Clients that speak HTTP/2 to exhaust: what they send is written frame by frame.

use std::time::Duration;

use federation_model::outcome::Outcome;
use http::{Request, StatusCode};
use tokio::io::AsyncWriteExt as _;

use super::frames::{CONTINUATION, GET, HEADERS, PING, RESET, SETTINGS, asks, frame, hello, kinds_until, takes_back};
use super::stage::{Set, no_body, rest, soon, two, until};

/// An endpoint that never answers.
fn silent() -> Set {
    Set::answering(true, |_| Box::pin(std::future::pending()))
}

#[tokio::test]
async fn requests_taken_back_before_they_are_seen_end_the_connection() {
    let set = silent();
    let mut stage = set.open();
    let flood: Vec<u8> = (0..1000).flat_map(|n| [asks(2 * n + 1), takes_back(2 * n + 1)].concat()).collect();
    let (mut read, mut write) = tokio::io::split(&mut stage.client);
    // It is not read to its end.
    let words = [hello(), flood].concat();
    let _ = tokio::join!(write.write_all(&words), rest(&mut read));
    assert_eq!(stage.served().await.outcome, Outcome::BadRequest);
    assert!(set.judged() < 100, "{}", set.judged());
}

#[tokio::test]
async fn requests_taken_back_as_soon_as_they_are_seen_end_the_connection_too() {
    let set = silent();
    let mut stage = set.open();
    stage.client.write_all(&hello()).await.unwrap();
    let (mut read, mut write) = tokio::io::split(&mut stage.client);
    let flood = async {
        for n in 0..1000 {
            if write.write_all(&asks(2 * n + 1)).await.is_err() {
                return n;
            }
            let seen = || set.judged() > n as usize || set.recorded().len() > n as usize;
            if tokio::time::timeout(Duration::from_millis(500), until("it is seen", seen)).await.is_err() {
                return n;
            }
            if write.write_all(&takes_back(2 * n + 1)).await.is_err() {
                return n;
            }
        }
        1000
    };
    let (asked, _) = tokio::join!(flood, rest(&mut read));
    assert!((499..520).contains(&asked), "{asked}");
    assert_eq!(stage.served().await.outcome, Outcome::BadRequest);
}

#[tokio::test]
async fn more_requests_at_a_time_than_the_limit_are_refused_one_by_one() {
    let set = silent();
    let mut stage = set.open();
    let flood: Vec<u8> = (0..300).flat_map(|n| asks(2 * n + 1)).collect();
    stage.client.write_all(&[hello(), flood, frame(PING, 0, 0, &[0; 8])].concat()).await.unwrap();
    let kinds = kinds_until(&mut stage.client, &[PING]).await;
    assert_eq!(kinds.iter().filter(|kind| **kind == RESET).count(), 300 - 256);
    assert_eq!((set.judged(), set.dialled()), (256, 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_answers_and_reads_none_is_not_read_either() {
    for (what, one) in [("settings", frame(SETTINGS, 0, 0, &[])), ("pings", frame(PING, 0, 0, &[7; 8]))] {
        let mut set = silent();
        set.limits.idle = Duration::from_secs(60);
        let mut stage = set.open();
        // More than fits in everything that lies between.
        let flood = one.repeat(4 * 1024 * 1024 / one.len());
        stage.client.write_all(&hello()).await.unwrap();
        let written = tokio::time::timeout(Duration::from_secs(10), stage.client.write_all(&flood)).await;
        assert!(written.is_err(), "{what}: what is owed does not pile up");
        assert_eq!(stage.ended().await.outcome, Outcome::IdleTimeout, "{what}");
    }
}

#[tokio::test]
async fn a_head_that_never_ends_ends_the_connection() {
    // One header after another; and frames with nothing in them.
    let name = [&[0x40, 0x01, b'x', 0x7f, 0x81, 0x7e][..], &[b'y'; 16 * 1024]].concat();
    for (what, more, count) in [("large", &name[..16 * 1024], 1024), ("empty", &[][..], 100_000)] {
        let set = silent();
        let mut stage = set.open();
        let flood = frame(CONTINUATION, 0, 1, more).repeat(count);
        let (mut read, mut write) = tokio::io::split(&mut stage.client);
        let words = [hello(), frame(HEADERS, 0, 1, GET), flood].concat();
        let _ = tokio::join!(write.write_all(&words), rest(&mut read));
        assert_eq!(stage.served().await.outcome, Outcome::BadRequest, "{what}");
        assert_eq!(set.judged(), 0, "{what}");
    }
}

#[tokio::test]
async fn heads_over_a_limit_are_refused_and_the_connection_goes_on() {
    let set = Set::echo(true);
    let mut stage = set.open();
    let io = std::mem::replace(&mut stage.client, tokio::io::duplex(1).0);
    let mut client = two(io, &mut stage.tasks).await;
    let large = |bytes| Request::get("http://a/").header("x", "y".repeat(bytes)).body(no_body()).unwrap();
    let many = |count| {
        let mut request = Request::get("http://a/").body(no_body()).unwrap();
        for _ in 0..count {
            request.headers_mut().append("x", "y".parse().unwrap());
        }
        request
    };
    let long = |bytes: usize| Request::get(format!("http://a/{}", "z".repeat(bytes - 1))).body(no_body()).unwrap();
    for (request, status) in [
        (large(70 * 1024), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        (many(101), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        (many(100), StatusCode::OK),
        (long(16 * 1024 + 1), StatusCode::URI_TOO_LONG),
        (large(1024), StatusCode::OK),
    ] {
        assert_eq!(soon(client.send_request(request)).await.unwrap().status(), status);
    }
    assert_eq!(set.judged(), 2);
}
