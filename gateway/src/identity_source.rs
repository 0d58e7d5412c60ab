//! Where a cluster's identity comes from, when it is not made here: a stream of usable material.
//!
//! Owns the first material at start and, from then on, what is in force and what is wrong. Never issues and never publishes a
//! bundle: `identity` does. Whatever a source says later, the last good material stays in force until better comes.
//!
//! ```text
//! files: directory ── read ── settle ──┐
//!                                      ├─ judge (federation-pki) ─┬─ good: watch<Arc<Material>>
//! spire: Workload API ── update ───────┘                          └─ bad:  watch<Option<String>>, logged once
//! ```

mod files;
mod spire;

use std::sync::Arc;

use federation_model::spiffe::SpiffeId;
use federation_pki::material::Material;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::{files::FileSource, spire::SpireSource};
use crate::config::{IdentityConfig, IdentitySource};

/// What a source says, now and later.
#[derive(Debug, Clone)]
pub struct Feed {
    /// The last good material.
    pub material: watch::Receiver<Arc<Material>>,
    /// What is wrong with the source at present; nothing when its latest word is in force.
    pub fault: watch::Receiver<Option<String>>,
}

/// A source that has given its first material.
#[derive(Debug)]
pub enum Source {
    /// A directory.
    Files(FileSource),
    /// The SPIFFE agent of this node.
    Spire(Box<SpireSource>),
}

impl Source {
    /// Opens the configured source and waits for its first material; nothing when the cluster's authority is made here.
    ///
    /// # Errors
    /// When there is no usable material within the time each source allows; the text says what to do.
    pub async fn open(config: &IdentityConfig, gateway_id: &SpiffeId) -> anyhow::Result<Option<Self>> {
        match config.source {
            IdentitySource::SelfSigned => Ok(None),
            IdentitySource::Files => {
                let dir = config.dir.clone().unwrap_or_default();
                Ok(Some(Self::Files(FileSource::open(dir, gateway_id.clone()).await?)))
            }
            IdentitySource::Spire => {
                let socket = spire::socket(config.socket.as_ref())?;
                let source = SpireSource::open(socket, gateway_id.clone()).await?;
                Ok(Some(Self::Spire(Box::new(source))))
            }
        }
    }

    /// What it says.
    #[must_use]
    pub fn feed(&self) -> Feed {
        match self {
            Self::Files(source) => source.feed(),
            Self::Spire(source) => source.feed(),
        }
    }

    /// Follows it until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        match self {
            Self::Files(source) => source.run(stop).await,
            Self::Spire(source) => source.run(stop).await,
        }
    }
}

/// The publishing side of a [`Feed`].
#[derive(Debug)]
struct Outlet {
    material: watch::Sender<Arc<Material>>,
    fault: watch::Sender<Option<String>>,
}

impl Outlet {
    fn new(first: Material) -> Self {
        log_in_force(&first);
        Self { material: watch::Sender::new(Arc::new(first)), fault: watch::Sender::new(None) }
    }

    fn feed(&self) -> Feed {
        Feed { material: self.material.subscribe(), fault: self.fault.subscribe() }
    }

    /// Puts material in force, which also ends a fault.
    fn publish(&self, material: Material) {
        let changed = self.material.send_if_modified(|held| {
            let changed = **held != material;
            if changed {
                log_in_force(&material);
                *held = Arc::new(material);
            }
            changed
        });
        let ended = self.fault.send_if_modified(|fault| fault.take().is_some());
        if ended && !changed {
            tracing::info!("the identity source says again what is in force");
        }
    }

    /// Tells what is wrong, once for as long as it stays the same. What is in force stays.
    fn report(&self, fault: String) {
        self.fault.send_if_modified(|told| {
            let news = told.as_ref() != Some(&fault);
            if news {
                tracing::warn!(%fault, "the identity source gives nothing usable; the last good identity stays in force");
                *told = Some(fault);
            }
            news
        });
    }
}

fn log_in_force(material: &Material) {
    let expires_at = material.expires_at().0;
    match material {
        Material::Issuer(authority) => {
            tracing::info!(fingerprint = %authority.fingerprint(), expires_at, "the identity source gives an authority");
        }
        Material::Leaf { svid, .. } => {
            tracing::info!(serial = svid.serial(), expires_at, "the identity source gives a certificate");
        }
    }
}
