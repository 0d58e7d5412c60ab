//! Certificates of the web, at bundle endpoints with the profile `https_web` (SPIFFE Federation, section 5.2.1).
//!
//! Owns the pair such an endpoint presents, and the roots that are believed about names. Names prove something there and at
//! endpoints of applications ([`crate::endpoint`]) alone; never between the parts of a cluster set.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig,
    client::WantsClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::{
    ca::MAX_CHAIN,
    svid::certificates,
    tls::{Clients, TlsConfigError, client, provider, server},
    validity::Validity,
    x509::{Malformed, Parsed},
};

/// The most roots that are read: public lists have a hundred and fifty.
const MAX_ROOTS: usize = 2048;

/// Why a certificate and a key, or a list of roots, cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WebError {
    /// The text holds no usable PEM.
    #[error("the {what} is not usable PEM ({reason}): give an unencrypted PEM file")]
    Pem {
        /// Certificate, key or roots.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Too many certificates.
    #[error("the chain holds {0} certificates, {MAX_CHAIN} are accepted: leave out those that are not needed")]
    ChainTooLong(usize),
    /// The certificate cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The key is another one, or of a kind that is not supported.
    #[error("the private key does not fit the certificate ({0}): give the pair that was issued together")]
    Key(String),
    /// Nothing can be verified.
    #[error("none of {0} certificates can be a root of trust: give those of certificate authorities")]
    NoRoots(usize),
    /// More roots than any list has.
    #[error("there are more than {MAX_ROOTS} roots: give those that are needed")]
    TooManyRoots,
}

/// A certificate chain for names, with its key.
pub struct WebPair {
    certified: Arc<CertifiedKey>,
    validity: Validity,
}

impl WebPair {
    /// Loads a pair: the certificate of the names first, then those above it.
    ///
    /// # Errors
    /// When the pair cannot be read or does not belong together.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, WebError> {
        let chain = certificates(cert_pem).map_err(|reason| WebError::Pem { what: "certificate", reason })?;
        if chain.len() > MAX_CHAIN {
            return Err(WebError::ChainTooLong(chain.len()));
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|e| WebError::Pem { what: "key", reason: e.to_string() })?;
        let validity = Parsed::from_der(&chain[0])?.validity();
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|e| WebError::Key(e.to_string()))?;
        Ok(Self { certified: Arc::new(certified), validity })
    }

    /// From when until when the certificate of the names is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

impl fmt::Debug for WebPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebPair").field("validity", &self.validity).field("key", &"hidden").finish_non_exhaustive()
    }
}

/// The pair an endpoint presents now; without one every handshake is refused.
#[derive(Debug, Default)]
pub struct WebIdentity(ArcSwapOption<WebPair>);

impl WebIdentity {
    /// Presents `pair` from the next handshake on.
    pub fn replace(&self, pair: WebPair) {
        self.0.store(Some(Arc::new(pair)));
    }

    /// What is presented now.
    #[must_use]
    pub fn current(&self) -> Option<Arc<WebPair>> {
        self.0.load_full()
    }
}

impl ResolvesServerCert for WebIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|pair| Arc::clone(&pair.certified))
    }
}

/// The configuration of an endpoint that presents `identity` and asks nobody for a certificate.
///
/// # Errors
/// When rustls refuses it.
pub fn server_config(identity: Arc<WebIdentity>, alpn: &[u8]) -> Result<ServerConfig, TlsConfigError> {
    server(identity, Clients::Anyone, alpn)
}

/// The authorities of the web that are believed.
#[derive(Debug, Clone)]
pub struct WebRoots(Arc<RootCertStore>);

impl WebRoots {
    /// Takes the usable ones among `roots`: the lists of systems hold a few that are not.
    ///
    /// # Errors
    /// When none is usable, or there are too many.
    pub fn new(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self, WebError> {
        let roots: Vec<_> = roots.into_iter().take(MAX_ROOTS + 1).collect();
        if roots.len() > MAX_ROOTS {
            return Err(WebError::TooManyRoots);
        }
        let (count, mut store) = (roots.len(), RootCertStore::empty());
        match store.add_parsable_certificates(roots) {
            (0, _) => Err(WebError::NoRoots(count)),
            (_, _) => Ok(Self(Arc::new(store))),
        }
    }

    /// As [`WebRoots::new`], from a PEM text.
    ///
    /// # Errors
    /// As [`WebRoots::new`], and when the text is no PEM.
    pub fn from_pem(pem: &str) -> Result<Self, WebError> {
        Self::new(certificates(pem).map_err(|reason| WebError::Pem { what: "list of roots", reason })?)
    }

    /// A client that believes these roots about the name it dials.
    pub(crate) fn believing(&self) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsConfigError> {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        Ok(builder.with_root_certificates(Arc::clone(&self.0)))
    }
}

/// The configuration of a client that believes `roots` about the name it dials, and presents no certificate.
///
/// # Errors
/// When rustls refuses it.
pub fn client_config(roots: &WebRoots, alpn: &[u8]) -> Result<ClientConfig, TlsConfigError> {
    Ok(client(roots.believing()?, None, &[alpn]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use federation_model::{
        spiffe::{SpiffeId, TrustDomain},
        time::Timestamp,
    };

    use super::*;
    use crate::ca::{Authority, SvidRequest};

    fn pair() -> (String, String) {
        let td = TrustDomain::new("web.example").unwrap();
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        let authority = Authority::generate(&td, "web", validity).unwrap();
        let id = SpiffeId::new("spiffe://web.example/server").unwrap();
        let names = vec!["bundles.example".parse().unwrap()];
        let svid = authority.issue(&SvidRequest { id, names, validity }).unwrap();
        (svid.certificate_pem(), svid.key_pem().expose().to_owned())
    }

    #[test]
    fn a_pair_is_read_with_its_end_and_never_shows_its_key() {
        let (certificate, key) = pair();
        let pair = WebPair::from_pem(&certificate, &key).unwrap();
        assert_eq!(pair.validity().not_after, Timestamp(1_700_003_600));
        let shown = format!("{pair:?}");
        assert!(shown.contains("hidden") && !shown.contains("PRIVATE"), "{shown}");
        let identity = WebIdentity::default();
        assert!(identity.current().is_none());
        identity.replace(pair);
        assert!(identity.current().is_some());
    }

    #[test]
    fn pairs_and_roots_that_cannot_be_used_say_why() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let error = |certificate: &str, key: &str| WebPair::from_pem(certificate, key).unwrap_err();
        assert!(matches!(error(&certificate, &other), WebError::Key(_)));
        assert!(matches!(error("", &key), WebError::Pem { what: "certificate", .. }));
        assert!(matches!(error(&certificate, ""), WebError::Pem { what: "key", .. }));
        assert!(matches!(error(&certificate.repeat(9), &key), WebError::ChainTooLong(18)));
        assert!(matches!(WebRoots::from_pem(""), Err(WebError::Pem { .. })));
        assert!(matches!(WebRoots::new([vec![1, 2, 3].into()]), Err(WebError::NoRoots(1))));
        assert!(WebRoots::from_pem(&certificate).is_ok());
    }
}
