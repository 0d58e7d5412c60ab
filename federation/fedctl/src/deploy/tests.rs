//! `deploy/` against the templates: what is made from them is what is there, and the three ways to install agree.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Parser as _;
use federation_kube::install::Manifest;
use serde_json::Value;

use super::{chart::Chart, *};
use crate::args::{Cli, Command as What, install::Install};

/// The variable that makes the test rewrite the files.
const UPDATE: &str = "UPDATE_DEPLOY";
/// The program that renders charts, where it is not called helm.
const HELM: &str = "HELM";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn parse(line: &str) -> Install {
    let What::Install(install) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
        panic!("{line} installs nothing");
    };
    install
}

fn parse_gateway(options: &str) -> InstallGateway {
    let line = format!("fedctl install gateway --cluster east --trust-domain east.example {options}");
    let Install::Gateway(install) = parse(&line) else { panic!("{line} installs no gateway") };
    install
}

fn parse_federation(options: &str) -> InstallFederation {
    let line = format!("fedctl install federation {options}");
    let Install::Federation(install) = parse(&line) else { panic!("{line} installs no federation service") };
    install
}

/// Compares a file with what it is made from, or rewrites it.
fn agree(path: &str, source: &str, text: &str) {
    let header = match path.rsplit_once('.') {
        Some((_, "yaml")) => {
            format!(
                "# Made from deploy/{source}; change that and run: {UPDATE}=1 cargo test -p federation-fedctl --lib deploy\n"
            )
        }
        _ => String::new(),
    };
    let (file, text) = (root().join(path), header + text);
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &text).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(written == text, "deploy/{path} is not what deploy/{source} says; run the test with {UPDATE}=1");
}

/// The documents of one text that the other does not have.
fn without(text: &str, other: &str) -> String {
    let others: BTreeSet<_> = other.split("\n---\n").map(str::trim).collect();
    let added: Vec<_> = text.split("\n---\n").map(str::trim).filter(|document| !others.contains(document)).collect();
    added.join("\n---\n") + "\n"
}

/// What a base says where each cluster says something else: nothing, so that a gateway that was told nothing does not start.
fn bare(mut values: Values) -> Values {
    values.scalars.insert("cluster", quoted(""));
    values.scalars.insert("trust_domain", quoted(""));
    values
}

#[test]
fn the_bases_and_components_of_kustomize_are_made_from_the_templates() {
    let gateway = |options: &str| render(GATEWAY, &bare(gateway_values(&parse_gateway(options))));
    let base = gateway("");
    agree("kustomize/gateway/gateway.yaml", "templates/gateway.yaml", &base);
    let monitoring = without(&gateway("--monitoring"), &base);
    agree("kustomize/components/monitoring/monitoring.yaml", "templates/gateway.yaml", &monitoring);
    let documents = without(&gateway("--identity cert-manager"), &base);
    let certificates = documents.split("\n---\n").filter(|document| document.contains("cert-manager.io/v1"));
    let certificates = certificates.collect::<Vec<_>>().join("\n---\n") + "\n";
    agree("kustomize/components/cert-manager/certificates.yaml", "templates/gateway.yaml", &certificates);

    let federation = |options: &str| render(FEDERATION, &federation_values(&parse_federation(options)));
    let base = federation("");
    agree("kustomize/federation/federation.yaml", "templates/federation.yaml", &base);
    let monitoring = without(&federation("--monitoring"), &base);
    agree("kustomize/components/federation-monitoring/monitoring.yaml", "templates/federation.yaml", &monitoring);
}

#[test]
fn the_charts_are_made_from_the_templates() {
    let gateway = Chart { trust_domain: "$.Values.cluster.trustDomain | quote" };
    let federation = Chart { trust_domain: "$.Values.trustDomain | quote" };
    for (name, template, chart) in [("gateway", GATEWAY, gateway), ("federation", FEDERATION, federation)] {
        let text = chart.text(&Template::read(template).unwrap()).unwrap();
        let path = format!("helm/landbridge-{name}/templates/{name}.yaml");
        agree(&path, &format!("templates/{name}.yaml"), &text);
    }
    agree("helm/landbridge-gateway/files/alerts.yaml", "alerts/landbridge.yaml", ALERTS);
    agree("helm/landbridge-gateway/files/dashboard.json", "dashboards/landbridge.json", DASHBOARD);
    // Helm applies these where there are none, and leaves them alone ever after.
    for (folder, name, text) in crd_files() {
        agree(&format!("helm/landbridge-gateway/crds/{name}"), &format!("{folder}/{name}"), &text);
    }
}

