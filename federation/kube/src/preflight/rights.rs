//! What somebody must be allowed to install objects and to join with them, and how what they are not allowed is told.
//!
//! Owns the list, derived from the objects themselves. Never asks for a right.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use crate::install::Manifest;

/// The group of roles and bindings.
const RBAC: &str = "rbac.authorization.k8s.io";
/// What a join verifies itself with: an exported service in the gateway's namespace, for some seconds.
const PROBED: [(&str, &str); 2] = [("", "services"), ("multicluster.x-k8s.io", "serviceexports")];

/// One thing that somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Right {
    /// None: in the whole cluster.
    pub(super) namespace: Option<String>,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    /// Empty: whatever it is called.
    pub(super) name: String,
    pub(super) verb: String,
}

/// `services`, `deployments.apps`, `pods/exec`: as `kubectl auth can-i` takes it.
impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if self.subresource.is_empty() { Ok(()) } else { write!(f, "/{}", self.subresource) }
    }
}

impl Right {
    /// Whether it is to make roles or to change them.
    pub(super) fn is_of_roles(&self) -> bool {
        self.group == RBAC && ["roles", "clusterroles"].contains(&self.resource.as_str())
    }
}

/// To apply these objects, wait until they can be used, run commands in the pods of `namespace`, and export a probe there.
pub(super) fn of_install(manifests: &[Manifest], namespace: &str) -> Vec<Right> {
    let mut rights = BTreeSet::new();
    for manifest in manifests {
        let waited_for = manifest.is_definition() || manifest.runs_pods();
        let verbs = ["create", "patch", "get"].into_iter().filter(|verb| *verb != "get" || waited_for);
        rights.extend(verbs.map(|verb| right(manifest, verb)));
    }
    let there = |(group, resource): (&str, &str), subresource: &str, verb: &str| Right {
        namespace: Some(namespace.to_owned()),
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: String::new(),
        verb: verb.to_owned(),
    };
    rights.extend([there(("", "pods"), "", "list"), there(("", "pods"), "exec", "create")]);
    for probed in PROBED {
        rights.extend(["get", "list", "create", "patch", "delete"].map(|verb| there(probed, "", verb)));
    }
    rights.into_iter().collect()
}

/// With these, the roles among the objects may hold what the person does not, and be bound: the API server asks once for the
/// role, and once more for each binding of it.
pub(super) fn to_grant_all(manifests: &[Manifest]) -> Vec<Right> {
    let escalate = roles(manifests).map(|role| Right { name: String::new(), ..right(role, "escalate") });
    let bindings = of_kinds(manifests, ["RoleBinding", "ClusterRoleBinding"]);
    let mut rights: BTreeSet<_> = escalate.collect();
    rights.extend(bindings.map(to_bind));
    rights.into_iter().collect()
}

/// It is asked for the role, in the place of the binding.
fn to_bind(binding: &Manifest) -> Right {
    let json = binding.json();
    let role = |field: &str| json["roleRef"][field].as_str().unwrap_or_default();
    let resource = if role("kind") == "ClusterRole" { "clusterroles" } else { "roles" };
    Right { resource: resource.to_owned(), name: role("name").to_owned(), ..right(binding, "bind") }
}

/// What the roles among the objects hold: without the rights above, the API server lets only those grant it who hold it too.
pub(super) fn granted(manifests: &[Manifest]) -> Vec<Right> {
    let mut rights = BTreeSet::new();
    for role in roles(manifests) {
        let json = role.json();
        for rule in json["rules"].as_array().into_iter().flatten() {
            rights.extend(of_rule(rule, role.namespace()));
        }
    }
    rights.into_iter().collect()
}

fn roles(manifests: &[Manifest]) -> impl Iterator<Item = &Manifest> {
    of_kinds(manifests, ["Role", "ClusterRole"])
}

