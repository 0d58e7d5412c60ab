//! The connections that live, judged again on every new table.
//!
//! Owns the means to cut a connection. Never moves bytes, never decides alone: the tables do.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;

use dashmap::DashMap;
use federation_model::{
    addr::Port,
    caller::Caller,
    names::{ClusterName, ServiceKey},
    outcome::Outcome,
    revocation::Serial,
};
use federation_pki::verify::serial_of;
use gateway_core::{
    policy::{Aspect, Call, Ruling},
    tables::Tables,
};
use tokio::sync::oneshot;

use crate::requests::Requests;

/// What a live connection was admitted for.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The other cluster, when there is one.
    pub peer: Option<ClusterName>,
    /// The service of this cluster it was delivered to, when it was.
    pub delivered: Option<(ServiceKey, Port)>,
    /// Who calls.
    pub caller: Caller,
    /// Its requests under way, when it is delivered as HTTP.
    pub requests: Option<Arc<Requests>>,
    /// The address of this cluster whose owner the caller is taken for, where that is how the caller is known.
    pub attested_at: Option<IpAddr>,
}

struct Entry {
    grant: Grant,
    /// The certificate the caller proved its id with.
    serial: Option<Serial>,
    cut: oneshot::Sender<Cut>,
}

/// Why a connection may not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cut {
    outcome: Outcome,
    /// What refuses it, where a policy does.
    by: Option<Ruling>,
}

impl From<Outcome> for Cut {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, by: None }
    }
}

/// Every live connection. Bounded by `limits.connections`, which every connection passes first.
#[derive(Clone, Default)]
pub struct Live(Arc<Inner>);

#[derive(Default)]
struct Inner {
    entries: DashMap<u64, Entry>,
    next: AtomicU64,
    /// What was judged by last: a connection that was admitted by older tables is judged when it registers.
    newest: ArcSwapOption<Tables>,
    /// How every connection ends from now on.
    over: OnceLock<Outcome>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("connections", &self.0.entries.len()).finish()
    }
}

/// A live connection's place in the registry; leaves it when dropped.
#[derive(Debug)]
pub struct Registered {
    live: Live,
    id: u64,
    cut: oneshot::Receiver<Cut>,
    /// What it was cut by, where that is a policy.
    by: Option<Ruling>,
    requests: Option<Arc<Requests>>,
}

impl Live {
    /// Registers a connection.
    #[must_use]
    pub fn register(&self, grant: Grant) -> Registered {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        // Read once: a verdict is given on every new table.
        let serial = grant.caller.certificate().and_then(|certificate| serial_of(certificate).ok());
        self.0.entries.insert(id, Entry { grant: grant.clone(), serial: serial.clone(), cut: sender });
        let requests = grant.requests.clone();
        let registered = Registered { live: self.clone(), id, cut: receiver, by: None, requests };
        // In this order: whoever judges meanwhile sees the entry, or what it judged by is seen here.
        let newest = self.0.newest.load();
        let late = newest.as_deref().and_then(|tables| verdict(&grant, serial.as_ref(), tables));
        if let Some(cut) = self.0.over.get().copied().map(Cut::from).or(late) {
            self.cut(id, cut);
        }
        registered
    }

    /// Cuts every connection that would not be admitted by `tables`; how many that were.
    pub fn judge(&self, tables: &Tables) -> usize {
        self.0.newest.store(Some(Arc::new(tables.clone())));
        self.cut_where(|entry| verdict(&entry.grant, entry.serial.as_ref(), tables))
    }

    /// Cuts every connection, those that are still to come among them; how many there are.
    pub fn cut_all(&self, outcome: Outcome) -> usize {
        let outcome = *self.0.over.get_or_init(|| outcome);
        self.cut_where(|_| Some(outcome.into()))
    }

    fn cut_where(&self, verdict: impl Fn(&Entry) -> Option<Cut>) -> usize {
        let entries = self.0.entries.iter();
        let condemned: Vec<(u64, Cut)> =
            entries.filter_map(|entry| verdict(entry.value()).map(|cut| (*entry.key(), cut))).collect();
        let count = condemned.len();
        condemned.into_iter().for_each(|(id, cut)| self.cut(id, cut));
        count
    }

    fn cut(&self, id: u64, cut: Cut) {
        if let Some((_, entry)) = self.0.entries.remove(&id) {
            // A connection that has just ended on its own needs no cut.
            let _ = entry.cut.send(cut);
        }
    }
}

/// Why a connection may not go on, if so.
fn verdict(grant: &Grant, serial: Option<&Serial>, tables: &Tables) -> Option<Cut> {
    if grant.peer.as_ref().is_some_and(|peer| !tables.is_member(peer)) {
        return Some(Outcome::Revoked.into());
    }
    if let Some(id) = grant.caller.principal() {
        let by_serial = |serial| tables.revocations().of_serial(id.trust_domain(), serial);
        if tables.revoked(id).is_some() || serial.and_then(by_serial).is_some() {
            return Some(Outcome::Revoked.into());
        }
        if grant.attested_at.is_some_and(|address| tables.principal_of(address) != Some(id)) {
            return Some(Outcome::CallerGone.into());
        }
    }
    let (service, port) = grant.delivered.as_ref()?;
    let source_cluster = grant.peer.as_ref().unwrap_or_else(|| tables.cluster());
    if !tables.exports_to(service, *port, source_cluster) {
        return Some(Outcome::NotExported.into());
    }
    let call = Call { caller: &grant.caller, source_cluster, service, port: *port };
    let refused = |aspect: Aspect<'_>| tables.policies().judge(&call, aspect).refusal().map(Ruling::from);
    let by = match &grant.requests {
        // Requests that are still to come are judged one by one.
        Some(requests) => requests.find(|request| refused(Aspect::HttpRequest(request))),
        None => refused(Aspect::Bytes),
    };
    by.map(|by| Cut { outcome: Outcome::Denied, by: Some(by) })
}

impl Registered {
    /// What refused it, where a policy did: when it was cut, or, as to its last request, before.
    #[must_use]
    pub fn refused_by(&self) -> Option<Ruling> {
        self.by.clone().or_else(|| self.requests.as_ref()?.refused_by())
    }

    /// Resolves when the connection is to be cut.
    pub async fn cut(&mut self) -> Outcome {
        match (&mut self.cut).await {
            Ok(Cut { outcome, by }) => {
                self.by = by;
                outcome
            }
            // The entry leaves the map only through `cut`, which sends, or through the drop of this value.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.live.0.entries.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
