//! One request to the store: from verb and path to an answer.
//!
//! Owns the choice among the operations. Never waits, never judges who asks.

use serde_json::json;

use super::{
    access::User,
    failure::Failure,
    object, patch,
    request::Request,
    store::Store,
    write::{Answer, Write},
};

/// Who asks, when, and whether roles say what is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) user: &'a User,
    pub(super) by_roles: bool,
    /// RFC 3339, in seconds.
    pub(super) now: &'a str,
}

impl Store {
    /// The answer to a request that is no watch.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn handle(&mut self, request: &Request, caller: Caller<'_>) -> Result<Answer, Failure> {
        // A deletion says it in its options.
        let says = request.verb.starts_with("delete") && {
            let options: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
            options["dryRun"] == json!(["All"])
        };
        if says || request.parameter("dryRun") == "All" {
            return self.clone().answer(request, caller);
        }
        self.answer(request, caller)
    }

    fn answer(&mut self, request: &Request, caller: Caller<'_>) -> Result<Answer, Failure> {
        let Some(target) = &request.target else {
            if !["get", "head"].contains(&request.verb.as_str()) {
                return Err(Failure::method_not_allowed());
            }
            return self.discover(request).map(|body| Answer { code: 200, body });
        };
        let kind = self.kinds.served(&target.group, &target.version, &target.plural);
        let kind = kind.ok_or_else(|| self.nowhere(&target.group))?;
        let status = target.subresource == "status" && kind.status;
        if !target.subresource.is_empty() && !status {
            let custom = kind.custom.then(|| Failure::not_found(&kind, &target.name));
            return Err(custom.unwrap_or_else(Failure::no_such_resource));
        }
        if kind.question {
            if request.verb != "create" {
                return Err(Failure::method_not_allowed());
            }
            let review = object::without_nulls(patch::document(&request.body, &request.content_type)?);
            let body = self.review(&kind.plural, caller.user, review, caller.by_roles);
            return Ok(Answer { code: 201, body });
        }
        if kind.namespaced && target.namespace.is_empty() && !["list", "deletecollection"].contains(&&*request.verb) {
            return Err(if request.verb == "create" {
                Failure::method_not_allowed()
            } else {
                Failure::no_such_resource()
            });
        }
        let write = Write { kind: &kind, target, request, now: caller.now };
        match (request.verb.as_str(), target.name.is_empty(), status) {
            ("get", ..) => self.read_one(&kind, request, target).map(|body| Answer { code: 200, body }),
            ("list", ..) => self.read_all(&kind, request, target).map(|body| Answer { code: 200, body }),
            ("create", true, _) => self.create(&write),
            ("update", false, _) => self.update(&write),
            ("patch", false, _) => self.patch(&write),
            ("delete", false, false) => self.delete(&write),
            ("deletecollection", true, _) => self.delete_all(&write),
            _ => Err(Failure::method_not_allowed()),
        }
    }

    /// The namespaces of a new cluster, and the Service of its API server.
    pub(super) fn furnish(&mut self, now: &str) {
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            self.own("/api/v1/namespaces", &body, now);
        }
        let address = self.addresses.first().to_string();
        let labels = json!({"component": "apiserver", "provider": "kubernetes"});
        let ports = json!([{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]);
        let body = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "labels": labels},
            "spec": {"clusterIP": address, "ports": ports},
        });
        self.own("/api/v1/namespaces/default/services", &body, now);
    }

    /// What the API server creates for itself; refused only where it is there already.
    fn own(&mut self, path: &str, body: &serde_json::Value, now: &str) {
        let mut request = Request::read(&http::Method::POST, path, "fieldManager=kube-apiserver");
        request.body = body.to_string().into();
        let user = User::named("system:apiserver", &[super::access::MASTERS]);
        let caller = Caller { user: &user, by_roles: false, now };
        if let Err(failure) = self.handle(&request, caller) {
            tracing::debug!(path, message = failure.message, "the API server of a test could not be furnished");
        }
    }
}
