//! Who is calling, and how that is known.
//!
//! Owns the rule that a vouched principal is valid only inside the trust domain of its voucher. Never authenticates
//! anybody: the listeners and the tunnels do.

use std::{fmt, sync::Arc};

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::spiffe::{SpiffeId, TrustDomain};

/// How the principal of a connection is known, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assurance {
    /// The caller is not known.
    None,
    /// The caller's cluster vouches for it, from the pod that owns the source address.
    Attested,
    /// The workload proved possession of its own key.
    Mtls,
}

impl Assurance {
    /// The word used in logs, metrics and PROXY protocol TLVs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Attested => "attested",
            Self::Mtls => "mtls",
        }
    }
}

impl fmt::Display for Assurance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The caller of a connection, decided once at its first gateway and carried to the last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Caller {
    /// Nothing is known of the caller.
    #[default]
    Unknown,
    /// The workload proved this id with its own key to the gateway of its cluster.
    Workload {
        /// The proven id.
        id: SpiffeId,
        /// The certificate it was proven with, where it is small enough to travel: for those who want to see it themselves.
        certificate: Option<Arc<CertificateDer<'static>>>,
    },
    /// The gateway of the caller's cluster vouches for this id.
    Vouched {
        /// The id vouched for.
        id: SpiffeId,
    },
}

/// A caller that claims an id outside the trust domain of the cluster that vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the principal {id} lies outside the trust domain {voucher} of the cluster that vouches for it")]
pub struct ForeignPrincipal {
    /// The claimed id.
    pub id: SpiffeId,
    /// The trust domain whose gateway carried the claim.
    pub voucher: TrustDomain,
}

impl Caller {
    /// The SPIFFE ID, when one is known.
    #[must_use]
    pub fn principal(&self) -> Option<&SpiffeId> {
        match self {
            Self::Unknown => None,
            Self::Workload { id, .. } | Self::Vouched { id } => Some(id),
        }
    }

    /// The certificate the caller proved its id with.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Self::Workload { certificate, .. } => certificate.as_deref(),
            Self::Unknown | Self::Vouched { .. } => None,
        }
    }

    /// How the principal is known.
    #[must_use]
    pub fn assurance(&self) -> Assurance {
        match self {
            Self::Unknown => Assurance::None,
            Self::Workload { .. } => Assurance::Mtls,
            Self::Vouched { .. } => Assurance::Attested,
        }
    }

    /// Accepts the caller from a gateway of `voucher`: its id, however proven there, must lie in that trust domain.
    ///
    /// # Errors
    /// When it does not; the connection is then refused.
    pub fn confined_to(self, voucher: &TrustDomain) -> Result<Self, ForeignPrincipal> {
        match self.principal() {
            Some(id) if !id.is_member_of(voucher) => Err(ForeignPrincipal { id: id.clone(), voucher: voucher.clone() }),
            Some(_) | None => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_outside_its_vouchers_trust_domain_is_refused() {
        let east = TrustDomain::new("east.example").unwrap();
        let id = |text: &str| SpiffeId::new(text).unwrap();
        let own = Caller::Vouched { id: id("spiffe://east.example/ns/a/sa/b") };
        let stolen = Caller::Vouched { id: id("spiffe://west.example/ns/a/sa/b") };
        let proven_elsewhere = Caller::Workload { id: id("spiffe://west.example/ns/a/sa/b"), certificate: None };
        assert!(own.confined_to(&east).is_ok());
        assert!(stolen.confined_to(&east).is_err());
        assert!(proven_elsewhere.confined_to(&east).is_err());
        assert!(Caller::Unknown.confined_to(&east).is_ok());
    }
}
