//! What a gateway starts with: a certificate, what issues the next one, and the versions of the trust bundle.
//!
//! Owns that choice. Whatever was in use stays in use where it is still good, so that a restart changes nothing for anybody;
//! and a source that is away keeps no gateway from starting.

use std::sync::Arc;

use anyhow::Context as _;
use federation_model::{bundle::TrustBundle, lineage::Lineage, time::Timestamp};
use federation_pki::{continuity, material::Material, signer::Signer, svid::Svid};
use rustls::pki_types::CertificateDer;

use super::{
    kept::Kept,
    now,
    origin::{Origin, certificate},
};
use crate::config::{ClusterConfig, IdentityConfig};

/// What a gateway starts with.
#[derive(Debug)]
pub(super) struct Outset {
    /// The certificate to present.
    pub(super) svid: Svid,
    /// What issues its successor under the same authority; nothing when the source has moved on.
    pub(super) active: Option<Arc<Material>>,
    /// The versions of the trust bundle; never empty.
    pub(super) lineage: Lineage,
}

impl Outset {
    pub(super) fn find(
        kept: &Kept,
        origin: &Origin,
        cluster: &ClusterConfig,
        config: &IdentityConfig,
    ) -> anyhow::Result<Self> {
        let now = now();
        let id = cluster.gateway_id();
        // Versions of another name or trust domain are those of a cluster that was here before.
        let lineage = kept.lineage()?.filter(|lineage| {
            lineage.newest().is_some_and(|newest| newest.cluster == cluster.name && newest.gateway_id == id)
        });
        let believed = lineage.as_ref().and_then(Lineage::newest).map(|newest| newest.bundle.clone());
        let materials: Vec<Arc<Material>> = [Some(origin.wanted()), origin.former()].into_iter().flatten().collect();
        let in_use = kept.svid().filter(|svid| {
            let good = *svid.id() == id && svid.validity().contains(now);
            good && believed.as_ref().is_none_or(|bundle| svid.stands_under(bundle, now))
        });
        if let Some(svid) = in_use {
            let active = materials.iter().find(|material| stands_under(&svid, material, cluster, now)).cloned();
            if lineage.is_some() || active.is_some() {
                return Self { svid, active, lineage: Lineage::default() }.with(lineage, kept, cluster);
            }
        }
        let known = |material: &&Arc<Material>| {
            believed
                .as_ref()
                .is_none_or(|bundle| material.authorities().iter().all(|der| bundle.authorities.contains(der)))
        };
        if let Some(active) = materials.iter().find(known) {
            let svid = certificate(active, cluster, config, now)?;
            kept.keep_svid(&svid)?;
            return Self { svid, active: Some(active.clone()), lineage: Lineage::default() }
                .with(lineage, kept, cluster);
        }
        let active = origin.wanted();
        let svid = certificate(&active, cluster, config, now)?;
        kept.keep_svid(&svid)?;
        let signable = origin.authorities().iter().any(|authority| {
            believed.as_ref().is_some_and(|bundle| bundle.authorities.contains(authority.certificate()))
        });
        let lineage = lineage.filter(|_| signable);
        if lineage.is_none() {
            tracing::error!(
                "the authority of this cluster was replaced while neither its former key nor a valid certificate was here: members do not follow; leave and join again, and have every member run fedctl trust accept"
            );
        }
        Self { svid, active: Some(active), lineage: Lineage::default() }.with(lineage, kept, cluster)
    }

    /// Goes on with the versions there are, or begins with a first one.
    fn with(mut self, lineage: Option<Lineage>, kept: &Kept, cluster: &ClusterConfig) -> anyhow::Result<Self> {
        self.lineage = match lineage {
            Some(lineage) => lineage,
            None => {
                let first = self.first_version(cluster)?;
                let lineage = Lineage::new(vec![first]);
                kept.keep_lineage(&lineage)?;
                lineage
            }
        };
        Ok(self)
    }

    fn first_version(&self, cluster: &ClusterConfig) -> anyhow::Result<federation_model::lineage::SignedBundle> {
        let material = self.active.as_ref().context("there is no authority to begin a trust bundle with")?;
        let signer = match &**material {
            Material::Issuer(authority) => Signer::Authority(authority.clone()),
            Material::Leaf { svid, .. } => Signer::Gateway(Arc::new(svid.clone())),
        };
        let id = cluster.gateway_id();
        let first = continuity::first(&cluster.name, &id, material.authorities(), (&signer, now()));
        first.context("cannot sign the first version of the trust bundle")
    }
}

/// Whether a certificate is one of this material's authorities.
pub(super) fn stands_under(svid: &Svid, material: &Material, cluster: &ClusterConfig, now: Timestamp) -> bool {
    svid.stands_under(&bundle(material.authorities(), cluster), now)
}

/// Authorities as a bundle of this cluster that is not published.
pub(super) fn bundle(authorities: Vec<CertificateDer<'static>>, cluster: &ClusterConfig) -> TrustBundle {
    TrustBundle { trust_domain: cluster.trust_domain.clone(), sequence: 0, authorities }
}
