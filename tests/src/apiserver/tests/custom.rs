//! Custom resources.
//!
//! Owns the tests of definitions and their schemas. Never tests what built-in kinds do as well.

use serde_json::{Value, json};

use super::{Cluster, fields_of};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const EXPORTS: &str = "/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports";
const PAY: &str = "/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports/pay";

fn definition() -> Value {
    let conditions = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        "items": {"type": "object", "required": ["type", "status"], "properties": {
            "type": {"type": "string"}, "status": {"type": "string", "enum": ["True", "False", "Unknown"]}}},
    });
    let spec = json!({"type": "object", "properties": {
        "exportedLabels": {"type": "object", "additionalProperties": {"type": "string"}},
        "weight": {"type": "integer", "default": 1, "minimum": 0},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let schema = json!({"type": "object", "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
        "spec": spec, "status": {"type": "object", "properties": {"conditions": conditions}},
    }});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage,
        "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}})
    };
    json!({"metadata": {"name": "serviceexports.multicluster.x-k8s.io"}, "spec": {
        "group": "multicluster.x-k8s.io", "scope": "Namespaced",
        "names": {"plural": "serviceexports", "kind": "ServiceExport", "shortNames": ["svcex"]},
        "versions": [version("v1alpha1", false), version("v1beta1", true)],
    }})
}

fn defined() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.post(CRDS, definition()).unwrap();
    cluster
}

#[test]
fn a_kind_is_served_while_it_is_defined() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.get(EXPORTS).unwrap_err().code, 404);
    cluster.post(CRDS, definition()).unwrap();
    let crd = cluster.get(&format!("{CRDS}/serviceexports.multicluster.x-k8s.io")).unwrap();
    assert_eq!(crd["status"]["conditions"][1]["type"], "Established");
    cluster.post(EXPORTS, json!({"metadata": {"name": "pay"}})).unwrap();
    let group = cluster.get("/apis/multicluster.x-k8s.io").unwrap();
    assert_eq!(group["preferredVersion"]["version"], "v1beta1");
    let old = cluster.get(&PAY.replace("v1beta1", "v1alpha1")).unwrap();
    assert_eq!(old["apiVersion"], "multicluster.x-k8s.io/v1alpha1");
    cluster.delete(&format!("{CRDS}/serviceexports.multicluster.x-k8s.io")).unwrap();
    assert_eq!(cluster.get(EXPORTS).unwrap_err().code, 404);
    cluster.post(CRDS, definition()).unwrap();
    assert_eq!(cluster.get(PAY).unwrap_err().code, 404, "its objects went with the definition");
}

#[test]
fn unknown_fields_fall_away_and_defaults_are_filled_in() {
    let mut cluster = defined();
    let made =
        cluster.post(EXPORTS, json!({"metadata": {"name": "pay"}, "spec": {"color": "red"}, "more": 1})).unwrap();
    assert_eq!(made["spec"], json!({"weight": 1}));
    assert_eq!(made.get("more"), None);
}

#[test]
fn what_does_not_fit_the_schema_is_refused_field_by_field() {
    let mut cluster = defined();
    let spec = json!({"weight": -1, "exportedLabels": {"a": 1}});
    let refused = cluster.post(EXPORTS, json!({"metadata": {"name": "pay"}, "spec": spec})).unwrap_err();
    assert_eq!((refused.code, refused.reason), (422, "Invalid"));
    assert_eq!(refused.details["causes"][0]["field"], "spec.exportedLabels.a");
    assert_eq!(refused.details["causes"][0]["reason"], "FieldValueTypeInvalid");
    assert_eq!(refused.details["causes"][1]["field"], "spec.weight");
    cluster.post(EXPORTS, json!({"metadata": {"name": "pay"}})).unwrap();
    let status = json!({"status": {"conditions": [{"type": "Valid", "status": "Perhaps"}]}});
    let refused = cluster.merge(&format!("{PAY}/status"), &status).unwrap_err();
    let message = "ServiceExport.multicluster.x-k8s.io \"pay\" is invalid: status.conditions[0].status: Unsupported value: \
                   \"Perhaps\": supported values: \"True\", \"False\", \"Unknown\"";
    assert_eq!(refused.message, message);
}

