use kube::core::Status;
use serde_json::json;

use super::*;

fn one(text: &str) -> Manifest {
    Manifest::read_all(text).unwrap().remove(0)
}

#[test]
fn manifests_are_read_in_order_and_empty_documents_are_none() {
    let text = "# only a comment\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: n}\n---\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b}\n";
    let manifests = Manifest::read_all(text).unwrap();
    assert_eq!(manifests.iter().map(ToString::to_string).collect::<Vec<_>>(), ["Service n/a", "Deployment b"]);
    assert_eq!((manifests[0].group(), manifests[1].group()), ("", "apps"));
}

#[test]
fn what_is_no_object_is_refused_with_its_place() {
    for text in ["kind: Service\nmetadata: {name: a}\n", "apiVersion: v1\nkind: Service\n", "[1]\n"] {
        assert!(matches!(Manifest::read_all(text), Err(ManifestError::Nameless(1))), "{text}");
    }
    assert!(matches!(Manifest::read_all("a: [\n"), Err(ManifestError::Yaml(_))));
}

#[test]
fn paths_of_the_api_are_those_of_the_kinds_that_are_installed() {
    for (api_version, kind, plural) in [
        ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
        ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
        ("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules"),
        ("cert-manager.io/v1", "Issuer", "issuers"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions"),
        ("about.k8s.io/v1beta1", "ClusterProperty", "clusterproperties"),
    ] {
        let manifest = one(&format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n"));
        assert_eq!(manifest.resource.plural, plural);
    }
}

#[test]
fn only_definitions_of_standard_kinds_belong_to_whoever_brought_them() {
    let crd = |group: &str| {
        one(&format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: a}}\nspec: {{group: {group}}}\n"
        ))
    };
    assert!(crd("multicluster.x-k8s.io").is_standard_definition() && crd("about.k8s.io").is_standard_definition());
    assert!(!crd("policy.landbridge.dev").is_standard_definition());
    let other = one("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {group: about.k8s.io}\n");
    assert!(!other.is_standard_definition());
}

#[test]
fn every_refusal_has_a_remedy_that_fits() {
    let of = |status: Value, manifest: &str| {
        let status: Status = serde_json::from_value(status).unwrap();
        refusal(&Error::Api(Box::new(status)), &one(manifest)).remedy
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n";
    let issuer = "apiVersion: cert-manager.io/v1\nkind: Issuer\nmetadata: {name: a}\n";
    let status = |code: u16, reason: &str| json!({"status": "Failure", "code": code, "reason": reason, "message": "m"});
    assert!(of(status(409, "Conflict"), service).contains("--force-conflicts"));
    assert!(of(status(403, "Forbidden"), service).contains("may write Service"));
    assert!(of(status(404, "NotFound"), issuer).contains("install cert-manager"));
    assert!(of(status(500, "InternalError"), service).contains("the same command again"));
    let mut namespace = status(404, "NotFound");
    namespace["details"] = json!({"kind": "namespaces", "name": "n"});
    assert!(of(namespace, service).contains("namespace"));
}
