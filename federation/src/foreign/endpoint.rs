//! What a bundle endpoint is believed by.
//!
//! Owns the choice between the two profiles, which is the operator's and never the endpoint's. Never connects.

use std::{path::PathBuf, sync::Arc};

use federation_model::{bundle::TrustBundle, foreign::EndpointProfile, spiffe::SpiffeId};
use federation_pki::{
    tls::{TlsConfigError, client_config},
    trust::{TrustError, TrustStore},
    verify::{Expect, SpiffeVerifier},
    web::{self, WebError, WebRoots},
};
use federation_runtime::state::{StateError, read_text};
use rustls::ClientConfig;

/// Endpoints are asked over HTTP/1.1, one request a connection.
const ALPN: &[u8] = b"http/1.1";

/// Why an endpoint cannot be believed by anything.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnchorError {
    /// Nothing is known.
    #[error("nothing is known to believe {0} by: add the trust domain again with --bundle FILE")]
    NoAnchor(SpiffeId),
    /// What is known says that nothing is to be believed.
    #[error(
        "everything of the trust domain of {0} was revoked, its endpoint too: add the trust domain again with --bundle FILE"
    )]
    Revoked(SpiffeId),
    /// What is known cannot be used.
    #[error(transparent)]
    Anchor(#[from] TrustError),
    /// The file of roots.
    #[error("`bundles.web_roots`: {0}")]
    File(#[from] StateError),
    /// The roots.
    #[error(
        "the authorities of the web cannot be used: {0}; set `bundles.web_roots` to a PEM file of those to believe"
    )]
    Roots(#[from] WebError),
    /// TLS cannot be configured.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
}

/// Where the authorities of the web come from: a file, or the system's list.
#[derive(Debug, Clone, Default)]
pub(crate) struct RootsSource(pub(crate) Option<PathBuf>);

impl RootsSource {
    /// Reads them, anew for every poll: they are replaced while the program runs. Blocks.
    fn read(&self) -> Result<WebRoots, AnchorError> {
        match &self.0 {
            Some(file) => Ok(WebRoots::from_pem(&read_text(file)?)?),
            None => Ok(WebRoots::new(rustls_native_certs::load_native_certs().certs)?),
        }
    }
}

/// The configuration of a client that believes the endpoint of `profile` alone; `anchor` is the newest bundle of the trust
/// domain of its id. Blocks while it reads roots.
pub(super) fn tls(
    profile: &EndpointProfile,
    anchor: Option<TrustBundle>,
    roots: &RootsSource,
) -> Result<Arc<ClientConfig>, AnchorError> {
    let config = match profile {
        EndpointProfile::HttpsWeb => web::client_config(&roots.read()?, ALPN)?,
        EndpointProfile::HttpsSpiffe { endpoint_id } => {
            let anchor = anchor.ok_or_else(|| AnchorError::NoAnchor(endpoint_id.clone()))?;
            if anchor.authorities.is_empty() {
                return Err(AnchorError::Revoked(endpoint_id.clone()));
            }
            let trust = TrustStore::new();
            trust.replace([anchor])?;
            let verifier = SpiffeVerifier::new(Arc::new(trust), Expect::Exactly(endpoint_id.clone()));
            client_config(None, Arc::new(verifier), ALPN)?
        }
    };
    Ok(Arc::new(config))
}
