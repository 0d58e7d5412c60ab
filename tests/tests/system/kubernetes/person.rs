//! What a person with a kubeconfig does from their own machine: everything goes through API servers, and what they may do, these
//! say.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use federation_client::{
    gateway::GatewayClient,
    operator::{Credential, OperatorClient},
};
use federation_fedctl::bridge::carry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    apiserver::{ApiServer, Runs},
    fleet::{Fleet, Settings},
    wait::until,
};
use tokio::io::{AsyncWriteExt as _, DuplexStream, split};

use super::server::Server;
use crate::fedctl::{Ended, fedctl, words};

const SYSTEM: &str = "landbridge-system";

/// Clusters, each with an API server, a context of one kubeconfig, and a gateway in a pod; the federation service is in east.
struct World {
    fleet: Fleet,
    servers: BTreeMap<&'static str, Server>,
    files: TempDir,
}

impl World {
    async fn new(fleet: Fleet) -> Self {
        Self::of(&["east", "west"], fleet).await
    }

    async fn of(names: &[&'static str], fleet: Fleet) -> Self {
        let mut world = Self { fleet, servers: BTreeMap::new(), files: tempfile::tempdir().unwrap() };
        for name in names {
            let (server, file) = (Server::double().await, world.files.path().join(name));
            std::fs::write(&file, server.kubeconfig()).unwrap();
            server.gateway_pod(&format!("{name}-0"), "127.0.0.1", true).await;
            server.put(deployment()).await;
            world.fleet.add(Settings::in_kubernetes(name, &file, "")).await;
            server.double_of().runs(SYSTEM, &format!("{name}-0"), world.gateway_runs(name));
            world.servers.insert(name, server);
        }
        world.server("east").put(federation_pod()).await;
        world.server("east").double_of().runs(SYSTEM, "landbridge-federation-0", world.federation_runs());
        std::fs::write(world.kubeconfig(), world.contexts()).unwrap();
        world
    }

    fn server(&self, name: &str) -> &Server {
        &self.servers[name]
    }

    /// What runs in the pod of a gateway: `fedctl bridge gateway`, and `fedctl check --pre` which finds the ways to all peers
    /// open, since the tunnels of these gateways are in a network that is simulated.
    fn gateway_runs(&self, name: &str) -> Arc<Runs> {
        let socket = self.fleet[name].state().join("admin.sock");
        Arc::new(move |command, streams| {
            let socket = socket.clone();
            Box::pin(async move {
                if command[1] == "check" {
                    return found_ways(&command, streams).await;
                }
                assert_eq!(command, ["fedctl", "bridge", "gateway"]);
                let gateway = GatewayClient::bridge(&socket).await.map_err(|error| error.to_string())?;
                let (input, output) = split(streams);
                carry(gateway, input, output).await.map_err(|error| error.to_string())
            })
        })
    }

    /// `fedctl bridge federation`, as it runs in the pod of the federation service.
    fn federation_runs(&self) -> Arc<Runs> {
        let (address, operator) = (self.fleet.federation().grpc(), self.fleet.federation().store().join("operator"));
        Arc::new(move |command, streams| {
            let (address, operator) = (address.to_string().parse().unwrap(), operator.clone());
            Box::pin(async move {
                assert_eq!(command, ["fedctl", "bridge", "federation"]);
                let credential = Credential::load(&operator).unwrap();
                let service =
                    OperatorClient::bridge(&[address], credential).await.map_err(|error| error.to_string())?;
                let (input, output) = split(streams);
                carry(service, input, output).await.map_err(|error| error.to_string())
            })
        })
    }

    fn kubeconfig(&self) -> PathBuf {
        self.files.path().join("config")
    }

    /// The contexts of all clusters in one file.
    fn contexts(&self) -> String {
        let mut all = json!({"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []});
        for (name, server) in &self.servers {
            let double = server.double_of();
            let one: Value = serde_saphyr::from_str(&double.kubeconfig(name, double.admin_token())).unwrap();
            for part in ["clusters", "users", "contexts"] {
                all[part].as_array_mut().unwrap().push(one[part][0].clone());
            }
        }
        all.to_string()
    }

    async fn fedctl(&self, line: &str) -> Ended {
        let kubeconfig = self.kubeconfig().display().to_string();
        fedctl(&[words(line), vec!["--kubeconfig".to_owned(), kubeconfig]].concat()).await
    }

    /// The answer to a command that must have succeeded, in JSON.
    async fn answer(&self, line: &str) -> Value {
        serde_json::from_str(&self.fedctl(&format!("{line} -o json")).await.done()).unwrap()
    }

    /// Waits until neither the probes nor what the other cluster made of them is there.
    async fn no_probe_is_left(&self) {
        until("no probe is left", async || {
            let left = self.servers.values().flat_map(|server| {
                let double = server.double_of();
                [double.list("services"), double.list("serviceexports.multicluster.x-k8s.io")].concat()
            });
            let probes = left.filter(|object| object["metadata"]["name"].as_str().unwrap().contains("probe"));
            (probes.count() == 0).then_some(())
        })
        .await;
    }
}

async fn found_ways(command: &[String], mut streams: DuplexStream) -> Result<(), String> {
    let peers = command.windows(2).filter(|pair| pair[0] == "--peer").map(|pair| &pair[1]);
    let paths: Vec<_> = peers
        .map(|peer| json!({"peer": peer, "address": peer, "reach": "reachable", "rtt_micros": 900, "payload": 1452}))
        .collect();
    let answer = json!({"ok": true, "findings": [], "paths": paths}).to_string();
    streams.write_all(answer.as_bytes()).await.map_err(|error| error.to_string())
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "landbridge-gateway", "namespace": SYSTEM},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "gateway", "image": "landbridge"}]}}}})
}

