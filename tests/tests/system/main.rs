//! The one integration-test binary: what several crates, or whole programs, must do together.
//!
//! Owns the list of its modules. One binary links once, however many modules there are.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod alerts;
mod apiserver;
mod approval;
mod audit;
mod certificates;
mod delivery;
mod discovery;
mod export;
mod failover;
mod fedctl;
mod foreign;
mod fuzz;
mod hostile;
mod hub;
mod identify;
mod identity;
mod kubernetes;
mod membership;
mod model;
mod policy;
mod reach;
mod recovery;
mod revocation;
mod rotation;
mod server_name;
mod settings;
mod signals;
mod silence;
mod tidy;
mod traffic;
mod trust;
mod workload;
