//! What the admin port shows of foreign trust domains.
//!
//! Owns the form of `/debug/foreign`.

use serde::Serialize;

use super::{Foreign, interval};
use crate::registry::Registry;

/// One foreign trust domain, for people and scripts.
#[derive(Debug, Serialize)]
pub(crate) struct ForeignView {
    trust_domain: String,
    url: String,
    profile: &'static str,
    endpoint_id: Option<String>,
    /// Nothing until a bundle is known.
    sequence: Option<u64>,
    sequenced: bool,
    authorities: Vec<String>,
    changed_at: Option<u64>,
    last_success: Option<u64>,
    failures: u32,
    last_error: Option<String>,
    interval_seconds: u64,
}

impl ForeignView {
    /// All of them, as they are now.
    pub(crate) fn all(registry: &Registry, foreign: &Foreign) -> Vec<Self> {
        let state = registry.state();
        let view = |record: &crate::state::ForeignRecord| {
            let (source, standing) = (&record.source, foreign.standing(&record.source.trust_domain));
            let authorities = record.bundle.iter().flat_map(|bundle| bundle.fingerprints());
            Self {
                trust_domain: source.trust_domain.to_string(),
                url: source.url.to_string(),
                profile: source.profile.label(),
                endpoint_id: source.profile.endpoint_id().map(ToString::to_string),
                sequence: record.bundle.as_ref().map(|bundle| bundle.sequence),
                sequenced: record.sequenced,
                authorities: authorities.map(|fingerprint| fingerprint.to_string()).collect(),
                changed_at: record.changed_at.map(|at| at.0),
                last_success: standing.last_success.map(|at| at.0),
                failures: standing.failures,
                last_error: Some(standing.last_error).filter(|error| !error.is_empty()),
                interval_seconds: interval(record).as_secs(),
            }
        };
        state.foreign.values().map(|record| view(record)).collect()
    }
}
