//! Keys, certificates and whom to believe: the authority of a trust domain, X.509-SVIDs, verifiers, join tokens.
//!
//! Owns every private key of the system and every decision whether a certificate is good. Never does I/O, never reads a
//! clock: files, sockets and `now` belong to the callers.
//!
//! ```text
//! ca ──issue──> svid ──> identity ──┐
//! bundle ──> trust ──> verify ──────┴──> tls        handshakes
//! token, possession                                 joining
//! renew                                             when to issue again
//! web                                               names, at bundle endpoints alone
//! ```

pub mod bundle;
pub mod ca;
pub mod identity;
pub mod possession;
pub mod renew;
pub mod secret;
pub mod svid;
pub mod tls;
pub mod token;
pub mod trust;
pub mod validity;
pub mod verify;
pub mod web;
mod x509;

pub use secret::SecretPem;
pub use tls::provider;
pub use validity::Validity;
