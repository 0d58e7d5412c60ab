//! The conversation on the control stream of one tunnel; both ends run the same machine.
//!
//! Owns the greeting, the exchange of catalogs, the lease and the measurement of round trip and clock skew. Never reads the
//! stream, never decides what to do with a lost peer, never closes the tunnel: the shell closes it with
//! [`SessionError::close_reason`].
//!
//! ```text
//! hello ──► hello          versions agree, the name is the authenticated one
//! snapshot ──► ack         or "unchanged" when the digest in the hello matches
//! delta ──► ack            one in flight; what changes meanwhile goes into the next
//! ping ──► pong            anything heard renews the lease
//! held bundle              what the peer believes of this cluster
//! credential ──► ack       a newer certificate for the same tunnel
//! import report            which of the receiver's exports the sender imports; changes alone, in order
//! ```

mod credentials;
mod error;
mod event;
mod exchange;
mod greeting;
mod liveness;
mod reports;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use federation_model::{catalog::Catalog, names::ClusterName, report::ImportReport};
use proto::tunnel::v1::{ControlMessage, Drain, control_message::Message};

pub use credentials::{CredentialProof, Held, Judgement};
pub use error::{CloseReason, SessionError};
pub use event::{SKEW_STEP_MILLIS, SessionEvent};
pub use exchange::MAX_DELTA_BYTES;
pub use greeting::{PROTOCOL, VersionRange};
pub use reports::MAX_REPORTED;

use credentials::Credentials;
use event::Events;
use exchange::{Incoming, Outgoing, Received};
use greeting::Greeting;
use liveness::{Liveness, Tick, clock_skew};
use reports::Reports;

/// The longest text a peer may say about itself, in bytes.
pub const MAX_TEXT: usize = 256;

/// What one side of a session needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// This cluster.
    pub cluster: ClusterName,
    /// Random for each run of this gateway.
    pub instance: String,
    /// Name and version of this program.
    pub software: String,
    /// The protocol versions this side speaks.
    pub versions: VersionRange,
    /// How often the peer is pinged.
    pub ping_interval: Duration,
    /// How long the peer may say nothing before its services are no longer trusted to be there.
    pub lease: Duration,
    /// How long the peer may say nothing before the session ends, so that it is dialled anew.
    pub give_up: Duration,
    /// How long the peer may take to say hello.
    pub hello_timeout: Duration,
}

impl SessionConfig {
    /// The defaults: a ping every 500 ms, a lease of 2 s, 30 s until giving up, 5 s for the hello.
    #[must_use]
    pub fn new(cluster: ClusterName, instance: String, software: String) -> Self {
        Self {
            cluster,
            instance,
            software,
            versions: PROTOCOL,
            ping_interval: Duration::from_millis(500),
            lease: Duration::from_secs(2),
            give_up: Duration::from_secs(30),
            hello_timeout: Duration::from_secs(5),
        }
    }
}

/// The catalogs a session starts with.
#[derive(Debug, Clone)]
pub struct Catalogs {
    /// What is known of the peer's exports from an earlier session.
    pub held: Option<Arc<Catalog>>,
    /// What this cluster exports.
    pub local: Arc<Catalog>,
}

/// One control stream of one established tunnel.
///
/// After every call the owner polls messages and events until there are none; unpolled ones of one kind replace each other,
/// so that neither queue grows when the stream is stalled.
#[derive(Debug)]
pub struct Session {
    peer: ClusterName,
    greeting: Greeting,
    outgoing: Outgoing,
    incoming: Incoming,
    liveness: Liveness,
    credentials: Credentials,
    reports: Reports,
    drain: Option<Drain>,
    events: Events,
}

impl Session {
    /// A session with the authenticated cluster `peer`.
    #[must_use]
    pub fn new(config: SessionConfig, peer: ClusterName, catalogs: Catalogs, now: Instant, wall_millis: u64) -> Self {
        let liveness = Liveness::new(&config, now);
        let incoming = Incoming::new(peer.clone(), catalogs.held);
        Self {
            greeting: Greeting::new(config, incoming.held_digest(), now, wall_millis),
            outgoing: Outgoing::new(catalogs.local),
            incoming,
            liveness,
            credentials: Credentials::new(now),
            reports: Reports::default(),
            drain: None,
            events: Events::default(),
            peer,
        }
    }

    /// A message of the peer arrived.
    ///
    /// # Errors
    /// When the peer breaks the protocol; the session is over.
    pub fn handle_message(
        &mut self,
        message: ControlMessage,
        now: Instant,
        wall_millis: u64,
    ) -> Result<(), SessionError> {
        if self.liveness.handle_heard(now) {
            self.events.tell(SessionEvent::LeaseRestored);
        }
        match (message.message, self.greeting.is_done()) {
            (Some(Message::Hello(hello)), false) => {
                let skew = clock_skew(hello.unix_millis, wall_millis.into());
                let greeted = self.greeting.handle_hello(hello, &self.peer)?;
                self.events.tell(greeted.up);
                self.events.tell_skew(skew);
                self.outgoing.handle_greeted(greeted.held_digest);
                self.liveness.handle_greeted(now);
                Ok(())
            }
            (Some(_) | None, false) => Err(SessionError::NoHelloFirst),
            (Some(Message::Hello(_)), true) => Err(SessionError::SecondHello),
            // A message of a later version.
            (None, true) => Ok(()),
            (Some(message), true) => self.handle_established(message, now, wall_millis),
        }
    }

