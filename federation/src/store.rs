//! The set on disk.
//!
//! Owns the file and its format: one transaction per decision, durable before anybody hears of it. Never decides.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use std::sync::Arc;

use federation_model::{audit::ChainFault, bundle::TrustBundle, mark::Mark, time::Timestamp};
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError, WriteTransaction,
};

use crate::state::{Logged, MAX_LOG, State, Trail, Write};

mod audit;
mod foreign;
mod numbering;
mod records;

pub use audit::Wanted;
use records::{StoredBundle, StoredMember, StoredRevocation, StoredToken};

const FILE: &str = "set.redb";
/// The set is small: a thousand members of a few KiB.
const CACHE: usize = 16 << 20;
/// The format of the tables below. A store of an older one is read, and is of this one from its next write on: an older
/// program would take members that wait for approval for approved, change the set without telling the audit log, and look for
/// the beginning of the log under the id that the store has now.
const SCHEMA: u64 = 3;
/// The format before there were an audit log and members that wait for approval.
const OLDEST_SCHEMA: u64 = 1;

const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const TEXTS: TableDefinition<'_, &str, &str> = TableDefinition::new("texts");
const MEMBERS: TableDefinition<'_, &str, &str> = TableDefinition::new("members");
const TOKENS: TableDefinition<'_, &str, &str> = TableDefinition::new("tokens");
const REVOCATIONS: TableDefinition<'_, &str, &str> = TableDefinition::new("revocations");
/// Revocations that were lifted, and when.
const REINSTATED: TableDefinition<'_, &str, u64> = TableDefinition::new("reinstated");
/// Revision to what it changed, see [`records::subject_text`].
const CHANGES: TableDefinition<'_, u64, &str> = TableDefinition::new("changes");
/// Revision to its mark; not there for those made before there were marks.
const MARKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("marks");

const KEY_SCHEMA: &str = "schema";
const KEY_REVISION: &str = "revision";
const KEY_STORE_ID: &str = "store_id";
/// The id that the store had when its audit log began; missing while it has that id.
const KEY_ORIGIN: &str = "origin";
const KEY_FEDERATION: &str = "federation";

/// Why the set cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refuses.
    #[error("the store {} cannot be {action}: {error}; check the disk and its free space", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        error: Box<redb::Error>,
    },
    /// A row that this version did not write.
    #[error("the store {} holds {what} that cannot be read: {reason}; restore it from a backup", .path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Which row.
        what: String,
        /// Why.
        reason: String,
    },
    /// The format of another version.
    #[error("the store {} has format {found}, this version reads up to format {SCHEMA}: run the version that wrote it", .path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The audit log is not whole.
    #[error(
        "the audit log in {} does not hold: {fault}; somebody changed the store, or it is damaged: keep a copy of the file, compare it with exported logs (`fedctl audit verify`), and restore a backup", .path.display()
    )]
    Audit {
        /// The file.
        path: PathBuf,
        /// What is wrong with the log.
        fault: AuditFault,
    },
}

/// What is wrong with the audit log of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditFault {
    /// The entries.
    #[error(transparent)]
    Chain(#[from] ChainFault),
    /// The entries do not lead to the head.
    #[error("it ends with entry {found}, and {head} were written")]
    End {
        /// The last entry.
        found: u64,
        /// The last that was written.
        head: u64,
    },
    /// The last entry is another one than was written.
    #[error("entry {0} was rewritten")]
    Rewritten(u64),
    /// There are more or fewer entries than there should be.
    #[error("entries {first} to {last} should be there, and there are {found} entries")]
    Count {
        /// The oldest.
        first: u64,
        /// The newest.
        last: u64,
        /// How many there are.
        found: u64,
    },
    /// A row is no entry.
    #[error("entry {index} is not an entry: {reason}")]
    NotAnEntry {
        /// Its key.
        index: u64,
        /// Why.
        reason: String,
    },
    /// The head cannot be read.
    #[error("its head cannot be read: {0}")]
    Head(String),
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Database,
}