fn federation_pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": SYSTEM, "name": "landbridge-federation-0",
            "labels": {"app.kubernetes.io/name": "landbridge-federation"}},
        "spec": {"containers": [{"name": "federation", "image": "landbridge"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
}

#[tokio::test]
async fn two_contexts_are_linked_verified_and_linking_again_changes_nothing() {
    let world = World::new(Fleet::new().await).await;
    let plan = world.fedctl("link east west --dry-run").await.done();
    assert!(plan.contains("is no member: make a token, and join"), "{plan}");
    assert_eq!(world.answer("members --context east").await["members"], json!([]));
    let linked = world.answer("link east west").await;
    assert_eq!(
        (&linked["clusters"][0]["result"], &linked["clusters"][1]["result"]),
        (&json!("joined"), &json!("joined"))
    );
    let sights = linked["sights"].as_array().unwrap().iter();
    assert_eq!(sights.filter(|sight| sight["connected"] == true).count(), 2, "{linked:#}");
    let checks: Vec<_> = linked["probes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|probe| (&probe["of"], &probe["check"], &probe["level"]))
        .collect();
    let expected = [("east", "reached from west"), ("west", "reached from east")];
    for ((of, check, level), (side, peer)) in checks.iter().zip(expected) {
        assert_eq!((of.as_str(), check.as_str(), level.as_str()), (Some(side), Some(peer), Some("ok")), "{linked:#}");
    }
    assert_eq!(checks.len(), 2);
    world.no_probe_is_left().await;
    let again = world.fedctl("link east west --no-probe").await.done();
    assert!(again.contains("east: member already") && again.contains("west: member already"), "{again}");
}

#[tokio::test]
async fn three_contexts_are_linked_and_each_reaches_each() {
    let world = World::of(&["east", "north", "west"], Fleet::new().await).await;
    // One is a member already, and stays as it is.
    world.fleet.join("north").await;
    let linked = world.answer("link east west north").await;
    let results: Vec<_> = linked["clusters"].as_array().unwrap().iter().map(|one| &one["result"]).collect();
    assert_eq!(results, ["joined", "joined", "member already"]);
    let of = |part: &str| linked[part].as_array().unwrap().clone();
    assert_eq!(of("sights").iter().filter(|sight| sight["connected"] == true).count(), 6, "{linked:#}");
    assert_eq!(of("probes").iter().filter(|probe| probe["level"] == "ok").count(), 6, "{linked:#}");
    world.no_probe_is_left().await;
}

#[tokio::test]
async fn a_link_approves_with_the_fingerprint_that_the_gateway_itself_shows() {
    let world = World::new(Fleet::requiring_approval().await).await;
    let linked = world.answer("link west east --no-probe").await;
    let results: Vec<_> = linked["clusters"].as_array().unwrap().iter().map(|one| &one["result"]).collect();
    assert_eq!(results, ["joined and approved", "joined and approved"]);
    world.fleet.connected().await;
}

#[tokio::test]
async fn every_command_reaches_the_gateway_and_the_federation_service_of_a_context() {
    let world = World::new(Fleet::new().await).await;
    assert_eq!(world.answer("status --context west").await["gateway"]["cluster"], "west");
    let token = world.fedctl("token create --cluster west --context east").await.done();
    let token = token.split_whitespace().find(|word| word.starts_with("lbj1.")).unwrap().to_owned();
    let joined = world.answer(&format!("join {token} --context west")).await;
    assert_eq!((&joined["joined"], &joined["members"]), (&json!(true), &json!(1)));
    let members = world.answer("members --context east").await;
    assert_eq!(members["members"][0]["cluster"], "west");
    assert!(world.fedctl("certs --context west").await.done().contains("spiffe://west.example"));
}

#[tokio::test]
async fn of_several_gateways_the_one_that_leads_is_reached() {
    let world = World::of(&["east"], Fleet::new().await).await;
    let east = world.server("east");
    // First by name, ready, and nothing answers in it.
    east.gateway_pod("a-0", "127.0.0.2", true).await;
    let leads = |lease: &Value| lease["spec"]["holderIdentity"] == "east-0";
    east.becomes("leases.coordination.k8s.io", SYSTEM, "landbridge-gateway", leads).await;
    assert_eq!(world.answer("status --context east").await["gateway"]["cluster"], "east");
    // Where each is asked, one that does not answer is a finding.
    let checked = world.fedctl("check --context east -o json").await;
    let found: Value = serde_json::from_str(&checked.stdout).unwrap();
    let reachable = found["findings"].as_array().unwrap().iter().filter(|one| one["check"] == "reachable");
    let levels: BTreeMap<_, _> = reachable.map(|one| (one["of"].as_str().unwrap(), &one["level"])).collect();
    assert_eq!(levels, [("a-0", &json!("failed")), ("east-0", &json!("ok"))].into());
}

#[tokio::test]
async fn a_cluster_leaves_when_both_the_others_and_the_federation_service_are_dead() {
    let mut world = World::new(Fleet::new().await).await;
    world.fedctl("link east west --no-probe").await.done();
    world.fleet["east"].kill().await;
    world.fleet.kill_federation().await;
    let refused = world.fedctl("leave --context west").await;
    assert!(refused.code.contains("(2)") && refused.stderr.contains("--force"), "{refused:?}");
    let left = world.answer("leave --context west --force").await;
    assert_eq!((&left["left"], &left["federation_told"]), (&json!(true), &json!(false)));
    let west = world.answer("status --context west").await;
    assert_eq!(west["gateway"]["membership"]["joined"], false);
    world.server("west").goes("clusterproperties.about.k8s.io", "", "clusterset.k8s.io").await;
}

#[tokio::test]
async fn what_is_missing_on_the_way_is_told_with_its_remedy() {
    let world = World::new(Fleet::new().await).await;
    let refused = world.fedctl("members --context west").await;
    assert!(refused.stderr.contains("no pod of landbridge-federation"), "{refused:?}");
    assert!(refused.stderr.contains("fedctl install federation"), "{refused:?}");
    world.server("west").gateway_pod("west-0", "127.0.0.1", false).await;
    world.server("west").edit("pods", SYSTEM, "west-0", |pod| pod["status"]["phase"] = json!("Pending")).await;
    let refused = world.fedctl("status --context west").await;
    assert!(refused.stderr.contains("no pod of landbridge-gateway runs: west-0 is Pending"), "{refused:?}");
    let none = world.fedctl("link east west").await;
    assert!(none.stderr.contains("context west"), "{none:?}");
    world.server("west").delete("deployments.apps", SYSTEM, "landbridge-gateway").await;
    let token = world.fleet.federation().token("west").await;
    let refused = world.fedctl(&format!("join {token} --context west")).await;
    assert!(refused.stderr.contains("--trust-domain DOMAIN installs one"), "{refused:?}");
}

#[tokio::test]
async fn a_join_installs_a_gateway_where_there_is_none() {
    let world = World::new(Fleet::new().await).await;
    world.server("west").delete("deployments.apps", SYSTEM, "landbridge-gateway").await;
    let token = world.fleet.federation().token("west").await;
    let line = format!("join {token} --context west --trust-domain west.example --service-type NodePort -y");
    let joining = world.fedctl(&line);
    // What a node would do.
    let runs = async {
        let available = json!({"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 1});
        until("the gateway was installed", async || {
            world.server("west").get("deployments.apps", SYSTEM, "landbridge-gateway").await.map(drop)
        })
        .await;
        world
            .server("west")
            .edit("deployments.apps", SYSTEM, "landbridge-gateway", |one| one["status"] = available)
            .await;
    };
    let (joined, ()) = tokio::join!(joining, runs);
    assert!(joined.stderr.contains("To be installed in the namespace landbridge-system"), "{joined:?}");
    assert!(joined.done().contains("west is a member of the cluster set now"));
}

#[tokio::test]
async fn a_person_without_the_right_to_exec_is_refused_by_the_api_server() {
    let double = ApiServer::setup().with_rbac().start().await;
    let server = Server::Double(double);
    server.namespace(SYSTEM).await;
    server.gateway_pod("west-0", "127.0.0.1", true).await;
    server
        .put(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "look", "namespace": SYSTEM},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]}))
        .await;
    server
        .put(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "look", "namespace": SYSTEM},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]}))
        .await;
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("config");
    let double = server.double_of();
    std::fs::write(&file, double.kubeconfig("west", &double.user_token("jane", &[]))).unwrap();
    let refused = fedctl(&words(&format!("status --context west --kubeconfig {}", file.display()))).await;
    assert!(refused.stderr.contains("refuses (403)"), "{refused:?}");
    assert!(refused.stderr.contains("create pods/exec"), "{refused:?}");
}
