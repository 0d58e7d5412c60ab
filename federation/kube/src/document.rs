//! One manifest file becomes objects and faults, document by document.
//!
//! Owns the division of a file into documents and the reading of one document. A fault stays within its document (within
//! its item, for a `List`) and carries the line of the file. Never touches the file system.

use federation_model::policy::PolicyKind;
use k8s_openapi::{
    api::{core::v1, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::{
    crd::{self, policy},
    objects::{self, FieldError},
};

pub(crate) mod division;
mod kind;
mod source;
mod unread;

use division::{Document, split};
pub(crate) use kind::{Kind, Object, ObjectId};
use source::{Item, Source};
pub(crate) use unread::{UnreadPolicy, mentions_policies, refused};

/// Why a document is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: Option<u32>,
    pub(crate) id: Option<ObjectId>,
    pub(crate) reason: String,
    /// What follows from it, when the document is a policy or may be one.
    pub(crate) policy: Option<Box<UnreadPolicy>>,
}

impl Fault {
    pub(crate) fn new(line: Option<u32>, reason: String) -> Self {
        Self { line, id: None, reason, policy: None }
    }

    /// A fault of what may be any policy of any namespace.
    pub(crate) fn of_any_policy(self) -> Self {
        Self { policy: Some(UnreadPolicy::new(PolicyKind::Authorization, None, None)), ..self }
    }
}

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// The objects with the lines they start at, in the order of the file.
    pub(crate) objects: Vec<(ObjectId, u32, Object)>,
    pub(crate) faults: Vec<Fault>,
}

/// Reads a file, YAML or JSON.
pub(crate) fn read(text: &str) -> Reading {
    let mut reading = Reading::default();
    for document in split(text) {
        read_document(&document, &mut reading);
    }
    reading
}

/// Reads an object of which the kind and the namespace are known, such as one that an API server keeps.
pub(crate) fn read_value(kind: Kind, namespace: &str, value: Value) -> Result<Object, Fault> {
    parse_object(kind, &Item { value, line: 0 }, namespace)
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

impl Head {
    fn group(&self) -> Option<&str> {
        self.api_version.as_deref().map(|version| version.split_once('/').map_or("", |(group, _)| group))
    }

    fn name(&self) -> Option<&str> {
        self.metadata.as_ref()?.name.as_deref().filter(|name| !name.is_empty())
    }

    /// The namespace; of an object with a name that is [`objects::DEFAULT_NAMESPACE`] when none is written.
    fn namespace(&self) -> Option<&str> {
        let written = self.metadata.as_ref()?.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        written.or_else(|| self.name().map(|_| objects::DEFAULT_NAMESPACE))
    }

    fn id(&self, kind: Kind) -> Option<ObjectId> {
        let (namespace, name) = (self.namespace()?, self.name()?);
        Some(ObjectId { kind, namespace: namespace.to_owned(), name: name.to_owned() })
    }
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
    /// Nothing that is read.
    Ignored(String),
}

fn read_document(document: &Document<'_>, reading: &mut Reading) {
    match announced(document, None) {
        Ok(Announced::List(kind)) => read_list(document, kind, reading),
        other => read_object(document, other, reading),
    }
}

fn read_list(document: &Document<'_>, kind: Option<Kind>, reading: &mut Reading) {
    let list = match document.parse::<List>() {
        Ok(list) => list,
        Err(fault) => return reading.faults.push(may_be_a_policy(fault, document)),
    };
    for item in list.items {
        let line = u32::try_from(item.referenced.line()).unwrap_or(u32::MAX).saturating_add(document.lines_before);
        let item = Item { value: item.value, line };
        match announced(&item, kind) {
            Ok(Announced::List(_)) => {
                let fault = item.fault("a list within a list is not read: move its items up");
                reading.faults.push(may_be_a_policy(fault, &item));
            }
            other => read_object(&item, other, reading),
        }
    }
}

/// Reads what is no list.
fn read_object(source: &impl Source, announced: Result<Announced, Fault>, reading: &mut Reading) {
    match announced {
        Ok(Announced::Object(id)) => match parse_object(id.kind, source, &id.namespace) {
            Ok(object) => reading.objects.push((id, source.line(), object)),
            Err(fault) => reading.faults.push(Fault { id: Some(id), ..fault }),
        },
        Ok(Announced::Ignored(what)) => tracing::debug!(line = source.line(), %what, "a kind that is not read"),
        Ok(Announced::List(_)) => {}
        Err(fault) => reading.faults.push(fault),
    }
}

/// What a document or an item of a list is; `item_of` is the kind that a typed list lends its items.
fn announced(source: &impl Source, item_of: Option<Kind>) -> Result<Announced, Fault> {
    let mut head = source.parse::<Head>().map_err(|fault| of_broken_text(fault, source))?;
    if let Some(kind) = item_of {
        head.kind.get_or_insert_with(|| kind.name().to_owned());
        head.api_version.get_or_insert_with(|| kind.api_versions()[0].to_owned());
    }
    announce(&head, source)
}

fn announce(head: &Head, source: &impl Source) -> Result<Announced, Fault> {
    let (Some(api_version), Some(kind_name), Some(group)) = (&head.api_version, &head.kind, head.group()) else {
        let reason = "this is not a Kubernetes object: apiVersion and kind must both be set";
        let fault = source.fault(reason);
        let policy = mentions_policies(&source.text()).then(|| unread(PolicyKind::Authorization, head, source));
        return Err(Fault { policy, ..fault });
    };
    let meant = |kind: &Kind| kind.groups().contains(&group);
    let named = |name: &str| Kind::ALL.into_iter().find(|kind| kind.name() == name).filter(meant);
    if let Some(item) = kind_name.strip_suffix("List") {
        match (named(item), item, group) {
            (None, "", "") => return Ok(Announced::List(None)),
            (Some(kind), _, _) => return Ok(Announced::List(Some(kind))),
            (None, _, _) => {}
        }
    }
    let Some(kind) = named(kind_name) else {
        if group == policy::GROUP {
            return Err(of_unknown_policy(kind_name, head, source));
        }
        return Ok(Announced::Ignored(format!("{api_version} {kind_name}")));
    };
    let policy = || kind.policy().map(|kind| unread(kind, head, source));
    let Some(id) = head.id(kind) else {
        return Err(Fault { policy: policy(), ..source.fault(&format!("this {kind_name} has no metadata.name")) });
    };
    if !kind.api_versions().contains(&api_version.as_str()) {
        let wanted = kind.api_versions().join(" or ");
        let fault = source.fault(&format!("apiVersion {api_version} is not read: write {wanted}"));
        return Err(Fault { id: Some(id), policy: policy(), ..fault });
    }
    Ok(Announced::Object(id))
}

/// What a policy would have selected that is not read for what its head says.
fn unread(kind: PolicyKind, head: &Head, source: &impl Source) -> Box<UnreadPolicy> {
    UnreadPolicy::new(kind, head.namespace(), source.parse::<Value>().ok().as_ref())
}

/// The fault of an object of the group of policies with another kind than there are; most likely the one that reads most
/// like it was meant.
fn of_unknown_policy(kind_name: &str, head: &Head, source: &impl Source) -> Fault {
    let like = |kind: Kind| strsim::normalized_damerau_levenshtein(kind_name, kind.name());
    let (authorization, authentication) = (Kind::AuthorizationPolicy, Kind::PeerAuthentication);
    let kind = if like(authentication) > like(authorization) { authentication } else { authorization };
    let reason = format!(
        "{} has no kind {kind_name}; write {} or {}",
        policy::GROUP,
        authorization.name(),
        authentication.name()
    );
    let policy = kind.policy().map(|kind| unread(kind, head, source));
    Fault { id: head.id(kind), policy, ..source.fault(&reason) }
}

/// The fault of a text that is no YAML, or whose head is none: what it is, is told by what is left of it.
fn of_broken_text(fault: Fault, source: &impl Source) -> Fault {
    let text = source.text();
    let head = unread::head(&text);
    let kind = head.kind.as_deref().and_then(|name| Kind::ALL.into_iter().find(|kind| kind.name() == name));
    match (head.group(), kind.and_then(|kind| kind.policy().map(|policy| (kind, policy)))) {
        (Some(policy::GROUP), Some((kind, policy))) => {
            let unread = UnreadPolicy::new(policy, head.namespace(), None);
            Fault { id: head.id(kind), policy: Some(unread), ..fault }
        }
        // A list may hold policies, whatever its group.
        (Some(group), _)
            if group != policy::GROUP && head.kind.as_deref().is_some_and(|kind| !kind.ends_with("List")) =>
        {
            fault
        }
        (Some(_) | None, _) => may_be_a_policy(fault, source),
    }
}

/// A fault of a text that hides which objects are in it: when it speaks of policies, it may be any.
fn may_be_a_policy(fault: Fault, source: &impl Source) -> Fault {
    if mentions_policies(&source.text()) { fault.of_any_policy() } else { fault }
}

/// An object that may have no other fields than those of every Kubernetes object: one that slipped out of the spec would
/// change what the policy selects.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Strict<S> {
    #[serde(rename = "apiVersion", default)]
    _api_version: IgnoredAny,
    #[serde(rename = "kind", default)]
    _kind: IgnoredAny,
    metadata: ObjectMeta,
    spec: S,
    #[serde(rename = "status", default)]
    _status: IgnoredAny,
}

