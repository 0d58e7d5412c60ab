//! What is known of policies that cannot be read.

use super::*;

/// What a policy in `shop` refuses, as patterns; nothing when it refuses nothing.
fn refused(text: &str) -> Option<(PolicyKind, Option<String>, Vec<String>)> {
    let reading = read(text);
    assert!(reading.objects.is_empty(), "{reading:?}");
    match *only_fault(&reading).policy.clone()? {
        UnreadPolicy::Audit => None,
        UnreadPolicy::Refusing { kind, namespace, services } => {
            let services = services.iter().map(ToString::to_string).collect();
            Some((kind, namespace.map(|namespace| namespace.to_string()), services))
        }
    }
}

fn authorization(spec: &str) -> String {
    format!(
        "apiVersion: policy.landbridge.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
    )
}

fn all_of_shop() -> Option<(PolicyKind, Option<String>, Vec<String>)> {
    Some((PolicyKind::Authorization, Some("shop".to_owned()), vec![]))
}

fn everything() -> Option<(PolicyKind, Option<String>, Vec<String>)> {
    Some((PolicyKind::Authorization, None, vec![]))
}

#[test]
fn a_broken_policy_selects_what_it_says_and_everything_in_case_of_doubt() {
    let selected = |services: &[&str]| {
        Some((PolicyKind::Authorization, Some("shop".to_owned()), services.iter().map(ToString::to_string).collect()))
    };
    let cases = [
        (
            "{action: OOPS, to: [{services: [api, 'web-*']}, {services: [db], ports: [0]}]}",
            selected(&["api", "web-*", "db"]),
        ),
        ("{action: DENY, to: [{services: [api], oops: 1}]}", selected(&["api"])),
        // A rule that selects every service, one that cannot be read, one whose field is misspelt, and none at all.
        ("{action: OOPS, to: [{services: [api]}, {ports: [80]}]}", all_of_shop()),
        ("{action: OOPS, to: [{services: [api, Web]}]}", all_of_shop()),
        ("{action: OOPS, to: [{services: [api, 7]}]}", all_of_shop()),
        ("{action: DENY, to: [{service: [api]}]}", all_of_shop()),
        ("{action: DENY, to: api}", all_of_shop()),
        ("{action: DENY, to: []}", all_of_shop()),
        ("{action: OOPS}", all_of_shop()),
        ("oops", all_of_shop()),
        // Twice the same key: what the text means cannot be told.
        ("{action: DENY, action: AUDIT, to: [{services: [api]}]}", all_of_shop()),
    ];
    for (spec, expected) in cases {
        assert_eq!(refused(&authorization(spec)), expected, "{spec}");
    }
    let authentication = "apiVersion: policy.landbridge.dev/v1alpha1\nkind: PeerAuthentication\n\
                          metadata: {name: p, namespace: shop}\nspec: {mode: OOPS, services: [api]}\n";
    let expected = Some((PolicyKind::Authentication, Some("shop".to_owned()), vec!["api".to_owned()]));
    assert_eq!(refused(authentication), expected);
}

#[test]
fn a_broken_audit_refuses_nothing_when_it_is_certain_that_it_audits() {
    let reading = read(&authorization("{action: AUDIT, to: [{services: [api]}]}"));
    assert_eq!(only_fault(&reading).policy.as_deref(), Some(&UnreadPolicy::Audit));
    assert_eq!(refused(&authorization("{action: audit, audits: DENY}")), all_of_shop());
    let authentication = authorization("{action: AUDIT}").replace("AuthorizationPolicy", "PeerAuthentication");
    assert!(refused(&authentication).is_some(), "no audit among PeerAuthentications");
}

#[test]
fn a_policy_of_another_version_or_kind_is_broken_under_its_name() {
    let of_version = authorization("{action: DENY, to: [{services: [api]}]}").replace("v1alpha1", "v1");
    let reading = read(&of_version);
    let fault = only_fault(&reading);
    assert!(fault.reason.contains("write policy.landbridge.dev/v1alpha1"), "{fault:?}");
    assert!(refused(&of_version).unwrap().2 == ["api"]);
    for (wrong, right) in [
        ("AuthorisationPolicy", "AuthorizationPolicy"),
        ("PeerAuthentification", "PeerAuthentication"),
        ("Policy", "AuthorizationPolicy"),
    ] {
        let reading = read(&authorization("{action: DENY}").replace("AuthorizationPolicy", wrong));
        let fault = only_fault(&reading);
        assert_eq!(fault.id.as_ref().unwrap().to_string(), format!("{right} shop/p"), "{wrong}");
        assert!(fault.reason.contains(&format!("no kind {wrong}; write AuthorizationPolicy or PeerAuthentication")));
        assert!(matches!(fault.policy.as_deref(), Some(UnreadPolicy::Refusing { .. })), "{fault:?}");
    }
    let of_group = authorization("{action: DENY}").replace("policy.landbridge.dev", "landbridge.dev");
    assert_eq!(refused(&of_group), all_of_shop());
}

