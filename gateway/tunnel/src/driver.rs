//! The one task that owns all tunnels.
//!
//! Owns every other task of this crate, follows the members, drives the dialling of each, lets peers in, and reports what
//! changed. Never waits for a peer or for the gateway: what takes time runs in a task of its own.

mod desk;
mod outbox;

use std::{collections::BTreeMap, panic::resume_unwind, sync::Arc, time::SystemTime};

use federation_model::{addr::GatewayAddr, member::Member, names::ClusterName, time::Timestamp};
use gateway_core::session::CloseReason;
use quinn::{Connection, Incoming, VarInt};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};

pub use self::outbox::TunnelEvent;
use self::{desk::Desk, outbox::Outbox};
use crate::{
    accepting::{Admission, admit, handshake},
    carrying::{Carrying, Note, Told, now},
    closing::Close,
    config::{CLOSE_LIMIT, MAX_DIALS, MAX_NOTES},
    dialling::{Dial, DialError},
    endpoint::Credentials,
    identify::{Members, identify, still_trusted},
    shared::{Phase, Shared},
    stream::InboundStream,
    tunnel::{Origin, Tunnel},
};

/// Where the driver puts what it has for the gateway.
#[derive(Debug)]
pub(crate) struct Outlets {
    pub(crate) inbound: mpsc::Sender<InboundStream>,
    pub(crate) events: mpsc::Sender<TunnelEvent>,
}

