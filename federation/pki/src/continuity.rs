//! Whether one trust bundle may follow another.
//!
//! Owns the rule that makes the federation service a messenger: a bundle is believed because the one before it says so, and
//! who only carries bundles can neither make one up, nor bring an old one back, nor tell two stories. Never fetches, never
//! stores.

use federation_model::{
    bundle::Fingerprint,
    lineage::{Lineage, SignedBundle},
    names::ClusterName,
    spiffe::SpiffeId,
    time::Timestamp,
};
use rustls_pki_types::CertificateDer;

use crate::{
    signer::{self, SignatureError, Signer, SigningError},
    trust::{self, BundleFault},
};

/// Why versions of a bundle are not believed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ContinuityError {
    /// There is no version at all.
    #[error("nobody signed the bundle of {0}: its gateway must announce it itself; bring it to a version that does")]
    Unsigned(ClusterName),
    /// Another cluster, trust domain or gateway id.
    #[error(
        "the bundle of cluster {held} ({held_id}) cannot become that of {offered} ({offered_id}): a cluster that changes its name or trust domain leaves and joins again"
    )]
    Renamed {
        /// The cluster that is known.
        held: ClusterName,
        /// The id of its gateways.
        held_id: Box<SpiffeId>,
        /// The cluster that is offered.
        offered: ClusterName,
        /// The id of its gateways.
        offered_id: Box<SpiffeId>,
    },
    /// An older one than is known.
    #[error(
        "the bundle of {cluster} went back from sequence {held} to {offered}: an old state was restored somewhere; version {held} stays in force"
    )]
    Rollback {
        /// The cluster.
        cluster: ClusterName,
        /// The sequence that is known.
        held: u64,
        /// The sequence that is offered.
        offered: u64,
    },
    /// Two versions with one number.
    #[error(
        "there are two bundles of {cluster} with sequence {sequence}: known is {held}, offered is {offered}; the known one stays in force, compare the fingerprints with the operators of {cluster}"
    )]
    Fork {
        /// The cluster.
        cluster: ClusterName,
        /// The number.
        sequence: u64,
        /// The first authority that is known, or that there is none.
        held: Shown,
        /// The first authority that is offered.
        offered: Shown,
    },
    /// Versions between the known and the offered one are missing.
    #[error(
        "the versions of the bundle of {cluster} between sequence {held} and {first} are missing: too many were missed, or the federation service withholds them; compare the fingerprint with the operators of {cluster} and run fedctl trust accept {cluster}"
    )]
    Gap {
        /// The cluster.
        cluster: ClusterName,
        /// The sequence that is known.
        held: u64,
        /// The first one that is offered.
        first: u64,
    },
    /// A version that the one before does not speak for.
    #[error(
        "version {sequence} of the bundle of {cluster} is forged, or was damaged: {reason}; the known version stays in force"
    )]
    Forged {
        /// The cluster.
        cluster: ClusterName,
        /// Which version.
        sequence: u64,
        /// Why.
        reason: SignatureError,
    },
    /// A version that does not name the one before it.
    #[error(
        "version {sequence} of the bundle of {cluster} does not follow the version before it: versions are out of order"
    )]
    Broken {
        /// The cluster.
        cluster: ClusterName,
        /// Which version.
        sequence: u64,
    },
    /// Its authorities cannot be used.
    #[error("version {sequence} of the bundle of {cluster} cannot be used: {fault}")]
    Unusable {
        /// The cluster.
        cluster: ClusterName,
        /// Which version.
        sequence: u64,
        /// Why.
        fault: Box<BundleFault>,
    },
}

impl ContinuityError {
    /// The word in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unsigned(_) => "unsigned",
            Self::Renamed { .. } => "renamed",
            Self::Rollback { .. } => "rollback",
            Self::Fork { .. } => "fork",
            Self::Gap { .. } => "gap",
            Self::Forged { .. } => "forged",
            Self::Broken { .. } => "broken",
            Self::Unusable { .. } => "unusable",
        }
    }

    /// Every word that [`ContinuityError::label`] gives.
    pub const LABELS: [&'static str; 8] =
        ["unsigned", "renamed", "rollback", "fork", "gap", "forged", "broken", "unusable"];
}

/// The first authority of a bundle, as people compare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown(pub Option<Fingerprint>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(fingerprint) => write!(f, "{fingerprint}"),
            None => f.write_str("no authority"),
        }
    }
}

impl Shown {
    fn of(signed: &SignedBundle) -> Self {
        Self(signed.bundle.fingerprints().next())
    }
}

/// What an offered lineage is to the known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It ends with the version that is known.
    Same,
    /// It goes on from the version that is known.
    Newer,
}

