//! The core, without a socket: a request in, an answer and events out.
//!
//! Owns a cluster that is only a store, and the tests of what it does. Never opens a port.

use http::Method;
use serde_json::{Value, json};

use super::{
    access::{MASTERS, User},
    failure::Failure,
    handle::Caller,
    request::Request,
    store::Store,
};

mod apply;
mod crud;
mod custom;
mod roles;
mod services;
mod watches;

const NOW: &str = "2026-01-01T00:00:00Z";

/// A cluster with the namespace `shop`.
struct Cluster {
    store: Store,
    now: String,
}

impl Cluster {
    fn new() -> Self {
        Self::with(false)
    }

    fn with(dual_stack: bool) -> Self {
        let mut store = Store::new(7, dual_stack);
        store.furnish(NOW);
        let mut cluster = Self { store, now: NOW.to_owned() };
        cluster.post("/api/v1/namespaces", json!({"metadata": {"name": "shop"}})).unwrap();
        cluster
    }

    fn ask(&mut self, method: &Method, target: &str, media: &str, body: &str) -> Result<Value, Failure> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Request::read(method, path, query);
        request.user_agent = "kubectl/v1.33".to_owned();
        request.content_type = media.to_owned();
        request.body = body.to_owned().into();
        let user = User::named("admin", &[MASTERS]);
        let caller = Caller { user: &user, by_roles: false, now: &self.now };
        self.store.handle(&request, caller).map(|answer| answer.body)
    }

    fn get(&mut self, path: &str) -> Result<Value, Failure> {
        self.ask(&Method::GET, path, "", "")
    }

    /// Creates an object; kind and version follow from the path.
    fn post(&mut self, path: &str, object: Value) -> Result<Value, Failure> {
        let object = self.complete(path, object);
        self.ask(&Method::POST, path, "application/json", &object.to_string())
    }

    fn put(&mut self, path: &str, object: &Value) -> Result<Value, Failure> {
        self.ask(&Method::PUT, path, "application/json", &object.to_string())
    }

    fn merge(&mut self, path: &str, patch: &Value) -> Result<Value, Failure> {
        self.ask(&Method::PATCH, path, "application/merge-patch+json", &patch.to_string())
    }

    /// Applies as a manager; `options` follow the name of the manager in the query.
    fn apply(&mut self, path: &str, manager: &str, config: Value) -> Result<Value, Failure> {
        let config = self.complete(path, config);
        let target = format!("{path}?fieldManager={manager}");
        self.ask(&Method::PATCH, &target, "application/apply-patch+yaml", &config.to_string())
    }

    fn delete(&mut self, path: &str) -> Result<Value, Failure> {
        self.ask(&Method::DELETE, path, "", "")
    }

    fn complete(&self, path: &str, mut object: Value) -> Value {
        let target = Request::read(&Method::POST, path, "").target.unwrap();
        if let Some(kind) = self.store.kinds.served(&target.group, &target.version, &target.plural) {
            object["kind"] = kind.kind.clone().into();
            object["apiVersion"] = kind.api_version(&target.version).into();
        }
        object
    }
}

const SERVICES: &str = "/api/v1/namespaces/shop/services";
const PAY: &str = "/api/v1/namespaces/shop/services/pay";
const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

fn service(ports: &Value) -> Value {
    json!({"metadata": {"name": "pay"}, "spec": {"ports": ports}})
}

/// The fields of a manager, as FieldsV1.
fn fields_of(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["manager"] == manager);
    entry.map(|entry| entry["fieldsV1"].clone()).unwrap_or_default()
}
