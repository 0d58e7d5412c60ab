//! What every program of Landbridge stands on: configuration, named tasks, signals, logs, the admin port, private
//! files and directories that others write.
//!
//! Owns the process: how it reads its settings, starts its tasks, tells its state and stops. It alone names the `config`
//! crate and calls `tokio::spawn`. Never knows what a gateway or a federation service is.
//!
//! ```text
//! config ── telemetry ── state        before anything runs, open_files too
//! tasks ── signals                    while it runs, and how it ends
//! admin ── tls_incoming               what it serves
//! followed                            directories that others write
//! ```

pub mod admin;
pub mod config;
pub mod followed;
pub mod open_files;
#[cfg(any(test, feature = "reference"))]
pub mod reference;
pub mod signals;
pub mod state;
pub mod tasks;
pub mod telemetry;
pub mod tls_incoming;
