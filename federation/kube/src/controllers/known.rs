//! The objects as they are known now.
//!
//! Owns the values the planner compares. An object is read once, when a watch tells of it, and only what the planner asks of it is
//! kept. While a kind is listed anew its last known objects stay. Never watches and never writes.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    mem,
    sync::Arc,
};

use federation_catalog::desired::{
    Exporters, Present,
    derived_services::PresentService,
    properties::PresentProperty,
    service_imports::PresentImport,
    slices::{GatewayPod, PresentSlice},
    statuses::PresentExport,
};
use federation_model::names::{Namespace, ServiceKey};
use kube::runtime::watcher::Event;

/// How many sets of exporters are shared: more than most cluster sets have, and few enough to look through.
const MAX_SHARED: usize = 4096;

/// One object, read.
#[derive(Debug)]
pub(super) enum Object {
    Namespace(Namespace),
    Service(String, PresentService),
    Slice(String, PresentSlice),
    Import(ServiceKey, Box<PresentImport>),
    Export(ServiceKey, PresentExport),
    Property(String, PresentProperty),
    /// A gateway pod, or one that has ended.
    Gateway(String, Option<GatewayPod>),
}

/// What one watch lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listed {
    Namespaces,
    Services,
    Slices,
    Pods,
    Properties,
    /// Those of a namespace, or of the whole cluster.
    Imports(Option<Namespace>),
    /// Those of a namespace, or of the whole cluster.
    Exports(Option<Namespace>),
}

impl Listed {
    /// The name of the kind, as the API server has it.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Services => "services",
            Self::Slices => "endpointslices",
            Self::Pods => "pods",
            Self::Properties => "clusterproperties",
            Self::Imports(_) => "serviceimports",
            Self::Exports(_) => "serviceexports",
        }
    }
}

/// What one watch has told.
#[derive(Debug)]
struct List {
    of: Listed,
    /// Whether it has listed everything once.
    complete: bool,
    /// What it has listed of a list that is not complete yet.
    next: Vec<Object>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Known {
    present: Present,
    lists: Vec<List>,
    /// The sets of exporters that are shared.
    exporters: BTreeSet<Exporters>,
}

impl Known {
    /// Nothing but the namespaces that are known without a watch.
    pub(super) fn new(namespaces: impl IntoIterator<Item = Namespace>) -> Self {
        let present = Present { namespaces: namespaces.into_iter().collect(), ..Present::default() };
        Self { present, ..Self::default() }
    }

    /// Waits for one more list; the number of its watch.
    pub(super) fn expect(&mut self, of: Listed) -> usize {
        if of == Listed::Properties {
            self.present.properties = Some(BTreeMap::new());
        }
        self.lists.push(List { of, complete: false, next: Vec::new() });
        self.lists.len() - 1
    }

    /// What the watch of this number lists.
    pub(super) fn listed(&self, number: usize) -> Option<&Listed> {
        self.lists.get(number).map(|list| &list.of)
    }

    /// Whether every kind has been listed once.
    pub(super) fn is_complete(&self) -> bool {
        self.lists.iter().all(|list| list.complete)
    }

    /// The objects.
    pub(super) const fn present(&self) -> &Present {
        &self.present
    }

    /// Takes up what the watch of this number tells; whether that changes what is known.
    pub(super) fn take(&mut self, number: usize, event: Event<Option<Object>>) -> bool {
        let Some(list) = self.lists.get_mut(number) else { return false };
        match event {
            Event::Init => {
                list.next.clear();
                false
            }
            Event::InitApply(object) => {
                list.next.extend(object);
                false
            }
            Event::InitDone => {
                list.complete = true;
                let (of, objects) = (list.of.clone(), mem::take(&mut list.next));
                self.forget(&of);
                for object in objects {
                    self.put(object);
                }
                true
            }
            Event::Apply(object) => object.is_some_and(|object| self.put(object)),
            Event::Delete(object) => object.is_some_and(|object| self.remove(object)),
        }
    }

    fn forget(&mut self, of: &Listed) {
        let present = &mut self.present;
        let elsewhere = |key: &ServiceKey, namespace: &Option<Namespace>| {
            namespace.as_ref().is_some_and(|namespace| *namespace != key.namespace)
        };
        match of {
            Listed::Namespaces => present.namespaces.clear(),
            Listed::Services => present.services.clear(),
            Listed::Slices => present.slices.clear(),
            Listed::Pods => present.gateways.clear(),
            Listed::Properties => present.properties = Some(BTreeMap::new()),
            Listed::Imports(namespace) => present.imports.retain(|key, _| elsewhere(key, namespace)),
            Listed::Exports(namespace) => present.exports.retain(|key, _| elsewhere(key, namespace)),
        }
    }

