use federation_model::policy::{AuthorizationPolicy, PeerAuthentication};

use super::*;
use crate::document::{Object, read};

/// Reads one object of the kind with this spec, in YAML.
fn object(kind: &str, spec: &str) -> Result<Object, String> {
    let head =
        format!("apiVersion: policy.landbridge.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: p, namespace: shop}}\n");
    let mut reading = read(&format!("{head}{spec}\n"));
    match (reading.objects.pop(), reading.faults.pop()) {
        (Some((_, _, object)), None) => Ok(object),
        (None, Some(fault)) => {
            assert_eq!(fault.id.unwrap().to_string(), format!("{kind} shop/p"));
            Err(fault.reason)
        }
        other => panic!("{other:?}"),
    }
}

fn authorization(spec: &str) -> AuthorizationPolicy {
    match object("AuthorizationPolicy", spec) {
        Ok(Object::AuthorizationPolicy(policy)) => policy,
        other => panic!("{other:?}"),
    }
}

fn authentication(spec: &str) -> PeerAuthentication {
    match object("PeerAuthentication", spec) {
        Ok(Object::PeerAuthentication(policy)) => policy,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_field_of_a_policy_arrives_in_the_model() {
    let policy = authorization(
        "spec:\n  action: ALLOW\n  from:\n  - principals: ['spiffe://east.example/ns/shop/sa/*', '*']\n    namespaces: [shop, 'dev-*']\n\
         \x20   clusters: [east]\n    trustDomains: [east.example]\n    assurance: attested\n  - {assurance: mtls}\n\
         \x20 to:\n  - services: [api, 'web-*']\n    ports: [80, 443]\n    methods: [GET, 'P*']\n    paths: ['/v1/*', '*.json', '/']\n",
    );
    assert_eq!((policy.key.to_string(), policy.action), ("shop/p".to_owned(), Action::Enforce(Effect::Allow)));
    let [first, second] = &policy.from[..] else { panic!("{policy:?}") };
    let shown = |list: &[TextPattern]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        first.principals.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["spiffe://east.example/ns/shop/sa/*", "*"]
    );
    assert_eq!(shown(&first.namespaces), ["shop", "dev-*"]);
    assert_eq!(first.clusters, ["east".parse().unwrap()]);
    assert_eq!(first.trust_domains, ["east.example".parse().unwrap()]);
    assert_eq!((first.assurance, second.assurance), (Some(Assurance::Attested), Some(Assurance::Mtls)));
    let [target] = &policy.to[..] else { panic!("{policy:?}") };
    assert_eq!(target.services.iter().map(ToString::to_string).collect::<Vec<_>>(), ["api", "web-*"]);
    assert_eq!(target.ports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["80", "443"]);
    assert_eq!(
        (shown(&target.methods), shown(&target.paths)),
        (vec!["GET".into(), "P*".into()], vec!["/v1/*".into(), "*.json".into(), "/".into()])
    );
}

#[test]
fn actions_and_modes_are_read_and_what_is_left_out_is_empty() {
    for (spec, action) in [
        ("{action: ALLOW}", Action::Enforce(Effect::Allow)),
        ("{action: DENY}", Action::Enforce(Effect::Deny)),
        ("{action: AUDIT, audits: ALLOW}", Action::Audit(Effect::Allow)),
        ("{audits: DENY, action: AUDIT}", Action::Audit(Effect::Deny)),
    ] {
        let policy = authorization(&format!("spec: {spec}\nstatus: {{conditions: []}}"));
        assert_eq!((policy.action, policy.from.len(), policy.to.len()), (action, 0, 0));
    }
    let strict = authentication("spec: {mode: STRICT}");
    assert_eq!((strict.mode, strict.services.len()), (AuthenticationMode::Strict, 0));
    let permissive = authentication("spec: {mode: PERMISSIVE, services: [api, shop/db-*]}");
    assert_eq!(permissive.mode, AuthenticationMode::Permissive);
    assert_eq!(permissive.services[1].to_string(), "shop/db-*");
}

#[test]
fn what_is_wrong_in_an_authorization_policy_is_told_with_its_path() {
    let cases = [
        ("{}", "missing field `action`"),
        ("{action: PERMIT}", "spec.action: unknown variant `PERMIT`, expected one of ALLOW, DENY, AUDIT"),
        ("{action: allow}", "spec.action: unknown variant `allow`"),
        ("{action: AUDIT}", "spec.audits: action AUDIT needs it"),
        ("{action: AUDIT, audits: AUDIT}", "spec.audits: unknown variant `AUDIT`"),
        ("{action: DENY, audits: DENY}", "spec.audits: it goes with action AUDIT alone"),
        ("{action: DENY, rules: []}", "unknown field `rules`, expected one of action, audits, from, to"),
        ("{action: DENY, from: [{principal: [a]}]}", "unknown field `principal`, expected one of principals"),
        ("{action: DENY, to: [{service: [a]}]}", "unknown field `service`"),
        ("{action: DENY, from: [{}]}", "spec.from[0]: an empty rule matches every caller; leave from out"),
        ("{action: DENY, from: [{clusters: [a]}, {}]}", "spec.from[1]: an empty rule"),
        ("{action: DENY, to: [{}]}", "spec.to[0]: an empty rule matches every service"),
        ("{action: DENY, from: []}", "spec.from: the list is empty"),
        ("{action: DENY, from: null}", "spec.from: "),
        ("{action: DENY, to: [{ports: [1], services: []}]}", "spec.to[0].services: the list is empty"),
        ("{action: DENY, to: [{ports: [1], services: }]}", "spec.to[0].services: "),
        ("{action: DENY, from: [{clusters: [a], assurance: null}]}", "spec.from[0].assurance: "),
        ("{action: DENY, from: [{assurance: none}]}", "spec.from[0].assurance: unknown variant `none`"),
        (
            "{action: DENY, from: [{principals: ['*', 'a b']}]}",
            "spec.from[0].principals[1]: \"a b\" is not a principal",
        ),
        ("{action: DENY, from: [{principals: ['']}]}", "spec.from[0].principals[0]: it is empty"),
        ("{action: DENY, from: [{namespaces: [Shop]}]}", "spec.from[0].namespaces[0]: \"Shop\" is no part of a name"),
        ("{action: DENY, from: [{namespaces: ['a*b']}]}", "spec.from[0].namespaces[0]: \"a*b\" has a *"),
        ("{action: DENY, from: [{clusters: ['*']}]}", "spec.from[0].clusters[0]: cluster name \"*\""),
        ("{action: DENY, from: [{trustDomains: ['East Example']}]}", "spec.from[0].trustDomains[0]: "),
        ("{action: DENY, to: [{services: [api.shop]}]}", "spec.to[0].services[0]: \"api.shop\" is no part of a name"),
        ("{action: DENY, to: [{services: [shop/]}]}", "spec.to[0].services[0]: it is empty"),
        ("{action: DENY, to: [{services: [a/b/c]}]}", "spec.to[0].services[0]: \"b/c\" is no part"),
        ("{action: DENY, to: [{ports: [80, 0]}]}", "spec.to[0].ports[1]: 0 is not a port number"),
        ("{action: DENY, to: [{ports: [70000]}]}", "spec.to[0].ports[0]: 70000 is not a port"),
        ("{action: DENY, to: [{ports: [http]}]}", "spec.to[0].ports[0]: "),
        (
            "{action: DENY, to: [{methods: [get]}]}",
            "spec.to[0].methods[0]: \"get\" is not a method; write it in capitals",
        ),
        ("{action: DENY, to: [{paths: [v1]}]}", "spec.to[0].paths[0]: \"v1\" does not begin with /"),
        ("{action: DENY, to: [{paths: ['v1/*']}]}", "spec.to[0].paths[0]: \"v1/*\" does not begin with /"),
        ("{action: DENY, to: [{paths: ['/v1?a=b']}]}", "spec.to[0].paths[0]: \"/v1?a=b\" has a query"),
        ("{action: DENY, to: [{paths: ['/a b']}]}", "spec.to[0].paths[0]: \"/a b\" has a character"),
    ];
    for (spec, expected) in cases {
        let reason = object("AuthorizationPolicy", &format!("spec: {spec}")).unwrap_err();
        assert!(reason.contains(expected), "{spec}: {reason}");
    }
}

#[test]
fn what_is_wrong_in_a_peer_authentication_is_told_with_its_path() {
    for (spec, expected) in [
        ("{}", "missing field `mode`"),
        ("{mode: DISABLE}", "spec.mode: unknown variant `DISABLE`, expected one of STRICT, PERMISSIVE"),
        ("{mode: STRICT, selector: {}}", "unknown field `selector`, expected one of mode, services"),
        ("{mode: STRICT, services: []}", "spec.services: the list is empty"),
        ("{mode: STRICT, services: [Api]}", "spec.services[0]: \"Api\" is no part of a name"),
    ] {
        let reason = object("PeerAuthentication", &format!("spec: {spec}")).unwrap_err();
        assert!(reason.contains(expected), "{spec}: {reason}");
    }
}

#[test]
fn a_field_that_slipped_out_of_the_spec_is_refused_and_so_is_a_policy_without_one() {
    for (body, expected) in [
        ("spec: {action: ALLOW}\nfrom: [{clusters: [east]}]", "unknown field `from`"),
        ("action: DENY", "unknown field `action`"),
        ("", "missing field `spec`"),
        ("spec:", "spec: "),
    ] {
        let reason = object("AuthorizationPolicy", body).unwrap_err();
        assert!(reason.contains(expected), "{body:?}: {reason}");
    }
}

#[test]
fn lists_have_their_limits() {
    let rules = |count: usize| format!("spec: {{action: DENY, from: [{}]}}", "{assurance: mtls},".repeat(count));
    assert!(object("AuthorizationPolicy", &rules(MAX_RULES)).is_ok());
    let reason = object("AuthorizationPolicy", &rules(MAX_RULES + 1)).unwrap_err();
    assert!(reason.contains("spec.from: 65 entries are more than the 64 there may be"), "{reason}");
    let services = |count: usize| format!("spec: {{mode: STRICT, services: [{}]}}", "api,".repeat(count));
    assert!(object("PeerAuthentication", &services(MAX_ENTRIES)).is_ok());
    let reason = object("PeerAuthentication", &services(MAX_ENTRIES + 1)).unwrap_err();
    assert!(reason.contains("spec.services: 1001 entries"), "{reason}");
}

#[test]
fn an_item_of_a_list_is_as_strict_as_a_document() {
    let list = |spec: &str| {
        read(&format!(
            r#"{{"apiVersion":"v1","kind":"List","items":[{{"apiVersion":"policy.landbridge.dev/v1alpha1",
               "kind":"AuthorizationPolicy","metadata":{{"name":"p","namespace":"shop"}},"spec":{spec}}}]}}"#
        ))
    };
    assert_eq!(list(r#"{"action":"DENY"}"#).objects.len(), 1);
    for (spec, expected) in [
        (r#"{"action":"DENY","from":null}"#, "spec.from: invalid type: null"),
        (r#"{"action":"DENY","from":[{"principal":["*"]}]}"#, "unknown field `principal`"),
        (r#"{"action":"DENY","to":[{"ports":[80,"http"]}]}"#, "spec.to[0].ports[1]: invalid type: string"),
    ] {
        let reading = list(spec);
        assert!(reading.objects.is_empty() && reading.faults[0].reason.contains(expected), "{spec}: {reading:?}");
    }
}
