//! The DNS of a cluster is told to ask the gateways, and no more: what is written into the API server, and what a real CoreDNS
//! makes of it.

use std::net::IpAddr;

use federation_kube::{
    connect::{Access, Cluster, ConnectOptions},
    dns::{Action, DnsError, Intent, Plan, State, Step, Survey},
    install::Applied,
};
use federation_model::{names::Namespace, sni::Zone};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    apiserver::{ApiServer, Fault},
    dns::{self, Type},
    fleet::{Fleet, host_of},
    manifests::Export,
    program::{Place, is_installed},
    skip,
};

use super::server::Server;

const SYSTEM: &str = "kube-system";
const ADDRESS: &str = "10.96.77.7";
const COREFILE: &str = "\
.:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
    }
    forward . /etc/resolv.conf
    cache 30
    reload
}
";

/// A cluster and the person who installs.
struct Site {
    server: Server,
    person: Cluster,
    _files: TempDir,
}

impl Site {
    async fn double() -> Self {
        Self::on(Server::double().await).await
    }

    /// With the Service of the gateways.
    async fn on(server: Server) -> Self {
        let files = tempfile::tempdir().unwrap();
        let person = person(&files, &server.kubeconfig()).await;
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "landbridge-system", "name": "landbridge-dns"},
            "spec": {"clusterIP": ADDRESS, "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]},
        });
        server.put(service).await;
        Self { server, person, _files: files }
    }

    async fn config(&self, name: &str, data: Value) {
        let metadata = json!({"namespace": SYSTEM, "name": name});
        self.server.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})).await;
    }

    async fn text(&self, name: &str, key: &str) -> Option<String> {
        let object = self.server.get("configmaps", SYSTEM, name).await?;
        object["data"][key].as_str().map(str::to_owned)
    }

    async fn install(&self) -> Vec<(String, Applied)> {
        let servers = self.person.dns_servers(&namespace()).await.unwrap();
        assert_eq!(servers, [ADDRESS.parse::<IpAddr>().unwrap()]);
        self.act(Action::Install { servers, force: false }).await
    }

    async fn uninstall(&self) -> Vec<(String, Applied)> {
        self.act(Action::Uninstall).await
    }

    async fn act(&self, action: Action) -> Vec<(String, Applied)> {
        let (intent, survey) = (Intent { zone: Zone::default(), action }, self.survey().await);
        let mut done = Vec::new();
        for step in survey.plan(&intent) {
            let place = format!("{} {}", step.place.name, step.place.key);
            done.push((place, self.person.carry_out(step, &intent).await));
        }
        done
    }

    async fn survey(&self) -> Survey {
        self.person.survey_dns().await.unwrap()
    }

    async fn states(&self) -> Vec<State> {
        let found = self.survey().await.standing(&Zone::default(), &[ADDRESS.parse().unwrap()]);
        found.into_iter().map(|found| found.state).collect()
    }
}

async fn person(files: &TempDir, kubeconfig: &str) -> Cluster {
    let file = files.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig).unwrap();
    let options = ConnectOptions { access: Access::File(file, None), user_agent: "tests/0".to_owned() };
    Cluster::connect(&options).await.unwrap()
}

fn namespace() -> Namespace {
    "landbridge-system".parse().unwrap()
}

fn at(place: &str, applied: Applied) -> Vec<(String, Applied)> {
    vec![(place.to_owned(), applied)]
}

async fn a_corefile_has_the_block_once_and_its_bytes_back_afterwards(site: &Site) {
    site.config("coredns", json!({"Corefile": COREFILE, "other": "stays"})).await;
    assert_eq!(site.states().await, [State::Missing]);
    assert_eq!(site.install().await, at("coredns Corefile", Applied::Configured));
    let text = site.text("coredns", "Corefile").await.unwrap();
    assert!(text.starts_with(COREFILE) && text.contains("    forward . 10.96.77.7\n"), "{text}");
    assert_eq!(site.install().await, at("coredns Corefile", Applied::Unchanged));
    assert_eq!(site.states().await, [State::Current]);
    assert_eq!(site.uninstall().await, at("coredns Corefile", Applied::Configured));
    assert_eq!(site.text("coredns", "Corefile").await.as_deref(), Some(COREFILE));
    assert_eq!(site.text("coredns", "other").await.as_deref(), Some("stays"));
    assert_eq!(site.uninstall().await, at("coredns Corefile", Applied::Unchanged));
}

