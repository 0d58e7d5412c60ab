//! The audit log on disk.
//!
//! Owns its table: entries are added at the end, in the transaction of the change they tell of, and are never changed; the
//! oldest are dropped beyond the limit. Looks at the end of the log before it believes it. Never words an entry.

use federation_model::{
    audit::{Action, Chain, Entry, Head, Start},
    time::Timestamp,
};
use redb::{
    ReadTransaction, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
    WriteTransaction,
};

use super::{AuditFault, Store, StoreError, TEXTS};
use crate::state::{State, Trail, Write, audit};

/// Number to entry, in the JSON of its export.
const AUDIT: TableDefinition<'_, u64, &str> = TableDefinition::new("audit");
const KEY_HEAD: &str = "audit_head";
/// Entries that are verified at the start: whoever changes older ones must change all after them, or break the chain
/// where an export is verified. A few milliseconds.
const VERIFIED: u64 = 1_000;

/// Which entries somebody wants to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// From this number on; nothing for the newest.
    pub since: Option<u64>,
    /// At most so many.
    pub limit: usize,
    /// Of this action alone.
    pub action: Option<Action>,
    /// With this text in their subject.
    pub subject: String,
}

impl Wanted {
    /// Pieces that the line of every wanted entry has: most others are passed over without being read.
    fn pieces(&self) -> Vec<String> {
        let quoted = serde_json::to_string(&self.subject).expect("a text always has a JSON form");
        let subject = quoted.trim_matches('"').to_owned();
        let action = self.action.map(|action| format!("\"action\":\"{action}\""));
        action.into_iter().chain((!subject.is_empty()).then_some(subject)).collect()
    }

    fn matches(&self, entry: &Entry) -> bool {
        self.action.is_none_or(|action| action == entry.event.action) && entry.event.subject.contains(&self.subject)
    }
}

