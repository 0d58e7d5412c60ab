//! How far one message brings the peer.
//!
//! Owns the split of a large difference into messages that fit a control frame. Never sends one: each step waits for the
//! acknowledgement of the one before, like any change.

use std::sync::Arc;

use federation_model::catalog::{Catalog, CatalogDigest};
use prost::Message;
use proto::convert::catalog::service_message;

/// How many bytes of services one snapshot or delta carries; a single service may exceed it.
///
/// A hundred services are about 15 KiB, so that only catalogs of many thousands are split.
pub const MAX_DELTA_BYTES: usize = 2 * 1024 * 1024;

/// A state on the way to the target, and its digest.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) state: Arc<Catalog>,
    pub(super) digest: CatalogDigest,
}

impl Step {
    /// As far from `held` towards `target` as one message goes: every removal, and new services in the order of their names.
    pub(super) fn towards(held: &Catalog, target: &Arc<Catalog>) -> Self {
        let mut left = MAX_DELTA_BYTES;
        let mut services = held.services.clone();
        services.retain(|key, _| target.services.contains_key(key));
        for (key, service) in &target.services {
            if services.get(key) == Some(service) {
                continue;
            }
            let length = service_message(key, service).encoded_len();
            if length > left && left < MAX_DELTA_BYTES {
                let state = Arc::new(Catalog { cluster: target.cluster.clone(), services });
                return Self { digest: state.digest(), state };
            }
            left = left.saturating_sub(length);
            services.insert(key.clone(), service.clone());
        }
        Self { digest: target.digest(), state: target.clone() }
    }
}
