//! CREATE, UPDATE and PATCH.
//!
//! Owns the order of what happens to an object on its way into the store: read, defaults, who manages what, validation,
//! admission. Never decides who may write.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    failure::{Cause, Failure},
    kinds::{Kind, api_version, group_version},
    managed::{self, Reach, Writer},
    object,
    patch::{self, Patch},
    read::shown,
    request::{Request, Target},
    schema,
    store::{Key, Store},
    strategy,
};

/// What is answered to a write.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) body: Value,
}

/// A write on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    pub(super) kind: &'a Arc<Kind>,
    pub(super) target: &'a Target,
    pub(super) request: &'a Request,
    /// RFC 3339, in seconds.
    pub(super) now: &'a str,
}

impl Write<'_> {
    fn key(&self) -> Key {
        Key::of(self.kind, &self.target.namespace, &self.target.name)
    }

    fn api_version(&self) -> String {
        self.kind.api_version(&self.target.version)
    }

    fn answer(&self, code: u16, object: &Value) -> Answer {
        let shown = shown(self.kind, &self.target.version, object);
        Answer { code, body: if self.request.wants_metadata() { object::metadata_only(&shown) } else { shown } }
    }

    fn reach(&self) -> Reach {
        match (self.target.subresource.as_str(), self.kind.status, self.kind.custom) {
            ("", true, _) => Reach::NotStatus,
            ("", false, _) => Reach::All,
            (_, _, true) => Reach::Status,
            (_, _, false) => Reach::NotSpec,
        }
    }

    fn writer<'b>(&'b self, api_version: &'b str) -> Writer<'b> {
        Writer {
            manager: self.request.manager(),
            api_version,
            subresource: &self.target.subresource,
            reach: self.reach(),
            now: self.now,
        }
    }

    /// Whether the object is what the path says, once it has what the path says and it leaves out.
    fn fits(&self, object: &mut Value) -> Result<(), Failure> {
        let target = self.target;
        if !object.is_object() {
            return Err(Failure::bad_request("the object provided is unrecognized (must be of type Object)"));
        }
        if !self.kind.custom
            && let Some(map) = object.as_object_mut()
        {
            object::default_to(map, "apiVersion", self.api_version());
            object::default_to(map, "kind", self.kind.kind.clone());
        }
        let (given, expected) = (object::text(object, "/apiVersion"), self.api_version());
        if given != expected {
            let message =
                format!("the API version in the data ({given}) does not match the expected API version ({expected})");
            return Err(Failure::bad_request(message));
        }
        let given = object::text(object, "/kind");
        if given != self.kind.kind {
            let message =
                format!("the kind in the data ({given}) does not match the expected kind ({})", self.kind.kind);
            return Err(Failure::bad_request(message));
        }
        let given = object::namespace(object).to_owned();
        if self.kind.namespaced {
            if !given.is_empty() && given != target.namespace {
                let message = "the namespace of the provided object does not match the namespace sent on the request";
                return Err(Failure::bad_request(message));
            }
            object::metadata(object).insert("namespace".to_owned(), target.namespace.clone().into());
        } else {
            object::metadata(object).remove("namespace");
        }
        let given = object::name(object).to_owned();
        if !target.name.is_empty() && !given.is_empty() && given != target.name {
            let message =
                format!("the name of the object ({given}) does not match the name on the URL ({})", target.name);
            return Err(Failure::bad_request(message));
        }
        if !target.name.is_empty() {
            object::metadata(object).insert("name".to_owned(), target.name.clone().into());
        }
        Ok(())
    }
}

impl Store {
    /// POST.
    pub(super) fn create(&mut self, write: &Write<'_>) -> Result<Answer, Failure> {
        let body = patch::document(&write.request.body, &write.request.content_type)?;
        let mut object = object::without_nulls(body);
        write.fits(&mut object)?;
        self.defaulted(write, &mut object);
        let api_version = write.api_version();
        let empty = strategy::blank(write.kind);
        managed::update(&write.kind.shape(&write.target.version), &empty, &mut object, &write.writer(&api_version));
        self.insert(write, object)
    }

    fn defaulted(&self, write: &Write<'_>, object: &mut Value) {
        strategy::tidy(write.kind, object);
        if let Some(schema) = write.kind.schemas.get(&write.target.version) {
            schema::prune(schema, object);
            schema::default(schema, object);
        } else {
            strategy::default(write.kind, object);
        }
    }

