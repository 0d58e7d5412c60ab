//! The structural schema of custom resources: unknown fields fall away, defaults are filled in, the rest is checked.
//!
//! Owns the part of OpenAPI that our definitions use. Rules in CEL are not evaluated.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::failure::Cause;

static ANY: LazyLock<Value> = LazyLock::new(|| json!({}));

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let properties = schema.get("properties").and_then(|properties| properties.get(name));
    properties.or_else(|| schema.get("additionalProperties").filter(|each| each.is_object()))
}

fn is_open(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true || schema["additionalProperties"] == true
}

/// Takes away every field that the schema does not name.
pub(super) fn prune(schema: &Value, object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    for (name, value) in map.iter_mut() {
        if !["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            prune_below(property(schema, name).unwrap_or(&ANY), value);
        }
    }
    let top = ["apiVersion", "kind", "metadata"];
    map.retain(|name, _| top.contains(&name.as_str()) || property(schema, name).is_some() || is_open(schema));
}

fn prune_below(schema: &Value, value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        let embedded = schema["x-kubernetes-embedded-resource"] == true;
        map.retain(|name, _| embedded || is_open(schema) || property(schema, name).is_some());
        for (name, below) in map.iter_mut() {
            if let Some(schema) = property(schema, name) {
                prune_below(schema, below);
            }
        }
    } else if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(|item| prune_below(schema.get("items").unwrap_or(&ANY), item));
    }
}

/// Fills in what the schema says of absent fields.
pub(super) fn default(schema: &Value, value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        for (name, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if let Some(default) = schema.get("default").filter(|_| !map.contains_key(name)) {
                map.insert(name.clone(), default.clone());
            }
        }
        for (name, below) in map.iter_mut() {
            if let Some(schema) = property(schema, name) {
                default(schema, below);
            }
        }
    } else if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(|item| default(schema.get("items").unwrap_or(&ANY), item));
    }
}

/// What is wrong with an object.
pub(super) fn validate(schema: &Value, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut checked = object.clone();
    if let Some(map) = checked.as_object_mut() {
        map.retain(|name, _| !["apiVersion", "kind", "metadata"].contains(&name.as_str()));
    }
    check(schema, &checked, "", &mut causes);
    causes
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check(schema: &Value, value: &Value, at: &str, causes: &mut Vec<Cause>) {
    let (wanted, is) = (schema.get("type").and_then(Value::as_str).unwrap_or_default(), word(value));
    if schema["x-kubernetes-int-or-string"] == true {
        if !["integer", "string"].contains(&is) {
            causes.push(Cause::type_invalid(at, is, &format!("{at} in body must be of type integer,string: {is:?}")));
        }
        return;
    }
    let fits = wanted.is_empty() || wanted == is || (wanted == "number" && is == "integer");
    let absent = is == "null" && schema["nullable"] == true;
    if !fits && !absent {
        causes.push(Cause::type_invalid(at, is, &format!("{at} in body must be of type {wanted}: {is:?}")));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let supported: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        causes.push(Cause::unsupported(at, value, &supported));
    }
    match value {
        Value::String(text) => check_text(schema, text, at, causes),
        Value::Number(_) => check_number(schema, value, at, causes),
        Value::Array(items) => check_list(schema, items, at, causes),
        Value::Object(map) => check_map(schema, map, at, causes),
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_text(schema: &Value, text: &str, at: &str, causes: &mut Vec<Cause>) {
    let length = text.chars().count() as u64;
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        causes.push(Cause::too_long(at, most));
    }
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        let why = format!("{at} in body should be at least {least} chars long");
        causes.push(Cause::invalid(at, &json!(text), &why));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && regex::Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
    {
        let why = format!("{at} in body should match '{pattern}'");
        causes.push(Cause::invalid(at, &json!(text), &why));
    }
}

fn check_number(schema: &Value, number: &Value, at: &str, causes: &mut Vec<Cause>) {
    let value = number.as_f64().unwrap_or(0.0);
    if let Some(least) = schema["minimum"].as_f64().filter(|least| value < *least) {
        causes.push(Cause::invalid(at, number, &format!("{at} in body should be greater than or equal to {least}")));
    }
    if let Some(most) = schema["maximum"].as_f64().filter(|most| value > *most) {
        causes.push(Cause::invalid(at, number, &format!("{at} in body should be less than or equal to {most}")));
    }
}

fn check_list(schema: &Value, items: &[Value], at: &str, causes: &mut Vec<Cause>) {
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| items.len() as u64 > *most) {
        causes.push(Cause::too_many(at, items.len(), most));
    }
    if let Some(least) = schema["minItems"].as_u64().filter(|least| (items.len() as u64) < *least) {
        causes.push(Cause::invalid(
            at,
            &json!(items.len()),
            &format!("{at} in body should have at least {least} items"),
        ));
    }
    let keys: Vec<_> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let is_set = schema["x-kubernetes-list-type"] == "set";
    let mut seen = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let identity = if is_set { item.clone() } else { keys.iter().map(|key| (*key, item[*key].clone())).collect() };
        if (is_set || !keys.is_empty()) && seen.contains(&identity) {
            causes.push(Cause::duplicate(format!("{at}[{index}]"), &identity));
        }
        seen.push(identity);
        check(schema.get("items").unwrap_or(&ANY), item, &format!("{at}[{index}]"), causes);
    }
}

fn check_map(schema: &Value, map: &Map<String, Value>, at: &str, causes: &mut Vec<Cause>) {
    let dot = if at.is_empty() { "" } else { "." };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let checked_elsewhere = at.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name);
        if !map.contains_key(name) && !checked_elsewhere {
            causes.push(Cause::required(format!("{at}{dot}{name}"), ""));
        }
    }
    if let Some(most) = schema["maxProperties"].as_u64().filter(|most| map.len() as u64 > *most) {
        causes.push(Cause::too_many(at, map.len(), most));
    }
    for (name, value) in map {
        if let Some(schema) = property(schema, name) {
            check(schema, value, &format!("{at}{dot}{name}"), causes);
        }
    }
}
