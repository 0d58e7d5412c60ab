//! The one QUIC endpoint of a gateway, server and client at once.
//!
//! Owns quinn's configuration. Never accepts or dials.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use federation_model::spiffe::SpiffeId;
use federation_pki::{
    identity::LiveIdentity,
    tls::{self, Clients, TlsConfigError},
    trust::TrustStore,
    verify::{Expect, SpiffeVerifier},
};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
    congestion::BbrConfig,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};

use quinn_proto::HashedConnectionIdGenerator;
use tokio::sync::watch;

use crate::{
    config::{ALPN, Congestion, MAX_INCOMING, TunnelConfig},
    socket::{TunnelSocket, bind},
};

/// Why the tunnels cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is not available.
    #[error(
        "UDP {address} cannot be bound ({error}): is another gateway running, or does tunnel.listen name an address of another host?"
    )]
    Socket {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// No runtime.
    #[error("the tunnels need a tokio runtime with I/O and time")]
    NoRuntime,
    /// The endpoint could not be made.
    #[error("the QUIC endpoint cannot start: {0}")]
    Endpoint(io::Error),
    /// A duration that QUIC cannot hold.
    #[error("tunnel.idle_timeout is {0:?}: it must be under 100 days and over tunnel.keep_alive")]
    IdleTimeout(Duration),
    /// TLS refused.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// The cipher QUIC starts with is missing.
    #[error("the TLS provider lacks the cipher QUIC starts with: {0}")]
    Cipher(#[from] NoInitialCipherSuite),
}

/// What handshakes need.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) identity: Arc<LiveIdentity>,
    /// Changes whenever `identity` was replaced.
    pub(crate) renewed: watch::Receiver<u64>,
    pub(crate) trust: Arc<TrustStore>,
    pub(crate) transport: Arc<TransportConfig>,
}

impl Credentials {
    pub(crate) fn new(
        config: &TunnelConfig,
        (identity, renewed): (Arc<LiveIdentity>, watch::Receiver<u64>),
        trust: Arc<TrustStore>,
    ) -> Result<Self, BindError> {
        Ok(Self { identity, renewed, trust, transport: Arc::new(transport(config)?) })
    }

    /// The configuration to dial exactly this gateway.
    pub(crate) fn client(&self, expected: SpiffeId) -> Result<ClientConfig, BindError> {
        let verifier = Arc::new(SpiffeVerifier::new(Arc::clone(&self.trust), Expect::Exactly(expected)));
        let tls = tls::client_config(Some(Arc::clone(&self.identity)), verifier, ALPN)?;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(Arc::clone(&self.transport));
        Ok(config)
    }

    fn server(&self, expected: Expect) -> Result<ServerConfig, BindError> {
        let verifier = Arc::new(SpiffeVerifier::new(Arc::clone(&self.trust), expected));
        let tls = tls::server_config(Arc::clone(&self.identity), Clients::Required(verifier), ALPN)?;
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        config.transport_config(Arc::clone(&self.transport)).migration(true).max_incoming(MAX_INCOMING);
        Ok(config)
    }
}

/// The endpoint; `expected` says which clients are welcome.
pub(crate) fn endpoint(
    tunnels: &TunnelConfig,
    socket: TunnelSocket,
    credentials: &Credentials,
    expected: Expect,
) -> Result<Endpoint, BindError> {
    let server = Some(credentials.server(expected)?);
    let mut config = EndpointConfig::default();
    config.rng_seed(tunnels.seed.map(|seed| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        bytes
    }));
    if let Some(key) = &tunnels.reset_key {
        config.reset_key(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.tokens())));
        let ids = key.connection_ids();
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    }
    match socket {
        TunnelSocket::Bind(address) => {
            let socket = bind(address).map_err(|error| BindError::Socket { address, error })?;
            let runtime = quinn::default_runtime().ok_or(BindError::NoRuntime)?;
            Endpoint::new(config, server, socket, runtime).map_err(BindError::Endpoint)
        }
        TunnelSocket::Abstract(socket, runtime) => {
            Endpoint::new_with_abstract_socket(config, server, socket, runtime).map_err(BindError::Endpoint)
        }
    }
}

fn transport(config: &TunnelConfig) -> Result<TransportConfig, BindError> {
    let idle = IdleTimeout::try_from(config.idle_timeout)
        .ok()
        .filter(|_| config.idle_timeout > config.keep_alive && config.idle_timeout < Duration::from_secs(8_640_000))
        .ok_or(BindError::IdleTimeout(config.idle_timeout))?;
    let mut mtu = MtuDiscoveryConfig::default();
    // Ethernet's 1500 less IPv6 and UDP. Larger bounds harm: over 6500 quinn's batches exceed what one send may hold.
    mtu.upper_bound(1452);
    let mut transport = TransportConfig::default();
    transport
        .initial_mtu(1200)
        .min_mtu(1200)
        .mtu_discovery_config(Some(mtu))
        .stream_receive_window(VarInt::from_u32(config.stream_window))
        .receive_window(VarInt::from_u32(config.receive_window))
        // Twice what 200 Mbit/s over 60 ms have in flight (1.5 MB), and small enough to stay in the processor's cache:
        // 32 MiB cost up to 15 % more CPU for the same bytes.
        .send_window(4 << 20)
        // One more for the control stream.
        .max_concurrent_bidi_streams(VarInt::from_u32(config.streams_per_peer.saturating_add(1)))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(config.keep_alive));
    match config.congestion {
        Congestion::Cubic => {}
        Congestion::Bbr => {
            transport.congestion_controller_factory(Arc::new(BbrConfig::default()));
        }
    }
    Ok(transport)
}
