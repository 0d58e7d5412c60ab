//! Create, read, update, patch, delete.
//!
//! Owns the tests of what every kind has in common. Never tests what one kind does alone.

use http::Method;
use serde_json::json;

use super::{Cluster, MAPS};

const A: &str = "/api/v1/namespaces/shop/configmaps/a";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases";

fn map(name: &str) -> serde_json::Value {
    json!({"metadata": {"name": name}, "data": {"x": "1"}})
}

#[test]
fn a_new_object_has_what_the_server_gives() {
    let mut cluster = Cluster::new();
    let made = cluster.post(MAPS, map("a")).unwrap();
    let metadata = &made["metadata"];
    assert_eq!((&metadata["namespace"], &metadata["creationTimestamp"]), (&json!("shop"), &json!(super::NOW)));
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert_eq!(metadata["resourceVersion"], cluster.store.revision().to_string());
    let refused = cluster.post(MAPS, map("a")).unwrap_err();
    assert_eq!((refused.code, &*refused.message), (409, r#"configmaps "a" already exists"#));
    let generated = cluster.post(MAPS, json!({"metadata": {"generateName": "b-"}})).unwrap();
    assert_eq!(generated["metadata"]["name"].as_str().unwrap().len(), "b-".len() + 5);
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut cluster = Cluster::new();
    let missing = cluster.get(A).unwrap_err();
    assert_eq!((missing.code, &*missing.message), (404, r#"configmaps "a" not found"#));
    assert_eq!(missing.details, json!({"kind": "configmaps", "name": "a"}));
    let missing = cluster.post("/api/v1/namespaces/none/configmaps", map("a")).unwrap_err();
    assert_eq!((missing.code, &*missing.message), (404, r#"namespaces "none" not found"#));
    let missing = cluster.get("/apis/none.example/v1/things").unwrap_err();
    assert!(missing.is_plain(), "nobody serves the group, so nobody knows of Status: {missing:?}");
    let missing = cluster.get("/apis/apps/v1/things").unwrap_err();
    assert_eq!((missing.code, &*missing.message), (404, "the server could not find the requested resource"));
}

#[test]
fn the_loser_of_two_updates_is_told_so() {
    let mut cluster = Cluster::new();
    let lease = json!({"metadata": {"name": "leader"}, "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15}});
    let made = cluster.post(LEASES, lease).unwrap();
    let path = format!("{LEASES}/leader");
    let (mut mine, mut theirs) = (made.clone(), made);
    mine["spec"]["holderIdentity"] = "two".into();
    theirs["spec"]["holderIdentity"] = "three".into();
    cluster.put(&path, &mine).unwrap();
    let refused = cluster.put(&path, &theirs).unwrap_err();
    let message = "Operation cannot be fulfilled on leases.coordination.k8s.io \"leader\": the object has been modified; \
                   please apply your changes to the latest version and try again";
    assert_eq!((refused.code, refused.reason, &*refused.message), (409, "Conflict", message));
    theirs["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let refused = cluster.put(&path, &theirs).unwrap_err();
    let message = "leases.coordination.k8s.io \"leader\" is invalid: metadata.resourceVersion: Invalid value: 0: must be \
                   specified for an update";
    assert_eq!((refused.code, &*refused.message), (422, message));
}

#[test]
fn an_update_without_a_change_is_no_write() {
    let mut cluster = Cluster::new();
    let made = cluster.post(MAPS, map("a")).unwrap();
    assert_eq!(cluster.put(A, &made).unwrap(), made);
    assert_eq!(cluster.merge(A, &json!({"data": {"x": "1"}})).unwrap(), made);
}

#[test]
fn each_kind_of_patch_does_what_its_standard_says() {
    let mut cluster = Cluster::new();
    cluster.post(MAPS, map("a")).unwrap();
    let merged = cluster.merge(A, &json!({"data": {"x": null, "y": "2"}})).unwrap();
    assert_eq!(merged["data"], json!({"y": "2"}));
    let json_patch = |patch: serde_json::Value| (patch.to_string(), "application/json-patch+json");
    let (patch, media) = json_patch(json!([{"op": "test", "path": "/data/y", "value": "2"},
        {"op": "replace", "path": "/data/y", "value": "3"}]));
    assert_eq!(cluster.ask(&Method::PATCH, A, media, &patch).unwrap()["data"], json!({"y": "3"}));
    assert_eq!(cluster.ask(&Method::PATCH, A, media, &patch).unwrap_err().code, 422);
    let pods = "/api/v1/namespaces/shop/pods";
    let containers = json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]);
    cluster.post(pods, json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})).unwrap();
    let patch = json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}).to_string();
    let strategic = "application/strategic-merge-patch+json";
    let patched = cluster.ask(&Method::PATCH, &format!("{pods}/p"), strategic, &patch).unwrap();
    let containers = patched["spec"]["containers"].as_array().unwrap();
    let images: Vec<_> = containers.iter().map(|container| (&container["name"], &container["image"])).collect();
    assert_eq!(images, [(&json!("a"), &json!("1")), (&json!("b"), &json!("2"))]);
    assert_eq!(cluster.ask(&Method::PATCH, A, "text/plain", "{}").unwrap_err().code, 415);
}

#[test]
fn a_list_can_be_read_in_pages_that_fit_together() {
    let mut cluster = Cluster::new();
    for name in ["a", "b", "c"] {
        cluster.post(MAPS, map(name)).unwrap();
    }
    let first = cluster.get(&format!("{MAPS}?limit=2")).unwrap();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    cluster.delete("/api/v1/namespaces/shop/configmaps/c").unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).unwrap();
    assert_eq!(second["items"][0]["metadata"]["name"], "c", "as it was when the list began");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(second["metadata"].get("continue"), None);
    cluster.store.compact();
    let expired = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).unwrap_err();
    assert_eq!((expired.code, expired.reason), (410, "Expired"));
}

#[test]
fn a_finalizer_holds_an_object_until_it_is_taken_off() {
    let mut cluster = Cluster::new();
    let held = json!({"metadata": {"name": "a", "finalizers": ["landbridge.dev/hold"]}});
    cluster.post(MAPS, held).unwrap();
    let ending = cluster.delete(A).unwrap();
    assert_eq!(ending["metadata"]["deletionTimestamp"], super::NOW);
    let refused = cluster.merge(A, &json!({"metadata": {"finalizers": ["landbridge.dev/more"]}})).unwrap_err();
    assert_eq!((refused.code, &refused.details["causes"][0]["field"]), (422, &json!("metadata.finalizers")));
    cluster.merge(A, &json!({"metadata": {"finalizers": null}})).unwrap();
    assert_eq!(cluster.get(A).unwrap_err().code, 404);
}

#[test]
fn a_deletion_can_be_bound_to_one_life_of_an_object() {
    let mut cluster = Cluster::new();
    let made = cluster.post(MAPS, map("a")).unwrap();
    let with = |uid: &str| json!({"preconditions": {"uid": uid}}).to_string();
    let refused = cluster.ask(&Method::DELETE, A, "", &with("other")).unwrap_err();
    assert_eq!((refused.code, refused.reason), (409, "Conflict"));
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let gone = cluster.ask(&Method::DELETE, A, "", &with(uid)).unwrap();
    assert_eq!((&gone["status"], &gone["details"]["uid"]), (&json!("Success"), &json!(uid)));
}

#[test]
fn owned_objects_end_with_their_owner_and_a_namespace_with_its_content() {
    let mut cluster = Cluster::new();
    let owner = cluster.post(MAPS, map("a")).unwrap();
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": owner["metadata"]["uid"]});
    cluster.post(MAPS, json!({"metadata": {"name": "b", "ownerReferences": [reference]}})).unwrap();
    cluster.delete(A).unwrap();
    assert_eq!(cluster.get("/api/v1/namespaces/shop/configmaps/b").unwrap_err().code, 404);
    cluster.post(MAPS, json!({"metadata": {"name": "c", "finalizers": ["landbridge.dev/hold"]}})).unwrap();
    let ending = cluster.delete("/api/v1/namespaces/shop").unwrap();
    assert_eq!(ending["status"]["phase"], "Terminating");
    let refused = cluster.post(MAPS, map("d")).unwrap_err();
    assert_eq!((refused.code, &refused.details["causes"][0]["reason"]), (403, &json!("NamespaceTerminating")));
    cluster.merge("/api/v1/namespaces/shop/configmaps/c", &json!({"metadata": {"finalizers": []}})).unwrap();
    assert_eq!(cluster.get("/api/v1/namespaces/shop").unwrap_err().code, 404);
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut cluster = Cluster::new();
    cluster.post(&format!("{MAPS}?dryRun=All"), map("a")).unwrap();
    assert_eq!(cluster.get(A).unwrap_err().code, 404);
    cluster.post(MAPS, map("a")).unwrap();
    cluster.ask(&Method::DELETE, A, "", &json!({"dryRun": ["All"]}).to_string()).unwrap();
    assert!(cluster.get(A).is_ok());
}
