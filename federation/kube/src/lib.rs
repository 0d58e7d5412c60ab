//! Kubernetes objects, from a directory of manifests or an API server, as the plain values of `federation-catalog`.
//!
//! Owns everything that names a Kubernetes type, and the directory that a stand-alone site uses in place of an API server.
//! A bad document or object is quarantined with its place and reason and never takes another one down. Never decides what an
//! object means: `federation-catalog` does.
//!
//! ```text
//! directory ── files ──> document ── documents ──> objects (typed, converted)
//!                                                     │
//! follow (notify, debounce, poll) ──> assemble (duplicates, last good) ──> watch<Arc<Manifests>>
//!
//! connect ── cluster ── one watch for each kind ──> objects ──> lists, last good ──> watch<Arc<Manifests>>
//!    ├────── derived ── the derived Services, for every gateway
//!    ├────── controllers ── what there is, compared with what is asked for ──> writes, of the leader alone
//!    ├────── state_secret ── the state of a gateway, when its pod ends
//!    ├────── install, pods ── objects that a person puts there, and commands in pods
//!    ├────── dns ── corefile ──> the DNS of the cluster asks the gateways
//!    └────── preflight ── whether all that is possible, before it is done
//! ```

mod assemble;
pub mod call;
pub mod cluster;
pub mod connect;
pub mod controllers;
pub mod corefile;
pub mod crd;
pub mod derived;
mod directory;
pub mod dns;
mod document;
mod follow;
pub mod install;
pub mod leader;
pub mod manifests;
pub mod objects;
pub mod pods;
mod preflight;
pub mod promote;
pub mod state_secret;
