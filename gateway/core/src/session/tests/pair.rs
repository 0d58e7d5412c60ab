//! Two sessions against each other on virtual time, through the frame codec.
//!
//! The stream between them is reliable and ordered, as QUIC's are: it can be slow and it can stall, it cannot lose.

use std::collections::{BTreeMap, VecDeque};

use federation_model::{
    addr::{Port, Transport},
    catalog::{EndpointCounts, ExportedService, ServiceKind, ServicePort, SessionAffinity},
    time::Timestamp,
};

use super::*;
use crate::control::{self, Decoder};

/// The wall clock of the first side when a test begins.
pub(super) const EPOCH_MILLIS: u64 = 1_700_000_000_000;
/// How many frames a stalled stream takes before its sender cannot write any more.
const STALLED_WINDOW: usize = 4;
/// More turns than any scenario takes.
const MAX_TURNS: usize = 100_000;

pub(super) type Tamper = fn(&mut Message);

/// One end, and the stream that leaves it.
pub(super) struct End {
    pub(super) session: Session,
    pub(super) events: Vec<SessionEvent>,
    pub(super) ended: Option<SessionError>,
    /// Everything that left this end, in order.
    pub(super) sent: Vec<Message>,
    pub(super) stalled: bool,
    pub(super) tamper: Option<Tamper>,
    pub(super) clock_ahead_millis: i64,
    decoder: Decoder,
    on_the_way: VecDeque<(Instant, bytes::Bytes)>,
}

impl End {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session,
            events: Vec::new(),
            ended: None,
            sent: Vec::new(),
            stalled: false,
            tamper: None,
            clock_ahead_millis: 0,
            decoder: Decoder::new(),
            on_the_way: VecDeque::new(),
        }
    }

    /// The catalog of the peer this end has been told last.
    pub(super) fn known(&self) -> Option<&Arc<Catalog>> {
        self.events.iter().rev().find_map(
            |event| {
                if let SessionEvent::Catalog(catalog) = event { Some(catalog) } else { None }
            },
        )
    }

    pub(super) fn acknowledged(&self) -> Vec<CatalogDigest> {
        let digest =
            |event: &SessionEvent| if let SessionEvent::Acknowledged(digest) = event { Some(*digest) } else { None };
        self.events.iter().filter_map(digest).collect()
    }

    pub(super) fn sent_count(&self, kind: fn(&Message) -> bool) -> usize {
        self.sent.iter().filter(|message| kind(message)).count()
    }

    fn wall(&self, since_start: Duration) -> u64 {
        (EPOCH_MILLIS + since_start.as_millis() as u64).checked_add_signed(self.clock_ahead_millis).unwrap()
    }

    /// Sends what the session wants to send, as far as the stream takes it.
    fn transmit(&mut self, arrival: Instant) {
        while !self.stalled || self.on_the_way.len() < STALLED_WINDOW {
            let Some(ControlMessage { message }) = self.session.poll_transmit() else { return };
            let mut message = message.unwrap();
            if let Some(tamper) = self.tamper {
                tamper(&mut message);
            }
            self.sent.push(message.clone());
            let frame = control::encode(&ControlMessage { message: Some(message) }).unwrap();
            self.on_the_way.push_back((arrival, frame));
        }
    }

    fn receive(&mut self, frame: &[u8], now: Instant, wall: u64) {
        self.decoder.feed(frame);
        while let Some(message) = self.decoder.poll().unwrap() {
            if self.ended.is_none() {
                self.ended = self.session.handle_message(message, now, wall).err();
            }
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.events.push(event);
        }
    }
}

/// Both ends.
pub(super) struct Pair {
    pub(super) now: Instant,
    start: Instant,
    pub(super) latency: Duration,
    pub(super) east: End,
    pub(super) west: End,
}

pub(super) fn clock() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time; nothing waits for it")]
    Instant::now()
}

pub(super) fn config(cluster: &str) -> SessionConfig {
    SessionConfig::new(cluster.parse().unwrap(), format!("{cluster}-1"), "landbridge/0.1.0".to_owned())
}

/// A session that holds nothing of its peer.
pub(super) fn session(own: &str, peer: &str, local: &Arc<Catalog>, now: Instant) -> Session {
    let catalogs = Catalogs { held: None, local: local.clone() };
    Session::new(config(own), peer.parse().unwrap(), catalogs, now, EPOCH_MILLIS)
}

impl Pair {
    /// Two sessions that hold nothing of each other, with one catalog each.
    pub(super) fn new(east: &Arc<Catalog>, west: &Arc<Catalog>) -> Self {
        let now = clock();
        Self::of(session("east", "west", east, now), session("west", "east", west, now), now)
    }

    pub(super) fn of(east: Session, west: Session, now: Instant) -> Self {
        let latency = Duration::from_millis(20);
        Self { now, start: now, latency, east: End::new(east), west: End::new(west) }
    }

    /// Drives both ends until `duration` has passed.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..MAX_TURNS {
            self.turn();
            let next = self.next_instant();
            assert!(next > self.now, "an end wants to be woken at once, again and again");
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
        }
        panic!("the scenario does not end");
    }

    pub(super) fn run_millis(&mut self, millis: u64) {
        self.run(Duration::from_millis(millis));
    }

    /// Everything that is due now.
    fn turn(&mut self) {
        let (now, arrival) = (self.now, self.now + self.latency);
        let since_start = now - self.start;
        let (east_wall, west_wall) = (self.east.wall(since_start), self.west.wall(since_start));
        for frame in due(&mut self.east, now) {
            self.west.receive(&frame, now, west_wall);
        }
        for frame in due(&mut self.west, now) {
            self.east.receive(&frame, now, east_wall);
        }
        for (end, wall) in [(&mut self.east, east_wall), (&mut self.west, west_wall)] {
            if end.ended.is_none() {
                end.ended = end.session.handle_timeout(now, wall).err();
            }
            end.take_events();
            if end.ended.is_none() {
                end.transmit(arrival);
            }
        }
    }

    fn next_instant(&self) -> Instant {
        let far = self.now + Duration::from_secs(3600);
        let of = |end: &End| {
            let timer = end.session.poll_timeout().filter(|_| end.ended.is_none()).map_or(far, |(at, _)| at);
            let frame = end.on_the_way.front().filter(|_| !end.stalled).map_or(far, |(at, _)| *at);
            timer.min(frame)
        };
        of(&self.east).min(of(&self.west))
    }
}

fn due(end: &mut End, now: Instant) -> Vec<bytes::Bytes> {
    let mut frames = Vec::new();
    while !end.stalled && end.on_the_way.front().is_some_and(|(at, _)| *at <= now) {
        frames.extend(end.on_the_way.pop_front().map(|(_, frame)| frame));
    }
    frames
}

pub(super) fn service(port: u16) -> ExportedService {
    ExportedService {
        exported_at: Timestamp(1),
        kind: ServiceKind::ClusterSetIp,
        ports: vec![ServicePort {
            name: None,
            transport: Transport::Tcp,
            port: Port::new(port).unwrap(),
            app_protocol: None,
        }],
        health: EndpointCounts { ready: 1, terminating: 0 },
        session_affinity: SessionAffinity::None,
        priority: 0,
        weight: 100,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

/// A catalog of services by name and port.
pub(super) fn catalog(cluster: &str, services: &[(&str, u16)]) -> Arc<Catalog> {
    let services = services.iter().map(|(name, port)| (format!("ns/{name}").parse().unwrap(), service(*port)));
    Arc::new(Catalog { cluster: cluster.parse().unwrap(), services: services.collect() })
}
