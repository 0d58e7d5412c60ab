//! What `fedctl install` installs: an API server accepts all of it, twice, and a gateway needs no right beyond it.
//!
//! Roles are in force here, and every gateway has the token of its own ServiceAccount. The bases of kustomize and the charts are
//! compared with the same manifests where they are made.

use std::{net::Ipv4Addr, path::Path};

use proto::gateway::v1::LeaveRequest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    apiserver::ApiServer,
    fleet::{Fleet, Settings},
    manifests::Export,
    wait::until,
};

use super::server::Server;
use crate::fedctl::{fedctl, words};

const SYSTEM: &str = "landbridge-system";
const API: &str = "production/api";
const IMPORTS: &str = "serviceimports.multicluster.x-k8s.io";
const EXPORTS: &str = "serviceexports.multicluster.x-k8s.io";
/// Every way to install something, with everything that can be added; the last one is a tenant's.
const WAYS: [&str; 5] = [
    "federation --name federation.example --monitoring --priority-class system-cluster-critical",
    "gateway --cluster east --trust-domain east.example",
    "gateway --cluster east --trust-domain east.example --identity cert-manager --replicas 3 --monitoring --service-type NodePort",
    "crds",
    "gateway --cluster team --trust-domain team.example --namespace team-a --namespaces team-a,team-b",
];

async fn with_roles() -> Server {
    Server::Double(ApiServer::setup().with_rbac().start().await)
}

/// Kinds of other programs: whatever is in them is accepted.
async fn stand_in(server: &Server, group: &str, plural: &str, kind: &str) {
    server
        .put(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
            },
        }))
        .await;
}

/// What became of each object.
async fn install(server: &Server, files: &Path, way: &str) -> Vec<(String, String)> {
    let kubeconfig = files.join("admin");
    std::fs::write(&kubeconfig, server.kubeconfig()).unwrap();
    let line = format!("install {way} --wait 0s -o json --kubeconfig {}", kubeconfig.display());
    let installed: Value = serde_json::from_str(&fedctl(&words(&line)).await.done()).unwrap();
    let text = |object: &Value, field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let objects = installed["objects"].as_array().unwrap().iter();
    objects
        .map(|object| (format!("{} {}", text(object, "kind"), text(object, "name")), text(object, "result")))
        .collect()
}

async fn everything_is_accepted_and_the_second_time_nothing_changes(server: Server) {
    let files = tempfile::tempdir().unwrap();
    for (group, plural, kind) in [
        ("cert-manager.io", "issuers", "Issuer"),
        ("cert-manager.io", "certificates", "Certificate"),
        ("monitoring.coreos.com", "servicemonitors", "ServiceMonitor"),
        ("monitoring.coreos.com", "prometheusrules", "PrometheusRule"),
    ] {
        stand_in(&server, group, plural, kind).await;
    }
    for namespace in ["team-a", "team-b"] {
        server.namespace(namespace).await;
    }
    for way in WAYS {
        let first = install(&server, files.path(), way).await;
        assert!(first.len() > 5, "{way}: {first:?}");
        let again = install(&server, files.path(), way).await;
        let changed: Vec<_> = again.iter().filter(|(_, result)| result != "unchanged").collect();
        assert!(changed.is_empty(), "{way}: {changed:?}");
    }
}

#[tokio::test]
async fn everything_that_is_installed_is_accepted_and_the_second_time_nothing_changes() {
    everything_is_accepted_and_the_second_time_nothing_changes(with_roles().await).await;
}

#[tokio::test]
async fn a_real_api_server_accepts_everything_that_is_installed() {
    let Some(server) = Server::bare("what is installed, on a real API server", "10.96.0.0/16").await else { return };
    everything_is_accepted_and_the_second_time_nothing_changes(server).await;
}

#[tokio::test]
async fn what_keeps_a_pod_from_starting_is_told_in_the_words_of_its_node() {
    let (server, files) = (with_roles().await, tempfile::tempdir().unwrap());
    let way = "gateway --cluster east --trust-domain east.example";
    install(&server, files.path(), way).await;
    server
        .edit("deployments.apps", SYSTEM, "landbridge-gateway", |deployment| {
            deployment["status"] = json!({"observedGeneration": 100});
        })
        .await;
    server.gateway_pod("east-0", "10.9.0.1", false).await;
    server
        .edit("pods", SYSTEM, "east-0", |pod| {
            pod["status"]["containerStatuses"] = json!([{"name": "gateway", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]);
        })
        .await;
    server
        .put(json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": SYSTEM, "name": "east-0.1"},
            "involvedObject": {"kind": "Pod", "namespace": SYSTEM, "name": "east-0"},
            "type": "Warning", "reason": "FailedMount", "message": "secret \"landbridge-authority\" not found",
            "lastTimestamp": "2026-01-02T03:04:05Z",
        }))
        .await;
    let line = format!("install {way} --wait 7s --kubeconfig {}", files.path().join("admin").display());
    let late = fedctl(&words(&line)).await;
    let reason =
        "0 of 1 pods are available: east-0: ContainerCreating: FailedMount: secret \"landbridge-authority\" not found";
    assert!(late.stdout.contains(reason) && late.code.contains("(1)"), "{late:?}");
}