async fn blocks_of_others_have_a_config_map_that_comes_and_goes(site: &Site) {
    site.config("coredns", json!({"Corefile": format!("{COREFILE}import custom/*.server\n")})).await;
    let place = "coredns-custom clusterset.server";
    assert_eq!(site.install().await, at(place, Applied::Created));
    assert_eq!((site.install().await, site.states().await), (at(place, Applied::Unchanged), vec![State::Current]));
    assert_eq!(site.uninstall().await, at(place, Applied::Configured));
    assert!(site.server.get("configmaps", SYSTEM, "coredns-custom").await.is_none(), "it was ours alone");
    let theirs = json!({"log.override": "log", "corp.server": "corp.example:53 {\n    forward . 10.0.0.1\n}\n"});
    site.config("coredns-custom", theirs.clone()).await;
    assert_eq!(site.install().await, at(place, Applied::Configured));
    assert_eq!(site.uninstall().await, at(place, Applied::Configured));
    assert_eq!(site.server.get("configmaps", SYSTEM, "coredns-custom").await.unwrap()["data"], theirs);
}

async fn an_edit_of_somebody_else_meanwhile_is_kept(site: &Site) {
    site.config("coredns", json!({"Corefile": COREFILE})).await;
    let servers = vec![ADDRESS.parse().unwrap()];
    let intent = Intent { zone: Zone::default(), action: Action::Install { servers, force: false } };
    let step: Step = site.survey().await.plan(&intent).remove(0);
    let log = |config: &mut Value| config["data"]["Corefile"] = COREFILE.replace("errors", "errors\n    log").into();
    site.server.edit("configmaps", SYSTEM, "coredns", log).await;
    assert_eq!(site.person.carry_out(step, &intent).await, Applied::Configured);
    let text = site.text("coredns", "Corefile").await.unwrap();
    assert!(text.contains("errors\n    log\n") && text.contains("# begin landbridge clusterset.local\n"), "{text}");
}

async fn force_holds_for_what_was_shown_alone(site: &Site) {
    site.config("coredns", json!({"Corefile": COREFILE})).await;
    let servers = vec![ADDRESS.parse().unwrap()];
    let intent = Intent { zone: Zone::default(), action: Action::Install { servers, force: true } };
    let step = site.survey().await.plan(&intent).remove(0);
    let theirs = format!("{COREFILE}clusterset.local:53 {{\n    forward . 10.1.1.1\n}}\n");
    let put = |config: &mut Value| config["data"]["Corefile"] = theirs.clone().into();
    site.server.edit("configmaps", SYSTEM, "coredns", put).await;
    let Applied::Refused(refusal) = site.person.carry_out(step, &intent).await else {
        panic!("it was replaced unseen")
    };
    assert!(refusal.reason.contains("asks 10.1.1.1"), "{refusal:?}");
    assert_eq!(site.text("coredns", "Corefile").await, Some(theirs));
    let shown = site.survey().await.plan(&intent).remove(0);
    assert_eq!(site.person.carry_out(shown, &intent).await, Applied::Configured);
}

async fn a_block_of_which_the_corefile_did_not_take_the_place_stays(site: &Site) {
    let importing = format!("{COREFILE}import custom/*.server\n");
    site.config("coredns", json!({"Corefile": importing})).await;
    site.install().await;
    let ours = site.text("coredns-custom", "clusterset.server").await;
    let write = |text: String| move |config: &mut Value| config["data"]["Corefile"] = text.into();
    site.server.edit("configmaps", SYSTEM, "coredns", write(COREFILE.to_owned())).await;
    let servers = vec![ADDRESS.parse().unwrap()];
    let intent = Intent { zone: Zone::default(), action: Action::Install { servers, force: false } };
    let steps = site.survey().await.plan(&intent);
    assert!(matches!(&steps[1].plan, Plan::Change { after: None, .. }), "{steps:?}");
    site.server.edit("configmaps", SYSTEM, "coredns", write(importing)).await;
    for step in steps {
        let applied = site.person.carry_out(step, &intent).await;
        assert!(matches!(applied, Applied::Refused(_) | Applied::Unchanged), "{applied:?}");
    }
    assert_eq!(site.text("coredns-custom", "clusterset.server").await, ours);
}

