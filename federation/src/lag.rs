//! Revocations that a member which follows the service has not put in force yet.
//!
//! Owns these two metrics. Everything is looked at when somebody asks. A member that is away is not counted: it cannot have
//! heard, and its silence shows elsewhere. Never waits: `fedctl revoke` does.

use std::{collections::BTreeMap, fmt, sync::Arc};

use federation_model::time::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use tokio::sync::watch;

use crate::{
    metrics::clamped,
    presence::Presence,
    state::{State, Subject},
};

/// Measures at every scrape.
#[derive(Clone)]
pub(crate) struct Lag {
    pub(crate) states: watch::Receiver<Arc<State>>,
    pub(crate) presence: Presence,
}

impl fmt::Debug for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lag")
    }
}

/// Revocations that somebody who follows has not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Unacknowledged {
    count: usize,
    /// When the oldest of them was made.
    oldest: Option<Timestamp>,
}

impl Lag {
    /// Adds the metrics to `registry`.
    pub(crate) fn register(self, registry: &mut Registry) {
        registry.sub_registry_with_prefix("landbridge_federation").register_collector(Box::new(self));
    }

    fn unacknowledged(&self) -> Unacknowledged {
        let state = Arc::clone(&self.states.borrow());
        let following = state.members.keys().map(|cluster| self.presence.of(cluster)).filter(|seen| seen.watches > 0);
        let Some(slowest) = following.map(|seen| seen.acknowledged).min() else { return Unacknowledged::default() };
        // What is older than the log was made before its first revision.
        let before_log = state.log.front().map_or(state.revision, |first| first.revision.saturating_sub(1));
        let recent: BTreeMap<_, _> = state
            .log
            .iter()
            .filter_map(|logged| match &logged.subject {
                Subject::Revocation(id) => Some((id, logged.revision)),
                Subject::Member(_) | Subject::Federation | Subject::Foreign(_) => None,
            })
            .collect();
        let late =
            state.revocations.iter().filter(|held| recent.get(&held.id).copied().unwrap_or(before_log) > slowest);
        late.fold(Unacknowledged::default(), |sum, held| Unacknowledged {
            count: sum.count + 1,
            oldest: Some(sum.oldest.map_or(held.at, |oldest| oldest.min(held.at))),
        })
    }
}

impl Collector for Lag {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Unacknowledged { count, oldest } = self.unacknowledged();
        let about = "Revocations that a member which follows the service has not acknowledged";
        gauge(&mut encoder, "revocations_unacknowledged", about, clamped(count as u64))?;
        let about = "When the oldest of them was made, in seconds since 1970; 0 without one";
        let oldest = clamped(oldest.map_or(0, |at| at.0));
        gauge(&mut encoder, "revocations_unacknowledged_oldest_timestamp_seconds", about, oldest)
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, about: &str, value: i64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, about, None, MetricType::Gauge)?)
}

#[cfg(test)]
mod tests {
    use federation_model::revocation::{Revocation, RevocationId, Subject as Revoked};

    use super::*;
    use crate::{
        metrics::Metrics,
        state::{
            Write,
            tests::{empty_set, record},
        },
    };

    fn revocation(number: u64) -> Write {
        Write::Revocation(Arc::new(Revocation {
            id: RevocationId::from_bits(number),
            subject: Revoked::parse_id(&format!("spiffe://west.example/w{number}")).unwrap(),
            reason: "".parse().unwrap(),
            by: "admin".parse().unwrap(),
            at: Timestamp(100 * number),
        }))
    }

    #[test]
    fn revocations_count_until_the_slowest_member_that_follows_has_acknowledged_them() {
        // East is revision 1, west 2, the revocations 3 and 4.
        let state = empty_set().applied(&[Write::Member(record("east")), Write::Member(record("west"))]);
        let state = state.applied(&[revocation(1), revocation(2)]);
        let (presence, now) = (Presence::new(Metrics::default()), Timestamp(7));
        let lag = Lag { states: watch::channel(Arc::new(state)).1, presence: presence.clone() };
        let measured = || {
            let Unacknowledged { count, oldest } = lag.unacknowledged();
            (count, oldest.map_or(0, |at| at.0))
        };
        assert_eq!(measured(), (0, 0), "nobody follows");
        let east = presence.watch(&"east".parse().unwrap(), now).unwrap();
        let west = presence.watch(&"west".parse().unwrap(), now).unwrap();
        assert_eq!(measured(), (2, 100));
        east.acknowledged(4, now);
        assert_eq!(measured(), (2, 100), "west has not");
        west.acknowledged(3, now);
        assert_eq!(measured(), (1, 200));
        west.acknowledged(4, now);
        assert_eq!(measured(), (0, 0));
    }

    #[test]
    fn revocations_from_before_the_log_count_for_whoever_has_not_even_seen_its_begin() {
        let state = (0..crate::state::MAX_LOG)
            .fold(empty_set().applied(&[revocation(1)]), |state, _| state.applied(&[Write::Member(record("west"))]));
        let first = state.log.front().unwrap().revision;
        let presence = Presence::new(Metrics::default());
        let west = presence.watch(&"west".parse().unwrap(), Timestamp(7)).unwrap();
        let lag = Lag { states: watch::channel(Arc::new(state)).1, presence };
        assert_eq!(lag.unacknowledged().count, 1);
        west.acknowledged(first, Timestamp(7));
        assert_eq!(lag.unacknowledged().count, 0);
    }
}
