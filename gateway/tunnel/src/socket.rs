//! The UDP socket under the tunnels.
//!
//! Owns its buffers. A simulated network brings its own socket; for that alone quinn's traits are visible here.

use std::{fmt, io, net::SocketAddr, sync::Arc};

pub use quinn::{AsyncUdpSocket, Runtime, UdpPoller, udp};
use socket2::{Domain, Protocol, Socket, Type};

/// 4 MiB: a 10 ms pause of the reader at 3 Gbit/s. More gained nothing measurable, and rmem_max rarely allows it.
const BUFFER: usize = 4 << 20;

/// Where the tunnels' datagrams go.
#[derive(Clone)]
pub enum TunnelSocket {
    /// A socket of the operating system, bound to this address.
    Bind(SocketAddr),
    /// A socket of a simulated network, and the runtime that goes with it.
    Abstract(Arc<dyn AsyncUdpSocket>, Arc<dyn Runtime>),
}

impl fmt::Debug for TunnelSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address) => write!(f, "Bind({address})"),
            Self::Abstract(socket, _) => write!(f, "Abstract({socket:?})"),
        }
    }
}

/// A bound socket. There is exactly one per port: with several, a client that moves to another address ends up at the wrong
/// one.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    for (what, result) in
        [("receive", socket.set_recv_buffer_size(BUFFER)), ("send", socket.set_send_buffer_size(BUFFER))]
    {
        if let Err(error) = result {
            tracing::warn!(%error, "the {what} buffer of the tunnel socket keeps its default size");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
