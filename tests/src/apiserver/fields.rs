//! A set of fields of an object, as `managedFields` writes it (FieldsV1).
//!
//! Owns the algebra of such sets. Never knows what a field means.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of paths. An element of a path is written as in FieldsV1: `f:name`, `k:{"port":80}`, `v:"x"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    member: bool,
    children: BTreeMap<String, Self>,
}

impl FieldSet {
    /// The set of these paths of plain names, each written with dots.
    pub(super) fn of(paths: &[&str]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.split('.').map(|name| format!("f:{name}")).collect::<Vec<_>>());
        }
        set
    }

    pub(super) fn insert(&mut self, path: &[String]) {
        let mut at = self;
        for element in path {
            at = at.children.entry(element.clone()).or_default();
        }
        at.member = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    /// Whether the path of this one element is in the set.
    pub(super) fn has(&self, element: &str) -> bool {
        self.children.get(element).is_some_and(|child| child.member)
    }

    /// What is below this element, when anything is.
    pub(super) fn below(&self, element: &str) -> Option<&Self> {
        self.children.get(element).filter(|child| child.children.values().any(|below| !below.is_empty()))
    }

    /// The elements that begin a path, each with what follows it.
    pub(super) fn children_mut(&mut self) -> impl Iterator<Item = (&String, &mut Self)> {
        self.children.iter_mut()
    }

    /// Makes the path that ends here one of the set.
    pub(super) fn mark(&mut self) {
        self.member = true;
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.member |= other.member;
        for (element, theirs) in &other.children {
            let mine = result.children.entry(element.clone()).or_default();
            *mine = mine.union(theirs);
        }
        result
    }

    /// What is in both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let both = |(element, mine): (&String, &Self)| {
            let set = mine.intersection(other.children.get(element)?);
            (!set.is_empty()).then(|| (element.clone(), set))
        };
        Self { member: self.member && other.member, children: self.children.iter().filter_map(both).collect() }
    }

    /// What is here and not there, path by path.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let left = |(element, mine): (&String, &Self)| {
            let set = other.children.get(element).map_or_else(|| mine.clone(), |theirs| mine.difference(theirs));
            (!set.is_empty()).then(|| (element.clone(), set))
        };
        Self { member: self.member && !other.member, children: self.children.iter().filter_map(left).collect() }
    }

    /// Without this field and all below it.
    pub(super) fn without(&self, field: &str) -> Self {
        let mut result = self.clone();
        result.children.remove(&format!("f:{field}"));
        result
    }

    /// This field and all below it, nothing else.
    pub(super) fn only(&self, field: &str) -> Self {
        let name = format!("f:{field}");
        let children = self.children.get(&name).map(|child| (name, child.clone()));
        Self { member: false, children: children.into_iter().collect() }
    }

    /// Every path, as messages write it: `.spec.ports[port=80,protocol="TCP"].name`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        if self.member {
            paths.push(prefix.to_owned());
        }
        for (element, child) in &self.children {
            child.collect(&format!("{prefix}{}", shown(element)), paths);
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        map.extend(self.children.iter().map(|(element, child)| (element.clone(), child.to_json())));
        Value::Object(map)
    }

    pub(super) fn from_json(json: &Value) -> Self {
        Self { member: false, ..Self::read(json) }
    }

    fn read(json: &Value) -> Self {
        let Some(map) = json.as_object() else { return Self::default() };
        let children = map.iter().filter(|(element, _)| *element != ".");
        Self {
            member: map.is_empty() || map.contains_key("."),
            children: children.map(|(element, below)| (element.clone(), Self::read(below))).collect(),
        }
    }
}

/// An element of a path, as messages write it.
pub(super) fn shown(element: &str) -> String {
    if let Some(name) = element.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(value) = element.strip_prefix("v:") {
        return format!("[={value}]");
    }
    let keys = element.strip_prefix("k:").and_then(|keys| serde_json::from_str::<BTreeMap<String, Value>>(keys).ok());
    let keys = keys.unwrap_or_default().into_iter().map(|(key, value)| format!("{key}={value}"));
    format!("[{}]", keys.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_set_survives_json() {
        let json = json!({
            "f:spec": {"f:ports": {".": {}, r#"k:{"port":80,"protocol":"TCP"}"#: {".": {}, "f:name": {}}}, "f:type": {}},
        });
        let set = FieldSet::from_json(&json);
        assert_eq!(set.to_json(), json);
        let paths = set.paths();
        assert_eq!(
            paths,
            [
                ".spec.ports",
                r#".spec.ports[port=80,protocol="TCP"]"#,
                r#".spec.ports[port=80,protocol="TCP"].name"#,
                ".spec.type"
            ]
        );
    }

    #[test]
    fn what_is_taken_away_leaves_what_is_below() {
        let set = FieldSet::of(&["spec", "spec.type", "spec.ports"]);
        let left = set.difference(&FieldSet::of(&["spec", "spec.type", "other"]));
        assert_eq!(left, FieldSet::of(&["spec.ports"]));
        assert_eq!(set.intersection(&FieldSet::of(&["spec", "status"])), FieldSet::of(&["spec"]));
        assert_eq!(left.union(&FieldSet::of(&["status"])), FieldSet::of(&["spec.ports", "status"]));
        assert!(set.difference(&set).is_empty());
    }
}
