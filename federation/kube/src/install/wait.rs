//! When an object that was applied can be used.
//!
//! Owns what that means for each kind, and the reason while it is not so. Never changes anything.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::Value;
use tokio::time::Instant;

use super::{Cluster, Manifest};
use crate::pods;

/// How often the API server is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// The most pods whose reasons are looked at.
const MAX_PODS: u32 = 20;
/// How long nothing changes before events are asked for: that a probe fails until a program listens is no news.
const STALLED: Duration = Duration::from_secs(5);
/// The most events of one object that are looked at.
const MAX_EVENTS: u32 = 50;

/// An object that cannot be used yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Why not.
    pub reason: String,
}

/// What is known of it at one look.
struct Standing {
    reason: String,
    /// The pod of it that is not ready.
    pod: Option<String>,
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
        let (mut told, mut last, mut since) = (String::new(), String::new(), Instant::now());
        loop {
            let Some(Standing { mut reason, pod }) = self.standing(manifest).await else {
                return Ok(());
            };
            if reason != last {
                last.clone_from(&reason);
                since = Instant::now();
            } else if since.elapsed() >= STALLED
                && let Some(warning) = self.warning(manifest, pod.as_deref()).await
            {
                reason = format!("{reason}: {warning}");
            }
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
    async fn standing(&self, manifest: &Manifest) -> Option<Standing> {
        let api = self.api(&manifest.resource, manifest.namespace());
        let object = match api.get(manifest.name()).await {
            Ok(object) => serde_json::to_value(object).unwrap_or_default(),
            Err(error) => return Some(Standing { reason: super::told(&error), pod: None }),
        };
        let reason = unavailable(manifest, &object)?;
        let pod = if manifest.runs_pods() { self.waiting_pod(manifest).await } else { None };
        let Some(pod) = pod else { return Some(Standing { reason, pod: None }) };
        let name = pod.name_any();
        let reason = match pods::obstacle(&pod) {
            Some(obstacle) => format!("{reason}: {name}: {obstacle}"),
            None => reason,
        };
        Some(Standing { reason, pod: Some(name) })
    }

    /// A pod of a workload that is not ready: one that says why, if there is one.
    async fn waiting_pod(&self, manifest: &Manifest) -> Option<Pod> {
        let labels = manifest.object.data["spec"]["selector"]["matchLabels"].as_object()?;
        let selector = labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
        let selector = selector.collect::<Vec<_>>().join(",");
        let params = ListParams::default().labels(&selector).limit(MAX_PODS);
        let pods: Api<Pod> = Api::namespaced(self.client(), manifest.namespace()?);
        let found = pods.list(&params).await.ok()?;
        let waiting = found.items.into_iter().filter(|pod| !pods::is_ready(pod));
        waiting.min_by_key(|pod| pods::obstacle(pod).is_none())
    }

    /// The newest warning about the pod that waits, or else about the workload, where whoever asks may read events.
    async fn warning(&self, manifest: &Manifest, pod: Option<&str>) -> Option<String> {
        let (kind, name) = pod.map_or_else(|| (manifest.kind(), manifest.name()), |pod| ("Pod", pod));
        let about = format!("involvedObject.kind={kind},involvedObject.name={name}");
        let params = ListParams::default().fields(&about).limit(MAX_EVENTS);
        let events: Api<Event> = Api::namespaced(self.client(), manifest.namespace()?);
        let found = events.list(&params).await.ok()?.items;
        let warnings = found.into_iter().filter(|event| event.type_.as_deref() == Some("Warning"));
        let newest = warnings.max_by_key(|event| {
            let micros = event.event_time.as_ref().map(|time| time.0);
            event.last_timestamp.as_ref().map(|time| time.0).max(micros)
        })?;
        let (reason, message) = (newest.reason.unwrap_or_default(), newest.message.unwrap_or_default());
        Some(format!("{reason}: {}", message.lines().next().unwrap_or_default()))
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
    let refused = condition(object, "ReplicaFailure").filter(|condition| condition["status"] == "True");
    let refused = refused.and_then(|condition| condition["message"].as_str());
    let refused = refused.map(|message| format!(": {message}")).unwrap_or_default();
    (ready < wanted).then(|| format!("{ready} of {wanted} pods are available{refused}"))
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
        let mut refused = object(2, 0, 0);
        refused["status"]["conditions"] =
            json!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]);
        assert_eq!(unavailable(&deployment, &refused).unwrap(), "0 of 2 pods are available: exceeded quota");
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
