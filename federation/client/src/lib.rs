//! The client side of the federation service and of a gateway's admin socket.
//!
//! Owns dialling, the resumable watch and the errors that say what to do. Never keeps state on disk, never decides what a
//! change means: the gateway and `fedctl` do.
//!
//! ```text
//! dial ── call            one connection, one call, with typed errors
//! membership ── watch     for gateways
//! operator                for people who run the federation service
//! gateway                 for people who run a gateway
//! ```

pub mod call;
pub mod dial;
pub mod gateway;
pub mod membership;
pub mod operator;
pub mod watch;
