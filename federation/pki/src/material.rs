//! What an identity source offers at one moment: an authority to issue from, or a ready leaf.
//!
//! Owns the judgement of such material, so strict that what passes is accepted by every peer that has its authorities. Never
//! reads a file or a socket; issues nothing but one probe, which is thrown away.
//!
//! ```text
//! texts of a Secret ──┐                          ┌─ cA true:  Issuer ─ probe leaf ─┐
//!                     ├─ chain, key, roots ──────┤                                 ├─ path to the roots, and as peers see it
//! Workload API ───────┘  order, time, purpose    └─ cA false: Leaf ────────────────┘
//! ```

mod error;

use std::{fmt, sync::Arc};

use federation_model::{
    bundle::{Fingerprint, MAX_AUTHORITIES, TrustBundle},
    spiffe::SpiffeId,
    time::Timestamp,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

pub use self::error::MaterialError;
use crate::{
    ca::{Authority, CaError, MAX_CHAIN, SvidRequest},
    svid::{self, Svid, SvidError},
    tls::provider,
    trust::{self, BundleFault, Roots},
    validity::{CLOCK_SKEW, Term, Validity},
    verify::{self, Usage, VerifyError},
    x509::Parsed,
};

/// The most bytes of one part: sixteen RSA-4096 certificates with comments need less than half.
pub const MAX_TEXT: usize = 128 * 1024;

/// What a source offers.
#[derive(Debug, Clone)]
pub enum Material {
    /// An authority that issues the gateway's leaves: an intermediate, or a root.
    Issuer(Arc<Authority>),
    /// A ready leaf, and the authorities that peers need to verify it.
    Leaf {
        /// The leaf with its chain and key.
        svid: Svid,
        /// The authorities of its trust domain.
        authorities: Vec<CertificateDer<'static>>,
    },
}

/// The texts of a Secret as cert-manager writes it.
#[derive(Clone, Copy)]
pub struct SecretTexts<'a> {
    /// `tls.crt`: a leaf or an authority, then the certificates above it.
    pub certificate: &'a str,
    /// `tls.key`: the key of the first certificate.
    pub key: &'a str,
    /// `ca.crt`: the roots; cert-manager leaves it out for some issuers.
    pub authorities: Option<&'a str>,
}

impl fmt::Debug for SecretTexts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretTexts(hidden)")
    }
}

impl Material {
    /// Judges a Secret: an authority where its first certificate is one, else a leaf, which must be that of `gateway_id`.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_secret(secret: SecretTexts<'_>, gateway_id: &SpiffeId, now: Timestamp) -> Result<Self, MaterialError> {
        let places = Places { certificate: "tls.crt", key: "tls.key", authorities: "ca.crt" };
        let roots = match secret.authorities.filter(|text| !text.trim().is_empty()) {
            Some(text) => certificates(places.authorities, text)?,
            None => Vec::new(),
        };
        let chain = certificates(places.certificate, secret.certificate)?;
        let key = private_key(places.key, secret.key)?;
        let parts = Parts { places, chain, key, roots };
        if parts.checked(now)? { parts.issuer(gateway_id, now) } else { parts.leaf(gateway_id, now, Publish::Issuer) }
    }

    /// Judges an SVID of the Workload API: chain, leaf first, key in DER, and the bundle of its trust domain.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_workload(
        chain: Vec<CertificateDer<'static>>,
        key: Zeroizing<Vec<u8>>,
        bundle: Vec<CertificateDer<'static>>,
        gateway_id: &SpiffeId,
        now: Timestamp,
    ) -> Result<Self, MaterialError> {
        let places = Places { certificate: "the SVID", key: "its private key", authorities: "the bundle of the agent" };
        let parts = Parts { places, chain, key, roots: bundle };
        parts.checked(now)?;
        parts.leaf(gateway_id, now, Publish::OwnRoots)
    }

    /// What the trust bundle must hold for peers to believe leaves of this material. Never a root that other clusters may
    /// share: with it, each of them could vouch for this one.
    #[must_use]
    pub fn authorities(&self) -> Vec<CertificateDer<'static>> {
        match self {
            Self::Issuer(authority) => vec![authority.certificate().clone()],
            Self::Leaf { authorities, .. } => authorities.clone(),
        }
    }

    /// When it ends: the authority, or the leaf.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Self::Issuer(authority) => authority.expires_at(),
            Self::Leaf { svid, .. } => svid.not_after(),
        }
    }

    /// The word for its kind.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Issuer(_) => "issuer",
            Self::Leaf { .. } => "leaf",
        }
    }
}

