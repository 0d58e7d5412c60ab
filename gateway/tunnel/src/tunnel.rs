//! One live tunnel, as everybody but its own task sees it.
//!
//! Owns the connection, what the peer said of itself, and the count of its streams. Never runs anything.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use federation_model::{addr::GatewayAddr, outcome::Outcome, report::ImportReport};
use gateway_core::session::{CloseReason, Held, Judgement};
use quinn::{Connection, ConnectionError, VarInt};
use tokio::{sync::watch, time::Instant};

use crate::{
    closing::{Close, lost_outcome},
    credential::Credential,
    identify::Peer,
    status::TunnelState,
};

/// Who made the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This gateway, by dialling this address.
    Dialled(GatewayAddr),
    /// The peer.
    Accepted,
}

/// What the peer said on the control stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) instance: String,
    pub(crate) software: String,
    pub(crate) version: u32,
    /// The peer's clock less this one; none before its Hello.
    pub(crate) skew_millis: Option<i64>,
    /// Whether the peer acknowledged this cluster's catalog as it is.
    pub(crate) acknowledged: bool,
    /// Which version of this cluster's trust bundle the peer believes; none before it said so.
    pub(crate) believed: Option<Held>,
    /// What the peer made of this side's certificate last.
    pub(crate) judged: Option<Judgement>,
    /// Whether the peer says what it imports.
    pub(crate) reports_imports: bool,
    /// What it said.
    pub(crate) report: Option<Arc<ImportReport>>,
}

#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) id: u64,
    pub(crate) peer: Peer,
    /// The certificate by which the peer is judged now.
    pub(crate) credential: ArcSwap<Credential>,
    pub(crate) origin: Origin,
    pub(crate) connection: Connection,
    pub(crate) since: Instant,
    pub(crate) facts: ArcSwap<Facts>,
    up: AtomicBool,
    draining: AtomicBool,
    silent: watch::Sender<bool>,
    /// Whether the dialler knows already that this tunnel is of no more use.
    written_off: AtomicBool,
    outbound: AtomicUsize,
    inbound: AtomicUsize,
    closed_as: OnceLock<CloseReason>,
}

impl Tunnel {
    pub(crate) fn new(id: u64, (peer, credential): (Peer, Credential), origin: Origin, connection: Connection) -> Self {
        Self {
            id,
            peer,
            credential: ArcSwap::from_pointee(credential),
            origin,
            connection,
            since: Instant::now(),
            facts: ArcSwap::default(),
            up: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            silent: watch::Sender::new(false),
            written_off: AtomicBool::new(false),
            outbound: AtomicUsize::new(0),
            inbound: AtomicUsize::new(0),
            closed_as: OnceLock::new(),
        }
    }

    /// Whether new streams may be opened.
    pub(crate) fn usable(&self) -> bool {
        self.state() == TunnelState::Up
    }

    pub(crate) fn state(&self) -> TunnelState {
        if self.connection.close_reason().is_some() {
            TunnelState::Closed
        } else if !self.up.load(Ordering::Acquire) {
            TunnelState::Connecting
        } else if self.draining.load(Ordering::Acquire) {
            TunnelState::Draining
        } else if *self.silent.borrow() {
            TunnelState::Silent
        } else {
            TunnelState::Up
        }
    }

    pub(crate) fn set_up(&self) {
        self.up.store(true, Ordering::Release);
    }

    pub(crate) fn was_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    /// Resolves when the peer's lease has expired, at once when it has already.
    pub(crate) async fn fell_silent(&self) {
        // The sender lives as long as `self`, so that this never fails.
        let _ = self.silent.subscribe().wait_for(|silent| *silent).await;
    }

    /// True for the first caller alone: the dialler hears of the end of a tunnel once.
    pub(crate) fn write_off(&self) -> bool {
        !self.written_off.swap(true, Ordering::AcqRel)
    }

    /// Streams that live, in both directions.
    pub(crate) fn outstanding(&self) -> usize {
        self.outbound.load(Ordering::Relaxed) + self.inbound.load(Ordering::Relaxed)
    }

    /// Streams that live and were opened by the peer.
    pub(crate) fn inbound(&self) -> usize {
        self.inbound.load(Ordering::Relaxed)
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// Closes the connection and everything in it. Only the first reason counts.
    pub(crate) fn close(&self, close: &Close) {
        let _ = self.closed_as.set(close.reason);
        self.connection.close(VarInt::from_u32(close.reason.code()), close.text.as_bytes());
    }

    /// How the streams of this tunnel end after its connection was lost.
    pub(crate) fn lost(&self, error: &ConnectionError) -> Outcome {
        lost_outcome(error, self.closed_as.get().copied())
    }
}

/// Counts one stream for as long as it lives.
#[derive(Debug)]
pub(crate) struct StreamLease {
    pub(crate) tunnel: Arc<Tunnel>,
    counter: fn(&Tunnel) -> &AtomicUsize,
}

impl StreamLease {
    pub(crate) fn outbound(tunnel: &Arc<Tunnel>) -> Arc<Self> {
        Self::new(tunnel, |tunnel| &tunnel.outbound)
    }

    pub(crate) fn inbound(tunnel: &Arc<Tunnel>) -> Arc<Self> {
        Self::new(tunnel, |tunnel| &tunnel.inbound)
    }

    fn new(tunnel: &Arc<Tunnel>, counter: fn(&Tunnel) -> &AtomicUsize) -> Arc<Self> {
        counter(tunnel).fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { tunnel: Arc::clone(tunnel), counter })
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        (self.counter)(&self.tunnel).fetch_sub(1, Ordering::Relaxed);
    }
}
