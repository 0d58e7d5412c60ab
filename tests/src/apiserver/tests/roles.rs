//! Access by roles.
//!
//! Owns the tests of the judgement. Never tests tokens.

use http::Method;
use serde_json::json;

use super::{
    super::{access::User, request::Request},
    Cluster,
};

fn judged(cluster: &Cluster, method: &Method, target: &str) -> Result<(), String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let user = User::named("system:serviceaccount:landbridge-system:landbridge-gateway", &[]);
    cluster.store.authorize(&user, &Request::read(method, path, query)).map_err(|failure| failure.message)
}

fn bound() -> Cluster {
    let mut cluster = Cluster::new();
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["multicluster.x-k8s.io"], "resources": ["serviceexports/status"], "verbs": ["patch"]},
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ]);
    let name = json!({"name": "gateway"});
    cluster.post(&format!("{rbac}/clusterroles"), json!({"metadata": name, "rules": rules})).unwrap();
    let subjects = json!([{"kind": "ServiceAccount", "name": "landbridge-gateway", "namespace": "landbridge-system"}]);
    let role =
        |kind: &str| json!({"metadata": name, "subjects": subjects, "roleRef": {"kind": kind, "name": "gateway"}});
    cluster.post(&format!("{rbac}/clusterrolebindings"), role("ClusterRole")).unwrap();
    let rules = json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["leader"],
        "verbs": ["get", "watch", "update"]}]);
    cluster.post(&format!("{rbac}/namespaces/shop/roles"), json!({"metadata": name, "rules": rules})).unwrap();
    cluster.post(&format!("{rbac}/namespaces/shop/rolebindings"), role("Role")).unwrap();
    cluster
}

#[test]
fn only_what_a_role_names_is_allowed() {
    let cluster = bound();
    for (method, path, allowed) in [
        (Method::GET, "/api/v1/services", true),
        (Method::GET, "/api/v1/namespaces/shop/services?watch=1", true),
        (Method::POST, "/api/v1/namespaces/shop/services", false),
        (Method::PATCH, "/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports/a/status", true),
        (Method::PATCH, "/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports/a", false),
        (Method::GET, "/apis/coordination.k8s.io/v1/namespaces/shop/leases/leader", true),
        (Method::GET, "/apis/coordination.k8s.io/v1/namespaces/shop/leases/other", false),
        (Method::GET, "/apis/coordination.k8s.io/v1/namespaces/default/leases/leader", false),
        (Method::GET, "/apis/coordination.k8s.io/v1/namespaces/shop/leases", false),
        (
            Method::GET,
            "/apis/coordination.k8s.io/v1/namespaces/shop/leases?watch=1&fieldSelector=metadata.name%3Dleader",
            true,
        ),
        (Method::GET, "/apis/coordination.k8s.io/v1/namespaces/shop/leases?watch=1", false),
        (Method::GET, "/metrics", true),
        (Method::GET, "/apis", true),
        (Method::GET, "/logs", false),
    ] {
        assert_eq!(judged(&cluster, &method, path).is_ok(), allowed, "{method} {path}");
    }
}

#[test]
fn a_refusal_says_who_may_not_do_what() {
    let cluster = bound();
    let told = judged(&cluster, &Method::PUT, "/api/v1/namespaces/shop/services/pay/status").unwrap_err();
    let expected = "services \"pay\" is forbidden: User \"system:serviceaccount:landbridge-system:landbridge-gateway\" cannot \
                    update resource \"services/status\" in API group \"\" in the namespace \"shop\"";
    assert_eq!(told, expected);
    let told = judged(&cluster, &Method::GET, "/api/v1/pods").unwrap_err();
    assert!(told.ends_with("cannot list resource \"pods\" in API group \"\" at the cluster scope"), "{told}");
}

#[test]
fn a_review_tells_what_a_request_would_be_told() {
    let cluster = bound();
    let user = User::named("system:serviceaccount:landbridge-system:landbridge-gateway", &[]);
    let review = |verb: &str, resource: &str| {
        let review = json!({"spec": {"resourceAttributes": {"verb": verb, "resource": resource, "namespace": "shop"}}});
        cluster.store.review("selfsubjectaccessreviews", &user, review, true)["status"]["allowed"].clone()
    };
    assert_eq!(review("watch", "services"), true);
    assert_eq!(review("delete", "services"), false);
    let rules = cluster.store.review("selfsubjectrulesreviews", &user, json!({"spec": {"namespace": "shop"}}), true);
    assert_eq!(rules["status"]["resourceRules"].as_array().unwrap().len(), 5, "{rules:#}");
}
