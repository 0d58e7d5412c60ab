//! The authoritative name server of the cluster set's zone, over UDP and TCP, and the question whether it is asked.
//!
//! Owns DNS as a protocol: messages, truncation, EDNS, response codes. Never decides what a name means: that is
//! [`gateway_core::names`]. The only crate that names hickory, and it takes the message format alone from it: the loops
//! here have written limits on what is under way.
//!
//! ```text
//! server ── answer ── gateway_core::names
//!    └── metrics
//!
//! resolver ──> the DNS of this cluster ──(where it delegates the zone)──> a server of this cluster
//! ```

mod answer;
mod metrics;
pub mod resolver;
mod server;

pub use server::{DnsConfig, DnsError, DnsServer};