impl Store {
    /// The log as it is on disk; `empty` when nothing was ever written to it.
    pub(super) fn load_audit(&self, transaction: &ReadTransaction, empty: Trail) -> Result<Trail, StoreError> {
        let fault = |fault| StoreError::Audit { path: self.path.clone(), fault };
        let texts = transaction.open_table(TEXTS).map_err(|error| self.failed("read", error))?;
        let head = texts.get(KEY_HEAD).map_err(|error| self.failed("read", error))?;
        let head = head.map(|row| parsed_head(row.value())).transpose().map_err(fault)?;
        let table = match transaction.open_table(AUDIT) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => {
                return match head {
                    None => Ok(empty),
                    Some(head) => Err(fault(AuditFault::End { found: 0, head: head.index })),
                };
            }
            Err(error) => return Err(self.failed("read", error)),
        };
        let failed = |error: redb::StorageError| self.failed("read", error);
        let first = table.first().map_err(failed)?.map(|(key, _)| key.value());
        let last = table.last().map_err(failed)?.map(|(key, _)| key.value());
        let found = table.len().map_err(failed)?;
        let (Some(head), Some(first), Some(last)) = (head, first, last) else {
            return match (head, last) {
                (None, None) => Ok(empty),
                (head, last) => {
                    Err(fault(AuditFault::End { found: last.unwrap_or(0), head: head.map_or(0, |head| head.index) }))
                }
            };
        };
        if last != head.index {
            return Err(fault(AuditFault::End { found: last, head: head.index }));
        }
        if found != (last - first).saturating_add(1) {
            return Err(fault(AuditFault::Count { first, last, found }));
        }
        let from = first.max(last.saturating_sub(VERIFIED - 1));
        let start = if from == 1 { Start::After(empty.head) } else { Start::At(from) };
        let mut chain = Chain::new(start);
        for entry in self.rows(&table, from..=last, &[])? {
            chain.push(&entry?).map_err(|error| fault(error.into()))?;
        }
        let end = chain.finish().map_err(|error| fault(error.into()))?;
        if end != head {
            return Err(fault(AuditFault::Rewritten(head.index)));
        }
        Ok(Trail { first, head, ..empty })
    }

    /// Writes the entries among `writes`; gives them.
    pub(super) fn put_audit(
        &self,
        transaction: &WriteTransaction,
        writes: &[Write],
        after: &State,
    ) -> Result<Vec<Entry>, StoreError> {
        let fault = |fault| StoreError::Audit { path: self.path.clone(), fault };
        let failed = |error: redb::Error| self.failed("written", error);
        let mut texts = transaction.open_table(TEXTS).map_err(|error| failed(error.into()))?;
        let held = texts.get(KEY_HEAD).map_err(|error| failed(error.into()))?.map(|row| parsed_head(row.value()));
        let held = held.transpose().map_err(fault)?.unwrap_or_else(|| Head::start(&after.audit.origin));
        let entries = audit::entries(&held, writes);
        let head = entries.last().map_or(held, Entry::head);
        // What is sealed and shown is what is on disk, or nothing is written.
        if head != after.audit.head {
            return Err(fault(AuditFault::End { found: head.index, head: after.audit.head.index }));
        }
        if entries.is_empty() {
            return Ok(entries);
        }
        (|| {
            let mut table = transaction.open_table(AUDIT)?;
            for entry in &entries {
                table.insert(entry.index, &*entry.to_line())?;
            }
            table.retain_in(..after.audit.first, |_, _| false)?;
            let text = serde_json::to_string(&head).expect("a number and a text always serialize");
            texts.insert(KEY_HEAD, &*text)?;
            Ok::<(), redb::Error>(())
        })()
        .map_err(failed)?;
        Ok(entries)
    }

    /// At most `count` entries from number `from` on.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn entries(&self, from: u64, count: usize) -> Result<Vec<Entry>, StoreError> {
        let Some(table) = self.audit_table()? else { return Ok(Vec::new()) };
        self.rows(&table, from..=u64::MAX, &[])?.take(count).collect()
    }

    /// The entries that somebody wants, in their order.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn find(&self, wanted: &Wanted) -> Result<Vec<Entry>, StoreError> {
        let Some(table) = self.audit_table()? else { return Ok(Vec::new()) };
        let matches = |entry: &Result<Entry, StoreError>| entry.as_ref().map_or(true, |entry| wanted.matches(entry));
        let pieces = wanted.pieces();
        if let Some(since) = wanted.since {
            return self.rows(&table, since..=u64::MAX, &pieces)?.filter(matches).take(wanted.limit).collect();
        }
        let newest = self.rows(&table, 0..=u64::MAX, &pieces)?.rev().filter(matches).take(wanted.limit);
        let mut found: Vec<Entry> = newest.collect::<Result<_, _>>()?;
        found.reverse();
        Ok(found)
    }

    fn audit_table(&self) -> Result<Option<redb::ReadOnlyTable<u64, &'static str>>, StoreError> {
        let transaction = self.database.begin_read().map_err(|error| self.failed("read", error))?;
        match transaction.open_table(AUDIT) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.failed("read", error)),
        }
    }

    /// The entries of a range whose lines have all these pieces.
    fn rows<'a>(
        &'a self,
        table: &redb::ReadOnlyTable<u64, &'static str>,
        range: std::ops::RangeInclusive<u64>,
        pieces: &'a [String],
    ) -> Result<impl DoubleEndedIterator<Item = Result<Entry, StoreError>> + use<'a>, StoreError> {
        let rows = table.range(range).map_err(|error| self.failed("read", error))?;
        Ok(rows.filter_map(move |row| match row {
            Ok((key, value)) => {
                let line = value.value();
                pieces.iter().all(|piece| line.contains(piece)).then(|| self.entry(key.value(), line))
            }
            Err(error) => Some(Err(self.failed("read", error))),
        }))
    }

    fn entry(&self, index: u64, line: &str) -> Result<Entry, StoreError> {
        let not_an_entry = |reason: String| StoreError::Audit {
            path: self.path.clone(),
            fault: AuditFault::NotAnEntry { index, reason },
        };
        let entry = Entry::from_line(line).map_err(|error| not_an_entry(error.to_string()))?;
        if entry.index == index {
            Ok(entry)
        } else {
            Err(not_an_entry(format!("it says that it is entry {}", entry.index)))
        }
    }
}

fn parsed_head(text: &str) -> Result<Head, AuditFault> {
    serde_json::from_str(text).map_err(|error| AuditFault::Head(error.to_string()))
}

/// Tells the log of the program about an entry that is on disk.
pub(super) fn log(entry: &Entry) {
    let Entry { index, at: Timestamp(at), event, hash, .. } = entry;
    tracing::info!(
        target: "landbridge::audit",
        index, at, actor = %event.actor, subject = %event.subject, detail = %event.detail, %hash,
        "{}", event.action
    );
}

#[cfg(test)]
mod tests;