    fn handle_established(&mut self, message: Message, now: Instant, wall_millis: u64) -> Result<(), SessionError> {
        match message {
            Message::Hello(_) => return Err(SessionError::SecondHello),
            Message::Snapshot(snapshot) => {
                let received = self.incoming.handle_snapshot(snapshot)?;
                self.tell_received(received);
            }
            Message::Delta(delta) => {
                let received = self.incoming.handle_delta(delta)?;
                self.tell_received(received);
            }
            Message::Ack(ack) => {
                if let Some(digest) = self.outgoing.handle_ack(ack)? {
                    self.events.tell(SessionEvent::Acknowledged(digest));
                }
            }
            Message::SnapshotRequest(request) => {
                tracing::debug!(peer = %self.peer, reason = %shown(&request.reason), "the peer asks for a snapshot");
                self.outgoing.handle_snapshot_request()?;
            }
            Message::Ping(ping) => self.liveness.handle_ping(ping, wall_millis),
            Message::Pong(pong) => {
                if let Some(measured) = self.liveness.handle_pong(pong, now, wall_millis) {
                    self.events.tell(SessionEvent::Rtt(measured.rtt));
                    self.events.tell_skew(measured.skew);
                }
            }
            Message::Drain(drain) => self.events.tell(SessionEvent::PeerDraining { reason: shown(&drain.reason) }),
            Message::HeldBundle(held) => self.events.tell(credentials::handle_held(&held)?),
            Message::Credential(credential) => {
                let event = self.credentials.handle_credential(credential, now)?;
                self.events.tell(event);
            }
            Message::CredentialAck(ack) => self.events.tell(credentials::handle_judgement(&ack)?),
            Message::ImportReport(report) => {
                let event = self.reports.handle_report(report)?;
                self.events.tell(event);
            }
        }
        Ok(())
    }

    /// What this cluster exports changed.
    pub fn handle_local_catalog(&mut self, catalog: Arc<Catalog>) {
        self.outgoing.handle_local(catalog);
    }

    /// What this cluster imports of the peer's exports changed.
    pub fn handle_local_report(&mut self, report: Arc<ImportReport>) {
        self.reports.handle_local(report);
    }

    /// This side believes this version of the peer's trust bundle.
    pub fn handle_held(&mut self, held: Held) {
        self.credentials.tell_held(held);
    }

    /// This side wants the tunnel to be judged by a newer certificate.
    pub fn handle_credential(&mut self, credential: CredentialProof) {
        self.credentials.tell_credential(credential);
    }

    /// What became of the peer's credential.
    pub fn handle_judgement(&mut self, judgement: Judgement) {
        self.credentials.tell_judgement(judgement);
    }

    /// This gateway stops: the peer is told to open no new streams.
    pub fn handle_drain(&mut self, reason: &str) {
        self.drain = Some(Drain { reason: shown(reason) });
    }

    /// Time has passed; called when [`Session::poll_timeout`] says, and harmless at any other time.
    ///
    /// # Errors
    /// When the peer was silent for too long; the session is over.
    pub fn handle_timeout(&mut self, now: Instant, wall_millis: u64) -> Result<(), SessionError> {
        self.greeting.handle_timeout(now)?;
        if !self.greeting.is_done() {
            return Ok(());
        }
        match self.liveness.handle_timeout(now, wall_millis)? {
            Tick::Nothing => {}
            Tick::LeaseExpired => self.events.tell(SessionEvent::LeaseExpired),
        }
        Ok(())
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<ControlMessage> {
        let message = if let Some(hello) = self.greeting.poll_transmit() {
            Message::Hello(hello)
        } else if !self.greeting.is_done() {
            return None;
        } else {
            self.next_established()?
        };
        Some(ControlMessage { message: Some(message) })
    }

    /// What keeps the lease comes first, what is large comes last.
    fn next_established(&mut self) -> Option<Message> {
        None.or_else(|| self.liveness.poll_pong().map(Message::Pong))
            .or_else(|| self.liveness.poll_ping().map(Message::Ping))
            .or_else(|| self.drain.take().map(Message::Drain))
            .or_else(|| self.credentials.poll_transmit())
            .or_else(|| self.incoming.poll_ack().map(Message::Ack))
            .or_else(|| self.incoming.poll_request().map(Message::SnapshotRequest))
            .or_else(|| self.outgoing.poll_transmit())
            .or_else(|| self.reports.poll_transmit().map(Message::ImportReport))
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.poll()
    }

    /// When [`Session::handle_timeout`] has something to do, and what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.greeting.is_done() { Some(self.liveness.poll_timeout()) } else { Some(self.greeting.poll_timeout()) }
    }

    /// Whether the greeting is done.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.greeting.is_done()
    }

    fn tell_received(&mut self, received: Received) {
        match received {
            Received::Nothing => {}
            Received::Unchanged => self.events.tell(SessionEvent::Unchanged),
            Received::Catalog(catalog) => self.events.tell(SessionEvent::Catalog(catalog)),
        }
    }
}

/// Text of a peer for people: no control characters, at most [`MAX_TEXT`] bytes.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if shown.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        shown.push(c);
    }
    shown
}

#[cfg(test)]
mod tests;
