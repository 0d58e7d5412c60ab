//! Policies from first reading to last good version.

use federation_model::policy::{BrokenPolicy, PolicyKind};

use super::*;

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: policy.landbridge.dev/v1alpha1\nkind: AuthorizationPolicy\n\
         metadata: {{namespace: {namespace}, name: {name}}}\nspec: {spec}\n---\n"
    )
}

const GOOD: &str = "{action: DENY, to: [{services: [api]}]}";
const BAD: &str = "{action: OOPS, to: [{services: [api]}]}";

/// The policies in force as `namespace/name`.
fn in_force(manifests: &Manifests) -> Vec<String> {
    manifests.objects.policies.authorization.keys().map(ToString::to_string).collect()
}

/// The broken policies with what they select.
fn broken(manifests: &Manifests) -> Vec<(String, Vec<String>)> {
    let shown = |broken: &BrokenPolicy| broken.services.iter().map(ToString::to_string).collect();
    manifests.objects.policies.broken.iter().map(|((_, key), broken)| (key.to_string(), shown(broken))).collect()
}

#[test]
fn policies_are_read_like_other_objects() {
    let dir = tempfile::tempdir().unwrap();
    let authentication = "apiVersion: policy.landbridge.dev/v1alpha1\nkind: PeerAuthenticationList\nitems:\n\
                          - {metadata: {name: strict}, spec: {mode: STRICT}}\n";
    write(&dir, "a.yaml", &(policy("shop", "one", GOOD) + authentication));
    let manifests = read_once(dir.path(), root()).unwrap();
    assert_eq!((in_force(&manifests), faults(&manifests)), (vec!["shop/one".to_owned()], vec![]));
    assert_eq!(manifests.objects.policies.authentication.len(), 1);
}

#[test]
fn a_bad_version_leaves_the_one_before_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let mut assembler = assembler(dir.path());
    write(&dir, "a.yaml", &policy("shop", "one", GOOD));
    let good = assembler.read();
    for bad in
        [policy("shop", "one", BAD), policy("shop", "one", "[\n"), policy("shop", "one", GOOD).replace("kind", "knid")]
    {
        write(&dir, "a.yaml", &bad);
        let manifests = assembler.read();
        assert_eq!(manifests.objects.policies, good.objects.policies, "{bad}");
        assert!(faults(&manifests)[0].contains("last good version"), "{manifests:?}");
    }
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    assert_eq!(assembler.read(), Manifests::default());
}

#[test]
fn a_policy_that_was_never_good_refuses_what_it_selects_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let mut assembler = assembler(dir.path());
    write(&dir, "a.yaml", &(service("api", 80) + &policy("shop", "one", BAD) + &policy("shop", "two", GOOD)));
    for _ in 0..2 {
        let manifests = assembler.read();
        assert_eq!(in_force(&manifests), ["shop/two"]);
        assert_eq!(broken(&manifests), [("shop/one".to_owned(), vec!["api".to_owned()])]);
        let fault = &faults(&manifests)[0];
        assert!(fault.contains("a.yaml:9: AuthorizationPolicy shop/one: spec.action: unknown variant"), "{fault}");
        assert!(fault.ends_with("; calls to api of namespace shop are refused until it is mended"), "{fault}");
        let reason = &manifests.objects.policies.broken.values().next().unwrap().reason;
        assert!(reason.starts_with("a.yaml:9: spec.action: "), "{reason}");
        assert_eq!(services(&manifests), ["api:80"], "everything else counts");
    }
    write(&dir, "a.yaml", &policy("shop", "one", GOOD));
    let manifests = assembler.read();
    assert_eq!((in_force(&manifests).len(), broken(&manifests), faults(&manifests)), (1, vec![], vec![]));
}

#[test]
fn a_broken_policy_of_the_root_namespace_refuses_in_every_namespace() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "a.yaml", &policy(ROOT_NAMESPACE, "one", "{action: OOPS}"));
    let manifests = read_once(dir.path(), root()).unwrap();
    assert!(
        faults(&manifests)[0].ends_with("; calls to every service are refused until it is mended"),
        "{manifests:?}"
    );
}

#[test]
fn a_broken_audit_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "a.yaml", &policy("shop", "one", "{action: AUDIT, audits: OOPS}"));
    let manifests = read_once(dir.path(), root()).unwrap();
    assert_eq!((in_force(&manifests), broken(&manifests)), (vec![], vec![]));
    assert!(faults(&manifests)[0].ends_with("; it only audits, so nothing is refused for it"), "{manifests:?}");
}

#[test]
fn a_document_that_may_be_any_policy_refuses_everything_and_says_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    write(&dir, "sub/a.yaml", &(service("api", 80) + "{apiVersion: policy.landbridge.dev/v1alpha1, kind: [\n"));
    let manifests = read_once(dir.path(), root()).unwrap();
    assert_eq!(broken(&manifests), [("landbridge-system/(sub/a.yaml:6)".to_owned(), vec![])]);
    assert!(faults(&manifests)[0].contains("calls to every service are refused until it is mended"), "{manifests:?}");
}

