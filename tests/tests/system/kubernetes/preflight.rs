//! `fedctl check --pre`: whether a cluster, and the ways to its peers, are ready.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
};

use gateway::{app::Gateway, config::Config};
use gateway_tunnel::TunnelSocket;
use serde_json::{Value, json};
use tests::{
    apiserver::{ApiServer, Runs},
    envtest::RealServer,
};
use tokio::{
    io::{AsyncWriteExt as _, DuplexStream},
    net::UdpSocket,
};
use tokio_util::sync::CancellationToken;

use super::server::Server;
use crate::fedctl::{Ended, fedctl, words};

const NAMESPACE: &str = "landbridge-system";
const POD: &str = "landbridge-gateway-0";

/// A kubeconfig, and what `fedctl check --pre` says with it.
struct Person(tempfile::TempDir);

impl Person {
    fn of(server: &ApiServer, token: &str) -> Self {
        Self::with(&server.kubeconfig("here", token))
    }

    fn with(kubeconfig: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("config"), kubeconfig).unwrap();
        Self(place)
    }

    async fn checks(&self, context: &str, peers: &str) -> Ended {
        let file = self.0.path().join("config");
        fedctl(&words(&format!("check --pre --context {context} --kubeconfig {} -o json {peers}", file.display())))
            .await
    }

    async fn finds(&self, peers: &str) -> Vec<Value> {
        findings(&self.checks("here", peers).await)
    }
}

fn findings(ended: &Ended) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert_eq!(answer["ok"], ended.code.contains("(0)"), "{ended:?}");
    answer["findings"].as_array().unwrap().clone()
}

/// The one finding of this name.
fn one<'a>(found: &'a [Value], check: &str) -> &'a Value {
    let all: Vec<_> = found.iter().filter(|finding| finding["check"] == check).collect();
    assert_eq!(all.len(), 1, "{check}: {found:?}");
    all[0]
}

fn detail(finding: &Value) -> &str {
    finding["detail"].as_str().unwrap()
}

/// Lets a user do what these rules say, everywhere.
fn allow(server: &ApiServer, user: &str, rules: &Value) {
    let rbac = "rbac.authorization.k8s.io";
    server.put(
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules}),
    );
    server.put(json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": user},
        "subjects": [{"kind": "User", "apiGroup": rbac, "name": user}],
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": user},
    }));
}

#[tokio::test]
async fn an_empty_cluster_is_ready_for_its_admin_and_all_definitions_are_yet_to_come() {
    let server = ApiServer::setup().with_rbac().start().await;
    let found = Person::of(&server, server.admin_token()).finds("").await;
    assert!(found.iter().all(|finding| finding["level"] == "ok" && finding["of"] == "cluster"), "{found:?}");
    let definitions = found.iter().filter(|finding| detail(finding).contains("not there yet")).count();
    assert_eq!((definitions, found.len()), (5, 8), "{found:?}");
    assert!(detail(one(&found, "Kubernetes version")).contains("v1.33.0"), "{found:?}");
    assert_eq!(detail(one(&found, "clock")), "the API server and this machine agree");
    let stored =
        server.writes().into_iter().filter(|asked| asked.resource != "selfsubjectaccessreviews.authorization.k8s.io");
    assert_eq!(stored.count(), 0, "nothing is changed");
}

#[tokio::test]
async fn all_rights_that_are_missing_are_one_finding() {
    let server = ApiServer::setup().with_rbac().start().await;
    let viewer = Person::of(&server, &server.user_token("viewer", &[]));
    let found = viewer.finds("").await;
    let rights = one(&found, "rights");
    assert_eq!(rights["level"], "failed");
    for missing in [
        "create, get, patch",
        "customresourcedefinitions.apiextensions.k8s.io",
        "in landbridge-system create pods/exec",
        "create, delete, get, list, patch serviceexports.multicluster.x-k8s.io, services",
    ] {
        assert!(detail(rights).contains(missing), "{missing}: {rights}");
    }
    assert!(rights["hint"].as_str().unwrap().contains("fedctl install crds"), "{rights}");
    let definitions = one(&found, "definitions");
    assert!(definitions["level"] == "warning" && detail(definitions).contains("403"), "{definitions}");
}

