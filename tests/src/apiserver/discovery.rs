//! What the API server says it serves: groups, versions, resources, and as much of OpenAPI as `kubectl` wants to see.
//!
//! Owns these documents. Never answers for an object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    failure::Failure,
    kinds::{Kind, api_version},
    request::Request,
    store::Store,
};

/// The kind of what is answered to who asks for all at once.
pub(super) const AGGREGATED: &str = "APIGroupDiscoveryList";
const ALL: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// The same of custom resources, in the order in which a real one has them.
const CUSTOM: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const STATUS: [&str; 3] = ["get", "patch", "update"];

impl Store {
    /// The answer to a plain path.
    ///
    /// # Errors
    /// When nothing is there.
    pub(super) fn discover(&self, request: &Request) -> Result<Value, Failure> {
        let parts: Vec<_> = request.path.trim_matches('/').split('/').collect();
        let aggregated = request.accept.contains("as=APIGroupDiscoveryList");
        match parts[..] {
            ["api" | "apis"] if aggregated => Ok(self.aggregated(parts == ["api"])),
            ["version"] => Ok(json!({
                "major": "1", "minor": self.minor.to_string(), "gitVersion": format!("v1.{}.0", self.minor), "gitCommit": "double", "gitTreeState": "clean",
                "buildDate": "2025-04-23T00:00:00Z", "goVersion": "none", "compiler": "rustc", "platform": "linux/amd64",
            })),
            ["api"] => Ok(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
            ["apis"] => Ok(self.groups()),
            ["api", version] => self.resources("", version),
            ["apis", group] => self.group(group).ok_or_else(Failure::no_such_path).map(|mut group| {
                group["kind"] = "APIGroup".into();
                group["apiVersion"] = "v1".into();
                group
            }),
            ["apis", group, version] => self.resources(group, version),
            ["openapi", "v3"] => Ok(self.open_api()),
            ["openapi", "v3", "api", version] => self.open_api_of("", version),
            ["openapi", "v3", "apis", group, version] => self.open_api_of(group, version),
            _ => Err(Failure::no_such_path()),
        }
    }

    /// The refusal of a path in a group: who serves a built-in group knows that it has no such resource.
    pub(super) fn nowhere(&self, group: &str) -> Failure {
        let known = self.kinds.all().any(|kind| kind.group == group && !kind.custom);
        if known { Failure::no_such_resource() } else { Failure::no_such_path() }
    }

    /// All groups with all their resources at once: the core group, or all others.
    fn aggregated(&self, core: bool) -> Value {
        let names: BTreeSet<_> =
            self.kinds.all().map(|kind| &kind.group).filter(|group| group.is_empty() == core).collect();
        let group = |name: &String| {
            let versions = self.versions(name).into_iter().map(|version| {
                let resources: Vec<_> = self.kinds_of(name, version).map(|kind| aggregate(kind, version)).collect();
                json!({"version": version, "resources": resources, "freshness": "Current"})
            });
            json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": versions.collect::<Vec<_>>()})
        };
        let items: Vec<_> = names.into_iter().map(group).collect();
        json!({"kind": AGGREGATED, "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
    }

    fn groups(&self) -> Value {
        let names: BTreeSet<_> = self.kinds.all().map(|kind| &kind.group).filter(|group| !group.is_empty()).collect();
        let groups: Vec<_> = names.into_iter().filter_map(|group| self.group(group)).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    }

    fn group(&self, group: &str) -> Option<Value> {
        let versions = self.versions(group);
        let one = |version: &&String| json!({"groupVersion": api_version(group, version), "version": version});
        let preferred = one(versions.first()?);
        let versions: Vec<_> = versions.iter().map(one).collect();
        Some(json!({"name": group, "versions": versions, "preferredVersion": preferred}))
    }

    fn versions(&self, group: &str) -> Vec<&String> {
        let mut versions: Vec<&String> = Vec::new();
        for version in self.kinds.all().filter(|kind| kind.group == group).flat_map(|kind| &kind.versions) {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        versions
    }

    fn kinds_of<'a>(&'a self, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Kind> {
        let all = self.kinds.all().map(AsRef::as_ref);
        all.filter(move |kind| kind.group == group && kind.versions.iter().any(|served| served == version))
    }

    fn resources(&self, group: &str, version: &str) -> Result<Value, Failure> {
        let mut resources = Vec::new();
        for kind in self.kinds_of(group, version) {
            let mut resource = json!({
                "name": kind.plural, "singularName": kind.singular(), "namespaced": kind.namespaced, "kind": kind.kind,
                "verbs": verbs(kind),
            });
            if !kind.short.is_empty() {
                resource["shortNames"] = kind.short.clone().into();
            }
            resources.push(resource);
            if kind.status {
                resources.push(json!({
                    "name": format!("{}/status", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                    "kind": kind.kind, "verbs": STATUS,
                }));
            }
        }
        if resources.is_empty() {
            return Err(self.nowhere(group));
        }
        let group_version = api_version(group, version);
        Ok(
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}),
        )
    }

    fn open_api(&self) -> Value {
        let mut paths = BTreeMap::new();
        for kind in self.kinds.all() {
            for version in &kind.versions {
                let root = if kind.group.is_empty() { "api" } else { "apis" };
                let path = format!("{root}/{}", kind.api_version(version));
                let url = format!("/openapi/v3/{path}?hash={:X}", path.len());
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
        }
        json!({"paths": paths})
    }

    /// Only that each kind exists, and that writes are validated by the server.
    fn open_api_of(&self, group: &str, version: &str) -> Result<Value, Failure> {
        let (mut paths, mut schemas) = (BTreeMap::new(), BTreeMap::new());
        for kind in self.kinds_of(group, version) {
            let gvk = json!({"group": group, "version": version, "kind": kind.kind});
            let root = if group.is_empty() { "api" } else { "apis" };
            let within = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
            let path = format!("/{root}/{}/{within}{}/{{name}}", kind.api_version(version), kind.plural);
            let parameters = json!([{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]);
            let media = json!({"schema": {"type": "object"}});
            let patch = json!({
                "parameters": parameters, "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": gvk,
                "requestBody": {"content": {"application/apply-patch+yaml": media}}, "responses": {},
            });
            paths.insert(path, json!({"patch": patch}));
            let schema = kind.schemas.get(version).cloned().unwrap_or_else(|| json!({"type": "object"}));
            let mut schema = schema;
            schema["x-kubernetes-group-version-kind"] = json!([gvk]);
            schemas.insert(format!("{group}.{version}.{}", kind.kind), schema);
        }
        if paths.is_empty() {
            return Err(Failure::no_such_path());
        }
        let info = json!({"title": "Kubernetes", "version": "v1.33.0"});
        Ok(json!({"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}))
    }
}

fn verbs(kind: &Kind) -> Vec<&'static str> {
    match (kind.question, kind.custom) {
        (true, _) => vec!["create"],
        (false, true) => CUSTOM.to_vec(),
        (false, false) => ALL.to_vec(),
    }
}

fn aggregate(kind: &Kind, version: &str) -> Value {
    let response = json!({"group": kind.group, "version": version, "kind": kind.kind});
    let mut resource = json!({
        "resource": kind.plural, "singularResource": kind.singular(), "verbs": verbs(kind), "responseKind": response,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
    });
    if !kind.short.is_empty() {
        resource["shortNames"] = kind.short.clone().into();
    }
    if kind.status {
        resource["subresources"] = json!([{"subresource": "status", "responseKind": response, "verbs": STATUS}]);
    }
    resource
}