impl PartialEq for Material {
    /// The same certificates; the keys follow from them.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Issuer(one), Self::Issuer(other)) => one.certificate_pem() == other.certificate_pem(),
            (Self::Leaf { svid, authorities }, Self::Leaf { svid: other, authorities: others }) => {
                svid.chain() == other.chain() && authorities == others
            }
            (Self::Issuer(_), Self::Leaf { .. }) | (Self::Leaf { .. }, Self::Issuer(_)) => false,
        }
    }
}

/// How a source calls its parts.
#[derive(Debug, Clone, Copy)]
struct Places {
    certificate: &'static str,
    key: &'static str,
    authorities: &'static str,
}

/// Which authorities of a leaf are published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Publish {
    /// The one that issued it, when it is known.
    Issuer,
    /// The roots that carry the name of the trust domain: they are its own alone, and outlive the intermediates, which SPIRE
    /// replaces daily. The issuer too, where the leaf does not lead to one of them.
    OwnRoots,
}

/// Material that is not judged yet.
struct Parts {
    places: Places,
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
    roots: Vec<CertificateDer<'static>>,
}

impl Parts {
    /// Checks everything that can be said of the chain without building a path, and tells whether its first certificate is
    /// an authority.
    fn checked(&self, now: Timestamp) -> Result<bool, MaterialError> {
        let (place, authorities) = (self.places.certificate, self.places.authorities);
        if self.roots.len() > MAX_AUTHORITIES {
            let (count, most) = (self.roots.len(), MAX_AUTHORITIES);
            return Err(MaterialError::TooMany { place: authorities, count, most });
        }
        parsed(authorities, &self.roots)?;
        let chain = parsed(place, &self.chain)?;
        let Some(first) = chain.first() else {
            return Err(MaterialError::NotPem { place, reason: "it holds no certificate".to_owned() });
        };
        let is_ca = first.is_ca().map_err(|reason| MaterialError::Malformed { place, number: 1, reason })?;
        let most = if is_ca { MAX_CHAIN - 1 } else { MAX_CHAIN };
        if chain.len() > most {
            return Err(MaterialError::TooMany { place, count: chain.len(), most });
        }
        self.check_key(&chain)?;
        check_order(place, &chain)?;
        for (certificate, number) in chain.iter().zip(1..) {
            check_time(place, number, certificate, now)?;
        }
        Ok(is_ca)
    }

    fn check_key(&self, chain: &[Parsed<'_>]) -> Result<(), MaterialError> {
        let place = self.places.key;
        let unusable = |reason: String| MaterialError::UnusableKey { place, reason };
        let key = PrivateKeyDer::try_from(self.key.as_slice()).map_err(|e| unusable(e.to_owned()))?.clone_key();
        let key = provider().key_provider.load_private_key(key).map_err(|e| unusable(e.to_string()))?;
        let public = key.public_key().ok_or_else(|| unusable("its public key is not known".to_owned()))?;
        let of_key = chain.iter().zip(1..).find(|(certificate, _)| certificate.public_key().raw == public.as_ref());
        match of_key {
            Some((_, 1)) => Ok(()),
            Some((certificate, number)) => Err(MaterialError::WrongOrder {
                place: self.places.certificate,
                number,
                subject: certificate.subject_text(),
            }),
            None => Err(MaterialError::KeyMismatch { key: place, certificate: self.places.certificate }),
        }
    }

    fn issuer(self, gateway_id: &SpiffeId, now: Timestamp) -> Result<Material, MaterialError> {
        let place = self.places.certificate;
        let refused = |reason| authority_error(place, reason);
        let key = svid::private_key_pem(&self.key);
        let authority = Authority::from_pem(&svid::pem(&self.chain), key.expose(), gateway_id.trust_domain());
        let authority = authority.map_err(refused)?;
        let first = Parsed::from_der(&self.chain[0]).map_err(|e| refused(e.into()))?;
        if let Some(usage) = first.extended_key_usage().map_err(|e| refused(e.into()))?
            && !(usage.client_auth && usage.server_auth)
        {
            return Err(MaterialError::Purpose(place));
        }
        // A leaf as it will be issued tells everything about the chain that peers will say of the real ones.
        let validity = Validity::starting(now, CLOCK_SKEW);
        let probe = SvidRequest { id: gateway_id.clone(), names: Vec::new(), validity };
        let probe = authority.issue(&probe).map_err(refused)?;
        self.check_paths(probe.chain(), &self.chain[..1], gateway_id, now)?;
        Ok(Material::Issuer(Arc::new(authority)))
    }

    fn leaf(self, gateway_id: &SpiffeId, now: Timestamp, publish: Publish) -> Result<Material, MaterialError> {
        let place = self.places.certificate;
        let svid = Svid::new(self.chain.clone(), self.key.clone()).map_err(|error| match error {
            SvidError::Leaf(rule) => MaterialError::Leaf { place, rule: rule.into() },
            SvidError::Malformed(reason) => MaterialError::Malformed { place, number: 1, reason },
            SvidError::ChainTooLong(count) => MaterialError::TooMany { place, count, most: MAX_CHAIN },
            SvidError::Key(reason) | SvidError::Pem { reason, .. } => {
                MaterialError::UnusableKey { place: self.places.key, reason }
            }
        })?;
        if svid.id() != gateway_id {
            return Err(MaterialError::WrongId { place, found: svid.id().clone(), expected: gateway_id.clone() });
        }
        let authorities = self.published(gateway_id, publish, now)?;
        self.check_paths(&self.chain, &authorities, gateway_id, now)?;
        Ok(Material::Leaf { svid, authorities })
    }

    fn published(
        &self,
        id: &SpiffeId,
        publish: Publish,
        now: Timestamp,
    ) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
        let mut own = match publish {
            Publish::Issuer => Vec::new(),
            Publish::OwnRoots => self.own_roots(id),
        };
        if !own.is_empty() && verify::verify_under(&self.chain, &anchors(&own)?, now, Usage::Server).is_ok() {
            return Ok(own);
        }
        match (self.chain.get(1), self.roots.is_empty()) {
            (Some(issuer), _) => {
                own.push(issuer.clone());
                Ok(own)
            }
            (None, false) => Ok(self.roots.clone()),
            (None, true) => Err(MaterialError::NothingAbove {
                certificate: self.places.certificate,
                authorities: self.places.authorities,
            }),
        }
    }

