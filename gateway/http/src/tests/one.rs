use std::{borrow::Cow, sync::Arc};

use federation_model::outcome::Outcome;
use http::StatusCode;
use tokio::io::AsyncWriteExt as _;

use super::stage::{Set, field, head, rest, until};
use crate::{ConnectError, Refused, Ruling};

const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: api.example\r\n\r\n";

#[tokio::test]
async fn a_request_reaches_the_endpoint_with_its_caller_introduced() {
    let set = Set::echo(false);
    let mut stage = set.open();
    let answer = stage.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.ends_with(
            "GET /a?b=c HTTP/1.1\n\
             forwarded: for=10.1.2.3\n\
             host: api.example\n\
             traceparent: 00-00000000000000000000000000000007-0000000000000009-00\n\
             x-forwarded-client-cert: By=spiffe://west.example/landbridge/gateway;\
             URI=spiffe://east.example/ns/shop/sa/frontend\n\
             x-forwarded-for: 10.1.2.3\n\
             x-landbridge-assurance: attested\n\
             x-landbridge-principal: spiffe://east.example/ns/shop/sa/frontend\n\
             x-landbridge-source-cluster: east\n\n"
        ),
        "{answer}"
    );
    let served = stage.leave().await;
    assert_eq!((served.outcome, served.requests, served.refused), (Outcome::Completed, 1, 0));
    assert_eq!((served.sent, served.received), (GET.len() as u64, answer.len() as u64));
    assert_eq!(set.recorded(), [("GET".into(), "/a".into(), Some(200), Outcome::Completed)]);
}

#[tokio::test]
async fn forged_headers_never_reach_the_endpoint_in_any_spelling() {
    let set = Set::echo(false);
    let mut stage = set.open();
    let answer = stage
        .ask(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: client-cert\r\n\
             Connection: keep-alive, X-Landbridge-Assurance, x-forwarded-client-cert, x-mine\r\nX-Mine: evil\r\n\
             X-Forwarded-Client-Cert: evil\r\nX_Forwarded_Client_Cert: evil\r\nX-Forwarded_Client-Cert: evil\r\n\
             x-forwarded-client-cert: evil\r\nClient-Cert: :evil=:\r\nClient_Cert: evil\r\nClient-Cert-Chain: evil\r\n\
             L5d-Client-Id: evil\r\nL5D_CLIENT_ID: evil\r\nX-Landbridge-Assurance: evil\r\nX_Landbridge_Principal: evil\r\n\
             X-Landbridge-Anything: evil\r\nX_Forwarded_For: evil\r\n\r\n\
             2\r\nok\r\n0\r\nClient-Cert: evil\r\nX_Landbridge_Principal: evil\r\nX-Sum: fine\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.to_lowercase().contains("evil"), "{answer}");
    assert_eq!(field(&answer, "x-landbridge-assurance"), Some("attested"));
    assert!(answer.contains("\n\nok"), "{answer}");
}

