//! What the watches have told, object by object.
//!
//! Owns the objects in force: a list that is under way changes nothing until it is complete, and then what it does not hold is gone;
//! of an object that is at fault the last good version stays. Never waits, and names no type of an API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use federation_catalog::objects::{ObjectKey, Objects, Shared};
use federation_model::{
    names::{Namespace, ServiceKey},
    policy::{BrokenPolicy, PolicyKey, PolicyKind},
};

use super::watched::{WatchId, Watched};
use crate::{
    document::{Fault, Kind, Object, ObjectId, UnreadPolicy, refused},
    manifests::{Manifests, Quarantined},
    objects::FieldError,
};

/// The most objects at fault that are told of; policies are told of and refuse without a limit.
const MAX_QUARANTINED: usize = 1_000;

/// An object by namespace and name, as the API server writes them; a namespace has none itself.
pub(super) type Name = (String, String);

/// What an object says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    Object(Box<Object>),
    Fault(Box<Fault>),
    /// That it is there.
    Name,
}

impl Reading {
    pub(super) fn of(read: Result<Object, FieldError>) -> Self {
        match read {
            Ok(object) => Self::Object(Box::new(object)),
            Err(error) => Self::Fault(Box::new(Fault::new(None, error.to_string()))),
        }
    }
}

/// What happens on a watch.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// A list begins; one that was under way is void.
    Restarted,
    /// An object of the list.
    Listed(Name, Reading),
    /// The list is complete.
    Complete,
    /// An object came or changed.
    Applied(Name, Reading),
    /// An object is gone.
    Deleted(Name),
    /// The kind is gone, with all its objects.
    Absent,
}

/// The objects of a cluster.
#[derive(Debug)]
pub(super) struct Store {
    /// The namespace whose policies hold for the services of all namespaces.
    root: Namespace,
    objects: Objects,
    namespaces: Arc<BTreeSet<Namespace>>,
    /// Why the newest version of an object is not in force.
    faults: BTreeMap<ObjectId, Fault>,
    /// The lists that are under way.
    lists: BTreeMap<WatchId, BTreeMap<Name, Reading>>,
    changed: bool,
}

impl Store {
    /// A store that knows nothing but these namespaces.
    pub(super) fn new(root: Namespace, namespaces: BTreeSet<Namespace>) -> Self {
        Self {
            root,
            objects: Objects::default(),
            namespaces: Arc::new(namespaces),
            faults: BTreeMap::new(),
            lists: BTreeMap::new(),
            changed: false,
        }
    }

    /// Whether something changed since the manifests were last asked for.
    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    /// How many objects of a kind are in force.
    pub(super) fn count(&self, watched: Watched) -> usize {
        let Objects { services, endpoint_slices, pods, service_exports, policies } = &self.objects;
        match watched {
            Watched::Namespaces => self.namespaces.len(),
            Watched::Services => services.len(),
            Watched::EndpointSlices => endpoint_slices.len(),
            Watched::Pods => pods.len(),
            Watched::ServiceExports => service_exports.len(),
            Watched::AuthorizationPolicies => policies.authorization.len(),
            Watched::PeerAuthentications => policies.authentication.len(),
        }
    }

    /// Takes over what happened on a watch.
    pub(super) fn handle_event(&mut self, watch: &WatchId, event: Event) {
        match event {
            Event::Restarted => drop(self.lists.insert(watch.clone(), BTreeMap::new())),
            Event::Listed(name, reading) => {
                if let Some(list) = self.lists.get_mut(watch) {
                    list.insert(name, reading);
                }
            }
            Event::Complete => {
                if let Some(list) = self.lists.remove(watch) {
                    self.replace(watch, list);
                }
            }
            Event::Applied(name, reading) => self.apply(watch.watched, name, reading),
            Event::Deleted(name) => self.remove(watch.watched, &name),
            Event::Absent => {
                self.lists.remove(watch);
                self.replace(watch, BTreeMap::new());
            }
        }
    }

