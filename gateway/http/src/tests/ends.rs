//! How connections end: cut, drained, idle, too slow, over a limit.

use std::time::Duration;

use federation_model::outcome::Outcome;
use tokio::io::AsyncWriteExt as _;

use super::stage::{Set, Stage, field, head, rest, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An endpoint that begins an answer and never ends it.
fn endless() -> Set {
    Set::saying_and_staying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
}

/// An endpoint that answers nothing until it is told to.
fn later() -> (Set, tokio::sync::watch::Sender<bool>) {
    let (tell, told) = tokio::sync::watch::channel(false);
    let set = Set::answering(false, move |request| {
        let mut told = told.clone();
        Box::pin(async move {
            told.wait_for(|told| *told).await.unwrap();
            super::stage::echo(request).await
        })
    });
    (set, tell)
}

#[tokio::test]
async fn a_cut_ends_a_connection_in_the_middle_of_a_response() {
    let set = endless();
    let mut stage = set.open();
    stage.client.write_all(GET.as_bytes()).await.unwrap();
    head(&mut stage.client).await.unwrap();
    stage.cut(Outcome::Revoked);
    assert_eq!(stage.served().await.outcome, Outcome::Revoked);
    assert_eq!(rest(&mut stage.client).await, "half");
    assert_eq!(set.recorded(), [("GET".into(), "/".into(), Some(200), Outcome::Revoked)]);
}

#[tokio::test]
async fn a_cut_ends_a_connection_that_waits() {
    for sent in ["", "GE", GET] {
        let (set, _tell) = later();
        let mut stage = set.open();
        stage.client.write_all(sent.as_bytes()).await.unwrap();
        if sent == GET {
            until("the endpoint is dialled", || set.dialled() == 1).await;
        }
        stage.cut(Outcome::Denied);
        assert_eq!(stage.served().await.outcome, Outcome::Denied, "{sent}");
        assert_eq!(rest(&mut stage.client).await, "", "{sent}");
    }
}

#[tokio::test]
async fn a_drain_closes_a_connection_without_requests_at_once() {
    for asks in [0, 1] {
        let set = Set::echo(false);
        let mut stage = set.open();
        for _ in 0..asks {
            stage.ask(GET).await;
        }
        stage.drain();
        assert_eq!(stage.served().await.outcome, Outcome::Completed);
        assert_eq!(rest(&mut stage.client).await, "");
    }
}

#[tokio::test]
async fn a_drain_lets_the_request_under_way_finish() {
    let (set, tell) = later();
    let mut stage = set.open();
    stage.client.write_all(GET.as_bytes()).await.unwrap();
    until("the endpoint is dialled", || set.dialled() == 1).await;
    stage.drain();
    tell.send_replace(true);
    let answer = rest(&mut stage.client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && field(&answer, "connection") == Some("close"), "{answer}");
    assert_eq!(stage.served().await.outcome, Outcome::Completed);
    assert_eq!(set.recorded()[0].3, Outcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_moves_ends() {
    for asks in [0, 1] {
        let mut set = Set::echo(false);
        set.limits.idle = Duration::from_secs(15);
        let mut stage = set.open();
        for _ in 0..asks {
            stage.ask(GET).await;
        }
        let before = tokio::time::Instant::now();
        assert_eq!(stage.served().await.outcome, Outcome::IdleTimeout);
        assert_eq!(before.elapsed().as_secs(), 15);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_take_longer_than_a_head_but_not_than_the_idle_limit() {
    let mut set = endless();
    set.limits.idle = Duration::from_secs(15);
    let mut stage = set.open();
    stage.client.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(stage.served().await.outcome, Outcome::IdleTimeout);
    assert_eq!(set.recorded(), [("GET".into(), "/".into(), Some(200), Outcome::IdleTimeout)]);
}

/// Sends `words` one byte a second until the connection is closed, for at most a minute.
async fn dribble(stage: &mut Stage, words: &str) -> String {
    let (mut read, mut write) = tokio::io::split(&mut stage.client);
    let slow = async {
        for byte in words.bytes().cycle().take(60) {
            if write.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::join!(slow, rest(&mut read)).1
}

#[tokio::test(start_paused = true)]
async fn a_head_that_dribbles_is_answered_408() {
    // Another beginning, then the preface of HTTP/2, which is waited for in another place.
    for words in ["GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "PRI * HTTP/2.0\r\n\r\nSM\r\n"] {
        let set = Set::echo(false);
        let mut stage = set.open();
        let before = tokio::time::Instant::now();
        let answer = dribble(&mut stage, words).await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert_eq!(stage.served().await.outcome, Outcome::BadRequest);
        assert!(before.elapsed() < Duration::from_secs(61), "{:?}", before.elapsed());
        assert_eq!(set.judged(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_later_request_is_timed_from_its_own_first_byte() {
    let set = Set::echo(false);
    let mut stage = set.open();
    for _ in 0..3 {
        stage.ask(GET).await;
        // Longer than a head may take: between requests only the idle limit counts.
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let answer = dribble(&mut stage, "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(stage.served().await.requests, 3);
}

#[tokio::test(start_paused = true)]
async fn a_body_may_take_longer_than_a_head() {
    let set = Set::echo(false);
    let mut stage = set.open();
    stage.client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n").await.unwrap();
    for _ in 0..29 {
        stage.client.write_all(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(stage.ask("x").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_is_the_one_who_reset() {
    let (set, _tell) = later();
    let mut stage = set.open();
    stage.client.write_all(GET.as_bytes()).await.unwrap();
    until("the endpoint is dialled", || set.dialled() == 1).await;
    assert_eq!(stage.leave().await.outcome, Outcome::ClientReset);
    assert_eq!(set.recorded(), [("GET".into(), "/".into(), None, Outcome::ClientReset)]);
}

#[tokio::test]
async fn a_client_that_says_nothing_and_leaves_has_completed() {
    let set = Set::echo(false);
    let served = set.open().leave().await;
    assert_eq!((served.outcome, served.requests), (Outcome::Completed, 0));
}

#[tokio::test]
async fn heads_over_a_limit_are_answered_with_the_status_that_says_so() {
    let field = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(bytes));
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(bytes - 1));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    for (words, status) in [
        (field(60 * 1024), "200"),
        (field(64 * 1024), "431"),
        (field(1024 * 1024), "431"),
        (target(16 * 1024), "200"),
        (target(16 * 1024 + 1), "414"),
        (fields(100), "200"),
        (fields(101), "431"),
    ] {
        let set = Set::accepting_large_heads();
        let mut stage = set.open();
        let (mut read, mut write) = tokio::io::split(&mut stage.client);
        // What is refused is not read to its end.
        let (_, answer) = tokio::join!(write.write_all(words.as_bytes()), head(&mut read));
        let answer = answer.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{}: {answer}", words.len());
    }
}

#[tokio::test]
async fn a_future_that_is_dropped_ends_everything_and_records_it() {
    let (set, _tell) = later();
    let mut stage = set.open();
    stage.client.write_all(GET.as_bytes()).await.unwrap();
    until("the endpoint is dialled", || set.dialled() == 1).await;
    stage.tasks.shutdown().await;
    assert_eq!(set.recorded().len(), 1);
    assert_eq!(rest(&mut stage.client).await, "");
}
