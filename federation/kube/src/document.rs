//! One manifest file becomes objects and faults, document by document.
//!
//! Owns the division of a file into documents and the reading of one document. A fault stays within its document (within
//! its item, for a `List`) and carries the line of the file. Never touches the file system.

use std::fmt;

use federation_catalog::objects::{EndpointSliceObject, Objects, PodObject, ServiceExportObject, ServiceObject};
use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use serde_saphyr::{SnippetMode, Spanned, UserMessageFormatter};

use crate::{
    crd,
    objects::{self, FieldError},
};

/// The policies of Landbridge, which this version does not read.
const POLICY_GROUP: &str = "policy.landbridge.dev";
/// The longest reason that is kept, characters: some errors quote what they found.
const MAX_REASON: usize = 400;

/// The kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Service,
    EndpointSlice,
    Pod,
    ServiceExport,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Service, Self::EndpointSlice, Self::Pod, Self::ServiceExport];

    const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            Self::ServiceExport => "ServiceExport",
        }
    }

    /// The API groups a document of this kind may be meant for, the right one first; others define kinds of the same name.
    const fn groups(self) -> &'static [&'static str] {
        match self {
            Self::Service | Self::Pod => &[""],
            Self::EndpointSlice => &["discovery.k8s.io"],
            // The second is the group of the examples in KEP-1645, for which no resource was ever published.
            Self::ServiceExport => &[crd::GROUP, "multicluster.k8s.io"],
        }
    }

    /// The versions that are read, the preferred one first.
    const fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Service | Self::Pod => &["v1"],
            Self::EndpointSlice => &["discovery.k8s.io/v1"],
            Self::ServiceExport => &["multicluster.x-k8s.io/v1beta1", "multicluster.x-k8s.io/v1alpha1"],
        }
    }
}

/// An object among all of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectId {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

/// One object that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Object {
    Service(ServiceObject),
    EndpointSlice(EndpointSliceObject),
    Pod(PodObject),
    ServiceExport(ServiceExportObject),
}

impl Object {
    pub(crate) fn insert_into(self, objects: &mut Objects) {
        match self {
            Self::Service(service) => drop(objects.insert_service(service)),
            Self::EndpointSlice(slice) => drop(objects.insert_endpoint_slice(slice)),
            Self::Pod(pod) => drop(objects.insert_pod(pod)),
            Self::ServiceExport(export) => drop(objects.insert_service_export(export)),
        }
    }
}

/// Why a document is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: Option<u32>,
    pub(crate) id: Option<ObjectId>,
    pub(crate) reason: String,
}

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// The objects with the lines they start at, in the order of the file.
    pub(crate) objects: Vec<(ObjectId, u32, Object)>,
    pub(crate) faults: Vec<Fault>,
    /// Whether there are policies in it.
    pub(crate) policies: bool,
}

/// Reads a file, YAML or JSON.
pub(crate) fn read(text: &str) -> Reading {
    let mut reading = Reading::default();
    for document in split(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        read_document(&document, &mut reading);
    }
    reading
}

/// One document of a file.
#[derive(Debug, PartialEq, Eq)]
struct Document<'a> {
    text: &'a str,
    /// How many lines of the file precede `text`.
    lines_before: u32,
    /// How many lines of the file precede its first line with content.
    content_before: u32,
}

impl Document<'_> {
    fn line(&self) -> u32 {
        self.content_before.saturating_add(1)
    }
}