/// At an address that a real API server accepts: none of loopback.
fn export(service: &str) -> Export {
    Export::new(service, 8080, Ipv4Addr::new(10, 9, 0, 1).into())
}

/// Two clusters as installed, each with a gateway that is its own ServiceAccount.
struct World {
    fleet: Fleet,
    east: Server,
    west: Server,
    _files: TempDir,
}

impl World {
    async fn on(east: Server, west: Server) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut settings = Vec::new();
        for (name, server) in [("east", &east), ("west", &west)] {
            let way = format!("gateway --cluster {name} --trust-domain {name}.example --service-type none");
            install(server, files.path(), &way).await;
            server.namespace("production").await;
            let file = files.path().join(name);
            std::fs::write(&file, server.kubeconfig_of_account(SYSTEM, "landbridge-gateway").await).unwrap();
            let lines = "state_secret = \"landbridge-gateway-state\"";
            settings.push(Settings::in_kubernetes(name, &file, lines));
        }
        Self { fleet: Fleet::with(settings).await, east, west, _files: files }
    }

    async fn everything_works(&mut self) {
        self.east.gateway_pod("east-0", "10.1.0.1", true).await;
        self.west.put_yaml(&export(API).yaml()).await;
        let ready = |condition: &'static str| {
            move |object: &Value| {
                let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
                conditions.clone().any(|one| one["type"] == condition && one["status"] == "True")
            }
        };
        let import = self.east.becomes(IMPORTS, "production", "api", ready("Ready")).await;
        self.west.becomes(EXPORTS, "production", "api", ready("Valid")).await;
        self.west.becomes(EXPORTS, "production", "api", ready("landbridge.dev/Imported")).await;
        let derived = import["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"].as_str().unwrap();
        self.east.becomes("services", SYSTEM, derived, |service| service["spec"]["clusterIP"].is_string()).await;
        self.east.becomes("clusterproperties.about.k8s.io", "", "clusterset.k8s.io", |_| true).await;
        let member = |secret: &Value| secret["data"]["membership.pb"].is_string();
        self.east.becomes("secrets", SYSTEM, "landbridge-gateway-state", member).await;
        self.east.becomes("leases.coordination.k8s.io", SYSTEM, "landbridge-gateway", |_| true).await;
        self.fleet["west"].admin().await.leave(LeaveRequest::default()).await.unwrap();
        self.east.goes(IMPORTS, "production", "api").await;
        self.east.goes("services", SYSTEM, derived).await;
        self.west.goes("clusterproperties.about.k8s.io", "", "clusterset.k8s.io").await;
    }
}

#[tokio::test]
async fn a_gateway_needs_no_right_beyond_those_of_its_own_account() {
    let mut world = World::on(with_roles().await, with_roles().await).await;
    world.everything_works().await;
    for server in [&world.east, &world.west] {
        let refused: Vec<_> = server.double_of().requests().into_iter().filter(|asked| asked.code == 403).collect();
        assert!(refused.is_empty(), "{refused:#?}");
    }
}

#[tokio::test]
async fn a_gateway_needs_no_right_beyond_those_of_its_own_account_on_real_api_servers() {
    let what = "a gateway as its own account, on real API servers";
    let Some(east) = Server::bare(what, "10.96.0.0/16").await else { return };
    let Some(west) = Server::bare(what, "10.97.0.0/16").await else { return };
    World::on(east, west).await.everything_works().await;
}

#[tokio::test]
async fn rights_that_are_revoked_in_the_middle_are_told_and_what_is_there_stays_until_they_are_back() {
    let world = World::on(with_roles().await, with_roles().await).await;
    world.west.put_yaml(&export(API).yaml()).await;
    world.east.becomes(IMPORTS, "production", "api", |import| import["spec"]["ips"][0].is_string()).await;
    let role = world.east.get("clusterroles.rbac.authorization.k8s.io", "", "landbridge-gateway").await.unwrap();
    world
        .east
        .edit("clusterroles.rbac.authorization.k8s.io", "", "landbridge-gateway", |role| {
            let rules = role["rules"].as_array_mut().unwrap();
            rules.retain(|rule| !rule["resources"].as_array().unwrap().contains(&json!("serviceimports")));
        })
        .await;
    world.east.double_of().drop_watches();
    world.west.put_yaml(&export("production/other").yaml()).await;
    until("the missing right is told", async || {
        let findings = world.fleet["east"].admin().await.check().await.ok()?;
        findings.iter().find(|finding| finding.detail.contains("serviceimports") && !finding.hint.is_empty()).map(drop)
    })
    .await;
    assert!(world.east.get(IMPORTS, "production", "api").await.is_some());
    world.fleet["east"].sees(API, &["west"]).await;
    world.east.put(role).await;
    world.east.becomes(IMPORTS, "production", "other", |import| import["spec"]["ips"][0].is_string()).await;
}
