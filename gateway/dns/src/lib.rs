//! The authoritative name server of the cluster set's zone, over UDP and TCP.
//!
//! Owns DNS as a protocol: messages, truncation, EDNS, response codes. Never decides what a name means: that is
//! [`gateway_core::names`]. The only crate that names hickory, and it takes the message format alone from it: the loops
//! here have written limits on what is under way.
//!
//! ```text
//! server ── answer ── gateway_core::names
//!    └── metrics
//! ```

mod answer;
mod metrics;
mod server;

pub use server::{DnsConfig, DnsError, DnsServer};
