//! Server-side apply.
//!
//! Owns the tests of ownership, conflicts and removal. Never tests the other patches.

use serde_json::json;

use super::{Cluster, MAPS, PAY, fields_of, service};

const A: &str = "/api/v1/namespaces/shop/configmaps/a";

#[test]
fn a_first_apply_creates_and_owns_every_leaf() {
    let mut cluster = Cluster::new();
    let made = cluster.apply(PAY, "one", service(&json!([{"port": 80, "name": "web"}]))).unwrap();
    assert_eq!(made["spec"]["ports"][0]["protocol"], "TCP");
    assert!(made["spec"]["clusterIP"].as_str().unwrap().starts_with("10.96."));
    let port = json!({r#"k:{"port":80,"protocol":"TCP"}"#: {".": {}, "f:name": {}, "f:port": {}}});
    assert_eq!(fields_of(&made, "one"), json!({"f:spec": {"f:ports": port}}));
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!((&entry["operation"], &entry["apiVersion"]), (&json!("Apply"), &json!("v1")));
}

#[test]
fn another_managers_value_is_a_conflict_unless_it_is_the_same() {
    let mut cluster = Cluster::new();
    let with = |value: &str| json!({"metadata": {"name": "a"}, "data": {"x": value}});
    cluster.apply(A, "one", with("1")).unwrap();
    let shared = cluster.apply(A, "two", with("1")).unwrap();
    assert_eq!(fields_of(&shared, "one"), fields_of(&shared, "two"));
    let refused = cluster.apply(A, "two", with("2")).unwrap_err();
    assert_eq!((refused.code, refused.reason), (409, "Conflict"));
    assert_eq!(refused.message, r#"Apply failed with 1 conflict: conflict with "one": .data.x"#);
    let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.x"});
    assert_eq!(refused.details, json!({"causes": [cause]}));
}

#[test]
fn force_takes_the_field_from_the_other() {
    let mut cluster = Cluster::new();
    let with = |value: &str| json!({"metadata": {"name": "a"}, "data": {"x": value, "y": "0"}});
    cluster.apply(A, "one", with("1")).unwrap();
    let forced = cluster.apply(A, "two&force=true", with("2")).unwrap();
    assert_eq!(forced["data"]["x"], "2");
    assert_eq!(fields_of(&forced, "one"), json!({"f:data": {"f:y": {}}}));
    assert_eq!(fields_of(&forced, "two"), json!({"f:data": {"f:x": {}, "f:y": {}}}));
}

#[test]
fn what_is_applied_no_more_goes_unless_somebody_else_owns_it() {
    let mut cluster = Cluster::new();
    cluster
        .apply(A, "one", json!({"metadata": {"name": "a", "labels": {"l": "1"}}, "data": {"x": "1", "y": "1"}}))
        .unwrap();
    cluster.apply(A, "two", json!({"metadata": {"name": "a"}, "data": {"y": "1"}})).unwrap();
    let less = cluster.apply(A, "one", json!({"metadata": {"name": "a"}})).unwrap();
    assert_eq!(less["data"], json!({"y": "1"}));
    assert_eq!(less["metadata"].get("labels"), None);
    assert_eq!(fields_of(&less, "one"), json!(null));
}

#[test]
fn an_update_owns_what_it_changes_and_takes_it_from_an_applier() {
    let mut cluster = Cluster::new();
    let mut map = cluster.apply(A, "one", json!({"metadata": {"name": "a"}, "data": {"x": "1", "y": "1"}})).unwrap();
    map["data"]["x"] = "2".into();
    let updated = cluster.put(A, &map).unwrap();
    assert_eq!(fields_of(&updated, "one"), json!({"f:data": {"f:y": {}}}));
    assert_eq!(fields_of(&updated, "kubectl"), json!({"f:data": {"f:x": {}}}));
    let refused =
        cluster.apply(A, "one", json!({"metadata": {"name": "a"}, "data": {"x": "1", "y": "1"}})).unwrap_err();
    assert_eq!(refused.message, r#"Apply failed with 1 conflict: conflict with "kubectl" using v1: .data.x"#);
}

#[test]
fn a_created_object_is_owned_by_its_creator_field_by_field() {
    let mut cluster = Cluster::new();
    let made =
        cluster.post(MAPS, json!({"metadata": {"name": "a", "labels": {"l": "1"}}, "data": {"x": "1"}})).unwrap();
    let labels = json!({"f:labels": {".": {}, "f:l": {}}});
    assert_eq!(fields_of(&made, "kubectl"), json!({"f:metadata": labels, "f:data": {".": {}, "f:x": {}}}));
}

#[test]
fn an_apply_that_changes_nothing_is_no_write() {
    let mut cluster = Cluster::new();
    let config = json!({"metadata": {"name": "a"}, "data": {"x": "1"}});
    let first = cluster.apply(A, "one", config.clone()).unwrap();
    let revision = cluster.store.revision();
    cluster.now = "2026-01-01T00:00:09Z".to_owned();
    assert_eq!(cluster.apply(A, "one", config).unwrap(), first);
    assert_eq!(cluster.store.revision(), revision);
}

#[test]
fn ports_of_a_service_merge_by_port_and_protocol() {
    let mut cluster = Cluster::new();
    cluster.apply(PAY, "one", service(&json!([{"port": 80, "name": "web"}]))).unwrap();
    let both = cluster.apply(PAY, "two", service(&json!([{"port": 81, "name": "more"}]))).unwrap();
    assert_eq!(both["spec"]["ports"].as_array().unwrap().len(), 2, "{both:#}");
    let one = cluster.apply(PAY, "one", service(&json!([{"port": 82, "name": "web"}]))).unwrap();
    let ports: Vec<_> = one["spec"]["ports"].as_array().unwrap().iter().map(|port| port["port"].clone()).collect();
    assert_eq!(ports, [81, 82], "{one:#}");
}

#[test]
fn conditions_merge_by_type_and_endpoints_do_not() {
    let mut cluster = Cluster::new();
    cluster.apply(PAY, "one", service(&json!([{"port": 80}]))).unwrap();
    let status = format!("{PAY}/status");
    let condition =
        |kind: &str| json!({"metadata": {"name": "pay"}, "status": {"conditions": [{"type": kind, "status": "True"}]}});
    cluster.apply(&status, "one", condition("A")).unwrap();
    let both = cluster.apply(&status, "two", condition("B")).unwrap();
    assert_eq!(both["status"]["conditions"].as_array().unwrap().len(), 2, "{both:#}");
    let slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/a";
    let slice = |address: &str| json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [{"addresses": [address]}]});
    let made = cluster.apply(slices, "one", slice("10.0.0.1")).unwrap();
    assert_eq!(fields_of(&made, "one"), json!({"f:addressType": {}, "f:endpoints": {}}));
    let refused = cluster.apply(slices, "two", slice("10.0.0.2")).unwrap_err();
    assert_eq!(refused.message, r#"Apply failed with 1 conflict: conflict with "one": .endpoints"#);
}

#[test]
fn an_apply_names_its_manager_and_no_managers() {
    let mut cluster = Cluster::new();
    let refused = cluster.apply(A, "", json!({"metadata": {"name": "a"}})).unwrap_err();
    assert_eq!(refused.code, 422, "{refused:?}");
    let refused = cluster.apply(A, "one", json!({"metadata": {"name": "a", "managedFields": []}})).unwrap_err();
    assert_eq!((refused.code, &*refused.message), (400, "metadata.managedFields must be nil"));
}

#[test]
fn a_status_is_owned_apart_from_the_rest() {
    let mut cluster = Cluster::new();
    let balanced = || json!({"metadata": {"name": "pay"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
    cluster.apply(PAY, "one", balanced()).unwrap();
    let status = json!({"metadata": {"name": "pay"}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
        "spec": {"type": "NodePort"}});
    let told = cluster.apply(&format!("{PAY}/status"), "one", status).unwrap();
    assert_eq!(told["spec"]["type"], "LoadBalancer");
    let entries = told["metadata"]["managedFields"].as_array().unwrap();
    let of_status = entries.iter().find(|entry| entry["subresource"] == "status").unwrap();
    assert_eq!(of_status["fieldsV1"], json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}}));
    let again = cluster.apply(PAY, "one", balanced()).unwrap();
    assert_eq!(again["status"], told["status"]);
}

#[test]
fn a_merged_list_keeps_the_order_of_what_is_applied() {
    let mut cluster = Cluster::new();
    let ports =
        |ports: &[u16]| service(&ports.iter().map(|port| json!({"port": port, "name": format!("p{port}")})).collect());
    cluster.apply(PAY, "one", ports(&[1, 2, 3])).unwrap();
    let merged = cluster.apply(PAY, "two", ports(&[3, 1])).unwrap();
    let order: Vec<_> = merged["spec"]["ports"].as_array().unwrap().iter().map(|port| port["port"].clone()).collect();
    assert_eq!(order, [2, 3, 1]);
}

#[test]
fn who_joins_without_a_change_has_no_time() {
    let mut cluster = Cluster::new();
    let config = json!({"metadata": {"name": "a"}, "data": {"x": "1"}});
    cluster.apply(A, "one", config.clone()).unwrap();
    let joined = cluster.apply(A, "two", config).unwrap();
    let entries = joined["metadata"]["managedFields"].as_array().unwrap();
    let times: Vec<_> = entries.iter().map(|entry| (&entry["manager"], entry.get("time").is_some())).collect();
    assert_eq!(times, [(&json!("two"), false), (&json!("one"), true)]);
}

#[test]
fn empty_maps_and_lists_of_built_in_kinds_are_not_kept() {
    let mut cluster = Cluster::new();
    let slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/a";
    let empty = json!({"metadata": {"name": "a", "labels": {}}, "addressType": "IPv4", "endpoints": []});
    let made = cluster.apply(slices, "one", empty).unwrap();
    assert_eq!(made["metadata"].get("labels"), None);
    assert_eq!((made.get("endpoints"), made.get("ports")), (Some(&json!(null)), Some(&json!(null))));
}
