//! The exchange of catalogs over one session.
//!
//! Owns the numbers of snapshots and deltas, the one that is in flight, and what each side holds. Never merges catalogs and
//! never keeps them beyond the session: their owner does.

mod step;

use std::sync::Arc;

use federation_model::{
    catalog::{Catalog, CatalogDigest, Revision},
    delta::Delta,
    names::ClusterName,
};
use proto::{
    convert::{ConvertError, catalog},
    tunnel::v1::{CatalogAck, CatalogDelta, CatalogSnapshot, SnapshotRequest, control_message::Message},
};

use super::SessionError;
pub use step::MAX_DELTA_BYTES;
use step::Step;

/// How many snapshots in a row may be asked for before the session ends: two gateways that cannot agree must not repeat whole
/// catalogs for ever.
const MAX_REQUESTS: u32 = 8;

/// The catalog of this cluster, on its way to the peer.
#[derive(Debug)]
pub(super) struct Outgoing {
    local: Arc<Catalog>,
    phase: Phase,
    /// The last number given.
    revision: Revision,
    /// What the peer holds, or will once what is in flight has arrived.
    peer: Arc<Catalog>,
    requests: u32,
}

#[derive(Debug)]
enum Phase {
    /// The peer has not said what it holds.
    Greeting,
    /// A snapshot is due; the digest is that of what the peer holds.
    SnapshotDue(Option<CatalogDigest>),
    /// This is on its way.
    InFlight { digest: CatalogDigest, delta: bool },
    /// The peer has acknowledged all that was sent.
    Idle,
}

impl Outgoing {
    pub(super) fn new(local: Arc<Catalog>) -> Self {
        let peer = Arc::new(Catalog::empty(local.cluster.clone()));
        Self { local, phase: Phase::Greeting, revision: Revision(0), peer, requests: 0 }
    }

    pub(super) fn handle_greeted(&mut self, held: Option<CatalogDigest>) {
        self.phase = Phase::SnapshotDue(held);
    }

    pub(super) fn handle_local(&mut self, catalog: Arc<Catalog>) {
        self.local = catalog;
    }

    /// The digest the peer now holds, when the acknowledgement is of what is in flight.
    pub(super) fn handle_ack(&mut self, ack: CatalogAck) -> Result<Option<CatalogDigest>, SessionError> {
        if ack.revision > self.revision.0 {
            return Err(SessionError::UnknownAck { acknowledged: ack.revision, sent: self.revision.0 });
        }
        match self.phase {
            Phase::InFlight { digest, delta } if ack.revision == self.revision.0 => {
                if delta {
                    self.requests = 0;
                }
                self.phase = Phase::Idle;
                Ok(Some(digest))
            }
            // Of something a snapshot has overtaken since.
            Phase::Greeting | Phase::SnapshotDue(_) | Phase::InFlight { .. } | Phase::Idle => Ok(None),
        }
    }

    pub(super) fn handle_snapshot_request(&mut self) -> Result<(), SessionError> {
        self.requests += 1;
        if self.requests > MAX_REQUESTS {
            return Err(SessionError::SnapshotsInARow(self.requests));
        }
        self.phase = Phase::SnapshotDue(None);
        Ok(())
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Message> {
        match self.phase {
            Phase::Greeting | Phase::InFlight { .. } => None,
            Phase::SnapshotDue(held) => Some(Message::Snapshot(self.snapshot(held))),
            Phase::Idle => self.delta().map(Message::Delta),
        }
    }

    fn snapshot(&mut self, held: Option<CatalogDigest>) -> CatalogSnapshot {
        self.revision = self.revision.next();
        let local = self.local.digest();
        let (unchanged, sent) = if held == Some(local) {
            (true, Step { state: self.local.clone(), digest: local })
        } else {
            (false, Step::towards(&Catalog::empty(self.local.cluster.clone()), &self.local))
        };
        self.phase = Phase::InFlight { digest: sent.digest, delta: false };
        let message = CatalogSnapshot {
            revision: self.revision.0,
            digest: catalog::digest_bytes(&sent.digest),
            unchanged,
            catalog: (!unchanged).then(|| sent.state.as_ref().into()),
        };
        self.peer = sent.state;
        message
    }

    fn delta(&mut self) -> Option<CatalogDelta> {
        if Arc::ptr_eq(&self.peer, &self.local) {
            return None;
        }
        if self.peer.services == self.local.services {
            self.peer = self.local.clone();
            return None;
        }
        let step = Step::towards(&self.peer, &self.local);
        let delta = Delta { digest: step.digest, ..Delta::between(&self.peer, &step.state) };
        let base = self.revision;
        self.revision = base.next();
        self.peer = step.state;
        self.phase = Phase::InFlight { digest: step.digest, delta: true };
        Some(catalog::delta_message(&delta, base, self.revision))
    }
}

/// The catalog of the peer, as far as it has arrived.
#[derive(Debug)]
pub(super) struct Incoming {
    peer: ClusterName,
    /// From an earlier session, until the first snapshot of this one.
    held: Option<Held>,
    /// In step with the peer, in this revision.
    current: Option<(Revision, Arc<Catalog>)>,
    /// The peer digests services in a way this version does not: what it says is taken as it is, in order.
    opaque_digests: bool,
    ack: Option<CatalogAck>,
    request: Option<SnapshotRequest>,
    awaiting_snapshot: bool,
    diverged: u32,
}

#[derive(Debug)]
struct Held {
    digest: CatalogDigest,
    catalog: Arc<Catalog>,
}

/// What a message brought.
#[derive(Debug)]
pub(super) enum Received {
    Nothing,
    Unchanged,
    Catalog(Arc<Catalog>),
}

impl Incoming {
    /// Catalogs held of another cluster than `peer` are not used.
    pub(super) fn new(peer: ClusterName, held: Option<Arc<Catalog>>) -> Self {
        let held = held.filter(|catalog| catalog.cluster == peer);
        Self {
            peer,
            held: held.map(|catalog| Held { digest: catalog.digest(), catalog }),
            current: None,
            opaque_digests: false,
            ack: None,
            request: None,
            awaiting_snapshot: false,
            diverged: 0,
        }
    }

