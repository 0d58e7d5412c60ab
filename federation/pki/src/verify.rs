//! Whether a certificate proves a SPIFFE ID.
//!
//! Owns the rules of X.509-SVIDs (SPIFFE X509-SVID sections 2 to 5), the choice of roots, and that nothing revoked passes: a
//! leaf is judged by the authorities of the trust domain in its own URI name, and by no others. Never resumes a session, never
//! trusts a name.
//!
//! ```text
//! check_leaf          shape of the leaf alone  -> id
//! verify_leaf         + time + path to the authorities of the id's trust domain + not revoked
//! verify_workload     + of this cluster's own trust domain (terminating listener)
//! SpiffeVerifier      + is this id expected here?        (rustls, both sides)
//! PinnedAuthority     path to one pinned certificate      (joining)
//! ```

mod error;
mod handshake;
mod pinned;

use std::cell::RefCell;

use federation_model::{
    revocation::{Revocations, Serial},
    spiffe::{MAX_SPIFFE_ID, SpiffeId, SpiffeIdError, TrustDomain},
    time::Timestamp,
};
use rustls_pki_types::{CertificateDer, UnixTime};

pub use self::{
    error::VerifyError,
    handshake::{DeferredClient, Expect, SpiffeVerifier, broken_rule},
    pinned::{FEDERATION_PATH, PinnedAuthority},
};
use crate::{
    ca::MAX_CHAIN,
    tls::provider,
    trust::{Roots, TrustStore},
    validity::{CLOCK_SKEW, Term, Validity},
    x509::Parsed,
};

/// What the peer uses its certificate for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// It dialled.
    Client,
    /// It was dialled.
    Server,
}

/// The SPIFFE ID a certificate claims: exactly one URI name, a SPIFFE ID with a path. Proves nothing.
///
/// # Errors
/// When there is no such id.
pub fn spiffe_id_of(cert: &CertificateDer<'_>) -> Result<SpiffeId, VerifyError> {
    claimed_id(&Parsed::from_der(cert)?)
}

/// The serial number of a certificate.
///
/// # Errors
/// When the certificate cannot be read.
pub fn serial_of(cert: &CertificateDer<'_>) -> Result<Serial, VerifyError> {
    Ok(Parsed::from_der(cert)?.serial())
}

/// Checks the shape of a leaf: everything that can be said without knowing its authority or the time.
///
/// # Errors
/// The first rule that is broken.
pub fn check_leaf(cert: &CertificateDer<'_>) -> Result<SpiffeId, VerifyError> {
    check_shape(&Parsed::from_der(cert)?)
}

