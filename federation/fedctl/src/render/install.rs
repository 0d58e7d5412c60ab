//! What became of the objects of an installation.

use federation_kube::install::{Applied, Manifest, Refusal, Removed};
use serde::Serialize;

use super::{Look, Mood, count, mood_cell, text_of};

/// One object that was applied.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ObjectView {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    #[serde(skip)]
    object: String,
}

impl ObjectView {
    pub(crate) fn new(manifest: &Manifest, applied: &Applied) -> Self {
        let name = (manifest.namespace(), manifest.name());
        Self { object: manifest.to_string(), ..Self::of(manifest.kind(), name, applied) }
    }

    /// An object of a kind, by its namespace and name.
    pub(crate) fn of(kind: &str, (namespace, name): (Option<&str>, &str), applied: &Applied) -> Self {
        let refusal = match applied {
            Applied::Refused(refusal) => Some(refusal.clone()),
            Applied::Created | Applied::Configured | Applied::Unchanged | Applied::Kept => None,
        };
        let (reason, remedy) = refusal.map(|Refusal { reason, remedy }| (reason, remedy)).unzip();
        Self {
            kind: kind.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            result: applied.label(),
            reason,
            remedy,
            object: format!("{kind} {}{name}", namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default()),
        }
    }

    /// It was not applied, since something that it needs was refused.
    pub(crate) fn held_back(manifest: &Manifest) -> Self {
        let refusal = Refusal {
            reason: "not applied, since something that it needs was refused or is late".to_owned(),
            remedy: "the same command again, once that is applied".to_owned(),
        };
        Self { result: "held back", ..Self::new(manifest, &Applied::Refused(refusal)) }
    }

    /// It was applied, and cannot be used in time.
    pub(crate) fn late(&mut self, reason: String) {
        self.result = "late";
        self.reason = Some(reason);
        self.remedy = Some("the same command again goes on waiting; --wait 10m waits longer".to_owned());
    }

    pub(crate) fn is_well(&self) -> bool {
        self.reason.is_none()
    }
}

/// An installation.
#[derive(Debug, Serialize)]
pub(crate) struct InstalledView {
    cluster: String,
    objects: Vec<ObjectView>,
    /// What a person should know of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    next: Vec<String>,
}

impl InstalledView {
    /// What is next is told where all is well.
    pub(crate) fn new(cluster: &str, objects: Vec<ObjectView>, next: Vec<String>) -> Self {
        let next = if objects.iter().all(ObjectView::is_well) { next } else { Vec::new() };
        Self { cluster: cluster.to_owned(), objects, notes: Vec::new(), next }
    }

    pub(crate) fn noting(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    pub(crate) fn is_well(&self) -> bool {
        self.objects.iter().all(ObjectView::is_well)
    }

    pub(crate) fn text(&self, look: Look) -> String {
        let mut table = look.table(&["OBJECT", "RESULT"]);
        for object in &self.objects {
            let mood = if object.is_well() { Mood::Good } else { Mood::Bad };
            table.add_row([object.object.as_str().into(), mood_cell(object.result, mood)]);
        }
        let mut text = text_of(table);
        for object in &self.objects {
            text.push_str(&problem(&object.object, object.reason.as_deref(), object.remedy.as_deref()));
        }
        let kept = self.objects.iter().filter(|object| object.result == Applied::Kept.label()).count();
        if kept > 0 {
            text.push_str(&format!(
                "\n{} there already: kept as they are\n",
                count(kept, "definition is", "definitions are")
            ));
        }
        for note in &self.notes {
            text.push_str(&format!("\nNote: {note}\n"));
        }
        for next in &self.next {
            text.push_str(&format!("\nNext: {next}\n"));
        }
        text
    }
}

fn problem(object: &str, reason: Option<&str>, remedy: Option<&str>) -> String {
    let Some(reason) = reason else { return String::new() };
    let remedy = remedy.map(|remedy| format!("  try: {remedy}\n")).unwrap_or_default();
    format!("\n{object}: {reason}\n{remedy}")
}

/// One object that was removed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RemovedView {
    object: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl RemovedView {
    pub(crate) fn new(object: String, result: &'static str, removed: Removed) -> Self {
        let (reason, remedy) = match removed {
            Removed::Deleted | Removed::Gone => (None, None),
            Removed::Refused(Refusal { reason, remedy }) => (Some(reason), Some(remedy)),
        };
        Self { object, result, reason, remedy }
    }

    /// It is being deleted, and is still there.
    pub(crate) fn late(&mut self) {
        self.result = "late";
        self.reason = Some("it is still there".to_owned());
        self.remedy = Some("the same command again, so that what it makes meanwhile goes too".to_owned());
    }

    pub(crate) fn is_well(&self) -> bool {
        self.reason.is_none()
    }
}

/// A removal.
#[derive(Debug, Serialize)]
pub(crate) struct UninstalledView {
    cluster: String,
    objects: Vec<RemovedView>,
    /// Kinds that could not be looked at, and why.
    unseen: Vec<String>,
    /// What stays, and how it goes too.
    kept: Vec<String>,
}

impl UninstalledView {
    pub(crate) fn new(cluster: &str, objects: Vec<RemovedView>, unseen: Vec<String>, kept: Vec<String>) -> Self {
        Self { cluster: cluster.to_owned(), objects, unseen, kept }
    }

    pub(crate) fn is_well(&self) -> bool {
        self.unseen.is_empty() && self.objects.iter().all(RemovedView::is_well)
    }

    pub(crate) fn text(&self, look: Look) -> String {
        if self.objects.is_empty() && self.unseen.is_empty() {
            return "nothing of it is there\n".to_owned();
        }
        let mut table = look.table(&["OBJECT", "RESULT"]);
        for object in &self.objects {
            let mood = if object.is_well() { Mood::Good } else { Mood::Bad };
            table.add_row([object.object.as_str().into(), mood_cell(object.result, mood)]);
        }
        let mut text = text_of(table);
        for object in &self.objects {
            text.push_str(&problem(&object.object, object.reason.as_deref(), object.remedy.as_deref()));
        }
        for unseen in &self.unseen {
            text.push_str(&format!(
                "\nnot looked at: {unseen}\n  try: the same command with a context that may list it\n"
            ));
        }
        text.push_str("\nKept:\n");
        for kept in &self.kept {
            text.push_str(&format!("  {kept}\n"));
        }
        text
    }
}
