//! What is counted of a membership.
//!
//! Owns the names. Never decides anything by them.

use federation_client::membership::MemberError;
use federation_pki::continuity::ContinuityError;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What of the federation service was not believed.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    bundles: Family<Reason, Counter>,
    rewinds: Counter,
}

impl Refusals {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let refusals = Self::default();
        // From the start: a counter that appears with its first event has no rate then.
        for reason in ContinuityError::LABELS {
            refusals.bundles.get_or_create(&Reason { reason }).inc_by(0);
        }
        let about = "Bundles of members that the federation service told of and this gateway does not believe";
        registry.register("bundles_refused", about, refusals.bundles.clone());
        let about = "Attempts to follow the federation service that failed because it has gone back to an older state";
        registry.register("federation_rewinds", about, refusals.rewinds.clone());
        refusals
    }

    pub(super) fn refused(&self, error: &ContinuityError) {
        self.bundles.get_or_create(&Reason { reason: error.label() }).inc();
    }

    pub(super) fn lost(&self, error: &MemberError) {
        if error.rewound() {
            self.rewinds.inc();
        }
    }
}
