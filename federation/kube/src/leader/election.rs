//! The rules of the Lease, without an API server.
//!
//! Owns who may take it and when. Never compares clocks of two pods: a record is over when it has not changed for its duration
//! by the monotonic clock here, as client-go has it.

use std::time::{Duration, Instant};

/// How long a record that is not renewed keeps the others from leading.
pub(super) const LEASE_DURATION: Duration = Duration::from_secs(15);
/// For how long after its last renewal a pod still leads.
pub(super) const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often the record is looked at.
pub(super) const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// The longest duration of somebody else's record that is believed.
const MAX_DURATION: Duration = Duration::from_secs(120);

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// `holderIdentity`.
    pub(super) holder: Option<String>,
    /// `leaseDurationSeconds`.
    pub(super) duration: Duration,
    /// `renewTime`, to tell two renewals apart and for nothing else.
    pub(super) renewed: Option<String>,
    /// `leaseTransitions`.
    pub(super) transitions: i32,
}

/// What to do about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Somebody else has it.
    Wait,
    /// Take or renew it.
    Hold {
        /// `leaseTransitions` to write.
        transitions: i32,
        /// Whether it was somebody else's, or nobody's.
        taken_over: bool,
    },
}

/// What one pod knows of the Lease.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    /// The record, and when it was first seen so.
    seen: Option<(Record, Instant)>,
    /// Until when this pod leads.
    leads_until: Option<Instant>,
}

impl Election {
    pub(super) fn new(identity: &str) -> Self {
        Self { identity: identity.to_owned(), seen: None, leads_until: None }
    }

    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// What to do, the Lease being as `record` says; nothing when there is none.
    pub(super) fn judge(&mut self, record: Option<Record>, now: Instant) -> Step {
        let Some(record) = record else {
            self.seen = None;
            return Step::Hold { transitions: 0, taken_over: true };
        };
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            Some(_) | None => now,
        };
        let over = now.saturating_duration_since(since) >= record.duration.min(MAX_DURATION);
        let ours = record.holder.as_deref() == Some(&self.identity);
        let transitions = record.transitions;
        let free = record.holder.is_none();
        self.seen = Some((record, since));
        if ours {
            return Step::Hold { transitions, taken_over: false };
        }
        self.leads_until = None;
        if free || over {
            Step::Hold { transitions: transitions.saturating_add(1), taken_over: true }
        } else {
            Step::Wait
        }
    }

    /// The Lease was written at `now` and is `record` since.
    pub(super) fn held(&mut self, record: Record, now: Instant) {
        self.seen = Some((record, now));
        self.leads_until = Some(now + RENEW_DEADLINE);
    }

    /// Whether this pod leads.
    pub(super) fn leads(&self, now: Instant) -> bool {
        self.leads_until.is_some_and(|until| now < until)
    }

    /// Until when it does.
    pub(super) fn leads_until(&self) -> Option<Instant> {
        self.leads_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: Option<&str>, renewed: &str) -> Record {
        Record {
            holder: holder.map(ToOwned::to_owned),
            duration: LEASE_DURATION,
            renewed: Some(renewed.to_owned()),
            transitions: 3,
        }
    }

    #[test]
    fn a_record_of_another_pod_is_taken_only_after_it_stood_still_for_its_duration() {
        let (mut election, start) = (Election::new("b"), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(election.judge(Some(record(Some("a"), "1")), start), Step::Wait);
        assert_eq!(election.judge(Some(record(Some("a"), "1")), at(14)), Step::Wait);
        assert_eq!(election.judge(Some(record(Some("a"), "2")), at(14)), Step::Wait, "it was renewed");
        assert_eq!(election.judge(Some(record(Some("a"), "2")), at(28)), Step::Wait);
        let taken = Step::Hold { transitions: 4, taken_over: true };
        assert_eq!(election.judge(Some(record(Some("a"), "2")), at(29)), taken);
    }

    #[test]
    fn a_record_of_the_distant_future_is_judged_like_any_other() {
        let (mut election, start) = (Election::new("b"), Instant::now());
        let mut odd = record(Some("a"), "9999-01-01T00:00:00Z");
        odd.duration = Duration::from_secs(u64::MAX / 2);
        assert_eq!(election.judge(Some(odd.clone()), start), Step::Wait);
        assert!(matches!(election.judge(Some(odd), start + MAX_DURATION), Step::Hold { .. }));
    }

    #[test]
    fn a_pod_that_cannot_renew_stops_leading_before_another_may_begin() {
        let (mut election, start) = (Election::new("a"), Instant::now());
        assert_eq!(election.judge(None, start), Step::Hold { transitions: 0, taken_over: true });
        assert!(!election.leads(start), "what is not written is not held");
        election.held(record(Some("a"), "1"), start);
        assert!(election.leads(start + RENEW_DEADLINE - Duration::from_millis(1)));
        assert!(!election.leads(start + RENEW_DEADLINE));
    }

    #[test]
    fn a_pod_that_sees_another_name_on_the_lease_leads_no_more() {
        let (mut election, start) = (Election::new("a"), Instant::now());
        election.held(record(Some("a"), "1"), start);
        assert_eq!(election.judge(Some(record(Some("b"), "2")), start), Step::Wait);
        assert!(!election.leads(start));
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let (mut election, start) = (Election::new("b"), Instant::now());
        assert!(matches!(election.judge(Some(record(None, "1")), start), Step::Hold { taken_over: true, .. }));
    }
}
