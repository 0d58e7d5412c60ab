//! Reading and writing what every object has.
//!
//! Owns the paths into an object's metadata. Never decides.

use serde_json::{Map, Value, json};

/// The text at a JSON pointer; empty when there is none.
pub(super) fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer; empty when there is none.
pub(super) fn list<'a>(object: &'a Value, at: &str) -> &'a [Value] {
    object.pointer(at).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The texts of the list at a JSON pointer.
pub(super) fn texts<'a>(object: &'a Value, at: &str) -> Vec<&'a str> {
    list(object, at).iter().filter_map(Value::as_str).collect()
}

pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub(super) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

pub(super) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// The resource version; 0 when there is none.
pub(super) fn version(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").parse().unwrap_or(0)
}

/// Whether somebody has asked for its end.
pub(super) fn is_ending(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string)
}

/// The map in a field, made when there is none.
pub(super) fn map_in<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.get(field).is_some_and(Value::is_object) {
        object[field] = json!({});
    }
    object[field].as_object_mut().expect("it has just been made sure that it is a map")
}

pub(super) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    map_in(object, "metadata")
}

/// Sets a field of a map that has none.
pub(super) fn default_to(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    if map.get(field).is_none_or(Value::is_null) {
        map.insert(field.to_owned(), value.into());
    }
}

/// Gives a field of `to` what it is in `from`, or takes it away.
pub(super) fn carry(from: &Value, to: &mut Value, field: &str) {
    if let (Some(map), Some(value)) = (to.as_object_mut(), from.get(field)) {
        map.insert(field.to_owned(), value.clone());
    } else if let Some(map) = to.as_object_mut() {
        map.remove(field);
    }
}

/// The same without fields that are null, which say nothing.
pub(super) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

/// Only what identifies and labels it.
pub(super) fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
