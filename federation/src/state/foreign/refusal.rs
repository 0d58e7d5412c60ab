//! Why a foreign trust domain is not added, or a bundle that was read not taken, in words.
//!
//! Owns the wording. Never decides.

use std::fmt;

use federation_model::{
    bundle::Fingerprint,
    names::ClusterName,
    spiffe::{SpiffeId, TrustDomain},
};
use proto::convert::member::{MAX_BUNDLE, Refusal};

use super::MAX_FOREIGN;

/// Whose something of the set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The federation service's own.
    Service,
    /// A member's.
    Member(ClusterName),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => f.write_str("the federation service itself"),
            Self::Member(cluster) => write!(f, "cluster {cluster}"),
        }
    }
}

/// Why a foreign trust domain is not added or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignRefusal {
    /// It is not foreign.
    #[error("the trust domain {trust_domain} belongs to {by}, so its bundle is known here and read from nowhere else")]
    TrustDomainTaken {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// Whose it is.
        by: Owner,
    },
    /// There are too many.
    #[error(
        "{MAX_FOREIGN} foreign trust domains are known, which is the most: remove one with `fedctl trust foreign remove`"
    )]
    TooMany,
    /// There is none of this name.
    #[error("there is no foreign trust domain {0}: `fedctl trust foreign list` shows them")]
    Unknown(TrustDomain),
    /// The endpoint could not be believed.
    #[error(
        "nothing is known to believe {endpoint_id} by: give the bundle of trust domain {} with --bundle FILE", .endpoint_id.trust_domain()
    )]
    NoBootstrap {
        /// The id of the endpoint.
        endpoint_id: SpiffeId,
    },
    /// The bootstrap bundle cannot be used.
    #[error("the bootstrap bundle cannot be used: {reason}")]
    BootstrapInvalid {
        /// Why.
        reason: String,
    },
    /// A bootstrap bundle for an endpoint of the web.
    #[error("an https_web endpoint is believed by its name and the authorities of the web: leave out --bundle")]
    BootstrapUnused,
}

impl ForeignRefusal {
    /// The reason for programs.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::TrustDomainTaken { .. } => Refusal::TrustDomainTaken,
            Self::TooMany => Refusal::TooManyForeign,
            Self::Unknown(_) => Refusal::NotFound,
            Self::NoBootstrap { .. } | Self::BootstrapInvalid { .. } | Self::BootstrapUnused => Refusal::BundleInvalid,
        }
    }
}

/// Why a bundle that was read does not replace the last good one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportRefusal {
    /// The trust domain is not foreign (any more).
    #[error("the trust domain belongs to {by}: remove it with `fedctl trust foreign remove`")]
    TrustDomainTaken {
        /// Whose it is.
        by: Owner,
    },
    /// A key of the set.
    #[error("the key {key} in it belongs to {by}: whoever holds it would be of two trust domains; ask its publisher")]
    KeyTaken {
        /// SHA-256 of the public key.
        key: Fingerprint,
        /// Whose it is.
        by: Owner,
    },
    /// More bytes than a gateway takes.
    #[error("its authorities have {0} bytes, {MAX_BUNDLE} are accepted: its publisher must retire old ones")]
    TooLarge(usize),
    /// It had a sequence before.
    #[error("it has no sequence, and the last one had {held}: {BEGIN_ANEW}")]
    SequenceMissing {
        /// That of the last good bundle.
        held: u64,
    },
    /// An older bundle.
    #[error("its sequence went back from {held} to {read}, so removed authorities may be in it: {BEGIN_ANEW}")]
    Backwards {
        /// That of the last good bundle.
        held: u64,
        /// That of the bundle read.
        read: u64,
    },
    /// Two bundles with one sequence.
    #[error(
        "it differs from the last one of the same sequence {sequence}, so one of the two is forged or stale: {BEGIN_ANEW}"
    )]
    Forked {
        /// The sequence of both.
        sequence: u64,
    },
}

/// What helps when the publisher is right and the last good bundle is not.
const BEGIN_ANEW: &str =
    "ask its publisher; if it began anew, `fedctl trust foreign remove` the trust domain and add it again";
