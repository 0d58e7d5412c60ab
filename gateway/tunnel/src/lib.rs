//! Mutually authenticated QUIC tunnels between the gateways of different clusters.
//!
//! Owns quinn: endpoint, handshakes, dialling, the control stream of every tunnel, and the streams that carry application
//! connections. Never decides what a stream is for or whether it is allowed, and never lets a quinn type out, except for
//! the socket a simulated network brings along ([`socket`]).
//!
//! ```text
//! Tunnels (handle) ── open, status, drain, close
//!    │
//! driver ── one task for everything: members, dials, handshakes, one task per tunnel
//!    ├── dialling   name -> address -> handshake
//!    ├── accepting  admission -> handshake -> which member is it?
//!    └── carrying   one tunnel: control stream (gateway_core::session), headers of new streams
//! registry ── the live tunnels of every peer; stream ── what a stream is to the rest of the gateway
//! ```

mod accepting;
mod carrying;
mod closing;
mod config;
mod credential;
mod dialling;
mod dice;
mod driver;
mod endpoint;
mod handle;
mod identify;
mod inbound;
mod metrics;
mod registry;
mod shared;
pub mod socket;
mod status;
mod stream;
mod tunnel;

pub use config::{Congestion, ResetKey, TunnelConfig};
pub use driver::TunnelEvent;
pub use endpoint::BindError;
pub use handle::{OpenError, Sources, Started, Tunnels};
pub use inbound::HeadError;
pub use socket::TunnelSocket;
pub use status::{DialStatus, PeerStatus, TunnelState, TunnelStatus};
pub use stream::{AwaitedReply, InboundStream, OutboundStream, RecvHalf, SendHalf};

#[cfg(test)]
mod tests;
