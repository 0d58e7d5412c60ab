//! One outcome for every connection: the access log line and the metrics derive from it.
//!
//! Owns what is remembered of a connection while it lives. A record that is dropped without an outcome records itself as
//! aborted, so that no connection vanishes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use federation_model::{
    addr::Port,
    caller::{Assurance, Caller},
    names::{ClusterName, ServiceKey},
    outcome::Outcome,
    trace::TraceContext,
};
use gateway_core::policy::Ruling;
use gateway_http::Exchange;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

use crate::{
    history::{History, Step, Storyteller, Telling},
    splice::Counts,
};

/// The target of access log lines.
pub(crate) const ACCESS: &str = "landbridge::access";

/// Which way a connection crosses this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Direction {
    /// From an application here to another cluster, or not yet known.
    Outbound,
    /// From another cluster to an endpoint here.
    Inbound,
    /// From an application here to an endpoint here.
    Local,
}

impl Direction {
    const fn label(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Local => "local",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    direction: Direction,
    peer: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FlowLabels {
    direction: Direction,
    peer: String,
    flow: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: Direction,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    outcome: &'static str,
    /// The class of the status: `2xx`; `none` when the client was not answered.
    status: &'static str,
}

#[derive(Debug)]
struct Metrics {
    ended: Family<EndLabels, Counter>,
    bytes: Family<FlowLabels, Counter>,
    open: Gauge,
    setup: Family<DirectionLabels, Histogram>,
    retries: Counter,
    requests: Family<RequestLabels, Counter>,
    /// Whether what is dropped from now on is dropped because the gateway stops.
    shut_down: AtomicBool,
}

/// Makes records, and owns the metrics they feed.
#[derive(Debug, Clone)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    cluster: ClusterName,
    history: History,
}

impl Recorder {
    /// A recorder whose metrics are in `registry`.
    pub fn new(cluster: ClusterName, registry: &mut Registry) -> Self {
        let metrics = Metrics {
            ended: Family::default(),
            bytes: Family::default(),
            open: Gauge::default(),
            // 0.25 ms to 8 s: a local connect takes the first bucket, a failed-over one the last.
            setup: Family::new_with_constructor(|| {
                Histogram::new((0..16).map(|n| 0.000_25 * f64::from(1_u32 << n)).collect::<Vec<_>>())
            }),
            retries: Counter::default(),
            requests: Family::default(),
            shut_down: AtomicBool::new(false),
        };
        registry.register("connections", "Connections that ended, by outcome", metrics.ended.clone());
        registry.register("connection_bytes", "Application bytes carried", metrics.bytes.clone());
        registry.register("connections_open", "Connections that live", metrics.open.clone());
        registry.register("connection_setup_seconds", "From accept to connected", metrics.setup.clone());
        registry.register("requests", "HTTP requests that ended, by outcome and status", metrics.requests.clone());
        registry.register("connection_retries", "Connects tried on another endpoint", metrics.retries.clone());
        Self { metrics: Arc::new(metrics), cluster, history: History::default() }
    }

    /// Begins the record of a connection.
    #[must_use]
    pub fn begin(&self, direction: Direction, client: Option<SocketAddr>, trace: TraceContext) -> Record {
        self.metrics.open.inc();
        Record {
            metrics: self.metrics.clone(),
            cluster: self.cluster.clone(),
            direction,
            client,
            trace,
            started: Instant::now(),
            caller: Caller::Unknown,
            target: None,
            peer: None,
            ruling: None,
            telling: self.history.begin(trace),
            ended: false,
        }
    }

