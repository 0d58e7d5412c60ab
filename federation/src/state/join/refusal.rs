//! Why a cluster may not join, in words and for programs.
//!
//! Owns the wording. Never decides.

use std::{fmt, ops::RangeInclusive, time::Duration};

use federation_model::{bundle::Fingerprint, names::ClusterName, revocation::Revocation, spiffe::TrustDomain};
use proto::convert::member::{MAX_MEMBERS, PROTOCOL, Refusal};

/// Why a cluster may not join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinRefusal {
    /// The id is unknown, or the secret is another one.
    TokenUnknown,
    /// The token's time is over.
    TokenExpired {
        /// Its cluster.
        cluster: ClusterName,
        /// Since when.
        ago: Duration,
    },
    /// The token was spent.
    TokenUsed {
        /// Its cluster.
        cluster: ClusterName,
        /// Since when.
        ago: Duration,
    },
    /// The token was revoked.
    TokenRevoked {
        /// Its cluster.
        cluster: ClusterName,
    },
    /// The token is for another cluster.
    TokenForAnotherCluster {
        /// The token's.
        token: ClusterName,
        /// The one that asks.
        asked: ClusterName,
    },
    /// Another cluster has the name.
    ClusterTaken {
        /// The name.
        cluster: ClusterName,
        /// The trust domain of the one that has it.
        trust_domain: TrustDomain,
        /// Its authority.
        authority: Option<Fingerprint>,
    },
    /// Another cluster, or the service, has the trust domain.
    TrustDomainTaken {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// The cluster; none for the service itself.
        by: Option<ClusterName>,
    },
    /// The trust domain is known as one outside the set.
    TrustDomainForeign {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// An authority of the cluster is one of a trust domain outside the set too.
    AuthorityForeign {
        /// That trust domain.
        trust_domain: TrustDomain,
    },
    /// An authority of the cluster is one of another member too.
    AuthorityTaken {
        /// That member.
        by: ClusterName,
        /// In words.
        reason: String,
    },
    /// The bundle cannot be used.
    BundleInvalid {
        /// Why.
        reason: String,
    },
    /// The authority is the cluster's own making.
    AuthorityNotExternal {
        /// Why.
        reason: String,
    },
    /// The key of the authority is not proven.
    ProofInvalid {
        /// Why.
        reason: String,
    },
    /// The clocks differ too much.
    ClockSkew {
        /// By how much.
        skew: Duration,
        /// Whether the cluster's clock is the later one.
        ahead: bool,
    },
    /// No common version.
    Version {
        /// What the cluster speaks.
        theirs: RangeInclusive<u32>,
    },
    /// The name, the trust domain or the gateway id was revoked.
    Revoked {
        /// By which revocation.
        revocation: Box<Revocation>,
    },
    /// There is no room.
    SetFull,
}

