//! The files of a directory become one set of objects.
//!
//! Owns what holds between files and between readings: an object has one definition, and what cannot be read does not end
//! what was read before. Never waits for anything.
//!
//! A file is judged document by document. When a document is at fault and says which object it is, the last good version
//! of this object stays in force; when it does not say, every last good object of its file stays that the file does not
//! define any more, because any of them may be the one. An object leaves when its file is gone, or when a file without
//! such faults does not define it. The memory of good versions is as old as the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use federation_catalog::objects::Objects;

use crate::{
    directory::{self, MAX_FILE_BYTES, MAX_TOTAL_BYTES},
    document::{self, Fault, Object, ObjectId, Reading},
    manifests::{Manifests, Quarantined},
};

type FileObjects = BTreeMap<ObjectId, Object>;

/// Reads a directory again and again.
#[derive(Debug)]
pub(crate) struct Assembler {
    root: PathBuf,
    /// The objects in force, by the file that defines them.
    last_good: BTreeMap<PathBuf, FileObjects>,
    policies_seen: bool,
}

/// One reading under construction.
#[derive(Default)]
struct Draft {
    objects: Objects,
    /// The files that were there, readable or not.
    read: BTreeSet<PathBuf>,
    /// Where each object is defined.
    defined: BTreeMap<ObjectId, (PathBuf, u32)>,
    in_force: BTreeMap<PathBuf, FileObjects>,
    quarantined: Vec<Quarantined>,
    /// Files some documents of which are at fault, in order.
    faulty: Vec<(PathBuf, Vec<Fault>)>,
}

impl Assembler {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, last_good: BTreeMap::new(), policies_seen: false }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Reads the whole directory.
    pub(crate) fn read(&mut self) -> Manifests {
        let walk = directory::walk(&self.root);
        let mut draft = Draft::default();
        let mut left = MAX_TOTAL_BYTES;
        let mut policies = false;
        for file in walk.files {
            let reading = match directory::read_file(&file, left.min(MAX_FILE_BYTES)) {
                Ok(Some(text)) => {
                    left = left.saturating_sub(u64::try_from(text.len()).unwrap_or(u64::MAX));
                    document::read(&text)
                }
                Ok(None) => continue,
                Err(reason) => Reading { faults: vec![Fault { line: None, id: None, reason }], ..Reading::default() },
            };
            policies |= reading.policies;
            draft.add_file(file, reading);
        }
        self.warn_of_policies(policies);
        self.keep_last_good(&mut draft, &walk.faults);
        self.last_good = draft.in_force;
        draft.quarantined.sort();
        Manifests { objects: draft.objects, quarantined: draft.quarantined }
    }

    fn warn_of_policies(&mut self, found: bool) {
        if found && !self.policies_seen {
            tracing::warn!(
                directory = %self.root.display(),
                "there are objects of policy.landbridge.dev: this version does not enforce policies, they have no effect"
            );
            self.policies_seen = true;
        }
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
                file: directory.clone(),
                line: None,
                object: None,
                reason: reason.clone(),
            });
        }
        for (file, faults) in std::mem::take(&mut draft.faulty) {
            let named: Option<BTreeSet<&ObjectId>> = faults.iter().map(|fault| fault.id.as_ref()).collect();
            let kept = self.retain(draft, &file, named.as_ref());
            for Fault { line, id, reason } in &faults {
                let note = match id {
                    Some(id) if kept.contains(id) => "; its last good version stays in force".to_owned(),
                    None if !kept.is_empty() => {
                        format!("; {} object(s) of the last good version of this file stay in force", kept.len())
                    }
                    Some(_) | None => String::new(),
                };
                draft.quarantined.push(Quarantined {
                    file: file.clone(),
                    line: *line,
                    object: id.as_ref().map(ToString::to_string),
                    reason: format!("{reason}{note}"),
                });
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
                    file: file.clone(),
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
        object.clone().insert_into(&mut self.objects);
        self.in_force.entry(file.to_owned()).or_default().insert(id, object);
    }
}