    /// Puts in what is new and complete but for what only the server gives.
    fn insert(&mut self, write: &Write<'_>, mut object: Value) -> Result<Answer, Failure> {
        let kind = write.kind;
        if object::version(&object) != 0 {
            return Err(Failure::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        if object::name(&object).is_empty() && !object::text(&object, "/metadata/generateName").is_empty() {
            let name = format!("{}{}", object::text(&object, "/metadata/generateName"), self.fresh_suffix());
            object::metadata(&mut object).insert("name".to_owned(), name.into());
        }
        let name = object::name(&object).to_owned();
        let key = Key::of(kind, object::namespace(&object), &name);
        self.admit(kind, &key, None)?;
        let uid = self.fresh_uid();
        let metadata = object::metadata(&mut object);
        for server_gives in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            metadata.remove(server_gives);
        }
        metadata.insert("uid".to_owned(), uid.into());
        metadata.insert("creationTimestamp".to_owned(), write.now.into());
        metadata.remove("generation");
        if kind.generation {
            metadata.insert("generation".to_owned(), 1.into());
        }
        strategy::begin(kind, &mut object);
        let causes = self.invalid(write, &object, None);
        if !causes.is_empty() {
            return Err(Failure::invalid(kind, &name, &causes));
        }
        if self.get(&key).is_some() {
            return Err(Failure::already_exists(kind, &name));
        }
        if kind.resource() == "services" {
            let causes = self.addresses.give(&mut object, None);
            if !causes.is_empty() {
                return Err(Failure::invalid(kind, &name, &causes));
            }
        }
        object["apiVersion"] = kind.api_version(&kind.storage).into();
        let stored = self.put(key.clone(), object);
        self.settle(kind, &key, write.now);
        Ok(write.answer(201, &stored))
    }

    /// What controllers do at once after a write.
    fn settle(&mut self, kind: &Kind, key: &Key, now: &str) {
        let Some(object) = self.get(key).cloned() else { return };
        if kind.resource() == "customresourcedefinitions.apiextensions.k8s.io" {
            self.kinds.define(&object);
            if let Some(mut established) = strategy::established(&object, now) {
                let api_version = kind.api_version(&kind.storage);
                let writer = Writer {
                    manager: "kube-apiserver",
                    api_version: &api_version,
                    subresource: "status",
                    reach: Reach::NotSpec,
                    now,
                };
                managed::update(&kind.shape(&kind.storage), &object, &mut established, &writer);
                self.put(key.clone(), established);
            }
        }
        if self.is_garbage(&object) {
            self.end(kind, key, now);
        }
    }

    /// Whether the namespace and the webhooks let the write through.
    fn admit(&self, kind: &Kind, key: &Key, old: Option<&Value>) -> Result<(), Failure> {
        if kind.namespaced && old.is_none() {
            let namespaces = self.kinds.of_resource("namespaces").ok_or_else(Failure::no_such_path)?;
            let namespace = self.get(&Key::of(&namespaces, "", &key.namespace));
            let namespace = namespace.ok_or_else(|| Failure::not_found(&namespaces, &key.namespace))?;
            if object::is_ending(namespace) {
                let namespace = &key.namespace;
                let why =
                    format!("unable to create new content in namespace {namespace} because it is being terminated");
                let mut failure = Failure::forbidden(kind, &key.name, &why);
                failure.details["causes"] = json!([{"reason": "NamespaceTerminating", "field": "metadata.namespace",
                    "message": format!("namespace {namespace} is being terminated")}]);
                return Err(failure);
            }
        }
        let webhook = self.webhooks.iter().find(|webhook| webhook.resource == kind.resource());
        webhook.map_or(Ok(()), |webhook| Err(Failure::denied("refuses.landbridge.test", &webhook.message)))
    }

    fn invalid(&self, write: &Write<'_>, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut causes = strategy::invalid_metadata(write.kind, object, old);
        if let Some(schema) = write.kind.schemas.get(&write.target.version) {
            causes.extend(schema::validate(schema, object));
        } else {
            causes.extend(strategy::invalid(write.kind, object, old));
        }
        causes
    }

    /// PUT.
    pub(super) fn update(&mut self, write: &Write<'_>) -> Result<Answer, Failure> {
        let body = patch::document(&write.request.body, &write.request.content_type)?;
        let mut object = object::without_nulls(body);
        write.fits(&mut object)?;
        let old = self.get(&write.key()).cloned();
        let old = old.ok_or_else(|| Failure::not_found(write.kind, &write.target.name))?;
        if write.kind.conditional && object::version(&object) == 0 {
            return Err(Failure::unconditional(write.kind, &write.target.name));
        }
        self.replace(write, &old, object, true)
    }

    /// PATCH.
    pub(super) fn patch(&mut self, write: &Write<'_>) -> Result<Answer, Failure> {
        let patch = Patch::read(write.kind, write.request)?;
        let old = self.get(&write.key()).cloned();
        let Patch::Apply(config) = &patch else {
            let old = old.ok_or_else(|| Failure::not_found(write.kind, &write.target.name))?;
            let seen = shown(write.kind, &write.target.version, &old);
            let mut new = object::without_nulls(patch.onto(&seen, &write.kind.shape(&write.target.version))?);
            write.fits(&mut new)?;
            return self.replace(write, &old, new, true);
        };
        let mut config = config.clone();
        let shape = write.kind.shape(&write.target.version);
        let api_version = write.api_version();
        if object::text(&config, "/apiVersion") != api_version || object::text(&config, "/kind") != write.kind.kind {
            let (group, version) = group_version(object::text(&config, "/apiVersion"));
            let message = format!("invalid object type: {group}/{version}, Kind={}", object::text(&config, "/kind"));
            return Err(Failure::bad_request(message));
        }
        patch::check_applied(write, &shape, &config)?;
        write.fits(&mut config)?;
        let (writer, force) = (write.writer(&api_version), write.request.says("force"));
        let empty = || json!({"apiVersion": api_version, "kind": write.kind.kind, "metadata": {}});
        let before = old.as_ref().map_or_else(empty, |old| shown(write.kind, &write.target.version, old));
        let applied = managed::apply(&shape, &before, &config, &writer, force);
        let mut new = applied.map_err(|conflicts| Failure::applied_over(&conflicts))?;
        match old {
            Some(old) => self.replace(write, &old, new, false),
            None if !write.target.subresource.is_empty() => Err(Failure::not_found(write.kind, &write.target.name)),
            None => {
                object::metadata(&mut new).remove("resourceVersion");
                self.defaulted(write, &mut new);
                self.insert(write, new)
            }
        }
    }

    /// Puts `new` in the place of `old`, as far as the request reaches.
    fn replace(&mut self, write: &Write<'_>, old: &Value, mut new: Value, updates: bool) -> Result<Answer, Failure> {
        let (kind, name) = (write.kind, &write.target.name);
        let (given, version) = (object::version(&new), object::version(old));
        if given != 0 && given != version {
            return Err(Failure::modified(kind, name));
        }
        let given = object::uid(&new);
        if !given.is_empty() && given != object::uid(old) {
            let uid = object::uid(old);
            let (group, custom) = (&kind.group, kind.custom);
            let registry = if custom { format!("{group}/{}", kind.plural) } else { kind.plural.clone() };
            let place = [&registry, &write.target.namespace, name].map(String::as_str).join("/");
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: /registry/{}, ResourceVersion: 0, AdditionalErrorMsg: \
                 Precondition failed: UID in precondition: {given}, UID in object meta: {uid}",
                place.replace("//", "/")
            );
            return Err(Failure::conflict(kind, name, &why));
        }
        self.defaulted(write, &mut new);
        confine(write, old, &mut new);
        if kind.resource() == "services" && write.target.subresource.is_empty() {
            self.addresses.keep(old, &mut new);
        }
        let api_version = write.api_version();
        if updates {
            let before = shown(kind, &write.target.version, old);
            managed::update(&kind.shape(&write.target.version), &before, &mut new, &write.writer(&api_version));
        }
        self.admit(kind, &write.key(), Some(old))?;
        let mut causes = self.invalid(write, &new, Some(old));
        if causes.is_empty() && kind.resource() == "services" {
            causes = self.addresses.give(&mut new, Some(old));
        }
        if !causes.is_empty() {
            return Err(Failure::invalid(kind, name, &causes));
        }
        new["apiVersion"] = api_version_of_storage(kind).into();
        if same_but_times(old, &new) {
            return Ok(write.answer(200, old));
        }
        let key = write.key();
        let finished = object::is_ending(&new) && object::list(&new, "/metadata/finalizers").is_empty();
        let stored = self.put(key.clone(), new);
        if finished {
            self.erase(kind, &key, write.now);
        } else {
            self.settle(kind, &key, write.now);
        }
        Ok(write.answer(200, &stored))
    }
}

