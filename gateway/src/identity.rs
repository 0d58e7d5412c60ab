//! The cluster's authority, its trust bundle, and the gateway's own certificate.
//!
//! Owns what is presented and what is published, and their change under way: renewal at half life, and the rotation of the
//! authority. Never shows a key to anybody: signing goes through `federation-pki`.
//!
//! ```text
//! origin (own authority, files, spire) ──┐
//! what peers believe and judge by ───────┼──> keeper ──> certificate in use ──> tunnels, federation client
//! orders of an operator ─────────────────┘        └────> versions of the trust bundle ──> federation service ──> members
//! ```

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use federation_model::{
    bundle::TrustBundle,
    lineage::{Lineage, SignedBundle},
    time::Timestamp,
};
use federation_pki::{ca::Authority, identity::LiveIdentity, material::Material, renew, signer::Signer, svid::Svid};
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::{
    config::{ClusterConfig, IdentityConfig},
    identity_source::Feed,
};

mod keeper;
mod kept;
mod metrics;
mod origin;
mod outset;
mod report;
mod self_signed;
mod standing;

pub use keeper::Keeper;
pub use report::Reporter;
pub use standing::{Standing, Surroundings};

use kept::Kept;
use metrics::Metrics;
use origin::Origin;
use outset::Outset;

/// Orders that wait: a person gives one at a time.
const MAX_ORDERS: usize = 8;

/// What an operator orders.
#[derive(Debug)]
pub(crate) enum Order {
    /// Begin to replace the authority, or go on with it.
    Rotate,
    /// Give up a rotation that nobody relies on yet.
    Cancel,
    /// Pass the gate that is closed now, whoever has not come.
    Force,
}

/// An order, and where its answer goes.
type Ordered = (Order, oneshot::Sender<Result<(), String>>);

/// The identity of this cluster and of this gateway.
#[derive(Debug)]
pub struct ClusterIdentity {
    cluster: ClusterConfig,
    config: IdentityConfig,
    /// Where the identity is read from; nothing where it is made here.
    feed: Option<Feed>,
    live: Arc<LiveIdentity>,
    renewed: watch::Sender<u64>,
    disowned: Arc<Notify>,
    lineage: watch::Sender<Arc<Lineage>>,
    standing: watch::Sender<Arc<Standing>>,
    /// What issues the certificate in use, where its key is here.
    issuer: ArcSwapOption<Authority>,
    orders: mpsc::Sender<Ordered>,
    reports: report::Reports,
    kept: Kept,
    metrics: Metrics,
}

impl ClusterIdentity {
    /// Loads what is kept and what the source offers, or makes the cluster's own authority at the first start; `feed` is
    /// nothing where the authority is made here. The keeper and the reporter are to be run.
    ///
    /// # Errors
    /// When there is no certificate to start with, or the state directory cannot be used.
    pub fn open(
        state_dir: &Path,
        cluster: &ClusterConfig,
        config: &IdentityConfig,
        feed: Option<Feed>,
        registry: &mut Registry,
    ) -> anyhow::Result<(Arc<Self>, Keeper, Reporter)> {
        let kept = Kept::in_dir(state_dir);
        let origin = Origin::open(state_dir, cluster, feed.clone())?;
        let outset = Outset::find(&kept, &origin, cluster, config)?;
        let metrics = Metrics::register(registry);
        let (orders, ordered) = mpsc::channel(MAX_ORDERS);
        let (reports, reporter) = report::channel();
        let identity = Arc::new(Self {
            cluster: cluster.clone(),
            config: config.clone(),
            feed,
            live: Arc::new(LiveIdentity::new(outset.svid.clone())),
            renewed: watch::Sender::new(0),
            disowned: Arc::default(),
            lineage: watch::Sender::new(Arc::new(outset.lineage)),
            standing: watch::Sender::default(),
            issuer: ArcSwapOption::new(outset.active.as_deref().and_then(issuer)),
            orders,
            reports,
            kept,
            metrics,
        });
        identity.metrics.svid(&outset.svid);
        Ok((identity.clone(), Keeper::new(identity, origin, outset.active, ordered), reporter))
    }

    /// The gateway's certificate, replaced under way.
    #[must_use]
    pub fn live(&self) -> Arc<LiveIdentity> {
        self.live.clone()
    }

    /// Changes whenever the gateway's certificate was replaced.
    #[must_use]
    pub fn renewed(&self) -> watch::Receiver<u64> {
        self.renewed.subscribe()
    }

    /// For whoever learns that the certificate in use was revoked: another one is issued then, where that is done here. A
    /// stolen key is worthless after that, and its owner is not locked out.
    #[must_use]
    pub fn disowned(&self) -> Arc<Notify> {
        self.disowned.clone()
    }

    /// The versions of this cluster's trust bundle, as they come.
    #[must_use]
    pub fn lineage(&self) -> watch::Receiver<Arc<Lineage>> {
        self.lineage.subscribe()
    }

    /// The trust bundle of this cluster as it is published.
    #[must_use]
    pub fn bundle(&self) -> TrustBundle {
        self.newest().bundle
    }

    /// The version of the trust bundle that is published.
    ///
    /// # Panics
    /// Never: an identity begins with a version, and each replaces one.
    #[must_use]
    pub fn newest(&self) -> SignedBundle {
        self.lineage
            .borrow()
            .newest()
            .cloned()
            .expect("an identity has a version of its bundle from its first moment on")
    }

    /// Where renewal and rotation stand.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Arc<Standing>> {
        self.standing.subscribe()
    }

    /// Whose identity it is.
    #[must_use]
    pub fn cluster(&self) -> &ClusterConfig {
        &self.cluster
    }

    /// The lifetime of a certificate that is issued here.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.config.ttl
    }

    /// The word for where the authority comes from.
    #[must_use]
    pub fn source(&self) -> &'static str {
        self.config.source.label()
    }

    /// The source that the identity is read from; nothing where it is made here.
    #[must_use]
    pub fn feed(&self) -> Option<&Feed> {
        self.feed.as_ref()
    }

    /// The key that speaks for the cluster towards a federation service it joins: the authority's where it is here, else that
    /// of the gateway.
    #[must_use]
    pub fn signer(&self) -> Signer {
        match self.issuer.load_full() {
            Some(authority) => Signer::Authority(authority),
            None => Signer::Gateway(self.live.current()),
        }
    }

    /// Has an order carried out.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(crate) async fn order(&self, order: Order) -> Result<(), String> {
        let stopping = || "the gateway is stopping".to_owned();
        let (reply, answer) = oneshot::channel();
        self.orders.send((order, reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Presents another certificate from now on, in live tunnels too.
    fn present(&self, svid: Svid) {
        tracing::info!(serial = svid.serial(), not_after = svid.not_after().0, "the gateway has a new certificate");
        self.metrics.svid(&svid);
        self.live.replace(svid);
        self.renewed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// The authority of a material that issues.
fn issuer(material: &Material) -> Option<Arc<Authority>> {
    match material {
        Material::Issuer(authority) => Some(authority.clone()),
        Material::Leaf { .. } => None,
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Whether so little of a certificate's life is left that nobody is waited for.
fn is_urgent(svid: &Svid, now: Timestamp) -> bool {
    now >= renew::urgent(&svid.validity())
}
