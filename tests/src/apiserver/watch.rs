//! WATCH: from a revision on, what became of the selected objects.
//!
//! Owns the translation of the log into watch events. Never waits: the shell asks again when the revision has moved.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    failure::{Cause, Failure},
    kinds::Kind,
    object,
    read::{invalid_version, shown},
    request::{Request, Target},
    select::Selector,
    store::{Event, Store},
};

/// One watch.
#[derive(Debug)]
pub(super) struct Watch {
    kind: Arc<Kind>,
    version: String,
    namespace: String,
    name: String,
    selector: Selector,
    metadata_only: bool,
    bookmarks: bool,
    /// Everything up to this revision has been told.
    told: u64,
}

/// What a watch tells next.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Watch events.
    pub(super) lines: Vec<Value>,
    /// Whether it ends after them.
    pub(super) end: bool,
}

impl Store {
    /// Begins a watch: it, and what it tells first.
    pub(super) fn watch(&self, kind: Arc<Kind>, request: &Request, target: &Target) -> Result<(Watch, News), Failure> {
        let streaming = streams_initial(&kind, request)?;
        let asked = request.parameter("resourceVersion");
        let from: u64 = if asked.is_empty() { 0 } else { asked.parse().map_err(|_| invalid_version(asked))? };
        let mut watch = Watch {
            version: target.version.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            selector: Selector::read(&kind, request)?,
            metadata_only: request.wants_metadata(),
            bookmarks: request.says("allowWatchBookmarks"),
            told: from,
            kind,
        };
        let mut news = News::default();
        let initial = streaming.unwrap_or(from == 0);
        if initial {
            watch.told = self.revision();
            let objects = self.of(&watch.kind.resource(), &watch.namespace);
            let seen = objects.filter(|(_, object)| watch.sees(object));
            news.lines = seen.map(|(_, object)| watch.line("ADDED", object)).collect();
        } else if from == 0 {
            watch.told = self.revision();
        }
        if streaming == Some(true) && watch.bookmarks {
            let mut bookmark = watch.bookmark();
            bookmark["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            news.lines.push(bookmark);
        }
        if !initial && from > 0 && from < self.compacted() {
            let message = format!("too old resource version: {from} ({})", self.compacted());
            news.lines = vec![json!({"type": "ERROR", "object": Failure::expired(message).to_json()})];
            news.end = true;
        }
        Ok((watch, news))
    }

    /// What the watch has not told yet.
    pub(super) fn news(&self, watch: &mut Watch) -> News {
        let mut news = News::default();
        if watch.told < self.compacted() && watch.told < self.revision() {
            let message = format!("too old resource version: {} ({})", watch.told, self.compacted());
            news.lines.push(json!({"type": "ERROR", "object": Failure::expired(message).to_json()}));
            news.end = true;
            return news;
        }
        let resource = watch.kind.resource();
        let events = self.since(watch.told).filter(|event| event.key.resource == resource);
        news.lines.extend(events.filter_map(|event| watch.tell(event)));
        watch.told = watch.told.max(self.revision());
        news.end = self.kinds.served(&watch.kind.group, &watch.version, &watch.kind.plural).is_none();
        news
    }
}

/// Whether the watch asks to begin with all objects (true) or not (false); none when it does not say.
fn streams_initial(kind: &Kind, request: &Request) -> Result<Option<bool>, Failure> {
    let asked = request.query.get("sendInitialEvents").map(|asked| asked == "true");
    let matching = request.parameter("resourceVersionMatch");
    let why = match (asked, matching) {
        (None, "") | (Some(_), "NotOlderThan") => return Ok(asked),
        (Some(_), _) => "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        (None, _) => "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
    };
    let options = Kind { group: "meta.k8s.io".to_owned(), kind: "ListOptions".to_owned(), ..kind.clone() };
    Err(Failure::invalid(&options, "", &[Cause::forbidden("resourceVersionMatch", why)]))
}

impl Watch {
    /// Whether it wants to be told how far it is.
    pub(super) fn wants_bookmarks(&self) -> bool {
        self.bookmarks
    }

    /// How far it is.
    pub(super) fn bookmark(&self) -> Value {
        let kind = if self.metadata_only { "PartialObjectMetadata" } else { &self.kind.kind };
        let api_version =
            if self.metadata_only { "meta.k8s.io/v1".to_owned() } else { self.kind.api_version(&self.version) };
        let metadata = json!({"resourceVersion": self.told.to_string()});
        json!({"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": api_version, "metadata": metadata}})
    }

    fn sees(&self, value: &Value) -> bool {
        let namespace = self.namespace.is_empty() || object::namespace(value) == self.namespace;
        let name = self.name.is_empty() || object::name(value) == self.name;
        namespace && name && self.selector.matches(value)
    }

    fn line(&self, word: &str, object: &Value) -> Value {
        let shown = shown(&self.kind, &self.version, object);
        let object = if self.metadata_only { object::metadata_only(&shown) } else { shown };
        json!({"type": word, "object": object})
    }

    /// An object that is not selected any more is told to be gone, one that is newly selected to be new.
    fn tell(&self, event: &Event) -> Option<Value> {
        let saw = event.before.as_ref().is_some_and(|before| self.sees(before));
        let sees = !event.gone && self.sees(&event.object);
        match (saw, sees) {
            (false, false) => None,
            (false, true) => Some(self.line("ADDED", &event.object)),
            (true, true) => Some(self.line("MODIFIED", &event.object)),
            (true, false) if event.gone => Some(self.line("DELETED", &event.object)),
            (true, false) => {
                let mut last = event.before.as_deref()?.clone();
                object::carry(&event.object["metadata"], &mut last["metadata"], "resourceVersion");
                Some(self.line("DELETED", &last))
            }
        }
    }
}