    /// A list says what there is, and by that what there is not.
    fn replace(&mut self, watch: &WatchId, list: BTreeMap<Name, Reading>) {
        for name in self.names(watch) {
            if !list.contains_key(&name) {
                self.remove(watch.watched, &name);
            }
        }
        for (name, reading) in list {
            self.apply(watch.watched, name, reading);
        }
    }

    fn apply(&mut self, watched: Watched, name: Name, reading: Reading) {
        match (reading, watched.kind()) {
            (Reading::Object(object), Some(kind)) => {
                self.changed |= self.faults.remove(&id(kind, name)).is_some();
                self.changed |= object.insert_into(&mut self.objects);
            }
            (Reading::Fault(fault), Some(kind)) => {
                let id = id(kind, name);
                self.changed |= self.faults.get(&id) != Some(&*fault);
                self.faults.insert(id, *fault);
            }
            (Reading::Name, _) => {
                if let Ok(namespace) = name.1.parse::<Namespace>()
                    && !self.namespaces.contains(&namespace)
                {
                    Arc::make_mut(&mut self.namespaces).insert(namespace);
                    self.changed = true;
                }
            }
            (Reading::Object(_) | Reading::Fault(_), None) => {}
        }
    }

    fn remove(&mut self, watched: Watched, name: &Name) {
        let Some(kind) = watched.kind() else {
            if let Some(namespace) = name.1.parse().ok().filter(|name| self.namespaces.contains(name)) {
                Arc::make_mut(&mut self.namespaces).remove(&namespace);
                self.changed = true;
            }
            return;
        };
        self.changed |= self.faults.remove(&id(kind, name.clone())).is_some();
        self.changed |= remove(&mut self.objects, kind, name);
    }

    /// What is known of the kind and the namespace of a watch, in force or at fault.
    fn names(&self, watch: &WatchId) -> BTreeSet<Name> {
        let Some(kind) = watch.watched.kind() else {
            return self.namespaces.iter().map(|name| (String::new(), name.to_string())).collect();
        };
        let mut names = names(&self.objects, kind);
        let at_fault = self.faults.keys().filter(|id| id.kind == kind);
        names.extend(at_fault.map(|id| (id.namespace.clone(), id.name.clone())));
        if let Some(namespace) = &watch.namespace {
            names.retain(|(of, _)| of == namespace.as_str());
        }
        names
    }

    /// What is in force now, and what is not.
    pub(super) fn manifests(&mut self) -> Manifests {
        self.changed = false;
        let mut broken = BTreeMap::new();
        let mut quarantined = Vec::new();
        for (id, fault) in &self.faults {
            let note = self.note(id, fault, &mut broken);
            if quarantined.len() < MAX_QUARANTINED || fault.policy.is_some() {
                quarantined.push(Quarantined {
                    file: None,
                    line: None,
                    object: Some(id.to_string()),
                    reason: format!("{}{note}", fault.reason),
                });
            }
        }
        if self.objects.policies.broken != broken {
            Arc::make_mut(&mut self.objects.policies).broken = broken;
        }
        quarantined.sort();
        Manifests {
            objects: self.objects.clone(),
            namespaces: Some(self.namespaces.clone()),
            quarantined,
            policy_origins: BTreeMap::new(),
        }
    }

    /// What follows from a fault.
    fn note(
        &self,
        id: &ObjectId,
        fault: &Fault,
        broken: &mut BTreeMap<(PolicyKind, PolicyKey), BrokenPolicy>,
    ) -> String {
        if is_in_force(&self.objects, id) {
            return "; its last good version stays in force".to_owned();
        }
        match fault.policy.as_deref() {
            None => String::new(),
            Some(UnreadPolicy::Audit) => "; it only audits, so nothing is refused for it".to_owned(),
            Some(UnreadPolicy::Refusing { kind, namespace, services }) => {
                let namespace = namespace.clone().unwrap_or_else(|| self.root.clone());
                let note = format!("; {} until it is mended", refused(&self.root, &namespace, services));
                let policy = BrokenPolicy { services: services.clone(), reason: fault.reason.clone() };
                broken.insert((*kind, PolicyKey { namespace, name: id.name.clone() }), policy);
                note
            }
        }
    }
}

