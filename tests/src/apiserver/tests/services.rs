//! Services.
//!
//! Owns the tests of their addresses and their validation. Never tests traffic.

use serde_json::{Value, json};

use super::{Cluster, PAY, SERVICES, service};

fn with(spec: Value) -> Value {
    json!({"metadata": {"name": "pay"}, "spec": spec})
}

#[test]
fn a_service_gets_an_address_that_it_keeps() {
    let mut cluster = Cluster::new();
    let made = cluster.post(SERVICES, service(&json!([{"port": 80}]))).unwrap();
    let spec = &made["spec"];
    assert_eq!((&spec["type"], &spec["ipFamilyPolicy"]), (&json!("ClusterIP"), &json!("SingleStack")));
    assert_eq!((&spec["clusterIPs"], &spec["ipFamilies"]), (&json!([spec["clusterIP"]]), &json!(["IPv4"])));
    assert_eq!(spec["ports"], json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]));
    let mut without = with(json!({"ports": [{"port": 81}]}));
    without["apiVersion"] = "v1".into();
    without["kind"] = "Service".into();
    let kept = cluster.put(PAY, &without).unwrap();
    assert_eq!(kept["spec"]["clusterIP"], spec["clusterIP"]);
    let refused =
        cluster.merge(PAY, &json!({"spec": {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"]}})).unwrap_err();
    let message =
        "Service \"pay\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.96.9.9\"]: may not change once set";
    assert_eq!((refused.code, &*refused.message), (422, message));
}

#[test]
fn an_address_is_free_again_when_its_service_is_gone() {
    let mut cluster = Cluster::new();
    let first = cluster.post(SERVICES, service(&json!([{"port": 80}]))).unwrap();
    let taken = json!({"metadata": {"name": "other"},
        "spec": {"clusterIP": first["spec"]["clusterIP"], "ports": [{"port": 80}]}});
    let refused = cluster.post(SERVICES, taken.clone()).unwrap_err();
    assert!(refused.message.ends_with("provided IP is already allocated"), "{}", refused.message);
    cluster.delete(PAY).unwrap();
    let second = cluster.post(SERVICES, taken).unwrap();
    assert_eq!(second["spec"]["clusterIP"], first["spec"]["clusterIP"]);
}

#[test]
fn two_stacks_are_given_where_there_are_two() {
    let prefers = || with(json!({"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]}));
    let made = Cluster::new().post(SERVICES, prefers()).unwrap();
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4"]));
    let made = Cluster::with(true).post(SERVICES, prefers()).unwrap();
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert!(made["spec"]["clusterIPs"][1].as_str().unwrap().starts_with("fd00:10:96::"), "{made:#}");
    let requires = with(json!({"ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80}]}));
    let refused = Cluster::new().post(SERVICES, requires).unwrap_err();
    assert_eq!(refused.details["causes"][0]["field"], "spec.ipFamilyPolicy");
}

#[test]
fn headless_and_external_services_get_no_address() {
    let mut cluster = Cluster::new();
    let headless = with(json!({"clusterIP": "None", "selector": {"app": "pay"}, "ports": [{"port": 80}]}));
    let made = cluster.post(SERVICES, headless).unwrap();
    assert_eq!(made["spec"]["clusterIPs"], json!(["None"]));
    let external = json!({"metadata": {"name": "out"}, "spec": {"type": "ExternalName", "externalName": "a.example"}});
    let made = cluster.post(SERVICES, external).unwrap();
    assert_eq!((made["spec"].get("clusterIP"), made["spec"].get("ipFamilies")), (None, None));
}

#[test]
fn bad_services_are_refused_field_by_field() {
    let mut cluster = Cluster::new();
    let cause = |cluster: &mut Cluster, object: Value| {
        let refused = cluster.post(SERVICES, object).unwrap_err();
        assert_eq!(refused.code, 422, "{refused:?}");
        let cause = &refused.details["causes"][0];
        (cause["reason"].as_str().unwrap().to_owned(), cause["field"].as_str().unwrap().to_owned())
    };
    for (object, reason, field) in [
        (service(&json!([])), "FieldValueRequired", "spec.ports"),
        (service(&json!([{"port": 80}, {"port": 81}])), "FieldValueRequired", "spec.ports[0].name"),
        (
            service(&json!([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}])),
            "FieldValueDuplicate",
            "spec.ports[1]",
        ),
        (
            service(&json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}])),
            "FieldValueDuplicate",
            "spec.ports[1].name",
        ),
        (service(&json!([{"port": 0}])), "FieldValueInvalid", "spec.ports[0].port"),
        (service(&json!([{"port": 80, "name": "A_b"}])), "FieldValueInvalid", "spec.ports[0].name"),
        (service(&json!([{"port": 80, "protocol": "ICMP"}])), "FieldValueNotSupported", "spec.ports[0].protocol"),
        (
            json!({"metadata": {"name": "8080"}, "spec": {"ports": [{"port": 80}]}}),
            "FieldValueInvalid",
            "metadata.name",
        ),
    ] {
        assert_eq!(cause(&mut cluster, object), (reason.to_owned(), field.to_owned()));
    }
}
