//! What happened to recent connections, stage by stage: what `fedctl explain` tells.
//!
//! Owns the memory of connections that live and of the last ones that ended. Refused ones have a memory of their own, so
//! that traffic that is well does not push them out. Never decides anything, never leaves this process.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use dashmap::DashMap;
use federation_model::{
    addr::Port,
    caller::Caller,
    names::{ClusterName, ServiceKey},
    outcome::{Outcome, Side},
    trace::TraceContext,
};

use gateway_core::policy::{Basis, Refusal, Rule};

use crate::splice::Counts;

/// How many connections that ended well are remembered: some seconds of a busy gateway, hours of a quiet one.
const MAX_ENDED: usize = 2_048;
/// How many connections that did not end well are remembered.
const MAX_FAILED: usize = 2_048;
/// How many steps of one connection are remembered; a connection over HTTP may be refused many requests.
const MAX_STEPS: usize = 32;
/// The longest text of one step, bytes: clients choose the paths of their requests, up to kilobytes, and with all that is
/// remembered this comes to 64 MB at the very most.
const MAX_TEXT: usize = 512;

/// One thing that was decided, or that happened, at one stage.
#[derive(Debug, Clone)]
pub enum Step {
    /// A client connected here.
    Accepted {
        /// The client.
        client: SocketAddr,
        /// What it dialled.
        local: SocketAddr,
        /// How it says where it wants to go.
        via: &'static str,
    },
    /// Another cluster opened a stream.
    Received {
        /// The cluster.
        peer: ClusterName,
        /// The client in that cluster.
        client: Option<SocketAddr>,
    },
    /// Who calls.
    Identified(Caller),
    /// What is called.
    Asked {
        /// The service.
        service: ServiceKey,
        /// Its port.
        port: Port,
    },
    /// The clusters that can take it.
    Routed(Vec<ClusterName>),
    /// A cluster did not take it.
    Tried {
        /// The cluster.
        cluster: ClusterName,
        /// What it answered.
        outcome: Outcome,
        /// In its words.
        reason: String,
    },
    /// A cluster took it.
    Taken(ClusterName),
    /// A policy let it pass, or there is none.
    Authorized(Basis),
    /// A policy in AUDIT would have refused it.
    Audited(Rule),
    /// A policy refuses it.
    Refused(Box<Refusal>),
    /// An endpoint of this cluster accepted it.
    Delivered {
        /// The endpoint.
        endpoint: SocketAddr,
        /// How it is told of the caller.
        mode: &'static str,
    },
    /// A request within it was refused.
    RequestRefused(String),
    /// It ended.
    Ended {
        /// How.
        outcome: Outcome,
        /// What the outcome's own words do not say.
        reason: String,
        /// What was carried.
        counts: Counts,
        /// What a person can do about it.
        remedy: String,
    },
}

impl Step {
    /// The stage that took it.
    #[must_use]
    pub const fn stage(&self) -> &'static str {
        match self {
            Self::Accepted { .. } | Self::Received { .. } => "accept",
            Self::Identified(_) => "identify",
            Self::Asked { .. } | Self::Routed(_) => "route",
            Self::Tried { .. } | Self::Taken(_) => "forward",
            Self::Authorized(_) | Self::Audited(_) | Self::Refused(_) | Self::RequestRefused(_) => "authorize",
            Self::Delivered { .. } => "deliver",
            Self::Ended { .. } => "end",
        }
    }

    /// The step as it is remembered: its text within the limit, and without a certificate.
    fn remembered(mut self) -> Self {
        match &mut self {
            Self::Tried { reason, .. } | Self::Ended { reason, .. } | Self::RequestRefused(reason) => shorten(reason),
            Self::Identified(Caller::Workload { certificate, .. }) => *certificate = None,
            Self::Identified(Caller::Vouched { .. } | Caller::Unknown)
            | Self::Accepted { .. }
            | Self::Received { .. }
            | Self::Asked { .. }
            | Self::Routed(_)
            | Self::Taken(_)
            | Self::Authorized(_)
            | Self::Audited(_)
            | Self::Refused(_)
            | Self::Delivered { .. } => {}
        }
        self
    }
}