#[tokio::test]
async fn whoever_may_make_roles_and_does_not_hold_what_they_grant_is_told_before_the_api_server_does() {
    let server = ApiServer::setup().with_rbac().start().await;
    let all = |verbs: Value| json!({"apiGroups": ["*"], "resources": ["*", "*/exec"], "verbs": verbs});
    let installing = ["create", "patch", "get", "list", "delete"];
    let installer = Person::of(&server, &server.user_token("installer", &[]));
    // Either alone makes the roles or binds them, and not both.
    for more in [&[][..], &["escalate"], &["bind"]] {
        allow(&server, "installer", &json!([all(json!([&installing[..], more].concat()))]));
        let rights = one(&installer.finds("").await, "rights").clone();
        assert_eq!(rights["level"], "failed", "{more:?}: {rights}");
        assert!(detail(&rights).contains("not held, so not to be granted to the gateway"), "{more:?}: {rights}");
        assert!(!detail(&rights).contains("not allowed"), "{more:?}: {rights}");
    }
    let both = [&installing[..], &["escalate", "bind"]].concat();
    allow(&server, "installer", &json!([all(json!(both))]));
    let rights = one(&installer.finds("").await, "rights").clone();
    assert_eq!(rights["level"], "ok", "{rights}");
}

#[tokio::test]
async fn a_cluster_that_is_too_old_fails_with_its_version() {
    let server = ApiServer::setup().with_rbac().minor_version(29).start().await;
    let found = Person::of(&server, server.admin_token()).finds("").await;
    let version = one(&found, "Kubernetes version");
    assert_eq!(version["level"], "failed");
    assert!(detail(version).contains("v1.29.0") && detail(version).contains("1.30"), "{version}");
}

#[tokio::test]
async fn a_definition_that_another_program_brought_with_the_old_version_alone_is_told() {
    let server = Server::double().await;
    let Server::Double(double) = &server else { unreachable!("it is the double") };
    let name = "serviceexports.multicluster.x-k8s.io";
    server
        .edit("customresourcedefinitions", "", name, |definition| {
            definition["metadata"]["labels"] = json!({});
            let versions = definition["spec"]["versions"].as_array_mut().unwrap();
            versions.retain(|version| version["name"] == "v1alpha1");
            versions[0]["storage"] = true.into();
            definition["status"]["storedVersions"] = json!(["v1alpha1"]);
        })
        .await;
    let found = Person::of(double, double.admin_token()).finds("").await;
    let old = one(&found, &format!("definition {name}"));
    assert_eq!(old["level"], "warning");
    assert!(
        detail(old).contains("of another program") && detail(old).contains("serves v1alpha1 and not v1beta1"),
        "{old}"
    );
    let ours = one(&found, "definition authorizationpolicies.policy.landbridge.dev");
    assert_eq!((&ours["level"], detail(ours)), (&json!("ok"), "of Landbridge, serves v1alpha1"));
}

#[tokio::test]
async fn a_cluster_that_cannot_be_reached_is_a_failed_check_and_the_paths_are_tried_from_here() {
    let server = ApiServer::start().await;
    let person = Person::of(&server, server.admin_token());
    server.stop().await;
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let found = person.finds(&format!("--peer {free}")).await;
    assert_eq!(one(&found, "reachable")["level"], "failed");
    let path = one(&found, &format!("path to {free}"));
    assert!(detail(path).starts_with("from here: ") && detail(path).contains("nothing listens"), "{path}");
}

/// The commands that a pod got.
type Commands = Arc<Mutex<Vec<Vec<String>>>>;

/// What a `fedctl` in a pod answers; the commands it got.
fn answering(answer: String) -> (Arc<Runs>, Commands) {
    let asked = Commands::default();
    let log = asked.clone();
    let runs = move |command: Vec<String>, mut streams: DuplexStream| {
        log.lock().unwrap().push(command);
        let answer = answer.clone();
        let run = async move { streams.write_all(answer.as_bytes()).await.map_err(|error| error.to_string()) };
        Box::pin(run) as Pin<Box<dyn Future<Output = _> + Send>>
    };
    (Arc::new(runs), asked)
}

