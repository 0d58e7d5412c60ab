//! What people are shown of the tunnels.
//!
//! Owns plain values. Never influences anything.

use std::{net::SocketAddr, time::Duration};

use federation_model::{addr::GatewayAddr, names::ClusterName, spiffe::SpiffeId};
use gateway_core::session::{Held, Judgement};
use rustls_pki_types::CertificateDer;

/// What a tunnel is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TunnelState {
    /// The handshake is over, the peer's Hello did not come yet.
    Connecting,
    /// New streams may be opened.
    Up,
    /// The peer says nothing on the control stream: no new streams until it does.
    Silent,
    /// One of the two gateways is about to stop: no new streams.
    Draining,
    /// Gone.
    Closed,
}

impl TunnelState {
    /// The word in metrics and tables.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Silent => "silent",
            Self::Draining => "draining",
            Self::Closed => "closed",
        }
    }
}

/// One tunnel.
#[derive(Debug, Clone)]
pub struct TunnelStatus {
    /// Number within this run of the gateway.
    pub id: u64,
    /// What it is good for.
    pub state: TunnelState,
    /// The address that was dialled; nothing when the peer dialled.
    pub dialled: Option<GatewayAddr>,
    /// The peer's address now.
    pub remote: SocketAddr,
    /// How long it has lived.
    pub age: Duration,
    /// Round trip time.
    pub rtt: Duration,
    /// Streams that live.
    pub streams: usize,
    /// Packets lost on the way to the peer, and sent.
    pub lost_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// The largest datagram the path takes.
    pub mtu: u16,
    /// The run of the peer's gateway; empty before its Hello.
    pub instance: String,
    /// The peer's program and version.
    pub software: String,
    /// The protocol version spoken; 0 before the Hello.
    pub version: u32,
    /// The peer's clock less this one; none before its Hello.
    pub skew_millis: Option<i64>,
    /// Whether the peer acknowledged this cluster's catalog as it is.
    pub acknowledged: bool,
    /// Which version of this cluster's trust bundle the peer believes; none before it said so.
    pub believed: Option<Held>,
    /// What the peer made of this side's certificate; none before it said so.
    pub judged: Option<Judgement>,
    /// By which certificates the peer is judged, its leaf first.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// What goes on with one address of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialStatus {
    /// The address.
    pub target: GatewayAddr,
    /// Failures in a row.
    pub failures: u32,
    /// Whether a tunnel to it is up.
    pub up: bool,
    /// How long until it is dialled; nothing while that is under way or not planned.
    pub next_dial: Option<Duration>,
}

/// One peer cluster.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// The cluster.
    pub cluster: ClusterName,
    /// The id its gateways must present.
    pub gateway_id: SpiffeId,
    /// Whether new streams can be opened towards it.
    pub reachable: bool,
    /// Its tunnels, oldest first.
    pub tunnels: Vec<TunnelStatus>,
    /// Its addresses; empty when it only dials out.
    pub dials: Vec<DialStatus>,
    /// Why the last dial or tunnel ended, until one is up again.
    pub last_error: Option<String>,
}

impl PeerStatus {
    /// The clock of the peer's gateways less this one, of the one that is furthest off; none without a measurement.
    #[must_use]
    pub fn skew_millis(&self) -> Option<i64> {
        furthest(self.tunnels.iter().filter(|tunnel| tunnel.state != TunnelState::Closed).map(|t| t.skew_millis))
    }
}

/// The skew that matters when there are several.
pub(crate) fn furthest(skews: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    skews.flatten().max_by_key(|skew| skew.unsigned_abs())
}
