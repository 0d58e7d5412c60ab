//! Label and field selectors.
//!
//! Owns their grammar. Never reads an object but for its labels and the selected fields.

use serde_json::Value;

use super::{failure::Failure, kinds::Kind, object, request::Request};

/// What an object must be to be seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    labels: Vec<(String, Wanted)>,
    fields: Vec<(String, Wanted)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// The fields by which objects can be selected beyond their name and namespace.
const FIELDS: &[(&str, &[&str])] = &[
    ("pods", &["spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP"]),
    ("services", &["spec.clusterIP", "spec.type"]),
    ("namespaces", &["status.phase"]),
    ("secrets", &["type"]),
    ("events", &["involvedObject.kind", "involvedObject.name", "involvedObject.namespace", "reason", "type"]),
    ("events.events.k8s.io", &["regarding.kind", "regarding.name", "regarding.namespace", "reason", "type"]),
];

impl Selector {
    /// Reads both selectors of a query.
    ///
    /// # Errors
    /// When one cannot be understood, or selects by a field that cannot be.
    pub(super) fn read(kind: &Kind, request: &Request) -> Result<Self, Failure> {
        Self::of(kind, request.parameter("labelSelector"), request.parameter("fieldSelector"))
    }

    fn of(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Failure> {
        let labels = terms(labels).into_iter().map(|term| label(&term)).collect::<Result<_, _>>()?;
        let fields = terms(fields).into_iter().map(|term| field(kind, &term)).collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Whether the object is selected.
    pub(super) fn matches(&self, value: &Value) -> bool {
        let label = |key: &String| value.pointer("/metadata/labels").and_then(|labels| labels.get(key)?.as_str());
        let labels = self.labels.iter().all(|(key, wanted)| wanted.holds(label(key)));
        let field = |path: &String| object::text(value, &format!("/{}", path.replace('.', "/")));
        labels && self.fields.iter().all(|(path, wanted)| wanted.holds(Some(field(path))))
    }
}

impl Wanted {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::In(values) => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Self::NotIn(values) => value.is_none_or(|value| values.iter().all(|unwanted| unwanted != value)),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
        }
    }
}

/// The terms between commas that are in no parentheses.
fn terms(text: &str) -> Vec<String> {
    let (mut terms, mut depth) = (vec![String::new()], 0_u32);
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if character == ',' && depth == 0 {
            terms.push(String::new());
        } else if let Some(term) = terms.last_mut() {
            term.push(character);
        }
    }
    terms.into_iter().map(|term| term.trim().to_owned()).filter(|term| !term.is_empty()).collect()
}

fn label(term: &str) -> Result<(String, Wanted), Failure> {
    for (word, not) in [(" notin ", true), (" in ", false)] {
        if let Some((key, values)) = term.split_once(word) {
            let values = values.trim().strip_prefix('(').and_then(|values| values.strip_suffix(')'));
            let values = values.ok_or_else(|| unreadable(term))?;
            let values: Vec<_> = values.split(',').map(|value| value.trim().to_owned()).collect();
            return Ok((key.trim().to_owned(), if not { Wanted::NotIn(values) } else { Wanted::In(values) }));
        }
    }
    if let Some(compared) = comparison(term) {
        return Ok(compared);
    }
    let (key, wanted) = term.strip_prefix('!').map_or((term, Wanted::Exists), |key| (key.trim(), Wanted::Absent));
    if key.is_empty() || key.contains([' ', '(', ')']) { Err(unreadable(term)) } else { Ok((key.to_owned(), wanted)) }
}

fn comparison(term: &str) -> Option<(String, Wanted)> {
    for (sign, not) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = term.split_once(sign) {
            let values = vec![value.trim().to_owned()];
            return Some((key.trim().to_owned(), if not { Wanted::NotIn(values) } else { Wanted::In(values) }));
        }
    }
    None
}

fn field(kind: &Kind, term: &str) -> Result<(String, Wanted), Failure> {
    let (path, wanted) = comparison(term)
        .ok_or_else(|| Failure::bad_request(format!("invalid selector: '{term}'; can't understand '{term}'")))?;
    let own = FIELDS.iter().find(|(resource, _)| *resource == kind.resource()).map(|(_, fields)| *fields);
    if ["metadata.name", "metadata.namespace"].contains(&&*path) || own.unwrap_or_default().contains(&&*path) {
        return Ok((path, wanted));
    }
    Err(Failure::bad_request(if own.is_some() || kind.custom {
        format!("field label not supported: {path}")
    } else {
        format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    }))
}

fn unreadable(term: &str) -> Failure {
    Failure::bad_request(format!("unable to parse requirement: {term:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apiserver::kinds::Kinds;

    fn read(kind: &str, labels: &str, fields: &str) -> Result<Selector, Failure> {
        Selector::of(&Kinds::new().of_resource(kind).unwrap(), labels, fields)
    }

    #[test]
    fn labels_are_selected_by_equality_and_by_sets() {
        let pod = json!({"metadata": {"name": "a", "labels": {"app": "web", "tier": "front"}}});
        for (selector, wanted) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (web, api),tier", true),
            ("app notin (web)", false),
            ("none notin (web)", true),
            ("!none", true),
            ("!app", false),
            ("none", false),
            ("none!=x", true),
        ] {
            assert_eq!(read("pods", selector, "").unwrap().matches(&pod), wanted, "{selector}");
        }
        assert!(read("pods", "app in web", "").is_err());
    }

    #[test]
    fn fields_are_selected_by_equality() {
        let pod = json!({"metadata": {"name": "a", "namespace": "shop"}});
        let selects = |fields| read("pods", "", fields).unwrap().matches(&pod);
        assert!(selects("metadata.name=a,metadata.namespace!=other"));
        assert!(!selects("metadata.name=b"));
        assert!(read("pods", "", "status.phase!=Failed").is_ok());
        assert!(read("configmaps", "", "status.phase!=Failed").is_err());
        assert!(read("pods", "", "spec.color=red").is_err());
    }
}
