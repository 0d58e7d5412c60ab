//! TLS configurations: version 1.3 alone, authenticated by SPIFFE ID.
//!
//! Owns the provider and every switch of rustls. Never allows resumption (a resumed session is not verified again, so that
//! a removed trust domain could come back) nor early data (it can be replayed).

use std::sync::{Arc, OnceLock};

use rustls::{
    CipherSuite, ClientConfig, ConfigBuilder, ServerConfig,
    client::{Resumption, WantsClientCert, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    server::{NoClientAuth, NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier},
    version::TLS13,
};

use crate::{
    identity::LiveIdentity,
    verify::{DeferredClient, SpiffeVerifier},
};

/// Why a configuration could not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the TLS configuration is not possible: {0}")]
pub struct TlsConfigError(#[from] rustls::Error);

/// The one cryptographic provider: aws-lc-rs, X25519MLKEM768 preferred, AES-128-GCM first.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // AES-128 costs the least per byte where there is AES hardware, and its strength matches P-256.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        Arc::new(provider)
    }))
}

/// Which clients a server accepts.
#[derive(Debug, Clone)]
pub enum Clients {
    /// Those this verifier accepts.
    Required(Arc<SpiffeVerifier>),
    /// All that hold the key of the leaf they show, and those without a certificate: the server judges every call itself,
    /// with [`crate::verify::verify_leaf`].
    Deferred,
    /// All; none is asked for a certificate. For what everybody may read.
    Anyone,
}

/// The configuration of a server.
///
/// # Errors
/// When rustls refuses it.
pub fn server_config(
    identity: Arc<LiveIdentity>,
    clients: Clients,
    alpn: &[u8],
) -> Result<ServerConfig, TlsConfigError> {
    server(identity, clients, alpn)
}

pub(crate) fn server(
    identity: Arc<dyn ResolvesServerCert>,
    clients: Clients,
    alpn: &[u8],
) -> Result<ServerConfig, TlsConfigError> {
    let clients: Arc<dyn ClientCertVerifier> = match clients {
        Clients::Required(verifier) => verifier,
        Clients::Deferred => Arc::new(DeferredClient),
        Clients::Anyone => Arc::new(NoClientAuth),
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![alpn.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The configuration of a client; without an identity it presents no certificate.
///
/// # Errors
/// When rustls refuses it.
pub fn client_config(
    identity: Option<Arc<LiveIdentity>>,
    verifier: Arc<dyn ServerCertVerifier>,
    alpn: &[u8],
) -> Result<ClientConfig, TlsConfigError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    Ok(client(builder.dangerous().with_custom_certificate_verifier(verifier), identity, &[alpn]))
}

/// Completes the configuration of a client that knows whom to believe.
pub(crate) fn client(
    believing: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<Arc<LiveIdentity>>,
    alpn: &[&[u8]],
) -> ClientConfig {
    let mut config = match identity {
        Some(identity) => believing.with_client_cert_resolver(identity),
        None => believing.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    config
}

#[cfg(test)]
mod tests;