/// What a task of the driver came to.
enum Ended {
    Dialled { peer: ClusterName, target: GatewayAddr, result: Box<Result<Connection, DialError>> },
    Accepted(Result<Connection, String>),
    Carried { tunnel: Arc<Tunnel>, why: String },
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    credentials: Credentials,
    members: watch::Receiver<Members>,
    told: Told,
    phase: watch::Receiver<Phase>,
    inbound: mpsc::Sender<InboundStream>,
    outbox: Outbox,
    notes_in: mpsc::Receiver<Note>,
    notes: mpsc::Sender<Note>,
    /// One for each tunnel, handshake and dial; their numbers are limited each.
    tasks: JoinSet<Ended>,
    desks: BTreeMap<ClusterName, Desk>,
    handshakes: usize,
    dials: usize,
    next_id: u64,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, credentials: Credentials, told: Told, outlets: Outlets) -> Self {
        let (notes, notes_in) = mpsc::channel(MAX_NOTES);
        Self {
            members: shared.members.clone(),
            phase: shared.phase.subscribe(),
            shared,
            credentials,
            told,
            inbound: outlets.inbound,
            outbox: Outbox::new(outlets.events),
            notes_in,
            notes,
            tasks: JoinSet::new(),
            desks: BTreeMap::new(),
            handshakes: 0,
            dials: 0,
            next_id: 0,
        }
    }

    pub(crate) async fn run(mut self) {
        self.handle_members();
        let endpoint = self.shared.endpoint.clone();
        loop {
            self.dial();
            let wake = self.next_dial();
            tokio::select! {
                biased;
                Ok(()) = self.phase.changed() => if let Phase::Closed(_) = &*self.phase.borrow_and_update() { break },
                Ok(()) = self.members.changed() => self.handle_members(),
                Some(ended) = self.tasks.join_next() => self.handle_ended(ended),
                Some(note) = self.notes_in.recv() => self.handle_note(note),
                () = self.outbox.send_one(), if !self.outbox.is_empty() => {}
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => self.let_in(incoming),
                    None => break,
                },
            }
        }
        self.close().await;
    }

    /// Follows the members, and what is revoked with them: who left or was revoked is cut off, who came is dialled.
    fn handle_members(&mut self) {
        let members = Arc::clone(&self.members.borrow_and_update());
        for tunnel in self.shared.registry.all() {
            let trust = &self.credentials.trust;
            if let Err(why) = still_trusted(&tunnel.peer, &tunnel.credential.load(), &members, trust) {
                tracing::info!(peer = %tunnel.peer.cluster, tunnel = tunnel.id, %why, "cutting a tunnel");
                tunnel.close(&Close::new(CloseReason::Revoked, why));
            }
            if !members.contains_key(&tunnel.peer.cluster) {
                // Should the cluster come back before this tunnel's task has ended, its end is not the new dialler's business.
                tunnel.write_off();
            }
        }
        let gone: Vec<ClusterName> = self.desks.keys().filter(|name| !members.contains_key(*name)).cloned().collect();
        for name in gone {
            self.desks.remove(&name);
            self.shared.views.remove(&name);
            self.shared.forget_report(&name);
            self.outbox.unreachable(&name);
        }
        for member in members.values() {
            self.follow(member);
        }
        self.shared.followed.send_replace(members);
        self.shared.changed();
    }

    fn follow(&mut self, member: &Member) {
        let shared = &self.shared;
        let desk = self
            .desks
            .entry(member.cluster.clone())
            .or_insert_with(|| Desk::new(&shared.config, member, shared.dice.roll()));
        desk.follow(member);
        shared.metrics.member(&member.cluster);
        self.refresh(&member.cluster);
    }

    /// Starts every dial that is due.
    fn dial(&mut self) {
        if *self.phase.borrow() != Phase::Running {
            return;
        }
        let mut due = Vec::new();
        for (name, desk) in &mut self.desks {
            while self.dials + due.len() < MAX_DIALS
                && let Some(target) = desk.dialer.poll_dial(now())
            {
                due.push((name.clone(), desk.gateway_id.clone(), target));
            }
        }
        for (peer, gateway_id, target) in due {
            self.dials += 1;
            let client = self.credentials.client(gateway_id);
            let (endpoint, congestion) = (self.shared.endpoint.clone(), self.shared.config.congestion);
            self.show(&peer);
            self.tasks.spawn(async move {
                let result = match client {
                    Ok(client) => Dial { endpoint, client, target: target.clone(), congestion }.run().await,
                    Err(error) => Err(DialError::Config(error, target.clone())),
                };
                Ended::Dialled { peer, target, result: Box::new(result) }
            });
        }
    }

    fn next_dial(&self) -> Option<Instant> {
        if *self.phase.borrow() != Phase::Running || self.dials >= MAX_DIALS {
            return None;
        }
        let due = self.desks.values().filter_map(|desk| desk.dialer.poll_timeout()).map(|(due, _why)| due).min();
        due.map(Instant::from_std)
    }

    fn let_in(&mut self, incoming: Incoming) {
        let draining = *self.phase.borrow() != Phase::Running;
        let (admission, connecting) = admit(incoming, self.handshakes, draining);
        match admission {
            Admission::Accept => {}
            Admission::Retry => self.shared.metrics.handshake("accept", "retry"),
            Admission::Refuse => self.shared.metrics.handshake("accept", "refused"),
        }
        if let Some(connecting) = connecting {
            self.handshakes += 1;
            self.tasks.spawn(async move { Ended::Accepted(handshake(connecting).await) });
        }
    }

    fn handle_ended(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok(Ended::Dialled { peer, target, result }) => self.handle_dialled(&peer, target, *result),
            Ok(Ended::Accepted(result)) => self.handle_accepted(result),
            Ok(Ended::Carried { tunnel, why }) => self.handle_carried(&tunnel, why),
            Err(error) => match error.try_into_panic() {
                // A defect: whoever runs the driver hears of it.
                Ok(panic) => resume_unwind(panic),
                Err(_cancelled) => {}
            },
        }
    }

    fn handle_dialled(&mut self, peer: &ClusterName, target: GatewayAddr, result: Result<Connection, DialError>) {
        self.dials -= 1;
        self.shared.metrics.handshake("dial", if result.is_ok() { "done" } else { "failed" });
        let failure = match result {
            Ok(connection) => match self.start(connection, Origin::Dialled(target.clone()), Some(peer)) {
                Ok(()) => return,
                Err(why) => why,
            },
            Err(error) => error.to_string(),
        };
        if let Some(desk) = self.desks.get_mut(peer) {
            desk.failed(&target, failure);
        }
        self.show(peer);
    }

    fn handle_accepted(&mut self, result: Result<Connection, String>) {
        self.handshakes -= 1;
        self.shared.metrics.handshake("accept", if result.is_ok() { "done" } else { "failed" });
        let started = result.and_then(|connection| self.start(connection, Origin::Accepted, None));
        if let Err(why) = started {
            tracing::info!(%why, "a gateway was not let in");
        }
    }

    /// Starts the task of an established connection; says why not, after closing it, when its peer is not welcome.
    fn start(&mut self, connection: Connection, origin: Origin, dialled: Option<&ClusterName>) -> Result<(), String> {
        let members = Arc::clone(&self.members.borrow());
        let refuse = |reason: CloseReason, why: String| {
            connection.close(VarInt::from_u32(reason.code()), why.as_bytes());
            Err(why)
        };
        let (peer, credential) = match identify(&connection, &members, Timestamp::from(SystemTime::now())) {
            Ok(identified) => identified,
            Err(error) => return refuse(CloseReason::Revoked, error.to_string()),
        };
        if dialled.is_some_and(|dialled| *dialled != peer.cluster) {
            return refuse(CloseReason::WrongCluster, format!("this is the gateway of cluster {}", peer.cluster));
        }
        if let Err(why) = still_trusted(&peer, &credential, &members, &self.credentials.trust) {
            return refuse(CloseReason::Revoked, why);
        }
        self.next_id += 1;
        let tunnel = Arc::new(Tunnel::new(self.next_id, (peer, credential), origin, connection.clone()));
        if !self.shared.registry.insert(&tunnel) {
            return refuse(CloseReason::Superseded, format!("cluster {} has too many tunnels", tunnel.peer.cluster));
        }
        let held = self.desks.get(&tunnel.peer.cluster).and_then(|desk| desk.held.clone());
        let carrying = Carrying {
            shared: Arc::clone(&self.shared),
            tunnel: Arc::clone(&tunnel),
            held,
            told: self.told.clone(),
            credentials: self.credentials.clone(),
            phase: self.shared.phase.subscribe(),
            notes: self.notes.clone(),
            inbound: self.inbound.clone(),
        };
        self.tasks.spawn(async move { Ended::Carried { tunnel, why: carrying.run().await } });
        self.shared.changed();
        Ok(())
    }

    fn handle_note(&mut self, note: Note) {
        match note {
            Note::Up(tunnel) => {
                let peer = &tunnel.peer.cluster;
                let facts = tunnel.facts.load();
                tracing::info!(%peer, tunnel = tunnel.id, remote = %tunnel.connection.remote_address(),
                    software = %facts.software, instance = %facts.instance, "a tunnel is up");
                if let Some(desk) = self.desks.get_mut(peer) {
                    desk.up(&tunnel);
                }
                self.refresh(peer);
            }
            Note::Changed(tunnel) => {
                if tunnel.is_draining() {
                    self.write_off(&tunnel);
                }
                self.refresh(&tunnel.peer.cluster);
            }
            Note::Catalog(peer, catalog) => {
                if let Some(desk) = self.desks.get_mut(&peer) {
                    desk.held = Some(Arc::clone(&catalog));
                    self.outbox.catalog(peer, catalog);
                }
            }
        }
    }

    fn handle_carried(&mut self, tunnel: &Tunnel, why: String) {
        let peer = &tunnel.peer.cluster;
        tracing::info!(%peer, tunnel = tunnel.id, %why, "a tunnel ended");
        self.shared.registry.remove(tunnel);
        self.shared.metrics.ended(peer);
        self.write_off(tunnel);
        if let Some(desk) = self.desks.get_mut(peer) {
            desk.last_error = Some(why);
        }
        self.refresh(peer);
    }

    /// A tunnel is of no more use: its address may be dialled again.
    fn write_off(&mut self, tunnel: &Tunnel) {
        if let Some(desk) = self.desks.get_mut(&tunnel.peer.cluster)
            && tunnel.write_off()
        {
            desk.written_off(tunnel);
        }
    }

    /// Draws the conclusions from a change of a peer's tunnels.
    fn refresh(&mut self, peer: &ClusterName) {
        let Some(desk) = self.desks.get_mut(peer) else { return };
        desk.dialer.handle_inbound(desk::usable_inbound(&self.shared.registry, peer), now());
        let reachable = self.shared.registry.reachable(peer);
        if reachable {
            desk.last_error = None;
        }
        self.outbox.reachable(peer, reachable);
        if let Some(reported) = self.shared.registry.reported(peer) {
            self.shared.report(peer, reported);
        }
        self.show(peer);
    }

    /// Publishes what a status shows of a peer.
    fn show(&self, peer: &ClusterName) {
        if let Some(desk) = self.desks.get(peer) {
            self.shared.views.insert(peer.clone(), desk.view());
        }
        self.shared.changed();
    }

    /// Waits, within a limit, until every task and connection has ended.
    async fn close(mut self) {
        let text = match &*self.phase.borrow() {
            Phase::Running => "the gateway stops".to_owned(),
            Phase::Draining(text) | Phase::Closed(text) => text.to_string(),
        };
        self.shared.close(&text);
        // Tunnels with something to tell would wait for a reader.
        self.notes_in.close();
        let endpoint = self.shared.endpoint.clone();
        let rest = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.handle_ended(ended);
            }
            endpoint.wait_idle().await;
        };
        if timeout(CLOSE_LIMIT, rest).await.is_err() {
            tracing::warn!("not every peer heard in time that the tunnels are closed");
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.close("the gateway stops");
    }
}
