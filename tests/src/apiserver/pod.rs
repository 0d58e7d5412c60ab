//! The defaults of pods, and of what makes pods.
//!
//! Owns those that our manifests meet, and the check of what no pod can be without.

use serde_json::{Map, Value, json};

use super::{
    failure::Cause,
    object::{self, default_to},
};

/// What a specification of a pod does not say.
pub(super) fn default(spec: &mut Map<String, Value>) {
    default_to(spec, "restartPolicy", "Always");
    default_to(spec, "dnsPolicy", "ClusterFirst");
    default_to(spec, "schedulerName", "default-scheduler");
    default_to(spec, "terminationGracePeriodSeconds", 30);
    default_to(spec, "securityContext", json!({}));
    for list in ["containers", "initContainers"] {
        maps_in(spec, list).for_each(container);
    }
    maps_in(spec, "volumes").for_each(volume);
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        default_to(spec, "serviceAccount", account);
    }
}

/// The same in the template of a workload.
pub(super) fn default_template(workload: &mut Value) {
    let template = object::map_in(object_in(workload), "template");
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        default(spec);
    }
}

pub(super) fn default_deployment(deployment: &mut Value) {
    let spec = object::map_in(deployment, "spec");
    default_to(spec, "replicas", 1);
    default_to(spec, "revisionHistoryLimit", 10);
    default_to(spec, "progressDeadlineSeconds", 600);
    let strategy = object::map_in(object_in(deployment), "strategy");
    default_to(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        default_to(strategy, "rollingUpdate", json!({}));
        if let Some(rolling) = strategy.get_mut("rollingUpdate").and_then(Value::as_object_mut) {
            default_to(rolling, "maxUnavailable", "25%");
            default_to(rolling, "maxSurge", "25%");
        }
    }
    default_template(deployment);
}

/// What is wrong with the containers of a specification of a pod.
pub(super) fn invalid(spec: &Value, at: &str) -> Vec<Cause> {
    let containers = object::list(spec, "/containers");
    if containers.is_empty() {
        return vec![Cause::required(format!("{at}.containers"), "")];
    }
    let mut causes = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        for field in ["name", "image"] {
            if object::text(container, &format!("/{field}")).is_empty() {
                causes.push(Cause::required(format!("{at}.containers[{index}].{field}"), ""));
            }
        }
    }
    causes
}

fn object_in(workload: &mut Value) -> &mut Value {
    object::map_in(workload, "spec");
    &mut workload["spec"]
}

fn maps_in<'a>(
    map: &'a mut Map<String, Value>,
    list: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> + use<'a> {
    map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let latest = !name.contains(['@', ':']) || name.ends_with(":latest");
    default_to(container, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
    default_to(container, "terminationMessagePath", "/dev/termination-log");
    default_to(container, "terminationMessagePolicy", "File");
    default_to(container, "resources", json!({}));
    maps_in(container, "ports").for_each(|port| default_to(port, "protocol", "TCP"));
    for variable in maps_in(container, "env") {
        let field = variable.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef"));
        field.and_then(Value::as_object_mut).into_iter().for_each(|field| default_to(field, "apiVersion", "v1"));
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        container.get_mut(name).and_then(Value::as_object_mut).into_iter().for_each(probe);
    }
}

fn probe(probe: &mut Map<String, Value>) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        default_to(probe, field, value);
    }
    let get = probe.get_mut("httpGet").and_then(Value::as_object_mut);
    get.into_iter().for_each(|get| default_to(get, "scheme", "HTTP"));
}

fn volume(volume: &mut Map<String, Value>) {
    for kind in ["configMap", "secret", "projected", "downwardAPI"] {
        // 0644.
        let source = volume.get_mut(kind).and_then(Value::as_object_mut);
        source.into_iter().for_each(|source| default_to(source, "defaultMode", 420));
    }
}
