//! The task of one tunnel: its control stream, and the headers of the streams its peer opens.
//!
//! Owns the control stream and drives [`Session`] over it. Application bytes never pass through here. Never dials again:
//! the driver does, when this task ends.

use std::{pin::pin, sync::Arc, time::SystemTime};

use bytes::{Buf, Bytes};
use federation_model::{
    catalog::Catalog, edition::Editions, names::ClusterName, outcome::Outcome, report::ImportReports, time::Timestamp,
};
use futures::{StreamExt, stream::FuturesUnordered};
use gateway_core::{
    control::{self, ControlError, Decoder},
    session::{
        Catalogs, CloseReason, CredentialProof, Held, Judgement, Session, SessionConfig, SessionError, SessionEvent,
    },
};
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, WriteError};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::{Instant, sleep_until, timeout},
};

use crate::{
    closing::{Close, explain},
    config::{CONTROL_LIMIT, MAX_HEADERS, READ_SIZE, TunnelConfig},
    credential::{self, Credential},
    endpoint::Credentials,
    identify::{self, Members},
    inbound::read_head,
    shared::{Phase, Shared},
    stream::InboundStream,
    tunnel::{Facts, Origin, Tunnel},
};

/// What a tunnel tells the driver.
#[derive(Debug)]
pub(crate) enum Note {
    /// The greeting is done.
    Up(Arc<Tunnel>),
    /// It may be usable no more, or again.
    Changed(Arc<Tunnel>),
    /// The peer's exports.
    Catalog(ClusterName, Arc<Catalog>),
}

/// What every peer is told of this cluster.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// What it exports.
    pub(crate) catalog: watch::Receiver<Editions>,
    /// What it imports of them.
    pub(crate) reports: watch::Receiver<Arc<ImportReports>>,
}

/// What the task of a tunnel needs.
pub(crate) struct Carrying {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tunnel: Arc<Tunnel>,
    /// What is known of the peer's exports from before.
    pub(crate) held: Option<Arc<Catalog>>,
    pub(crate) told: Told,
    /// Who this side is, and whom it believes.
    pub(crate) credentials: Credentials,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) notes: mpsc::Sender<Note>,
    pub(crate) inbound: mpsc::Sender<InboundStream>,
}

/// Why the loop ends.
#[derive(Debug)]
enum End {
    /// The connection is gone.
    Lost(ConnectionError),
    /// This side ends it.
    Close(Close),
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        Self::Close(Close::new(error.close_reason(), error.to_string()))
    }
}

impl From<ControlError> for End {
    fn from(error: ControlError) -> Self {
        Self::Close(Close::new(CloseReason::ProtocolViolation, error.to_string()))
    }
}

impl From<WriteError> for End {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => Self::Lost(error),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => control_ended(),
        }
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => Self::Lost(error),
            ReadError::Reset(_)
            | ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => control_ended(),
        }
    }
}

fn control_ended() -> End {
    End::Close(Close::new(CloseReason::ProtocolViolation, "the control stream ended while the tunnel lived"))
}

/// What happened next.
enum Step {
    Lost(ConnectionError),
    Phase,
    Sent(Result<usize, WriteError>),
    Heard(Result<Option<Bytes>, ReadError>),
    Time,
    LocalCatalog,
    LocalReport,
    Renewed,
    Members,
    Head(Option<Box<InboundStream>>),
    Opened(Result<(SendStream, RecvStream), ConnectionError>),
}

impl Carrying {
    /// Runs the tunnel to its end; why it ended, in words.
    pub(crate) async fn run(self) -> String {
        let tunnel = Arc::clone(&self.tunnel);
        let end = match self.control_stream().await {
            Ok((send, recv)) => Conversation::new(self, send).run(recv).await,
            Err(end) => end,
        };
        match end {
            End::Lost(error) => explain(&error),
            End::Close(close) => {
                tunnel.close(&close);
                format!("closed here ({}): {}", close.reason, close.text)
            }
        }
    }

