//! Where imports get their addresses from.
//!
//! Owns the assignments of a stand-alone gateway and their file, and the reading of derived Services in Kubernetes. Never
//! decides which Services there are: the controllers do.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use federation_kube::derived::Derived;
use federation_model::import::{Imports, address::address_keys};
use federation_runtime::state;
use gateway_core::{
    addresses::{AddressPlan, Assignments, RangeTooSmall},
    places::Places,
};

use crate::config::Config;

/// The one way of this gateway.
#[derive(Debug)]
pub enum Addressing {
    /// An address of `outbound.vip_cidr` for each import.
    Range {
        /// The range.
        plan: AddressPlan,
        /// Which import has which address.
        assigned: Arc<Assignments>,
        /// Where that is kept.
        file: PathBuf,
    },
    /// The ClusterIP of a derived Service for each import.
    Derived(Derived),
}

impl Addressing {
    /// Of derived Services where there are any, otherwise of the range.
    ///
    /// # Errors
    /// When `outbound.vip_cidr` holds no address.
    pub fn new(config: &Config, derived: Option<Derived>) -> Result<Self, RangeTooSmall> {
        if let Some(derived) = derived {
            return Ok(Self::Derived(derived));
        }
        let file = config.state.dir.join("addresses.json");
        Ok(Self::Range {
            plan: AddressPlan::new(config.outbound.vip_cidr)?,
            assigned: Arc::new(load_assignments(&file)),
            file,
        })
    }

    /// Gives every import its address, as far as that is decided here; whether anything is to be kept.
    pub fn assign(&mut self, imports: &Imports) -> bool {
        let Self::Range { plan, assigned, .. } = self else { return false };
        let next = plan.assign(assigned, &address_keys(imports));
        for refused in &next.refused {
            tracing::warn!(error = %refused, "an import has no address");
        }
        let changed = next.assignments != **assigned;
        if changed {
            *assigned = Arc::new(next.assignments);
        }
        changed
    }

    /// Where the imports are reached now.
    pub fn places(&mut self) -> Places {
        match self {
            Self::Range { assigned, .. } => Places::Range(assigned.clone()),
            Self::Derived(derived) => Places::Derived(derived.borrow_and_update().clone().unwrap_or_default()),
        }
    }

    /// Returns when the addresses changed without an import having changed; never, where that cannot be.
    pub async fn changed(&mut self) {
        match self {
            Self::Range { .. } => std::future::pending().await,
            // Without its sender nothing changes any more; the task that held it says why it ended.
            Self::Derived(derived) => {
                if derived.changed().await.is_err() {
                    std::future::pending().await
                }
            }
        }
    }

    /// Writes the assignments to disk, after the tables that have them: a disk may be slow.
    pub async fn keep(&self) {
        let Self::Range { assigned, file, .. } = self else { return };
        let (file, assigned) = (file.clone(), assigned.clone());
        let written = tokio::task::spawn_blocking(move || match serde_json::to_vec_pretty(&*assigned) {
            Ok(json) => {
                if let Err(error) = state::write_private(&file, &json) {
                    tracing::warn!(%error, "cannot keep the import addresses; they may differ after a restart");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot write the import addresses as JSON"),
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "cannot keep the import addresses: writing them ended");
        }
    }
}

fn load_assignments(file: &Path) -> Assignments {
    match state::read_private(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(file = %file.display(), %error, "cannot read the import addresses; they are assigned anew");
            Assignments::default()
        }),
        Err(state::StateError::Missing(_)) => Assignments::default(),
        Err(error) => {
            tracing::warn!(%error, "cannot read the import addresses; they are assigned anew");
            Assignments::default()
        }
    }
}
