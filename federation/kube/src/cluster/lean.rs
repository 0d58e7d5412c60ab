//! Objects of an API server, with the fields that are read and no others.
//!
//! Owns what is passed over while an answer is parsed, so that of a pod of some kilobytes a few hundred bytes are ever in
//! memory. What an object means is decided by the same code as for manifests. Never fails for one object of a custom resource:
//! that object is at fault, and no other.

use std::{borrow::Cow, collections::BTreeMap, fmt::Debug};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, PodIP, PodSpec, PodStatus, Service, ServiceSpec},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::core::{ApiResource, DynamicResourceScope, Resource};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::store::Reading;
use crate::document::{self, Kind, Object};

/// An object as it comes from an API server.
pub(super) trait Lean:
    Resource<DynamicType = ApiResource, Scope = DynamicResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static
{
    /// What it says, as an object of `kind`.
    fn read(self, kind: Option<Kind>) -> Reading;
}

macro_rules! resource {
    ($name:ident) => {
        impl Resource for $name {
            type DynamicType = ApiResource;
            type Scope = DynamicResourceScope;

            fn kind(resource: &ApiResource) -> Cow<'_, str> {
                resource.kind.as_str().into()
            }
            fn group(resource: &ApiResource) -> Cow<'_, str> {
                resource.group.as_str().into()
            }
            fn version(resource: &ApiResource) -> Cow<'_, str> {
                resource.version.as_str().into()
            }
            fn plural(resource: &ApiResource) -> Cow<'_, str> {
                resource.plural.as_str().into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

/// The metadata that is read.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct LeanMeta {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
}

impl From<LeanMeta> for ObjectMeta {
    fn from(lean: LeanMeta) -> Self {
        let LeanMeta { name, namespace, resource_version, deletion_timestamp, labels } = lean;
        Self { name, namespace, resource_version, deletion_timestamp, labels, ..Self::default() }
    }
}

fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    LeanMeta::deserialize(deserializer).map(ObjectMeta::from)
}

/// A Namespace: its name.
#[derive(Deserialize, Clone, Debug)]
pub(super) struct LeanNamespace {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
}
resource!(LeanNamespace);

impl Lean for LeanNamespace {
    fn read(self, _: Option<Kind>) -> Reading {
        Reading::Name
    }
}

/// A Pod: whose it is, its addresses and how far it is.
#[derive(Deserialize, Clone, Debug)]
pub(super) struct LeanPod {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: LeanPodSpec,
    #[serde(default)]
    status: LeanPodStatus,
}
resource!(LeanPod);

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct LeanPodSpec {
    service_account_name: Option<String>,
    host_network: Option<bool>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct LeanPodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIP>>,
}

impl Lean for LeanPod {
    fn read(self, _: Option<Kind>) -> Reading {
        let Self { metadata, spec, status } = self;
        let spec = PodSpec {
            service_account_name: spec.service_account_name,
            host_network: spec.host_network,
            ..PodSpec::default()
        };
        let LeanPodStatus { phase, pod_ip, pod_ips } = status;
        let status = PodStatus { phase, pod_ip, pod_ips, ..PodStatus::default() };
        let pod = Pod { metadata, spec: Some(spec), status: Some(status) };
        Reading::of(crate::objects::pod(&pod).map(Object::Pod))
    }
}

/// A Service without its status.
#[derive(Deserialize, Clone, Debug)]
pub(super) struct LeanService {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<ServiceSpec>,
}
resource!(LeanService);

impl Lean for LeanService {
    fn read(self, _: Option<Kind>) -> Reading {
        let Self { metadata, spec } = self;
        let service = Service { metadata, spec, status: None };
        Reading::of(crate::objects::service(&service).map(Object::Service))
    }
}

/// An EndpointSlice without hints, nodes and zones.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeanEndpointSlice {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    address_type: String,
    #[serde(default)]
    endpoints: Option<Vec<LeanEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<EndpointPort>>,
}
resource!(LeanEndpointSlice);

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct LeanEndpoint {
    addresses: Vec<String>,
    conditions: Option<EndpointConditions>,
    hostname: Option<String>,
    target_ref: Option<LeanReference>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct LeanReference {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

impl From<LeanEndpoint> for Endpoint {
    fn from(lean: LeanEndpoint) -> Self {
        let LeanEndpoint { addresses, conditions, hostname, target_ref } = lean;
        let target_ref = target_ref.map(|LeanReference { kind, namespace, name }| ObjectReference {
            kind,
            namespace,
            name,
            ..ObjectReference::default()
        });
        Self { addresses, conditions, hostname, target_ref, ..Self::default() }
    }
}

impl Lean for LeanEndpointSlice {
    fn read(self, _: Option<Kind>) -> Reading {
        let Self { metadata, address_type, endpoints, ports } = self;
        let endpoints = endpoints.unwrap_or_default().into_iter().map(Endpoint::from).collect();
        let slice = EndpointSlice { metadata, address_type, endpoints, ports };
        Reading::of(crate::objects::endpoint_slice(&slice).map(Object::EndpointSlice))
    }
}

/// An object of a custom resource, whole: there are few, and what is wrong with one is told with the path of the field.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    metadata: ObjectMeta,
    value: Value,
}
resource!(Whole);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let metadata = LeanMeta::deserialize(&value["metadata"]).map_err(serde::de::Error::custom)?.into();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        Ok(Self { metadata, value })
    }
}

impl Lean for Whole {
    fn read(self, kind: Option<Kind>) -> Reading {
        let Some(kind) = kind else { return Reading::Name };
        let namespace = self.metadata.namespace.unwrap_or_default();
        document::read_value(kind, &namespace, self.value)
            .map_or_else(|fault| Reading::Fault(Box::new(fault)), |object| Reading::Object(Box::new(object)))
    }
}

#[cfg(test)]
mod tests;