#[test]
fn a_file_that_is_no_text_and_speaks_of_policies_refuses_everything() {
    let dir = tempfile::tempdir().unwrap();
    let text = policy("shop", "one", GOOD).replace("---\n", "# caf\u{e9}\n");
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    fs::write(dir.path().join("a.yaml"), latin).unwrap();
    fs::write(dir.path().join("b.yaml"), [0xff, 0xfe]).unwrap();
    let manifests = read_once(dir.path(), root()).unwrap();
    assert_eq!(broken(&manifests), [("landbridge-system/(a.yaml)".to_owned(), vec![])]);
    assert_eq!(faults(&manifests).len(), 2);
}

#[test]
fn a_manifest_that_is_not_read_wholly_may_be_a_policy_unless_it_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "a.yaml", &service("api", 80));
    let mut assembler = assembler(dir.path());
    assert_eq!(broken(&assembler.read()), []);
    let long = format!("{}{}\n", service("api", 80), "#".repeat(5 << 20));
    write(&dir, "a.yaml", &long);
    let manifests = assembler.read();
    assert_eq!((services(&manifests).len(), broken(&manifests)), (1, vec![]));
    // The policy at its end was not seen.
    write(&dir, "b.yaml", &(long + &policy("shop", "one", GOOD)));
    assert_eq!(broken(&assembler.read()), [("landbridge-system/(b.yaml)".to_owned(), vec![])]);
    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    std::os::unix::fs::symlink("c.yaml", dir.path().join("c.yaml")).unwrap();
    let manifests = assembler.read();
    assert_eq!(broken(&manifests), [("landbridge-system/(c.yaml)".to_owned(), vec![])]);
    // What is not there is nothing.
    fs::remove_file(dir.path().join("c.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("d.yaml")).unwrap();
    assert_eq!(broken(&assembler.read()), []);
}

#[test]
fn a_document_that_may_be_a_remembered_policy_of_its_file_leaves_that_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let mut assembler = assembler(dir.path());
    write(&dir, "a.yaml", &(policy("shop", "one", GOOD) + &policy("shop", "two", GOOD)));
    assembler.read();
    let unknown = policy("shop", "two", GOOD).replace("metadata: {", "metadata: {[");
    write(&dir, "a.yaml", &(policy("shop", "one", GOOD) + &unknown));
    for _ in 0..2 {
        let manifests = assembler.read();
        assert_eq!((in_force(&manifests), broken(&manifests)), (vec!["shop/one".into(), "shop/two".into()], vec![]));
        assert!(faults(&manifests)[0].contains("1 object(s) of the last good version"), "{manifests:?}");
    }
    // A new file has no memory.
    write(&dir, "b.yaml", &unknown);
    assert_eq!(broken(&assembler.read()).len(), 1);
}

#[test]
fn a_good_definition_elsewhere_counts_before_a_broken_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut assembler = assembler(dir.path());
    write(&dir, "a.yaml", &policy("shop", "one", BAD));
    write(&dir, "b.yaml", &policy("shop", "one", GOOD));
    let manifests = assembler.read();
    assert_eq!((in_force(&manifests), broken(&manifests)), (vec!["shop/one".to_owned()], vec![]));
    assert!(faults(&manifests)[0].ends_with("; its other definition is in force"), "{manifests:?}");
    // The last good version of b is brought back after the fault of a was met.
    write(&dir, "b.yaml", &policy("shop", "one", BAD));
    let manifests = assembler.read();
    assert_eq!((in_force(&manifests), broken(&manifests)), (vec!["shop/one".to_owned()], vec![]));
}

#[test]
fn two_broken_definitions_select_what_either_selects() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "a.yaml", &(policy("shop", "one", BAD) + &policy("shop", "one", &BAD.replace("api", "web"))));
    let read = || broken(&read_once(dir.path(), root()).unwrap());
    assert_eq!(read(), [("shop/one".to_owned(), vec!["api".to_owned(), "web".to_owned()])]);
    write(&dir, "b.yaml", &policy("shop", "one", "{action: OOPS}"));
    assert_eq!(read(), [("shop/one".to_owned(), vec![])]);
}

#[test]
fn kinds_of_broken_policies_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let authentication = policy("shop", "one", "{mode: OOPS}").replace("AuthorizationPolicy", "PeerAuthentication");
    write(&dir, "a.yaml", &(policy("shop", "one", BAD) + &authentication));
    let manifests = read_once(dir.path(), root()).unwrap();
    let kinds: Vec<_> = manifests.objects.policies.broken.keys().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [PolicyKind::Authorization, PolicyKind::Authentication]);
}
