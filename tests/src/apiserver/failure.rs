//! The refusals of an API server: objects of kind Status.
//!
//! Owns their codes, reasons, details and words, which are those of `apimachinery/api/errors`. Never decides to refuse.

use serde_json::{Value, json};

use super::{kinds::Kind, managed::Conflict};

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    /// The HTTP status.
    pub(super) code: u16,
    /// The word for programs; may be empty.
    pub(super) reason: &'static str,
    /// The sentence for people.
    pub(super) message: String,
    /// What of it programs may want to know; null for nothing.
    pub(super) details: Value,
    /// With what a list that has expired may go on all the same.
    pub(super) inconsistent: Option<String>,
    /// Seconds after which to ask again.
    pub(super) retry_after: Option<u64>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    reason: &'static str,
    field: String,
    message: String,
}

impl Cause {
    pub(super) fn required(field: impl Into<String>, detail: &str) -> Self {
        let colon = if detail.is_empty() { "" } else { ": " };
        Self { reason: "FieldValueRequired", field: field.into(), message: format!("Required value{colon}{detail}") }
    }

    pub(super) fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value}: {detail}") }
    }

    pub(super) fn type_invalid(field: impl Into<String>, value: &str, detail: &str) -> Self {
        let message = format!("Invalid value: {value:?}: {detail}");
        Self { reason: "FieldValueTypeInvalid", field: field.into(), message }
    }

    pub(super) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self { reason: "FieldValueDuplicate", field: field.into(), message: format!("Duplicate value: {value}") }
    }

    pub(super) fn unsupported(field: impl Into<String>, value: &Value, supported: &[String]) -> Self {
        let supported = supported.join(", ");
        let message = format!("Unsupported value: {value}: supported values: {supported}");
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    pub(super) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {detail}") }
    }

    pub(super) fn too_long(field: impl Into<String>, most: u64) -> Self {
        let message = format!("Too long: may not be more than {most} bytes");
        Self { reason: "FieldValueTooLong", field: field.into(), message }
    }

    pub(super) fn too_many(field: impl Into<String>, count: usize, most: u64) -> Self {
        let message = format!("Too many: {count}: must have at most {most} items");
        Self { reason: "FieldValueTooMany", field: field.into(), message }
    }

    fn shown(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }
}

impl Failure {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null, inconsistent: None, retry_after: None }
    }

    fn about(code: u16, reason: &'static str, kind: &Kind, name: &str) -> Self {
        let details = details(&kind.group, &kind.plural, name);
        Self { details, ..Self::new(code, reason, "") }
    }

    fn saying(self, message: String) -> Self {
        Self { message, ..self }
    }

    /// The group is served, and not the path.
    pub(super) fn no_such_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self { details: json!({}), ..Self::new(404, "NotFound", message) }
    }

    /// Nobody serves the path; this is no Status, but plain text.
    pub(super) fn no_such_path() -> Self {
        Self::new(404, "", "404 page not found\n")
    }

    /// Whether it is said in plain text.
    pub(super) fn is_plain(&self) -> bool {
        self.code == 404 && self.reason.is_empty()
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::about(404, "NotFound", kind, name).saying(format!("{} {name:?} not found", kind.resource()))
    }

    pub(super) fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::about(409, "AlreadyExists", kind, name).saying(format!("{} {name:?} already exists", kind.resource()))
    }

    pub(super) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.resource());
        Self::about(409, "Conflict", kind, name).saying(message)
    }

    /// The resource version of a write is not the newest.
    pub(super) fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    pub(super) fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let resource = kind.resource();
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {name:?} is forbidden: {why}")
        };
        Self::about(403, "Forbidden", kind, name).saying(message)
    }

    pub(super) fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        let shown: Vec<_> = causes.iter().map(Cause::shown).collect();
        let shown = if let [only] = &shown[..] { only.clone() } else { format!("[{}]", shown.join(", ")) };
        let group = if kind.group.is_empty() { String::new() } else { format!(".{}", kind.group) };
        let mut details = details(&kind.group, &kind.kind, name);
        let cause = |cause: &Cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field});
        details["causes"] = causes.iter().map(cause).collect();
        let message = format!("{}{group} {name:?} is invalid: {shown}", kind.kind);
        Self { details, ..Self::new(422, "Invalid", message) }
    }

    /// An update names no resource version, where it must.
    pub(super) fn unconditional(kind: &Kind, name: &str) -> Self {
        let cause = Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
        // The resource where all others have the kind: so it is in the registry of the real one.
        Self::invalid(&Kind { kind: kind.plural.clone(), ..kind.clone() }, name, &[cause])
    }

    /// The precondition of a deletion does not hold.
    pub(super) fn precondition(kind: &Kind, name: &str, why: &str) -> Self {
        Self::conflict(&Kind { plural: kind.kind.clone(), ..kind.clone() }, name, why)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// The resource version is older than what is remembered.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self { details: json!({}), ..Self::new(405, "MethodNotAllowed", message) }
    }

    pub(super) fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// What an admission webhook says.
    pub(super) fn denied(webhook: &str, why: &str) -> Self {
        Self::new(403, "Forbidden", format!("admission webhook {webhook:?} denied the request: {why}"))
    }

    /// Other managers own what was applied.
    pub(super) fn applied_over(conflicts: &[Conflict]) -> Self {
        let message = match conflicts {
            [only] => format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.field),
            many => {
                let mut lines = Vec::new();
                let managers: std::collections::BTreeSet<_> = many.iter().map(|conflict| &conflict.manager).collect();
                for manager in managers {
                    lines.push(format!("conflicts with {manager}:"));
                    let of = many.iter().filter(|conflict| conflict.manager == *manager);
                    lines.extend(of.map(|conflict| format!("- {}", conflict.field)));
                }
                format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
            }
        };
        let cause = |conflict: &Conflict| {
            let message = format!("conflict with {}", conflict.manager);
            json!({"reason": "FieldManagerConflict", "message": message, "field": conflict.field})
        };
        let causes: Value = conflicts.iter().map(cause).collect();
        Self { details: json!({"causes": causes}), ..Self::new(409, "Conflict", message) }
    }

    /// As it is answered.
    pub(super) fn to_json(&self) -> Value {
        let mut json = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            json["reason"] = self.reason.into();
        }
        if let Some(token) = &self.inconsistent {
            json["metadata"]["continue"] = token.clone().into();
        }
        if !self.details.is_null() {
            json["details"] = self.details.clone();
        }
        json
    }
}

/// What a status is about.
pub(super) fn details(group: &str, kind: &str, name: &str) -> Value {
    let mut details = json!({"kind": kind});
    for (key, value) in [("group", group), ("name", name)] {
        if !value.is_empty() {
            details[key] = value.into();
        }
    }
    details
}
