//! The decisions of a gateway, as plain values and state machines.
//!
//! Owns what a gateway concludes from bytes, messages and tables: which service a ClientHello asks for, what a stream
//! header says, how two gateways keep each other's catalogs, when a peer is dialled, where a connection goes and what a
//! name resolves to. Never does I/O, never reads a clock (`Instant` and wall milliseconds are arguments), never spawns:
//! the shells (`gateway-tunnel`, `gateway-dns`, `gateway`) feed these and do what they say.
//!
//! ```text
//! hello ── header                 the first bytes of a connection, the first bytes of a stream
//! control ── session              the control stream of one tunnel: frames, then the conversation
//! dial                            when and where a peer is dialled
//! tables ── addresses ── names    one snapshot of everything that routes and resolves
//! pick                            which cluster gets this connection
//! policy                          whether its caller may make it
//! ```

pub mod addresses;
pub mod control;
pub mod dial;
pub mod header;
pub mod hello;
pub mod ledger;
pub mod names;
pub mod pick;
pub mod places;
pub mod policy;
pub mod session;
pub mod tables;
