//! Why what a source offers is not used: one variant per rule.

use federation_model::{
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};

use super::MAX_TEXT;
use crate::{
    ca::CaError,
    validity::date,
    verify::VerifyError,
    x509::{AuthorityName, Malformed},
};

/// Why material is not used. Every message names the part, the rule and the remedy, and stays the same while time passes, so
/// that it is told once.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MaterialError {
    /// Far more text than certificates need.
    #[error("{place} has {bytes} bytes, {MAX_TEXT} are accepted: put the gateway's own certificates there alone")]
    TooLarge {
        /// The part.
        place: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// No PEM.
    #[error("{place} is not usable PEM ({reason}): give PEM, as in a Kubernetes Secret of type kubernetes.io/tls")]
    NotPem {
        /// The part.
        place: &'static str,
        /// Why.
        reason: String,
    },
    /// A certificate does not parse.
    #[error("certificate {number} of {place}: {reason}")]
    Malformed {
        /// The part.
        place: &'static str,
        /// Which one, from 1.
        number: usize,
        /// Why.
        reason: Malformed,
    },
    /// The key is encrypted.
    #[error(
        "{0} is encrypted, and nobody is there to type its pass phrase: give it unencrypted and guard it by its file mode (openssl pkey decrypts)"
    )]
    EncryptedKey(&'static str),
    /// The key is of a kind that is not supported, or broken.
    #[error("{place} is not usable ({reason}): give an ECDSA P-256 or P-384, Ed25519, or RSA key of 2048 bits or more")]
    UnusableKey {
        /// The part.
        place: &'static str,
        /// Why.
        reason: String,
    },
    /// The key is that of no certificate here.
    #[error("{key} does not belong to any certificate of {certificate}: give the pair that was issued together")]
    KeyMismatch {
        /// The part with the key.
        key: &'static str,
        /// The part with the certificates.
        certificate: &'static str,
    },
    /// Too many certificates.
    #[error("{place} holds {count} certificates, {most} are accepted: leave out those that are not needed")]
    TooMany {
        /// The part.
        place: &'static str,
        /// How many.
        count: usize,
        /// How many are accepted.
        most: usize,
    },
    /// The certificate of the key is not the first.
    #[error(
        "{place} is in the wrong order: its certificate {number} ({subject}) belongs to the key and must come first, then the one that issued it, and so on"
    )]
    WrongOrder {
        /// The part.
        place: &'static str,
        /// Which one must come first, from 1.
        number: usize,
        /// Its subject.
        subject: String,
    },
    /// A certificate is not followed by its issuer.
    #[error(
        "{place} is in the wrong order: its certificate {number} ({subject}) was issued by {issuer}, so the certificate of that name must come next, not {found}"
    )]
    BrokenChain {
        /// The part.
        place: &'static str,
        /// Which one, from 1.
        number: usize,
        /// Its subject.
        subject: String,
        /// Its issuer.
        issuer: String,
        /// The subject of the one that follows.
        found: String,
    },
    /// After its end.
    #[error("certificate {number} of {place} ({subject}) expired at {}: renew it, and look at the clock of this host", date(*.not_after))]
    Expired {
        /// The part.
        place: &'static str,
        /// Which one, from 1.
        number: usize,
        /// Its subject.
        subject: String,
        /// The end.
        not_after: Timestamp,
    },
    /// Before its start, by more than the clock skew.
    #[error(
        "certificate {number} of {place} ({subject}) is valid from {} on: look at the clock of this host and at that of the issuer",
        date(*.not_before)
    )]
    NotYetValid {
        /// The part.
        place: &'static str,
        /// Which one, from 1.
        number: usize,
        /// Its subject.
        subject: String,
        /// The start.
        not_before: Timestamp,
    },
    /// An authority without keyCertSign.
    #[error(
        "the authority in {0} may not sign certificates (keyUsage lacks keyCertSign): issue it with that usage, in cert-manager usages: [cert sign]"
    )]
    MayNotSign(&'static str),
    /// An authority for other purposes.
    #[error(
        "the authority in {0} is for other purposes (extendedKeyUsage lacks serverAuth or clientAuth): issue it with both, or without the extension"
    )]
    Purpose(&'static str),
    /// The authority is of another trust domain.
    #[error(
        "the authority in {place} is of trust domain {found}, this cluster is configured as {expected}: correct one of them"
    )]
    WrongTrustDomain {
        /// The part.
        place: &'static str,
        /// In the certificate.
        found: TrustDomain,
        /// Expected.
        expected: TrustDomain,
    },
    /// The authority's URI name is no trust domain.
    #[error("the name of the authority in {place} is not acceptable: {reason}")]
    AuthorityName {
        /// The part.
        place: &'static str,
        /// Why.
        reason: AuthorityName,
    },
    /// The authority cannot be used for another reason.
    #[error("the authority in {place} cannot be used: {reason}")]
    Authority {
        /// The part.
        place: &'static str,
        /// Why.
        reason: Box<CaError>,
    },
    /// A leaf that breaks a rule of X.509-SVIDs.
    #[error("the leaf in {place} is not an X.509-SVID: {rule}")]
    Leaf {
        /// The part.
        place: &'static str,
        /// The rule.
        rule: Box<VerifyError>,
    },
    /// A leaf of somebody else.
    #[error(
        "the leaf in {place} is that of {found}, this gateway must have {expected}: issue it with that one URI name, or correct cluster.trust_domain"
    )]
    WrongId {
        /// The part.
        place: &'static str,
        /// In the leaf.
        found: SpiffeId,
        /// Expected.
        expected: SpiffeId,
    },
    /// URI name constraints.
    #[error(
        "{subject} in {place} constrains URI names, and no verifier of this system (rustls-webpki) accepts a chain with such a constraint: issue it without URI name constraints; a trust domain is confined by its bundle anyway"
    )]
    UriConstraints {
        /// The part.
        place: &'static str,
        /// The certificate.
        subject: String,
    },
    /// A leaf, and nothing above it.
    #[error(
        "{certificate} holds a leaf alone and {authorities} is missing or empty, so that no peer could verify it: give the certificate that issued it in one of the two"
    )]
    NothingAbove {
        /// The part with the leaf.
        certificate: &'static str,
        /// The part that is missing.
        authorities: &'static str,
    },
    /// The chain does not end below the authorities that came with it.
    #[error(
        "the chain of {certificate} does not lead to {authorities} (the issuer of its last certificate is {issuer}): give the certificates between them too, or the root that issued it; {rule}"
    )]
    NotBelow {
        /// The part with the chain.
        certificate: &'static str,
        /// The part with the roots.
        authorities: &'static str,
        /// The issuer of the last certificate.
        issuer: String,
        /// What the verifier says.
        rule: Box<VerifyError>,
    },
    /// More authorities than a path length allows.
    #[error(
        "the chain of {0} is longer than a pathLenConstraint above it allows: issue the authority from one that may have authorities below it, or raise that constraint"
    )]
    PathTooLong(&'static str),
    /// The chain breaks another rule.
    #[error("the chain of {place} would be refused by every peer: {rule}")]
    Path {
        /// The part.
        place: &'static str,
        /// The rule.
        rule: Box<VerifyError>,
    },
}