fn api_version_of_storage(kind: &Kind) -> String {
    api_version(&kind.group, &kind.storage)
}

/// Takes back what the request cannot change, and counts the generation.
fn confine(write: &Write<'_>, old: &Value, new: &mut Value) {
    let kind = write.kind;
    match write.reach() {
        Reach::All => {}
        Reach::NotStatus => object::carry(old, new, "status"),
        Reach::NotSpec => object::carry(old, new, "spec"),
        Reach::Status => {
            let (status, entries) = (new.get("status").cloned(), new["metadata"].get("managedFields").cloned());
            *new = old.clone();
            new["apiVersion"] = write.api_version().into();
            let given = json!({"status": status, "entries": entries});
            let taken = object::without_nulls(given);
            object::carry(&taken, new, "status");
            match taken.get("entries") {
                Some(entries) => new["metadata"]["managedFields"] = entries.clone(),
                None => {
                    object::metadata(new).remove("managedFields");
                }
            }
        }
    }
    let last = &old["metadata"];
    object::metadata(new);
    for server_gives in
        ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "generation"]
    {
        object::carry(last, &mut new["metadata"], server_gives);
    }
    if kind.generation && strategy::differs(kind, old, new) {
        new["metadata"]["generation"] = (old["metadata"]["generation"].as_u64().unwrap_or(0) + 1).into();
    }
}

/// Whether a write changes nothing but when its manager wrote last.
fn same_but_times(old: &Value, new: &Value) -> bool {
    let timeless = |object: &Value| {
        let mut object = object.clone();
        let entries = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        object
    };
    timeless(old) == timeless(new)
}
