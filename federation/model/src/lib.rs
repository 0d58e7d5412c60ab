//! The words of Landbridge as values: names, SPIFFE ids, addresses, catalogs, bundles, members, outcomes.
//!
//! Owns what crosses every boundary of the system and the one place each of these is parsed: a value of these types is
//! valid by construction. Never does I/O, never reads a clock, knows nothing of the wire format (that is `proto`).
//!
//! ```text
//! names ── sni                 who is meant
//! spiffe ── caller             who is calling
//! catalog ── delta ── import   what is exported, and what it becomes everywhere else; edition: which cluster is told of what;
//!                              report: what became of it in another cluster
//! bundle ── lineage ── member  whom to trust, and by whose word; foreign: trust domains outside the set
//! revocation                   whom not to trust any more
//! policy                       who may reach what
//! outcome ── trace             how a connection ended, and which one it was
//! audit ── mark                who did what to the set, hash-chained; what a revision of it is recognised by
//! ```

pub mod addr;
pub mod audit;
pub mod bundle;
pub mod caller;
pub mod catalog;
pub mod delta;
pub mod derived;
pub mod edition;
pub mod export;
pub mod finding;
pub mod foreign;
pub mod import;
pub mod lineage;
pub mod mark;
pub mod member;
pub mod names;
pub mod outcome;
pub mod policy;
pub mod report;
pub mod revocation;
pub mod sni;
pub mod spiffe;
pub mod stable_hash;
pub mod time;
pub mod trace;
