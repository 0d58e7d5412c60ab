use federation_model::finding::Level;
use serde_json::json;

use super::*;

/// 2026-01-02T03:04:05Z.
const NOW: u64 = 1_767_323_045;

fn version(git: &str, major: &str, minor: &str) -> Finding {
    let info =
        Info { git_version: git.to_owned(), major: major.to_owned(), minor: minor.to_owned(), ..Info::default() };
    of_version(&info, "https://test")
}

fn clock(server: u64) -> Finding {
    of_clock(&Clock { server: Timestamp(server), before: Timestamp(NOW - 1), after: Timestamp(NOW) })
}

fn definition(ours: bool, served: &[&str]) -> Definition {
    Definition {
        ours,
        by: (!ours).then(|| "helm".to_owned()),
        served: served.iter().map(|version| (*version).to_owned()).collect(),
    }
}

fn wanted() -> Wanted {
    Wanted {
        name: "serviceexports.multicluster.x-k8s.io".to_owned(),
        version: "v1beta1".to_owned(),
        older: vec!["v1alpha1".to_owned()],
    }
}

fn right(verb: &str, resource: &str, namespace: Option<&str>) -> Right {
    Right {
        namespace: namespace.map(str::to_owned),
        group: String::new(),
        resource: resource.to_owned(),
        subresource: String::new(),
        name: String::new(),
        verb: verb.to_owned(),
    }
}

#[test]
fn kubernetes_before_1_30_fails_as_clouds_write_it_too() {
    for (git, minor) in [("v1.30.0", "30"), ("v1.31.4-gke.1", "31+"), ("v1.33.1", "33")] {
        assert_eq!(version(git, "1", minor).level, Level::Ok, "{git}");
    }
    assert_eq!(version("v2.0.0", "2", "0").level, Level::Ok);
    for (git, minor) in [("v1.29.9", "29"), ("v1.29.9-eks-1", "29+"), ("v1.9.0", "9")] {
        let finding = version(git, "1", minor);
        assert!(finding.level == Level::Failed && finding.detail.contains(git), "{finding:?}");
    }
    assert_eq!(version("weird", "", "x").level, Level::Warning);
}

#[test]
fn clocks_that_are_more_than_half_a_minute_apart_are_told_with_both_times() {
    for server in [NOW - 31, NOW - 1, NOW, NOW + 30] {
        assert_eq!(clock(server).level, Level::Ok, "{server}");
    }
    for (server, time) in [(NOW - 32, "03:03:33Z"), (NOW + 31, "03:04:36Z")] {
        let finding = clock(server);
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.detail.contains(time) && finding.detail.contains("2026-01-02T03:04:05Z"), "{finding:?}");
        assert!(finding.detail.contains("31 s apart"), "{finding:?}");
    }
}

#[test]
fn all_missing_rights_are_one_finding_sorted_by_place() {
    assert_eq!(of_rights(&Missing::default()).level, Level::Ok);
    let needed = vec![
        right("create", "services", Some("landbridge-system")),
        right("patch", "services", Some("landbridge-system")),
        right("create", "namespaces", None),
    ];
    let grants = vec![right("list", "pods", None)];
    let finding = of_rights(&Missing { needed, grants });
    assert_eq!(finding.level, Level::Failed);
    assert_eq!(
        finding.detail,
        "not allowed in the whole cluster create namespaces; in landbridge-system create, patch services; not held, so not to be \
         granted to the gateway, in the whole cluster list pods"
    );
    assert!(finding.hint.contains("--namespaces"), "{finding:?}");
}

#[test]
fn a_definition_is_judged_by_the_versions_it_serves_and_by_whose_it_is() {
    let judged = |there: Definition| of_definition("definition x", &wanted(), &there);
    assert_eq!(judged(definition(true, &["v1alpha1", "v1beta1"])).level, Level::Ok);
    let theirs = judged(definition(false, &["v1beta1"]));
    assert!(theirs.level == Level::Ok && theirs.detail.contains("written by helm"), "{theirs:?}");
    let old = judged(definition(false, &["v1alpha1"]));
    assert!(old.level == Level::Warning && old.detail.contains("the gateway uses v1alpha1"), "{old:?}");
    assert!(old.hint.contains("that serves v1beta1"), "{old:?}");
    let ours = judged(definition(true, &["v1alpha1"]));
    assert_eq!((ours.level, ours.hint.as_str()), (Level::Warning, "fedctl install crds"));
    let other = judged(definition(false, &["v9"]));
    assert!(other.level == Level::Failed && other.detail.contains("needs v1beta1"), "{other:?}");
}

#[test]
fn the_version_of_a_definition_that_is_used_is_the_one_ours_stores() {
    let definition = |versions: Value| {
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a"},
            "spec": {"versions": versions},
        });
        Wanted::of(&Manifest::read_all(&definition.to_string()).unwrap().remove(0))
    };
    let wanted = definition(json!([
        {"name": "v1alpha1", "served": true, "storage": false},
        {"name": "v1beta1", "served": true, "storage": true},
        {"name": "v0", "served": false, "storage": false},
    ]));
    assert_eq!((wanted.version.as_str(), wanted.older), ("v1beta1", vec!["v1alpha1".to_owned()]));
}

#[test]
fn what_cannot_be_found_out_is_a_warning_and_hides_nothing_else() {
    let refused = || CallError::Forbidden { reason: "no".to_owned() };
    let facts = Facts {
        address: "https://test",
        server: Err(refused()),
        missing: Err(refused()),
        definitions: vec![(wanted(), Err(refused())), (wanted(), Ok(None)), (wanted(), Err(refused()))],
    };
    let found = judge(&facts);
    let found: Vec<_> = found.iter().map(|finding| (finding.check.as_str(), finding.level)).collect();
    let expected = [
        ("Kubernetes version", Level::Warning),
        ("rights", Level::Warning),
        ("definition serviceexports.multicluster.x-k8s.io", Level::Ok),
        ("definitions", Level::Warning),
    ];
    assert_eq!(found, expected);
}
