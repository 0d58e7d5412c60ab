use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Namespace, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{Client, client::Body, core::Status};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::*;

fn one(text: &str) -> Manifest {
    Manifest::read_all(text).unwrap().remove(0)
}

#[test]
fn manifests_are_read_in_order_and_empty_documents_are_none() {
    let text = "# only a comment\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\n---\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b}\n";
    let manifests = Manifest::read_all(text).unwrap();
    assert_eq!(manifests.iter().map(ToString::to_string).collect::<Vec<_>>(), ["Service shop/a", "Deployment b"]);
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
    assert!(of(status(403, "Forbidden"), service).contains("with Service"));
    // What an API server says of a path that it does not have.
    let missing = json!({"status": "Failure", "code": 404, "reason": "Failed to parse error data", "message": "404 page not found"});
    assert!(of(missing, issuer).contains("install cert-manager"));
    assert!(of(status(500, "InternalError"), service).contains("the same command again"));
    let mut granting = status(403, "Forbidden");
    granting["message"] = "user \"ann\" is attempting to grant RBAC permissions not currently held".into();
    assert!(of(granting, service).contains("landbridge-tenant"));
    assert!(of(status(404, "NotFound"), service).contains("refused before it"));
    let mut namespace = status(404, "NotFound");
    namespace["details"] = json!({"kind": "namespaces", "name": "n"});
    assert!(of(namespace, service).contains("kubectl create namespace"));
}

#[test]
fn what_carries_our_label_is_ours() {
    let labelled = |labels: Value| -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": "a", "labels": labels}})).unwrap()
    };
    assert!(is_ours(&labelled(json!({"app.kubernetes.io/part-of": "landbridge"}))));
    assert!(!is_ours(&labelled(json!({"app.kubernetes.io/part-of": "another"}))) && !is_ours(&labelled(Value::Null)));
}

/// The manifests under `deploy/kustomize`, each with its file.
fn manifests_of_deploy() -> Vec<(String, Manifest)> {
    let deploy = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let mut all = Vec::new();
    for folder in [
        "crds",
        "kustomize/crds",
        "kustomize/gateway",
        "kustomize/federation",
        "kustomize/tenants",
        "kustomize/components/*",
    ] {
        let folders: Vec<_> = match folder.strip_suffix("/*") {
            Some(above) => fs::read_dir(deploy.join(above)).unwrap().map(|entry| entry.unwrap().path()).collect(),
            None => vec![deploy.join(folder)],
        };
        for file in folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()) {
            if !file.ends_with("kustomization.yaml") {
                let read = Manifest::read_all(&fs::read_to_string(&file).unwrap());
                let read = read.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                all.extend(read.into_iter().map(|manifest| (file.display().to_string(), manifest)));
            }
        }
    }
    all
}

/// The value as the type of the API has it.
fn again<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

/// The first field that got lost.
fn lost(path: &str, value: &Value, kept: &Value) -> Option<String> {
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            match kept.get(name) {
                Some(kept) => lost(&path, value, kept),
                None => Some(path),
            }
        }),
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .find_map(|(index, value)| lost(&format!("{path}[{index}]"), value, &kept[index])),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[test]
fn manifests_of_deploy_have_only_fields_that_the_api_has() {
    type Reading = fn(&Value) -> Result<Value, String>;
    let readings: [(&str, Reading); 13] = [
        ("CustomResourceDefinition", again::<CustomResourceDefinition>),
        ("Namespace", again::<Namespace>),
        ("ServiceAccount", again::<ServiceAccount>),
        ("ClusterRole", again::<ClusterRole>),
        ("ClusterRoleBinding", again::<ClusterRoleBinding>),
        ("Role", again::<Role>),
        ("RoleBinding", again::<RoleBinding>),
        ("ConfigMap", again::<ConfigMap>),
        ("Deployment", again::<Deployment>),
        ("StatefulSet", again::<StatefulSet>),
        ("Service", again::<Service>),
        ("NetworkPolicy", again::<NetworkPolicy>),
        ("PodDisruptionBudget", again::<PodDisruptionBudget>),
    ];
    /// Kinds of other programs, whose types are not here.
    const OTHERS: [&str; 2] = ["cert-manager.io", "monitoring.coreos.com"];
    let mut seen = BTreeMap::<String, usize>::new();
    for (file, manifest) in manifests_of_deploy() {
        if OTHERS.contains(&manifest.group()) {
            continue;
        }
        let kind = manifest.kind().to_owned();
        let (_, reading) =
            readings.iter().find(|(name, _)| *name == kind).unwrap_or_else(|| panic!("{kind} in {file}"));
        let value = manifest.json();
        let kept = reading(&value).unwrap_or_else(|error| panic!("{file}: {manifest}: {error}"));
        assert_eq!(lost("", &value, &kept), None, "{file}: {manifest} has a field that the API does not have");
        *seen.entry(kind).or_default() += 1;
    }
    assert_eq!(seen.len(), readings.len(), "{seen:?}");
}

