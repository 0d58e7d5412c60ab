//! Why a certificate does not prove an id: one variant per rule.

use federation_model::{
    bundle::Fingerprint,
    revocation::Revocation,
    spiffe::{SpiffeId, SpiffeIdError, TrustDomain},
    time::Timestamp,
};

use crate::{ca::MAX_CHAIN, validity::date, x509::Malformed};

/// Why a certificate does not prove a SPIFFE ID, and what to do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// No certificate at all.
    #[error("no certificate was presented: the peer must present an X.509-SVID")]
    NoCertificate,
    /// It does not parse.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// No URI name.
    #[error(
        "the certificate has no URI name: an X.509-SVID carries exactly one, spiffe://<trust domain>/<path>; issue it with that name"
    )]
    NoUriSan,
    /// Several URI names.
    #[error("the certificate has {0} URI names: an X.509-SVID carries exactly one; issue it without the others")]
    TwoUriSans(usize),
    /// The URI name is no SPIFFE ID.
    #[error(
        "the URI name {uri:?} is not a SPIFFE ID ({reason}): issue the certificate with spiffe://<trust domain>/<path>"
    )]
    NotSpiffe {
        /// The URI.
        uri: String,
        /// Why.
        reason: SpiffeIdError,
    },
    /// The id names a trust domain.
    #[error("{0} has no path: it names a trust domain, and a leaf must name a workload; issue it with a path")]
    NoPath(SpiffeId),
    /// An authority presented as leaf.
    #[error(
        "the certificate ({0}) is an authority (basicConstraints cA is true) and must not authenticate: present a leaf issued by it"
    )]
    IsCa(String),
    /// No keyUsage extension.
    #[error("the certificate of {0} has no keyUsage: issue it with a critical keyUsage of digitalSignature")]
    NoKeyUsage(SpiffeId),
    /// keyUsage is not critical.
    #[error("the keyUsage in the certificate of {0} is not critical: issue it with a critical keyUsage")]
    KeyUsageNotCritical(SpiffeId),
    /// keyUsage lacks digitalSignature.
    #[error("the keyUsage in the certificate of {0} lacks digitalSignature: issue it with that usage")]
    NoDigitalSignature(SpiffeId),
    /// keyUsage has keyCertSign.
    #[error(
        "the keyUsage in the certificate of {0} has keyCertSign: a leaf must not sign certificates; issue it without that usage"
    )]
    SignsCertificates(SpiffeId),
    /// keyUsage has cRLSign.
    #[error(
        "the keyUsage in the certificate of {0} has cRLSign: a leaf must not sign revocation lists; issue it without that usage"
    )]
    SignsCrls(SpiffeId),
    /// extendedKeyUsage lacks clientAuth.
    #[error(
        "the extendedKeyUsage in the certificate of {0} lacks clientAuth: issue it with serverAuth and clientAuth, or without the extension"
    )]
    NoClientAuth(SpiffeId),
    /// extendedKeyUsage lacks serverAuth.
    #[error(
        "the extendedKeyUsage in the certificate of {0} lacks serverAuth: issue it with serverAuth and clientAuth, or without the extension"
    )]
    NoServerAuth(SpiffeId),
    /// Empty subject with names that are not critical.
    #[error("the certificate of {0} has an empty subject, so its subjectAltName must be critical: issue it so")]
    NamesNotCritical(SpiffeId),
    /// After its end.
    #[error("the certificate of {id} expired at {}, it is {} here: renew it, and compare the clocks", date(*.not_after), date(*.now))]
    Expired {
        /// The id.
        id: SpiffeId,
        /// The end.
        not_after: Timestamp,
        /// The clock of the verifier.
        now: Timestamp,
    },
    /// Before its start.
    #[error("the certificate of {id} is valid from {} on, it is {} here: compare the clocks of the two sides", date(*.not_before), date(*.now))]
    NotYetValid {
        /// The id.
        id: SpiffeId,
        /// The start.
        not_before: Timestamp,
        /// The clock of the verifier.
        now: Timestamp,
    },
    /// No bundle of its trust domain.
    #[error(
        "{0} is of a trust domain that is not known here: its cluster is not a member, or was removed; see fedctl status"
    )]
    UnknownTrustDomain(SpiffeId),
    /// A workload of another cluster.
    #[error(
        "{id} is of another trust domain than this cluster, {own}: a workload connects to the gateway of its own cluster, which carries its id; present an SVID of {own}"
    )]
    OtherTrustDomain {
        /// The id.
        id: SpiffeId,
        /// The trust domain of this cluster.
        own: TrustDomain,
    },
    /// The bundle of its trust domain is empty.
    #[error("nothing of the trust domain of {0} is trusted: its bundle holds no usable authority; see fedctl status")]
    NothingTrusted(SpiffeId),
    /// An authority of that name exists, but it did not sign.
    #[error(
        "the certificate of {id} is not signed by the authority of its trust domain but by another one of the same name ({reason}): the authority was replaced and its bundle did not follow, or the certificate is forged; compare the fingerprints"
    )]
    WrongAuthority {
        /// The id.
        id: SpiffeId,
        /// What the path search said last.
        reason: String,
    },
    /// No authority of the trust domain stands above the chain.
    #[error(
        "no authority of its trust domain stands above the certificate of {id}, issued by {issuer:?} ({reason}): present the intermediate certificates, or publish the new authority in the bundle"
    )]
    NoAuthority {
        /// The id.
        id: SpiffeId,
        /// The issuer's name in the leaf.
        issuer: String,
        /// What the path search said last.
        reason: String,
    },
    /// Too many certificates.
    #[error("{0} came with a chain of {1} certificates, {MAX_CHAIN} are accepted: leave out those that are not needed")]
    ChainTooLong(SpiffeId, usize),
    /// A certificate above the leaf is not valid now.
    #[error("a certificate above that of {0} is expired or not valid yet: renew the intermediate authority")]
    SignerExpired(SpiffeId),
    /// The authority itself is past its end.
    #[error(
        "the authority {authority} above {id} expired at {}, it is {} here: publish the authority that follows it in the bundle of its trust domain, and compare the clocks",
        date(*.not_after), date(*.now)
    )]
    AuthorityExpired {
        /// The id.
        id: SpiffeId,
        /// The authority.
        authority: Box<Fingerprint>,
        /// Its end.
        not_after: Timestamp,
        /// The clock of the verifier.
        now: Timestamp,
    },
    /// The authority itself is before its start.
    #[error(
        "the authority {authority} above {id} is valid from {} on, it is {} here: issue from it when it is valid, and compare the clocks",
        date(*.not_before), date(*.now)
    )]
    AuthorityNotYetValid {
        /// The id.
        id: SpiffeId,
        /// The authority.
        authority: Box<Fingerprint>,
        /// Its start.
        not_before: Timestamp,
        /// The clock of the verifier.
        now: Timestamp,
    },
    /// More authorities stand below one than its pathLenConstraint allows.
    #[error(
        "more authorities stand above {0} than the path length of one of them allows: issue the leaf from the authority that may, or raise its pathLenConstraint"
    )]
    PathTooLong(SpiffeId),
    /// A certificate that is no authority stands above the leaf.
    #[error(
        "a certificate above that of {0} is no authority (basicConstraints cA is false): a leaf cannot issue, present the chain of the authority that did"
    )]
    SignerIsLeaf(SpiffeId),
    /// A certificate above the leaf names another trust domain.
    #[error(
        "a certificate above that of {id} is of another trust domain ({reason}): an authority issues for its own trust domain alone, have the leaf issued there"
    )]
    ForeignSigner {
        /// The id.
        id: SpiffeId,
        /// Which, or why its name is none.
        reason: String,
    },
    /// A certificate above the leaf is issued for other purposes.
    #[error(
        "the extendedKeyUsage of a certificate above that of {0} lacks serverAuth or clientAuth: issue the intermediate authority with both, or without the extension"
    )]
    SignerPurpose(SpiffeId),
    /// A certificate above the leaf lacks keyCertSign.
    #[error(
        "a certificate above that of {0} may not sign certificates (keyUsage lacks keyCertSign): issue the intermediate authority again with that usage"
    )]
    SignerMayNotSign(SpiffeId),
    /// Name constraints.
    #[error(
        "an authority above {0} carries name constraints that its leaf does not meet; URI name constraints are not supported: issue the authority without them"
    )]
    NameConstraints(SpiffeId),
    /// Proven, and revoked.
    #[error(
        "the certificate of {id} is refused: {revocation}; renew a certificate that was revoked alone, or have an operator lift it with fedctl revoke reinstate {}", .revocation.id
    )]
    Revoked {
        /// The id.
        id: SpiffeId,
        /// What covers it, or a certificate of its chain.
        revocation: Box<Revocation>,
    },
    /// Proven, but not the one expected here.
    #[error(
        "the peer proved to be {id}, expected is {expected}: check the gateway id of the member, and the address that was dialled"
    )]
    Unexpected {
        /// The proven id.
        id: SpiffeId,
        /// What was expected, in words.
        expected: String,
    },
    /// The pinned authority is not in the chain.
    #[error(
        "the authority {0} of the join token is not in the chain the federation service presented: the address leads elsewhere, or the service has a new authority; ask for a new token"
    )]
    PinMissing(Fingerprint),
    /// The pinned authority cannot be one.
    #[error("the authority {pin} of the join token cannot be used: {reason}")]
    PinUnusable {
        /// The pin.
        pin: Fingerprint,
        /// Why.
        reason: String,
    },
    /// The leaf under the pinned authority is not that of a federation service.
    #[error(
        "the peer proved to be {0}, which is not the id of a federation service: check the addresses of the join token"
    )]
    NotFederation(SpiffeId),
}
