//! The API server of the tests, as clients see it.
//!
//! Owns the tests of what crosses the wire; what is decided without one is tested where it is decided. Never starts a gateway.

mod caller;
mod faults;
mod kubectl;
mod real;

use http::Method;
use serde_json::json;
use tests::apiserver::ApiServer;

use caller::{Caller, Http};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": "1"}})
}

#[tokio::test]
async fn both_versions_of_http_are_answered() {
    let server = ApiServer::start().await;
    for (http, name) in [(Http::One, "one"), (Http::Two, "two")] {
        let mut caller = Caller::new(&server, http, Some(server.admin_token())).await;
        assert_eq!(caller.ask(Method::POST, MAPS, Some(&map(name))).await.code, 201);
        let found = caller.ask(Method::GET, &format!("{MAPS}/{name}"), None).await;
        assert_eq!((found.code, &found.json()["data"]["x"]), (200, &json!("1")));
        let missing = caller.ask(Method::GET, "/apis/none.example/v1/things", None).await;
        assert_eq!((missing.code, &*missing.body), (404, "404 page not found\n"));
    }
    assert_eq!(server.count("create", "configmaps"), 2);
    assert_eq!(server.writes().len(), 2);
}

#[tokio::test]
async fn only_a_known_token_is_let_in() {
    let server = ApiServer::start().await;
    for (token, code) in [(Some(server.admin_token()), 200), (Some("guessed"), 401), (None, 401)] {
        let mut caller = Caller::new(&server, Http::One, token).await;
        assert_eq!(caller.ask(Method::GET, MAPS, None).await.code, code, "{token:?}");
    }
}

#[tokio::test]
async fn roles_hold_where_they_are_switched_on() {
    let server = ApiServer::setup().with_rbac().start().await;
    let token = server.account_token("default", "reader");
    let mut caller = Caller::new(&server, Http::Two, Some(&token)).await;
    assert_eq!(caller.ask(Method::GET, MAPS, None).await.code, 403);
    server.put_yaml(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules:
- {apiGroups: [''], resources: [configmaps], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {kind: Role, name: reader, apiGroup: rbac.authorization.k8s.io}
subjects:
- {kind: ServiceAccount, name: reader, namespace: default}
",
    );
    assert_eq!(caller.ask(Method::GET, MAPS, None).await.code, 200);
    assert_eq!(caller.ask(Method::POST, MAPS, Some(&map("a"))).await.code, 403);
    let mut nobody = Caller::new(&server, Http::One, None).await;
    let refused = nobody.ask(Method::GET, MAPS, None).await;
    assert!(refused.body.contains("system:anonymous"), "{}", refused.body);
}

#[tokio::test]
async fn a_watch_is_told_when_it_happens() {
    let server = ApiServer::start().await;
    for http in [Http::One, Http::Two] {
        let mut caller = Caller::new(&server, http, Some(server.admin_token())).await;
        let mut watch = caller.watch(&format!("{MAPS}?watch=1&allowWatchBookmarks=true")).await;
        server.put(map("a"));
        let line = watch.line_of("ADDED").await;
        assert_eq!(line["object"]["metadata"]["name"], "a");
        let bookmark = watch.line_of("BOOKMARK").await;
        assert!(bookmark["object"]["metadata"]["resourceVersion"].is_string(), "{bookmark}");
        server.delete("cm", "default", "a");
        watch.line_of("DELETED").await;
        server.drop_watches();
        watch.ended().await;
    }
}

#[tokio::test]
async fn what_others_write_is_what_a_test_waits_for() {
    let server = ApiServer::start().await;
    let mut caller = Caller::new(&server, Http::One, Some(server.admin_token())).await;
    let new = map("a");
    let waiting = server.wait_for("configmap", "default", "a", |map| map["data"]["x"] == "1");
    let (seen, made) = tokio::join!(waiting, caller.ask(Method::POST, MAPS, Some(&new)));
    assert_eq!(seen, made.json());
    let gone = server.wait_gone("configmap", "default", "a");
    let ((), ended) = tokio::join!(gone, caller.ask(Method::DELETE, "/api/v1/namespaces/default/configmaps/a", None));
    assert_eq!(ended.json()["status"], "Success");
}