fn id(kind: Kind, (namespace, name): Name) -> ObjectId {
    ObjectId { kind, namespace, name }
}

fn service_key((namespace, name): &Name) -> Option<ServiceKey> {
    Some(ServiceKey::new(namespace.parse().ok()?, name.parse().ok()?))
}

fn object_key((namespace, name): &Name) -> Option<ObjectKey> {
    Some(ObjectKey { namespace: namespace.parse().ok()?, name: name.as_str().into() })
}

fn policy_key((namespace, name): &Name) -> Option<PolicyKey> {
    Some(PolicyKey { namespace: namespace.parse().ok()?, name: name.clone() })
}

fn remove(objects: &mut Objects, kind: Kind, name: &Name) -> bool {
    fn take<K: Ord + Clone, V>(objects: &mut Shared<K, V>, key: Option<K>) -> bool {
        let key = key.filter(|key| objects.contains_key(key));
        key.is_some_and(|key| Arc::make_mut(objects).remove(&key).is_some())
    }
    if kind.policy().is_some() && !is_in_force(objects, &id(kind, name.clone())) {
        return false;
    }
    match kind {
        Kind::Service => take(&mut objects.services, service_key(name)),
        Kind::ServiceExport => take(&mut objects.service_exports, service_key(name)),
        Kind::EndpointSlice => take(&mut objects.endpoint_slices, object_key(name)),
        Kind::Pod => take(&mut objects.pods, object_key(name)),
        Kind::AuthorizationPolicy => policy_key(name)
            .is_some_and(|key| Arc::make_mut(&mut objects.policies).authorization.remove(&key).is_some()),
        Kind::PeerAuthentication => policy_key(name)
            .is_some_and(|key| Arc::make_mut(&mut objects.policies).authentication.remove(&key).is_some()),
    }
}

fn is_in_force(objects: &Objects, id: &ObjectId) -> bool {
    let name = &(id.namespace.clone(), id.name.clone());
    let policies = &objects.policies;
    match id.kind {
        Kind::Service => service_key(name).is_some_and(|key| objects.services.contains_key(&key)),
        Kind::ServiceExport => service_key(name).is_some_and(|key| objects.service_exports.contains_key(&key)),
        Kind::EndpointSlice => object_key(name).is_some_and(|key| objects.endpoint_slices.contains_key(&key)),
        Kind::Pod => object_key(name).is_some_and(|key| objects.pods.contains_key(&key)),
        Kind::AuthorizationPolicy => policy_key(name).is_some_and(|key| policies.authorization.contains_key(&key)),
        Kind::PeerAuthentication => policy_key(name).is_some_and(|key| policies.authentication.contains_key(&key)),
    }
}

fn names(objects: &Objects, kind: Kind) -> BTreeSet<Name> {
    let service = |key: &ServiceKey| (key.namespace.to_string(), key.name.to_string());
    let object = |key: &ObjectKey| (key.namespace.to_string(), key.name.to_string());
    let policy = |key: &PolicyKey| (key.namespace.to_string(), key.name.clone());
    match kind {
        Kind::Service => objects.services.keys().map(service).collect(),
        Kind::ServiceExport => objects.service_exports.keys().map(service).collect(),
        Kind::EndpointSlice => objects.endpoint_slices.keys().map(object).collect(),
        Kind::Pod => objects.pods.keys().map(object).collect(),
        Kind::AuthorizationPolicy => objects.policies.authorization.keys().map(policy).collect(),
        Kind::PeerAuthentication => objects.policies.authentication.keys().map(policy).collect(),
    }
}

#[cfg(test)]
mod tests;
