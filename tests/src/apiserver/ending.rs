//! DELETE, and what follows an end: finalizers, owned objects, the content of a namespace, the objects of a definition.
//!
//! Owns the order of these. Controllers of a real cluster do the latter three a little later; here they are done at once.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    failure::{Failure, details},
    kinds::Kind,
    object, patch,
    read::shown,
    select::Selector,
    store::{Key, Store},
    write::{Answer, Write},
};

/// Namespaces that cannot be deleted.
const LASTING: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Kinds whose last state is answered to a deletion, in place of a Status.
const RETURNED: [&str; 5] = ["pods", "services", "serviceaccounts", "namespaces", "customresourcedefinitions"];

impl Store {
    /// DELETE of one object.
    pub(super) fn delete(&mut self, write: &Write<'_>) -> Result<Answer, Failure> {
        let (kind, target) = (write.kind, write.target);
        let options = options(write)?;
        let key = Key::of(kind, &target.namespace, &target.name);
        let old = self.get(&key).cloned().ok_or_else(|| Failure::not_found(kind, &target.name))?;
        precondition(kind, &old, &options)?;
        if kind.resource() == "namespaces" && LASTING.contains(&target.name.as_str()) {
            return Err(Failure::forbidden(kind, &target.name, "this namespace may not be deleted"));
        }
        self.refuse_by_webhook(kind)?;
        if propagation(write, &options) == "Orphan" {
            self.orphan(object::uid(&old));
        }
        let ending = self.end(kind, &key, write.now);
        let returned = RETURNED.contains(&kind.plural.as_str()) && !kind.custom;
        let last = ending.unwrap_or_else(|| old.clone());
        if object::is_ending(&last) || returned {
            return Ok(Answer { code: 200, body: shown(kind, &target.version, &last) });
        }
        let mut details = details(&kind.group, &kind.plural, &target.name);
        details["uid"] = object::uid(&old).into();
        let body =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        Ok(Answer { code: 200, body })
    }

    /// DELETE of all that are selected.
    pub(super) fn delete_all(&mut self, write: &Write<'_>) -> Result<Answer, Failure> {
        let (kind, request) = (write.kind, write.request);
        let selector = Selector::read(kind, request)?;
        self.refuse_by_webhook(kind)?;
        let objects = self.of(&kind.resource(), &write.target.namespace);
        let selected: Vec<_> = objects
            .filter(|(_, object)| selector.matches(object))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let items: Vec<_> = selected
            .into_iter()
            .map(|(key, old)| {
                let last = self.end(kind, &key, write.now).unwrap_or(old);
                shown(kind, &write.target.version, &last)
            })
            .collect();
        let api_version = kind.api_version(&write.target.version);
        let metadata = json!({"resourceVersion": self.revision().to_string()});
        let body = json!({"kind": format!("{}List", kind.kind), "apiVersion": api_version, "metadata": metadata, "items": items});
        Ok(Answer { code: 200, body })
    }

    fn refuse_by_webhook(&self, kind: &Kind) -> Result<(), Failure> {
        let webhook = self.webhooks.iter().find(|webhook| webhook.resource == kind.resource());
        webhook.map_or(Ok(()), |webhook| Err(Failure::denied("refuses.landbridge.test", &webhook.message)))
    }

    /// Ends an object, or marks that it shall end when somebody still has to finalize it: what it is then.
    pub(super) fn end(&mut self, kind: &Kind, key: &Key, now: &str) -> Option<Arc<Value>> {
        let old = self.get(key).cloned()?;
        let is_namespace = kind.resource() == "namespaces";
        if object::list(&old, "/metadata/finalizers").is_empty() && !is_namespace {
            return self.erase(kind, key, now);
        }
        if !object::is_ending(&old) {
            let mut ending = Value::clone(&old);
            ending["metadata"]["deletionTimestamp"] = now.into();
            if is_namespace {
                ending["status"]["phase"] = "Terminating".into();
            } else {
                ending["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            }
            if kind.generation {
                ending["metadata"]["generation"] = (old["metadata"]["generation"].as_u64().unwrap_or(0) + 1).into();
            }
            self.put(key.clone(), ending);
        }
        let ending = self.get(key).cloned();
        if is_namespace {
            for inside in self.within(&key.name) {
                if let Some(kind) = self.kinds.of_resource(&inside.resource) {
                    self.end(&kind, &inside, now);
                }
            }
            self.close(&key.name, now);
        }
        ending
    }

    /// Takes an object away, and what cannot be without it.
    pub(super) fn erase(&mut self, kind: &Kind, key: &Key, now: &str) -> Option<Arc<Value>> {
        let last = self.remove(key)?;
        for owned in self.owned_by(object::uid(&last)) {
            let garbage = self.get(&owned).is_some_and(|object| self.is_garbage(object));
            if let Some(kind) = self.kinds.of_resource(&owned.resource).filter(|_| garbage) {
                self.end(&kind, &owned, now);
            }
        }
        if kind.resource() == "services" {
            self.addresses.take_back(&last);
        }
        if kind.resource() == "customresourcedefinitions.apiextensions.k8s.io" {
            self.drop_defined(&last, now);
        }
        if kind.namespaced {
            self.close(&key.namespace, now);
        }
        Some(last)
    }

    fn drop_defined(&mut self, definition: &Value, now: &str) {
        if let Some(kind) = Kind::defined_by(definition) {
            let keys: Vec<_> = self.of(&kind.resource(), "").map(|(key, _)| key.clone()).collect();
            for key in keys {
                self.erase(&kind, &key, now);
            }
        }
        self.kinds.undefine(object::name(definition));
    }

    /// Takes away a namespace that shall end and is empty.
    fn close(&mut self, namespace: &str, now: &str) {
        let Some(kind) = self.kinds.of_resource("namespaces") else { return };
        let key = Key::of(&kind, "", namespace);
        let ending = self.get(&key).is_some_and(|namespace| object::is_ending(namespace));
        if ending && self.within(namespace).is_empty() {
            self.erase(&kind, &key, now);
        }
    }

    fn orphan(&mut self, uid: &str) {
        for key in self.owned_by(uid) {
            let Some(owned) = self.get(&key) else { continue };
            let mut freed = Value::clone(owned);
            if let Some(owners) = freed.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) {
                owners.retain(|owner| object::text(owner, "/uid") != uid);
            }
            self.put(key, freed);
        }
    }
}

fn options(write: &Write<'_>) -> Result<Value, Failure> {
    if write.request.body.is_empty() {
        return Ok(json!({}));
    }
    patch::document(&write.request.body, &write.request.content_type)
}

fn propagation<'a>(write: &'a Write<'_>, options: &'a Value) -> &'a str {
    let asked = write.request.parameter("propagationPolicy");
    if asked.is_empty() { object::text(options, "/propagationPolicy") } else { asked }
}

fn precondition(kind: &Kind, old: &Value, options: &Value) -> Result<(), Failure> {
    let wanted = [
        ("UID", "/preconditions/uid", object::uid(old), "deleted and then recreated"),
        (
            "ResourceVersion",
            "/preconditions/resourceVersion",
            object::text(old, "/metadata/resourceVersion"),
            "modified",
        ),
    ];
    for (what, at, is, been) in wanted {
        let wanted = object::text(options, at);
        if !wanted.is_empty() && wanted != is {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might \
                 have been {been}"
            );
            return Err(Failure::precondition(kind, object::name(old), &why));
        }
    }
    Ok(())
}
