//! Believing a federation service by the fingerprint of its authority, before anything else is known.
//!
//! Owns the check a join makes. Never used after a join: then the federation's bundle is known.

use federation_model::{bundle::Fingerprint, spiffe::SpiffeId, time::Timestamp};
use rustls::{
    DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    Claim, Usage, VerifyError, check_path, check_shape, check_time,
    handshake::{refusal, signatures},
};
use crate::{ca::check_authority, tls::provider, trust::Roots, x509::Parsed};

/// The path of a federation service's id in its trust domain.
pub const FEDERATION_PATH: &str = "/landbridge/federation";

/// Believes a server whose chain holds, and leads to, the authority with this fingerprint.
#[derive(Debug, Clone, Copy)]
pub struct PinnedAuthority(pub Fingerprint);

impl PinnedAuthority {
    /// Verifies the chain of a federation service, leaf first.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<SpiffeId, VerifyError> {
        let (leaf, intermediates) = chain.split_first().ok_or(VerifyError::NoCertificate)?;
        self.verify_parts(leaf, intermediates, now)
    }

    fn verify_parts(
        self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<SpiffeId, VerifyError> {
        let pinned = intermediates.iter().find(|der| Fingerprint::of(der) == self.0);
        let pinned = pinned.ok_or(VerifyError::PinMissing(self.0))?;
        let parsed = Parsed::from_der(leaf)?;
        let id = check_shape(&parsed)?;
        let unusable = |reason| VerifyError::PinUnusable { pin: self.0, reason };
        check_authority(pinned, id.trust_domain()).map_err(|e| unusable(e.to_string()))?;
        check_time(&parsed, &id, now)?;
        let mut roots = Roots::default();
        roots.push(pinned).map_err(|e| unusable(e.to_string()))?;
        check_path(&Claim { leaf, parsed: &parsed, id: &id }, intermediates, &roots, now, Usage::Server)?;
        if id.path() == FEDERATION_PATH { Ok(id) } else { Err(VerifyError::NotFederation(id)) }
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.verify_parts(end_entity, intermediates, Timestamp(now.as_secs()))
            .map(|_| ServerCertVerified::assertion())
            .map_err(refusal)
    }

    signatures!();
}