/// An API server that knows one object, or none, and answers a patch as it is told.
fn cluster(there: Option<Value>, patched: (u16, Value)) -> (Cluster, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (there, patched, log) = (there.clone(), patched.clone(), log.clone());
        async move {
            log.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
            let missing =
                json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "m"});
            let (code, body) = match (request.method(), there) {
                (&Method::GET, Some(object)) => (200, object),
                (&Method::GET, None) => (404, missing),
                _ => patched,
            };
            Ok::<_, tower::BoxError>(
                Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap(),
            )
        }
    });
    (Cluster::of(Client::new(service, "default"), "https://test"), asked)
}

#[tokio::test]
async fn an_object_is_created_configured_or_unchanged_as_its_version_says() {
    let manifest = one("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n");
    let object = |version: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop", "resourceVersion": version}});
    for (there, expected) in
        [(None, Applied::Created), (Some(object("1")), Applied::Configured), (Some(object("2")), Applied::Unchanged)]
    {
        let (cluster, asked) = cluster(there, (200, object("2")));
        assert_eq!(cluster.apply(&manifest, false).await, expected);
        let asked = asked.lock().unwrap();
        let patch = asked.last().unwrap();
        assert!(patch.starts_with("PATCH /api/v1/namespaces/shop/configmaps/a?"), "{patch}");
        assert!(patch.contains("fieldManager=fedctl") && patch.contains("fieldValidation=Strict"), "{patch}");
        assert!(!patch.contains("force=true"), "{patch}");
    }
}

#[tokio::test]
async fn a_conflict_is_refused_with_the_option_that_takes_over() {
    let manifest = one("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n");
    let conflict = json!({"kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "conflict with \"x\": .data"});
    let (refusing, _) = cluster(None, (409, conflict));
    let Applied::Refused(refusal) = refusing.apply(&manifest, false).await else { panic!("it was not refused") };
    assert!(refusal.reason.contains(".data") && refusal.remedy.contains("--force-conflicts"), "{refusal:?}");
    let (taking, asked) = cluster(None, (200, json!({"metadata": {"name": "a"}})));
    assert_eq!(taking.apply(&manifest, true).await, Applied::Created);
    assert!(asked.lock().unwrap().last().unwrap().contains("force=true"));
}

#[tokio::test]
async fn a_standard_definition_of_another_program_is_left_alone() {
    let manifest = one(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a}\nspec: {group: about.k8s.io}\n",
    );
    let there = |labels: Value| Some(json!({"metadata": {"name": "a", "resourceVersion": "1", "labels": labels}}));
    let after = json!({"metadata": {"name": "a", "resourceVersion": "2"}});
    let (others, asked) = cluster(there(json!({})), (200, after.clone()));
    assert_eq!(others.apply(&manifest, true).await, Applied::Kept);
    assert!(asked.lock().unwrap().iter().all(|line| line.starts_with("GET")));
    let (ours, _) = cluster(there(json!({"app.kubernetes.io/part-of": "landbridge"})), (200, after));
    assert_eq!(ours.apply(&manifest, false).await, Applied::Configured);
}