    /// The dialler opens the first stream, and it is the control stream.
    async fn control_stream(&self) -> Result<(SendStream, RecvStream), End> {
        let connection = &self.tunnel.connection;
        let stream = async {
            match self.tunnel.origin {
                Origin::Dialled(_) => connection.open_bi().await,
                Origin::Accepted => connection.accept_bi().await,
            }
        };
        match timeout(CONTROL_LIMIT, stream).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(End::Lost(error)),
            Err(_elapsed) => {
                let text = format!("no control stream within {CONTROL_LIMIT:?}");
                Err(End::Close(Close::new(CloseReason::Silent, text)))
            }
        }
    }
}

/// The conversation on the control stream.
struct Conversation {
    carrying: Carrying,
    connection: Connection,
    session: Session,
    /// What the peer is told, or is to be told.
    local: Arc<Catalog>,
    send: SendStream,
    /// What is left of the message under way. The next one is made when it is gone, so nothing piles up here.
    out: Bytes,
    decoder: Decoder,
    members: watch::Receiver<Members>,
    /// What the peer was told last of its own bundle.
    told: Option<Held>,
}

impl Conversation {
    fn new(mut carrying: Carrying, send: SendStream) -> Self {
        // Before all application streams: a full tunnel must not cost the peer its lease.
        let _ = send.set_priority(1);
        let peer = carrying.tunnel.peer.cluster.clone();
        let local = Arc::clone(carrying.told.catalog.borrow_and_update().of(&peer));
        let catalogs = Catalogs { held: carrying.held.clone(), local: Arc::clone(&local) };
        let config = session_config(&carrying.shared.config);
        let mut session = Session::new(config, peer, catalogs, now(), wall_millis());
        if let Phase::Draining(reason) = &*carrying.phase.borrow_and_update() {
            session.handle_drain(reason);
        }
        let connection = carrying.tunnel.connection.clone();
        let members = carrying.shared.members.clone();
        let (out, decoder) = (Bytes::new(), Decoder::new());
        let mut conversation = Self { carrying, connection, session, local, send, out, decoder, members, told: None };
        // Even the certificate of the handshake: what the peer answers tells by which one it judges this side.
        conversation.offer_credential();
        conversation.tell_held();
        conversation.follow_reports();
        conversation
    }

    async fn run(mut self, mut recv: RecvStream) -> End {
        let connection = self.connection.clone();
        let mut lost = pin!(connection.closed());
        let mut heads = FuturesUnordered::new();
        loop {
            self.tell().await;
            if let Err(end) = self.fill() {
                return end;
            }
            let wake = self.session.poll_timeout().map_or_else(|| now() + CONTROL_LIMIT, |(due, _why)| due);
            let room = self.session.is_up() && heads.len() < MAX_HEADERS;
            let step = tokio::select! {
                biased;
                error = &mut lost => Step::Lost(error),
                Ok(()) = self.carrying.phase.changed() => Step::Phase,
                result = self.send.write(&self.out), if !self.out.is_empty() => Step::Sent(result),
                result = recv.read_chunk(READ_SIZE, true) => Step::Heard(result.map(|c| c.map(|c| c.bytes))),
                () = sleep_until(Instant::from_std(wake)) => Step::Time,
                Ok(()) = self.carrying.told.catalog.changed() => Step::LocalCatalog,
                Ok(()) = self.carrying.told.reports.changed() => Step::LocalReport,
                Ok(()) = self.carrying.credentials.renewed.changed() => Step::Renewed,
                Ok(()) = self.members.changed() => Step::Members,
                Some(head) = heads.next() => Step::Head(head),
                stream = connection.accept_bi(), if room => Step::Opened(stream),
            };
            if let Step::Opened(Ok(stream)) = step {
                heads.push(read_head(Arc::clone(&self.carrying.tunnel), stream));
            } else if let Err(end) = self.handle(step) {
                return end;
            }
        }
    }

    fn handle(&mut self, step: Step) -> Result<(), End> {
        match step {
            Step::Lost(error) | Step::Opened(Err(error)) => return Err(End::Lost(error)),
            Step::Opened(Ok(_)) => {}
            Step::Phase => self.handle_phase()?,
            Step::Sent(result) => self.out.advance(result?),
            Step::Heard(result) => self.handle_heard(&result?.ok_or_else(control_ended)?)?,
            Step::Time => {
                self.session.handle_timeout(now(), wall_millis())?;
                self.check_expiry()?;
            }
            Step::Renewed => self.offer_credential(),
            Step::Members => self.tell_held(),
            Step::LocalCatalog => self.follow_catalog(),
            Step::LocalReport => self.follow_reports(),
            Step::Head(None) => self.carrying.shared.metrics.refused("gone"),
            Step::Head(Some(stream)) => self.hand_over(*stream),
        }
        Ok(())
    }

