//! The revocations a member holds.
//!
//! Owns the rule that one is forgotten only when the service says that it was lifted, and that a cluster it covers is no peer
//! whatever the service lists: a service that was restored from an old backup, or is not to be trusted, must not bring a
//! revoked identity back by keeping silent about it. Never cuts anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use federation_client::watch::WatchUpdate;
use federation_model::{
    member::{Change, Member},
    names::ClusterName,
    revocation::{RevocationId, Revocations},
};

/// The most ids a warning lists.
const MAX_SHOWN: usize = 5;

/// The revocations after `update`, when `held` are there before.
pub(super) fn after(held: &Arc<Revocations>, update: &WatchUpdate) -> Arc<Revocations> {
    let mut next = Arc::clone(held);
    let mut known = BTreeSet::new();
    for change in &update.changes {
        match change {
            Change::Revoked(revocation) => {
                known.insert(revocation.id);
                if let Err(error) = Arc::make_mut(&mut next).add(Arc::clone(revocation)) {
                    tracing::error!(%error, %revocation, "a revocation is not in force");
                }
            }
            Change::Reinstated(id) => {
                known.insert(*id);
                if next.named(id).is_some() {
                    Arc::make_mut(&mut next).lift(id);
                }
            }
            Change::Upsert(_)
            | Change::Removed(_)
            | Change::Federation(_)
            | Change::Foreign(_)
            | Change::ForeignRemoved(_) => {}
        }
    }
    if update.reset {
        warn_of_lost(held, &known);
    }
    next
}

/// A reset brings every revocation the service knows. It comes once for each store, and so does this.
fn warn_of_lost(held: &Revocations, known: &BTreeSet<RevocationId>) {
    let lost: Vec<_> = held.iter().map(|revocation| revocation.id).filter(|id| !known.contains(id)).collect();
    if !lost.is_empty() {
        let shown: Vec<_> = lost.iter().take(MAX_SHOWN).map(ToString::to_string).collect();
        tracing::warn!(
            revocations = lost.len(),
            ids = shown.join(", "),
            "the federation service has lost revocations that stay in force here: revoke the same again there, or lift them with fedctl revoke reinstate --force"
        );
    }
}

/// The revocations an update brings.
pub(super) fn told(update: &WatchUpdate) -> Vec<RevocationId> {
    let revoked = |change: &Change| match change {
        Change::Revoked(revocation) => Some(revocation.id),
        Change::Upsert(_)
        | Change::Removed(_)
        | Change::Federation(_)
        | Change::Foreign(_)
        | Change::ForeignRemoved(_)
        | Change::Reinstated(_) => None,
    };
    update.changes.iter().filter_map(revoked).collect()
}

/// Whether all of these are in force: what is not must not be acknowledged.
pub(super) fn hold(revocations: &Revocations, told: &[RevocationId]) -> anyhow::Result<()> {
    match told.iter().find(|id| revocations.named(id).is_none()) {
        None => Ok(()),
        Some(missing) => anyhow::bail!("there is no room for revocation {missing}; lift those that are not needed"),
    }
}

/// Takes out the members that are revoked; `before` are those in force until now.
pub(super) fn exclude(
    members: &mut BTreeMap<ClusterName, Member>,
    revocations: &Revocations,
    before: &BTreeMap<ClusterName, Member>,
) {
    members.retain(|cluster, member| {
        if let Some(revocation) = revocations.of_cluster(cluster) {
            tracing::warn!(%cluster, %revocation, "the federation service lists a cluster that was revoked; it stays cut off");
            return false;
        }
        let Some(revocation) = revocations.of_id(&member.gateway_id) else { return true };
        if before.contains_key(cluster) {
            tracing::info!(%cluster, %revocation, "a cluster is cut off: the id of its gateways was revoked");
        }
        false
    });
}

#[cfg(test)]
mod tests;