fn shorten(text: &mut String) {
    if text.len() > MAX_TEXT {
        *text = format!("{}...", beginning(text, MAX_TEXT));
    }
}

/// The beginning of a text, at most this many bytes.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { client, local, via } => {
                write!(f, "{client} connected to {local}, which routes by {via}")
            }
            Self::Received { peer, client: Some(client) } => write!(f, "cluster {peer} opened a stream for {client}"),
            Self::Received { peer, client: None } => write!(f, "cluster {peer} opened a stream"),
            Self::Identified(caller) => match caller.principal() {
                Some(id) => write!(f, "{id}, assurance {}", caller.assurance()),
                None => f.write_str("nobody knows who calls, assurance none"),
            },
            Self::Asked { service, port } => write!(f, "{service}:{port}"),
            Self::Routed(clusters) => {
                let names: Vec<&str> = clusters.iter().map(ClusterName::as_str).collect();
                write!(f, "can go to {}", names.join(", "))
            }
            Self::Tried { cluster, outcome, reason } => write!(f, "{cluster} did not take it: {outcome}: {reason}"),
            Self::Taken(cluster) => write!(f, "{cluster} took it"),
            Self::Authorized(basis) => write!(f, "passes: {basis}"),
            Self::Audited(rule) => write!(f, "{rule} is on trial, and would refuse it"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}; remedy: {}", refusal.remedy()),
            Self::Delivered { endpoint, mode } => write!(f, "endpoint {endpoint} accepted it, delivered as {mode}"),
            Self::RequestRefused(why) => write!(f, "a request was refused: {why}"),
            Self::Ended { outcome, reason, counts, remedy: _ } => {
                write!(f, "{outcome}, {} bytes sent, {} received", counts.sent, counts.received)?;
                if reason.is_empty() { Ok(()) } else { write!(f, ": {reason}") }
            }
        }
    }
}

/// What happened to one connection.
#[derive(Debug, Clone)]
pub struct Story {
    /// Its trace context: the gateways it crosses know it by the same id.
    pub trace: TraceContext,
    /// When it began.
    pub began: SystemTime,
    /// Each step, and how long after the beginning it was taken.
    pub steps: Vec<(Duration, Step)>,
    /// How many steps there were that are not remembered.
    pub forgotten: u32,
    started: Instant,
}

impl Story {
    /// How it ended, when it did.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self.steps.last() {
            Some((_, Step::Ended { outcome, .. })) => Some(*outcome),
            Some(_) | None => None,
        }
    }

    /// What a person can do about how it ended; empty when nothing went wrong, or as long as it lives.
    #[must_use]
    pub fn remedy(&self) -> &str {
        match self.steps.last() {
            Some((_, Step::Ended { remedy, .. })) => remedy,
            Some(_) | None => "",
        }
    }

    fn add(&mut self, step: Step) {
        if self.steps.len() < MAX_STEPS || matches!(step, Step::Ended { .. }) {
            self.steps.push((self.started.elapsed(), step.remembered()));
        } else {
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }
}

/// The connections that are remembered.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Bounded by `limits.connections`.
    live: DashMap<u64, Arc<Mutex<Story>>>,
    next: AtomicU64,
    ended: Mutex<VecDeque<Arc<Mutex<Story>>>>,
    failed: Mutex<VecDeque<Arc<Mutex<Story>>>>,
}

/// The story of a connection that lives; remembered as it is when dropped.
#[derive(Debug)]
pub struct Telling {
    history: History,
    id: u64,
    story: Arc<Mutex<Story>>,
}

impl History {
    /// Begins the story of a connection.
    #[must_use]
    pub fn begin(&self, trace: TraceContext) -> Telling {
        let (began, started) = (SystemTime::now(), Instant::now());
        let story = Arc::new(Mutex::new(Story { trace, began, started, steps: Vec::new(), forgotten: 0 }));
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.live.insert(id, story.clone());
        Telling { history: self.clone(), id, story }
    }

