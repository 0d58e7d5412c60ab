//! Kubernetes objects, from a directory of manifests, as the plain values of `federation-catalog`.
//!
//! Owns everything that names a Kubernetes type, and the directory that a stand-alone site uses in place of an API server.
//! A bad document is quarantined with its place and reason and never takes another one down. Never decides what an
//! object means: `federation-catalog` does.
//!
//! ```text
//! directory ── files ──> document ── documents ──> objects (typed, converted)
//!                                                     │
//! follow (notify, debounce, poll) ──> assemble (duplicates, last good) ──> watch<Arc<Manifests>>
//! ```

mod assemble;
pub mod crd;
mod directory;
mod document;
mod follow;
pub mod install;
pub mod manifests;
pub mod objects;
pub mod promote;
