//! One poll of one foreign trust domain: read, judged, remembered.
//!
//! Owns the steps and what is told of their end. Whatever an endpoint does, the last good bundle stays unless a
//! better one was read, and no other trust domain notices.

use std::{sync::Arc, time::Duration};

use federation_model::spiffe::TrustDomain;
use federation_pki::bundle::{BundleError, from_jwks};

use super::{
    Standings,
    endpoint::{self, AnchorError, RootsSource},
    fetch::{FetchError, fetch},
    schedule::{interval, pause},
};
use crate::{
    clock::Clock,
    metrics::Metrics,
    registry::{Registry, Undecided},
    state::{
        ForeignRecord,
        audit::By,
        foreign::{ImportRefusal, Imported},
    },
};

/// Every word of the label `result`.
pub(super) const RESULTS: [&str; 7] =
    ["changed", "unchanged", "unreachable", "untrusted", "malformed", "refused", "unavailable"];

/// What a poll needs; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pub(crate) registry: Registry,
    pub(crate) standings: Standings,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) roots: RootsSource,
}

/// How a poll ended.
pub(super) type Polled = Result<Imported, PollError>;

/// Why a poll failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PollError {
    /// Nothing to believe the endpoint by.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// No document.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// No bundle in it.
    #[error(transparent)]
    Document(#[from] BundleError),
    /// The last good bundle is better.
    #[error("the bundle is not taken: {0}")]
    Refused(#[from] ImportRefusal),
    /// This service is in trouble itself.
    #[error("{0}")]
    Unavailable(String),
}

impl PollError {
    fn label(&self) -> &'static str {
        match self {
            Self::Anchor(_) | Self::Fetch(FetchError::NotBelieved { .. }) => "untrusted",
            Self::Fetch(
                FetchError::Unreachable { .. }
                | FetchError::TimedOut(_)
                | FetchError::Broken { .. }
                | FetchError::Redirect(_)
                | FetchError::Status(_),
            ) => "unreachable",
            Self::Fetch(FetchError::TooLarge | FetchError::NotText) | Self::Document(_) => "malformed",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl Probe {
    /// Polls `trust_domain` once.
    pub(super) async fn poll(self, trust_domain: TrustDomain) -> Polled {
        match self.registry.state().foreign.get(&trust_domain).cloned() {
            Some(record) => self.read(&record).await,
            None => Ok(Imported::Superseded),
        }
    }

    /// Remembers and tells how a poll ended; gives the pause until the next one, none when this one counted for nothing.
    pub(super) fn settle(&self, trust_domain: &TrustDomain, polled: &Polled) -> Option<Duration> {
        match polled {
            Ok(Imported::Superseded) => return None,
            Ok(imported @ (Imported::Changed | Imported::Unchanged)) => self.succeeded(trust_domain, *imported),
            Err(error) => self.failed(trust_domain, error),
        }
        let state = self.registry.state();
        let record = state.foreign.get(trust_domain)?;
        Some(pause(interval(record), rand::random()))
    }

    async fn read(&self, record: &Arc<ForeignRecord>) -> Polled {
        let anchor = self.registry.state().anchor_of(record).cloned();
        let (profile, roots) = (record.source.profile.clone(), self.roots.clone());
        let tls = tokio::task::spawn_blocking(move || endpoint::tls(&profile, anchor, &roots)).await;
        let tls = tls.map_err(|error| PollError::Unavailable(format!("a part of the poll panicked: {error}")))??;
        let text = fetch(&record.source.url, tls).await?;
        let published = from_jwks(&record.source.trust_domain, &text)?;
        let (polled, now) = (Arc::clone(record), self.clock.now());
        let decision = self.registry.decide(By::service(now), move |state| state.import(&polled, published, now));
        match decision.await {
            Ok((imported, _)) => Ok(imported),
            Err(Undecided::Refused(refusal)) => Err(refusal.into()),
            Err(Undecided::Unavailable(reason)) => Err(PollError::Unavailable(reason)),
        }
    }

    fn succeeded(&self, trust_domain: &TrustDomain, imported: Imported) {
        let now = self.clock.now();
        let failed_before = self.standings.succeeded(trust_domain, now);
        let changed = imported == Imported::Changed;
        self.metrics.foreign().polled(trust_domain, if changed { "changed" } else { "unchanged" }, 0);
        self.metrics.foreign().succeeded_at(trust_domain, now);
        if failed_before > 0 {
            tracing::info!(%trust_domain, failed_before, "the foreign bundle is read again");
        }
        let state = self.registry.state();
        let bundle = state.foreign.get(trust_domain).and_then(|record| record.bundle.as_ref());
        if let Some(bundle) = bundle.filter(|_| changed) {
            let authorities: Vec<_> = bundle.fingerprints().map(|fingerprint| fingerprint.to_string()).collect();
            tracing::info!(target: "landbridge::audit", %trust_domain, sequence = bundle.sequence, ?authorities, "foreign bundle changed");
        }
    }

    fn failed(&self, trust_domain: &TrustDomain, error: &PollError) {
        let known = &self.standings;
        let new = known.of(trust_domain).failures == 0;
        let failures = known.failed(trust_domain, &error.to_string());
        self.metrics.foreign().polled(trust_domain, error.label(), failures);
        // As it is kept: parts of the words may be a stranger's.
        let reason = known.of(trust_domain).last_error;
        if new {
            tracing::warn!(%trust_domain, reason, "the foreign bundle cannot be read: the last good one stays");
        } else {
            tracing::debug!(%trust_domain, reason, failures, "the foreign bundle still cannot be read");
        }
        if matches!(error, PollError::Refused(_)) && new {
            tracing::info!(target: "landbridge::audit", %trust_domain, reason, "foreign bundle refused");
        }
    }
}
