//! TLS from a gateway to an endpoint of its own cluster.
//!
//! Owns by what an endpoint is believed: its SPIFFE ID, or its name. Never decides which of them, and never connects.

use std::sync::Arc;

use federation_model::spiffe::SpiffeId;
use rustls::{ClientConfig, version::TLS13};

use crate::{
    identity::LiveIdentity,
    tls::{TlsConfigError, client, provider},
    trust::TrustStore,
    verify::{Expect, SpiffeVerifier},
    web::WebRoots,
};

/// The configuration of a client that believes an endpoint with exactly this id, under the bundle of the id's trust domain
/// that is in force at the handshake; it `presents` a certificate when the endpoint asks for one.
///
/// # Errors
/// When rustls refuses it.
pub fn by_id(
    trust: Arc<TrustStore>,
    id: SpiffeId,
    presents: Option<Arc<LiveIdentity>>,
) -> Result<ClientConfig, TlsConfigError> {
    let verifier = Arc::new(SpiffeVerifier::new(trust, Expect::Exactly(id)));
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    Ok(client(builder.dangerous().with_custom_certificate_verifier(verifier), presents, &[]))
}

/// The configuration of a client that believes an endpoint with a certificate for the name it is dialled by, under `roots`;
/// it `presents` a certificate when the endpoint asks for one.
///
/// # Errors
/// When rustls refuses it.
pub fn by_name(roots: &WebRoots, presents: Option<Arc<LiveIdentity>>) -> Result<ClientConfig, TlsConfigError> {
    Ok(client(roots.believing()?, presents, &[]))
}
