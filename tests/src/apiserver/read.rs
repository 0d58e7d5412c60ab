//! GET and LIST.
//!
//! Owns what they answer. Never changes anything.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    failure::Failure,
    kinds::Kind,
    object,
    request::{Request, Target},
    select::Selector,
    store::{Key, Store},
};

/// An object as a version of its kind shows it.
pub(super) fn shown(kind: &Kind, version: &str, object: &Value) -> Value {
    let mut shown = object.clone();
    if kind.versions.len() > 1 || kind.custom {
        shown["apiVersion"] = kind.api_version(version).into();
    }
    shown
}

impl Store {
    /// One object.
    pub(super) fn read_one(&self, kind: &Kind, request: &Request, target: &Target) -> Result<Value, Failure> {
        let object = self.get(&Key::of(kind, &target.namespace, &target.name));
        let object = object.ok_or_else(|| Failure::not_found(kind, &target.name))?;
        let shown = shown(kind, &target.version, object);
        Ok(if request.wants_metadata() { object::metadata_only(&shown) } else { shown })
    }

    /// The selected objects of a kind, a page at a time.
    pub(super) fn read_all(&self, kind: &Kind, request: &Request, target: &Target) -> Result<Value, Failure> {
        let selector = Selector::read(kind, request)?;
        let limit = request.parameter("limit").parse().ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let token = request.parameter("continue");
        let (revision, after) = if token.is_empty() {
            (self.asked_revision(request)?, None)
        } else {
            let (revision, after) = continued(token)?;
            if revision < self.compacted() {
                return Err(self.too_old_to_continue(&after));
            }
            (revision, Some(after))
        };
        let past = self.at(revision, &kind.resource(), &target.namespace);
        let objects: Box<dyn Iterator<Item = _>> = match &past {
            Some(past) => Box::new(past.iter()),
            None => Box::new(self.of(&kind.resource(), &target.namespace)),
        };
        let started =
            |key: &Key| after.as_ref().is_none_or(|(namespace, name)| (&key.namespace, &key.name) > (namespace, name));
        let mut selected = objects.filter(|(key, object)| started(key) && selector.matches(object));
        let page: Vec<_> = selected.by_ref().take(limit).collect();
        let rest = selected.count();
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if kind.custom {
            metadata["continue"] = "".into();
        }
        if rest > 0
            && let Some((last, _)) = page.last()
        {
            metadata["continue"] = token_of(revision, last).into();
            if request.parameter("labelSelector").is_empty() && request.parameter("fieldSelector").is_empty() {
                metadata["remainingItemCount"] = rest.into();
            }
        }
        let items: Vec<_> = page.iter().map(|(_, object)| item(kind, &target.version, request, object)).collect();
        if request.wants_metadata() {
            let list = "PartialObjectMetadataList";
            return Ok(json!({"kind": list, "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items}));
        }
        let api_version = kind.api_version(&target.version);
        Ok(
            json!({"kind": format!("{}List", kind.kind), "apiVersion": api_version, "metadata": metadata, "items": items}),
        )
    }

    fn asked_revision(&self, request: &Request) -> Result<u64, Failure> {
        let asked = request.parameter("resourceVersion");
        let asked: u64 = if asked.is_empty() { 0 } else { asked.parse().map_err(|_| invalid_version(asked))? };
        if asked > self.revision() {
            let message = format!("Too large resource version: {asked}, current: {}", self.revision());
            let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
            let details = json!({"causes": causes, "retryAfterSeconds": 1});
            return Err(Failure { details, ..Failure::new(504, "Timeout", format!("Timeout: {message}")) });
        }
        if request.parameter("resourceVersionMatch") == "Exact" && asked > 0 {
            if asked < self.compacted() {
                return Err(Failure::expired(format!("The resourceVersion for the provided list is too old: {asked}")));
            }
            return Ok(asked);
        }
        Ok(self.revision())
    }

    /// The objects of a resource as they were at a revision that is not compacted; none when they are as they were.
    fn at(&self, revision: u64, resource: &str, namespace: &str) -> Option<BTreeMap<Key, Arc<Value>>> {
        if !self.since(revision).any(|event| event.key.resource == resource) {
            return None;
        }
        let mut objects: BTreeMap<_, _> =
            self.of(resource, namespace).map(|(key, object)| (key.clone(), object.clone())).collect();
        let undone = self.since(revision).rev().filter(|event| event.key.resource == resource);
        for event in undone.filter(|event| namespace.is_empty() || event.key.namespace == namespace) {
            match &event.before {
                Some(before) => objects.insert(event.key.clone(), before.clone()),
                None => objects.remove(&event.key),
            };
        }
        Some(objects)
    }

    fn too_old_to_continue(&self, (namespace, name): &(String, String)) -> Failure {
        let key = Key { resource: String::new(), namespace: namespace.clone(), name: name.clone() };
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                       list without the continue parameter, or use the continue token in this response to retrieve the \
                       remainder of the results. Continuing with the provided token results in an inconsistent list - \
                       objects that were created, modified, or deleted between the time the first chunk was returned and \
                       now may show up in the list.";
        Failure { inconsistent: Some(token_of(self.revision(), &key)), ..Failure::expired(message) }
    }
}

/// An item of a list: of built-in kinds they do not say again what they are.
fn item(kind: &Kind, version: &str, request: &Request, object: &Value) -> Value {
    let mut item = shown(kind, version, object);
    if request.wants_metadata() {
        return object::metadata_only(&item);
    }
    if let Some(map) = item.as_object_mut().filter(|_| !kind.custom) {
        map.remove("kind");
        map.remove("apiVersion");
    }
    item
}

pub(super) fn invalid_version(asked: &str) -> Failure {
    Failure::bad_request(format!("Invalid value: {asked:?}: strconv.ParseUint: parsing {asked:?}: invalid syntax"))
}

fn token_of(revision: u64, last: &Key) -> String {
    let start = format!("{}/{}", last.namespace, last.name);
    URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start}).to_string())
}

fn continued(token: &str) -> Result<(u64, (String, String)), Failure> {
    let read = || {
        let json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (namespace, name) = object::text(&json, "/start").split_once('/')?;
        Some((json["rv"].as_u64()?, (namespace.to_owned(), name.to_owned())))
    };
    read().ok_or_else(|| Failure::bad_request("invalid continue token: continue key is not valid"))
}
