//! How a test changes the objects of an [`ApiServer`] and waits for what others make of them.
//!
//! Owns the handle's words for objects. A kind is said as people say it: `Service`, `services`, `svc`, or with its group.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    ApiServer,
    failure::Failure,
    kinds::Kind,
    object,
    store::{Key, Webhook},
};
use crate::wait::PATIENCE;

impl ApiServer {
    /// Makes the cluster have this object, with its status, whatever it had in its place. Who says no namespace means
    /// `default`; a Pod that says no containers gets one.
    ///
    /// # Panics
    /// When a real cluster would refuse it.
    pub fn put(&self, object: Value) -> Value {
        let name = format!("{} {}", object::text(&object, "/kind"), object::name(&object));
        self.try_put(object).unwrap_or_else(|refusal| panic!("{name}: {}", object::text(&refusal, "/message")))
    }

    /// Every object of these YAML documents, as [`ApiServer::put`].
    ///
    /// # Panics
    /// When they cannot be read, or one is refused.
    pub fn put_yaml(&self, documents: &str) -> Vec<Value> {
        let read: Vec<Value> = serde_saphyr::from_multiple(documents).unwrap_or_else(|error| panic!("YAML: {error}"));
        read.into_iter().filter(Value::is_object).map(|object| self.put(object)).collect()
    }

    /// As [`ApiServer::put`].
    ///
    /// # Errors
    /// The Status with which a real cluster would refuse it.
    pub fn try_put(&self, object: Value) -> Result<Value, Value> {
        let refused = |failure: Failure| failure.to_json();
        let kind = self.desk.state().store.kinds.of(&object).ok_or_else(|| refused(Failure::no_such_resource()))?;
        let mut object = object;
        if kind.namespaced && object::namespace(&object).is_empty() {
            object::metadata(&mut object).insert("namespace".to_owned(), "default".into());
        }
        let (namespace, name) = (object::namespace(&object).to_owned(), object::name(&object).to_owned());
        let version = super::kinds::group_version(object::text(&object, "/apiVersion")).1.to_owned();
        let path = path_of(&kind, &version, &namespace);
        if kind.resource() == "pods" {
            let containers = json!([{"name": "app", "image": "app"}]);
            object::default_to(object::map_in(&mut object, "spec"), "containers", containers);
        }
        let status = object.get("status").cloned();
        object::metadata(&mut object).remove("resourceVersion");
        let there = self.stored(&kind, &namespace, &name);
        let mut put = if let Some(there) = there {
            object["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"].clone();
            self.desk.own(&Method::PUT, (&format!("{path}/{name}"), ""), Some(&object)).map_err(refused)?
        } else {
            self.desk.own(&Method::POST, (&path, ""), Some(&object)).map_err(refused)?
        };
        if let Some(status) = status.filter(|status| kind.status && *status != put["status"]) {
            put["status"] = status;
            let path = format!("{path}/{}/status", object::name(&put));
            put = self.desk.own(&Method::PUT, (&path, ""), Some(&put)).map_err(refused)?;
        }
        Ok(put)
    }

    /// Puts in many objects as they are: quickly, unchecked, and managed by nobody.
    ///
    /// # Panics
    /// When one is of a kind that is not served.
    pub fn fill(&self, objects: impl IntoIterator<Item = Value>) {
        let mut state = self.desk.state();
        for mut object in objects {
            let kind = state.store.kinds.of(&object);
            let kind = kind.unwrap_or_else(|| panic!("{} is not served", object::text(&object, "/kind")));
            let key = Key::of(&kind, object::namespace(&object), object::name(&object));
            let uid = state.store.fresh_uid();
            let metadata = object::metadata(&mut object);
            metadata.insert("uid".to_owned(), uid.into());
            object::default_to(metadata, "creationTimestamp", super::desk::now());
            state.store.put(key, object);
        }
        drop(state);
        self.desk.tell();
    }