/// Verifies a chain, leaf first, at `now`, against the authorities of the trust domain in the leaf's own URI name.
///
/// # Errors
/// The first rule that is broken.
pub fn verify_leaf(
    chain: &[CertificateDer<'_>],
    trust: &TrustStore,
    now: Timestamp,
    usage: Usage,
) -> Result<SpiffeId, VerifyError> {
    let (leaf, intermediates) = chain.split_first().ok_or(VerifyError::NoCertificate)?;
    verify_parts(leaf, intermediates, trust, now, usage)
}

/// Verifies a workload of the trust domain `own`, which connects to the gateway of its own cluster: as [`verify_leaf`] does,
/// and nobody of another trust domain passes, whatever `trust` believes.
///
/// # Errors
/// The first rule that is broken.
pub fn verify_workload(
    chain: &[CertificateDer<'_>],
    trust: &TrustStore,
    own: &TrustDomain,
    now: Timestamp,
) -> Result<SpiffeId, VerifyError> {
    let id = check_leaf(chain.first().ok_or(VerifyError::NoCertificate)?)?;
    if !id.is_member_of(own) {
        return Err(VerifyError::OtherTrustDomain { id, own: own.clone() });
    }
    verify_leaf(chain, trust, now, Usage::Client)
}

fn verify_parts(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    trust: &TrustStore,
    now: Timestamp,
    usage: Usage,
) -> Result<SpiffeId, VerifyError> {
    let parsed = Parsed::from_der(leaf)?;
    let id = check_shape(&parsed)?;
    let anchors = trust.anchors();
    let roots = anchors.of(id.trust_domain()).ok_or_else(|| VerifyError::UnknownTrustDomain(id.clone()))?;
    if roots.is_empty() {
        return Err(VerifyError::NothingTrusted(id));
    }
    check_time(&parsed, &id, now)?;
    let claim = Claim { leaf, parsed: &parsed, id: &id };
    check_path(&claim, intermediates, roots, now, usage)?;
    // Last, so that only who proves an id is told that it is revoked, and why.
    check_revocations(&claim, intermediates, anchors.revocations())?;
    Ok(id)
}

/// Verifies a chain, leaf first, at `now`, against these authorities, whatever trust domain they are of.
pub(crate) fn verify_under(
    chain: &[CertificateDer<'_>],
    roots: &Roots,
    now: Timestamp,
    usage: Usage,
) -> Result<SpiffeId, VerifyError> {
    let (leaf, intermediates) = chain.split_first().ok_or(VerifyError::NoCertificate)?;
    let parsed = Parsed::from_der(leaf)?;
    let id = check_shape(&parsed)?;
    check_time(&parsed, &id, now)?;
    check_path(&Claim { leaf, parsed: &parsed, id: &id }, intermediates, roots, now, usage)?;
    Ok(id)
}

fn claimed_id(leaf: &Parsed<'_>) -> Result<SpiffeId, VerifyError> {
    let uris = leaf.uris()?;
    let uri = match uris.as_slice() {
        [] => return Err(VerifyError::NoUriSan),
        [uri] => *uri,
        many => return Err(VerifyError::TwoUriSans(many.len())),
    };
    let refused = |reason| VerifyError::NotSpiffe { uri: uri.chars().take(120).collect(), reason };
    // What is longer would be proven here and then fit nowhere: not into a stream header, not into a policy.
    if uri.len() > MAX_SPIFFE_ID {
        return Err(refused(SpiffeIdError::SpiffeIdTooLong { max: MAX_SPIFFE_ID }));
    }
    let id = SpiffeId::new(uri).map_err(refused)?;
    if id.path().is_empty() { Err(VerifyError::NoPath(id)) } else { Ok(id) }
}

fn check_shape(leaf: &Parsed<'_>) -> Result<SpiffeId, VerifyError> {
    // An authority's id has no path: say what it is before saying what its id lacks.
    if leaf.is_ca()? {
        return Err(VerifyError::IsCa(leaf.uris()?.first().map_or_else(String::new, |uri| (*uri).to_owned())));
    }
    let id = claimed_id(leaf)?;
    let Some(usage) = leaf.key_usage()? else { return Err(VerifyError::NoKeyUsage(id)) };
    if usage.key_cert_sign {
        return Err(VerifyError::SignsCertificates(id));
    }
    if usage.crl_sign {
        return Err(VerifyError::SignsCrls(id));
    }
    if !usage.digital_signature {
        return Err(VerifyError::NoDigitalSignature(id));
    }
    if !usage.critical {
        return Err(VerifyError::KeyUsageNotCritical(id));
    }
    if let Some(extended) = leaf.extended_key_usage()? {
        if !extended.client_auth {
            return Err(VerifyError::NoClientAuth(id));
        }
        if !extended.server_auth {
            return Err(VerifyError::NoServerAuth(id));
        }
    }
    if leaf.subject_is_empty() && !leaf.names_are_critical()? {
        return Err(VerifyError::NamesNotCritical(id));
    }
    Ok(id)
}

fn check_time(leaf: &Parsed<'_>, id: &SpiffeId, now: Timestamp) -> Result<(), VerifyError> {
    let Validity { not_before, not_after } = leaf.validity();
    match leaf.validity().at(now) {
        Term::Running => Ok(()),
        Term::Over => Err(VerifyError::Expired { id: id.clone(), not_after, now }),
        Term::Ahead => Err(VerifyError::NotYetValid { id: id.clone(), not_before, now }),
    }
}

/// A leaf and what it claims.
struct Claim<'a> {
    leaf: &'a CertificateDer<'a>,
    parsed: &'a Parsed<'a>,
    id: &'a SpiffeId,
}

fn check_path(
    claim: &Claim<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &Roots,
    now: Timestamp,
    usage: Usage,
) -> Result<(), VerifyError> {
    let id = claim.id;
    if intermediates.len() >= MAX_CHAIN {
        return Err(VerifyError::ChainTooLong(id.clone(), intermediates.len() + 1));
    }
    let malformed = |e: webpki::Error| VerifyError::Malformed(crate::x509::Malformed(e.to_string()));
    let leaf = webpki::EndEntityCert::try_from(claim.leaf).map_err(malformed)?;
    let usage = match usage {
        Usage::Client => webpki::KeyUsage::client_auth(),
        Usage::Server => webpki::KeyUsage::server_auth(),
    };
    let algorithms = provider().signature_verification_algorithms;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(moment(claim, intermediates, now).0));
    // A path that webpki finds may still break a rule it does not know; then it looks for another one.
    let broken = RefCell::new(None);
    let judge = |path: &webpki::VerifiedPath<'_>| {
        check_signers(path, roots, id, now).map_err(|error| {
            broken.borrow_mut().get_or_insert(error);
            webpki::Error::UnknownIssuer
        })
    };
    leaf.verify_for_usage(algorithms.all, roots.anchors(), intermediates, time, usage, None, Some(&judge))
        .map(drop)
        .map_err(|error| broken.take().unwrap_or_else(|| path_error(error, claim, intermediates, roots)))
}