    /// Records one request of a connection that is delivered as HTTP: its line in the access log, and the metrics.
    pub fn request(&self, exchange: &Exchange, from: (&Caller, &ClusterName), to: (&ServiceKey, Port)) {
        let status = exchange.status.map_or(0, |status| status.as_u16());
        let labels = RequestLabels { outcome: exchange.outcome.label(), status: class(status) };
        self.metrics.requests.get_or_create(&labels).inc();
        let ((caller, source), (service, port)) = (from, to);
        tracing::info!(
            target: ACCESS,
            direction = "request",
            outcome = exchange.outcome.label(),
            method = exchange.method.as_str(),
            path = exchange.path(),
            status,
            service = %service,
            port = %port,
            source_cluster = %source,
            destination_cluster = %self.cluster,
            principal = caller.principal().map_or_else(|| "-".to_owned(), ToString::to_string),
            assurance = caller.assurance().label(),
            sent = exchange.sent,
            received = exchange.received,
            duration_ms = u64::try_from(exchange.took.as_millis()).unwrap_or(u64::MAX),
            trace_id = format!("{:032x}", exchange.trace.trace_id),
            rule = exchange.rule.as_ref().map_or("-", |ruling| ruling.rule.as_str()),
            remedy = exchange.rule.as_ref().map_or_else(|| exchange.outcome.remedy(), |ruling| ruling.remedy.as_str()),
        );
    }

    /// What happened to recent connections.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The gateway stops: connections that are dropped from now on were not lost by a defect.
    pub fn shut_down(&self) {
        self.metrics.shut_down.store(true, Ordering::Relaxed);
    }

    /// How many connections live.
    #[must_use]
    pub fn open(&self) -> u32 {
        u32::try_from(self.metrics.open.get()).unwrap_or(0)
    }
}

const fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "none",
    }
}

/// What is remembered of one connection while it lives.
#[derive(Debug)]
pub struct Record {
    metrics: Arc<Metrics>,
    cluster: ClusterName,
    direction: Direction,
    client: Option<SocketAddr>,
    trace: TraceContext,
    started: Instant,
    caller: Caller,
    target: Option<(ServiceKey, Port)>,
    peer: Option<ClusterName>,
    /// What the policies refuse of it.
    ruling: Option<Ruling>,
    telling: Telling,
    ended: bool,
}

impl Record {
    /// The trace context of the connection.
    #[must_use]
    pub fn trace(&self) -> TraceContext {
        self.trace
    }

    /// Adds a step to the story of the connection.
    pub fn tell(&self, step: Step) {
        self.telling.add(step);
    }

    /// For those who tell a part of the story of the connection.
    #[must_use]
    pub fn storyteller(&self) -> Storyteller {
        self.telling.storyteller()
    }

    /// Remembers who is calling.
    pub fn called_by(&mut self, caller: Caller) {
        self.tell(Step::Identified(caller.clone()));
        self.caller = caller;
    }

    /// Remembers what is called.
    pub fn calls(&mut self, service: ServiceKey, port: Port) {
        self.tell(Step::Asked { service: service.clone(), port });
        self.target = Some((service, port));
    }

    /// What refuses the connection, when something does.
    #[must_use]
    pub fn ruling(&self) -> Option<&Ruling> {
        self.ruling.as_ref()
    }

    /// Remembers what refuses the connection.
    pub fn refused_by(&mut self, ruling: Ruling) {
        self.ruling = Some(ruling);
    }

    /// The connection comes from another cluster.
    pub fn comes_from(&mut self, peer: ClusterName) {
        self.direction = Direction::Inbound;
        self.peer = Some(peer);
    }

    /// The connection goes to another cluster, for all that it may have been tried here before.
    pub fn goes_to(&mut self, peer: ClusterName) {
        self.direction = Direction::Outbound;
        self.peer = Some(peer);
    }

    /// The connection stays in this cluster.
    pub fn stays_local(&mut self) {
        self.direction = Direction::Local;
        self.peer = None;
    }

    /// A cluster did not take it.
    pub fn tried(&self, cluster: &ClusterName, outcome: Outcome, reason: &str) {
        let reason = match &self.ruling {
            Some(ruling) => format!("{reason}: {}; remedy: {}", ruling.rule, ruling.remedy),
            None => reason.to_owned(),
        };
        self.tell(Step::Tried { cluster: cluster.clone(), outcome, reason });
    }

    /// Counts a connect that is tried again elsewhere.
    pub fn retried(&self) {
        self.metrics.retries.inc();
    }

    /// The destination has accepted.
    pub fn connected(&self) {
        let labels = DirectionLabels { direction: self.direction };
        self.metrics.setup.get_or_create(&labels).observe(self.started.elapsed().as_secs_f64());
    }

