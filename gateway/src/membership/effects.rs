//! When a change of the membership has taken effect on everything that lives.
//!
//! Owns the promise behind an acknowledgement: the live tunnels and the live connections were judged by the change, and what
//! it does not admit any more is cut. Never judges anything itself.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::control::Members;

/// How long a change may take to be in force before that is told: compiling tables takes milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// The members by which each part has judged last, the very value that was sent to it.
#[derive(Debug, Clone)]
pub struct Effects {
    /// The live tunnels.
    pub tunnels: watch::Receiver<Members>,
    /// The live connections, after the tables that new ones are judged by.
    pub connections: watch::Receiver<Members>,
}

impl Effects {
    /// Waits until both have judged by the newest members, and so by every change that was enforced before.
    async fn settle(&mut self, newest: &watch::Receiver<Members>) {
        for part in [&mut self.tunnels, &mut self.connections] {
            let judged = part.wait_for(|judged| Arc::ptr_eq(judged, &newest.borrow())).await.is_ok();
            if !judged {
                // The part has ended, and the program is about to.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The revision that is to be acknowledged as soon as it has taken effect.
#[derive(Debug)]
pub struct Acknowledging {
    effects: Effects,
    members: watch::Receiver<Members>,
    waiting: Option<Waiting>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    revision: u64,
    /// When it is late; nothing once that was told.
    late_at: Option<Instant>,
}

impl Acknowledging {
    /// Nothing is to be acknowledged yet; `members` are those that are sent to the parts.
    #[must_use]
    pub fn new(effects: Effects, members: watch::Receiver<Members>) -> Self {
        Self { effects, members, waiting: None }
    }

    /// A revision was enforced: its members, and what is revoked with them, were sent.
    pub fn handle_applied(&mut self, revision: u64) {
        let late_at = self.waiting.map_or_else(|| Some(Instant::now() + LIMIT), |waiting| waiting.late_at);
        self.waiting = Some(Waiting { revision, late_at });
    }

    /// The revision that has taken effect; waits for ever when there is none. Cancel safe. While one is late it is not
    /// acknowledged, and that is told once.
    pub async fn next(&mut self) -> u64 {
        let Some(Waiting { revision, late_at }) = self.waiting else { return std::future::pending().await };
        if let Some(late_at) = late_at
            && timeout_at(late_at, self.effects.settle(&self.members)).await.is_err()
        {
            tracing::error!(revision, limit = ?LIMIT, "a change of the cluster set has not taken effect in time; it is not acknowledged until it has");
            self.waiting = Some(Waiting { revision, late_at: None });
        }
        self.effects.settle(&self.members).await;
        self.waiting = None;
        revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    struct Parts {
        members: watch::Sender<Members>,
        tunnels: watch::Sender<Members>,
        connections: watch::Sender<Members>,
    }

    fn parts() -> (Parts, Acknowledging) {
        let parts = Parts {
            members: watch::Sender::default(),
            tunnels: watch::Sender::default(),
            connections: watch::Sender::default(),
        };
        let effects = Effects { tunnels: parts.tunnels.subscribe(), connections: parts.connections.subscribe() };
        let acknowledging = Acknowledging::new(effects, parts.members.subscribe());
        (parts, acknowledging)
    }

    impl Parts {
        fn enforce(&self) -> Members {
            let members = Members::default();
            self.members.send_replace(members.clone());
            members
        }
    }

    #[tokio::test]
    async fn a_revision_is_acknowledged_once_tunnels_and_connections_were_judged_by_it() {
        let (parts, mut acknowledging) = parts();
        assert_eq!(acknowledging.next().now_or_never(), None, "there is nothing to acknowledge");
        let members = parts.enforce();
        acknowledging.handle_applied(7);
        assert_eq!(acknowledging.next().now_or_never(), None);
        parts.connections.send_replace(members.clone());
        assert_eq!(acknowledging.next().now_or_never(), None, "the tunnels were not judged yet");
        parts.tunnels.send_replace(members);
        assert_eq!(acknowledging.next().await, 7);
        assert_eq!(acknowledging.next().now_or_never(), None, "once is enough");
    }

    #[tokio::test]
    async fn equal_members_of_an_earlier_change_do_not_count() {
        let (parts, mut acknowledging) = parts();
        let earlier = parts.enforce();
        parts.tunnels.send_replace(earlier.clone());
        parts.connections.send_replace(earlier);
        let later = parts.enforce();
        acknowledging.handle_applied(8);
        assert_eq!(acknowledging.next().now_or_never(), None);
        parts.tunnels.send_replace(later.clone());
        parts.connections.send_replace(later);
        assert_eq!(acknowledging.next().await, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_is_acknowledged_when_it_has_taken_effect_and_not_before() {
        let (parts, mut acknowledging) = parts();
        let members = parts.enforce();
        acknowledging.handle_applied(9);
        assert!(tokio::time::timeout(3 * LIMIT, acknowledging.next()).await.is_err());
        parts.tunnels.send_replace(members.clone());
        parts.connections.send_replace(members);
        assert_eq!(acknowledging.next().await, 9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_has_ended_acknowledges_nothing() {
        let (parts, mut acknowledging) = parts();
        parts.enforce();
        acknowledging.handle_applied(9);
        drop(parts);
        assert!(tokio::time::timeout(3 * LIMIT, acknowledging.next()).await.is_err());
    }
}
