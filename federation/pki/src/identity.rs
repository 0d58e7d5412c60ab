//! The identity a program presents now, replaced while it runs.
//!
//! Owns the current SVID. Never renews it: the caller does, and replaces it here. New handshakes take the new one, live
//! connections keep theirs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::svid::Svid;

/// The SVID presented in handshakes, on either side.
#[derive(Debug)]
pub struct LiveIdentity(ArcSwap<Svid>);

impl LiveIdentity {
    /// Presents `svid`.
    #[must_use]
    pub fn new(svid: Svid) -> Self {
        Self(ArcSwap::from_pointee(svid))
    }

    /// Presents `svid` from the next handshake on.
    pub fn replace(&self, svid: Svid) {
        self.0.store(Arc::new(svid));
    }

    /// What is presented now.
    #[must_use]
    pub fn current(&self) -> Arc<Svid> {
        self.0.load_full()
    }
}

impl ResolvesServerCert for LiveIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified_key())
    }
}

impl ResolvesClientCert for LiveIdentity {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified_key())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
