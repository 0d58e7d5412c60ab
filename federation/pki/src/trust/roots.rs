//! The authorities of one trust domain, in the form that path building wants.
//!
//! Owns what RFC 5280 leaves out of a trust anchor and a trust domain must not: when an authority ends, and how far it may
//! delegate. Never builds a path.

use federation_model::{bundle::Fingerprint, revocation::Serial};
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::{
    validity::Validity,
    x509::{Malformed, Parsed},
};

/// Authorities, each once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    /// What else is known of each anchor, in the same order.
    terms: Vec<Terms>,
}

/// What an authority's own certificate says of its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) validity: Validity,
    /// How many authorities may stand between it and a leaf; nothing when there is no limit.
    pub(crate) path_length: Option<u32>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) serial: Serial,
}

impl Roots {
    /// Adds an authority, unless the very same certificate is there.
    pub(crate) fn push(&mut self, der: &CertificateDer<'_>) -> Result<(), Malformed> {
        let fingerprint = Fingerprint::of(der);
        if self.terms.iter().any(|terms| terms.fingerprint == fingerprint) {
            return Ok(());
        }
        let parsed = Parsed::from_der(der)?;
        let (validity, path_length, serial) = (parsed.validity(), parsed.path_length()?, parsed.serial());
        let anchor = webpki::anchor_from_trusted_cert(der).map_err(|e| Malformed(e.to_string()))?;
        self.anchors.push(anchor.to_owned());
        self.terms.push(Terms { validity, path_length, fingerprint, serial });
        Ok(())
    }

    /// Those whose terms are `kept`.
    pub(crate) fn only(&self, kept: impl Fn(&Terms) -> bool) -> Self {
        let both = self.anchors.iter().zip(&self.terms).filter(|(_, terms)| kept(terms));
        let (anchors, terms) = both.map(|(anchor, terms)| (anchor.clone(), terms.clone())).unzip();
        Self { anchors, terms }
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// The terms of an anchor of [`Roots::anchors`]: of that very one, for a renewed authority has the name and the key of
    /// the one before.
    pub(crate) fn terms_of(&self, anchor: &TrustAnchor<'_>) -> Option<&Terms> {
        let position = self.anchors.iter().position(|ours| std::ptr::eq(ours, anchor))?;
        self.terms.get(position)
    }

    /// The public keys, each as its SubjectPublicKeyInfo.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.anchors.iter().map(|anchor| anchor.subject_public_key_info.as_ref())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.anchors.clear();
        self.terms.clear();
    }
}