/// The moment at which a path is judged: now, or the latest start that is ahead by no more than the clock skew. Ends are
/// judged at the same moment, so that a path counts only if all of it is valid at once.
fn moment(claim: &Claim<'_>, intermediates: &[CertificateDer<'_>], now: Timestamp) -> Timestamp {
    let start = |der| Some(Parsed::from_der(der).ok()?.validity().not_before);
    let starts = intermediates.iter().filter_map(|der| start(der));
    let starts = starts.chain([claim.parsed.validity().not_before]).filter(|start| *start <= now.after(CLOCK_SKEW));
    starts.fold(now, Timestamp::max)
}

/// Checks what webpki does not look at: the time and path length of the authority itself, and the key usage and trust domain
/// of those between it and the leaf.
fn check_signers(
    path: &webpki::VerifiedPath<'_>,
    roots: &Roots,
    id: &SpiffeId,
    now: Timestamp,
) -> Result<(), VerifyError> {
    let terms = roots.terms_of(path.anchor()).ok_or_else(|| VerifyError::NothingTrusted(id.clone()))?;
    let (id, authority) = (|| id.clone(), || Box::new(terms.fingerprint));
    let Validity { not_before, not_after } = terms.validity;
    match terms.validity.at(now) {
        Term::Running => {}
        Term::Over => {
            return Err(VerifyError::AuthorityExpired { id: id(), authority: authority(), not_after, now });
        }
        Term::Ahead => {
            return Err(VerifyError::AuthorityNotYetValid { id: id(), authority: authority(), not_before, now });
        }
    }
    let between = u32::try_from(path.intermediate_certificates().count()).unwrap_or(u32::MAX);
    if terms.path_length.is_some_and(|most| between > most) {
        return Err(VerifyError::PathTooLong(id()));
    }
    for signer in path.intermediate_certificates() {
        let der = signer.der();
        let signer = Parsed::from_der(&der)?;
        if !signer.key_usage()?.is_some_and(|usage| usage.key_cert_sign) {
            return Err(VerifyError::SignerMayNotSign(id()));
        }
        match signer.authority_domain() {
            Ok(None) => {}
            Ok(Some(domain)) if domain == *id().trust_domain() => {}
            Ok(Some(domain)) => return Err(VerifyError::ForeignSigner { id: id(), reason: domain.to_string() }),
            Err(reason) => return Err(VerifyError::ForeignSigner { id: id(), reason: reason.to_string() }),
        }
    }
    Ok(())
}

/// Neither the id nor a certificate of the chain is revoked. Revoked authorities are no roots in the first place.
fn check_revocations(
    claim: &Claim<'_>,
    intermediates: &[CertificateDer<'_>],
    revocations: &Revocations,
) -> Result<(), VerifyError> {
    if revocations.is_empty() {
        return Ok(());
    }
    let id = claim.id;
    // What cannot be read has no part in the path that was found.
    let signers = intermediates.iter().filter_map(|der| serial_of(der).ok());
    let mut serials = std::iter::once(claim.parsed.serial()).chain(signers);
    let by_serial = || serials.find_map(|serial| revocations.of_serial(id.trust_domain(), &serial));
    match revocations.of_id(id).or_else(by_serial) {
        Some(revocation) => Err(VerifyError::Revoked { id: id.clone(), revocation: Box::new((**revocation).clone()) }),
        None => Ok(()),
    }
}

fn path_error(
    error: webpki::Error,
    claim: &Claim<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &Roots,
) -> VerifyError {
    let id = claim.id.clone();
    let reason = error.to_string();
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a library's enum that grows; the rest is told by its own words"
    )]
    match error {
        webpki::Error::NameConstraintViolation => return VerifyError::NameConstraints(id),
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
            return VerifyError::SignerExpired(id);
        }
        webpki::Error::PathLenConstraintViolated => return VerifyError::PathTooLong(id),
        webpki::Error::EndEntityUsedAsCa => return VerifyError::SignerIsLeaf(id),
        // The leaf's own purposes were looked at before.
        webpki::Error::RequiredEkuNotFoundContext(_) | webpki::Error::EmptyEkuExtension => {
            return VerifyError::SignerPurpose(id);
        }
        _ => {}
    }
    // The name the last certificate of the chain asks for: if an authority has it, the key is another one.
    let last = intermediates.last().and_then(|der| Parsed::from_der(der).ok().map(|p| p.issuer().to_vec()));
    let issuer = last.unwrap_or_else(|| claim.parsed.issuer().to_vec());
    let known = roots.anchors().iter().any(|root| issuer.ends_with(&root.subject));
    if known {
        return VerifyError::WrongAuthority { id, reason };
    }
    VerifyError::NoAuthority { id, issuer: claim.parsed.issuer_text(), reason }
}

#[cfg(test)]
mod tests;