    /// The roots that carry the name of the trust domain of `id`.
    fn own_roots(&self, id: &SpiffeId) -> Vec<CertificateDer<'static>> {
        let named = |der: &&CertificateDer<'_>| {
            let domain = Parsed::from_der(der).ok().and_then(|root| root.authority_domain().ok().flatten());
            domain.as_ref() == Some(id.trust_domain())
        };
        self.roots.iter().filter(named).cloned().collect()
    }

    /// Builds the path of a leaf twice: to the roots that came along, and to what peers will believe.
    fn check_paths(
        &self,
        chain: &[CertificateDer<'static>],
        published: &[CertificateDer<'static>],
        id: &SpiffeId,
        now: Timestamp,
    ) -> Result<(), MaterialError> {
        let place = self.places.certificate;
        let bundle =
            TrustBundle { trust_domain: id.trust_domain().clone(), sequence: 0, authorities: published.to_vec() };
        let from_roots = published.iter().all(|der| self.roots.contains(der));
        let named = if from_roots && !self.chain.contains(&published[0]) { self.places.authorities } else { place };
        let peers = trust::roots(&bundle).map_err(|fault| match fault {
            BundleFault::Authority { reason, .. } => authority_error(named, reason),
            fault @ (BundleFault::Duplicate(_) | BundleFault::TooMany(..) | BundleFault::Shared(..)) => {
                MaterialError::NotPem { place: named, reason: fault.to_string() }
            }
        })?;
        let tops = if self.roots.is_empty() { &self.chain[self.chain.len() - 1..] } else { &self.roots[..] };
        let roots = anchors(tops)?;
        for usage in [Usage::Server, Usage::Client] {
            for roots in [&roots, &peers] {
                verify::verify_under(chain, roots, now, usage).map_err(|rule| self.path_error(rule))?;
            }
        }
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other rules are told in the verifier's own words")]
    fn path_error(&self, rule: VerifyError) -> MaterialError {
        let Places { certificate, authorities, .. } = self.places;
        match rule {
            VerifyError::NameConstraints(_) => {
                self.constraint().unwrap_or_else(|| MaterialError::Path { place: certificate, rule: rule.into() })
            }
            VerifyError::PathTooLong(_) => MaterialError::PathTooLong(certificate),
            VerifyError::AuthorityExpired { authority, not_after, .. } => {
                let (place, number, subject) = self.locate(*authority);
                MaterialError::Expired { place, number, subject, not_after }
            }
            VerifyError::AuthorityNotYetValid { authority, not_before, .. } => {
                let (place, number, subject) = self.locate(*authority);
                MaterialError::NotYetValid { place, number, subject, not_before }
            }
            VerifyError::NoAuthority { .. } | VerifyError::WrongAuthority { .. } => {
                let last = self.chain.last().and_then(|der| Parsed::from_der(der).ok());
                let issuer = last.map_or_else(String::new, |last| last.issuer_text());
                MaterialError::NotBelow { certificate, authorities, issuer, rule: rule.into() }
            }
            rule => MaterialError::Path { place: certificate, rule: rule.into() },
        }
    }

    /// Every certificate with its part and its number in it, from 1.
    fn certificates(&self) -> impl Iterator<Item = (&'static str, usize, &CertificateDer<'static>)> {
        let parts = [(self.places.authorities, &self.roots), (self.places.certificate, &self.chain)];
        parts.into_iter().flat_map(|(place, list)| list.iter().zip(1..).map(move |(der, number)| (place, number, der)))
    }

    /// Where a certificate is, and its subject.
    fn locate(&self, wanted: Fingerprint) -> (&'static str, usize, String) {
        let found = self.certificates().find(|(_, _, der)| Fingerprint::of(der) == wanted);
        let Some((place, number, der)) = found else { return (self.places.authorities, 1, wanted.to_string()) };
        (place, number, Parsed::from_der(der).map_or_else(|_| wanted.to_string(), |parsed| parsed.subject_text()))
    }

    /// The certificate that constrains URI names.
    fn constraint(&self) -> Option<MaterialError> {
        self.certificates().find_map(|(place, _, der)| {
            let certificate = Parsed::from_der(der).ok()?;
            let subject = || certificate.subject_text();
            certificate.constrains_uris().ok()?.then(|| MaterialError::UriConstraints { place, subject: subject() })
        })
    }
}

/// Certificates as the ends of paths, whatever trust domain they are of. All of them were parsed before.
fn anchors(tops: &[CertificateDer<'static>]) -> Result<Roots, MaterialError> {
    let mut roots = Roots::default();
    for (der, number) in tops.iter().zip(1..) {
        roots.push(der).map_err(|reason| MaterialError::Malformed { place: "the authorities", number, reason })?;
    }
    Ok(roots)
}

fn certificates(place: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    if text.len() > MAX_TEXT {
        return Err(MaterialError::TooLarge { place, bytes: text.len() });
    }
    svid::certificates(text).map_err(|reason| MaterialError::NotPem { place, reason })
}

fn private_key(place: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, MaterialError> {
    if text.len() > MAX_TEXT {
        return Err(MaterialError::TooLarge { place, bytes: text.len() });
    }
    // PKCS #8 (RFC 5958) says it in the label, the older forms (RFC 1421) in a header.
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(MaterialError::EncryptedKey(place));
    }
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|e| MaterialError::NotPem { place, reason: e.to_string() })?;
    Ok(Zeroizing::new(key.secret_der().to_vec()))
}

fn parsed<'a>(place: &'static str, list: &'a [CertificateDer<'_>]) -> Result<Vec<Parsed<'a>>, MaterialError> {
    let parse = |(der, number): (&'a CertificateDer<'_>, usize)| {
        Parsed::from_der(der).map_err(|reason| MaterialError::Malformed { place, number, reason })
    };
    list.iter().zip(1..).map(parse).collect()
}