    /// Tells the peer what changed of what it is told, if anything did.
    fn follow_catalog(&mut self) {
        let catalog = Arc::clone(self.carrying.told.catalog.borrow_and_update().of(&self.carrying.tunnel.peer.cluster));
        if Arc::ptr_eq(&catalog, &self.local) || catalog == self.local {
            return;
        }
        self.update_facts(|facts| facts.acknowledged = false);
        self.local = Arc::clone(&catalog);
        self.session.handle_local_catalog(catalog);
    }

    /// Tells the peer what this cluster imports of its exports, once that is known.
    fn follow_reports(&mut self) {
        let report = self.carrying.told.reports.borrow_and_update().get(&self.carrying.tunnel.peer.cluster).cloned();
        if let Some(report) = report {
            self.session.handle_local_report(report);
        }
    }

    /// Proves the certificate in use to the peer.
    fn offer_credential(&mut self) {
        self.carrying.credentials.renewed.mark_unchanged();
        let svid = self.carrying.credentials.identity.current();
        match credential::prove(&self.connection, &svid) {
            Ok(proof) => self.session.handle_credential(proof),
            Err(error) => tracing::error!(%error, "cannot prove the new certificate; the tunnel keeps the one before"),
        }
    }

    /// Tells the peer which version of its bundle is believed here, when that is another one than it was.
    fn tell_held(&mut self) {
        let held = identify::held(&self.carrying.tunnel.peer.cluster, &self.members.borrow_and_update());
        if held != self.told
            && let Some(held) = held
        {
            self.told = Some(held);
            self.session.handle_held(held);
        }
    }

    /// Judges the peer's newer certificate; a bad one changes nothing.
    fn judge(&mut self, proof: &CredentialProof) {
        let (tunnel, trust) = (&self.carrying.tunnel, &self.carrying.credentials.trust);
        let owner = (&tunnel.peer.gateway_id, tunnel.peer.usage);
        let now = Timestamp::from(SystemTime::now());
        let refusal = match Credential::judge(&self.connection, proof, owner, (trust, now)) {
            Ok(credential) => {
                tracing::debug!(peer = %tunnel.peer.cluster, tunnel = tunnel.id, fingerprint = %credential.fingerprint, "the tunnel is judged by a newer certificate");
                tunnel.credential.store(Arc::new(credential));
                None
            }
            Err(error) => {
                tracing::warn!(peer = %tunnel.peer.cluster, tunnel = tunnel.id, %error, "refused the peer's newer certificate; the tunnel is judged by the one before");
                Some(error.to_string())
            }
        };
        self.session.handle_judgement(Judgement { fingerprint: credential::fingerprint_of(proof), refusal });
    }

    /// A tunnel ends with the certificate of its peer.
    fn check_expiry(&self) -> Result<(), End> {
        let not_after = self.carrying.tunnel.credential.load().not_after;
        if Timestamp::from(SystemTime::now()) <= not_after {
            return Ok(());
        }
        let text =
            "the certificate of this side has expired, and no newer one was proven: look at the log of its gateway";
        Err(End::Close(Close::new(CloseReason::Expired, text)))
    }

    fn handle_phase(&mut self) -> Result<(), End> {
        match &*self.carrying.phase.borrow_and_update() {
            Phase::Running => Ok(()),
            Phase::Draining(reason) => {
                self.session.handle_drain(reason);
                Ok(())
            }
            Phase::Closed(reason) => Err(End::Close(Close::new(CloseReason::Stopped, &**reason))),
        }
    }

    fn handle_heard(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.decoder.feed(bytes);
        while let Some(message) = self.decoder.poll()? {
            self.session.handle_message(message, now(), wall_millis())?;
        }
        Ok(())
    }

    /// Makes the next message, when the one before has left.
    fn fill(&mut self) -> Result<(), End> {
        if self.out.is_empty()
            && let Some(message) = self.session.poll_transmit()
        {
            self.out = control::encode(&message)?;
        }
        Ok(())
    }

