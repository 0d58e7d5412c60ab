//! The Landbridge federation service: who is a member of the cluster set, and whom to trust.
//!
//! Owns the members, the join tokens, the revisions of the set and its audit log. It distributes trust bundles and cannot
//! forge them, for every cluster has its own authority. Never in the data path: while it is away, traffic and discovery go on.
//!
//! ```text
//! rpc ── registry ── state        a call becomes a decision, a decision becomes writes
//!            └────── store        which are on disk before anybody hears of them
//! authority ── issuer             the service's own certificates, and the operator credential
//! bundles, foreign                the SPIFFE bundle endpoint, and those of others
//! ```

mod app;
mod attempts;
mod authority;
mod bundles;
mod clock;
pub mod config;
mod foreign;
mod issuer;
mod lag;
mod metrics;
mod presence;
mod refused_joins;
mod registry;
mod rpc;
pub mod state;
pub mod store;
mod views;

pub use app::{Program, run, start, start_with};
pub use clock::Clock;
pub use issuer::Pace;

/// Name and version of this program.
pub const SOFTWARE: &str = concat!("landbridge-federation/", env!("CARGO_PKG_VERSION"));
