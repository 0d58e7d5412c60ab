//! The switches of the tunnels, and the limits that are not switches.
//!
//! Owns every number of this crate. Never reads a file: the gateway fills it in.

use std::time::Duration;

use federation_model::names::ClusterName;
use gateway_core::dial::DialConfig;

/// The protocol spoken inside a tunnel.
pub(crate) const ALPN: &[u8] = b"landbridge/1";
/// The server name in the ClientHello. It identifies nobody: the peer is known by its SPIFFE ID.
pub(crate) const SERVER_NAME: &str = "landbridge";
/// The most tunnels with one peer cluster: 8 replicas here times 4 there, each pair once.
pub(crate) const MAX_TUNNELS_PER_PEER: usize = 32;
/// From so many handshakes in progress on, an address must prove itself before any cryptography is spent on it.
pub(crate) const RETRY_FROM: usize = 64;
/// The most handshakes in progress; further ones are refused. 256 of about 50 KiB each.
pub(crate) const MAX_HANDSHAKES: usize = 256;
/// The most first packets that wait for admission.
pub(crate) const MAX_INCOMING: usize = 1024;
/// The most dials in progress.
pub(crate) const MAX_DIALS: usize = 64;
/// The most addresses of one name that are tried in one dial.
pub(crate) const MAX_RESOLVED: usize = 4;
/// How long one name may take to resolve.
pub(crate) const RESOLVE_LIMIT: Duration = Duration::from_secs(3);
/// How long one handshake may take.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// How long the control stream may take to appear once the handshake is over.
pub(crate) const CONTROL_LIMIT: Duration = Duration::from_secs(5);
/// How long the header of a stream may take.
pub(crate) const HEADER_LIMIT: Duration = Duration::from_secs(5);
/// The most headers of one tunnel that are being read: a new stream is not accepted before one of them is there.
pub(crate) const MAX_HEADERS: usize = 256;
/// How long a stream may wait for credit, and then for its first bytes to fit.
pub(crate) const OPEN_LIMIT: Duration = Duration::from_secs(2);
/// The most bytes taken from a stream in one read.
pub(crate) const READ_SIZE: usize = 64 * 1024;
/// How long closing everything may take: three probe timeouts of a 300 ms path.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// What tunnels tell the driver and it has not heard yet: some for each of a few dozen tunnels; a full queue makes the
/// tunnels wait, not the driver.
pub(crate) const MAX_NOTES: usize = 256;

/// The congestion control of the sending side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// CUBIC.
    #[default]
    Cubic,
    /// BBR version 1 as quinn has it: experimental, but far ahead on paths that lose packets.
    Bbr,
}

/// The switches of the tunnels.
#[derive(Debug, Clone)]
pub struct TunnelConfig {
    /// The name of this cluster.
    pub cluster: ClusterName,
    /// Whether other clusters can dial this one.
    pub own_advertises: bool,
    /// Random for each run of this gateway.
    pub instance: String,
    /// Name and version of this program.
    pub software: String,
    /// A tunnel over which nothing comes for so long is lost.
    pub idle_timeout: Duration,
    /// How often something is sent over an idle tunnel.
    pub keep_alive: Duration,
    /// How often the peer is asked whether it still lives, on the control stream.
    pub ping: Duration,
    /// A peer that says nothing on the control stream for so long gets no new streams.
    pub lease: Duration,
    /// The most application streams one peer may have open towards this gateway.
    pub streams_per_peer: u32,
    /// The most bytes of one stream that wait here to be read.
    pub stream_window: u32,
    /// The most bytes of one tunnel that wait here to be read. Streams whose readers stand still share it, and so many stream
    /// windows' worth of them bring the whole tunnel to a halt: hence far more than is ever on its way, which the window of
    /// the sender bounds.
    pub receive_window: u32,
    /// Congestion control.
    pub congestion: Congestion,
    /// The pace of dialling.
    pub dial: DialConfig,
    /// The most streams with a header that wait to be taken; beyond, streams are refused with over-capacity.
    pub inbound_queue: usize,
    /// Makes everything random in the tunnels repeatable; for simulated networks.
    pub seed: Option<u64>,
    /// The secret of stateless resets, the same in every run of one gateway; none: a new one for each run.
    pub reset_key: Option<ResetKey>,
}

/// The secret with which a gateway proves, after a restart, that it has forgotten a connection (RFC 9000 section 10.3): its
/// peers then give the dead tunnel up at its next packet, and need not wait for it to fall silent.
#[derive(Clone)]
pub struct ResetKey([u8; Self::LENGTH]);

impl ResetKey {
    /// Bytes: 64 for the tokens, and 8 by which connection ids of former runs are recognised.
    pub const LENGTH: usize = 72;

    /// A key from random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    pub(crate) fn tokens(&self) -> &[u8] {
        &self.0[8..]
    }

    pub(crate) fn connection_ids(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(bytes)
    }
}

impl std::fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResetKey(..)")
    }
}

impl TunnelConfig {
    /// The defaults for `cluster`.
    #[must_use]
    pub fn new(cluster: ClusterName, instance: String) -> Self {
        Self {
            cluster,
            own_advertises: true,
            instance,
            software: concat!("landbridge/", env!("CARGO_PKG_VERSION")).to_owned(),
            idle_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(1),
            ping: Duration::from_millis(500),
            lease: Duration::from_secs(2),
            streams_per_peer: 4096,
            stream_window: 1 << 20,
            receive_window: 256 << 20,
            congestion: Congestion::default(),
            dial: DialConfig::default(),
            inbound_queue: 1024,
            seed: None,
            reset_key: None,
        }
    }
}
