//! The custom resources: the ServiceExport of the multi-cluster services API, `multicluster.x-k8s.io`, here, and the policies
//! of Landbridge in [`policy`].
//!
//! Owns the shape of the custom resource in version v1beta1; v1alpha1 has the same fields, so both are read into it.
//! Never reads a file or an API server.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod policy;

/// The API group of ServiceExport and ServiceImport.
pub const GROUP: &str = "multicluster.x-k8s.io";

/// Everything of a ServiceExport but metadata and status, which is a `spec` that may be absent: an export is complete without
/// one, because it names its Service by being its namesake. (The derive takes a `spec` of its own for required, hence
/// `no_spec`.)
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "multicluster.x-k8s.io",
    version = "v1beta1",
    kind = "ServiceExport",
    plural = "serviceexports",
    shortname = "svcex",
    shortname = "svcexport",
    namespaced,
    no_spec,
    status = "ServiceExportStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct ServiceExportBody {
    /// What of the Service is exported beside its ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<ServiceExportSpec>,
}

/// What of a Service is exported beside its ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceExportSpec {
    /// Labels that the imports get; labels of the metadata are never copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exported_labels: Option<BTreeMap<String, String>>,
    /// Annotations that the imports get; annotations of the metadata are never copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exported_annotations: Option<BTreeMap<String, String>>,
}

/// What the gateway says of an export: the conditions `Valid`, `Ready` and `Conflict`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServiceExportStatus {
    /// The conditions, one for each type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::CustomResourceExt;

    #[test]
    fn the_resource_has_the_names_that_the_standard_gives_it() {
        let crd = ServiceExport::crd();
        assert_eq!(crd.spec.group, GROUP);
        assert_eq!(crd.spec.names.plural, "serviceexports");
        assert_eq!(crd.spec.names.short_names.unwrap(), ["svcex", "svcexport"]);
        assert_eq!(crd.spec.scope, "Namespaced");
        assert_eq!(crd.spec.versions[0].name, "v1beta1");
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let schema = &schema["openAPIV3Schema"];
        assert_eq!(schema["properties"]["spec"]["properties"]["exportedLabels"]["type"], "object", "{schema}");
        assert_eq!(schema["required"], serde_json::Value::Null, "{schema}");
    }

    #[test]
    fn an_export_without_a_spec_is_complete() {
        for spec in ["", r#","spec":null"#, r#","spec":{}"#, r#","spec":{"exportedLabels":null}"#] {
            let version = "multicluster.x-k8s.io/v1alpha1";
            let json =
                format!(r#"{{"apiVersion":"{version}","kind":"ServiceExport","metadata":{{"name":"a"}}{spec}}}"#);
            let export: ServiceExport = serde_json::from_str(&json).unwrap();
            assert_eq!(export.metadata.name.as_deref(), Some("a"));
            assert_eq!(export.spec.spec.unwrap_or_default(), ServiceExportSpec::default());
        }
    }
}
