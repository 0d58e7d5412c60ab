//! The Landbridge gateway: carries connections of applications between clusters.
//!
//! ```text
//! accept -> identify -> route -> forward ==QUIC==> authorize -> deliver -> splice      one file for each stage
//!                 \______________ record: exactly one outcome ______________/
//!
//! manifests, peers' catalogs, members -> control -> watch<Arc<Tables>> -> every stage, dns, listeners
//! ```
//!
//! Owns the order of the stages, the control loop and the wiring. Protocols live below: QUIC in `gateway-tunnel`, DNS in
//! `gateway-dns`, decisions in `gateway-core` and `federation-catalog`.

pub mod accept;
pub mod admin;
pub mod app;
pub mod audited;
pub mod authorize;
pub mod client_end;
pub mod client_hello;
pub mod config;
pub mod control;
pub mod delegated;
pub mod deliver;
pub mod forward;
pub mod history;
pub mod horizon;
pub mod identify;
pub mod identity;
pub mod identity_source;
pub mod kubernetes;
pub mod listeners;
pub mod live;
pub mod membership;
pub mod path;
pub mod policy;
pub mod proxy_protocol;
pub mod reach;
pub mod record;
pub mod requests;
pub mod reset_key;
pub mod route;
pub mod source;
pub mod splice;
pub mod terminate;
pub mod tls_end;

/// What this program calls itself towards peers and people.
pub const SOFTWARE: &str = concat!("landbridge ", env!("CARGO_PKG_VERSION"));
