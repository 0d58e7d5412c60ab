//! Which members are there, and how far they are.
//!
//! Owns what is known of their watches and forgets it with the program. Never decides who is a member.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use federation_model::{names::ClusterName, time::Timestamp};
use tokio::sync::watch;

use crate::metrics::{Counted, Metrics};

/// Watches of one member at a time: one per replica of its gateway, and those of replicas that vanished.
pub(crate) const MAX_WATCHES: u32 = 16;

/// What is known of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Its open watches.
    pub(crate) watches: u32,
    /// The revision that every open watch has acknowledged; without one, what it was last.
    pub(crate) acknowledged: u64,
    /// When it was heard of last.
    pub(crate) last_seen: Option<Timestamp>,
}

/// One member with each of its open watches.
#[derive(Debug, Default)]
struct Known {
    /// By number, what each has acknowledged: nothing when it is new, whatever the replica says it has seen.
    watches: BTreeMap<u64, u64>,
    seen: Seen,
}

impl Known {
    /// Follows its watches; whether that is news.
    fn refresh(&mut self) -> bool {
        let before = self.seen;
        self.seen.watches = u32::try_from(self.watches.len()).unwrap_or(u32::MAX);
        if let Some(slowest) = self.watches.values().min() {
            self.seen.acknowledged = *slowest;
        }
        before != self.seen
    }
}

/// What is known of every member; at most as many entries as there were members since the start.
#[derive(Debug, Clone)]
pub(crate) struct Presence {
    members: watch::Sender<BTreeMap<ClusterName, Known>>,
    numbers: Arc<AtomicU64>,
    metrics: Metrics,
}

/// Changes whenever a member's watches or acknowledgements do.
#[derive(Debug)]
pub(crate) struct Changes(watch::Receiver<BTreeMap<ClusterName, Known>>);

impl Changes {
    /// Resolves after the next change.
    pub(crate) async fn changed(&mut self) {
        // The sender is in whatever asks, so that it outlives the question.
        let _ = self.0.changed().await;
    }
}

impl Presence {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { members: watch::Sender::new(BTreeMap::new()), numbers: Arc::default(), metrics }
    }

    pub(crate) fn of(&self, cluster: &ClusterName) -> Seen {
        self.members.borrow().get(cluster).map(|known| known.seen).unwrap_or_default()
    }

    /// Every later change, and one at once.
    pub(crate) fn changes(&self) -> Changes {
        let mut receiver = self.members.subscribe();
        receiver.mark_changed();
        Changes(receiver)
    }

    /// A member was heard of.
    pub(crate) fn seen(&self, cluster: &ClusterName, now: Timestamp) {
        self.members.send_if_modified(|members| {
            members.entry(cluster.clone()).or_default().seen.last_seen = Some(now);
            false
        });
    }

    /// A member opens a watch; nothing when it has too many.
    pub(crate) fn watch(&self, cluster: &ClusterName, now: Timestamp) -> Option<Watching> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let opened = self.members.send_if_modified(|members| {
            let known = members.entry(cluster.clone()).or_default();
            if known.seen.watches >= MAX_WATCHES {
                return false;
            }
            known.watches.insert(number, 0);
            known.seen.last_seen = Some(now);
            known.refresh()
        });
        let counted = opened.then(|| Counted::in_gauge(self.metrics.watchers()))?;
        Some(Watching { presence: self.clone(), cluster: cluster.clone(), number, _counted: counted })
    }

    /// Forgets a cluster that is no member any more.
    pub(crate) fn forget(&self, cluster: &ClusterName) {
        self.members.send_if_modified(|members| {
            let idle = members.get(cluster).is_some_and(|known| known.watches.is_empty());
            idle && members.remove(cluster).is_some()
        });
    }
}

/// An open watch, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watching {
    presence: Presence,
    cluster: ClusterName,
    number: u64,
    _counted: Counted,
}

impl Watching {
    /// The replica that watches has applied everything up to `revision`.
    pub(crate) fn acknowledged(&self, revision: u64, now: Timestamp) {
        self.change(|known| {
            known.seen.last_seen = Some(now);
            if let Some(held) = known.watches.get_mut(&self.number) {
                *held = revision;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        self.presence.members.send_if_modified(|members| {
            members.get_mut(&self.cluster).is_some_and(|known| {
                change(known);
                known.refresh()
            })
        });
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.change(|known| {
            known.watches.remove(&self.number);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence() -> (Presence, ClusterName) {
        (Presence::new(Metrics::default()), "west".parse().unwrap())
    }

    #[test]
    fn a_member_has_a_limited_number_of_watches_and_closed_ones_make_room() {
        let ((presence, west), now) = (presence(), Timestamp(7));
        let mut open: Vec<_> = (0..MAX_WATCHES).map(|_| presence.watch(&west, now).unwrap()).collect();
        assert!(presence.watch(&west, now).is_none());
        open.pop();
        assert!(presence.watch(&west, now).is_some());
        drop(open);
        assert_eq!(presence.of(&west), Seen { watches: 0, acknowledged: 0, last_seen: Some(now) });
        presence.forget(&west);
        assert_eq!(presence.of(&west), Seen::default());
    }

    #[test]
    fn a_member_has_acknowledged_what_the_slowest_of_its_open_watches_has() {
        let ((presence, west), now) = (presence(), Timestamp(7));
        let (one, two) = (presence.watch(&west, now).unwrap(), presence.watch(&west, now).unwrap());
        one.acknowledged(5, now);
        assert_eq!(presence.of(&west).acknowledged, 0, "the other replica has not");
        two.acknowledged(4, now);
        assert_eq!(presence.of(&west).acknowledged, 4);
        drop(two);
        assert_eq!(presence.of(&west).acknowledged, 5, "one that is gone holds nobody up");
        let late = presence.watch(&west, now).unwrap();
        assert_eq!(presence.of(&west).acknowledged, 0, "one that is new has acknowledged nothing yet");
        drop((one, late));
        assert_eq!(presence.of(&west), Seen { watches: 0, acknowledged: 0, last_seen: Some(now) });
    }

    #[tokio::test]
    async fn acknowledgements_wake_whoever_waits_and_signs_of_life_do_not() {
        let ((presence, west), now) = (presence(), Timestamp(7));
        let watching = presence.watch(&west, now).unwrap();
        let mut changes = presence.changes();
        changes.changed().await;
        presence.seen(&west, Timestamp(8));
        assert!(!changes.0.has_changed().unwrap());
        watching.acknowledged(1, now);
        changes.changed().await;
        watching.acknowledged(1, now);
        assert!(!changes.0.has_changed().unwrap());
        drop(watching);
        assert!(changes.0.has_changed().unwrap());
    }
}
