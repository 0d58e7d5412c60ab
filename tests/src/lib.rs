//! The harness of the system tests: a cluster set in one process, over a network that can be broken.
//!
//! Owns the fleet, the simulated datagram network and the probe applications. Never asserts: the tests do.

pub mod fleet;
pub mod net;
pub mod probe;
pub mod wait;
