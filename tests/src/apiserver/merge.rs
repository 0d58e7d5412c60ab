//! Typed values: what fields they have, how two differ, one merged into the other, some fields taken out.
//!
//! Owns the walks over values by their [`Shape`], as `structured-merge-diff` does them. Never knows who manages a field.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{fields::FieldSet, shape::Shape};

/// How one object differs from another.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) removed: FieldSet,
    pub(super) modified: FieldSet,
}

/// The fields of an object.
pub(super) fn fields_of(shape: &Shape, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(shape, value, &mut Vec::new(), &mut set);
    set
}

fn collect(shape: &Shape, value: &Value, path: &mut Vec<String>, set: &mut FieldSet) {
    if let Some(map) = value.as_object().filter(|_| !shape.atomic) {
        for (name, below) in map {
            path.push(format!("f:{name}"));
            collect(shape.field(name), below, path, set);
            if below.is_null() || below.as_object().is_some_and(Map::is_empty) || !shape.names(name) {
                set.insert(path);
            }
            path.pop();
        }
    } else if let Some(items) = value.as_array().filter(|_| granular(shape)) {
        for item in items {
            let Some(element) = shape.element(item) else { continue };
            path.push(element);
            collect(shape.item(), item, path, set);
            set.insert(path);
            path.pop();
        }
    } else {
        set.insert(path);
    }
}

fn granular(shape: &Shape) -> bool {
    !shape.atomic && (shape.set || !shape.keys.is_empty())
}

fn is_map(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_object() || value.is_null())
}

fn is_list(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_array() || value.is_null())
}

fn is_empty(value: Option<&Value>) -> bool {
    value.is_none_or(|value| match (value.as_object(), value.as_array()) {
        (Some(map), _) => map.is_empty(),
        (_, Some(list)) => list.is_empty(),
        (None, None) => value.is_null(),
    })
}

/// How `new` differs from `old`.
pub(super) fn compare(shape: &Shape, old: &Value, new: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    comparison.walk(shape, (Some(old), Some(new)), &mut Vec::new());
    comparison
}

type Sides<'a> = (Option<&'a Value>, Option<&'a Value>);

