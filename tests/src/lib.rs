//! The harness of the system tests: a cluster set in one process, over a network that can be broken.
//!
//! Owns the fleet, the simulated datagram network, the probe applications and the clients. Never judges what it sees: the
//! tests do. What a test cannot do without, such as a free address, is expected and panics.

pub mod apiserver;
pub mod client;
pub mod company;
pub mod dns;
pub mod envtest;
pub mod fleet;
pub mod fuzz;
pub mod http;
pub mod logs;
pub mod manifests;
pub mod mount;
pub mod net;
pub mod peer;
pub mod probe;
pub mod process;
pub mod program;
pub mod puppet;
pub mod skip;
pub mod spire;
pub mod tls;
pub mod tools;
pub mod wait;
pub mod web;
pub mod workload;
