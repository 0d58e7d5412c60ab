//! What was served of trust domains whose cluster left, in the store.
//!
//! Owns their table. A store that was written before there was one has none, and is read as remembering nothing.

use federation_model::spiffe::TrustDomain;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableError, WriteTransaction};

use super::{Store, StoreError};
use crate::state::{State, numbering::Left};

/// Trust domain to the highest number served, and the revision with which its cluster left.
const LEFT: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("left");

pub(super) fn load(store: &Store, transaction: &ReadTransaction, state: &mut State) -> Result<(), StoreError> {
    let table = match transaction.open_table(LEFT) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(store.failed("read", error)),
    };
    for row in table.iter().map_err(|error| store.failed("read", error))? {
        let (key, value) = row.map_err(|error| store.failed("read", error))?;
        let domain = TrustDomain::new(key.value()).map_err(|error| store.row(key.value(), error))?;
        let (served, revision) = value.value();
        state.left.insert(domain, Left { served, revision });
    }
    Ok(())
}

/// Writes what `after` remembers since revision `before`, and forgets what it forgot.
pub(super) fn put(transaction: &WriteTransaction, before: u64, after: &State) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(LEFT)?;
    for (domain, left) in after.left.iter().filter(|(_, left)| left.revision > before) {
        table.insert(domain.as_str(), (left.served, left.revision))?;
    }
    table.retain(|domain, _| TrustDomain::new(domain).is_ok_and(|domain| after.left.contains_key(&domain)))?;
    Ok(())
}
