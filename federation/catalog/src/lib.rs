//! What a cluster exports, what the exports of all clusters become, which peers' exports count, and where its own have arrived.
//!
//! Owns the rules of the multi-cluster services API (KEP-1645). Never reads a clock, a socket or a Kubernetes API: time
//! and objects are arguments.
//!
//! ```text
//! objects ── local ──> the catalog of this cluster ──┐
//!              └─ conditions                         ├── merge ──> imports
//! peers' catalogs and leases ── peers ───────────────┘         └── desired ── the objects of an importing cluster
//! peers' reports, tunnels ── reach ──> conditions
//! ```

pub mod conditions;
pub mod desired;
pub mod findings;
pub mod local;
pub mod merge;
pub mod objects;
pub mod peers;
pub mod reach;
