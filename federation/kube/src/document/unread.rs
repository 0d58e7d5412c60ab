//! What a policy selects that cannot be read.
//!
//! Owns the reading of what is left: the head of a document that is no YAML, the services of a policy with a fault
//! elsewhere. Every doubt selects more, because what is selected here is refused: a policy that is not in force must not let
//! in what it would have kept out. Never repairs a policy.

use federation_model::{
    names::Namespace,
    policy::{PolicyKind, pattern::ServicePattern},
};
use serde_json::Value;

use super::{Head, source};
use crate::{crd::policy::GROUP, objects};

/// What a policy does that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnreadPolicy {
    /// Nothing: it is an AUDIT, which decides nothing when it is read either.
    Audit,
    /// It refuses calls.
    Refusing {
        /// Its kind; that of a document that may be any policy is `Authorization`.
        kind: PolicyKind,
        /// Its namespace; nothing when it cannot be told, so that it may be any.
        namespace: Option<Namespace>,
        /// The services it selects; none when that cannot be told, so that it may be all.
        services: Vec<ServicePattern>,
    },
}

impl UnreadPolicy {
    /// What `value`, an object of the kind `kind`, says of itself; nothing as `value` says nothing.
    pub(super) fn new(kind: PolicyKind, namespace: Option<&str>, value: Option<&Value>) -> Box<Self> {
        let absent = Value::Null;
        let spec = value.map_or(&absent, |value| &value["spec"]);
        if kind == PolicyKind::Authorization && spec["action"] == "AUDIT" {
            return Box::new(Self::Audit);
        }
        let services = match kind {
            PolicyKind::Authorization => of_targets(&spec["to"]),
            PolicyKind::Authentication => of_services(&spec["services"]),
        };
        let namespace = namespace.and_then(|namespace| namespace.parse().ok());
        Box::new(Self::Refusing { kind, namespace, services: services.unwrap_or_default() })
    }
}

/// The services of every rule; nothing when one of the rules does not say.
fn of_targets(rules: &Value) -> Option<Vec<ServicePattern>> {
    let rules = rules.as_array()?.iter().map(|rule| of_services(&rule["services"]));
    Some(rules.collect::<Option<Vec<_>>>()?.concat())
}

fn of_services(list: &Value) -> Option<Vec<ServicePattern>> {
    let patterns = list.as_array().filter(|list| !list.is_empty())?.iter();
    patterns.map(|text| objects::policy::service("services", text.as_str()?).ok()).collect()
}

/// The most services that a reason names.
const MAX_SHOWN: usize = 5;

/// What a policy of `namespace` does that cannot be read, in words; `root` is the namespace whose policies hold for all.
pub(crate) fn refused(root: &Namespace, namespace: &Namespace, services: &[ServicePattern]) -> String {
    let services = match services {
        [] => "every service".to_owned(),
        some if some.len() <= MAX_SHOWN => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        many => format!("the {} services it selects", many.len()),
    };
    let of = if namespace == root { String::new() } else { format!(" of namespace {namespace}") };
    format!("calls to {services}{of} are refused")
}

/// Whether a text speaks of the policies of Landbridge other than in a comment of its own line.
pub(crate) fn mentions_policies(text: &str) -> bool {
    text.lines().any(|line| line.contains(GROUP) && !line.trim_start().starts_with('#'))
}

/// The head of a document that is no YAML as a whole: of every field of the first level that is.
pub(super) fn head(text: &str) -> Head {
    let mut head = Head::default();
    for part in parts(text) {
        let Some(found) = source::fragment::<Head>(part) else { continue };
        head.api_version = head.api_version.or(found.api_version);
        head.kind = head.kind.or(found.kind);
        head.metadata = head.metadata.or(found.metadata);
    }
    head
}

/// A document in block style, divided at the keys of its first level.
fn parts(text: &str) -> Vec<&str> {
    let starts_key = |line: &str| line.starts_with(|c: char| c.is_ascii_alphabetic());
    let mut starts = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if starts_key(line) {
            starts.push(offset);
        }
        offset += line.len();
    }
    let ends = starts.iter().copied().skip(1).chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect()
}