/// Each certificate is followed by the one of its issuer's name.
fn check_order(place: &'static str, chain: &[Parsed<'_>]) -> Result<(), MaterialError> {
    for (pair, number) in chain.windows(2).zip(1..) {
        if pair[0].issuer() != pair[1].subject() {
            return Err(MaterialError::BrokenChain {
                place,
                number,
                subject: pair[0].subject_text(),
                issuer: pair[0].issuer_text(),
                found: pair[1].subject_text(),
            });
        }
    }
    Ok(())
}

fn check_time(place: &'static str, number: usize, of: &Parsed<'_>, now: Timestamp) -> Result<(), MaterialError> {
    let Validity { not_before, not_after } = of.validity();
    let subject = || of.subject_text();
    match of.validity().at(now) {
        Term::Running => Ok(()),
        Term::Over => Err(MaterialError::Expired { place, number, subject: subject(), not_after }),
        Term::Ahead => Err(MaterialError::NotYetValid { place, number, subject: subject(), not_before }),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other reasons are told in the authority's own words")]
fn authority_error(place: &'static str, reason: CaError) -> MaterialError {
    match reason {
        CaError::NoKeyCertSign => MaterialError::MayNotSign(place),
        CaError::WrongTrustDomain { found, expected } => MaterialError::WrongTrustDomain { place, found, expected },
        CaError::Name(reason) => MaterialError::AuthorityName { place, reason },
        reason => MaterialError::Authority { place, reason: reason.into() },
    }
}

#[cfg(test)]
mod tests;
