//! Who manages which field: server-side apply, and what every other write does to `metadata.managedFields`.
//!
//! Owns the two operations, as `structured-merge-diff` and `apimachinery/managedfields` define them. Never stores an object.

use serde_json::{Value, json};

use super::{
    fields::FieldSet,
    merge::{Comparison, compare, fields_of, merged, with_parents, without},
    shape::Shape,
};

/// What nobody manages.
const UNMANAGED: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "metadata.name",
    "metadata.namespace",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "metadata.uid",
    "metadata.clusterName",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.resourceVersion",
];

/// Which fields a write can change at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// All of them.
    All,
    /// All but the status.
    NotStatus,
    /// All but the specification: the status of a built-in kind.
    NotSpec,
    /// The status of a custom resource.
    Status,
}

impl Reach {
    fn keep(self, set: &FieldSet) -> FieldSet {
        match self {
            Self::All => set.clone(),
            Self::NotStatus => set.without("status"),
            Self::NotSpec => set.without("spec"),
            Self::Status => set.only("status"),
        }
    }
}

/// Who writes, how and when.
#[derive(Debug, Clone)]
pub(super) struct Writer<'a> {
    pub(super) manager: &'a str,
    pub(super) api_version: &'a str,
    /// Empty for the object itself.
    pub(super) subresource: &'a str,
    pub(super) reach: Reach,
    pub(super) now: &'a str,
}

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: String,
    applied: bool,
    api_version: String,
    subresource: String,
    time: String,
    fields: FieldSet,
}

/// Somebody else manages what was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    /// The other, as messages write it.
    pub(super) manager: String,
    /// The field, as messages write it.
    pub(super) field: String,
}

impl Entry {
    fn of(writer: &Writer<'_>, applied: bool, fields: FieldSet) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            applied,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: writer.now.to_owned(),
            fields,
        }
    }

    fn same_manager(&self, other: &Self) -> bool {
        let same =
            (&self.manager, self.applied, &self.subresource) == (&other.manager, other.applied, &other.subresource);
        same && (self.applied || self.api_version == other.api_version)
    }

    fn read(json: &Value) -> Self {
        let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            manager: text("manager"),
            applied: text("operation") == "Apply",
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields: json.get("fieldsV1").map(FieldSet::from_json).unwrap_or_default(),
        }
    }

    fn to_json(&self) -> Value {
        let mut json = json!({
            "manager": self.manager,
            "operation": if self.applied { "Apply" } else { "Update" },
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_json(),
        });
        if !self.time.is_empty() {
            json["time"] = self.time.clone().into();
        }
        if !self.subresource.is_empty() {
            json["subresource"] = self.subresource.clone().into();
        }
        json
    }

    fn shown(&self) -> String {
        let mut shown = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            shown.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if !self.applied {
            shown.push_str(&format!(" using {}", self.api_version));
        }
        shown
    }
}

fn entries_of(object: &Value) -> Vec<Entry> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().map(Entry::read).collect()
}

fn bare(object: &Value) -> Value {
    let mut bare = object.clone();
    if let Some(metadata) = bare.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    bare
}

fn store(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    let order = |entry: &Entry| {
        (
            !entry.applied,
            entry.time.clone(),
            entry.manager.clone(),
            entry.api_version.clone(),
            entry.subresource.clone(),
        )
    };
    entries.sort_by_key(order);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if !entries.is_empty() {
            metadata.insert("managedFields".to_owned(), entries.iter().map(Entry::to_json).collect());
        }
    }
}

