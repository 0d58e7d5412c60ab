//! Strategic merge patches of built-in kinds.
//!
//! Owns the merging of maps, of lists by key, and the directives `$patch`, `$retainKeys`, `$setElementOrder` and
//! `$deleteFromPrimitiveList`. The key of a list is the first of those of server-side apply, which is so for every list of
//! the table.

use serde_json::{Map, Value};

use super::{failure::Failure, shape::Shape};

/// The object with the patch merged into it.
///
/// # Errors
/// When a directive is unknown.
pub(super) fn merged(shape: &Shape, old: &Value, patch: &Value) -> Result<Value, Failure> {
    let Some(changes) = patch.as_object() else { return Ok(patch.clone()) };
    match changes.get("$patch").and_then(Value::as_str) {
        Some("replace") => return Ok(Value::Object(plain(changes))),
        Some("delete") => return Ok(Value::Object(Map::new())),
        Some("merge") | None => {}
        Some(other) => return Err(Failure::bad_request(format!("Unknown patch type found: {other}"))),
    }
    let mut new = old.as_object().cloned().unwrap_or_default();
    if let Some(retained) = changes.get("$retainKeys").and_then(Value::as_array) {
        new.retain(|name, _| retained.iter().any(|kept| kept == name));
    }
    for (name, change) in changes.iter().filter(|(name, _)| !name.starts_with('$')) {
        if change.is_null() {
            new.remove(name);
            continue;
        }
        let before = new.get(name).cloned().unwrap_or(Value::Null);
        let shape = shape.field(name);
        let value = if let Some(items) = change.as_array() {
            lists(shape, &before, items)?
        } else if change.is_object() {
            merged(shape, &before, change)?
        } else {
            change.clone()
        };
        new.insert(name.clone(), value);
    }
    for (directive, values) in changes {
        if let Some(list) = directive.strip_prefix("$deleteFromPrimitiveList/").and_then(|name| new.get_mut(name))
            && let (Some(items), Some(deleted)) = (list.as_array_mut(), values.as_array())
        {
            items.retain(|item| !deleted.contains(item));
        }
    }
    Ok(Value::Object(new))
}

fn plain(changes: &Map<String, Value>) -> Map<String, Value> {
    changes
        .iter()
        .filter(|(name, _)| !name.starts_with('$'))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn lists(shape: &Shape, old: &Value, changes: &[Value]) -> Result<Value, Failure> {
    let mut items = old.as_array().cloned().unwrap_or_default();
    let replaces = |change: &Value| {
        change.get("$patch").is_some_and(|directive| directive == "replace")
            && change.as_object().is_some_and(|map| map.len() == 1)
    };
    if changes.iter().any(replaces) {
        return Ok(changes.iter().filter(|change| !replaces(change)).cloned().collect());
    }
    if shape.set {
        items.extend(changes.iter().filter(|change| !items.contains(change)).cloned().collect::<Vec<_>>());
        return Ok(Value::Array(items));
    }
    let Some((key, _)) = shape.keys.first() else { return Ok(Value::Array(changes.to_vec())) };
    for change in changes {
        let at = items.iter().position(|item| item.get(key) == change.get(key) && change.get(key).is_some());
        let deletes = change.get("$patch").is_some_and(|directive| directive == "delete");
        match (at, deletes) {
            (Some(at), true) => drop(items.remove(at)),
            (Some(at), false) => items[at] = merged(shape.item(), &items[at], change)?,
            (None, true) => {}
            (None, false) => items.push(merged(shape.item(), &Value::Null, change)?),
        }
    }
    Ok(Value::Array(items))
}
