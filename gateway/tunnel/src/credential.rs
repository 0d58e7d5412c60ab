//! The certificate by which a live tunnel is judged.
//!
//! Owns the proof that replaces it without a new handshake: the key of a newer certificate signs what both ends, and nobody
//! else, can export from the connection (RFC 9261 has the idea, RFC 8446 section 7.5 the exporter). So a tunnel follows the
//! renewal of its certificates and the rotation of their authorities without losing a stream. Never decides when.

use bytes::Bytes;
use federation_model::{bundle::Fingerprint, spiffe::SpiffeId, time::Timestamp};
use federation_pki::{
    certificate::{CertificateFacts, Malformed},
    signer::{SignatureError, SigningError, sign_with, verify_with},
    svid::Svid,
    trust::TrustStore,
    verify::{Usage, VerifyError, verify_leaf},
};
use gateway_core::session::CredentialProof;
use quinn::{Connection, Side};
use rustls_pki_types::CertificateDer;

/// First bytes of what is signed.
const DOMAIN: &[u8] = b"landbridge tunnel credential v1\0";
/// The label of the exporter.
const LABEL: &[u8] = b"EXPORTER-landbridge-credential";

/// The certificate of a peer, as it was verified.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// When it was verified.
    pub(crate) verified_at: Timestamp,
    /// When it ends, and the tunnel with it.
    pub(crate) not_after: Timestamp,
    pub(crate) fingerprint: Fingerprint,
}

/// Why a credential is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("it is {0}, and this tunnel belongs to {1}")]
    AnotherId(SpiffeId, SpiffeId),
    #[error("its key did not sign for this tunnel: {0}")]
    Signature(#[from] SignatureError),
    #[error("this tunnel gives no exporter")]
    NoExporter,
}

impl Credential {
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, now: Timestamp) -> Result<Self, CredentialError> {
        let leaf = chain.first().ok_or(VerifyError::NoCertificate)?;
        let facts = CertificateFacts::of(leaf)?;
        let (not_after, fingerprint) = (facts.validity.not_after, facts.fingerprint);
        Ok(Self { chain, verified_at: now, not_after, fingerprint })
    }

    /// Judges what a peer sent on this connection.
    pub(crate) fn judge(
        connection: &Connection,
        proof: &CredentialProof,
        (owner, usage): (&SpiffeId, Usage),
        (trust, now): (&TrustStore, Timestamp),
    ) -> Result<Self, CredentialError> {
        let chain: Vec<_> = proof.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let id = verify_leaf(&chain, trust, now, usage)?;
        if id != *owner {
            return Err(CredentialError::AnotherId(id, owner.clone()));
        }
        let credential = Self::new(chain, now)?;
        let message = message(connection, other(connection.side()), &credential.fingerprint)?;
        verify_with(&credential.chain[0], &message, &proof.signature)?;
        Ok(credential)
    }
}

/// The fingerprint of the leaf in a proof, whatever it is worth.
pub(crate) fn fingerprint_of(proof: &CredentialProof) -> Fingerprint {
    Fingerprint::of(proof.chain.first().map_or(&[][..], |der| der))
}

/// Proves to the peer of this connection that this side holds `svid`.
pub(crate) fn prove(connection: &Connection, svid: &Svid) -> Result<CredentialProof, SigningError> {
    let chain = svid.chain().iter().map(|der| Bytes::copy_from_slice(der)).collect();
    let message = message(connection, connection.side(), &svid.fingerprint());
    // Without an exporter the peer refuses the empty message, and says so.
    let signature = sign_with(svid, &message.unwrap_or_default())?.into();
    Ok(CredentialProof { chain, signature })
}

/// What is signed: bound to this connection, to the end of it that signs, and to the certificate.
fn message(connection: &Connection, signer: Side, leaf: &Fingerprint) -> Result<Vec<u8>, CredentialError> {
    let end: &[u8] = match signer {
        Side::Client => b"client",
        Side::Server => b"server",
    };
    let mut exported = [0; 32];
    connection.export_keying_material(&mut exported, LABEL, end).map_err(|_| CredentialError::NoExporter)?;
    Ok([DOMAIN, end, b"\0", &exported, leaf.as_bytes()].concat())
}

fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}