#[test]
fn a_policy_without_a_name_or_in_no_namespace_is_still_broken() {
    let nameless = authorization("{action: DENY}").replace("name: p, ", "");
    assert_eq!(refused(&nameless), all_of_shop());
    assert_eq!(only_fault(&read(&nameless)).id, None);
    let nowhere = authorization("{action: DENY}").replace("metadata: {name: p, namespace: shop}\n", "");
    assert_eq!(refused(&nowhere), everything());
    let by_default = authorization("{}").replace(", namespace: shop", "");
    assert_eq!(refused(&by_default).unwrap().1.as_deref(), Some("default"));
    let no_namespace = authorization("{action: DENY}").replace("shop", "Shop");
    assert_eq!(refused(&no_namespace), everything());
}

#[test]
fn a_text_that_is_no_yaml_is_known_by_what_is_left_of_its_head() {
    let broken_spec = authorization("\n  action: DENY\n  to: [{services: [api}]");
    let reading = read(&broken_spec);
    assert_eq!(only_fault(&reading).id.as_ref().unwrap().to_string(), "AuthorizationPolicy shop/p");
    assert_eq!(refused(&broken_spec), all_of_shop());
    for unreadable in [
        authorization("{}").replace("metadata: {", "metadata: [{"),
        authorization("{}").replace("kind: AuthorizationPolicy", "kind: \"AuthorizationPolicy"),
        authorization("{}").replace("apiVersion:", "apiVersion:\t- "),
        authorization("{}").replace("apiVersion:", "apiversion:").replace("metadata:", "meta:"),
        format!("{{ {}", authorization("{}").replace('\n', ", ")),
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: policy.landbridge.dev/v1alpha1\n- [\n".to_owned(),
        "apiVersion: v1\nkind: List\nitems:\n- kind: List\n  apiVersion: v1\n  items: [{apiVersion: policy.landbridge.dev/v1alpha1}]\n"
            .to_owned(),
    ] {
        assert_eq!(refused(&unreadable), everything(), "{unreadable}");
    }
}

#[test]
fn a_fault_of_another_object_that_speaks_of_policies_refuses_nothing() {
    for text in [
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: policy.landbridge.dev\n b: [\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: policy.landbridge.dev}\n",
        "# policy.landbridge.dev\nreplicas: 3\n",
        "kind: [\n",
    ] {
        let reading = read(text);
        assert_eq!(only_fault(&reading).policy, None, "{text}");
    }
}

#[test]
fn a_policy_that_is_cut_short_anywhere_is_read_or_refuses_but_never_vanishes() {
    let block = "apiVersion: policy.landbridge.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata:\n  namespace: shop\n  name: p\n\
                 spec:\n  action: DENY\n  from:\n  - principals: [\"spiffe://east.example/*\"]\n  to:\n  - services: [api]\n";
    let flow = authorization("{action: DENY, from: [{principals: [\"*\"]}], to: [{services: [api]}]}");
    let json = r#"{"apiVersion": "policy.landbridge.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "p"}, "spec": {"action": "DENY", "to": [{"services": ["api"]}]}}"#;
    for text in [block, &flow, json] {
        let from = text.find("policy.landbridge.dev").unwrap() + "policy.landbridge.dev/".len();
        for end in from..text.len() {
            let reading = read(&text[..end]);
            let refusing = reading.faults.iter().filter(|fault| fault.policy.is_some()).count();
            assert_eq!(reading.objects.len() + refusing, 1, "{:?}: {reading:?}", &text[..end]);
        }
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*", spec in "[ -~\n]{0,120}") {
        let _ = read(&text);
        let reading = read(&authorization(&spec));
        // A document marker in the text begins another document.
        proptest::prop_assert!(!reading.objects.is_empty() || reading.faults.iter().any(|fault| fault.policy.is_some()));
    }
}