/// Checks what can be checked of a lineage alone: every version speaks for the next, and the first for itself.
///
/// Of a lineage whose oldest versions are forgotten, the first one that is left cannot be checked.
///
/// # Errors
/// The first version that is wrong.
pub fn check(cluster: &ClusterName, lineage: &Lineage) -> Result<(), ContinuityError> {
    let versions = lineage.versions();
    let first = versions.first().ok_or_else(|| ContinuityError::Unsigned(cluster.clone()))?;
    usable(first)?;
    if first.previous.is_none() {
        spoken_for(first, first)?;
    }
    versions.windows(2).try_for_each(|pair| follows(&pair[0], &pair[1]))
}

/// Checks whether `offered` may take the place of the version `held`.
///
/// # Errors
/// When it may not; `held` is then to stay in force.
pub fn advance(held: &SignedBundle, offered: &Lineage) -> Result<Standing, ContinuityError> {
    let cluster = || held.cluster.clone();
    let newest = offered.newest().ok_or_else(|| ContinuityError::Unsigned(cluster()))?;
    if (&newest.cluster, &newest.gateway_id) != (&held.cluster, &held.gateway_id) {
        return Err(ContinuityError::Renamed {
            held: cluster(),
            held_id: Box::new(held.gateway_id.clone()),
            offered: newest.cluster.clone(),
            offered_id: Box::new(newest.gateway_id.clone()),
        });
    }
    let (known, last) = (held.bundle.sequence, newest.bundle.sequence);
    if last < known {
        return Err(ContinuityError::Rollback { cluster: cluster(), held: known, offered: last });
    }
    let same = offered.versions().iter().find(|version| version.bundle.sequence == known);
    if let Some(other) = same.filter(|version| version.digest() != held.digest()) {
        let (held, offered) = (Shown::of(held), Shown::of(other));
        return Err(ContinuityError::Fork { cluster: cluster(), sequence: known, held, offered });
    }
    if last == known {
        return Ok(Standing::Same);
    }
    let mut newer = offered.versions().iter().skip_while(|version| version.bundle.sequence <= known);
    let first = newer.clone().next().map_or(last, |version| version.bundle.sequence);
    if first != known.saturating_add(1) {
        return Err(ContinuityError::Gap { cluster: cluster(), held: known, first });
    }
    newer.try_fold(held, |before, next| follows(before, next).map(|()| next))?;
    Ok(Standing::Newer)
}

fn follows(before: &SignedBundle, next: &SignedBundle) -> Result<(), ContinuityError> {
    let (cluster, sequence) = (next.cluster.clone(), next.bundle.sequence);
    let in_order = before.bundle.sequence.checked_add(1) == Some(sequence) && next.previous == Some(before.digest());
    let same_name = (&before.cluster, &before.gateway_id) == (&next.cluster, &next.gateway_id);
    if !in_order || !same_name {
        return Err(ContinuityError::Broken { cluster, sequence });
    }
    spoken_for(before, next)?;
    usable(next)
}

fn spoken_for(before: &SignedBundle, next: &SignedBundle) -> Result<(), ContinuityError> {
    let message = next.transcript();
    signer::verify(&before.bundle, &next.gateway_id, next.signed_at, &next.signer, (&message, &next.signature)).map_err(
        |reason| ContinuityError::Forged { cluster: next.cluster.clone(), sequence: next.bundle.sequence, reason },
    )
}

fn usable(signed: &SignedBundle) -> Result<(), ContinuityError> {
    let (cluster, sequence) = (signed.cluster.clone(), signed.bundle.sequence);
    trust::check(&signed.bundle).map_err(|fault| ContinuityError::Unusable {
        cluster,
        sequence,
        fault: Box::new(fault),
    })
}

/// The first version of a bundle.
///
/// # Errors
/// When the key cannot sign.
pub fn first(
    cluster: &ClusterName,
    gateway_id: &SpiffeId,
    authorities: Vec<CertificateDer<'static>>,
    (signer, now): (&Signer, Timestamp),
) -> Result<SignedBundle, SigningError> {
    let bundle = federation_model::bundle::TrustBundle {
        trust_domain: gateway_id.trust_domain().clone(),
        sequence: 1,
        authorities,
    };
    signed(
        SignedBundle {
            cluster: cluster.clone(),
            gateway_id: gateway_id.clone(),
            bundle,
            previous: None,
            signed_at: now,
            signer: Vec::new(),
            signature: Vec::new(),
        },
        signer,
    )
}

/// The version after `held`, with these authorities; `signer` must be one that `held` knows.
///
/// # Errors
/// When the key cannot sign.
pub fn next(
    held: &SignedBundle,
    authorities: Vec<CertificateDer<'static>>,
    (signer, now): (&Signer, Timestamp),
) -> Result<SignedBundle, SigningError> {
    let mut version = held.clone();
    version.bundle.sequence += 1;
    version.bundle.authorities = authorities;
    version.previous = Some(held.digest());
    version.signed_at = now;
    signed(version, signer)
}

fn signed(mut version: SignedBundle, signer: &Signer) -> Result<SignedBundle, SigningError> {
    version.signature = signer.sign(&version.transcript())?;
    version.signer = signer.certificates();
    Ok(version)
}

#[cfg(test)]
mod tests;