#[tokio::test]
async fn a_kept_connection_is_judged_at_every_request() {
    let mut set = Set::echo(false);
    set.verdict = Arc::new(|n, _, path| {
        assert_eq!(path, "/a");
        if n == 2 {
            return Err(Refused {
                outcome: Outcome::Denied,
                status: StatusCode::FORBIDDEN,
                reason: Cow::Borrowed("spiffe://x may not GET /a"),
                rule: Some(Ruling { rule: "shop/only-admins".to_owned(), remedy: "ask".to_owned() }),
            });
        }
        Ok(())
    });
    let mut stage = set.open();
    for n in 0..5 {
        let answer = stage.ask(GET).await;
        if n == 2 {
            assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\nspiffe://x may not GET /a\n"), "{answer}");
            assert_eq!(field(&answer, "x-landbridge-refused"), Some("denied"));
            assert!(field(&answer, "server").is_none() && !answer.contains("only-admins"), "{answer}");
        } else {
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    let served = stage.leave().await;
    assert_eq!((served.outcome, served.requests, served.refused), (Outcome::Completed, 5, 1));
    assert_eq!(set.dialled(), 1, "one connection to the endpoint");
    let refused = &set.records()[2];
    let ruling = Ruling { rule: "shop/only-admins".to_owned(), remedy: "ask".to_owned() };
    assert_eq!((refused.outcome, refused.rule.as_ref()), (Outcome::Denied, Some(&ruling)));
}

#[tokio::test]
async fn responses_without_a_body_end_with_their_head_and_keep_the_connection() {
    let set = Set::new(|_| {
        Ok(Box::new(|mut io| {
            Box::pin(async move {
                while let Ok(asked) = head(&mut io).await {
                    let status = asked.split(['/', ' ']).nth(2).unwrap();
                    let words = format!("HTTP/1.1 {status} X\r\ncontent-length: 1234\r\n\r\n");
                    io.write_all(words.as_bytes()).await.unwrap();
                }
            })
        }))
    });
    let mut stage = set.open();
    for (line, length) in
        [("HEAD /200", Some("1234")), ("GET /304", None), ("GET /204", None), ("HEAD /404", Some("1234"))]
    {
        stage.client.write_all(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let answer = head(&mut stage.client).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {} ", &line[line.len() - 3..])), "{line}: {answer}");
        assert_eq!(field(&answer, "content-length"), length, "{line}: {answer}");
    }
    assert_eq!(stage.leave().await.outcome, Outcome::Completed);
    assert_eq!(set.dialled(), 1);
    assert!(set.records().iter().all(|exchange| exchange.outcome == Outcome::Completed));
}

#[tokio::test]
async fn a_client_of_http_1_0_is_given_a_host_and_an_answer_without_chunks() {
    let set = Set::new(|_| {
        Ok(Box::new(|mut io| {
            Box::pin(async move {
                let asked = head(&mut io).await.unwrap();
                assert!(asked.starts_with("GET /old HTTP/1.1\r\n"), "{asked}");
                assert_eq!(field(&asked, "host"), Some("api.shop.svc.clusterset.local"));
                let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n";
                io.write_all(chunked).await.unwrap();
                rest(&mut io).await;
            })
        }))
    });
    let mut stage = set.open();
    let answer = stage.say("GET /old HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nold"), "{answer}");
    assert!(field(&answer, "transfer-encoding").is_none(), "{answer}");
    assert_eq!(stage.served().await.outcome, Outcome::Completed);
}

#[tokio::test]
async fn the_client_is_told_to_continue_only_when_it_may() {
    let mut set = Set::echo(false);
    set.verdict = Arc::new(|_, method, _| if method == "PUT" { Err(refused()) } else { Ok(()) });
    let ask = |method| format!("{method} / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let mut stage = set.open();
    stage.client.write_all(ask("POST").as_bytes()).await.unwrap();
    assert_eq!(head(&mut stage.client).await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    let answer = stage.ask("body").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\n\nbody"), "{answer}");
    let answer = stage.say(ask("PUT")).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(!answer.contains("100 Continue"), "{answer}");
}

fn refused() -> Refused {
    Refused { outcome: Outcome::Denied, status: StatusCode::FORBIDDEN, reason: "no".into(), rule: None }
}

#[tokio::test]
async fn pipelined_requests_are_judged_and_answered_in_order() {
    let mut set = Set::echo(false);
    set.verdict = Arc::new(|_, _, path| if path == "/2" { Err(refused()) } else { Ok(()) });
    let mut stage = set.open();
    let ask = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = stage
        .say([ask("/1"), ask("/2"), "GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned()].concat())
        .await;
    let statuses: Vec<_> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(statuses[..2], ["200", "403"], "{answer}");
    let records: Vec<_> = set.recorded().into_iter().map(|(_, path, status, _)| (path, status.unwrap())).collect();
    assert_eq!(records, [("/1".into(), 200), ("/2".into(), 403), ("/3".into(), 200)]);
}

#[tokio::test]
async fn a_body_is_streamed_both_ways_without_being_held() {
    let set = Set::new(|_| {
        Ok(Box::new(|mut io| {
            Box::pin(async move {
                head(&mut io).await.unwrap();
                io.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
                rest(&mut io).await;
            })
        }))
    });
    let mut stage = set.open();
    stage
        .client
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        .await
        .unwrap();
    let answer = head(&mut stage.client).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stage.client.write_all(b"1\r\nb\r\n").await.unwrap();
    assert_eq!(stage.leave().await.outcome, Outcome::ClientReset);
    assert_eq!(set.recorded()[0].3, Outcome::ClientReset);
}

#[tokio::test]
async fn an_endpoint_that_stops_in_the_middle_ends_the_connection_without_an_end_of_the_body() {
    let set = Set::saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let mut stage = set.open();
    let answer = stage.say(GET).await;
    assert!(answer.ends_with("3\r\nabc\r\n"), "the end of the body is not made up: {answer}");
    let served = stage.served().await;
    assert_eq!(served.outcome, Outcome::DestinationReset);
    assert_eq!(set.recorded(), [("GET".into(), "/a".into(), Some(200), Outcome::DestinationReset)]);
}

#[tokio::test]
async fn what_is_no_answer_is_a_502_and_the_next_request_gets_another_connection() {
    let set = Set::new(|n| {
        Ok(Box::new(move |mut io| {
            Box::pin(async move {
                head(&mut io).await.unwrap();
                let words: &[u8] = match n {
                    0 => b"",
                    1 => b"SSH-2.0-OpenSSH_9.2\r\n",
                    2 => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
                    3 => b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
                    _ => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                };
                io.write_all(words).await.unwrap();
            })
        }))
    });
    let mut stage = set.open();
    for _ in 0..4 {
        let answer = stage.ask(GET).await;
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
        assert_eq!(field(&answer, "x-landbridge-refused"), Some("destination-reset"));
    }
    assert!(stage.ask(GET).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(stage.leave().await.outcome, Outcome::Completed);
    assert_eq!(set.recorded()[0].3, Outcome::DestinationReset);
}

#[tokio::test]
async fn each_way_to_have_no_endpoint_has_its_status() {
    for (error, status, label) in [
        (ConnectError::NoEndpoint, "503 Service Unavailable", "no-endpoint"),
        (ConnectError::Refused, "502 Bad Gateway", "connect-refused"),
        (ConnectError::TimedOut, "504 Gateway Timeout", "connect-timeout"),
    ] {
        let set = Set::new(move |_| Err(error));
        let mut stage = set.open();
        let answer = stage.ask(GET).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert_eq!(field(&answer, "x-landbridge-refused"), Some(label));
        assert_eq!(stage.leave().await.outcome, Outcome::Completed);
        assert_eq!(set.recorded()[0].3, error.outcome());
    }
}

/// The n-th connection answers one request, then ends as soon as it is asked again.
fn ending_under_the_second() -> Set {
    Set::new(|n| {
        Ok(Box::new(move |mut io| {
            Box::pin(async move {
                head(&mut io).await.unwrap();
                io.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{n}").as_bytes()).await.unwrap();
                let _ = head(&mut io).await;
            })
        }))
    })
}

#[tokio::test]
async fn a_request_that_may_be_repeated_is_when_a_kept_connection_ends_under_it() {
    let set = ending_under_the_second();
    let mut stage = set.open();
    for n in 0..3 {
        let answer = stage.ask(GET).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{n}")), "{answer}");
    }
    assert_eq!((set.dialled(), set.judged()), (3, 3), "judged once for each request");
}

#[tokio::test]
async fn a_request_that_may_have_had_an_effect_is_not_repeated() {
    let set = ending_under_the_second();
    let mut stage = set.open();
    stage.ask(GET).await;
    let answer = stage.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(set.dialled(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_ended_meanwhile_costs_no_request() {
    let set = Set::saying(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx");
    let mut stage = set.open();
    for n in 1..4 {
        let answer = stage.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        until("the endpoint is dialled once for each", || set.dialled() == n).await;
    }
}

#[tokio::test]
async fn an_absolute_target_decides_the_host() {
    let set = Set::echo(false);
    let mut stage = set.open();
    let answer = stage.ask("GET http://b.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert!(answer.contains("\r\n\r\nGET /x?y HTTP/1.1\n"), "{answer}");
    assert_eq!(field(&answer, "host"), Some("b.example"));
}

#[tokio::test]
async fn connect_is_not_served() {
    let set = Set::echo(false);
    let answer = set.open().say("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{answer}");
    assert_eq!((set.dialled(), set.judged()), (0, 0));
}

#[tokio::test]
async fn options_of_the_whole_server_pass() {
    let set = Set::echo(false);
    let answer = set.open().ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.contains("\r\n\r\nOPTIONS * HTTP/1.1\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_body_is_the_one_who_reset() {
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let set = Set::echo(false);
        let mut stage = set.open();
        let words = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n3\r\na");
        stage.client.write_all(words.as_bytes()).await.unwrap();
        until("the endpoint is dialled", || set.dialled() == 1).await;
        assert_eq!(stage.leave().await.outcome, Outcome::ClientReset, "{framing}");
        assert_eq!(set.recorded()[0].3, Outcome::ClientReset, "{framing}");
    }
}