    /// An object, in the version in which it is stored.
    #[must_use]
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let kind = self.meant(kind)?;
        self.stored(&kind, namespace, name).map(|object| Value::clone(&object))
    }

    /// Every object of a kind, in all namespaces.
    #[must_use]
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let Some(kind) = self.meant(kind) else { return Vec::new() };
        self.desk.state().store.of(&kind.resource(), "").map(|(_, object)| Value::clone(object)).collect()
    }

    /// Changes an object and its status.
    ///
    /// # Panics
    /// When it is not there, or a real cluster would refuse what becomes of it.
    pub fn edit(&self, kind: &str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let object = self.get(kind, namespace, name);
        let mut object = object.unwrap_or_else(|| panic!("there is no {kind} {namespace}/{name} to edit"));
        change(&mut object);
        self.put(object)
    }

    /// Deletes an object, as somebody who may would; whether it was there.
    ///
    /// # Panics
    /// When it is there and a real cluster would refuse.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let Some(kind) = self.meant(kind) else { return false };
        if self.stored(&kind, namespace, name).is_none() {
            return false;
        }
        let path = format!("{}/{name}", path_of(&kind, &kind.storage, namespace));
        let deleted = self.desk.own(&Method::DELETE, (&path, ""), None);
        deleted.unwrap_or_else(|failure| panic!("{path}: {}", failure.message));
        true
    }

    /// Waits until the object is there and as it should be.
    ///
    /// # Panics
    /// When it is not within the patience of the tests; tells what it is instead.
    pub async fn wait_for(&self, kind: &str, namespace: &str, name: &str, fact: impl Fn(&Value) -> bool) -> Value {
        let found = self.until(|| self.get(kind, namespace, name).filter(&fact)).await;
        found.unwrap_or_else(|| {
            let is = self.get(kind, namespace, name);
            panic!("waited {PATIENCE:?} in vain for {kind} {namespace}/{name}, which is {is:#?}")
        })
    }

    /// Waits until the object is not there.
    ///
    /// # Panics
    /// When it still is after the patience of the tests.
    pub async fn wait_gone(&self, kind: &str, namespace: &str, name: &str) {
        let gone = self.until(|| self.get(kind, namespace, name).is_none().then_some(())).await;
        assert!(gone.is_some(), "waited {PATIENCE:?} in vain for the end of {kind} {namespace}/{name}");
    }

    /// Waits until the objects, looked at after every change, give a value.
    ///
    /// # Panics
    /// When they give none within the patience of the tests; the message is `what`.
    pub async fn wait_until<T>(&self, what: &str, fact: impl Fn(&Self) -> Option<T>) -> T {
        self.until(|| fact(self)).await.unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain until {what}"))
    }

    async fn until<T>(&self, fact: impl Fn() -> Option<T>) -> Option<T> {
        let mut moved = self.desk.moved();
        let waiting = async {
            loop {
                moved.borrow_and_update();
                if let Some(value) = fact() {
                    return value;
                }
                if moved.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(PATIENCE, waiting).await.ok()
    }

    /// From now on every write of the kind is refused with this message, as by an admission webhook.
    ///
    /// # Panics
    /// When there is no such kind.
    pub fn refuse_writes(&self, kind: &str, message: &str) {
        let resource = self.meant(kind).unwrap_or_else(|| panic!("{kind} is no kind that is served")).resource();
        self.desk.state().store.webhooks.push(Webhook { resource, message: message.to_owned() });
    }

    /// Writes are let through again.
    pub fn allow_writes(&self) {
        self.desk.state().store.webhooks.clear();
    }

    fn meant(&self, kind: &str) -> Option<Arc<Kind>> {
        self.desk.state().store.kinds.meant(kind)
    }

    fn stored(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.desk.state().store.get(&Key::of(kind, namespace, name)).cloned()
    }
}

fn path_of(kind: &Kind, version: &str, namespace: &str) -> String {
    let root = if kind.group.is_empty() { "api" } else { "apis" };
    let within = if kind.namespaced { format!("namespaces/{namespace}/") } else { String::new() };
    format!("/{root}/{}/{within}{}", kind.api_version(version), kind.plural)
}