async fn node_local_is_told_beside_coredns(site: &Site) {
    let node_local = "cluster.local:53 {\n    bind 169.254.20.10\n    forward . __PILLAR__CLUSTER__DNS__ {\n        force_tcp\n    }\n}\n";
    site.config("coredns", json!({"Corefile": COREFILE})).await;
    site.config("node-local-dns", json!({"Corefile": node_local})).await;
    let done = site.install().await;
    assert_eq!(
        done.iter().map(|(place, _)| place.as_str()).collect::<Vec<_>>(),
        ["coredns Corefile", "node-local-dns Corefile"]
    );
    let text = site.text("node-local-dns", "Corefile").await.unwrap();
    assert!(text.contains("    bind 169.254.20.10\n    forward . 10.96.77.7 {\n        force_tcp\n    }\n"), "{text}");
    site.uninstall().await;
    assert_eq!(site.text("node-local-dns", "Corefile").await.as_deref(), Some(node_local));
}

async fn the_stub_domains_of_kube_dns_are_merged(site: &Site) {
    site.config("kube-dns", json!({})).await;
    let place = "kube-dns stubDomains";
    assert_eq!(site.install().await, at(place, Applied::Configured));
    assert_eq!(site.text("kube-dns", "stubDomains").await.as_deref(), Some(r#"{"clusterset.local":["10.96.77.7"]}"#));
    assert_eq!(site.states().await, [State::Current]);
    assert_eq!(site.uninstall().await, at(place, Applied::Configured));
    assert_eq!(site.text("kube-dns", "stubDomains").await, None);
    let annotations = &site.server.get("configmaps", SYSTEM, "kube-dns").await.unwrap()["metadata"]["annotations"];
    assert!(annotations.get("landbridge.dev/stub-domain").is_none(), "{annotations}");
}

/// Every scenario, as a test on a double.
macro_rules! on_doubles {
    ($($name:ident),* $(,)?) => {
        mod on_doubles {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(&super::Site::double().await).await;
                }
            )*
        }

        /// On real API servers, one after the other.
        #[tokio::test]
        async fn the_same_holds_on_real_api_servers() {
            $(
                let what = concat!("names on real API servers: ", stringify!($name));
                let Some(server) = Server::real(what, "10.96.0.0/16").await else { return };
                $name(&Site::on(server).await).await;
            )*
        }
    };
}

on_doubles!(
    a_corefile_has_the_block_once_and_its_bytes_back_afterwards,
    blocks_of_others_have_a_config_map_that_comes_and_goes,
    an_edit_of_somebody_else_meanwhile_is_kept,
    force_holds_for_what_was_shown_alone,
    a_block_of_which_the_corefile_did_not_take_the_place_stays,
    node_local_is_told_beside_coredns,
    the_stub_domains_of_kube_dns_are_merged,
);

#[tokio::test]
async fn somebody_who_writes_all_the_time_is_given_way_to() {
    let site = Site::double().await;
    site.config("coredns", json!({"Corefile": COREFILE})).await;
    let servers = vec![ADDRESS.parse().unwrap()];
    let intent = Intent { zone: Zone::default(), action: Action::Install { servers, force: false } };
    let step = site.survey().await.plan(&intent).remove(0);
    assert!(matches!(step.plan, Plan::Change { .. }));
    let always = Fault::status(409).verb("patch").resource("configmaps").times(usize::MAX);
    site.server.double_of().fault(always);
    let Applied::Refused(refusal) = site.person.carry_out(step.clone(), &intent).await else {
        panic!("it was written")
    };
    assert!(refusal.reason.starts_with("somebody else writes it at the same time"), "{refusal:?}");
    assert_eq!(site.text("coredns", "Corefile").await.as_deref(), Some(COREFILE));
    assert!(site.server.double_of().count("patch", "configmaps") < 10, "there is an end to it");
    site.server.double_of().heal();
    site.server.double_of().fault(Fault::status(409).verb("patch").resource("configmaps").times(2));
    assert_eq!(site.person.carry_out(step, &intent).await, Applied::Configured);
}

