//! Reading the bundles of foreign trust domains from their bundle endpoints (SPIFFE Federation, section 5).
//!
//! Owns when which endpoint is asked, over which verified connection, and what is known of each. Never judges a bundle: the
//! state does, and what it refuses leaves the last good one in force.
//!
//! ```text
//! poller ── schedule            one poll of each trust domain at a time, none waits for another
//!    └───── poll ── endpoint    what the endpoint is believed by
//!             ├──── fetch       one request, with a limit on everything
//!             └──── registry    state.import(..)
//! ```

use federation_model::spiffe::TrustDomain;
use tokio::sync::{mpsc, oneshot};

mod endpoint;
mod fetch;
mod metrics;
mod poll;
mod poller;
mod schedule;
mod standing;
mod view;

pub(crate) use endpoint::RootsSource;
pub(crate) use metrics::ForeignMetrics;
pub(crate) use poll::Probe;
pub(crate) use poller::Poller;
pub(crate) use schedule::interval;
pub(crate) use standing::{Standing, Standings};
pub(crate) use view::ForeignView;

/// Operators that want a poll now; each waits for its end.
const MAX_WAITING: usize = 64;

/// Somebody wants a poll now.
#[derive(Debug)]
struct Refresh {
    trust_domain: TrustDomain,
    done: oneshot::Sender<()>,
}

/// A way to the poller.
#[derive(Debug, Clone)]
pub(crate) struct Foreign {
    refreshes: mpsc::Sender<Refresh>,
    standings: Standings,
}

impl Foreign {
    /// A way to nobody.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { refreshes: mpsc::channel(1).0, standings: Standings::default() }
    }

    /// Has the endpoint of a trust domain asked now; returns when that has ended, in whichever way. At once when the trust
    /// domain is not known, or the service stops.
    pub(crate) async fn refresh(&self, trust_domain: TrustDomain) {
        let (done, ended) = oneshot::channel();
        if self.refreshes.send(Refresh { trust_domain, done }).await.is_ok() {
            // A poller that drops the sender has no more to say either.
            let _ = ended.await;
        }
    }

    /// How the polls of a trust domain go.
    pub(crate) fn standing(&self, trust_domain: &TrustDomain) -> Standing {
        self.standings.of(trust_domain)
    }
}

/// A poller, and a way to it.
pub(crate) fn foreign(probe: Probe) -> (Foreign, Poller) {
    let (refreshes, receiver) = mpsc::channel(MAX_WAITING);
    let foreign = Foreign { refreshes, standings: probe.standings.clone() };
    (foreign, Poller::new(probe, receiver))
}
