//! The client side of the federation service, of a gateway's admin socket and of the SPIFFE Workload API.
//!
//! Owns dialling, the resumable watch and the errors that say what to do. Never keeps state on disk, never decides what a
//! change means: the gateway and `fedctl` do.
//!
//! ```text
//! dial ── call            one connection, one call, with typed errors
//! membership ── watch     for gateways
//! operator                for people who run the federation service
//! gateway                 for people who run a gateway
//! workload                the SPIFFE agent of this node
//! ```

pub mod call;
pub mod dial;
pub mod gateway;
pub mod membership;
pub mod operator;
pub mod watch;
pub mod workload;