impl JoinRefusal {
    /// The reason for programs.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::TokenUnknown => Refusal::TokenUnknown,
            Self::TokenExpired { .. } => Refusal::TokenExpired,
            Self::TokenUsed { .. } => Refusal::TokenUsed,
            Self::TokenRevoked { .. } => Refusal::TokenRevoked,
            Self::TokenForAnotherCluster { .. } => Refusal::TokenForAnotherCluster,
            Self::ClusterTaken { .. } => Refusal::ClusterTaken,
            Self::TrustDomainTaken { .. } | Self::TrustDomainForeign { .. } => Refusal::TrustDomainTaken,
            Self::AuthorityForeign { .. } => Refusal::BundleInvalid,
            Self::AuthorityTaken { .. } | Self::BundleInvalid { .. } => Refusal::BundleInvalid,
            Self::AuthorityNotExternal { .. } => Refusal::AuthorityNotExternal,
            Self::ProofInvalid { .. } => Refusal::ProofInvalid,
            Self::ClockSkew { .. } => Refusal::ClockSkew,
            Self::Version { .. } => Refusal::Version,
            Self::Revoked { .. } => Refusal::Revoked,
            Self::SetFull => Refusal::SetFull,
        }
    }

    /// What is wrong.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::TokenUnknown => "the federation service does not know this token".to_owned(),
            Self::TokenExpired { cluster, ago } => format!("the token for cluster {cluster} expired {ago:?} ago"),
            Self::TokenUsed { cluster, ago } => {
                format!("the token for cluster {cluster} was used {ago:?} ago, and a token is good for one join")
            }
            Self::TokenRevoked { cluster } => format!("the token for cluster {cluster} was revoked"),
            Self::TokenForAnotherCluster { token, asked } => {
                format!("the token is for cluster {token}, and this is cluster {asked}")
            }
            Self::ClusterTaken { cluster, trust_domain, authority } => {
                let authority = authority.map_or_else(|| "none".to_owned(), |fingerprint| fingerprint.to_string());
                format!(
                    "the name {cluster} belongs to the member of trust domain {trust_domain} with authority {authority}"
                )
            }
            Self::TrustDomainTaken { trust_domain, by: Some(by) } => {
                format!("the trust domain {trust_domain} belongs to cluster {by}")
            }
            Self::TrustDomainTaken { trust_domain, by: None } => {
                format!("the trust domain {trust_domain} is that of the federation service itself")
            }
            Self::TrustDomainForeign { trust_domain } => {
                format!("the trust domain {trust_domain} is known here as a foreign one, read from a bundle endpoint")
            }
            Self::AuthorityForeign { trust_domain } => {
                format!("the key of the cluster's authority is also one of the foreign trust domain {trust_domain}")
            }
            Self::AuthorityTaken { reason, .. } | Self::BundleInvalid { reason } => {
                format!("the trust bundle of the cluster cannot be used ({reason})")
            }
            Self::AuthorityNotExternal { reason } => {
                format!(
                    "this set accepts authorities of an external PKI only (`trust.require_external_ca`), and {reason}"
                )
            }
            Self::ProofInvalid { reason } => {
                format!("the cluster did not prove that it holds the key of its authority ({reason})")
            }
            Self::ClockSkew { skew, ahead } => {
                let side = if *ahead { "ahead of" } else { "behind" };
                format!("the clock of the cluster is {skew:?} {side} that of the federation service")
            }
            Self::Version { theirs } => format!(
                "the gateway speaks versions {} to {} of the join protocol, the federation service speaks {PROTOCOL}",
                theirs.start(),
                theirs.end()
            ),
            Self::Revoked { revocation } => revocation.to_string(),
            Self::SetFull => format!("the set has {MAX_MEMBERS} members, which is the most"),
        }
    }

    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        let again = |cluster: &ClusterName| format!("make a new one with `fedctl token create --cluster {cluster}`");
        match self {
            Self::TokenUnknown => {
                "copy all of it, or make a new one with `fedctl token create --cluster NAME`".to_owned()
            }
            Self::TokenExpired { cluster, .. } | Self::TokenRevoked { cluster } => again(cluster),
            Self::TokenUsed { cluster, .. } => {
                format!(
                    "{}; if it was not you who used it, run `fedctl members remove {cluster}` first",
                    again(cluster)
                )
            }
            Self::TokenForAnotherCluster { token, asked } => {
                format!("use it in cluster {token}, or {}", again(asked))
            }
            Self::ClusterTaken { cluster, .. } => format!(
                "choose another `cluster.name`, or, when this is the same cluster with a new authority, run `fedctl members remove {cluster}` first"
            ),
            Self::TrustDomainTaken { by: Some(by), .. } => {
                format!(
                    "choose another `cluster.trust_domain`, or run `fedctl members remove {by}` if that cluster is gone"
                )
            }
            Self::TrustDomainTaken { by: None, .. } => "choose another `cluster.trust_domain`".to_owned(),
            Self::TrustDomainForeign { trust_domain } => format!(
                "choose another `cluster.trust_domain`, or, when the cluster is to be a member from now on, run `fedctl trust foreign remove {trust_domain}` first"
            ),
            Self::AuthorityForeign { trust_domain } => format!(
                "give the cluster an authority of its own, or run `fedctl trust foreign remove {trust_domain}` first"
            ),
            Self::AuthorityTaken { by, .. } => format!(
                "give the cluster an authority of its own; where the key is its own alone, cluster {by} publishes what it does not hold: `fedctl audit list --subject {by}` shows since when, and `fedctl members remove {by}` ends it"
            ),
            Self::BundleInvalid { .. } => {
                "correct the authority of the cluster, see `identity` in gateway.toml".to_owned()
            }
            Self::AuthorityNotExternal { .. } => {
                "set `identity.source` in gateway.toml to \"files\" or \"spire\" with an authority of your PKI; the token is not spent".to_owned()
            }
            Self::ProofInvalid { .. } => {
                "join from the gateway that holds the key of the cluster's authority, with this very token".to_owned()
            }
            Self::ClockSkew { .. } => "set both clocks by NTP and join again; the token is not spent".to_owned(),
            Self::Version { .. } => "bring both to the same release".to_owned(),
            Self::Revoked { revocation } => {
                format!("if it is to be a member again, run `fedctl revoke reinstate {}` first", revocation.id)
            }
            Self::SetFull => "remove a cluster with `fedctl members remove NAME`".to_owned(),
        }
    }
}

impl fmt::Display for JoinRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.detail(), self.hint())
    }
}

impl std::error::Error for JoinRefusal {}
