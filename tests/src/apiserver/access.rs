//! Who may do what: users, and the roles in the store.
//!
//! Owns the judgement by RBAC, and the reviews by which a client asks for it. Never changes anything.

use serde_json::{Value, json};

use super::{
    failure::Failure,
    object,
    request::{Request, Target},
    store::{Key, Store},
};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

/// The group that may do everything.
pub(super) const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
/// Paths that everybody who is known may read: discovery.
const DISCOVERY: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];
/// Paths that anybody may read.
const PUBLIC: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];

impl User {
    /// Somebody known by name.
    pub(super) fn named(name: &str, groups: &[&str]) -> Self {
        let mut all: Vec<_> = groups.iter().map(|group| (*group).to_owned()).collect();
        if let Some((namespace, _)) = account(name) {
            all.push("system:serviceaccounts".to_owned());
            all.push(format!("system:serviceaccounts:{namespace}"));
        }
        all.push(AUTHENTICATED.to_owned());
        Self { name: name.to_owned(), groups: all }
    }

    /// Somebody without a token.
    pub(super) fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] }
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|mine| mine == group)
    }

    fn is_subject(&self, subject: &Value, binding_namespace: &str) -> bool {
        let name = object::text(subject, "/name");
        match object::text(subject, "/kind") {
            "User" => name == self.name,
            "Group" => self.is_in(name),
            "ServiceAccount" => {
                let namespace = Some(object::text(subject, "/namespace")).filter(|namespace| !namespace.is_empty());
                account(&self.name) == Some((namespace.unwrap_or(binding_namespace), name))
            }
            _ => false,
        }
    }
}

/// Namespace and name of a ServiceAccount's user name.
fn account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed<'a> {
    pub(super) verb: &'a str,
    /// None for a plain path.
    pub(super) target: Option<&'a Target>,
    pub(super) path: &'a str,
}

impl Store {
    /// Lets a request through.
    ///
    /// # Errors
    /// When no role allows it.
    pub(super) fn authorize(&self, user: &User, request: &Request) -> Result<(), Failure> {
        let target = request.judged_target();
        let deed = Deed { verb: &request.verb, target: target.as_ref(), path: &request.path };
        if self.allows(user, &deed) {
            return Ok(());
        }
        let (who, verb) = (&user.name, &request.verb);
        let Some(target) = &target else {
            let message = format!("forbidden: User {who:?} cannot {verb} path {:?}", request.path);
            return Err(Failure { details: json!({}), ..Failure::new(403, "Forbidden", message) });
        };
        let slash = if target.subresource.is_empty() { "" } else { "/" };
        let namespace = self.namespace_of(target);
        let scope = if namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {namespace:?}")
        };
        let (plural, group) = (&target.plural, &target.group);
        let why = format!(
            "User {who:?} cannot {verb} resource \"{plural}{slash}{}\" in API group {group:?} {scope}",
            target.subresource
        );
        let name = if target.name.is_empty() { String::new() } else { format!(" {:?}", target.name) };
        let message = format!("{}{name} is forbidden: {why}", target.resource());
        let details = super::failure::details(group, plural, &target.name);
        Err(Failure { details, ..Failure::new(403, "Forbidden", message) })
    }

    /// Whether some role allows it.
    pub(super) fn allows(&self, user: &User, deed: &Deed<'_>) -> bool {
        if user.is_in(MASTERS) || implied(user, deed) {
            return true;
        }
        let namespace = deed.target.map(|target| self.namespace_of(target)).unwrap_or_default();
        self.rules_of(user, namespace).iter().any(|rule| covers(rule, deed))
    }

    /// A Namespace is in itself, as far as roles are concerned.
    fn namespace_of<'a>(&self, target: &'a Target) -> &'a str {
        let is_namespace = target.group.is_empty() && target.plural == "namespaces";
        if is_namespace { &target.name } else { &target.namespace }
    }

    /// The rules that hold for the user: everywhere, and in the namespace when it is not empty.
    fn rules_of(&self, user: &User, namespace: &str) -> Vec<Value> {
        let everywhere = self.of("clusterrolebindings.rbac.authorization.k8s.io", "");
        let here = self.of("rolebindings.rbac.authorization.k8s.io", namespace).filter(|_| !namespace.is_empty());
        let mut rules = Vec::new();
        for (key, binding) in everywhere.chain(here) {
            if object::list(binding, "/subjects").iter().any(|subject| user.is_subject(subject, &key.namespace)) {
                rules.extend_from_slice(self.rules_in(binding, &key.namespace));
            }
        }
        rules
    }

    fn rules_in(&self, binding: &Value, namespace: &str) -> &[Value] {
        let (resource, namespace) = match object::text(binding, "/roleRef/kind") {
            "ClusterRole" => ("clusterroles.rbac.authorization.k8s.io", ""),
            _ => ("roles.rbac.authorization.k8s.io", namespace),
        };
        let name = object::text(binding, "/roleRef/name").to_owned();
        let role = self.get(&Key { resource: resource.to_owned(), namespace: namespace.to_owned(), name });
        role.map(|role| object::list(role, "/rules")).unwrap_or_default()
    }

    /// Answers a review that a client creates.
    pub(super) fn review(&self, plural: &str, user: &User, mut review: Value, by_roles: bool) -> Value {
        match plural {
            "selfsubjectreviews" => {
                review["status"] = json!({"userInfo": {"username": user.name, "groups": user.groups}});
            }
            "selfsubjectrulesreviews" => {
                let mut rules = own_rules();
                if user.is_in(MASTERS) || !by_roles {
                    rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
                    rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
                }
                rules.extend(self.rules_of(user, object::text(&review, "/spec/namespace")));
                review["spec"] = json!({});
                let (paths, resources): (Vec<_>, Vec<_>) =
                    rules.into_iter().partition(|rule| rule.get("nonResourceURLs").is_some());
                review["status"] = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
            }
            _ => {
                let other = review
                    .pointer("/spec/user")
                    .and_then(Value::as_str)
                    .map(|name| User::named(name, &object::texts(&review, "/spec/groups")));
                let (target, verb, path) = asked(&review);
                let deed = Deed { verb: &verb, target: target.as_ref(), path: &path };
                let allowed = !by_roles || self.allows(other.as_ref().unwrap_or(user), &deed);
                review["status"] = json!({"allowed": allowed});
            }
        }
        review
    }
}

