//! Manifests that hold policies, from their text to verdicts.

use std::{collections::BTreeSet, sync::Arc};

use federation_kube::{
    manifests::{Manifests, read_text},
    promote::promote,
};
use federation_model::{
    addr::Port,
    caller::Caller,
    names::{Namespace, ServiceKey},
    policy::{Action, Policies, PolicyKey, PolicyKind, ROOT_NAMESPACE},
};
use gateway_core::policy::{Aspect, Call, HttpRequest, PolicyTable, TrustDomainAliases};
use serde_json::Value;

/// A policy that nobody else writes, as the last document of a file.
const ANOTHER: &str = "---
apiVersion: policy.landbridge.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: another, namespace: nobody-else}
spec:
  action: DENY
";
const GROUP: &str = "policy.landbridge.dev/";

/// What follows is a manifest file.
pub fn policy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let read = read(&text);
    assert_eq!(read, self::read(&text), "the same text says the same");
    assert!(read.quarantined.iter().all(|entry| !entry.reason.contains('\n')), "{:?}", read.quarantined);
    assert_takes_nothing_else_along(&text);
    assert_no_policy_is_lost(&text, &read);
    assert_judges(&read.objects.policies);
    for (key, policy) in &read.objects.policies.authorization {
        assert_is_promoted(&text, key, policy.action);
    }
}

fn root() -> Namespace {
    ROOT_NAMESPACE.parse().unwrap()
}

fn read(text: &str) -> Manifests {
    read_text("fuzz.yaml", text, root())
}

/// A document is read whatever precedes it, and changes nothing of that.
fn assert_takes_nothing_else_along(text: &str) {
    let (alone, both) = (read(&format!("{text}\n")), read(&format!("{text}\n{ANOTHER}")));
    let another = read(ANOTHER).objects.policies.authorization.clone();
    let mut expected = Policies::clone(&alone.objects.policies);
    expected.authorization.extend(another);
    assert_eq!(*both.objects.policies, expected);
    assert_eq!(both.objects.services, alone.objects.services);
    assert_eq!(both.quarantined, alone.quarantined);
}

/// A document that is a policy to any reader of YAML is in force, or refuses, or only audits.
fn assert_no_policy_is_lost(text: &str, read: &Manifests) {
    if text.lines().any(|line| line.starts_with("---") || line.starts_with("...")) {
        return;
    }
    let Ok(value) = serde_saphyr::from_str::<Value>(text) else { return };
    let is_ours = value["apiVersion"].as_str().is_some_and(|version| version.starts_with(GROUP));
    if !is_ours || value["kind"].as_str().is_none_or(|kind| kind.ends_with("List")) {
        return;
    }
    let Policies { authorization, authentication, broken } = &*read.objects.policies;
    for pattern in broken.values().flat_map(|policy| &policy.services) {
        assert!(says(&value["spec"], &pattern.to_string()), "{pattern} is not in {value}");
    }
    let counts = authorization.len() + authentication.len() + broken.len() == 1;
    let audits = read.quarantined.iter().any(|entry| entry.reason.contains("it only audits"));
    assert!(counts || audits, "{read:?}");
}

/// Whether a value is or holds this text.
fn says(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found == text,
        Value::Array(values) => values.iter().any(|value| says(value, text)),
        Value::Object(fields) => fields.values().any(|value| says(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn assert_judges(policies: &Policies) {
    let table = PolicyTable::compile(policies, &root(), &TrustDomainAliases::default());
    let mut without_audit = policies.clone();
    without_audit.authorization.retain(|_, policy| matches!(policy.action, Action::Enforce(_)));
    let without_audit = PolicyTable::compile(&without_audit, &root(), &TrustDomainAliases::default());
    for service in services(policies) {
        for caller in callers() {
            let source_cluster = &"east".parse().unwrap();
            let call = Call { caller: &caller, source_cluster, service: &service, port: Port::new(80).unwrap() };
            for aspect in aspects() {
                let judgement = table.judge(&call, aspect);
                let explanation = table.explain(&call, aspect);
                assert_eq!(explanation.allowed, judgement.is_allowed(), "{explanation:?}");
                let verdict = without_audit.judge(&call, aspect).verdict;
                assert_eq!(judgement.verdict, verdict, "an AUDIT decides nothing");
                let is_broken = policies.broken.iter().any(|((_, key), broken)| {
                    let own = (key.namespace != root()).then_some(&key.namespace);
                    let within = own.is_none_or(|own| *own == service.namespace);
                    within && (broken.services.is_empty() || broken.services.iter().any(|p| p.matches(own, &service)))
                });
                assert!(!(is_broken && judgement.is_allowed()), "{service} has a policy that cannot be read");
            }
        }
    }
}

/// A service of each namespace that is spoken of, and one of another.
fn services(policies: &Policies) -> BTreeSet<ServiceKey> {
    let keys = policies.authorization.keys().chain(policies.authentication.keys());
    let keys = keys.chain(policies.broken.keys().map(|(_, key)| key));
    let namespaces = keys.map(|key| key.namespace.clone()).take(8).chain(["shop".parse().unwrap()]);
    namespaces.map(|namespace| ServiceKey::new(namespace, "api".parse().unwrap())).collect()
}

fn callers() -> [Caller; 3] {
    let id = || "spiffe://east.example/ns/shop/sa/frontend".parse().unwrap();
    [Caller::Unknown, Caller::Vouched { id: id() }, Caller::Workload { id: id(), certificate: None }]
}

fn aspects() -> [Aspect<'static>; 4] {
    let request = |path| Aspect::HttpRequest(HttpRequest { method: "GET", path });
    [Aspect::Bytes, Aspect::HttpConnection, request("/v1/items"), request("/v1//../items")]
}

/// A policy in AUDIT is put in force by its text, or that is refused; nothing else changes.
fn assert_is_promoted(text: &str, key: &PolicyKey, action: Action) {
    let Ok(promoted) = promote(text, key) else { return };
    let (mut expected, after) = (read(text).objects, read(&promoted).objects);
    assert!(matches!(action, Action::Audit(_)), "{key} is in force already");
    if let Some(policy) = Arc::make_mut(&mut expected.policies).authorization.get_mut(key) {
        policy.action = Action::Enforce(action.effect());
    }
    assert_eq!(after.policies.authorization, expected.policies.authorization);
    let broken = |kind| after.policies.broken.contains_key(&(kind, key.clone()));
    assert!(!broken(PolicyKind::Authorization) && after.services == expected.services);
}
