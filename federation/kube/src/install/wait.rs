//! When an object that was applied can be used.
//!
//! Owns what that means for each kind, and the reason while it is not so. Never changes anything.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::Value;
use tokio::time::Instant;

use super::{Cluster, Manifest};
use crate::pods;

/// How often the API server is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// The most pods whose reasons are looked at.
const MAX_PODS: u32 = 20;

/// An object that cannot be used yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Why not.
    pub reason: String,
}

impl Manifest {
    /// Whether it is a definition of a kind.
    #[must_use]
    pub fn is_definition(&self) -> bool {
        self.kind() == "CustomResourceDefinition"
    }

    /// Whether it runs pods.
    #[must_use]
    pub fn runs_pods(&self) -> bool {
        ["Deployment", "StatefulSet"].contains(&self.kind())
    }
}

impl Cluster {
    /// Waits until an object can be used, and tells the reasons while it cannot, each once.
    ///
    /// # Errors
    /// The last reason, when it cannot at the deadline.
    pub async fn wait(
        &self,
        manifest: &Manifest,
        deadline: Instant,
        mut tell: impl FnMut(&str),
    ) -> Result<(), Waiting> {
        let mut told = String::new();
        loop {
            let Some(reason) = self.reason(manifest).await else {
                return Ok(());
            };
            if reason != told {
                tell(&reason);
                told.clone_from(&reason);
            }
            if Instant::now() + ASK_EVERY > deadline {
                return Err(Waiting { reason });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Why an object cannot be used; nothing when it can.
    async fn reason(&self, manifest: &Manifest) -> Option<String> {
        let api = self.api(&manifest.resource, manifest.namespace());
        let object = match api.get(manifest.name()).await {
            Ok(object) => serde_json::to_value(object).unwrap_or_default(),
            Err(error) => return Some(super::told(&error)),
        };
        let reason = unavailable(manifest, &object)?;
        let pods = if manifest.runs_pods() { self.pod_reason(manifest).await } else { None };
        Some(pods.map_or_else(|| reason.clone(), |pods| format!("{reason}: {pods}")))
    }

    /// What the pods of a workload say, where one says anything.
    async fn pod_reason(&self, manifest: &Manifest) -> Option<String> {
        let labels = manifest.object.data["spec"]["selector"]["matchLabels"].as_object()?;
        let selector = labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
        let selector = selector.collect::<Vec<_>>().join(",");
        let params = ListParams::default().labels(&selector).limit(MAX_PODS);
        let pods: Api<Pod> = Api::namespaced(self.client(), manifest.namespace()?);
        let found = pods.list(&params).await.ok()?;
        found.items.iter().find_map(|pod| Some(format!("{}: {}", pod.name_any(), pods::obstacle(pod)?)))
    }
}

fn unavailable(manifest: &Manifest, object: &Value) -> Option<String> {
    if manifest.is_definition() {
        let established = condition(object, "Established").is_some_and(|condition| condition["status"] == "True");
        return (!established).then(|| "not established yet".to_owned());
    }
    let (spec, status) = (&object["spec"], &object["status"]);
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    if count(&status["observedGeneration"]) < count(&object["metadata"]["generation"]) {
        return Some("not looked at by the controllers of the cluster yet".to_owned());
    }
    let wanted = spec["replicas"].as_u64().unwrap_or(1);
    let (updated, available) = (count(&status["updatedReplicas"]), count(&status["availableReplicas"]));
    let ready = updated.min(available);
    (ready < wanted).then(|| format!("{ready} of {wanted} pods are available"))
}

fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(kind: &str, group: &str) -> Manifest {
        let text = format!("apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: a}}\n");
        Manifest::read_all(&text).unwrap().remove(0)
    }

    #[test]
    fn a_deployment_is_available_when_all_pods_of_the_newest_version_are() {
        let deployment = manifest("Deployment", "apps");
        assert!(deployment.runs_pods() && !deployment.is_definition());
        let object = |generation: u64, updated: u64, available: u64| {
            json!({"metadata": {"generation": generation}, "spec": {"replicas": 2},
                "status": {"observedGeneration": 2, "updatedReplicas": updated, "availableReplicas": available}})
        };
        assert_eq!(unavailable(&deployment, &object(2, 2, 2)), None);
        assert_eq!(unavailable(&deployment, &object(2, 1, 2)).unwrap(), "1 of 2 pods are available");
        assert_eq!(unavailable(&deployment, &object(2, 2, 0)).unwrap(), "0 of 2 pods are available");
        assert!(unavailable(&deployment, &object(3, 2, 2)).unwrap().contains("not looked at"));
        assert!(unavailable(&deployment, &json!({})).is_some());
    }

    #[test]
    fn a_definition_is_usable_when_it_is_established() {
        let crd = manifest("CustomResourceDefinition", "apiextensions.k8s.io");
        let object = |status: &str| json!({"status": {"conditions": [{"type": "Established", "status": status}]}});
        assert_eq!(unavailable(&crd, &object("True")), None);
        assert!(unavailable(&crd, &object("False")).is_some() && unavailable(&crd, &json!({})).is_some());
    }
}
