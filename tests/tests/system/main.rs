//! The one integration-test binary: what several crates, or whole programs, must do together.
//!
//! Owns the list of its modules. One binary links once, however many modules there are.

mod discovery;
mod failover;
mod tidy;
mod traffic;
mod trust;
