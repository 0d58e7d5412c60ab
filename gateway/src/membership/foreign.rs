//! Trust domains outside the set, as this gateway believes them.
//!
//! Owns the rule that they come after the set: none of them stands in for this cluster, another member or the federation
//! service, whatever the service says. Being believed makes nobody a peer: gateway ids of members alone do.

use federation_model::{bundle::TrustBundle, spiffe::TrustDomain};

use super::Membership;

impl Membership {
    /// The foreign bundles to believe in a cluster of trust domain `here`.
    pub(super) fn foreign_believed(&self, here: &TrustDomain) -> Vec<TrustBundle> {
        let of_the_set = |trust_domain: &TrustDomain| {
            trust_domain == here
                || *trust_domain == self.federation.trust_domain
                || self.members.values().any(|member| member.bundle.trust_domain == *trust_domain)
        };
        let (usurped, believed): (Vec<_>, Vec<_>) =
            self.foreign.values().partition(|bundle| of_the_set(&bundle.trust_domain));
        for bundle in usurped {
            tracing::error!(trust_domain = %bundle.trust_domain,
                "the federation service gives a trust domain of the set as a foreign one; it is not believed");
        }
        believed.into_iter().cloned().collect()
    }
}
