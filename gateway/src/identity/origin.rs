//! Where certificates of this cluster come from.
//!
//! Owns the two kinds of origin: the authority made here, and a source that is followed. Never decides what is used.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use federation_model::time::Timestamp;
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    material::Material,
    svid::Svid,
};

use super::self_signed::SelfSigned;
use crate::{
    config::{ClusterConfig, IdentityConfig},
    identity_source::Feed,
};

/// Where certificates come from.
#[derive(Debug)]
pub(super) enum Origin {
    /// The authority made here.
    SelfSigned(SelfSigned),
    /// A directory, or a SPIRE agent.
    Followed(Feed),
}

impl Origin {
    pub(super) fn open(state_dir: &Path, cluster: &ClusterConfig, feed: Option<Feed>) -> anyhow::Result<Self> {
        Ok(match feed {
            Some(feed) => Self::Followed(feed),
            None => Self::SelfSigned(SelfSigned::open(state_dir, cluster)?),
        })
    }

    /// The material that shall remain.
    pub(super) fn wanted(&self) -> Arc<Material> {
        match self {
            Self::SelfSigned(own) => Arc::new(Material::Issuer(own.wanted().clone())),
            Self::Followed(feed) => feed.material.borrow().clone(),
        }
    }

    /// The material that shall go, while it is still there.
    pub(super) fn former(&self) -> Option<Arc<Material>> {
        match self {
            Self::SelfSigned(own) => own.next.is_some().then(|| Arc::new(Material::Issuer(own.current.clone()))),
            Self::Followed(_) => None,
        }
    }

    /// The authorities whose keys are here.
    pub(super) fn authorities(&self) -> Vec<Arc<Authority>> {
        let materials = [Some(self.wanted()), self.former()];
        materials.into_iter().flatten().filter_map(|material| super::issuer(&material)).collect()
    }

    /// What is wrong with the source.
    pub(super) fn fault(&self) -> Option<String> {
        match self {
            Self::SelfSigned(_) => None,
            Self::Followed(feed) => feed.fault.borrow().clone(),
        }
    }

    /// Resolves when the source says something new.
    pub(super) async fn changed(&mut self) {
        match self {
            Self::SelfSigned(_) => std::future::pending().await,
            Self::Followed(feed) => {
                let changed = tokio::select! {
                    changed = feed.material.changed() => changed,
                    changed = feed.fault.changed() => changed,
                };
                if changed.is_err() {
                    // The source has ended with the program.
                    std::future::pending().await
                }
            }
        }
    }
}

/// A certificate for the gateway out of `material`, from `now` on.
pub(super) fn certificate(
    material: &Material,
    cluster: &ClusterConfig,
    config: &IdentityConfig,
    now: Timestamp,
) -> anyhow::Result<Svid> {
    // An end is not allowed for: with such a certificate no peer would listen, and the next look would take another one.
    let ended = material.expires_at() <= now;
    match material {
        Material::Leaf { svid, .. } => {
            anyhow::ensure!(!ended, "the certificate that its source gives has expired");
            Ok(svid.clone())
        }
        Material::Issuer(authority) => {
            anyhow::ensure!(!ended, "the authority {} has expired: replace it", authority.fingerprint());
            let validity = Validity::starting(now, config.ttl);
            let request = SvidRequest { id: cluster.gateway_id(), names: Vec::new(), validity };
            authority.issue(&request).context("cannot issue the gateway's certificate")
        }
    }
}
