//! The verifier that TLS handshakes use, on either side.
//!
//! Owns the answer to "is this id expected here?". Never looks at server names: they route, they do not identify.

use std::{fmt, sync::Arc};

use federation_model::{spiffe::SpiffeId, time::Timestamp};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Usage, VerifyError, check_leaf, verify_parts};
use crate::{tls::provider, trust::TrustStore};

/// Which ids are welcome.
#[derive(Clone)]
pub enum Expect {
    /// Any id that is proven.
    Any,
    /// This one.
    Exactly(SpiffeId),
    /// One of these.
    OneOf(Vec<SpiffeId>),
    /// Those the function accepts at the time of the handshake; the text says which these are.
    When(&'static str, Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>),
}

impl Expect {
    fn check(&self, id: &SpiffeId) -> Result<(), VerifyError> {
        let (welcome, expected) = match self {
            Self::Any => return Ok(()),
            Self::Exactly(wanted) => (id == wanted, wanted.to_string()),
            Self::OneOf(wanted) => (wanted.contains(id), listed(wanted)),
            Self::When(words, accepts) => (accepts(id), (*words).to_owned()),
        };
        if welcome { Ok(()) } else { Err(VerifyError::Unexpected { id: id.clone(), expected }) }
    }
}

/// At most four ids in words: the text goes into a close frame.
fn listed(ids: &[SpiffeId]) -> String {
    let shown: Vec<_> = ids.iter().take(4).map(ToString::to_string).collect();
    let more = ids.len().saturating_sub(shown.len());
    if more == 0 { shown.join(" or ") } else { format!("{} or {more} others", shown.join(", ")) }
}

impl fmt::Debug for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("Any"),
            Self::Exactly(id) => write!(f, "Exactly({id})"),
            Self::OneOf(ids) => f.debug_tuple("OneOf").field(ids).finish(),
            Self::When(words, _) => write!(f, "When({words})"),
        }
    }
}

/// Verifies the peers of handshakes by their SPIFFE IDs, as server and as client.
#[derive(Debug)]
pub struct SpiffeVerifier {
    trust: Arc<TrustStore>,
    expect: Expect,
}

impl SpiffeVerifier {
    /// Believes the bundles in force at the time of each handshake.
    #[must_use]
    pub fn new(trust: Arc<TrustStore>, expect: Expect) -> Self {
        Self { trust, expect }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<(), TlsError> {
        verify_parts(leaf, intermediates, &self.trust, Timestamp(now.as_secs()), usage)
            .and_then(|id| self.expect.check(&id))
            .map_err(refusal)
    }
}

/// What rustls carries for a [`VerifyError`]. rustls shows such errors by `Debug` alone, so that is the text here: it ends up
/// in the close frame and thus in the logs of both sides.
#[derive(Clone, PartialEq, thiserror::Error)]
#[error("{0}")]
struct Refusal(VerifyError);

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

pub(super) fn refusal(error: VerifyError) -> TlsError {
    TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refusal(error)))))
}

/// The rule that was broken, when `error` comes from a verifier of this crate.
#[must_use]
pub fn broken_rule(error: &TlsError) -> Option<&VerifyError> {
    let TlsError::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else { return None };
    inner.downcast_ref::<Refusal>().map(|refusal| &refusal.0)
}

/// The three methods both rustls traits share.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, TlsError> {
            verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, TlsError> {
            verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(super) use signatures;

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.verify(end_entity, intermediates, now, Usage::Server).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for SpiffeVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // None: with hints, clients whose authority is missing here would stay silent instead of being told why.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.verify(end_entity, intermediates, now, Usage::Client).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}

/// For servers that judge clients call by call: a client proves that it holds the key of the leaf it shows, and nothing
/// else. A refusal then reaches it as an answer with a reason; one during the handshake often ends as a reset connection.
#[derive(Debug)]
pub struct DeferredClient;

impl ClientCertVerifier for DeferredClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        check_leaf(end_entity).map(|_| ClientCertVerified::assertion()).map_err(refusal)
    }

    signatures!();
}
