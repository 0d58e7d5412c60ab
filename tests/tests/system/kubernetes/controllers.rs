//! What the controllers of a gateway make of exports and imports in an API server, and what they leave alone.
//!
//! Each test is a scenario over two clusters. With a directory of etcd and kube-apiserver the same scenarios run on real API
//! servers too, where a double could lie: server-side apply, schemas, allocation.

use std::net::Ipv4Addr;

use proto::gateway::v1::LeaveRequest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    apiserver::{ApiServer, Fault},
    client::line,
    fleet::{Cluster, Fleet, Settings, host_of},
    manifests::Export,
    probe::Echo,
    wait::until,
};

use super::server::Server;

mod writes;

const API: &str = "production/api";
const SYSTEM: &str = "landbridge-system";
const IMPORTS: &str = "serviceimports.multicluster.x-k8s.io";
const EXPORTS: &str = "serviceexports.multicluster.x-k8s.io";
const PROPERTIES: &str = "clusterproperties.about.k8s.io";

/// East and west, each with an API server of its own.
struct World {
    fleet: Fleet,
    east: Server,
    west: Server,
    _files: TempDir,
}

impl World {
    async fn doubles() -> Self {
        Self::on(Server::double().await, Server::double().await).await
    }

    async fn on(east: Server, west: Server) -> Self {
        Self::with(east, west, "").await
    }

    async fn with(east: Server, west: Server, lines: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut settings = Vec::new();
        for (name, server) in [("east", &east), ("west", &west)] {
            let file = files.path().join(name);
            std::fs::write(&file, server.kubeconfig()).unwrap();
            settings.push(Settings::in_kubernetes(name, &file, lines));
        }
        let fleet = Fleet::with(settings).await;
        Self { fleet, east, west, _files: files }
    }

    fn east(&self) -> &Cluster {
        &self.fleet["east"]
    }

    fn west(&self) -> &Cluster {
        &self.fleet["west"]
    }

    /// The derived Service of east for an import, when it leads to `port`.
    async fn derived(&self, service: &str, port: u16) -> Value {
        let import = self.import(service).await;
        let name = text(&import, "/metadata/annotations/multicluster.kubernetes.io~1derived-service");
        self.east.becomes("services", SYSTEM, &name, |service| service["spec"]["ports"][0]["port"] == port).await
    }

    /// The import of east, when it is ready.
    async fn import(&self, service: &str) -> Value {
        let (namespace, name) = service.split_once('/').unwrap();
        self.east.becomes(IMPORTS, namespace, name, |import| condition(import, "Ready").0 == "True").await
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value:#}")).to_owned()
}

/// Status and reason of a condition.
fn condition(object: &Value, kind: &str) -> (String, String) {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.and_then(|conditions| conditions.iter().find(|condition| condition["type"] == kind));
    found.map_or_else(Default::default, |found| (text(found, "/status"), text(found, "/reason")))
}

/// An export whose endpoint a real API server accepts too.
fn export(service: &str, port: u16) -> Export {
    Export::new(service, port, Ipv4Addr::new(10, 244, 0, 9).into())
}

async fn an_export_becomes_an_import_with_an_address_and_the_gateway_pods_behind_it(world: &World) {
    world.east.gateway_pod("east-0", "10.244.1.7", true).await;
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    let import = world.import(API).await;
    assert_eq!(import["spec"]["type"], "ClusterSetIP");
    assert_eq!(import["status"]["clusters"], json!([{"cluster": "west"}]));
    let derived = world.derived(API, 8080).await;
    assert_eq!(import["spec"]["ips"][0], derived["spec"]["clusterIP"]);
    let slice = format!("{}-4", text(&derived, "/metadata/name"));
    let slice = world
        .east
        .becomes("endpointslices", SYSTEM, &slice, |slice| slice["endpoints"][0]["conditions"]["ready"] == true)
        .await;
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.244.1.7"]));
    assert_eq!(slice["ports"][0]["port"], derived["spec"]["ports"][0]["targetPort"]);
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], derived["metadata"]["uid"]);
    let address = world.east().resolve(&host_of(API)).await;
    assert_eq!(json!(address), import["spec"]["ips"]);
    world
        .west
        .becomes(EXPORTS, "production", "api", |export| condition(export, "Ready") == two("True", "Exported"))
        .await;
    for (name, value) in [("cluster.clusterset.k8s.io", "east"), ("clusterset.k8s.io", "")] {
        let said = |property: &Value| property["spec"]["value"].as_str().is_some_and(|said| said.contains(value));
        world.east.becomes(PROPERTIES, "", name, said).await;
    }
}

