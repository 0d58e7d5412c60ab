//! What a gateway reads from an API server, and what it does when that server is away, refuses, or lacks a kind.

use std::{net::Ipv4Addr, path::PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    apiserver::{ApiServer, Fault},
    client::line,
    fleet::{Cluster, Fleet, Settings},
    manifests::{Export, pod},
    probe::Echo,
    wait::until,
};
use tokio::net::TcpStream;

const API: &str = "production/api";
const SHOP: &str = "production/shop";
const WEB: &str = "spiffe://east.example/ns/production/sa/web";
const EXPORTS: &str = "serviceexports.multicluster.x-k8s.io";
/// What the gateway may read, by API group.
const RIGHTS: [(&str, &[&str]); 4] = [
    ("", &["namespaces", "services", "pods"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("multicluster.x-k8s.io", &["serviceexports"]),
    ("policy.landbridge.dev", &["authorizationpolicies", "peerauthentications"]),
];

/// East has its objects in an API server, west in manifests.
struct World {
    fleet: Fleet,
    server: ApiServer,
    _files: TempDir,
}

impl World {
    async fn new() -> Self {
        let server = ApiServer::start().await;
        install_exports(&server, &["v1beta1"]);
        install_policies(&server);
        let token = server.admin_token().to_owned();
        Self::on(server, &token, "").await
    }

    /// East watches this API server with this token and these lines of `[kubernetes]`.
    async fn on(server: ApiServer, token: &str, lines: &str) -> Self {
        for name in ["production", "landbridge-system"] {
            server.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        }
        let files = tempfile::tempdir().unwrap();
        let file: PathBuf = files.path().join("kubeconfig");
        std::fs::write(&file, server.kubeconfig("east", token)).unwrap();
        let fleet = Fleet::with([Settings::in_kubernetes("east", &file, lines), Settings::of("west")]).await;
        Self { fleet, server, _files: files }
    }

    fn east(&self) -> &Cluster {
        &self.fleet["east"]
    }

    fn west(&self) -> &Cluster {
        &self.fleet["west"]
    }

    fn export(&self, service: &str) {
        self.server.put_yaml(&Export::new(service, 8080, self.east().host(10)).yaml());
    }

    fn withdraw(&self, service: &str) {
        let (namespace, name) = service.split_once('/').unwrap();
        assert!(self.server.delete(EXPORTS, namespace, name));
    }

    /// A pod of east.
    fn pod(&self, name: &str, host: u8) {
        self.server.put_yaml(&pod("production", name, name, self.east().host(host)));
    }

    /// A connection of a pod of east to the only import, by the port that its derived Service leads to.
    async fn call_from(&self, host: u8) -> TcpStream {
        let port = self
            .server
            .wait_until("there is a derived Service", |server| {
                let services = server.list("services");
                let derived =
                    services.iter().find(|service| service["metadata"]["namespace"] == "landbridge-system")?;
                u16::try_from(derived["spec"]["ports"][0]["targetPort"].as_u64()?).ok()
            })
            .await;
        self.east().dial(self.east().host(host), (Ipv4Addr::LOCALHOST, port).into()).await
    }

    /// Waits until these are the pods of east whose calls are attested, by their service accounts.
    async fn attested(&self, accounts: &[&str]) {
        until(&format!("{accounts:?} are attested"), async || {
            let tables = self.east().tables().await;
            let known = tables["principals"].as_object()?.values().filter_map(|id| id.as_str()?.rsplit('/').next());
            let mut known: Vec<_> = known.collect();
            known.sort_unstable();
            (known == accounts).then_some(())
        })
        .await;
    }

    /// Waits until a watch of east stands so, in the words of `/debug/source`.
    async fn stands(&self, resource: &str, state: &str) -> Value {
        until(&format!("{resource} is {state}"), async || {
            let (_, source) = self.east().get("/debug/source").await?;
            let source: Value = serde_json::from_str(&source).ok()?;
            let mut watches = source["watches"].as_array()?.iter();
            watches.find(|watch| watch["resource"] == resource && watch["state"] == state).cloned()
        })
        .await
    }

    /// Waits until `/readyz` of east says this.
    async fn says(&self, text: &str) {
        until(&format!("/readyz says {text:?}"), async || {
            self.east().get("/readyz").await.filter(|(_, body)| body.contains(text)).map(drop)
        })
        .await;
    }
}

/// The custom resource of the multi-cluster services API, with these versions.
fn install_exports(server: &ApiServer, versions: &[&str]) {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let versions: Vec<_> = versions
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let status = json!({"status": {}});
            json!({"name": name, "served": true, "storage": at == 0, "schema": schema, "subresources": status})
        })
        .collect();
    server.put(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": EXPORTS},
        "spec": {
            "group": "multicluster.x-k8s.io", "scope": "Namespaced", "versions": versions,
            "names": {"plural": "serviceexports", "singular": "serviceexport", "kind": "ServiceExport",
                "listKind": "ServiceExportList"},
        },
    }));
}

