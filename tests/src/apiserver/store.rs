//! What the API server holds: objects by name, and the log of what became of them.
//!
//! Owns both, and the revision that orders them. Never reads a clock, never waits; who may ask is decided before.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    kinds::{Kind, Kinds},
    object,
    service::Addresses,
};

/// Events that are remembered; a watch from before the oldest has expired. Many times what the tests write at once.
const LOG: usize = 50_000;

/// Where an object is: resource, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn of(kind: &Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.namespaced { namespace } else { "" };
        Self { resource: kind.resource(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// What became of an object.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) revision: u64,
    pub(super) key: Key,
    /// As it is after it; as it was last, when it is gone.
    pub(super) object: Arc<Value>,
    /// None when it is new.
    pub(super) before: Option<Arc<Value>>,
    pub(super) gone: bool,
}

/// A refusal of writes that a webhook would give.
#[derive(Debug, Clone)]
pub(super) struct Webhook {
    pub(super) resource: String,
    pub(super) message: String,
}

/// Everything.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) kinds: Kinds,
    pub(super) addresses: Addresses,
    pub(super) webhooks: Vec<Webhook>,
    /// Which Kubernetes 1 it says it is.
    pub(super) minor: u32,
    objects: BTreeMap<Key, Arc<Value>>,
    log: VecDeque<Event>,
    revision: u64,
    compacted: u64,
    /// By the UID of an owner, the objects that name it.
    owned: BTreeMap<String, BTreeSet<Key>>,
    uids: BTreeSet<String>,
    seed: u64,
    made: u64,
}

impl Store {
    /// An empty one; the names and UIDs it makes follow from the seed.
    pub(super) fn new(seed: u64, dual_stack: bool) -> Self {
        Self {
            kinds: Kinds::new(),
            addresses: Addresses::new(dual_stack),
            webhooks: Vec::new(),
            minor: 33,
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            revision: 1,
            compacted: 0,
            owned: BTreeMap::new(),
            uids: BTreeSet::new(),
            seed,
            made: 0,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The newest revision from which no watch can start.
    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Forgets what was before now.
    pub(super) fn compact(&mut self) {
        self.compacted = self.revision;
        self.log.clear();
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// The objects of a resource, of one namespace or of all.
    pub(super) fn of<'a>(
        &'a self,
        resource: &str,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> + use<'a> {
        let first = Key { resource: resource.to_owned(), namespace: namespace.to_owned(), name: String::new() };
        let (resource, namespace) = (first.resource.clone(), first.namespace.clone());
        self.objects.range((Bound::Included(first), Bound::Unbounded)).take_while(move |(key, _)| {
            key.resource == resource && (namespace.is_empty() || key.namespace == namespace)
        })
    }

    /// Everything in a namespace.
    pub(super) fn within(&self, namespace: &str) -> Vec<Key> {
        self.objects.keys().filter(|key| key.namespace == namespace).cloned().collect()
    }

    /// The objects that name this UID as an owner.
    pub(super) fn owned_by(&self, uid: &str) -> Vec<Key> {
        self.owned.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Whether the object names owners of which none is there.
    pub(super) fn is_garbage(&self, value: &Value) -> bool {
        let owners = object::list(value, "/metadata/ownerReferences");
        !owners.is_empty() && !owners.iter().any(|owner| self.uids.contains(object::text(owner, "/uid")))
    }

    /// What happened after a revision.
    pub(super) fn since(&self, revision: u64) -> impl DoubleEndedIterator<Item = &Event> {
        let first = self.log.partition_point(|event| event.revision <= revision);
        self.log.range(first..)
    }

    /// Puts the object there, with the next revision.
    pub(super) fn put(&mut self, key: Key, mut value: Value) -> Arc<Value> {
        self.revision += 1;
        object::metadata(&mut value).insert("resourceVersion".to_owned(), json!(self.revision.to_string()));
        let value = Arc::new(value);
        let before = self.objects.insert(key.clone(), value.clone());
        if let Some(before) = &before {
            self.forget(&key, before);
        }
        self.uids.insert(object::uid(&value).to_owned());
        for owner in object::list(&value, "/metadata/ownerReferences") {
            self.owned.entry(object::text(owner, "/uid").to_owned()).or_default().insert(key.clone());
        }
        self.record(Event { revision: self.revision, key, object: value.clone(), before, gone: false });
        value
    }

    /// Takes the object away; what it was last, with the revision of its end.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?;
        self.forget(key, &before);
        self.revision += 1;
        let mut last = Value::clone(&before);
        object::metadata(&mut last).insert("resourceVersion".to_owned(), json!(self.revision.to_string()));
        let last = Arc::new(last);
        let event =
            Event { revision: self.revision, key: key.clone(), object: last.clone(), before: Some(before), gone: true };
        self.record(event);
        Some(last)
    }

    fn forget(&mut self, key: &Key, value: &Value) {
        self.uids.remove(object::uid(value));
        for owner in object::list(value, "/metadata/ownerReferences") {
            let uid = object::text(owner, "/uid");
            if let Some(owned) = self.owned.get_mut(uid) {
                owned.remove(key);
                if owned.is_empty() {
                    self.owned.remove(uid);
                }
            }
        }
    }

    fn record(&mut self, event: Event) {
        self.log.push_back(event);
        if self.log.len() > LOG
            && let Some(oldest) = self.log.pop_front()
        {
            self.compacted = oldest.revision;
        }
    }

    /// Some letters and digits that no other call of this store has given.
    pub(super) fn fresh(&mut self) -> [u8; 16] {
        self.made += 1;
        // SplitMix64, twice: unlike in all other stores with another seed, and the same again with the same.
        let mut state = self.seed.wrapping_add(self.made.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        let (high, low) = (next(), next());
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    pub(super) fn fresh_uid(&mut self) -> String {
        let mut bytes = self.fresh();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
    }

    /// Five letters for a generated name.
    pub(super) fn fresh_suffix(&mut self) -> String {
        /// No vowels, and nothing that looks like another: as `apimachinery/util/rand`.
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.fresh().iter().take(5).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
    }
}