impl Store {
    /// Opens the store in `directory`, and makes it when there is none.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let fail =
            |error: redb::Error| StoreError::Database { path: path.clone(), action: "opened", error: Box::new(error) };
        // Made here first, so that only this user may read it from its first moment on.
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        made.map_err(|error| fail(redb::Error::Io(error)))?;
        let database = Database::builder().set_cache_size(CACHE).create(&path).map_err(|error| fail(error.into()))?;
        Ok(Self { path, database })
    }

    /// Reads the set; nothing when the store is new.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(&self) -> Result<Option<State>, StoreError> {
        let transaction = self.database.begin_read().map_err(|error| self.failed("read", error))?;
        let numbers = match transaction.open_table(NUMBERS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(self.failed("read", error)),
        };
        let number = |key: &str| -> Result<u64, StoreError> {
            let row = numbers.get(key).map_err(|error| self.failed("read", error))?;
            row.map(|row| row.value()).ok_or_else(|| self.row(key, "it is missing"))
        };
        let found = number(KEY_SCHEMA)?;
        if !(OLDEST_SCHEMA..=SCHEMA).contains(&found) {
            return Err(StoreError::Schema { path: self.path.clone(), found });
        }
        let texts = transaction.open_table(TEXTS).map_err(|error| self.failed("read", error))?;
        let text = |key: &str| -> Result<String, StoreError> {
            let row = texts.get(key).map_err(|error| self.failed("read", error))?;
            row.map(|row| row.value().to_owned()).ok_or_else(|| self.row(key, "it is missing"))
        };
        let federation: TrustBundle =
            StoredBundle::parse(&text(KEY_FEDERATION)?).map_err(|reason| self.row(KEY_FEDERATION, reason))?;
        let origin = texts.get(KEY_ORIGIN).map_err(|error| self.failed("read", error))?;
        let store_id = text(KEY_STORE_ID)?;
        let mut state = State::new(&store_id, federation);
        state.audit = Trail::start(origin.as_ref().map_or(&*store_id, |origin| origin.value()));
        state.revision = number(KEY_REVISION)?;
        self.load_rows(&transaction, &mut state)?;
        state.audit = self.load_audit(&transaction, state.audit)?;
        self.load_revocations(&transaction, &mut state)?;
        Ok(Some(state))
    }

    fn load_rows(&self, transaction: &ReadTransaction, state: &mut State) -> Result<(), StoreError> {
        let read = |definition| transaction.open_table(definition).map_err(|error| self.failed("read", error));
        for row in read(MEMBERS)?.iter().map_err(|error| self.failed("read", error))? {
            let (key, value) = row.map_err(|error| self.failed("read", error))?;
            let record = StoredMember::parse(value.value()).map_err(|reason| self.row(key.value(), reason))?;
            state.members.insert(record.member.cluster.clone(), record.into());
        }
        for row in read(TOKENS)?.iter().map_err(|error| self.failed("read", error))? {
            let (key, value) = row.map_err(|error| self.failed("read", error))?;
            let record = StoredToken::parse(value.value()).map_err(|reason| self.row(key.value(), reason))?;
            state.tokens.insert(record.id, record.into());
        }
        self.load_changes(transaction, state)?;
        numbering::load(self, transaction, state)?;
        foreign::load(self, transaction, state)
    }

    /// Reads the last revisions; a store of a version before marks has no table of them.
    fn load_changes(&self, transaction: &ReadTransaction, state: &mut State) -> Result<(), StoreError> {
        let marks = match transaction.open_table(MARKS) {
            Ok(table) => Some(table),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(self.failed("read", error)),
        };
        let changes = transaction.open_table(CHANGES).map_err(|error| self.failed("read", error))?;
        for row in changes.iter().map_err(|error| self.failed("read", error))? {
            let (revision, value) = row.map_err(|error| self.failed("read", error))?;
            let (revision, text) = (revision.value(), value.value());
            let subject = records::subject(text).map_err(|reason| self.row(text, reason))?;
            let mark = marks.as_ref().map(|marks| marks.get(revision)).transpose();
            let mark = mark.map_err(|error| self.failed("read", error))?.flatten();
            let mark = mark.and_then(|bytes| Mark::from_bytes(bytes.value()));
            state.log.push_back(Logged { revision, subject, mark });
        }
        Ok(())
    }

    /// Reads what is revoked; a store of a version before revocations has no tables of them.
    fn load_revocations(&self, transaction: &ReadTransaction, state: &mut State) -> Result<(), StoreError> {
        let absent = |error: &TableError| matches!(error, TableError::TableDoesNotExist(_));
        match transaction.open_table(REVOCATIONS) {
            Err(error) if absent(&error) => {}
            Err(error) => return Err(self.failed("read", error)),
            Ok(table) => {
                let revocations = Arc::make_mut(&mut state.revocations);
                for row in table.iter().map_err(|error| self.failed("read", error))? {
                    let (id, value) = row.map_err(|error| self.failed("read", error))?;
                    let parsed = StoredRevocation::parse(value.value());
                    let revocation = parsed.map_err(|reason| self.row(id.value(), reason))?;
                    revocations.add(Arc::new(revocation)).map_err(|error| self.row(id.value(), error))?;
                }
            }
        }
        match transaction.open_table(REINSTATED) {
            Err(error) if absent(&error) => Ok(()),
            Err(error) => Err(self.failed("read", error)),
            Ok(table) => {
                for row in table.iter().map_err(|error| self.failed("read", error))? {
                    let (id, at) = row.map_err(|error| self.failed("read", error))?;
                    let parsed = id.value().parse().map_err(|error| self.row(id.value(), error))?;
                    state.reinstated.insert(parsed, Timestamp(at.value()));
                }
                Ok(())
            }
        }
    }

    /// Writes a new set.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn create(&self, state: &State) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(|error| self.failed("written", error))?;
        let written = (|| {
            transaction.open_table(NUMBERS)?.insert(KEY_SCHEMA, SCHEMA)?;
            transaction.open_table(NUMBERS)?.insert(KEY_REVISION, state.revision)?;
            transaction.open_table(TEXTS)?.insert(KEY_STORE_ID, &*state.store_id)?;
            transaction.open_table(TEXTS)?.insert(KEY_FEDERATION, &*StoredBundle::text(&state.federation))?;
            transaction.open_table(MEMBERS)?;
            transaction.open_table(TOKENS)?;
            transaction.open_table(REVOCATIONS)?;
            transaction.open_table(REINSTATED)?;
            transaction.open_table(CHANGES)?;
            transaction.open_table(MARKS)?;
            Ok::<(), redb::Error>(())
        })();
        written.map_err(|error| self.failed("written", error))?;
        transaction.commit().map_err(|error| self.failed("written", error))
    }

    /// Makes `writes` durable, all or none; `after` is the state they lead to, `before` the revision they start from.
    ///
    /// # Errors
    /// When they are not on disk; the store is then to be opened again.
    pub fn commit(&self, writes: &[Write], before: u64, after: &State) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(|error| self.failed("written", error))?;
        let gone = writes.iter().any(|write| matches!(write, Write::MemberGone(_)));
        let written = writes
            .iter()
            .try_for_each(|write| put(&transaction, write))
            .and_then(|()| if gone { numbering::put(&transaction, before, after) } else { Ok(()) })
            .and_then(|()| put_changes(&transaction, before, after));
        written.map_err(|error| self.failed("written", error))?;
        let told = self.put_audit(&transaction, writes, after)?;
        transaction.commit().map_err(|error| self.failed("written", error))?;
        told.iter().for_each(audit::log);
        Ok(())
    }

    fn failed(&self, action: &'static str, error: impl Into<redb::Error>) -> StoreError {
        StoreError::Database { path: self.path.clone(), action, error: Box::new(error.into()) }
    }

    fn row(&self, what: &str, reason: impl ToString) -> StoreError {
        StoreError::Row { path: self.path.clone(), what: what.to_owned(), reason: reason.to_string() }
    }
}

