//! Keys, certificates and whom to believe: the authority of a trust domain, X.509-SVIDs, verifiers, join tokens.
//!
//! Owns every private key of the system and every decision whether a certificate is good. Never does I/O, never reads a
//! clock: files, sockets and `now` belong to the callers.
//!
//! ```text
//! ca ──issue──> svid ──> identity ──┐
//! bundle ──> trust ──> verify ──────┴──> tls        handshakes
//! material                                          what an identity source offers
//! names, terminate                                  TLS of the cluster's own applications that ends at a gateway
//! token, possession                                 joining
//! signer ──> continuity                             which bundle may follow which
//! renew, rotation                                   when to issue again, and under which authority
//! horizon                                           what ends if nobody acts
//! seal, export                                      the audit log of the federation service
//! web                                               names, at bundle endpoints and endpoints of applications alone
//! endpoint                                          TLS to the applications of the own cluster
//! ```

pub mod bundle;
pub mod ca;
pub mod certificate;
pub mod continuity;
pub mod endpoint;
pub mod export;
pub mod external;
pub mod horizon;
pub mod identity;
pub mod material;
pub mod names;
pub mod possession;
pub mod renew;
pub mod rotation;
pub mod seal;
pub mod secret;
pub mod signer;
pub mod svid;
pub mod terminate;
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
