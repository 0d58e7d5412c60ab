//! Watches.
//!
//! Owns the tests of what they tell. Never tests how it is sent.

use http::Method;
use serde_json::{Value, json};

use super::{
    super::{
        request::Request,
        watch::{News, Watch},
    },
    Cluster, MAPS,
};

fn watch(cluster: &Cluster, target: &str) -> (Watch, News) {
    let (path, query) = target.split_once('?').unwrap();
    let request = Request::read(&Method::GET, path, query);
    let target = request.target.clone().unwrap();
    let kind = cluster.store.kinds.served(&target.group, &target.version, &target.plural).unwrap();
    cluster.store.watch(kind, &request, &target).unwrap()
}

fn told(news: &News) -> Vec<(&str, &str)> {
    news.lines
        .iter()
        .map(|line| (line["type"].as_str().unwrap(), line["object"]["metadata"]["name"].as_str().unwrap_or("")))
        .collect()
}

fn map(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"l": label}}})
}

#[test]
fn a_watch_tells_what_follows_its_version() {
    let mut cluster = Cluster::new();
    let made = cluster.post(MAPS, map("a", "1")).unwrap();
    let from = made["metadata"]["resourceVersion"].as_str().unwrap();
    let (mut watch, first) = watch(&cluster, &format!("{MAPS}?watch=1&resourceVersion={from}"));
    assert_eq!(told(&first), []);
    cluster.post(MAPS, map("b", "1")).unwrap();
    cluster.merge(&format!("{MAPS}/a"), &json!({"data": {"x": "1"}})).unwrap();
    cluster.delete(&format!("{MAPS}/b")).unwrap();
    assert_eq!(told(&cluster.store.news(&mut watch)), [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]);
    assert_eq!(told(&cluster.store.news(&mut watch)), []);
}

#[test]
fn what_leaves_the_selection_is_told_as_deleted() {
    let mut cluster = Cluster::new();
    cluster.post(MAPS, map("a", "1")).unwrap();
    let (mut watch, first) = watch(&cluster, &format!("{MAPS}?watch=1&labelSelector=l%3D1"));
    assert_eq!(told(&first), [("ADDED", "a")]);
    cluster.merge(&format!("{MAPS}/a"), &json!({"metadata": {"labels": {"l": "2"}}})).unwrap();
    let news = cluster.store.news(&mut watch);
    assert_eq!(told(&news), [("DELETED", "a")]);
    assert_eq!(news.lines[0]["object"]["metadata"]["labels"]["l"], "1");
    assert_eq!(news.lines[0]["object"]["metadata"]["resourceVersion"], cluster.store.revision().to_string());
    cluster.merge(&format!("{MAPS}/a"), &json!({"metadata": {"labels": {"l": "1"}}})).unwrap();
    assert_eq!(told(&cluster.store.news(&mut watch)), [("ADDED", "a")]);
}

#[test]
fn a_streaming_list_ends_in_a_bookmark_that_says_so() {
    let mut cluster = Cluster::new();
    cluster.post(MAPS, map("a", "1")).unwrap();
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let (_, first) = watch(&cluster, &format!("{MAPS}?{query}"));
    assert_eq!(told(&first), [("ADDED", "a"), ("BOOKMARK", "")]);
    let bookmark = &first.lines[1]["object"];
    assert_eq!(bookmark["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    assert_eq!((&bookmark["kind"], &bookmark["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    let request = Request::read(&Method::GET, MAPS, "watch=1&sendInitialEvents=true");
    let kind = cluster.store.kinds.of_resource("configmaps").unwrap();
    let refused = cluster.store.watch(kind, &request, &request.target.clone().unwrap()).unwrap_err();
    assert_eq!(refused.code, 422);
}

#[test]
fn a_watch_from_a_compacted_version_has_expired() {
    let mut cluster = Cluster::new();
    let made = cluster.post(MAPS, map("a", "1")).unwrap();
    let from = made["metadata"]["resourceVersion"].as_str().unwrap();
    cluster.post(MAPS, map("b", "1")).unwrap();
    cluster.store.compact();
    let (_, first) = watch(&cluster, &format!("{MAPS}?watch=1&resourceVersion={from}"));
    assert!(first.end);
    assert_eq!(first.lines[0]["type"], "ERROR");
    let status = &first.lines[0]["object"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")));
}

#[test]
fn a_watch_ends_with_the_definition_of_its_kind() {
    let mut cluster = Cluster::new();
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let version =
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
    let names = json!({"plural": "things", "kind": "Thing"});
    let spec = json!({"group": "a.example", "scope": "Namespaced", "names": names, "versions": [version]});
    cluster.post(crds, json!({"metadata": {"name": "things.a.example"}, "spec": spec})).unwrap();
    let things = "/apis/a.example/v1/namespaces/shop/things";
    cluster.post(things, json!({"metadata": {"name": "a"}})).unwrap();
    let (mut watch, _) = watch(&cluster, &format!("{things}?watch=1"));
    cluster.delete(&format!("{crds}/things.a.example")).unwrap();
    let news = cluster.store.news(&mut watch);
    assert_eq!(told(&news), [("DELETED", "a")]);
    assert!(news.end);
}
