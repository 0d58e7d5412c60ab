//! What a test can make go wrong.
//!
//! Owns the tests of the faults. Never tests how a client takes them.

use http::Method;
use serde_json::json;
use tests::apiserver::{ApiServer, Fault};

use super::{
    MAPS,
    caller::{Caller, Http},
    map,
};

#[tokio::test]
async fn a_fault_strikes_as_often_as_it_is_told_and_only_what_it_is_for() {
    let server = ApiServer::start().await;
    let mut caller = Caller::new(&server, Http::One, Some(server.admin_token())).await;
    server.fault(Fault::throttled(2).verb("list").resource("configmaps").times(2));
    assert_eq!(caller.ask(Method::GET, "/api/v1/pods", None).await.code, 200);
    for _ in 0..2 {
        let throttled = caller.ask(Method::GET, MAPS, None).await;
        assert_eq!((throttled.code, throttled.retry_after.as_deref()), (429, Some("2")));
        assert_eq!(throttled.json()["details"]["retryAfterSeconds"], 2);
    }
    assert_eq!(caller.ask(Method::GET, MAPS, None).await.code, 200);
    server.fault(Fault::status(503));
    assert_eq!(caller.ask(Method::GET, MAPS, None).await.json()["reason"], "ServiceUnavailable");
    server.fault(Fault::status(500).times(9));
    server.heal();
    assert_eq!(caller.ask(Method::GET, MAPS, None).await.code, 200);
}

#[tokio::test]
async fn a_hanging_request_is_never_answered_and_others_are() {
    let server = ApiServer::start().await;
    for http in [Http::One, Http::Two] {
        server.fault(Fault::hang().resource("configmaps"));
        let mut caller = Caller::new(&server, http, Some(server.admin_token())).await;
        assert!(caller.is_left_hanging(Method::GET, MAPS).await);
        let mut other = Caller::new(&server, http, Some(server.admin_token())).await;
        assert_eq!(other.ask(Method::GET, MAPS, None).await.code, 200);
    }
    assert_eq!(server.requests().iter().filter(|asked| asked.code == 0).count(), 2);
}

#[tokio::test]
async fn a_restart_closes_every_connection_and_keeps_the_objects() {
    let server = ApiServer::start().await;
    server.put(map("a"));
    let mut caller = Caller::new(&server, Http::Two, Some(server.admin_token())).await;
    let watch = caller.watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    server.stop().await;
    watch_was_cut(watch).await;
    assert!(caller.try_ask(Method::GET, MAPS, None).await.is_none());
    assert!(tokio::net::TcpStream::connect(server.address()).await.is_err());
    server.restart().await;
    let mut caller = Caller::new(&server, Http::Two, Some(server.admin_token())).await;
    assert_eq!(caller.ask(Method::GET, &format!("{MAPS}/a"), None).await.code, 200);
}

async fn watch_was_cut(mut watch: super::caller::Watch) {
    watch.line_of("ADDED").await;
    watch.ended().await;
}

#[tokio::test]
async fn an_old_version_has_expired_once_the_history_is_compacted() {
    let server = ApiServer::start().await;
    let mut caller = Caller::new(&server, Http::One, Some(server.admin_token())).await;
    let listed = caller.ask(Method::GET, MAPS, None).await.json();
    let version = listed["metadata"]["resourceVersion"].as_str().unwrap();
    server.put(map("a"));
    server.compact();
    let mut watch = caller.watch(&format!("{MAPS}?watch=1&resourceVersion={version}")).await;
    let line = watch.line_of("ERROR").await;
    assert_eq!((&line["object"]["code"], &line["object"]["reason"]), (&json!(410), &json!("Expired")));
    watch.ended().await;
    server.fault(Fault::status(410).verb("watch"));
    let refused = caller.ask(Method::GET, &format!("{MAPS}?watch=1"), None).await;
    assert_eq!((refused.code, &refused.json()["reason"]), (410, &json!("Expired")));
}

#[tokio::test]
async fn a_webhook_refuses_the_writes_of_its_kind() {
    let server = ApiServer::start().await;
    let mut caller = Caller::new(&server, Http::One, Some(server.admin_token())).await;
    server.refuse_writes("ConfigMap", "not on a Friday");
    let refused = caller.ask(Method::POST, MAPS, Some(&map("a"))).await;
    assert_eq!(refused.code, 403);
    assert!(refused.body.contains("denied the request: not on a Friday"), "{}", refused.body);
    server.allow_writes();
    assert_eq!(caller.ask(Method::POST, MAPS, Some(&map("a"))).await.code, 201);
}
