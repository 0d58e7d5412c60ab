use federation_model::policy::AuthorizationPolicy;
use proptest::prelude::*;

use super::*;

fn key() -> PolicyKey {
    PolicyKey { namespace: "shop".parse().unwrap(), name: "callers".to_owned() }
}

const MANIFEST: &str = "\
# who may call
apiVersion: v1
kind: Service
metadata: {name: callers, namespace: shop}
spec:
  ports: [{port: 80}]  # action: AUDIT
---
apiVersion: policy.landbridge.dev/v1alpha1
kind: AuthorizationPolicy
metadata:
  namespace: shop
  name: callers
  annotations:
    action: AUDIT
spec:
  # audits: DENY was tried first
  action: AUDIT   # since Monday
  audits: ALLOW   # promote on Friday
  from:
  - namespaces: [\"shop\"]   # only these
  to:
  - services:
    - api
---
apiVersion: policy.landbridge.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: other, name: callers}
spec:
  action: AUDIT
  audits: DENY
";

#[test]
fn the_action_changes_the_audits_go_and_every_other_byte_stays() {
    let expected = MANIFEST.replacen(
        "  action: AUDIT   # since Monday\n  audits: ALLOW   # promote on Friday\n",
        "  action: ALLOW   # since Monday\n",
        1,
    );
    assert_eq!(promote(MANIFEST, &key()).unwrap(), expected);
}

fn one(spec: &str) -> String {
    format!(
        "apiVersion: policy.landbridge.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{namespace: shop, name: callers}}\n{spec}"
    )
}

#[test]
fn order_quotes_indentation_and_line_ends_do_not_matter() {
    for (before, after) in [
        ("spec:\n    audits: 'DENY'\n    action: \"AUDIT\"\n", "spec:\n    action: \"DENY\"\n"),
        ("spec: # text\r\n action: AUDIT\r\n audits: DENY\r\n", "spec: # text\r\n action: DENY\r\n"),
        ("spec:\n  action:\tAUDIT\n  audits: DENY", "spec:\n  action:\tDENY\n"),
        ("spec:\n  audits: DENY\n  action: AUDIT # end", "spec:\n  action: DENY # end"),
        (
            "spec:\n  action: AUDIT\n\n  # why\n  audits: DENY\nstatus: {}\n",
            "spec:\n  action: DENY\n\n  # why\nstatus: {}\n",
        ),
    ] {
        assert_eq!(promote(&one(before), &key()), Ok(one(after)), "{before:?}");
        assert_eq!(promote(&format!("\u{feff}{}", one(before)), &key()), Ok(format!("\u{feff}{}", one(after))));
    }
}

#[test]
fn text_that_is_not_block_style_is_refused_and_left_to_a_person() {
    for spec in [
        "spec: {action: AUDIT, audits: DENY}\n",
        "spec:\n  {action: AUDIT, audits: DENY}\n",
        "spec:\n  action: AUDIT\n  \"audits\": DENY\n",
        "spec:\n  action:\n    AUDIT\n  audits: DENY\n",
        "spec:\n  action: &a AUDIT\n  audits: DENY\n",
        "spec: &s\n  action: AUDIT\n  audits: DENY\n",
    ] {
        let error = promote(&one(spec), &key()).unwrap_err();
        assert!(matches!(error, PromoteError::Style { line: 1, effect: Effect::Deny, .. }), "{spec}: {error:?}");
        assert!(error.to_string().ends_with("edit it by hand: action DENY, no audits"), "{error}");
    }
    let json = r#"{"apiVersion":"policy.landbridge.dev/v1alpha1","kind":"AuthorizationPolicy",
        "metadata":{"namespace":"shop","name":"callers"},"spec":{"action":"AUDIT","audits":"DENY"}}"#;
    assert!(matches!(promote(json, &key()), Err(PromoteError::Style { .. })));
}

#[test]
fn what_is_no_single_policy_that_audits_is_refused_with_the_reason() {
    let audit = one("spec:\n  action: AUDIT\n  audits: DENY\n");
    let twice = format!("{audit}---\n{audit}");
    let listed = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: policy.landbridge.dev/v1alpha1\n  kind: AuthorizationPolicy\n  \
                  metadata: {namespace: shop, name: callers}\n  spec:\n    action: AUDIT\n    audits: DENY\n";
    for (text, expected) in [
        (audit.replace("name: callers", "name: others"), "there is no AuthorizationPolicy shop/callers in this file"),
        (String::new(), "there is no AuthorizationPolicy"),
        (one("spec:\n  action: DENY\n"), "has the action DENY already"),
        (one("spec:\n  action: AUDIT\n"), "cannot be read: spec.audits"),
        (one("spec: [\n"), "cannot be read"),
        (twice, "line 8: AuthorizationPolicy shop/callers is defined a second time"),
        (listed.to_owned(), "line 4: AuthorizationPolicy shop/callers is an item of a list"),
    ] {
        let error = promote(&text, &key()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// The policy of a text.
fn policy(text: &str) -> Option<AuthorizationPolicy> {
    document::read(text).objects.into_iter().find_map(|(_, _, object)| match object {
        Object::AuthorizationPolicy(policy) if policy.key == key() => Some(policy),
        Object::AuthorizationPolicy(_)
        | Object::PeerAuthentication(_)
        | Object::Service(_)
        | Object::EndpointSlice(_)
        | Object::Pod(_)
        | Object::ServiceExport(_) => None,
    })
}

/// Lines of a spec in any order, with comments and blank lines between them.
fn specs() -> impl Strategy<Value = String> {
    let fields = Just(vec![
        "action: AUDIT",
        "audits: ALLOW",
        "from: [{namespaces: [shop]}]",
        "to:\n  - services: [api]\n    ports: [80]",
    ])
    .prop_shuffle();
    let between =
        prop::collection::vec(prop::sample::select(vec!["", "\n", "  # audits: DENY\n", "# action: AUDIT\n"]), 4);
    let behind = prop::collection::vec(prop::sample::select(vec!["", " ", "  # audits: no"]), 4);
    (fields, between, behind, any::<bool>()).prop_map(|(fields, between, behind, dos)| {
        let mut text = "spec:\n".to_owned();
        for ((field, between), behind) in fields.iter().zip(between).zip(behind) {
            text.push_str(&format!("{between}  {field}{behind}\n"));
        }
        if dos { text.replace('\n', "\r\n") } else { text }
    })
}

proptest! {
    #[test]
    fn a_promoted_policy_is_the_same_policy_in_force(spec in specs()) {
        let text = one(&spec);
        let promoted = promote(&text, &key()).unwrap();
        let expected = AuthorizationPolicy { action: Action::Enforce(Effect::Allow), ..policy(&text).unwrap() };
        prop_assert_eq!(policy(&promoted), Some(expected));
        // What is left is a part of the text but for the word.
        let kept: String = text.split_inclusive('\n').filter(|line| !line.starts_with("  audits:")).collect();
        prop_assert_eq!(promoted, kept.replacen("  action: AUDIT", "  action: ALLOW", 1));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*", tail in "[ -~\n]{0,200}") {
        let _ = promote(&text, &key());
        let _ = promote(&one(&tail), &key());
    }
}
