use std::{fs, path::PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use super::*;

/// The variable that makes the test rewrite the files.
const UPDATE: &str = "UPDATE_CRDS";

/// Compares a file of `deploy/crds` with the types, or rewrites it.
fn agree(name: &str, crd: &CustomResourceDefinition) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds").join(name);
    let header = format!(
        "# Made from federation/kube/src/crd/policy.rs; change that and run: {UPDATE}=1 cargo test -p federation-kube --lib crd\n"
    );
    let text = header + &serde_saphyr::to_string(crd).unwrap();
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "{} is not what the types say; run the test with {UPDATE}=1", path.display());
    let again: CustomResourceDefinition = serde_saphyr::from_str(&written).unwrap();
    assert_eq!(&again, crd, "{} reads as something else", path.display());
}

#[test]
fn the_files_for_the_api_server_are_those_of_the_types() {
    agree("authorizationpolicies.policy.landbridge.dev.yaml", &AuthorizationPolicy::crd());
    agree("peerauthentications.policy.landbridge.dev.yaml", &PeerAuthentication::crd());
}

/// Every schema within a schema, with its path.
fn walk<'a>(path: String, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    found.push((path.clone(), schema));
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(format!("{path}.{name}"), property, found);
    }
    if let Some(items) = schema.get("items") {
        walk(format!("{path}[]"), items, found);
    }
}

#[test]
fn the_schemas_are_structural_and_every_list_of_a_spec_has_its_limits() {
    for crd in [AuthorizationPolicy::crd(), PeerAuthentication::crd()] {
        assert_eq!((crd.spec.group.as_str(), crd.spec.scope.as_str()), (GROUP, "Namespaced"));
        assert_eq!(format!("{}/{}", crd.spec.group, crd.spec.versions[0].name), API_VERSION);
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let mut found = Vec::new();
        walk("spec".to_owned(), &schema["openAPIV3Schema"]["properties"]["spec"], &mut found);
        assert!(found.len() > 3, "{found:?}");
        for (path, schema) in found {
            assert!(schema["type"].is_string(), "{path} has no single type: {schema}");
            for forbidden in ["additionalProperties", "anyOf", "oneOf", "allOf", "nullable", "default", "$ref"] {
                assert!(schema.get(forbidden).is_none(), "{path} has {forbidden}: {schema}");
            }
            if schema["type"] == "array" {
                let most = if ["spec.from", "spec.to"].contains(&path.as_str()) { MAX_RULES } else { MAX_ENTRIES };
                assert_eq!((&schema["minItems"], &schema["maxItems"]), (&1.into(), &most.into()), "{path}");
            }
            if path.ends_with("from[]") || path.ends_with("to[]") {
                assert_eq!(schema["minProperties"], 1, "{path}");
            }
        }
    }
}

#[test]
fn an_audit_that_does_not_say_of_what_is_refused_by_the_schema_too() {
    let schema = serde_json::to_value(&AuthorizationPolicy::crd().spec.versions[0].schema).unwrap();
    let rules = &schema["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"];
    assert_eq!(rules[0]["rule"], "(self.action == 'AUDIT') == has(self.audits)", "{schema}");
}
