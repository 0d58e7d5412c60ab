//! Whether an authority comes from a PKI outside of Landbridge (NIST SP 800-204A, SM-DR12).
//!
//! Owns that rule. Never decides whether it is required.

use rustls_pki_types::CertificateDer;

use crate::{
    certificate::CertificateFacts,
    svid::certificates,
    x509::{Malformed, Parsed},
};

/// The most certificates between an authority and a root.
const MAX_ABOVE: usize = 4;

/// Why an authority does not count as one of an external PKI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotExternal {
    /// It issued itself, and is no known root.
    #[error("the authority {0} is self-signed")]
    SelfSigned(String),
    /// It does not lead to a root.
    #[error("the authority {0} does not lead to one of the roots that are accepted")]
    NoRoot(String),
    /// It does not parse.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// The roots of the PKI that members' authorities must come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExternalRoots(Vec<CertificateDer<'static>>);

impl ExternalRoots {
    /// The certificates in a PEM text.
    ///
    /// # Errors
    /// When it holds none, or one that cannot be read.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let roots = certificates(pem)?;
        roots.iter().try_for_each(|root| Parsed::from_der(root).map(drop)).map_err(|error| error.to_string())?;
        Ok(Self(roots))
    }

    /// Checks that `authority` leads to one of the roots by way of the certificates `above`, or is one itself. Without any
    /// roots it is enough that somebody else issued it.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, authority: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> Result<(), NotExternal> {
        if self.0.iter().any(|root| root == authority) {
            return Ok(());
        }
        let facts = CertificateFacts::of(authority)?;
        if facts.self_issued {
            return Err(NotExternal::SelfSigned(facts.fingerprint.to_string()));
        }
        if self.0.is_empty() {
            return Ok(());
        }
        let mut at = Parsed::from_der(authority)?;
        for _ in 0..MAX_ABOVE {
            if self.0.iter().any(|root| Parsed::from_der(root).is_ok_and(|root| root.issued(&at))) {
                return Ok(());
            }
            let mut parsed = above.iter().filter_map(|der| Parsed::from_der(der).ok());
            let Some(next) = parsed.find(|candidate| candidate.issued(&at)) else { break };
            at = next;
        }
        Err(NotExternal::NoRoot(facts.fingerprint.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use federation_model::{spiffe::TrustDomain, time::Timestamp};
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

    use super::*;
    use crate::{Validity, ca::Authority};

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    fn root(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        CertifiedIssuer::self_signed(params(name), KeyPair::generate().unwrap()).unwrap()
    }

    fn below(above: &CertifiedIssuer<'static, KeyPair>, name: &str) -> CertifiedIssuer<'static, KeyPair> {
        CertifiedIssuer::signed_by(params(name), KeyPair::generate().unwrap(), above).unwrap()
    }

    #[test]
    fn an_authority_must_lead_to_a_root_or_at_least_not_be_its_own() {
        let (company, stranger) = (root("company"), root("company"));
        let middle = below(&company, "middle");
        let issuing = below(&middle, "east");
        let roots = ExternalRoots::from_pem(&company.pem()).unwrap();
        let middle_der = [middle.der().clone()];
        assert_eq!(roots.check(issuing.der(), &middle_der), Ok(()));
        assert_eq!(roots.check(company.der(), &[]), Ok(()));
        assert!(matches!(roots.check(issuing.der(), &[]), Err(NotExternal::NoRoot(_))));
        let forged = below(&below(&stranger, "middle"), "east");
        assert!(matches!(roots.check(forged.der(), &middle_der), Err(NotExternal::NoRoot(_))));

        let any = ExternalRoots::default();
        assert_eq!(any.check(issuing.der(), &[]), Ok(()));
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        let own = Authority::generate(&TrustDomain::new("east.example").unwrap(), "east", validity).unwrap();
        assert!(matches!(any.check(own.certificate(), &[]), Err(NotExternal::SelfSigned(_))));
        assert!(ExternalRoots::from_pem("nothing").is_err());
    }
}
