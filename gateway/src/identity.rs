//! The cluster's certificate authority and the gateway's own certificate.
//!
//! Owns where the authority comes from, and the renewal of the leaf at half life. Never shows a key to anybody: signing goes
//! through `federation-pki`.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use federation_model::{bundle::TrustBundle, time::Timestamp};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    identity::LiveIdentity,
    renew,
    svid::Svid,
};
use federation_runtime::state;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio_util::sync::CancellationToken;

use crate::config::{ClusterConfig, IdentityConfig, IdentitySource};

/// Lifetime of a self-made authority: long, since replacing it needs every member's acknowledgement.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How often the clock is compared with the due time: a machine that slept must not miss its renewal.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The pause before a failed renewal is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The identity of this cluster and of this gateway.
#[derive(Debug)]
pub struct ClusterIdentity {
    authority: Authority,
    live: Arc<LiveIdentity>,
    cluster: ClusterConfig,
    config: IdentityConfig,
    expiry: Gauge,
}

impl ClusterIdentity {
    /// Loads the authority, or makes it at the first start, and issues the first leaf.
    ///
    /// # Errors
    /// When the authority cannot be read, does not fit the trust domain, or cannot issue.
    pub fn open(
        state_dir: &Path,
        cluster: &ClusterConfig,
        config: &IdentityConfig,
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let authority = match config.source {
            IdentitySource::SelfSigned => self_signed(state_dir, cluster)?,
            IdentitySource::Files | IdentitySource::Spire => {
                anyhow::bail!("identity.source = {:?} is not wired", config.source.label())
            }
        };
        let svid = issue(&authority, cluster, config)?;
        let expiry = Gauge::default();
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the gateway's certificate expires",
            expiry.clone(),
        );
        expiry.set(seconds(svid.not_after()));
        Ok(Self {
            authority,
            live: Arc::new(LiveIdentity::new(svid)),
            cluster: cluster.clone(),
            config: config.clone(),
            expiry,
        })
    }

    /// The gateway's certificate, replaced under way.
    #[must_use]
    pub fn live(&self) -> Arc<LiveIdentity> {
        self.live.clone()
    }

    /// The cluster's authority.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The trust bundle of this cluster.
    #[must_use]
    pub fn bundle(&self) -> TrustBundle {
        self.authority.bundle(1)
    }

    /// The word for where the authority comes from.
    #[must_use]
    pub fn source(&self) -> &'static str {
        self.config.source.label()
    }

    /// Renews the leaf whenever it is due, until `stop`.
    pub async fn renew(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let due = renew::due(&self.live.current().validity(), rand::random());
            let renewed = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = until(due) => self.reissue(),
            };
            if let Err(error) = renewed {
                let expires_in = self.live.current().not_after().since(SystemTime::now().into());
                tracing::error!(error = format!("{error:#}"), ?expires_in, "cannot renew the gateway's certificate");
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        }
    }

    fn reissue(&self) -> anyhow::Result<()> {
        let svid = issue(&self.authority, &self.cluster, &self.config)?;
        self.expiry.set(seconds(svid.not_after()));
        tracing::info!(serial = svid.serial(), "renewed the gateway's certificate");
        self.live.replace(svid);
        Ok(())
    }
}

fn seconds(timestamp: Timestamp) -> i64 {
    i64::try_from(timestamp.0).unwrap_or(i64::MAX)
}

async fn until(due: Timestamp) {
    loop {
        let left = due.since(SystemTime::now().into());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST_WAIT)).await;
    }
}

/// The authority in `<state>/ca`, in the layout of a Kubernetes TLS Secret.
fn self_signed(state_dir: &Path, cluster: &ClusterConfig) -> anyhow::Result<Authority> {
    let dir = state_dir.join("ca");
    let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    if certificate.exists() {
        let loaded = Authority::from_pem(
            &state::read_private_text(&certificate)?,
            &state::read_private_text(&key)?,
            &cluster.trust_domain,
        );
        return loaded.with_context(|| format!("the authority in {} is not usable", dir.display()));
    }
    let validity = Validity::starting(SystemTime::now().into(), AUTHORITY_LIFETIME);
    let authority = Authority::generate(&cluster.trust_domain, &format!("Landbridge {}", cluster.name), validity)?;
    state::create_private_dir(&dir)?;
    // The key first: a certificate without its key would be taken for a broken state at the next start.
    state::write_private(&key, authority.key_pem().expose().as_bytes())?;
    state::write_private(&certificate, authority.certificate_pem().as_bytes())?;
    tracing::info!(dir = %dir.display(), fingerprint = %authority.fingerprint(), "made the cluster's own authority");
    Ok(authority)
}

fn issue(authority: &Authority, cluster: &ClusterConfig, config: &IdentityConfig) -> anyhow::Result<Svid> {
    let request = SvidRequest {
        id: cluster.gateway_id(),
        names: Vec::new(),
        validity: Validity::starting(SystemTime::now().into(), config.ttl),
    };
    authority.issue(&request).context("cannot issue the gateway's certificate")
}