/// Divides a file at its document markers. `---` and `...` at the start of a line are markers wherever they stand, even
/// within a block scalar (YAML 1.2.2 section 9.1.2), so the lines alone decide, and a document that does not parse
/// takes no other with it.
fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut start_line) = (0, 0);
    let mut content_line = None;
    let (mut offset, mut line_number) = (0, 0_u32);
    for line in text.split_inclusive('\n') {
        if is_marker(line, "---") || is_marker(line, "...") {
            if let Some(content_before) = content_line.take() {
                documents.push(Document { text: &text[start..offset], lines_before: start_line, content_before });
            }
            // A document may start on the line of its marker; what follows "..." may only be a comment.
            (start, start_line) = (offset, line_number);
            if is_marker(line, "...") {
                (start, start_line) = (offset + line.len(), line_number.saturating_add(1));
            } else if has_content(&line[3..]) {
                content_line = Some(line_number);
            }
        } else if content_line.is_none() && has_content(line) {
            content_line = Some(line_number);
        }
        offset += line.len();
        line_number = line_number.saturating_add(1);
    }
    if let Some(content_before) = content_line {
        documents.push(Document { text: &text[start..], lines_before: start_line, content_before });
    }
    documents
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether a line says anything: blank lines, comments and directives (`%YAML 1.2`) do not.
fn has_content(line: &str) -> bool {
    let line = line.trim();
    !(line.is_empty() || line.starts_with('#') || line.starts_with('%'))
}

/// The fields that say which object a document is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<HeadMetadata>,
}

#[derive(Debug, Default, Deserialize)]
struct HeadMetadata {
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<Spanned<Value>>,
}

/// What a head announces.
enum Announced {
    Object(ObjectId),
    /// A list, and what its items are when they do not say so.
    List(Option<Kind>),
    Policy,
    /// Nothing that is read.
    Ignored(String),
}

fn read_document(document: &Document<'_>, reading: &mut Reading) {
    let announced = match parse_yaml::<Head>(document).and_then(|head| announce(head, document.line())) {
        Ok(announced) => announced,
        Err(fault) => return reading.faults.push(fault),
    };
    match announced {
        Announced::Object(id) => match parse_object(&id, &YamlSource(document)) {
            Ok(object) => reading.objects.push((id, document.line(), object)),
            Err(fault) => reading.faults.push(fault),
        },
        Announced::List(kind) => read_list(document, kind, reading),
        Announced::Policy => reading.policies = true,
        Announced::Ignored(what) => tracing::debug!(line = document.line(), %what, "a kind that is not read"),
    }
}

fn read_list(document: &Document<'_>, kind: Option<Kind>, reading: &mut Reading) {
    let list = match parse_yaml::<List>(document) {
        Ok(list) => list,
        Err(fault) => return reading.faults.push(fault),
    };
    for item in list.items {
        let line = u32::try_from(item.referenced.line()).unwrap_or(u32::MAX).saturating_add(document.lines_before);
        let source = JsonSource { value: item.value, line };
        let announced = source.parse::<Head>(None).and_then(|mut head| {
            if let Some(kind) = kind {
                head.kind.get_or_insert_with(|| kind.name().to_owned());
                head.api_version.get_or_insert_with(|| kind.api_versions()[0].to_owned());
            }
            announce(head, line)
        });
        match announced {
            Ok(Announced::Object(id)) => match parse_object(&id, &source) {
                Ok(object) => reading.objects.push((id, line, object)),
                Err(fault) => reading.faults.push(fault),
            },
            Ok(Announced::List(_)) => {
                let reason = "a list within a list is not read: move its items up".to_owned();
                reading.faults.push(Fault { line: Some(line), id: None, reason });
            }
            Ok(Announced::Policy) => reading.policies = true,
            Ok(Announced::Ignored(what)) => tracing::debug!(line, %what, "a kind that is not read"),
            Err(fault) => reading.faults.push(fault),
        }
    }
}