fn two(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

async fn a_conflict_is_told_on_every_export(world: &World) {
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    world.west().sees(API, &["west"]).await;
    world.east.put_yaml(&export(API, 9090).yaml()).await;
    for server in [&world.east, &world.west] {
        let conflict = two("True", "PortConflict");
        server.becomes(EXPORTS, "production", "api", |export| condition(export, "Conflict") == conflict).await;
    }
    world.east.delete(EXPORTS, "production", "api").await;
    let none = two("False", "NoConflicts");
    world.west.becomes(EXPORTS, "production", "api", |export| condition(export, "Conflict") == none).await;
}

async fn what_somebody_edits_or_deletes_is_put_back(world: &World) {
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    let import = world.import(API).await;
    let derived = world.derived(API, 8080).await;
    let name = text(&derived, "/metadata/name");
    world.east.edit(IMPORTS, "production", "api", |import| import["spec"]["ips"] = json!(["192.0.2.1"])).await;
    world.east.becomes(IMPORTS, "production", "api", |now| now["spec"]["ips"] == import["spec"]["ips"]).await;
    let edit = |service: &mut Value| {
        service["spec"]["ports"][0]["targetPort"] = json!(1);
        service["metadata"]["labels"] = json!({});
    };
    world.east.edit("services", SYSTEM, &name, edit).await;
    let as_before = |service: &Value| {
        service["spec"]["ports"][0]["targetPort"] == derived["spec"]["ports"][0]["targetPort"]
            && service["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "landbridge-gateway"
    };
    world.east.becomes("services", SYSTEM, &name, as_before).await;
    world.east.delete(IMPORTS, "production", "api").await;
    world.east.becomes(IMPORTS, "production", "api", |now| now["metadata"]["uid"] != import["metadata"]["uid"]).await;
}

async fn what_is_no_longer_exported_goes_and_what_others_made_stays(world: &World) {
    let foreign = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": SYSTEM, "name": "landbridge-dns"},
        "spec": {"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]},
    });
    world.east.put(foreign).await;
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    let name = text(&world.derived(API, 8080).await, "/metadata/name");
    world.west.delete(EXPORTS, "production", "api").await;
    world.east.goes(IMPORTS, "production", "api").await;
    world.east.goes("services", SYSTEM, &name).await;
    assert!(world.east.get("services", SYSTEM, "landbridge-dns").await.is_some());
}

async fn an_import_waits_for_its_namespace(world: &World) {
    world.west.namespace("later").await;
    world.west.put_yaml(&export("later/api", 8080).yaml()).await;
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    world.import(API).await;
    assert!(world.east.get(IMPORTS, "later", "api").await.is_none());
    world.east.namespace("later").await;
    world.import("later/api").await;
}

async fn an_export_that_cannot_be_says_why(world: &World) {
    world
        .east
        .put(json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
            "metadata": {"namespace": "production", "name": "ghost"},
        }))
        .await;
    let is = |export: &Value| condition(export, "Valid") == two("False", "NoService");
    world.east.becomes(EXPORTS, "production", "ghost", is).await;
    world
        .east
        .put(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "production", "name": "ghost"},
            "spec": {"type": "ExternalName", "externalName": "example.com"},
        }))
        .await;
    let is = |export: &Value| condition(export, "Valid") == two("False", "InvalidServiceType");
    world.east.becomes(EXPORTS, "production", "ghost", is).await;
}

/// Every scenario, as a test on doubles.
macro_rules! on_doubles {
    ($($name:ident),* $(,)?) => {
        mod on_doubles {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(&super::World::doubles().await).await;
                }
            )*
        }

        /// On real API servers, one pair after the other: they are large.
        #[tokio::test]
        async fn the_same_holds_on_real_api_servers() {
            $(
                let what = concat!("controllers on real API servers: ", stringify!($name));
                let Some(east) = Server::real(what, "10.96.0.0/16").await else { return };
                let Some(west) = Server::real(what, "10.97.0.0/16").await else { return };
                $name(&World::on(east, west).await).await;
            )*
        }
    };
}

on_doubles!(
    an_export_becomes_an_import_with_an_address_and_the_gateway_pods_behind_it,
    a_conflict_is_told_on_every_export,
    what_somebody_edits_or_deletes_is_put_back,
    what_is_no_longer_exported_goes_and_what_others_made_stays,
    an_import_waits_for_its_namespace,
    an_export_that_cannot_be_says_why,
);