fn install_policies(server: &ApiServer) {
    server.put_yaml(include_str!("../../../../deploy/crds/authorizationpolicies.policy.landbridge.dev.yaml"));
    server.put_yaml(include_str!("../../../../deploy/crds/peerauthentications.policy.landbridge.dev.yaml"));
}

/// A role that may read these groups and resources, given to the gateway.
fn allow(server: &ApiServer, namespace: Option<&str>, rights: &[(&str, &[&str])]) {
    let rule = |(group, resources): &(&str, &[&str])| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
    let rules: Vec<_> = rights.iter().map(rule).collect();
    let (kind, binding) = match namespace {
        Some(_) => ("Role", "RoleBinding"),
        None => ("ClusterRole", "ClusterRoleBinding"),
    };
    let mut metadata = json!({"name": "gateway"});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    server.put(json!({"apiVersion": version, "kind": kind, "metadata": metadata, "rules": rules}));
    let subject = json!({"kind": "ServiceAccount", "namespace": "landbridge-system", "name": "gateway"});
    let role = json!({"apiGroup": group, "kind": kind, "name": "gateway"});
    server.put(json!({
        "apiVersion": version, "kind": binding, "metadata": metadata, "roleRef": role, "subjects": [subject],
    }));
}

#[tokio::test]
async fn exports_come_and_go_with_their_objects() {
    let world = World::new().await;
    let _echo = Echo::start("east", world.east().at(10, 8080), false).await.unwrap();
    world.export(API);
    world.export(SHOP);
    for service in [API, SHOP] {
        world.west().sees(service, &["east"]).await;
    }
    assert_eq!(line(&mut world.west().connect(API, 8080).await).await.unwrap(), "east");
    world.withdraw(API);
    world.west().sees(API, &[]).await;
    world.server.delete("endpointslices", "production", "shop-1");
    world.west().sees(SHOP, &[]).await;
}

#[tokio::test]
async fn a_pod_is_attested_from_when_it_runs_until_it_is_gone() {
    let world = World::new().await;
    let west = world.west();
    let echo = Echo::start("west", west.at(10, 8080), true).await.unwrap();
    west.export(&Export::new(API, 8080, west.host(10)).annotated("deliver", "proxy-v2"));
    world.east().sees(API, &["west"]).await;
    world.pod("web", 20);
    world.attested(&["web"]).await;
    let mut stream = world.call_from(20).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    assert_eq!(echo.seen().pop().unwrap().principal.as_deref(), Some(WEB));
    world.server.delete("pods", "production", "web");
    world.attested(&[]).await;
}

#[tokio::test]
async fn a_policy_of_the_cluster_decides_while_it_is_there() {
    let world = World::new().await;
    let _echo = Echo::start("east", world.east().at(10, 8080), false).await.unwrap();
    world.export(API);
    world.west().sees(API, &["east"]).await;
    let policy = |spec: Value| {
        let metadata = json!({"namespace": "production", "name": "nobody"});
        json!({
            "apiVersion": "policy.landbridge.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": metadata, "spec": spec,
        })
    };
    world.server.put(policy(json!({"action": "DENY", "to": [{"services": ["api"]}]})));
    until("calls are refused", async || {
        drop(line(&mut world.west().connect(API, 8080).await).await);
        (world.east().metrics().await.ended("Inbound", "denied") > 0.0).then_some(())
    })
    .await;
    world.server.delete("authorizationpolicies", "production", "nobody");
    until("calls are let through", async || {
        line(&mut world.west().connect(API, 8080).await).await.ok().filter(|name| name == "east")
    })
    .await;
}

#[tokio::test]
async fn what_vanished_while_the_api_server_was_away_is_gone_when_it_is_back() {
    let world = World::new().await;
    world.export(API);
    world.export(SHOP);
    world.pod("web", 20);
    world.attested(&["web"]).await;
    world.west().sees(SHOP, &["east"]).await;
    world.server.stop().await;
    world.stands("pods", "failing").await;
    world.withdraw(API);
    world.server.delete("pods", "production", "web");
    world.pod("cron", 21);
    // The versions that the watches want to go on from are forgotten too.
    world.server.compact();
    for service in [API, SHOP] {
        world.west().sees(service, &["east"]).await;
    }
    world.attested(&["web"]).await;
    world.server.restart().await;
    world.west().sees(API, &[]).await;
    world.west().sees(SHOP, &["east"]).await;
    world.attested(&["cron"]).await;
    world.stands("pods", "live").await;
    world.stands("namespaces", "live").await;
}

