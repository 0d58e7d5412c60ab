//! The connections that live, judged again on every new table.
//!
//! Owns the means to cut a connection. Never moves bytes, never decides alone: the tables do.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashMap;
use federation_model::{
    addr::Port,
    names::{ClusterName, ServiceKey},
    outcome::Outcome,
};
use gateway_core::tables::Tables;
use tokio::sync::oneshot;

/// What a live connection was admitted for.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The other cluster, when there is one.
    pub peer: Option<ClusterName>,
    /// The service of this cluster it was delivered to, when it was.
    pub delivered: Option<(ServiceKey, Port)>,
}

struct Entry {
    grant: Grant,
    cut: oneshot::Sender<Outcome>,
}

/// Every live connection. Bounded by `limits.connections`, which every connection passes first.
#[derive(Clone, Default)]
pub struct Live {
    entries: Arc<DashMap<u64, Entry>>,
    next: Arc<AtomicU64>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("connections", &self.entries.len()).finish()
    }
}

/// A live connection's place in the registry; leaves it when dropped.
#[derive(Debug)]
pub struct Registered {
    live: Live,
    id: u64,
    cut: oneshot::Receiver<Outcome>,
}

impl Live {
    /// Registers a connection.
    #[must_use]
    pub fn register(&self, grant: Grant) -> Registered {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.entries.insert(id, Entry { grant, cut: sender });
        Registered { live: self.clone(), id, cut: receiver }
    }

    /// Cuts every connection that would not be admitted by `tables`; how many that were.
    pub fn judge(&self, tables: &Tables) -> usize {
        let condemned: Vec<(u64, Outcome)> = self
            .entries
            .iter()
            .filter_map(|entry| verdict(&entry.value().grant, tables).map(|outcome| (*entry.key(), outcome)))
            .collect();
        for (id, outcome) in &condemned {
            if let Some((_, entry)) = self.entries.remove(id) {
                // A connection that has just ended on its own needs no cut.
                let _ = entry.cut.send(*outcome);
            }
        }
        condemned.len()
    }
}

/// Why a connection may not go on, if so.
fn verdict(grant: &Grant, tables: &Tables) -> Option<Outcome> {
    if grant.peer.as_ref().is_some_and(|peer| !tables.is_member(peer)) {
        return Some(Outcome::Revoked);
    }
    match &grant.delivered {
        Some((service, port)) if !tables.exports(service, *port) => Some(Outcome::NotExported),
        Some(_) | None => None,
    }
}

impl Registered {
    /// Resolves when the connection is to be cut.
    pub async fn cut(&mut self) -> Outcome {
        match (&mut self.cut).await {
            Ok(outcome) => outcome,
            // The entry leaves the map only through `judge`, which sends, or through the drop of this value.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.live.entries.remove(&self.id);
    }
}