    /// Ends the record; `reason` adds what the outcome's own words do not say.
    pub fn end(mut self, outcome: Outcome, counts: Counts, reason: &str) {
        self.write(outcome, counts, reason);
    }

    fn write(&mut self, outcome: Outcome, counts: Counts, reason: &str) {
        self.ended = true;
        self.count(outcome, counts);
        // Requests of a connection may have passed after all, when the policies changed.
        let ruling = self.ruling.as_ref().filter(|_| outcome == Outcome::Denied);
        let remedy = ruling.map_or_else(|| outcome.remedy(), |ruling| ruling.remedy.as_str());
        self.tell(Step::Ended { outcome, reason: reason.to_owned(), counts, remedy: remedy.to_owned() });
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let peer = text(self.peer.as_ref().map(ToString::to_string));
        let (source, destination) = match self.direction {
            Direction::Inbound => (peer, self.cluster.to_string()),
            Direction::Outbound => (self.cluster.to_string(), peer),
            Direction::Local => (self.cluster.to_string(), self.cluster.to_string()),
        };
        tracing::info!(
            target: ACCESS,
            direction = self.direction.label(),
            outcome = outcome.label(),
            service = text(self.target.as_ref().map(|(service, _)| service.to_string())),
            port = text(self.target.as_ref().map(|(_, port)| port.to_string())),
            source_cluster = source,
            destination_cluster = destination,
            principal = text(self.caller.principal().map(ToString::to_string)),
            assurance = self.assurance().label(),
            client = text(self.client.map(|c| c.to_string())),
            sent = counts.sent,
            received = counts.received,
            duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            trace_id = format!("{:032x}", self.trace.trace_id),
            rule = ruling.map_or("-", |ruling| ruling.rule.as_str()),
            reason,
            remedy,
        );
    }

    fn assurance(&self) -> Assurance {
        self.caller.assurance()
    }

    fn count(&self, outcome: Outcome, counts: Counts) {
        let peer = self.peer.as_ref().map(ToString::to_string).unwrap_or_default();
        let direction = self.direction;
        let end = EndLabels { direction, peer: peer.clone(), outcome: outcome.label() };
        self.metrics.ended.get_or_create(&end).inc();
        for (flow, bytes) in [("sent", counts.sent), ("received", counts.received)] {
            let labels = FlowLabels { direction, peer: peer.clone(), flow };
            self.metrics.bytes.get_or_create(&labels).inc_by(bytes);
        }
        self.metrics.open.dec();
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            let stopping = self.metrics.shut_down.load(Ordering::Relaxed);
            let outcome = if stopping { Outcome::Draining } else { Outcome::Aborted };
            self.write(outcome, Counts::default(), "the connection was dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn recorder() -> (Recorder, Registry) {
        let mut registry = Registry::default();
        (Recorder::new("east".parse().unwrap(), &mut registry), registry)
    }

    fn exposition(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    fn begin(recorder: &Recorder) -> Record {
        recorder.begin(Direction::Outbound, None, TraceContext::from_random(1, 1))
    }

    #[test]
    fn a_connection_that_was_tried_here_first_is_recorded_where_it_went() {
        let (recorder, registry) = recorder();
        let mut record = begin(&recorder);
        record.stays_local();
        record.goes_to("west".parse().unwrap());
        record.end(Outcome::Completed, Counts::default(), "");
        let shown = exposition(&registry);
        assert!(shown.contains(r#"{direction="Outbound",peer="west",outcome="completed"} 1"#), "{shown}");
    }

    #[test]
    fn a_record_that_is_dropped_is_a_defect_unless_the_gateway_stops() {
        let (recorder, registry) = recorder();
        let (first, second) = (begin(&recorder), begin(&recorder));
        drop(first);
        recorder.shut_down();
        drop(second);
        let shown = exposition(&registry);
        for outcome in ["aborted", "draining"] {
            assert!(shown.contains(&format!("outcome=\"{outcome}\"}} 1")), "{outcome}: {shown}");
        }
        assert_eq!(recorder.open(), 0);
    }
}