#[tokio::test]
async fn a_cluster_without_a_known_dns_or_without_gateways_is_told_what_was_looked_for() {
    let site = Site::double().await;
    let error = site.person.survey_dns().await.unwrap_err();
    assert!(matches!(error, DnsError::NotFound) && error.remedy().contains("docs/install.md#names"), "{error}");
    site.server.delete("services", "landbridge-system", "landbridge-dns").await;
    let error = site.person.dns_servers(&namespace()).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no Service landbridge-system/landbridge-dns");
    site.server
        .put(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"Corefile": COREFILE},
            "metadata": {"namespace": SYSTEM, "name": "rke2-coredns-rke2-coredns", "labels": {"k8s-app": "kube-dns"}},
        }))
        .await;
    assert_eq!(site.states().await, [State::Missing], "CoreDNS under another name is found by its label");
}

const READER: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {namespace: kube-system, name: reader}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {namespace: kube-system, name: reader}
roleRef: {kind: Role, name: reader, apiGroup: rbac.authorization.k8s.io}
subjects: [{kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}]
";

#[tokio::test]
async fn who_may_not_read_or_not_write_is_told_which_object() {
    let double = ApiServer::setup().with_rbac().start().await;
    let jane = double.kubeconfig("double", &double.user_token("jane", &[]));
    let server = Server::Double(double);
    server.namespace("landbridge-system").await;
    let site = Site::on(server).await;
    site.config("coredns", json!({"Corefile": COREFILE})).await;
    let files = tempfile::tempdir().unwrap();
    let jane = person(&files, &jane).await;
    let error = jane.survey_dns().await.unwrap_err();
    assert!(error.to_string().starts_with("ConfigMap kube-system/coredns cannot be read: "), "{error}");
    assert!(error.remedy().starts_with("--context with one that may do this"), "{}", error.remedy());
    site.server.put_yaml(READER).await;
    let servers = vec![ADDRESS.parse().unwrap()];
    let intent = Intent { zone: Zone::default(), action: Action::Install { servers, force: false } };
    let step = jane.survey_dns().await.unwrap().plan(&intent).remove(0);
    let Applied::Refused(refusal) = jane.carry_out(step, &intent).await else { panic!("jane may not write") };
    assert!(refusal.reason.contains("forbidden") && refusal.remedy.contains("coredns Corefile"), "{refusal:?}");
}

/// Where CoreDNS is, when it is anywhere.
fn coredns() -> Option<String> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(std::path::PathBuf::from);
    let beside = assets.map(|assets| assets.join("coredns")).filter(|program| program.is_file());
    let program = beside.map_or_else(|| "coredns".to_owned(), |program| program.display().to_string());
    is_installed(&program, "-version").then_some(program)
}

#[tokio::test]
async fn a_real_coredns_asks_the_gateway_as_the_corefile_says() {
    let Some(coredns) = coredns() else {
        return skip::say("names through CoreDNS", "there is no coredns in PATH or KUBEBUILDER_ASSETS");
    };
    let fleet = Fleet::of(&["east", "west"]).await;
    fleet["west"].export(&Export::new("production/api", 8080, fleet["west"].host(10)));
    fleet["east"].sees("production/api", &["west"]).await;
    let gateway = fleet["east"].dns();

    let site = Site::double().await;
    let listen = fleet["east"].at(20, 15353);
    // As a cluster has it, but for the plugins that need one.
    let before = format!("dns://.:{} {{\n    errors\n    bind {}\n    reload\n}}\n", listen.port(), listen.ip());
    site.config("coredns", json!({"Corefile": before})).await;
    site.install().await;
    // No Service answers at its address here: the gateway itself is asked.
    let text = site.text("coredns", "Corefile").await.unwrap().replace(ADDRESS, &gateway.to_string());
    let place = Place::default();
    let file = place.file("Corefile", &text);
    let _running = place.run(&coredns, &["-conf", file.to_str().unwrap()], listen).await;

    let host = host_of("production/api");
    let (through, direct) = (dns::ask(listen, &host, Type::A).await.unwrap(), fleet["east"].resolve(&host).await);
    assert_eq!((through.code, through.addresses()), (dns::NO_ERROR, direct));
    let missing = dns::ask(listen, &host_of("production/none"), Type::A).await.unwrap();
    assert_eq!(missing.code, dns::NO_SUCH_NAME);
    let version = dns::ask(listen, "dns-version.clusterset.local", Type::Txt).await.unwrap();
    assert_eq!(version.records[0].data, "1.0.0");
}