#[tokio::test]
async fn watches_that_are_cut_and_throttled_miss_nothing() {
    let world = World::new().await;
    world.export(API);
    world.west().sees(API, &["east"]).await;
    world.server.fault(Fault::throttled(1).verb("watch").times(3));
    world.server.fault(Fault::status(503).verb("watch").times(3));
    world.server.drop_watches();
    world.export(SHOP);
    world.withdraw(API);
    world.west().sees(SHOP, &["east"]).await;
    world.west().sees(API, &[]).await;
    world.server.compact();
    world.server.drop_watches();
    world.withdraw(SHOP);
    world.west().sees(SHOP, &[]).await;
}

#[tokio::test]
async fn a_right_that_is_revoked_is_named_and_what_was_known_stays() {
    let server = ApiServer::setup().with_rbac().start().await;
    install_exports(&server, &["v1beta1"]);
    install_policies(&server);
    allow(&server, None, &RIGHTS);
    let token = server.account_token("landbridge-system", "gateway");
    let world = World::on(server, &token, "").await;
    world.pod("web", 20);
    world.export(API);
    world.attested(&["web"]).await;
    world.west().sees(API, &["east"]).await;
    let without_pods: Vec<_> = RIGHTS[1..].iter().copied().chain([("", &["namespaces", "services"][..])]).collect();
    allow(&world.server, None, &without_pods);
    world.server.drop_watches();
    let refused = world.stands("pods", "refused").await;
    let command = "kubectl auth can-i watch pods --all-namespaces \
                   --as=system:serviceaccount:landbridge-system:gateway";
    assert!(refused["trouble"].as_str().unwrap().contains(command), "{refused}");
    world.says("kubectl auth can-i").await;
    let refused = ["resource=\"pods\"", "state=\"refused\""];
    assert_eq!(world.east().metrics().await.sum("landbridge_gateway_catalog_watches", &refused), 1.0);
    world.export(SHOP);
    world.west().sees(SHOP, &["east"]).await;
    world.attested(&["web"]).await;
    world.pod("cron", 21);
    allow(&world.server, None, &RIGHTS);
    world.attested(&["cron", "web"]).await;
    world.stands("pods", "live").await;
}

#[tokio::test]
async fn custom_resources_that_appear_later_are_read_at_once() {
    let server = ApiServer::start().await;
    let token = server.admin_token().to_owned();
    let world = World::on(server, &token, "").await;
    for resource in [EXPORTS, "authorizationpolicies.policy.landbridge.dev"] {
        let missing = world.stands(resource, "missing").await;
        assert!(missing["trouble"].as_str().unwrap().contains("install the custom resources"), "{missing}");
    }
    world.pod("web", 20);
    world.attested(&["web"]).await;
    install_exports(&world.server, &["v1alpha1"]);
    let export = Export::new(API, 8080, world.east().host(10)).yaml();
    world.server.put_yaml(&export.replace("multicluster.x-k8s.io/v1beta1", "multicluster.x-k8s.io/v1alpha1"));
    world.west().sees(API, &["east"]).await;
    world.stands(EXPORTS, "live").await;
}

#[tokio::test]
async fn a_tenant_reads_its_own_namespaces_with_rights_in_no_other() {
    let server = ApiServer::setup().with_rbac().start().await;
    install_exports(&server, &["v1beta1"]);
    install_policies(&server);
    server.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "production"}}));
    allow(&server, Some("production"), &RIGHTS);
    let token = server.account_token("landbridge-system", "gateway");
    let world = World::on(server, &token, "namespaces = [\"production\"]\n").await;
    world.server.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}));
    world.export("other/secret");
    world.export(API);
    world.pod("web", 20);
    world.west().sees(API, &["east"]).await;
    world.attested(&["web"]).await;
    world.west().sees("other/secret", &[]).await;
    // What it does in its own namespace is another role's.
    let mut asked = world.server.requests();
    asked.retain(|asked| asked.namespace != "landbridge-system");
    assert!(asked.iter().all(|asked| asked.code != 403), "{asked:?}");
    assert!(asked.iter().any(|asked| asked.namespace == "production"), "{asked:?}");
}

#[tokio::test]
async fn a_gateway_that_starts_tells_nobody_what_it_exports_before_it_knows() {
    let mut world = World::new().await;
    world.export(API);
    world.west().sees(API, &["east"]).await;
    world.fleet["east"].stop().await;
    world.west().reaches("east", false).await;
    world.server.fault(Fault::status(503).verb("list").resource("pods").times(usize::MAX));
    world.fleet["east"].start().await;
    world.says("waiting for pods").await;
    world.stands(EXPORTS, "live").await;
    world.west().reaches("east", false).await;
    world.server.heal();
    world.west().sees(API, &["east"]).await;
    until("the gateway is ready", async || world.east().get("/readyz").await.filter(|(status, _)| *status == 200))
        .await;
}