    pub(super) fn held_digest(&self) -> Option<CatalogDigest> {
        self.held.as_ref().map(|held| held.digest)
    }

    pub(super) fn handle_snapshot(&mut self, message: CatalogSnapshot) -> Result<Received, SessionError> {
        let digest = catalog::digest("CatalogSnapshot", "digest", &message.digest).map_err(SessionError::BadCatalog)?;
        let revision = Revision(message.revision);
        if message.unchanged {
            return self.unchanged(revision, digest);
        }
        let missing = || SessionError::BadCatalog(ConvertError::new("CatalogSnapshot", "catalog", "it is missing"));
        let catalog: Catalog = message.catalog.ok_or_else(missing)?.try_into().map_err(SessionError::BadCatalog)?;
        let catalog = Arc::new(catalog.accepted_from(&self.peer)?);
        self.opaque_digests = catalog.digest() != digest;
        if self.opaque_digests {
            tracing::debug!(peer = %self.peer, "the peer digests its catalog in another way, as later versions may");
        }
        self.in_step(revision, catalog.clone());
        Ok(Received::Catalog(catalog))
    }

    fn unchanged(&mut self, revision: Revision, digest: CatalogDigest) -> Result<Received, SessionError> {
        match self.held.take() {
            Some(held) if held.digest == digest => {
                self.in_step(revision, held.catalog);
                Ok(Received::Unchanged)
            }
            Some(_) | None => self.diverged("that catalog is not held here"),
        }
    }

    pub(super) fn handle_delta(&mut self, message: CatalogDelta) -> Result<Received, SessionError> {
        if self.awaiting_snapshot {
            return Ok(Received::Nothing);
        }
        let (base, revision) = (Revision(message.base), Revision(message.revision));
        let current = match self.current.take() {
            Some((held, catalog)) if held == base => catalog,
            Some(_) | None => return self.diverged("the base of the delta is not held here"),
        };
        let delta = Delta::try_from(message).map_err(SessionError::BadCatalog)?;
        let Some(next) = self.apply(delta, &current) else {
            return self.diverged("the delta leads to another digest");
        };
        let catalog = Arc::new(next.accepted_from(&self.peer)?);
        self.diverged = 0;
        self.in_step(revision, catalog.clone());
        Ok(Received::Catalog(catalog))
    }

    fn apply(&self, delta: Delta, current: &Catalog) -> Option<Catalog> {
        if !self.opaque_digests {
            return delta.apply(current).ok();
        }
        let mut services = current.services.clone();
        services.retain(|key, _| !delta.removals.contains(key));
        services.extend(delta.upserts);
        Some(Catalog { cluster: current.cluster.clone(), services })
    }

    fn in_step(&mut self, revision: Revision, catalog: Arc<Catalog>) {
        self.held = None;
        self.awaiting_snapshot = false;
        self.request = None;
        self.ack = Some(CatalogAck { revision: revision.0 });
        self.current = Some((revision, catalog));
    }

    fn diverged(&mut self, reason: &str) -> Result<Received, SessionError> {
        tracing::debug!(peer = %self.peer, reason, "asking the peer for a snapshot");
        self.diverged += 1;
        if self.diverged > MAX_REQUESTS {
            return Err(SessionError::Diverging(self.diverged));
        }
        self.current = None;
        self.awaiting_snapshot = true;
        self.request = Some(SnapshotRequest { reason: reason.to_owned() });
        Ok(Received::Nothing)
    }

    pub(super) fn poll_ack(&mut self) -> Option<CatalogAck> {
        self.ack.take()
    }

    pub(super) fn poll_request(&mut self) -> Option<SnapshotRequest> {
        self.request.take()
    }
}