fn of_kinds<'a>(manifests: &'a [Manifest], kinds: [&'static str; 2]) -> impl Iterator<Item = &'a Manifest> {
    manifests.iter().filter(move |manifest| manifest.group() == RBAC && kinds.contains(&manifest.kind()))
}

fn right(manifest: &Manifest, verb: &str) -> Right {
    Right {
        namespace: manifest.namespace().map(str::to_owned),
        group: manifest.group().to_owned(),
        resource: manifest.resource().plural.clone(),
        subresource: String::new(),
        name: manifest.name().to_owned(),
        verb: verb.to_owned(),
    }
}

fn of_rule(rule: &Value, namespace: Option<&str>) -> Vec<Right> {
    let texts = |field: &str| -> Vec<String> {
        let values = rule[field].as_array().into_iter().flatten();
        values.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut names = texts("resourceNames");
    if names.is_empty() {
        names.push(String::new());
    }
    let (groups, resources, verbs) = (texts("apiGroups"), texts("resources"), texts("verbs"));
    let mut rights = Vec::new();
    for (group, resource) in groups.iter().flat_map(|group| resources.iter().map(move |resource| (group, resource))) {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        for (name, verb) in names.iter().flat_map(|name| verbs.iter().map(move |verb| (name, verb))) {
            rights.push(Right {
                namespace: namespace.map(str::to_owned),
                group: group.clone(),
                resource: resource.to_owned(),
                subresource: subresource.to_owned(),
                name: name.clone(),
                verb: verb.clone(),
            });
        }
    }
    rights
}

/// All of them in few words: by place, then by verbs.
pub(super) fn told(rights: &[Right]) -> String {
    let mut verbs = BTreeMap::<(&Option<String>, String), BTreeSet<&str>>::new();
    for right in rights {
        verbs.entry((&right.namespace, right.to_string())).or_default().insert(&right.verb);
    }
    let mut places = BTreeMap::<&Option<String>, BTreeMap<String, Vec<String>>>::new();
    for ((namespace, resource), verbs) in verbs {
        let verbs = verbs.into_iter().collect::<Vec<_>>().join(", ");
        places.entry(namespace).or_default().entry(verbs).or_default().push(resource);
    }
    let told = places.into_iter().map(|(namespace, resources)| {
        let place = namespace.as_ref().map_or("the whole cluster", String::as_str);
        let each = resources.into_iter().map(|(verbs, resources)| format!("{verbs} {}", resources.join(", ")));
        format!("in {place} {}", each.collect::<Vec<_>>().join("; "))
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFESTS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: a}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: c, namespace: shop}
rules:
- {apiGroups: ['', apps], resources: [pods/status, deployments], resourceNames: [one, two], verbs: [get]}
- {apiGroups: [''], resources: [services], verbs: [list, watch]}
";

    fn manifests() -> Vec<Manifest> {
        Manifest::read_all(MANIFESTS).unwrap()
    }

    #[test]
    fn installing_needs_create_and_patch_of_each_object_and_the_way_to_its_pods() {
        let rights = of_install(&manifests(), "shop");
        assert_eq!(
            told(&rights),
            "in the whole cluster create, get, patch customresourcedefinitions.apiextensions.k8s.io; in shop create pods/exec; \
             create, delete, get, list, patch serviceexports.multicluster.x-k8s.io, services; create, patch \
             roles.rbac.authorization.k8s.io; list pods"
        );
        assert!(rights.iter().any(|right| right.resource == "services" && right.name == "b"), "{rights:?}");
    }

    #[test]
    fn a_role_grants_each_verb_of_each_resource_of_each_name() {
        let granted = granted(&manifests());
        assert_eq!(granted.len(), 2 * 2 * 2 + 2);
        assert!(granted.iter().all(|right| right.namespace.as_deref() == Some("shop")), "{granted:?}");
        assert!(granted.iter().any(|right| right.subresource == "status" && right.name == "two"), "{granted:?}");
    }

    #[test]
    fn who_grants_what_they_do_not_hold_escalates_the_roles_and_binds_what_the_bindings_name() {
        const BINDINGS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: d, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: c}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: e, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: f}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: g}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: h}
";
        let rights = to_grant_all(&Manifest::read_all(&format!("{MANIFESTS}---{BINDINGS}")).unwrap());
        assert_eq!(
            told(&rights),
            "in the whole cluster bind clusterroles.rbac.authorization.k8s.io; in shop bind \
             clusterroles.rbac.authorization.k8s.io; bind, escalate roles.rbac.authorization.k8s.io"
        );
        let bound: Vec<_> = rights.iter().filter(|right| right.verb == "bind").map(|right| &right.name).collect();
        assert_eq!(bound, ["h", "f", "c"]);
    }
}
