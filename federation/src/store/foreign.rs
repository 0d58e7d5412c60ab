//! How foreign trust domains are written into the store.
//!
//! Owns their table and its JSON. A store that was written before there were any has no such table, and is read as having
//! none.

use std::{sync::Arc, time::Duration};

use federation_model::{
    bundle::TrustBundle,
    foreign::{BundleSource, EndpointProfile},
    spiffe::{TrustDomain, as_text, parse_workload_id},
    time::Timestamp,
};
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    records::{StoredBundle, json, parsed},
};
use crate::state::{ForeignRecord, State};

const FOREIGN: TableDefinition<'_, &str, &str> = TableDefinition::new("foreign");

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "as_text")]
    trust_domain: TrustDomain,
    url: String,
    /// Of an `https_spiffe` endpoint; one without an id has the profile `https_web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint_bundle: Option<StoredBundle>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bundle: Option<StoredBundle>,
    sequenced: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_hint_seconds: Option<u64>,
    added_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed_at: Option<Timestamp>,
}

fn text(record: &ForeignRecord) -> String {
    let source = &record.source;
    json(&Stored {
        trust_domain: source.trust_domain.clone(),
        url: source.url.to_string(),
        endpoint_id: source.profile.endpoint_id().map(ToString::to_string),
        endpoint_bundle: record.endpoint_bundle.as_ref().map(StoredBundle::of),
        bundle: record.bundle.as_ref().map(StoredBundle::of),
        sequenced: record.sequenced,
        refresh_hint_seconds: record.refresh_hint.map(|hint| hint.as_secs()),
        added_at: record.added_at,
        changed_at: record.changed_at,
    })
}

fn parse(text: &str) -> Result<ForeignRecord, String> {
    let stored: Stored = parsed(text)?;
    let profile = match &stored.endpoint_id {
        None => EndpointProfile::HttpsWeb,
        Some(id) => {
            EndpointProfile::HttpsSpiffe { endpoint_id: parse_workload_id(id).map_err(|error| error.to_string())? }
        }
    };
    let bundle = |stored: Option<StoredBundle>| -> Result<Option<TrustBundle>, String> {
        stored.map(StoredBundle::into_bundle).transpose()
    };
    Ok(ForeignRecord {
        source: BundleSource {
            trust_domain: stored.trust_domain,
            url: stored.url.parse().map_err(|error: federation_model::foreign::BundleUrlError| error.to_string())?,
            profile,
        },
        endpoint_bundle: bundle(stored.endpoint_bundle)?,
        bundle: bundle(stored.bundle)?,
        sequenced: stored.sequenced,
        refresh_hint: stored.refresh_hint_seconds.map(Duration::from_secs),
        added_at: stored.added_at,
        changed_at: stored.changed_at,
    })
}

/// Reads every foreign trust domain into `state`.
pub(super) fn load(store: &Store, transaction: &ReadTransaction, state: &mut State) -> Result<(), StoreError> {
    let table = match transaction.open_table(FOREIGN) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(store.failed("read", error)),
    };
    for row in table.iter().map_err(|error| store.failed("read", error))? {
        let (key, value) = row.map_err(|error| store.failed("read", error))?;
        let record = parse(value.value()).map_err(|reason| store.row(key.value(), reason))?;
        state.foreign.insert(record.source.trust_domain.clone(), Arc::new(record));
    }
    Ok(())
}

pub(super) fn put(transaction: &WriteTransaction, record: &ForeignRecord) -> Result<(), redb::Error> {
    transaction.open_table(FOREIGN)?.insert(record.source.trust_domain.as_str(), &*text(record))?;
    Ok(())
}

pub(super) fn remove(transaction: &WriteTransaction, trust_domain: &TrustDomain) -> Result<(), redb::Error> {
    transaction.open_table(FOREIGN)?.remove(trust_domain.as_str())?;
    Ok(())
}