    /// The connections whose trace id, in 32 hexadecimal digits, begins with `prefix`; at most `limit`, newest first.
    #[must_use]
    pub fn find(&self, prefix: &str, limit: usize) -> Vec<Story> {
        let wanted = prefix.to_ascii_lowercase();
        let meant = |story: &Arc<Mutex<Story>>| {
            let story = locked(story);
            format!("{:032x}", story.trace.trace_id).starts_with(&wanted).then(|| story.clone())
        };
        let mut found: Vec<Story> = self.0.live.iter().filter_map(|entry| meant(entry.value())).collect();
        for ring in [&self.0.ended, &self.0.failed] {
            found.extend(locked(ring).iter().filter_map(meant));
        }
        found.sort_by_key(|story| std::cmp::Reverse(story.began));
        found.truncate(limit);
        found
    }
}

/// Adds steps to the story of a connection, without keeping it among those that live.
#[derive(Debug, Clone)]
pub struct Storyteller(Arc<Mutex<Story>>);

impl Storyteller {
    /// Adds a step.
    pub fn tell(&self, step: Step) {
        locked(&self.0).add(step);
    }
}

impl Telling {
    /// Adds a step.
    pub fn add(&self, step: Step) {
        locked(&self.story).add(step);
    }

    /// For those who tell a part of the story.
    #[must_use]
    pub fn storyteller(&self) -> Storyteller {
        Storyteller(self.story.clone())
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let Inner { live, ended, failed, .. } = &*self.history.0;
        live.remove(&self.id);
        let well = locked(&self.story).outcome().is_some_and(|outcome| outcome.side() == Side::None);
        let (ring, limit) = if well { (ended, MAX_ENDED) } else { (failed, MAX_FAILED) };
        let mut ring = locked(ring);
        if ring.len() == limit {
            ring.pop_front();
        }
        ring.push_back(self.story.clone());
    }
}

/// What is in here is whole whenever the lock is free: nothing in between can panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: Outcome) -> Step {
        Step::Ended { outcome, reason: String::new(), counts: Counts::default(), remedy: outcome.remedy().to_owned() }
    }

    #[test]
    fn a_refused_connection_is_remembered_however_many_end_well() {
        let history = History::default();
        history.begin(TraceContext::from_random(7 << 96, 1)).add(ended(Outcome::Denied));
        for trace in 1..=u128::from(2 * MAX_ENDED as u64) {
            history.begin(TraceContext::from_random(trace, 1)).add(ended(Outcome::Completed));
        }
        let found = history.find("00000007", 10);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].outcome(), Some(Outcome::Denied));
        assert_eq!(history.find("", 10 * MAX_ENDED).len(), MAX_ENDED + 1);
    }

    #[test]
    fn what_a_client_chooses_takes_no_more_than_its_limit_of_a_story() {
        let telling = History::default().begin(TraceContext::from_random(1, 1));
        let long = "é".repeat(MAX_TEXT);
        telling.add(Step::RequestRefused(long.clone()));
        telling.add(Step::Tried { cluster: "west".parse().unwrap(), outcome: Outcome::Denied, reason: long.clone() });
        let counts = Counts::default();
        telling.add(Step::Ended { outcome: Outcome::Denied, reason: long, counts, remedy: String::new() });
        let story = locked(&telling.story).clone();
        for (_, step) in story.steps {
            assert!(step.to_string().len() < MAX_TEXT + 100, "{step}");
        }
    }

    #[test]
    fn a_connection_that_lives_is_told_of_and_its_steps_are_bounded_but_for_the_last() {
        let history = History::default();
        let telling = history.begin(TraceContext::from_random(0xab << 120, 1));
        for _ in 0..2 * MAX_STEPS {
            telling.add(Step::RequestRefused("GET /".to_owned()));
        }
        let living = history.find("AB", 10);
        assert_eq!((living.len(), living[0].outcome()), (1, None));
        telling.add(ended(Outcome::Completed));
        drop(telling);
        let story = &history.find("ab", 10)[0];
        assert_eq!(story.outcome(), Some(Outcome::Completed));
        assert_eq!((story.steps.len(), story.forgotten), (MAX_STEPS + 1, MAX_STEPS as u32));
    }
}