/// Writes into `new` who manages its fields now that `writer` has made it of `old`.
pub(super) fn update(shape: &Shape, old: &Value, new: &mut Value, writer: &Writer<'_>) {
    let given = new.pointer("/metadata/managedFields").and_then(Value::as_array);
    // An empty entry asks to forget all managers; an absent list asks for nothing.
    let forget =
        given.is_some_and(|given| given.len() == 1 && given[0].as_object().is_some_and(|entry| entry.is_empty()));
    let mut entries = match given {
        Some(_) if forget => Vec::new(),
        Some(given) if !given.is_empty() => given.iter().map(Entry::read).collect(),
        Some(_) | None => entries_of(old),
    };
    let mut me = Entry::of(writer, false, FieldSet::default());
    let (bare_old, bare_new) = (bare(old), bare(new));
    let difference = compare(shape, &bare_old, &bare_new).filtered(|set| writer.reach.keep(set));
    take_from_others(&mut entries, &me, &difference);
    let mine = entries.iter().position(|entry| entry.same_manager(&me)).map(|at| entries.remove(at));
    let before = mine.as_ref().map(|mine| mine.fields.clone()).unwrap_or_default();
    let fields = before.difference(&difference.removed).union(&difference.modified).union(&difference.added);
    me.fields = writer.reach.keep(&fields).difference(&FieldSet::of(UNMANAGED));
    keep_time(&mut me, mine.as_ref());
    entries.push(me);
    store(new, entries);
}

fn keep_time(me: &mut Entry, before: Option<&Entry>) {
    if let Some(before) = before.filter(|before| before.fields == me.fields) {
        me.time.clone_from(&before.time);
    }
}

fn take_from_others(entries: &mut [Entry], me: &Entry, difference: &Comparison) {
    let changed = difference.modified.union(&difference.added).union(&difference.removed);
    for entry in entries.iter_mut().filter(|entry| !entry.same_manager(me)) {
        entry.fields = entry.fields.difference(&changed);
    }
}

/// What `old` becomes when `writer` applies `config` to it.
///
/// # Errors
/// Every field of another manager that would change, unless `force`.
pub(super) fn apply(
    shape: &Shape,
    old: &Value,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Vec<Conflict>> {
    let (mut entries, bare_old) = (entries_of(old), bare(old));
    let mut me = Entry::of(writer, true, writer.reach.keep(&fields_of(shape, config)));
    let last = entries.iter().position(|entry| entry.same_manager(&me)).map(|at| entries.remove(at));
    let mut new = merged(shape, &bare_old, config);
    if let Some(last) = &last {
        let owned = entries.iter().fold(me.fields.clone(), |owned, entry| owned.union(&entry.fields));
        new = pruned(shape, &new, &last.fields, &owned);
    }
    let difference = compare(shape, &bare_old, &new).filtered(|set| writer.reach.keep(set));
    let changed = difference.modified.union(&difference.added);
    let conflicts: Vec<_> = entries.iter().flat_map(|entry| conflicts(entry, &changed)).collect();
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    take_from_others(&mut entries, &me, &difference);
    me.fields = me.fields.difference(&FieldSet::of(UNMANAGED));
    if new == bare_old {
        // The time is that of the last change of the object: who only joins in has none.
        me.time = last.map(|last| last.time).unwrap_or_default();
    }
    entries.push(me);
    store(&mut new, entries);
    Ok(new)
}

fn conflicts(entry: &Entry, changed: &FieldSet) -> Vec<Conflict> {
    let fields = entry.fields.intersection(changed).paths();
    fields.into_iter().map(|field| Conflict { manager: entry.shown(), field }).collect()
}

/// Without what was applied last time and is owned by nobody now. An item that holds something of others stays.
fn pruned(shape: &Shape, merged: &Value, last: &FieldSet, owned: &FieldSet) -> Value {
    let last = with_parents(shape, last);
    let empty = || Value::Object(serde_json::Map::new());
    let pruned = without(shape, merged, &last).unwrap_or_else(empty);
    let all = with_parents(shape, &fields_of(shape, merged));
    let left = with_parents(shape, &fields_of(shape, &pruned)).union(&with_parents(shape, owned));
    let pruned = without(shape, merged, &all.difference(&left)).unwrap_or_else(empty);
    let left = with_parents(shape, &fields_of(shape, &pruned));
    without(shape, merged, &all.difference(&left).intersection(&last)).unwrap_or_else(empty)
}
