//! The files of a directory become one set of objects.
//!
//! Owns what holds between files and between readings: an object has one definition, and what cannot be read does not end
//! what was read before. Never waits for anything.
//!
//! A file is judged document by document. When a document is at fault and says which object it is, the last good version
//! of this object stays in force; when it does not say, every last good object of its file stays that the file does not
//! define any more, because any of them may be the one. An object leaves when its file is gone, or when a file without
//! such faults does not define it. The memory of good versions is as old as the program.
//!
//! A policy without a last good version is broken: it refuses what it selects, as far as that can be read. A document that
//! speaks of policies and does not say which one it is, in a file of which no policy is remembered, may be any policy, so it
//! refuses everything; so does a manifest that cannot be read, or not wholly, and of which nothing is remembered. Another reading would open, at the next start, what the policy had kept shut.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::{Path, PathBuf},
    sync::Arc,
};

use federation_catalog::objects::Objects;
use federation_model::{
    names::Namespace,
    policy::{BrokenPolicy, PolicyKey, PolicyKind},
};

use crate::{
    directory::{self, MAX_FILE_BYTES, MAX_TOTAL_BYTES, Seen},
    document::{self, Fault, Object, ObjectId, Reading, UnreadPolicy},
    manifests::{Manifests, Quarantined},
};

type FileObjects = BTreeMap<ObjectId, Object>;

/// Reads a directory again and again.
#[derive(Debug)]
pub(crate) struct Assembler {
    directory: PathBuf,
    /// The namespace whose policies hold for the services of all namespaces.
    root: Namespace,
    /// The objects in force, by the file that defines them.
    last_good: BTreeMap<PathBuf, FileObjects>,
}

/// One reading under construction.
#[derive(Default)]
struct Draft {
    objects: Objects,
    /// The files that were there, readable or not.
    read: BTreeSet<PathBuf>,
    policy_origins: BTreeMap<(PolicyKind, PolicyKey), (PathBuf, u32)>,
    /// Where each object is defined.
    defined: BTreeMap<ObjectId, (PathBuf, u32)>,
    in_force: BTreeMap<PathBuf, FileObjects>,
    quarantined: Vec<Quarantined>,
    /// Files some documents of which are at fault, in order.
    faulty: Vec<(PathBuf, Vec<Fault>)>,
}