#[tokio::test]
async fn paths_are_tried_from_the_pod_of_the_gateway_where_one_runs_and_the_findings_say_so() {
    let server = Server::double().await;
    let Server::Double(double) = &server else { unreachable!("it is the double") };
    server.gateway_pod(POD, "10.0.0.9", true).await;
    // What it has found is failed: the command ends with 1 there, and has said what it said.
    let said = json!({
        "ok": false,
        "findings": [{"of": "path", "check": "words of the pod", "level": "failed", "detail": "from here"}],
        "paths": [
            {"peer": "west.example:15443", "address": "192.0.2.1:15443", "reach": "reachable", "rtt_micros": 12_350, "payload": 1452},
            {"peer": "192.0.2.9:15443", "address": "192.0.2.9:15443", "reach": "silent"},
        ],
    });
    let (runs, asked) = answering(said.to_string());
    double.runs(NAMESPACE, POD, runs);
    let person = Person::of(double, double.admin_token());
    let ended = person.checks("here", "--peer west.example:15443 --peer 192.0.2.9:15443").await;
    assert!(ended.code.contains("(1)"), "{ended:?}");
    let found = findings(&ended);
    let west = one(&found, "path to west.example:15443");
    let expected = "from the pod landbridge-gateway-0: 192.0.2.1:15443 answers in 12.4ms";
    assert!(west["level"] == "ok" && detail(west).starts_with(expected), "{west}");
    let silent = one(&found, "path to 192.0.2.9:15443");
    assert!(
        silent["level"] == "failed" && detail(silent).starts_with("from the pod landbridge-gateway-0: "),
        "{silent}"
    );
    assert!(!ended.stdout.contains("words of the pod"), "the words are made here: {ended:?}");
    let command = "fedctl check --pre --output json --peer west.example:15443 --peer 192.0.2.9:15443";
    assert_eq!(*asked.lock().unwrap(), [words(command)]);
}

#[tokio::test]
async fn a_pod_whose_answer_cannot_be_used_is_told_and_the_paths_are_tried_from_here() {
    let server = Server::double().await;
    let Server::Double(double) = &server else { unreachable!("it is the double") };
    server.gateway_pod(POD, "10.0.0.9", true).await;
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let of_another = json!({"paths": [{"peer": "192.0.2.9:1", "reach": "silent"}]}).to_string();
    let of_no_size = json!({"peer": free.to_string(), "reach": "reachable", "rtt_micros": u64::MAX, "payload": 0});
    let of_no_size = json!({"paths": [of_no_size]}).to_string();
    let person = Person::of(double, double.admin_token());
    let unexpected = "error: unexpected argument".to_owned();
    for answer in [String::new(), unexpected, of_another, of_no_size, "x".repeat(70_000)] {
        let (runs, _) = answering(answer);
        double.runs(NAMESPACE, POD, runs);
        let found = person.finds(&format!("--peer {free}")).await;
        let paths = one(&found, "paths");
        assert!(paths["level"] == "warning" && detail(paths).contains(POD), "{paths}");
        let path = one(&found, &format!("path to {free}"));
        assert!(detail(path).starts_with("from here: "), "{path}");
    }
}

/// A gateway that has joined nothing, whose tunnels are on a socket of this machine.
async fn gateway_on_this_machine(place: &Path) -> Gateway {
    let (file, dir) = (place.join("gateway.toml"), place.display());
    std::fs::create_dir(place.join("manifests")).unwrap();
    let text = format!(
        "cluster.name = \"east\"\ncluster.trust_domain = \"east.example\"\noutbound.sni_listen = \"\"\n\
         dns.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n\
         catalog.dir = \"{dir}/manifests\"\nstate.dir = \"{dir}/state\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let config: Config = federation_runtime::config::load(Some(&file), &BTreeMap::new()).unwrap();
    let socket = TunnelSocket::Bind((Ipv4Addr::LOCALHOST, 0).into());
    Gateway::start(config.checked().unwrap(), socket, CancellationToken::new()).await.unwrap()
}

#[tokio::test]
async fn the_tunnels_of_a_gateway_that_has_not_joined_are_reached_without_a_credential() {
    let place = tempfile::tempdir().unwrap();
    let gateway = gateway_on_this_machine(place.path()).await;
    let address = gateway.addresses().tunnel;
    let ended = fedctl(&words(&format!("check --pre -o json --peer {address}"))).await;
    let found = findings(&ended);
    let path = one(&found, &format!("path to {address}"));
    assert_eq!(path["level"], "ok", "{path}");
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&answer["paths"][0]["reach"], &answer["paths"][0]["payload"]), (&json!("reachable"), &json!(1452)));
}

#[tokio::test]
async fn a_real_api_server_says_the_same() {
    let Some(server) = RealServer::start("the preflight on a real API server", "10.98.0.0/16").await else { return };
    let person = Person::with(&server.kubeconfig());
    let ended = person.checks("real", "").await;
    let found = findings(&ended);
    assert!(found.iter().all(|finding| finding["level"] == "ok"), "{found:?}");
    assert_eq!(found.iter().filter(|finding| detail(finding).contains("not there yet")).count(), 5, "{found:?}");
}
