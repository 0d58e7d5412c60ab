//! Which members are there.
//!
//! Owns what is known of their watches and forgets it with the program. Never decides who is a member.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use federation_model::{names::ClusterName, time::Timestamp};

use crate::metrics::{Counted, Metrics};

/// Watches of one member at a time: one per replica of its gateway, and those of replicas that vanished.
pub(crate) const MAX_WATCHES: u32 = 16;

/// What is known of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Its open watches.
    pub(crate) watches: u32,
    /// The revision it acknowledged last.
    pub(crate) acknowledged: u64,
    /// When it was heard of last.
    pub(crate) last_seen: Option<Timestamp>,
}

/// What is known of every member; at most as many entries as there were members since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Presence {
    members: Arc<Mutex<BTreeMap<ClusterName, Seen>>>,
    metrics: Metrics,
}

impl Presence {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { members: Arc::default(), metrics }
    }

    pub(crate) fn of(&self, cluster: &ClusterName) -> Seen {
        self.members().get(cluster).copied().unwrap_or_default()
    }

    /// A member was heard of.
    pub(crate) fn seen(&self, cluster: &ClusterName, now: Timestamp) {
        self.members().entry(cluster.clone()).or_default().last_seen = Some(now);
    }

    /// A member applied everything up to `revision`.
    pub(crate) fn acknowledged(&self, cluster: &ClusterName, revision: u64, now: Timestamp) {
        let mut members = self.members();
        let seen = members.entry(cluster.clone()).or_default();
        (seen.acknowledged, seen.last_seen) = (revision, Some(now));
    }

    /// A member opens a watch; nothing when it has too many.
    pub(crate) fn watch(&self, cluster: &ClusterName, now: Timestamp) -> Option<Watching> {
        let mut members = self.members();
        let seen = members.entry(cluster.clone()).or_default();
        if seen.watches >= MAX_WATCHES {
            return None;
        }
        seen.watches += 1;
        seen.last_seen = Some(now);
        let counted = Counted::in_gauge(self.metrics.watchers());
        Some(Watching { presence: self.clone(), cluster: cluster.clone(), _counted: counted })
    }

    /// Forgets a cluster that is no member any more.
    pub(crate) fn forget(&self, cluster: &ClusterName) {
        let mut members = self.members();
        if members.get(cluster).is_some_and(|seen| seen.watches == 0) {
            members.remove(cluster);
        }
    }

    /// Holders of the lock only change numbers, so a poisoned one is still whole.
    fn members(&self) -> MutexGuard<'_, BTreeMap<ClusterName, Seen>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open watch, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watching {
    presence: Presence,
    cluster: ClusterName,
    _counted: Counted,
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(seen) = self.presence.members().get_mut(&self.cluster) {
            seen.watches = seen.watches.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_a_limited_number_of_watches_and_closed_ones_make_room() {
        let (presence, west, now) = (Presence::default(), "west".parse().unwrap(), Timestamp(7));
        let mut open: Vec<_> = (0..MAX_WATCHES).map(|_| presence.watch(&west, now).unwrap()).collect();
        assert!(presence.watch(&west, now).is_none());
        open.pop();
        assert!(presence.watch(&west, now).is_some());
        drop(open);
        assert_eq!(presence.of(&west), Seen { watches: 0, acknowledged: 0, last_seen: Some(now) });
        presence.forget(&west);
        assert_eq!(presence.of(&west), Seen::default());
    }
}