fn announce(head: Head, line: u32) -> Result<Announced, Fault> {
    let fault = |id, reason: String| Err(Fault { line: Some(line), id, reason });
    let (Some(api_version), Some(kind_name)) = (head.api_version, head.kind) else {
        return fault(None, "this is not a Kubernetes object: apiVersion and kind must both be set".to_owned());
    };
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    if group == POLICY_GROUP {
        return Ok(Announced::Policy);
    }
    let meant = |kind: &Kind| kind.groups().contains(&group);
    if let Some(item) = kind_name.strip_suffix("List") {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == item).filter(meant);
        return Ok(match (kind, item, group) {
            (None, "", "") => Announced::List(None),
            (Some(kind), _, _) => Announced::List(Some(kind)),
            (None, _, _) => Announced::Ignored(format!("{api_version} {kind_name}")),
        });
    }
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == kind_name).filter(meant) else {
        return Ok(Announced::Ignored(format!("{api_version} {kind_name}")));
    };
    let metadata = head.metadata.unwrap_or_default();
    let Some(name) = metadata.name.filter(|name| !name.is_empty()) else {
        return fault(None, format!("this {kind_name} has no metadata.name"));
    };
    let namespace = metadata.namespace.filter(|namespace| !namespace.is_empty());
    let namespace = namespace.unwrap_or_else(|| objects::DEFAULT_NAMESPACE.to_owned());
    let id = ObjectId { kind, namespace, name };
    if !kind.api_versions().contains(&api_version.as_str()) {
        let wanted = kind.api_versions().join(" or ");
        return fault(Some(id), format!("apiVersion {api_version} is not read: write {wanted}"));
    }
    Ok(Announced::Object(id))
}

/// Where an object is parsed from.
trait Source {
    fn parse<T: DeserializeOwned>(&self, id: Option<&ObjectId>) -> Result<T, Fault>;
    fn line(&self) -> u32;
}

struct YamlSource<'a>(&'a Document<'a>);

impl Source for YamlSource<'_> {
    fn parse<T: DeserializeOwned>(&self, id: Option<&ObjectId>) -> Result<T, Fault> {
        parse_yaml(self.0).map_err(|fault| Fault { id: id.cloned(), ..fault })
    }
    fn line(&self) -> u32 {
        self.0.line()
    }
}

/// An item of a list.
struct JsonSource {
    value: Value,
    line: u32,
}

impl Source for JsonSource {
    fn parse<T: DeserializeOwned>(&self, id: Option<&ObjectId>) -> Result<T, Fault> {
        let fault = |error: serde_json::Error| Fault {
            line: Some(self.line),
            id: id.cloned(),
            reason: shortened(&error.to_string()),
        };
        T::deserialize(&self.value).map_err(fault)
    }
    fn line(&self) -> u32 {
        self.line
    }
}

fn parse_object(id: &ObjectId, source: &impl Source) -> Result<Object, Fault> {
    let field = |error: FieldError| Fault {
        line: Some(source.line()),
        id: Some(id.clone()),
        reason: shortened(&error.to_string()),
    };
    Ok(match id.kind {
        Kind::Service => Object::Service(objects::service(&source.parse::<v1::Service>(Some(id))?).map_err(field)?),
        Kind::EndpointSlice => {
            Object::EndpointSlice(objects::endpoint_slice(&source.parse::<EndpointSlice>(Some(id))?).map_err(field)?)
        }
        Kind::Pod => Object::Pod(objects::pod(&source.parse::<v1::Pod>(Some(id))?).map_err(field)?),
        Kind::ServiceExport => Object::ServiceExport(
            objects::service_export(&source.parse::<crd::ServiceExport>(Some(id))?).map_err(field)?,
        ),
    })
}

fn parse_yaml<T: DeserializeOwned>(document: &Document<'_>) -> Result<T, Fault> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(document.text, options).map_err(|error| {
        let line = error.location().and_then(|location| u32::try_from(location.line()).ok());
        let rendering = serde_saphyr::render_options! {
            formatter: &UserMessageFormatter,
            snippets: SnippetMode::Off,
            line_offset: u64::from(document.lines_before),
        };
        Fault {
            line: Some(line.map_or_else(|| document.line(), |line| line.saturating_add(document.lines_before))),
            id: None,
            reason: shortened(&error.render_with_options(rendering)),
        }
    })
}

/// A reason on one line, within its limit.
fn shortened(reason: &str) -> String {
    let line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests;
