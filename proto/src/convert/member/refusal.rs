//! Why the federation service refuses a call, for programs.
//!
//! Owns the labels that travel in the metadata of a gRPC status. Never words the refusal: the status message does.

use std::{fmt, str::FromStr};

/// The metadata key of the label.
pub const REFUSAL_KEY: &str = "landbridge-refusal";
/// Key of the metadata that tell from which store a caller is missing: a service that lost its store knows no member, and
/// must not be able to end the memberships of a whole set with that.
pub const STORE_KEY: &str = "landbridge-store";

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $label:literal,)*) => {
        /// The reason of a refusal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $variant,)*
        }

        impl Refusal {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The label on the wire and in metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }

        impl FromStr for Refusal {
            type Err = UnknownRefusal;
            fn from_str(label: &str) -> Result<Self, UnknownRefusal> {
                match label {
                    $($label => Ok(Self::$variant),)*
                    _ => Err(UnknownRefusal),
                }
            }
        }
    };
}

refusals! {
    /// No such token, or another secret: which of them is not told.
    TokenUnknown = "token-unknown",
    /// The token's time is over.
    TokenExpired = "token-expired",
    /// The token was spent by another join.
    TokenUsed = "token-used",
    /// The token was revoked.
    TokenRevoked = "token-revoked",
    /// The token is for another cluster.
    TokenForAnotherCluster = "token-for-another-cluster",
    /// Another cluster has the name.
    ClusterTaken = "cluster-taken",
    /// Another cluster has the trust domain.
    TrustDomainTaken = "trust-domain-taken",
    /// The bundle cannot be used.
    BundleInvalid = "bundle-invalid",
    /// The authority is of the cluster's own making.
    AuthorityNotExternal = "authority-not-external",
    /// The member's new bundle does not follow the one before.
    BundleRefused = "bundle-refused",
    /// The key of the cluster's authority is not proven.
    ProofInvalid = "proof-invalid",
    /// The two clocks differ too much.
    ClockSkew = "clock-skew",
    /// No common version.
    Version = "version",
    /// The set has as many members as it may.
    SetFull = "set-full",
    /// There are as many tokens as there may be.
    TooManyTokens = "too-many-tokens",
    /// Too many refused joins from one address.
    TooManyAttempts = "too-many-attempts",
    /// A message that does not convert.
    Invalid = "invalid",
    /// The caller presented no certificate.
    NoCertificate = "no-certificate",
    /// The certificate does not prove what it says.
    CertificateRefused = "certificate-refused",
    /// The caller is not a member.
    NotAMember = "not-a-member",
    /// The caller is not an operator.
    NotAnOperator = "not-an-operator",
    /// There is no such thing.
    NotFound = "not-found",
    /// The service knows no address under which others reach it.
    NoAddress = "no-address",
    /// Too many watches of one member.
    TooManyWatches = "too-many-watches",
    /// There are as many foreign trust domains as there may be.
    TooManyForeign = "too-many-foreign",
    /// The caller, or what it asks for, was revoked.
    Revoked = "revoked",
    /// The service must not lock itself or its operators out.
    OwnIdentity = "own-identity",
    /// There are as many revocations as there may be.
    TooManyRevocations = "too-many-revocations",
    /// The service stops, or cannot write.
    Unavailable = "unavailable",
    /// The cluster has another authority than the one that was compared.
    AnotherAuthority = "another-authority",
    /// The member has seen what is not in the store: it was restored from an older copy.
    Rewound = "rewound",
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A label of another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reason that this version does not know")]
pub struct UnknownRefusal;
