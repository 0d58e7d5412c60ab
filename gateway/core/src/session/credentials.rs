//! What the two ends of a tunnel tell each other of trust: which bundle they believe, and by which certificate they are to
//! be judged.
//!
//! Owns the newest word in each direction and the limit on how often a peer may ask to be judged anew. Never verifies
//! anything: the tunnel does.

use std::time::{Duration, Instant};

use bytes::Bytes;
use federation_model::{bundle::Fingerprint, lineage::BundleDigest};
use proto::tunnel::v1::{Credential, CredentialAck, HeldBundle, control_message::Message};

use super::{SessionError, SessionEvent, shown};

/// Credentials a peer may send in a burst: a handshake and a forced rotation make three.
const BURST: u32 = 8;
/// How often one more is accepted: each costs two verifications of a signature.
const EARNED_EVERY: Duration = Duration::from_secs(1);
/// The most certificates of a credential, and the most bytes of each.
const MAX_CERTIFICATES: usize = 4;
const MAX_CERTIFICATE: usize = 8 * 1024;
const MAX_SIGNATURE: usize = 1024;

/// The version of a trust bundle that somebody believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its sequence number.
    pub sequence: u64,
    /// Its digest, which tells two bundles of one number apart.
    pub digest: BundleDigest,
}

/// A certificate by which a tunnel is to be judged, with the proof that its key is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialProof {
    /// The certificates, leaf first.
    pub chain: Vec<Bytes>,
    /// The signature over the exporter of the connection.
    pub signature: Bytes,
}

/// What became of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Its leaf.
    pub fingerprint: Fingerprint,
    /// Why it is not accepted, if so.
    pub refusal: Option<String>,
}

/// Both directions of one session.
#[derive(Debug)]
pub(super) struct Credentials {
    held: Option<Held>,
    credential: Option<CredentialProof>,
    judgement: Option<Judgement>,
    budget: u32,
    earned: Instant,
}

impl Credentials {
    pub(super) fn new(now: Instant) -> Self {
        Self { held: None, credential: None, judgement: None, budget: BURST, earned: now }
    }

    pub(super) fn tell_held(&mut self, held: Held) {
        self.held = Some(held);
    }

    pub(super) fn tell_credential(&mut self, credential: CredentialProof) {
        self.credential = Some(credential);
    }

    pub(super) fn tell_judgement(&mut self, judgement: Judgement) {
        self.judgement = Some(judgement);
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Message> {
        if let Some(Held { sequence, digest }) = self.held.take() {
            let digest = digest.as_bytes().to_vec().into();
            return Some(Message::HeldBundle(HeldBundle { sequence, digest }));
        }
        if let Some(Judgement { fingerprint, refusal }) = self.judgement.take() {
            let fingerprint = fingerprint.as_bytes().to_vec().into();
            let refusal = refusal.map(|text| shown(&text)).unwrap_or_default();
            return Some(Message::CredentialAck(CredentialAck { fingerprint, refusal }));
        }
        let CredentialProof { chain, signature } = self.credential.take()?;
        Some(Message::Credential(Credential { chain, signature }))
    }
}

pub(super) fn handle_held(held: &HeldBundle) -> Result<SessionEvent, SessionError> {
    let digest =
        held.digest.as_ref().try_into().map_err(|_| SessionError::BadCredential("its digest is no SHA-256"))?;
    Ok(SessionEvent::Held(Held { sequence: held.sequence, digest: BundleDigest::from_bytes(digest) }))
}

pub(super) fn handle_judgement(ack: &CredentialAck) -> Result<SessionEvent, SessionError> {
    let bytes = ack.fingerprint.as_ref().try_into();
    let bytes = bytes.map_err(|_| SessionError::BadCredential("its fingerprint is no SHA-256"))?;
    let refusal = (!ack.refusal.is_empty()).then(|| shown(&ack.refusal));
    Ok(SessionEvent::Judged(Judgement { fingerprint: Fingerprint::from_bytes(bytes), refusal }))
}

impl Credentials {
    pub(super) fn handle_credential(
        &mut self,
        credential: Credential,
        now: Instant,
    ) -> Result<SessionEvent, SessionError> {
        let earned = now.saturating_duration_since(self.earned).as_secs() / EARNED_EVERY.as_secs();
        if let Ok(earned) = u32::try_from(earned)
            && earned > 0
        {
            self.budget = self.budget.saturating_add(earned).min(BURST);
            self.earned = now;
        }
        self.budget = self.budget.checked_sub(1).ok_or(SessionError::TooManyCredentials)?;
        let Credential { chain, signature } = credential;
        if chain.is_empty() || chain.len() > MAX_CERTIFICATES {
            return Err(SessionError::BadCredential("it has no certificate, or too many"));
        }
        if signature.len() > MAX_SIGNATURE || chain.iter().any(|der| der.len() > MAX_CERTIFICATE) {
            return Err(SessionError::BadCredential("it is too large"));
        }
        Ok(SessionEvent::Credential(CredentialProof { chain, signature }))
    }
}