fn crd_files() -> Vec<(&'static str, String, String)> {
    let mut files = Vec::new();
    for folder in ["crds", "kustomize/crds"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name != "kustomization.yaml" {
                files.push((folder, name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert_eq!(files.len(), OWN_CRDS.len() + STANDARD_CRDS.len());
    files
}

fn skip(what: &str, why: &str) {
    // Past the capture of the test runner, so that it is seen also when everything passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}: {why}");
}

fn objects(text: &str) -> Vec<(String, Value)> {
    let mut all: Vec<_> = Manifest::read_all(text).unwrap().iter().map(|m| (m.to_string(), m.json())).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

/// That two texts are the same objects, whatever their order.
fn same(what: &str, left: &str, right: &str) {
    let (left, right) = (objects(left), objects(right));
    let names = |all: &[(String, Value)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&left), names(&right), "{what}");
    for ((name, left), (_, right)) in left.iter().zip(&right) {
        let differs = difference(name, left, right);
        assert!(differs.is_none(), "{what}: {}", differs.unwrap_or_default());
    }
}

/// The first place where two values differ.
fn difference(path: &str, left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| difference(&format!("{path}.{key}"), &left[key], &right[key]))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let (a, b) = (by_name(a), by_name(b));
            let mut pairs = a.iter().zip(&b).enumerate();
            pairs.find_map(|(index, (a, b))| difference(&format!("{path}[{index}]"), a, b))
        }
        // 1 and 1.0 are one number of YAML.
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => None,
        (a, b) => (a != b).then(|| format!("{path}: {a} and {b}")),
    }
}

/// What a program prints; nothing when it is not here.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Ways to install a gateway: the overlay of kustomize, the options of fedctl, the values of the chart.
const WAYS: [(&str, &str, &str); 6] = [
    ("loadbalancer", "", ""),
    (
        "nodeport",
        "--service-type NodePort --advertise 192.0.2.10:30443 --advertise 192.0.2.11:30443",
        "service.type=NodePort,advertise={192.0.2.10:30443,192.0.2.11:30443}",
    ),
    ("outbound-only", "--service-type none", "service.type=none"),
    ("cert-manager", "--identity cert-manager --replicas 2", "identity=cert-manager,replicas=2"),
    (
        "monitoring",
        "--monitoring --priority-class system-cluster-critical",
        "monitoring=true,priorityClassName=system-cluster-critical",
    ),
    ("namespaced", "--namespaces team-a,team-b", "namespaces={team-a,team-b},createNamespace=false"),
];

/// Lists whose elements have names are in any order: variables, volumes, mounts, ports.
fn by_name(list: &[Value]) -> Vec<&Value> {
    let mut list: Vec<_> = list.iter().collect();
    if list.iter().all(|element| element["name"].is_string()) {
        list.sort_by_key(|element| element["name"].to_string());
    }
    list
}

#[test]
fn every_overlay_of_kustomize_is_what_fedctl_installs() {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        return skip("overlays of kustomize", "kubectl is not installed");
    }
    let built = |overlay: &str| {
        let path = root().join("kustomize/overlays").join(overlay);
        output("kubectl", &["kustomize", path.to_str().unwrap()]).unwrap()
    };
    for (overlay, options, _) in WAYS {
        same(overlay, &built(overlay), &gateway(&parse_gateway(options)));
    }
    same("federation", &built("federation"), &federation(&parse_federation("--name federation.example")));
    let tenants = output("kubectl", &["kustomize", root().join("kustomize/tenants").to_str().unwrap()]).unwrap();
    same("tenants", &tenants, &crds());
}

