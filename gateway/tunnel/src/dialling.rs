//! One attempt to reach one gateway address.
//!
//! Owns name resolution, which happens anew at every dial so that no address is ever frozen, and the handshake. Never
//! decides when or whether to dial: `gateway_core::dial` does.

use std::{io, net::SocketAddr};

use federation_model::addr::{GatewayAddr, Host};
use gateway_core::session::CloseReason;
use quinn::{ClientConfig, ConnectError, Connection, Endpoint, VarInt};
use tokio::time::timeout;

use crate::{
    closing::explain,
    config::{Congestion, HANDSHAKE_LIMIT, MAX_RESOLVED, RESOLVE_LIMIT, SERVER_NAME},
    endpoint::BindError,
};

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{target} does not resolve ({error}): check the name, and the DNS of this gateway's host")]
    Resolve { target: GatewayAddr, error: io::Error },
    #[error("{target} did not resolve within {RESOLVE_LIMIT:?}: check the DNS of this gateway's host")]
    ResolveTimeout { target: GatewayAddr },
    #[error(
        "{target} has no address this gateway can reach: its socket is bound to IPv4, the name has IPv6 addresses alone; bind tunnel.listen to [::]"
    )]
    NoAddress { target: GatewayAddr },
    #[error("{target} at {address} cannot be dialled: {error}")]
    Connect { target: GatewayAddr, address: SocketAddr, error: ConnectError },
    #[error("the handshake with {target} at {address} failed: {reason}")]
    Handshake { target: GatewayAddr, address: SocketAddr, reason: String },
    #[error("{target} cannot be dialled: {0}", target = .1)]
    Config(BindError, GatewayAddr),
}

/// What one attempt needs.
pub(crate) struct Dial {
    pub(crate) endpoint: Endpoint,
    pub(crate) client: ClientConfig,
    pub(crate) target: GatewayAddr,
    pub(crate) congestion: Congestion,
}

impl Dial {
    /// Dials the addresses of the target one after the other until one answers.
    pub(crate) async fn run(self) -> Result<Connection, DialError> {
        let mut failure = DialError::NoAddress { target: self.target.clone() };
        for address in self.resolve().await? {
            match self.connect(address).await {
                Ok(connection) => return self.without_early_loss(connection).await,
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, DialError> {
        let port = self.target.port().number();
        let found: Vec<SocketAddr> = match self.target.host() {
            Host::Ip(ip) => vec![SocketAddr::new(*ip, port)],
            Host::Dns(name) => {
                let lookup = timeout(RESOLVE_LIMIT, tokio::net::lookup_host((name.as_str(), port))).await;
                let lookup = lookup.map_err(|_elapsed| DialError::ResolveTimeout { target: self.target.clone() })?;
                lookup.map_err(|error| DialError::Resolve { target: self.target.clone(), error })?.collect()
            }
        };
        let local_is_v6 = self.endpoint.local_addr().is_ok_and(|local| local.is_ipv6());
        let reachable = found.into_iter().filter(|address| local_is_v6 || address.is_ipv4());
        Ok(reachable.take(MAX_RESOLVED).collect())
    }

    async fn connect(&self, address: SocketAddr) -> Result<Connection, DialError> {
        let connecting = self
            .endpoint
            .connect_with(self.client.clone(), address, SERVER_NAME)
            .map_err(|error| DialError::Connect { target: self.target.clone(), address, error })?;
        let failed = |reason| DialError::Handshake { target: self.target.clone(), address, reason };
        match timeout(HANDSHAKE_LIMIT, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(failed(explain(&error))),
            Err(_elapsed) => Err(failed(format!(
                "no answer within {HANDSHAKE_LIMIT:?}: check that UDP reaches this port in both directions"
            ))),
        }
    }

    /// A packet lost in the handshake ends CUBIC's slow start for good, so that the tunnel would stay slow for minutes: one
    /// more attempt costs a round trip. BBR does not care. Where the second one loses packets too, the path is like that.
    async fn without_early_loss(&self, connection: Connection) -> Result<Connection, DialError> {
        let lost = connection.stats().path.lost_packets;
        match self.congestion {
            Congestion::Cubic if lost > 0 => {}
            Congestion::Cubic | Congestion::Bbr => return Ok(connection),
        }
        tracing::debug!(target = %self.target, lost, "dialling again: packets of the handshake were lost");
        match self.connect(connection.remote_address()).await {
            Ok(second) => {
                let code = VarInt::from_u32(CloseReason::Superseded.code());
                connection.close(code, b"packets of the handshake were lost: dialled again");
                Ok(second)
            }
            Err(_) => Ok(connection),
        }
    }
}