fn put(transaction: &WriteTransaction, write: &Write) -> Result<(), redb::Error> {
    match write {
        Write::Member(record) | Write::MemberQuietly(record) => {
            let mut members = transaction.open_table(MEMBERS)?;
            members.insert(record.member.cluster.as_str(), &*StoredMember::text(record))?;
        }
        Write::MemberGone(cluster) => {
            transaction.open_table(MEMBERS)?.remove(cluster.as_str())?;
        }
        Write::Token(record) => {
            transaction.open_table(TOKENS)?.insert(&*record.id.to_string(), &*StoredToken::text(record))?;
        }
        Write::TokenGone(id) => {
            transaction.open_table(TOKENS)?.remove(&*id.to_string())?;
        }
        Write::Federation(bundle) => {
            transaction.open_table(TEXTS)?.insert(KEY_FEDERATION, &*StoredBundle::text(bundle))?;
        }
        // Written after everything it tells of.
        Write::Audit { .. } => {}
        Write::Foreign(record) | Write::ForeignQuietly(record) => foreign::put(transaction, record)?,
        Write::ForeignGone(trust_domain) => foreign::remove(transaction, trust_domain)?,
        Write::Revocation(revocation) => {
            let text = StoredRevocation::text(revocation);
            transaction.open_table(REVOCATIONS)?.insert(&*revocation.id.to_string(), &*text)?;
            transaction.open_table(REINSTATED)?.remove(&*revocation.id.to_string())?;
        }
        Write::Reinstated(id, at) => {
            transaction.open_table(REVOCATIONS)?.remove(&*id.to_string())?;
            transaction.open_table(REINSTATED)?.insert(&*id.to_string(), at.0)?;
        }
        Write::ReinstatedGone(id) => {
            transaction.open_table(REINSTATED)?.remove(&*id.to_string())?;
        }
        Write::StoreId(id) => {
            transaction.open_table(TEXTS)?.insert(KEY_STORE_ID, &**id)?;
        }
    }
    Ok(())
}

fn put_changes(transaction: &WriteTransaction, before: u64, after: &State) -> Result<(), redb::Error> {
    transaction.open_table(NUMBERS)?.insert(KEY_SCHEMA, SCHEMA)?;
    if after.audit.origin != after.store_id {
        transaction.open_table(TEXTS)?.insert(KEY_ORIGIN, &*after.audit.origin)?;
    }
    if after.revision == before {
        return Ok(());
    }
    let (mut changes, mut marks) = (transaction.open_table(CHANGES)?, transaction.open_table(MARKS)?);
    for Logged { revision, subject, mark } in after.log.iter().filter(|logged| logged.revision > before) {
        changes.insert(revision, &*records::subject_text(subject))?;
        if let Some(mark) = mark {
            marks.insert(revision, mark.as_bytes())?;
        }
    }
    let forgotten = after.revision.saturating_sub(MAX_LOG as u64);
    changes.retain_in(..=forgotten, |_, _| false)?;
    marks.retain_in(..=forgotten, |_, _| false)?;
    transaction.open_table(NUMBERS)?.insert(KEY_REVISION, after.revision)?;
    Ok(())
}

#[cfg(test)]
mod tests;