#[test]
fn the_charts_are_what_fedctl_installs() {
    let helm = std::env::var(HELM).unwrap_or_else(|_| "helm".to_owned());
    if Command::new(&helm).arg("version").output().is_err() {
        return skip("what the charts render to", "helm is not installed; HELM=PROGRAM names one");
    }
    let template = |chart: &str, values: &str| {
        let path = root().join("helm").join(chart);
        // The one value that is not as fedctl has it: Helm makes namespaces itself, without labels.
        let values = format!("createNamespace=true,{values}");
        let arguments = ["template", "landbridge", path.to_str().unwrap(), "--namespace", "landbridge-system"];
        let more = ["--kube-version", "1.33.0", "--include-crds", "--set", values.trim_end_matches(',')];
        output(&helm, &[&arguments[..], &more].concat()).unwrap()
    };
    for (way, options, values) in WAYS {
        let values = format!("cluster.name=east,cluster.trustDomain=east.example,{values}");
        let mut rendered = template("landbridge-gateway", &values);
        if way == "namespaced" {
            // Helm applies definitions only to a cluster that has none, so there is no need to leave them out.
            rendered = without_definitions(&rendered);
        }
        same(way, &rendered, &gateway(&parse_gateway(options)));
    }
    for (options, values) in [
        ("", ""),
        ("--name a.example --name b.example:443 --monitoring", "names={a.example,b.example:443},monitoring=true"),
    ] {
        same("federation", &template("landbridge-federation", values), &federation(&parse_federation(options)));
    }
}

fn without_definitions(text: &str) -> String {
    let documents = text.split("\n---\n").filter(|document| !document.contains("kind: CustomResourceDefinition"));
    documents.collect::<Vec<_>>().join("\n---\n")
}

#[test]
fn every_text_that_is_filled_in_stays_one_text() {
    let install = parse_gateway("--image registry.example/a@sha256:0123 --priority-class x");
    let rendered = render(GATEWAY, &gateway_values(&install));
    let deployment = objects(&rendered).into_iter().find(|(name, _)| name.starts_with("Deployment")).unwrap().1;
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "registry.example/a@sha256:0123");
    assert_eq!(pod["priorityClassName"], "x");
    for text in ["a\"b", "a b", "", "a: b", "a\n"] {
        assert!(text.parse::<crate::args::install::ImageName>().is_err(), "{text}");
    }
}

#[test]
fn a_gateway_has_time_to_drain_before_it_is_killed() {
    let rendered = objects(&render(GATEWAY, &gateway_values(&parse_gateway(""))));
    let object = |kind: &str| rendered.iter().find(|(name, _)| name.starts_with(kind)).unwrap().1.clone();
    let pod = object("Deployment")["spec"]["template"]["spec"].clone();
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    let sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    let settings = object("ConfigMap")["data"]["gateway.toml"].as_str().unwrap().to_owned();
    let drain = settings.lines().find_map(|line| line.strip_prefix("drain_timeout = \"")?.strip_suffix("s\""));
    let drain: u64 = drain.unwrap().parse().unwrap();
    assert!(grace >= sleep + drain + 10, "{grace} s for {sleep} s and {drain} s");
}

/// Resource, verb, names.
type Rights = BTreeSet<(String, String, String)>;

fn rights_of(role: &Value) -> Rights {
    let mut rights = BTreeSet::new();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    for rule in role["rules"].as_array().unwrap() {
        let names = texts(&rule["resourceNames"]).join(",");
        for resource in texts(&rule["resources"]) {
            for verb in texts(&rule["verbs"]) {
                assert!(verb != "*" && resource != "*", "{rule}");
                rights.insert((resource.clone(), verb, names.clone()));
            }
        }
    }
    rights
}

fn rights(options: &str, name: &str) -> Rights {
    let rendered = objects(&render(GATEWAY, &gateway_values(&parse_gateway(options))));
    rights_of(&rendered.iter().find(|(object, _)| object == name).unwrap_or_else(|| panic!("{name}")).1)
}