#[tokio::test]
async fn a_connection_to_an_allocated_port_reaches_the_exporting_cluster() {
    let world = World::doubles().await;
    let _echo = Echo::start("west", world.west().at(10, 8080), false).await.unwrap();
    world.west.put_yaml(&Export::new(API, 8080, world.west().host(10)).yaml()).await;
    let derived = world.derived(API, 8080).await;
    let port = derived["spec"]["ports"][0]["targetPort"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap();
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut stream = until("the allocated port is open", async || {
        tokio::net::TcpStream::connect::<std::net::SocketAddr>(address).await.ok()
    })
    .await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
}

#[tokio::test]
async fn one_more_export_costs_a_handful_of_writes_and_standing_still_costs_none() {
    let world = World::doubles().await;
    world.east.gateway_pod("east-0", "10.244.1.7", true).await;
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    world.import(API).await;
    let east = world.east.double_of();
    let ours = |server: &ApiServer| {
        server.writes().into_iter().filter(|asked| !asked.resource.starts_with("leases")).collect::<Vec<_>>()
    };
    east.forget_requests();
    world.west.put_yaml(&export("production/cart", 8080).yaml()).await;
    world.import("production/cart").await;
    world.west.put_yaml(&export("production/shop", 8080).yaml()).await;
    world.import("production/shop").await;
    let writes = ours(east);
    let of_cart: Vec<_> = writes.iter().filter(|asked| asked.name.contains("cart")).collect();
    // The Service, its slice, the import without and with its address, and its status.
    assert!(of_cart.len() <= 6, "{of_cart:#?}");
    let of_api: Vec<_> = writes.iter().filter(|asked| asked.name.contains("api")).collect();
    assert!(of_api.is_empty(), "{of_api:#?}");
}

#[tokio::test]
async fn definitions_that_are_installed_later_are_used_at_once_and_names_work_before() {
    let east = Server::Double(ApiServer::start().await);
    east.namespace("production").await;
    east.namespace(SYSTEM).await;
    let world = World::on(east, Server::double().await).await;
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    let address =
        until("the name has an address", async || world.east().resolve(&host_of(API)).await.first().copied()).await;
    world.east.define().await;
    let import = world.import(API).await;
    assert_eq!(import["spec"]["ips"], json!([address]));
}

#[tokio::test]
async fn a_webhook_that_refuses_imports_is_told_and_keeps_nothing_else_from_working() {
    let world = World::doubles().await;
    world.east.double_of().refuse_writes(IMPORTS, "imports need an owner");
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    until("the name has an address", async || world.east().resolve(&host_of(API)).await.first().copied()).await;
    until("the refusal is told", async || {
        let found = world.east().admin().await.check().await.ok()?;
        found.iter().any(|finding| finding.detail.contains("imports need an owner")).then_some(())
    })
    .await;
    world.east.double_of().allow_writes();
    world.import(API).await;
}

#[tokio::test]
async fn an_api_server_that_throttles_fails_and_restarts_is_caught_up_with() {
    let world = World::doubles().await;
    let east = world.east.double_of();
    east.fault(Fault::throttled(1).verb("patch").times(3));
    east.fault(Fault::status(500).verb("patch").times(3));
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    world.import(API).await;
    east.stop().await;
    world.west.delete(EXPORTS, "production", "api").await;
    world.west.put_yaml(&export("production/cart", 8080).yaml()).await;
    world.east().sees("production/cart", &["west"]).await;
    east.compact();
    east.restart().await;
    world.import("production/cart").await;
    world.east.goes(IMPORTS, "production", "api").await;
}

#[tokio::test]
async fn a_cluster_that_is_unreachable_keeps_its_imports_and_one_that_left_leaves_no_trace() {
    let world = World::doubles().await;
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    let import = world.import(API).await;
    world.fleet.partition("east", "west");
    world.east().reaches("west", false).await;
    let lost = world.east.becomes(IMPORTS, "production", "api", |import| condition(import, "Ready").0 == "False").await;
    assert_eq!(lost["spec"]["ips"], import["spec"]["ips"]);
    world.fleet.heal("east", "west");
    let back = world.import(API).await;
    assert_eq!(back["spec"]["ips"], import["spec"]["ips"]);
    let name = text(&world.derived(API, 8080).await, "/metadata/name");
    world.west().admin().await.leave(LeaveRequest::default()).await.unwrap();
    world.east.goes(IMPORTS, "production", "api").await;
    world.east.goes("services", SYSTEM, &name).await;
    world.west.goes(PROPERTIES, "", "clusterset.k8s.io").await;
    drop(world.fleet);
}

#[tokio::test]
async fn a_gateway_whose_pod_was_replaced_is_the_same_member() {
    let (east, west) = (Server::double().await, Server::double().await);
    let mut world = World::with(east, west, "state_secret = \"landbridge-gateway-state\"").await;
    world.fleet.connected().await;
    world.west.put_yaml(&export(API, 8080).yaml()).await;
    world.import(API).await;
    let holds =
        |secret: &Value| secret["data"]["membership.pb"].is_string() && secret["data"]["ca_tls.key"].is_string();
    world.east.becomes("secrets", SYSTEM, "landbridge-gateway-state", holds).await;
    world.fleet["east"].stop().await;
    std::fs::remove_dir_all(world.fleet["east"].state()).unwrap();
    world.fleet["east"].start().await;
    world.fleet.connected().await;
    world.east().sees(API, &["west"]).await;
}