#[test]
fn an_apply_of_a_field_that_the_schema_lacks_fails() {
    let mut cluster = defined();
    let refused =
        cluster.apply(PAY, "one", json!({"metadata": {"name": "pay"}, "spec": {"color": "red"}})).unwrap_err();
    assert_eq!(refused.code, 500);
    let message = "failed to create typed patch object (/pay; multicluster.x-k8s.io/v1beta1, Kind=ServiceExport): \
                   .spec.color: field not declared in schema";
    assert_eq!(refused.message, message);
}

#[test]
fn a_status_and_the_rest_do_not_touch_each_other() {
    let mut cluster = defined();
    let conditions = json!([{"type": "Valid", "status": "True"}]);
    let full = json!({"metadata": {"name": "pay"}, "spec": {"weight": 2}, "status": {"conditions": conditions}});
    let made = cluster.post(EXPORTS, full).unwrap();
    assert_eq!((made.get("status"), &made["metadata"]["generation"]), (None, &json!(1)));
    let patch =
        json!({"metadata": {"labels": {"l": "1"}}, "spec": {"weight": 3}, "status": {"conditions": conditions}});
    let told = cluster.merge(&format!("{PAY}/status"), &patch).unwrap();
    assert_eq!((&told["spec"]["weight"], &told["status"]["conditions"]), (&json!(2), &conditions));
    assert_eq!((told["metadata"].get("labels"), &told["metadata"]["generation"]), (None, &json!(1)));
    let changed = cluster.merge(PAY, &json!({"spec": {"weight": 4}, "status": null})).unwrap();
    assert_eq!((&changed["metadata"]["generation"], &changed["status"]["conditions"]), (&json!(2), &conditions));
}

#[test]
fn appliers_of_a_status_own_their_conditions() {
    let mut cluster = defined();
    cluster.post(EXPORTS, json!({"metadata": {"name": "pay"}})).unwrap();
    let status = format!("{PAY}/status");
    let of =
        |kind: &str| json!({"metadata": {"name": "pay"}, "status": {"conditions": [{"type": kind, "status": "True"}]}});
    cluster.apply(&status, "one", of("Valid")).unwrap();
    let both = cluster.apply(&status, "two", of("Ready")).unwrap();
    assert_eq!(both["status"]["conditions"].as_array().unwrap().len(), 2);
    let item = json!({r#"k:{"type":"Ready"}"#: {".": {}, "f:type": {}, "f:status": {}}});
    assert_eq!(fields_of(&both, "two"), json!({"f:status": {"f:conditions": item}}));
    let one = cluster.apply(&status, "one", json!({"metadata": {"name": "pay"}, "status": {}})).unwrap();
    assert_eq!(one["status"]["conditions"], json!([{"type": "Ready", "status": "True"}]));
}

#[test]
fn a_strategic_merge_patch_is_not_for_custom_resources() {
    let mut cluster = defined();
    cluster.post(EXPORTS, json!({"metadata": {"name": "pay"}})).unwrap();
    let refused = cluster.ask(&http::Method::PATCH, PAY, "application/strategic-merge-patch+json", "{}").unwrap_err();
    assert_eq!((refused.code, refused.reason), (415, "UnsupportedMediaType"));
}

#[test]
fn fields_of_no_known_type_are_kept_and_owned_with_what_leads_to_them() {
    let mut cluster = defined();
    let free = json!({"metadata": {"name": "pay"}, "spec": {"free": {"a": {"b": 1}}}});
    let made = cluster.apply(PAY, "one", free).unwrap();
    assert_eq!(made["spec"]["free"], json!({"a": {"b": 1}}));
    let owned = json!({"f:spec": {"f:free": {"f:a": {".": {}, "f:b": {}}}}});
    assert_eq!(fields_of(&made, "one"), owned);
}