/// An object of this kind; when it is a policy at fault, what follows is part of the fault.
fn parse_object(kind: Kind, source: &impl Source, namespace: &str) -> Result<Object, Fault> {
    parse_fields(kind, source).map_err(|fault| {
        let value = source.parse::<Value>().ok();
        let policy = kind.policy().map(|kind| UnreadPolicy::new(kind, Some(namespace), value.as_ref()));
        Fault { policy, ..fault }
    })
}

fn parse_fields(kind: Kind, source: &impl Source) -> Result<Object, Fault> {
    let field = |error: FieldError| source.fault(&error.to_string());
    Ok(match kind {
        Kind::Service => Object::Service(objects::service(&source.parse::<v1::Service>()?).map_err(field)?),
        Kind::EndpointSlice => {
            Object::EndpointSlice(objects::endpoint_slice(&source.parse::<EndpointSlice>()?).map_err(field)?)
        }
        Kind::Pod => Object::Pod(objects::pod(&source.parse::<v1::Pod>()?).map_err(field)?),
        Kind::ServiceExport => {
            Object::ServiceExport(objects::service_export(&source.parse::<crd::ServiceExport>()?).map_err(field)?)
        }
        Kind::AuthorizationPolicy => {
            let (metadata, spec) = strict(source)?;
            let object = policy::AuthorizationPolicy { metadata, spec, status: None };
            Object::AuthorizationPolicy(objects::policy::authorization_policy(&object).map_err(field)?)
        }
        Kind::PeerAuthentication => {
            let (metadata, spec) = strict(source)?;
            let object = policy::PeerAuthentication { metadata, spec, status: None };
            Object::PeerAuthentication(objects::policy::peer_authentication(&object).map_err(field)?)
        }
    })
}

fn strict<S: DeserializeOwned>(source: &impl Source) -> Result<(ObjectMeta, S), Fault> {
    source.parse::<Strict<S>>().map(|object| (object.metadata, object.spec))
}

#[cfg(test)]
mod tests;
