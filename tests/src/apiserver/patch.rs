//! The bodies of writes: documents, and the kinds of patches.
//!
//! Owns their reading, and what each makes of an object; an apply patch is merged elsewhere. Never stores.

use serde_json::{Value, json};

use super::{
    failure::{Cause, Failure},
    kinds::Kind,
    merge, object, protobuf,
    request::Request,
    shape::Shape,
    strategic,
    write::Write,
};

/// A patch, read.
#[derive(Debug, Clone)]
pub(super) enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// RFC 6902.
    Json(json_patch::Patch),
    /// Of Kubernetes, for built-in kinds.
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
}

/// An object in JSON or YAML.
///
/// # Errors
/// When it is neither, or in another language.
pub(super) fn document(body: &[u8], content_type: &str) -> Result<Value, Failure> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if kind.contains("protobuf") || kind.contains("cbor") {
        let accepted = "application/json, application/yaml";
        return protobuf::object(body).ok_or_else(|| Failure::unsupported_media_type(accepted));
    }
    if kind.contains("yaml") {
        let text = std::str::from_utf8(body).map_err(|error| Failure::bad_request(error.to_string()))?;
        return serde_saphyr::from_str(text)
            .map_err(|error| Failure::bad_request(format!("error decoding YAML: {error}")));
    }
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("couldn't get version/kind; json parse error: {error}")))
}

impl Patch {
    /// Reads the patch of a request.
    ///
    /// # Errors
    /// When its kind is unknown, or not possible for this kind of object.
    pub(super) fn read(kind: &Kind, request: &Request) -> Result<Self, Failure> {
        let media = request.content_type.split(';').next().unwrap_or_default().trim();
        match media {
            "application/merge-patch+json" => Ok(Self::Merge(document(&request.body, "")?)),
            "application/json-patch+json" => {
                let patch = serde_json::from_slice(&request.body);
                let patch = patch.map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))?;
                Ok(Self::Json(patch))
            }
            "application/strategic-merge-patch+json" if !kind.custom => {
                Ok(Self::Strategic(document(&request.body, "")?))
            }
            "application/apply-patch+yaml" => {
                let config = object::without_nulls(document(&request.body, "yaml")?);
                if request.parameter("fieldManager").is_empty() {
                    let group = "meta.k8s.io".to_owned();
                    let options = Kind { group, kind: "PatchOptions".to_owned(), ..kind.clone() };
                    let cause = Cause::required("fieldManager", "is required for apply patch");
                    return Err(Failure::invalid(&options, "", &[cause]));
                }
                Ok(Self::Apply(config))
            }
            "" | "text/plain" => Err(Failure {
                details: json!({}),
                ..Failure::new(415, "UnsupportedMediaType", "415: Unsupported Media Type")
            }),
            _ => {
                let strategic = if kind.custom { "" } else { "application/strategic-merge-patch+json, " };
                let accepted = format!(
                    "application/json-patch+json, application/merge-patch+json, {strategic}application/apply-patch+yaml"
                );
                Err(Failure::unsupported_media_type(&accepted))
            }
        }
    }

    /// What the object becomes.
    ///
    /// # Errors
    /// When the patch does not fit it.
    pub(super) fn onto(&self, old: &Value, shape: &Shape) -> Result<Value, Failure> {
        let mut new = old.clone();
        match self {
            Self::Merge(patch) => json_patch::merge(&mut new, patch),
            Self::Json(patch) => json_patch::patch(&mut new, patch).map_err(|_| {
                let message = "the server rejected our request due to an error in our request";
                Failure { details: json!({}), ..Failure::new(422, "Invalid", message) }
            })?,
            Self::Strategic(patch) => new = strategic::merged(shape, &new, patch)?,
            Self::Apply(config) => new = merge::merged(shape, &new, config),
        }
        Ok(new)
    }
}

/// Whether what is applied can be: without managers of its own, only fields of the schema, no item of a list twice.
///
/// # Errors
/// When it cannot be.
pub(super) fn check_applied(write: &Write<'_>, shape: &Shape, config: &Value) -> Result<(), Failure> {
    if config.pointer("/metadata/managedFields").is_some() {
        return Err(Failure::bad_request("metadata.managedFields must be nil"));
    }
    let mut errors = Vec::new();
    untyped(shape, config, "", &mut errors);
    if errors.is_empty() {
        return Ok(());
    }
    let (namespace, name) = (object::namespace(config), object::name(config));
    let version = if write.kind.group.is_empty() {
        format!("/{}", write.target.version)
    } else {
        write.kind.api_version(&write.target.version)
    };
    let errors = if errors.len() == 1 { errors.concat() } else { format!("errors:\n  {}", errors.join("\n  ")) };
    let object = format!("({namespace}/{name}; {version}, Kind={})", write.kind.kind);
    Err(Failure::new(500, "", format!("failed to create typed patch object {object}: {errors}")))
}

fn untyped(shape: &Shape, value: &Value, path: &str, errors: &mut Vec<String>) {
    for (name, below) in value.as_object().into_iter().flatten() {
        let at = format!("{path}.{name}");
        if shape.closed && !shape.fields.contains_key(name) {
            errors.push(format!("{at}: field not declared in schema"));
        } else {
            untyped(shape.field(name), below, &at, errors);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        let element = if shape.atomic { None } else { shape.element(item) };
        if let Some(element) = &element
            && !seen.insert(element.clone())
        {
            errors.push(format!("{path}: duplicate entries for key {}", super::fields::shown(element)));
        }
        let at = element
            .map_or_else(|| format!("{path}[{index}]"), |element| path.to_owned() + &super::fields::shown(&element));
        untyped(shape.item(), item, &at, errors);
    }
}