#[test]
fn whoever_has_the_role_of_tenants_besides_admin_may_grant_a_gateway_its_rights() {
    /// What the role admin of Kubernetes holds in a namespace.
    const OF_ADMIN: [&str; 4] = ["services", "pods", "leases", "secrets"];
    let held = rights_of(&objects(TENANT)[0].1);
    let options = "--namespaces team-a --namespace team-b";
    for name in ["Role team-a/landbridge-gateway-member", "Role team-b/landbridge-gateway"] {
        for right in rights(options, name).iter().filter(|(resource, ..)| !OF_ADMIN.contains(&resource.as_str())) {
            assert!(held.contains(right), "{name}: {right:?}");
        }
    }
}

#[test]
fn rights_are_those_that_are_written_down_and_a_tenant_has_no_more() {
    let cluster = rights("", "ClusterRole landbridge-gateway");
    let tenant = rights("--namespaces team-a", "Role team-a/landbridge-gateway-member");
    assert!(tenant.is_subset(&cluster), "{:?}", tenant.difference(&cluster));
    let left: BTreeSet<_> = cluster.difference(&tenant).map(|(resource, ..)| resource.as_str()).collect();
    assert_eq!(left, BTreeSet::from(["clusterproperties", "namespaces"]));
    let own = rights("", "Role landbridge-system/landbridge-gateway");
    for (resource, verb, names) in own.iter().chain(&cluster).filter(|(resource, ..)| resource == "secrets") {
        assert!(verb == "create" || names == "landbridge-gateway-state", "{resource} {verb}");
    }
    let written = |rights: &BTreeSet<(String, String, String)>| {
        let lines = rights.iter().map(|(resource, verb, names)| format!("{resource} {verb} {names}"));
        lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(format!("cluster:\n{}\nown namespace:\n{}", written(&cluster), written(&own)));
}

#[test]
fn a_tenant_gets_nothing_of_the_whole_cluster() {
    let install = parse_gateway("--namespaces team-a,team-b --namespace team-a");
    for manifest in Manifest::read_all(&gateway(&install)).unwrap() {
        let namespace = manifest.namespace().unwrap_or_else(|| panic!("{manifest} is an object of the whole cluster"));
        assert!(["team-a", "team-b"].contains(&namespace), "{manifest}");
    }
}

/// The settings of a template: keys of its TOML and names of its variables.
fn settings_of(template: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut section = "";
    for line in template.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.insert(format!("{section}.{key}"));
        } else if let Some(name) = line.strip_prefix("- name: LANDBRIDGE_") {
            keys.insert(name.to_lowercase().replace("__", "."));
        }
    }
    keys
}

#[test]
fn the_settings_in_pods_are_settings_that_the_programs_have() {
    let page = federation_runtime::reference::page(env!("CARGO_MANIFEST_DIR"), "config.md");
    let page = fs::read_to_string(page).unwrap();
    for (name, template) in [("gateway.toml", GATEWAY), ("federation.toml", FEDERATION)] {
        let documented = federation_runtime::reference::documented(&page, name);
        let settings = settings_of(template);
        assert!(settings.len() >= 6, "{settings:?}");
        for key in &settings {
            assert!(documented.contains_key(key), "{key} is not in docs/config.md");
        }
    }
}

/// The metrics that an expression names.
fn metrics_in(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("landbridge_")).collect()
}

#[test]
fn every_metric_of_the_dashboard_is_one_that_the_programs_measure() {
    let page = federation_runtime::reference::page(env!("CARGO_MANIFEST_DIR"), "metrics.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<_> = rows.map(|(name, _)| name).collect();
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: two panels have one id");
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title} says nothing");
        for target in panel["targets"].as_array().unwrap() {
            let metrics = metrics_in(target["expr"].as_str().unwrap());
            assert!(!metrics.is_empty(), "{title} shows no metric");
            for metric in metrics {
                let known = documented.contains(metric.strip_suffix("_bucket").unwrap_or(metric));
                assert!(known, "{title} shows {metric}, which is not in docs/metrics.md");
                seen.insert(metric.to_owned());
            }
        }
    }
    assert!(seen.len() > 25, "{seen:?}");
    let variable = dashboard["templating"]["list"][1]["query"]["query"].as_str().unwrap();
    assert!(metrics_in(variable).iter().all(|metric| documented.contains(metric)), "{variable}");
}