fn asked(review: &Value) -> (Option<Target>, String, String) {
    let text = |at: &str| object::text(review, at).to_owned();
    if review.pointer("/spec/resourceAttributes").is_none() {
        return (None, text("/spec/nonResourceAttributes/verb"), text("/spec/nonResourceAttributes/path"));
    }
    let of = |field: &str| text(&format!("/spec/resourceAttributes/{field}"));
    let target = Target {
        group: of("group"),
        version: of("version"),
        plural: of("resource"),
        namespace: of("namespace"),
        name: of("name"),
        subresource: of("subresource"),
    };
    (Some(target), of("verb"), String::new())
}

/// What everybody who is known may do, as rules of roles.
fn own_rules() -> Vec<Value> {
    let reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    vec![
        json!({"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": reviews}),
        json!({"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]}),
        json!({"verbs": ["get"], "nonResourceURLs": DISCOVERY}),
    ]
}

/// What everybody may do without a role.
fn implied(user: &User, deed: &Deed<'_>) -> bool {
    let known = user.is_in(AUTHENTICATED);
    let Some(target) = deed.target else {
        let paths = if known { DISCOVERY } else { PUBLIC };
        return ["get", "head"].contains(&deed.verb) && paths.iter().any(|path| path_fits(path, deed.path));
    };
    let about_self = target.plural.starts_with("selfsubject");
    known && about_self && deed.verb == "create"
}

fn path_fits(pattern: &str, path: &str) -> bool {
    pattern.strip_suffix('*').map_or_else(|| pattern == path, |prefix| path.starts_with(prefix))
}

/// Whether the rule of a role covers it.
fn covers(rule: &Value, deed: &Deed<'_>) -> bool {
    let has = |field: &str, wanted: &str| {
        object::texts(rule, &format!("/{field}")).iter().any(|allowed| *allowed == "*" || *allowed == wanted)
    };
    if !has("verbs", deed.verb) {
        return false;
    }
    let Some(target) = deed.target else {
        return object::texts(rule, "/nonResourceURLs").iter().any(|pattern| path_fits(pattern, deed.path));
    };
    let names = object::texts(rule, "/resourceNames");
    let resource = if target.subresource.is_empty() {
        has("resources", &target.plural)
    } else {
        let (full, any) = (format!("{}/{}", target.plural, target.subresource), format!("*/{}", target.subresource));
        has("resources", &full) || has("resources", &any)
    };
    has("apiGroups", &target.group) && resource && (names.is_empty() || names.contains(&target.name.as_str()))
}
