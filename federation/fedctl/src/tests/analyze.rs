//! Analysis of manifests, which asks nobody.

use std::{fs, path::Path};

use super::*;

/// A service that is exported with the annotation `deliver`, and a policy for it with this `spec`.
fn shop(deliver: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: api, namespace: shop}}\nspec: {{ports: [{{port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: api-1, namespace: shop, labels: {{kubernetes.io/service-name: api}}}}\n\
         addressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{{addresses: [127.0.0.1]}}]\n---\n\
         apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\n\
         metadata: {{name: api, namespace: shop, annotations: {{landbridge.dev/{deliver}}}}}\n---\n\
         apiVersion: policy.landbridge.dev/v1alpha1\nkind: AuthorizationPolicy\n\
         metadata: {{name: callers, namespace: shop}}\nspec: {spec}\n"
    )
}

const POLICY: &str = "{action: ALLOW, from: [{namespaces: [shop]}], to: [{services: [api]}]}";

fn analyze(directories: &[&Path], options: &[&str]) -> Ran {
    let directories: Vec<_> = directories.iter().map(|directory| directory.to_str().unwrap()).collect();
    fedctl(&[&["analyze"], options, &directories].concat(), None)
}

/// A table without the width of its columns, which depends on the name of the temporary directory.
fn squeezed(table: &str) -> String {
    let cells =
        |line: &str| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect::<Vec<_>>().join("  ");
    table.lines().map(|line| cells(line) + "\n").collect()
}

#[test]
fn good_manifests_pass() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), shop("deliver: plain", POLICY)).unwrap();
    let ran = analyze(&[dir.path()], &["--strict"]);
    ran.assert_code(0);
    insta::assert_snapshot!("analyze_good", squeezed(&ran.stdout.replace(dir.path().to_str().unwrap(), "DIR")));
}

#[test]
fn documents_exports_and_policies_that_are_wrong_fail_with_their_places() {
    let (east, west) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(east.path().join("a.yaml"), shop("deliver: plane", &POLICY.replace("namespaces", "namespace"))).unwrap();
    let export = "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {name: db}\n---\nkind: [\n";
    fs::write(west.path().join("b.yaml"), export).unwrap();
    let directories = [east.path(), west.path()];
    let named =
        |text: &str| text.replace(east.path().to_str().unwrap(), "EAST").replace(west.path().to_str().unwrap(), "WEST");
    let ran = analyze(&directories, &[]);
    ran.assert_code(1);
    insta::assert_snapshot!("analyze_wrong", squeezed(&named(&ran.stdout)));
    let ran = analyze(&directories, &["-o", "json"]);
    ran.assert_code(1);
    insta::assert_snapshot!("analyze_wrong_json", named(&ran.stdout));
}

#[test]
fn warnings_fail_only_when_they_are_meant_to() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), shop("weight: many", POLICY)).unwrap();
    let ran = analyze(&[dir.path()], &[]);
    ran.assert_code(0);
    assert!(
        ran.stdout.contains("warning") && ran.stdout.contains("landbridge.dev/weight is \"many\""),
        "{}",
        ran.stdout
    );
    analyze(&[dir.path()], &["--strict"]).assert_code(1);
    let empty = tempfile::tempdir().unwrap();
    let ran = analyze(&[empty.path()], &["-o", "json"]);
    ran.assert_code(0);
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&answer["ok"], &answer["findings"][0]["level"]), (&true.into(), &"warning".into()));
}

#[test]
fn a_directory_that_is_not_there_cannot_be_analyzed() {
    let ran = analyze(&[Path::new("/nowhere/at/all")], &[]);
    ran.assert_code(2);
    assert!(ran.stderr.contains("the manifest directory /nowhere/at/all cannot be read"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    assert!(Cli::try_parse_from(["fedctl", "analyze"]).is_err());
}

/// A Pod of a service account of namespace shop.
fn pod(account: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {account}-0, namespace: shop}}\n\
         spec: {{serviceAccountName: {account}}}\nstatus: {{phase: Running, podIP: {address}}}\n"
    )
}

#[test]
fn callers_are_missed_in_the_trust_domains_that_are_named_under_their_aliases_too() {
    let (east, west) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(east.path().join("pods.yaml"), pod("web", "127.0.0.2")).unwrap();
    let policy = "{action: ALLOW, to: [{services: [api]}], from: [{principals: [\"spiffe://east.example/ns/shop/sa/wbe\", \
                  cluster.local/ns/shop/sa/web, cluster.local/ns/shop/sa/cron, north.example/ns/shop/sa/web]}]}";
    fs::write(west.path().join("a.yaml"), shop("deliver: plain", policy)).unwrap();
    let both = [east.path(), west.path()];
    analyze(&both, &["--strict"]).assert_code(0);
    let known = ["--trust-domain", "east.example", "--trust-domain", "west.example"];
    let ran = analyze(&both, &[&known[..], &["--alias", "cluster.local=east.example"]].concat());
    ran.assert_code(0);
    let missed = |name: &str| ran.stdout.contains(&format!("{name} matches no principal"));
    assert!(missed("east.example/ns/shop/sa/wbe") && missed("cluster.local/ns/shop/sa/cron"), "{}", ran.stdout);
    assert!(!missed("cluster.local/ns/shop/sa/web") && !missed("north.example/ns/shop/sa/web"), "{}", ran.stdout);
    let uneven = analyze(&both, &known[..2]);
    uneven.assert_code(2);
    assert!(uneven.stderr.contains("2 directories and 1 trust domain"), "{}", uneven.stderr);
    assert!(Cli::try_parse_from(["fedctl", "analyze", "--alias", "east.example", "."]).is_err());
}

#[test]
fn the_root_namespace_is_the_one_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let policy = shop("deliver: plain", "{action: DENY, from: [{clusters: [lab]}], to: [{services: [shop/api]}]}")
        .replace("name: callers, namespace: shop", "name: callers, namespace: mesh");
    fs::write(dir.path().join("a.yaml"), policy).unwrap();
    analyze(&[dir.path()], &["--strict"]).assert_code(1);
    analyze(&[dir.path()], &["--strict", "--root-namespace", "mesh"]).assert_code(0);
}
