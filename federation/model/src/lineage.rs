//! The versions of a cluster's trust bundle, each signed under the one before.
//!
//! Owns what is signed and its digest. Never signs or verifies: that is `federation-pki`.
//!
//! ```text
//! version 1 <──previous── version 2 <──previous── version 3
//! signed by one of 1      signed by one of 1      signed by one of 2
//! ```

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;

use crate::{bundle::TrustBundle, names::ClusterName, spiffe::SpiffeId, time::Timestamp};

/// The most versions that are kept: a member that missed more of them must be told by a person whom to believe. Two make a
/// rotation, so that these are eight.
pub const MAX_VERSIONS: usize = 16;
/// The most bytes of all certificates in one lineage.
pub const MAX_LINEAGE: usize = 64 * 1024;
/// First bytes of what is signed. No certificate and no TLS transcript starts so.
const DOMAIN: &[u8] = b"landbridge trust bundle v1\0";

/// SHA-256 over what is signed of one version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleDigest([u8; 32]);

impl BundleDigest {
    /// A digest from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BundleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BundleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One version of a trust bundle, as its cluster published it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBundle {
    /// The cluster that speaks; a bundle cannot be passed off as another cluster's.
    pub cluster: ClusterName,
    /// The id of its gateways; nobody can make another workload of the trust domain its gateway.
    pub gateway_id: SpiffeId,
    /// The authorities and their sequence number.
    pub bundle: TrustBundle,
    /// The version before; none for the first.
    pub previous: Option<BundleDigest>,
    /// When it was signed, by the clock of the cluster.
    pub signed_at: Timestamp,
    /// Whose signature it is: an authority of the version before (of this one, when it is the first), or a leaf with
    /// `gateway_id` under such an authority, followed by the certificates between them.
    pub signer: Vec<CertificateDer<'static>>,
    /// The signature over [`SignedBundle::transcript`].
    pub signature: Vec<u8>,
}

impl SignedBundle {
    /// The bytes that are signed: fields with their lengths, in this order.
    #[must_use]
    pub fn transcript(&self) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        let mut field = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        field(self.cluster.as_str().as_bytes());
        field(self.gateway_id.to_string().as_bytes());
        field(self.bundle.trust_domain.as_str().as_bytes());
        field(&self.bundle.sequence.to_be_bytes());
        field(self.previous.as_ref().map_or(&[][..], |digest| digest.as_bytes()));
        field(&self.signed_at.0.to_be_bytes());
        self.bundle.authorities.iter().for_each(|der| field(der));
        out
    }

    /// What the next version names as its previous one.
    #[must_use]
    pub fn digest(&self) -> BundleDigest {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, &self.transcript()).as_ref());
        BundleDigest(out)
    }

    fn size(&self) -> usize {
        self.bundle.authorities.iter().chain(&self.signer).map(|der| der.len()).sum()
    }
}

/// The versions of one trust bundle, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lineage(Vec<SignedBundle>);

impl Lineage {
    /// These versions, without the oldest ones that are beyond [`MAX_VERSIONS`] or [`MAX_LINEAGE`]; the newest always stays.
    #[must_use]
    pub fn new(mut versions: Vec<SignedBundle>) -> Self {
        let mut size: usize = versions.iter().map(SignedBundle::size).sum();
        while versions.len() > 1 && (versions.len() > MAX_VERSIONS || size > MAX_LINEAGE) {
            size -= versions.remove(0).size();
        }
        Self(versions)
    }

    /// The lineage with one more version.
    #[must_use]
    pub fn followed_by(&self, next: SignedBundle) -> Self {
        Self::new(self.0.iter().cloned().chain(std::iter::once(next)).collect())
    }

    /// The versions, oldest first.
    #[must_use]
    pub fn versions(&self) -> &[SignedBundle] {
        &self.0
    }

    /// The version in force.
    #[must_use]
    pub fn newest(&self) -> Option<&SignedBundle> {
        self.0.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(sequence: u64, bytes: usize) -> SignedBundle {
        let gateway_id = SpiffeId::new("spiffe://east.example/landbridge/gateway").unwrap();
        SignedBundle {
            cluster: "east".parse().unwrap(),
            bundle: TrustBundle {
                trust_domain: gateway_id.trust_domain().clone(),
                sequence,
                authorities: vec![vec![1; bytes].into()],
            },
            gateway_id,
            previous: None,
            signed_at: Timestamp(7),
            signer: Vec::new(),
            signature: Vec::new(),
        }
    }

    #[test]
    fn every_signed_field_changes_the_digest_and_the_signature_does_not() {
        let base = version(1, 10);
        let mut changed = vec![
            SignedBundle { cluster: "west".parse().unwrap(), ..base.clone() },
            SignedBundle { gateway_id: SpiffeId::new("spiffe://east.example/x").unwrap(), ..base.clone() },
            SignedBundle { previous: Some(base.digest()), ..base.clone() },
            SignedBundle { signed_at: Timestamp(8), ..base.clone() },
            version(2, 10),
            version(1, 11),
        ];
        let mut split = base.clone();
        split.bundle.authorities = vec![vec![1; 5].into(), vec![1; 5].into()];
        changed.push(split);
        let digests: std::collections::BTreeSet<_> = changed.iter().map(SignedBundle::digest).collect();
        assert_eq!(digests.len(), changed.len());
        assert!(!digests.contains(&base.digest()));
        let signed = SignedBundle { signature: vec![1], signer: vec![vec![2].into()], ..base.clone() };
        assert_eq!(signed.digest(), base.digest());
    }

    #[test]
    fn a_lineage_forgets_its_oldest_versions_by_number_and_by_size() {
        let many = Lineage::new((1..=40).map(|sequence| version(sequence, 10)).collect());
        let sequences: Vec<_> = many.versions().iter().map(|version| version.bundle.sequence).collect();
        assert_eq!(sequences, (25..=40).collect::<Vec<_>>());
        let large = Lineage::new((1..=4).map(|sequence| version(sequence, MAX_LINEAGE / 3)).collect());
        assert_eq!(large.versions().len(), 3);
        let huge = Lineage::new(vec![version(1, 1), version(2, 2 * MAX_LINEAGE)]);
        assert_eq!(huge.newest().unwrap().bundle.sequence, 2);
    }
}