    /// Passes on what the session found out. The driver always listens, so that waiting for it is short.
    async fn tell(&mut self) {
        while let Some(event) = self.session.poll_event() {
            if let Some(note) = self.note(event) {
                // Fails when the driver has ended, which closes the connection too.
                let _ = self.carrying.notes.send(note).await;
            }
            self.carrying.shared.changed();
        }
    }

    fn note(&mut self, event: SessionEvent) -> Option<Note> {
        let tunnel = Arc::clone(&self.carrying.tunnel);
        let peer = &tunnel.peer.cluster;
        match event {
            SessionEvent::Up { instance, software, version, reports_imports } => {
                self.update_facts(|facts| {
                    (facts.instance, facts.software, facts.version) = (instance.clone(), software.clone(), version);
                    facts.reports_imports = reports_imports;
                });
                tunnel.set_up();
                Some(Note::Up(tunnel))
            }
            SessionEvent::Catalog(catalog) => Some(Note::Catalog(peer.clone(), catalog)),
            SessionEvent::Unchanged => self.carrying.held.clone().map(|catalog| Note::Catalog(peer.clone(), catalog)),
            SessionEvent::Acknowledged(digest) => {
                let current = self.local.digest() == digest;
                self.update_facts(|facts| facts.acknowledged = current);
                None
            }
            SessionEvent::PeerDraining { reason } => {
                tracing::info!(%peer, tunnel = tunnel.id, %reason, "the peer drains: no new streams over this tunnel");
                tunnel.set_draining();
                Some(Note::Changed(tunnel))
            }
            SessionEvent::LeaseExpired => {
                tracing::warn!(%peer, tunnel = tunnel.id, "the peer fell silent: no new streams over this tunnel");
                tunnel.set_silent(true);
                Some(Note::Changed(tunnel))
            }
            SessionEvent::LeaseRestored => {
                tracing::info!(%peer, tunnel = tunnel.id, "the peer is heard again");
                tunnel.set_silent(false);
                Some(Note::Changed(tunnel))
            }
            SessionEvent::Skew(millis) => {
                self.update_facts(|facts| facts.skew_millis = Some(millis));
                None
            }
            // The connection measures round trips more often than pings do.
            SessionEvent::Rtt(_) => None,
            SessionEvent::Held(held) => {
                self.update_facts(|facts| facts.believed = Some(held));
                None
            }
            SessionEvent::Credential(proof) => {
                self.judge(&proof);
                None
            }
            SessionEvent::Judged(judgement) => {
                if let Some(refusal) = &judgement.refusal {
                    tracing::warn!(%peer, tunnel = tunnel.id, %refusal, "the peer refused this gateway's newer certificate");
                }
                self.update_facts(|facts| facts.judged = Some(judgement.clone()));
                None
            }
            SessionEvent::ImportReport(report) => {
                self.update_facts(|facts| facts.report = Some(report.clone()));
                Some(Note::Changed(tunnel))
            }
        }
    }

    fn update_facts(&self, change: impl Fn(&mut Facts)) {
        self.carrying.tunnel.facts.rcu(|facts| {
            let mut facts = Facts::clone(facts);
            change(&mut facts);
            facts
        });
    }

    /// Gives a stream to the gateway, unless it has enough of them.
    fn hand_over(&self, mut stream: InboundStream) {
        let shared = &self.carrying.shared;
        let open: usize = shared.registry.of(&stream.peer).iter().map(|tunnel| tunnel.inbound()).sum();
        if open > shared.config.streams_per_peer as usize {
            shared.metrics.refused("streams-per-peer");
            stream.abort(Outcome::OverCapacity);
            return;
        }
        shared.metrics.opened(&stream.peer, "inbound");
        match self.carrying.inbound.try_send(stream) {
            Ok(()) => {}
            Err(TrySendError::Full(mut stream)) => {
                shared.metrics.refused("inbound-queue");
                stream.abort(Outcome::OverCapacity);
            }
            Err(TrySendError::Closed(mut stream)) => {
                shared.metrics.refused("stopped");
                stream.abort(Outcome::Draining);
            }
        }
    }
}

fn session_config(config: &TunnelConfig) -> SessionConfig {
    SessionConfig {
        ping_interval: config.ping,
        lease: config.lease,
        ..SessionConfig::new(config.cluster.clone(), config.instance.clone(), config.software.clone())
    }
}

pub(crate) fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn wall_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