    fn put(&mut self, object: Object) -> bool {
        let present = &mut self.present;
        match object {
            Object::Namespace(name) => present.namespaces.insert(name),
            Object::Service(name, mut service) => {
                share(&mut self.exporters, &mut service.exporters);
                set(&mut present.services, name, service)
            }
            Object::Slice(name, slice) => set(&mut present.slices, name, slice),
            Object::Import(key, mut import) => {
                share(&mut self.exporters, &mut import.exporters);
                set(&mut present.imports, key, *import)
            }
            Object::Export(key, export) => set(&mut present.exports, key, export),
            Object::Property(name, property) => set(present.properties.get_or_insert_default(), name, property),
            Object::Gateway(name, Some(pod)) => set(&mut present.gateways, name, pod),
            Object::Gateway(name, None) => present.gateways.remove(&name).is_some(),
        }
    }

    fn remove(&mut self, object: Object) -> bool {
        let present = &mut self.present;
        match object {
            Object::Namespace(name) => present.namespaces.remove(&name),
            Object::Service(name, _) => present.services.remove(&name).is_some(),
            Object::Slice(name, _) => present.slices.remove(&name).is_some(),
            Object::Import(key, _) => present.imports.remove(&key).is_some(),
            Object::Export(key, _) => present.exports.remove(&key).is_some(),
            Object::Property(name, _) => present.properties.as_mut().is_some_and(|all| all.remove(&name).is_some()),
            Object::Gateway(name, _) => present.gateways.remove(&name).is_some(),
        }
    }
}

/// Puts an equal set in the place of `exporters` where there is one, so that what many objects have is there once.
fn share(shared: &mut BTreeSet<Exporters>, exporters: &mut Exporters) {
    if let Some(same) = shared.get(exporters) {
        *exporters = same.clone();
        return;
    }
    if shared.len() >= MAX_SHARED {
        shared.retain(|exporters| Arc::strong_count(exporters) > 1);
    }
    if shared.len() < MAX_SHARED {
        shared.insert(exporters.clone());
    }
}

/// Whether that is another value than before.
fn set<K: Ord, V: PartialEq>(all: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    match all.entry(key) {
        Entry::Occupied(same) if *same.get() == value => false,
        Entry::Occupied(mut other) => {
            other.insert(value);
            true
        }
        Entry::Vacant(new) => {
            new.insert(value);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Option<Object> {
        Some(Object::Namespace(name.parse().unwrap()))
    }

    fn export(key: &str, generation: i64) -> Option<Object> {
        Some(Object::Export(key.parse().unwrap(), PresentExport { generation, conditions: Vec::new() }))
    }

    fn exports(known: &Known) -> Vec<String> {
        known.present().exports.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_known_stays_while_it_is_listed_anew() {
        let mut known = Known::default();
        let namespaces = known.expect(Listed::Namespaces);
        assert!(!known.take(namespaces, Event::InitApply(namespace("shop"))));
        assert!(!known.is_complete() && known.present().namespaces.is_empty());
        assert!(known.take(namespaces, Event::InitDone));
        assert!(known.is_complete());
        known.take(namespaces, Event::Init);
        known.take(namespaces, Event::InitApply(namespace("bank")));
        assert!(known.is_complete());
        assert_eq!(known.present().namespaces, ["shop".parse().unwrap()].into());
        known.take(namespaces, Event::InitDone);
        assert_eq!(known.present().namespaces, ["bank".parse().unwrap()].into());
    }

    #[test]
    fn a_list_of_one_namespace_leaves_those_of_others_alone() {
        let mut known = Known::default();
        let [shop, bank] = ["shop", "bank"].map(|name| known.expect(Listed::Exports(Some(name.parse().unwrap()))));
        known.take(shop, Event::InitApply(export("shop/cart", 1)));
        known.take(shop, Event::InitDone);
        known.take(bank, Event::InitApply(export("bank/till", 1)));
        known.take(bank, Event::InitDone);
        known.take(shop, Event::Init);
        known.take(shop, Event::InitDone);
        assert_eq!(exports(&known), ["bank/till"]);
    }

    #[test]
    fn only_what_the_planner_would_see_is_a_change() {
        let mut known = Known::default();
        let number = known.expect(Listed::Exports(None));
        assert!(known.take(number, Event::Apply(export("shop/cart", 1))));
        assert!(!known.take(number, Event::Apply(export("shop/cart", 1))), "its labels, perhaps");
        assert!(known.take(number, Event::Apply(export("shop/cart", 2))));
        assert!(!known.take(number, Event::Apply(None)), "an object that cannot be read");
        assert!(known.take(number, Event::Delete(export("shop/cart", 2))));
        assert!(!known.take(number, Event::Delete(export("shop/cart", 2))));
    }
}
