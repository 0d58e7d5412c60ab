//! `fedctl install` without a cluster: what it prints and what it refuses.

use federation_kube::install::Manifest;
use serde_json::Value;

use super::fedctl;

fn install(arguments: &[&str]) -> super::Ran {
    let gateway = ["install", "gateway", "--cluster", "east", "--trust-domain", "east.example"];
    fedctl(&[&gateway[..], arguments].concat(), None)
}

#[test]
fn what_is_printed_is_what_would_be_applied_and_nothing_else() {
    let ran = install(&["--print"]);
    ran.assert_code(0);
    assert_eq!(ran.stderr, "");
    let printed = Manifest::read_all(&ran.stdout).unwrap();
    insta::assert_snapshot!(printed.iter().map(|manifest| format!("{manifest}\n")).collect::<String>());
    let json = install(&["--print", "-o", "json"]);
    let list: Value = serde_json::from_str(&json.stdout).unwrap();
    let items: Vec<_> = printed.iter().map(Manifest::json).collect();
    assert_eq!((&list["kind"], &list["items"]), (&"List".into(), &items.into()));
}

#[test]
fn several_gateways_with_an_authority_of_their_own_each_are_refused() {
    let ran = install(&["--replicas", "2", "--print"]);
    ran.assert_code(2);
    assert!(ran.stderr.contains("try: --identity cert-manager, or --replicas 1"), "{}", ran.stderr);
    install(&["--replicas", "2", "--identity", "cert-manager", "--print"]).assert_code(0);
}

#[test]
fn a_context_that_is_not_there_is_told_with_where_to_look() {
    let ran = install(&["--context", "nobody-has-this-context"]);
    ran.assert_code(2);
    assert!(ran.stderr.contains("try: kubectl config get-contexts"), "{}", ran.stderr);
}

#[test]
fn the_federation_service_and_the_definitions_are_printed_alone() {
    let kinds = |arguments: &[&str]| {
        let ran = fedctl(arguments, None);
        ran.assert_code(0);
        let printed = Manifest::read_all(&ran.stdout).unwrap();
        printed.iter().map(|manifest| manifest.kind().to_owned()).collect::<Vec<_>>()
    };
    let federation = kinds(&["install", "federation", "--name", "federation.example", "--print"]);
    assert!(federation.contains(&"StatefulSet".to_owned()), "{federation:?}");
    let crds = kinds(&["install", "crds", "--print"]);
    assert_eq!(crds, [&["CustomResourceDefinition"; 5][..], &["ClusterRole"]].concat());
}