impl Comparison {
    fn walk(&mut self, shape: &Shape, (old, new): Sides<'_>, path: &mut Vec<String>) {
        let both_empty = is_empty(old) && is_empty(new);
        if !both_empty && is_map(old) && is_map(new) && !shape.atomic {
            let (before, after) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            let names = before.into_iter().flatten().chain(after.into_iter().flatten()).map(|(name, _)| name);
            for name in names.collect::<std::collections::BTreeSet<_>>() {
                let sides = (before.and_then(|map| map.get(name)), after.and_then(|map| map.get(name)));
                self.below(format!("f:{name}"), shape.field(name), sides, path);
            }
        } else if !both_empty && is_list(old) && is_list(new) && granular(shape) {
            let mut items: BTreeMap<String, Sides<'_>> = BTreeMap::new();
            for item in old.and_then(Value::as_array).into_iter().flatten() {
                items.entry(shape.element(item).unwrap_or_default()).or_default().0 = Some(item);
            }
            for item in new.and_then(Value::as_array).into_iter().flatten() {
                items.entry(shape.element(item).unwrap_or_default()).or_default().1 = Some(item);
            }
            for (element, sides) in items {
                self.below(element, shape.item(), sides, path);
            }
        } else if old.is_some() && new.is_some() && old != new {
            self.modified.insert(path);
        }
        match (old, new) {
            (None, Some(_)) => self.added.insert(path),
            (Some(_), None) => self.removed.insert(path),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn below(&mut self, element: String, shape: &Shape, sides: Sides<'_>, path: &mut Vec<String>) {
        path.push(element);
        self.walk(shape, sides, path);
        path.pop();
    }

    /// What `keep` leaves of each part.
    pub(super) fn filtered(&self, keep: impl Fn(&FieldSet) -> FieldSet) -> Self {
        Self { added: keep(&self.added), removed: keep(&self.removed), modified: keep(&self.modified) }
    }
}

/// `new` merged into `old`.
pub(super) fn merged(shape: &Shape, old: &Value, new: &Value) -> Value {
    if let (Some(before), Some(after), false) = (old.as_object(), new.as_object(), shape.atomic) {
        let mut result = before.clone();
        for (name, value) in after {
            let value = before.get(name).map_or_else(|| value.clone(), |old| merged(shape.field(name), old, value));
            result.insert(name.clone(), value);
        }
        return Value::Object(result);
    }
    match (old.as_array(), new.as_array(), granular(shape)) {
        (Some(before), Some(after), true) => Value::Array(merged_lists(shape, before, after)),
        (Some(_), _, _) | (None, _, _) => new.clone(),
    }
}

/// The items of both, in an order that keeps that of `new`, and that of `old` as far as it can be.
fn merged_lists(shape: &Shape, old: &[Value], new: &[Value]) -> Vec<Value> {
    let of = |items: &[Value]| items.iter().map(|item| shape.element(item)).collect::<Vec<_>>();
    let (olds, news) = (of(old), of(new));
    let both = |at: usize| {
        let before = olds.iter().position(|element| *element == news[at]);
        before.map_or_else(|| new[at].clone(), |before| merged(shape.item(), &old[before], &new[at]))
    };
    // The items of both that are still to come, in the order of `new`.
    let mut shared = news.iter().filter(|element| olds.contains(element)).peekable();
    let (mut result, mut left, mut right) = (Vec::new(), 0, 0);
    while left < olds.len() || right < news.len() {
        if left < olds.len() && right < news.len() {
            if olds[left] == news[right] {
                result.push(both(right));
                (left, right) = (left + 1, right + 1);
                shared.next();
                continue;
            }
            if news.contains(&olds[left]) && shared.peek().is_some_and(|next| **next != olds[left]) {
                left += 1;
                continue;
            }
        }
        if left < olds.len() {
            if !news.contains(&olds[left]) {
                result.push(old[left].clone());
                left += 1;
                continue;
            }
            if news[..right].contains(&olds[left]) {
                left += 1;
            }
        }
        if right < news.len() {
            result.push(both(right));
            if shared.peek().is_some_and(|next| **next == news[right]) {
                shared.next();
            }
            right += 1;
        }
    }
    result
}

/// The value without these fields; none when nothing is left of what had something.
pub(super) fn without(shape: &Shape, value: &Value, fields: &FieldSet) -> Option<Value> {
    if let Some(map) = value.as_object() {
        if map.is_empty() || shape.atomic {
            return None;
        }
        let (mut left, mut matched) = (Map::new(), false);
        for (name, below) in map {
            let element = format!("f:{name}");
            if fields.has(&element) {
                continue;
            }
            let kept = fields.below(&element).map_or_else(
                || below.clone(),
                |fields| {
                    matched = true;
                    without(shape.field(name), below, fields).unwrap_or_else(|| emptied(below))
                },
            );
            left.insert(name.clone(), kept);
        }
        return (!left.is_empty() || matched).then_some(Value::Object(left));
    }
    if let Some(items) = value.as_array() {
        if items.is_empty() || !granular(shape) {
            return None;
        }
        let (mut left, mut matched) = (Vec::new(), false);
        for item in items {
            let element = shape.element(item).unwrap_or_default();
            if fields.has(&element) {
                continue;
            }
            left.push(fields.below(&element).map_or_else(
                || item.clone(),
                |fields| {
                    matched = true;
                    without(shape.item(), item, fields).unwrap_or_else(|| emptied(item))
                },
            ));
        }
        return (!left.is_empty() || matched).then_some(Value::Array(left));
    }
    Some(value.clone())
}

fn emptied(value: &Value) -> Value {
    match (value.is_object(), value.is_array()) {
        (true, _) => Value::Object(Map::new()),
        (false, true) => Value::Array(Vec::new()),
        (false, false) => Value::Null,
    }
}

/// With every field of a structure that leads to a field of the set in the set too.
pub(super) fn with_parents(shape: &Shape, set: &FieldSet) -> FieldSet {
    let mut result = set.clone();
    mark(shape, &mut result);
    result
}

fn mark(shape: &Shape, set: &mut FieldSet) {
    for (element, below) in set.children_mut() {
        if let Some(name) = element.strip_prefix("f:") {
            if shape.names(name) {
                below.mark();
            }
            mark(shape.field(name), below);
        } else {
            mark(shape.item(), below);
        }
    }
}