impl Assembler {
    pub(crate) fn new(directory: PathBuf, root: Namespace) -> Self {
        Self { directory, root, last_good: BTreeMap::new() }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads the whole directory.
    pub(crate) fn read(&mut self) -> Manifests {
        let walk = directory::walk(&self.directory);
        let mut draft = Draft::default();
        let mut left = MAX_TOTAL_BYTES;
        for file in walk.files {
            let reading = match directory::read_file(&file, left.min(MAX_FILE_BYTES)) {
                Ok(Some(text)) => {
                    left = left.saturating_sub(u64::try_from(text.len()).unwrap_or(u64::MAX));
                    document::read(&text)
                }
                Ok(None) => continue,
                Err(unreadable) => {
                    let fault = Fault::new(None, unreadable.reason);
                    // What was read before is remembered, and is known to hold no other policies.
                    let may_be_policies = match unreadable.seen {
                        Seen::Policies => true,
                        Seen::NoPolicies => false,
                        Seen::NotAll => !self.last_good.contains_key(&file),
                    };
                    let fault = if may_be_policies { fault.of_any_policy() } else { fault };
                    Reading { faults: vec![fault], ..Reading::default() }
                }
            };
            draft.add_file(file, reading);
        }
        self.finish(draft, &walk.faults)
    }

    /// Reads `text` as if it were all that the directory holds, in `file`.
    pub(crate) fn read_text(&mut self, file: PathBuf, text: &str) -> Manifests {
        let mut draft = Draft::default();
        draft.add_file(file, document::read(text));
        self.finish(draft, &[])
    }

    fn finish(&mut self, mut draft: Draft, directory_faults: &[(PathBuf, String)]) -> Manifests {
        self.keep_last_good(&mut draft, directory_faults);
        self.last_good = draft.in_force;
        draft.quarantined.sort();
        let Draft { objects, quarantined, policy_origins, .. } = draft;
        Manifests { objects, namespaces: None, quarantined, policy_origins }
    }

    /// Brings back what only a fault would have ended, where nothing else defines it, and reports the faults.
    fn keep_last_good(&mut self, draft: &mut Draft, directory_faults: &[(PathBuf, String)]) {
        for (directory, reason) in directory_faults {
            let missing = |file: &&PathBuf| file.starts_with(directory) && !draft.read.contains(*file);
            let missing: Vec<_> = self.last_good.keys().filter(missing).cloned().collect();
            for file in missing {
                self.retain(draft, &file, None);
            }
            draft.quarantined.push(Quarantined {
                file: Some(directory.clone()),
                line: None,
                object: None,
                reason: reason.clone(),
            });
        }
        // All is brought back before anything counts as broken: the last good version may be that of another file.
        let mut kept = Vec::new();
        for (file, faults) in std::mem::take(&mut draft.faulty) {
            let named: Option<BTreeSet<&ObjectId>> = faults.iter().map(|fault| fault.id.as_ref()).collect();
            kept.push((self.retain(draft, &file, named.as_ref()), file, faults));
        }
        for (kept, file, faults) in kept {
            for fault in faults {
                self.quarantine(draft, &file, fault, &kept);
            }
        }
    }

    /// Keeps the last good objects of a file, all or only the named ones, and returns those kept.
    fn retain(&mut self, draft: &mut Draft, file: &Path, named: Option<&BTreeSet<&ObjectId>>) -> BTreeSet<ObjectId> {
        let mut kept = BTreeSet::new();
        for (id, object) in self.last_good.remove(file).unwrap_or_default() {
            let wanted = named.is_none_or(|named| named.contains(&id));
            if wanted && !draft.defined.contains_key(&id) {
                draft.define(id.clone(), object, file, 1);
                kept.insert(id);
            }
        }
        kept
    }

    /// Reports a fault of a file of which `kept` stays in force, and what follows from it.
    fn quarantine(&self, draft: &mut Draft, file: &Path, fault: Fault, kept: &BTreeSet<ObjectId>) {
        let Fault { line, id, reason, policy } = fault;
        let policies_kept = || kept.iter().any(|id| id.kind.policy().is_some());
        let stands = match &id {
            Some(id) => draft.defined.contains_key(id),
            None => policies_kept(),
        };
        let note = match (&id, policy.map(|policy| *policy)) {
            (Some(id), _) if kept.contains(id) => "; its last good version stays in force".to_owned(),
            (Some(_), Some(UnreadPolicy::Refusing { .. })) if stands => "; its other definition is in force".to_owned(),
            (_, Some(UnreadPolicy::Audit)) => "; it only audits, so nothing is refused for it".to_owned(),
            (id, Some(UnreadPolicy::Refusing { kind, namespace, services })) if !stands => {
                let place = place(file.strip_prefix(&self.directory).unwrap_or(file), line);
                let name = id.as_ref().map_or_else(|| format!("({place})"), |id| id.name.clone());
                let key = PolicyKey { namespace: namespace.unwrap_or_else(|| self.root.clone()), name };
                let note = format!("; {} until it is mended", document::refused(&self.root, &key.namespace, &services));
                let broken = BrokenPolicy { services, reason: format!("{place}: {reason}") };
                draft.add_broken((kind, key), broken);
                note
            }
            (None, _) if !kept.is_empty() => {
                format!("; {} object(s) of the last good version of this file stay in force", kept.len())
            }
            (Some(_) | None, Some(UnreadPolicy::Refusing { .. }) | None) => String::new(),
        };
        draft.quarantined.push(Quarantined {
            file: Some(file.to_owned()),
            line,
            object: id.map(|id| id.to_string()),
            reason: format!("{reason}{note}"),
        });
    }
}

/// `file:line`.
fn place(file: &Path, line: Option<u32>) -> String {
    let line = line.map(|line| format!(":{line}")).unwrap_or_default();
    format!("{}{line}", file.display())
}

impl Draft {
    fn add_file(&mut self, file: PathBuf, reading: Reading) {
        self.read.insert(file.clone());
        for (id, line, object) in reading.objects {
            if let Some((other, other_line)) = self.defined.get(&id) {
                let reason = format!(
                    "{id} is defined already in {} (line {other_line}), which counts: remove one of the two",
                    other.display()
                );
                self.quarantined.push(Quarantined {
                    file: Some(file.clone()),
                    line: Some(line),
                    object: Some(id.to_string()),
                    reason,
                });
                continue;
            }
            self.define(id, object, &file, line);
        }
        if !reading.faults.is_empty() {
            self.faulty.push((file, reading.faults));
        }
    }

    fn define(&mut self, id: ObjectId, object: Object, file: &Path, line: u32) {
        self.defined.insert(id.clone(), (file.to_owned(), line));
        if let Some(policy) = object.policy() {
            self.policy_origins.insert(policy, (file.to_owned(), line));
        }
        object.clone().insert_into(&mut self.objects);
        self.in_force.entry(file.to_owned()).or_default().insert(id, object);
    }

    /// Two broken definitions of one policy select what either does.
    fn add_broken(&mut self, id: (PolicyKind, PolicyKey), broken: BrokenPolicy) {
        match Arc::make_mut(&mut self.objects.policies).broken.entry(id) {
            Entry::Vacant(entry) => drop(entry.insert(broken)),
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                if known.services.is_empty() || broken.services.is_empty() {
                    known.services.clear();
                } else {
                    known.services.extend(broken.services);
                }
            }
        }
    }
}
