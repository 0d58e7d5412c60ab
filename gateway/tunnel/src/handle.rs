//! The tunnels as the gateway uses them.
//!
//! Owns starting, and opening streams. Never waits for a peer beyond a written limit.

use std::{collections::BTreeMap, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use federation_model::{
    edition::Editions,
    member::Member,
    names::ClusterName,
    outcome::Outcome,
    report::{ImportReports, Reported},
};
use federation_pki::{identity::LiveIdentity, trust::TrustStore, verify::Expect};
use futures::future::BoxFuture;
use gateway_core::{
    dial::TargetState,
    header::{HeaderError, StreamHeader},
};
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use crate::{
    carrying::{Told, now},
    config::{OPEN_LIMIT, TunnelConfig},
    dice::Dice,
    driver::{Driver, Outlets, TunnelEvent},
    endpoint::{BindError, Credentials, endpoint},
    metrics::{LiveTunnels, Metrics},
    registry::{NoTunnel, Registry},
    shared::{Phase, Shared},
    socket::TunnelSocket,
    status::{DialStatus, PeerStatus, TunnelStatus},
    stream::{InboundStream, OutboundStream, RecvHalf, SendHalf},
    tunnel::{Origin, StreamLease, Tunnel},
};

/// How often opening a stream is tried when tunnels are lost under it.
const ATTEMPTS: usize = 3;
/// Events the gateway has not taken yet. Further ones of one peer replace each other while they wait.
const MAX_EVENTS: usize = 64;

/// What the tunnels follow while they run.
#[derive(Debug)]
pub struct Sources {
    /// Who this gateway is.
    pub identity: Arc<LiveIdentity>,
    /// Changes whenever `identity` was replaced: live tunnels then prove the newer certificate to their peers.
    pub renewed: watch::Receiver<u64>,
    /// The bundles handshakes are verified with, and what is revoked. Whoever changes it sends the members afterwards, the
    /// same ones if need be: that is when live tunnels are judged again.
    pub trust: Arc<TrustStore>,
    /// The other members. A member that leaves, or whose tunnels would not be accepted any more, loses them.
    pub members: watch::Receiver<Arc<BTreeMap<ClusterName, Member>>>,
    /// What this cluster exports, as each peer is told it.
    pub catalog: watch::Receiver<Editions>,
    /// What this cluster imports of the exports of each peer; a peer that is not in it is told nothing yet.
    pub reports: watch::Receiver<Arc<ImportReports>>,
}

/// Tunnels that run as soon as `driver` does.
pub struct Started {
    /// The handle.
    pub tunnels: Tunnels,
    /// Streams the peers open. Whoever takes none lets further ones be refused.
    pub inbound: mpsc::Receiver<InboundStream>,
    /// What changed about the peers.
    pub events: mpsc::Receiver<TunnelEvent>,
    /// Owns every task of the tunnels; ends after [`Tunnels::close`]. Dropping it closes everything.
    pub driver: BoxFuture<'static, ()>,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("tunnels", &self.tunnels).finish_non_exhaustive()
    }
}

/// Why no stream was opened.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// No tunnel is up.
    #[error("there is no tunnel to cluster {0}: see fedctl status")]
    NoTunnel(ClusterName),
    /// The peer's gateways are about to stop, and no other tunnel is up.
    #[error("the gateways of cluster {0} are draining")]
    PeerDraining(ClusterName),
    /// This gateway is about to stop.
    #[error("this gateway is draining")]
    Draining,
    /// The peer gives no stream credit.
    #[error(
        "cluster {0} let no stream be opened within {OPEN_LIMIT:?}: raise limits.streams_per_peer there, or add gateway replicas"
    )]
    Busy(ClusterName),
    /// The first bytes did not fit.
    #[error(
        "the tunnel to cluster {0} took the first bytes of a stream in part within {OPEN_LIMIT:?}: streams whose readers stand still fill it"
    )]
    Stalled(ClusterName),
    /// The tunnel was lost while opening.
    #[error("the tunnel to cluster {peer} was lost ({outcome})")]
    Lost {
        /// The peer.
        peer: ClusterName,
        /// How.
        outcome: Outcome,
    },
    /// The header does not fit.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

impl OpenError {
    /// How the connection ends when nothing else is tried.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NoTunnel(_) => Outcome::NoHealthyCluster,
            Self::PeerDraining(_) | Self::Draining => Outcome::Draining,
            Self::Busy(_) | Self::Stalled(_) => Outcome::TunnelBusy,
            Self::Lost { outcome, .. } => *outcome,
            Self::Header(error) => error.outcome(),
        }
    }

    /// Whether the peer cannot have seen a byte, so that the same bytes may go elsewhere.
    #[must_use]
    pub fn nothing_sent(&self) -> bool {
        match self {
            Self::NoTunnel(_) | Self::PeerDraining(_) | Self::Draining | Self::Busy(_) | Self::Header(_) => true,
            Self::Stalled(_) | Self::Lost { .. } => false,
        }
    }
}

/// A handle to the tunnels; clones are the same tunnels.
#[derive(Debug, Clone)]
pub struct Tunnels(Arc<Shared>);

impl Tunnels {
    /// Binds the socket and makes everything ready; nothing happens before the driver runs. To be called in a tokio runtime.
    ///
    /// # Errors
    /// When the socket or the endpoint cannot be made.
    pub fn start(config: TunnelConfig, socket: TunnelSocket, sources: Sources) -> Result<Started, BindError> {
        let Sources { identity, renewed, trust, members, catalog, reports } = sources;
        let credentials = Credentials::new(&config, (identity, renewed), trust)?;
        let welcome = members.clone();
        let expected = Expect::When(
            "the gateway id of a member",
            Arc::new(move |id| welcome.borrow().values().any(|member| member.gateway_id == *id)),
        );
        let endpoint = endpoint(&config, socket, &credentials, expected)?;
        let (inbound_tx, inbound) = mpsc::channel(config.inbound_queue.max(1));
        let (events_tx, events) = mpsc::channel(MAX_EVENTS);
        let shared = Arc::new(Shared {
            dice: Dice::new(config.seed),
            config,
            endpoint,
            registry: Registry::default(),
            metrics: Metrics::default(),
            members,
            followed: watch::Sender::default(),
            phase: watch::Sender::new(Phase::Running),
            views: dashmap::DashMap::new(),
            reported: watch::Sender::default(),
            changes: watch::Sender::new(0),
        });
        let outlets = Outlets { inbound: inbound_tx, events: events_tx };
        let driver = Driver::new(Arc::clone(&shared), credentials, Told { catalog, reports }, outlets);
        Ok(Started { tunnels: Self(shared), inbound, events, driver: Box::pin(driver.run()) })
    }

    /// The bound address.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.endpoint.local_addr()
    }

    /// Opens a stream to `peer`. Header and first bytes leave together; nothing is waited for but credit.
    ///
    /// # Errors
    /// When there is none; [`OpenError::nothing_sent`] tells whether the first bytes may go elsewhere.
    pub async fn open(
        &self,
        peer: &ClusterName,
        header: &StreamHeader,
        first: Bytes,
    ) -> Result<OutboundStream, OpenError> {
        let frame = header.encode()?;
        let deadline = Instant::now() + OPEN_LIMIT;
        let mut result = Err(OpenError::NoTunnel(peer.clone()));
        for _attempt in 0..ATTEMPTS {
            result = self.attempt(peer, [frame.clone(), first.clone()], deadline).await;
            // A tunnel that was lost before it took anything is as good as none: the next one.
            if !matches!(result, Err(OpenError::NoTunnel(_)) if self.0.registry.reachable(peer)) {
                break;
            }
        }
        match &result {
            Ok(_) => self.0.metrics.opened(peer, "outbound"),
            Err(error) => self.0.metrics.refused(error.outcome().label()),
        }
        result
    }

    async fn attempt(
        &self,
        peer: &ClusterName,
        mut chunks: [Bytes; 2],
        deadline: Instant,
    ) -> Result<OutboundStream, OpenError> {
        let tunnel = self.choose(peer)?;
        let lease = StreamLease::outbound(&tunnel);
        let opened = timeout_at(deadline, tunnel.connection.open_bi()).await;
        let (send, recv) = match opened {
            Ok(Ok(halves)) => halves,
            Ok(Err(_lost)) => return Err(OpenError::NoTunnel(peer.clone())),
            Err(_elapsed) => return Err(OpenError::Busy(peer.clone())),
        };
        let mut stream =
            OutboundStream::new(peer.clone(), SendHalf::new(send, Arc::clone(&lease)), RecvHalf::new(recv, lease));
        match timeout_at(deadline, stream.send.write_chunks(&mut chunks)).await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(outcome)) => Err(OpenError::Lost { peer: peer.clone(), outcome }),
            Err(_elapsed) => {
                stream.abort(Outcome::TunnelBusy);
                Err(OpenError::Stalled(peer.clone()))
            }
        }
    }

    fn choose(&self, peer: &ClusterName) -> Result<Arc<Tunnel>, OpenError> {
        if *self.0.phase.borrow() != Phase::Running {
            return Err(OpenError::Draining);
        }
        self.0.registry.choose(peer, &self.0.dice).map_err(|none| match none {
            NoTunnel::None => OpenError::NoTunnel(peer.clone()),
            NoTunnel::Draining => OpenError::PeerDraining(peer.clone()),
        })
    }

    /// Whether a stream to `peer` can be opened now.
    #[must_use]
    pub fn reachable(&self, peer: &ClusterName) -> bool {
        self.0.registry.reachable(peer)
    }

    /// The round trip time of the nearest usable tunnel to `peer`.
    #[must_use]
    pub fn rtt(&self, peer: &ClusterName) -> Option<Duration> {
        let tunnels = self.0.registry.of(peer);
        tunnels.iter().filter(|tunnel| tunnel.usable()).map(|tunnel| tunnel.rtt()).min()
    }

    /// The streams that live in all tunnels with `peer`.
    #[must_use]
    pub fn outstanding(&self, peer: &ClusterName) -> usize {
        self.0.registry.of(peer).iter().map(|tunnel| tunnel.outstanding()).sum()
    }

    /// The streams that live in all tunnels.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.0.registry.all().iter().map(|tunnel| tunnel.outstanding()).sum()
    }

    /// Tells every peer that this gateway is about to stop. From now on nothing new is opened, dialled or accepted; streams
    /// that live go on.
    pub fn drain(&self, reason: &str) {
        self.0.phase.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            if running {
                *phase = Phase::Draining(reason.into());
            }
            running
        });
        self.0.changed();
    }

    /// Closes every tunnel; the driver then ends.
    pub fn close(&self, reason: &str) {
        self.0.close(reason);
    }

    /// Changes whenever a status would.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The members by which the live tunnels were judged last: the very value that was sent.
    #[must_use]
    pub fn followed(&self) -> watch::Receiver<Arc<BTreeMap<ClusterName, Member>>> {
        self.0.followed.subscribe()
    }

    /// What each peer said of its imports of this cluster's exports, the last time a tunnel to it lived.
    #[must_use]
    pub fn reported(&self) -> watch::Receiver<Arc<BTreeMap<ClusterName, Reported>>> {
        self.0.reported.subscribe()
    }

    /// Every peer, in order of name.
    #[must_use]
    pub fn status(&self) -> Vec<PeerStatus> {
        let members = Arc::clone(&self.0.members.borrow());
        members.values().map(|member| self.peer_status(member)).collect()
    }

    fn peer_status(&self, member: &Member) -> PeerStatus {
        let cluster = &member.cluster;
        let view = self.0.views.get(cluster).map(|view| view.clone()).unwrap_or_default();
        let mut tunnels: Vec<_> = self.0.registry.of(cluster).iter().map(|tunnel| tunnel_status(tunnel)).collect();
        tunnels.sort_by_key(|tunnel| tunnel.id);
        PeerStatus {
            cluster: cluster.clone(),
            gateway_id: member.gateway_id.clone(),
            reachable: self.0.registry.reachable(cluster),
            tunnels,
            dials: view.targets.into_iter().map(|(target, state)| dial_status(target, state)).collect(),
            last_error: view.last_error,
        }
    }

    /// Adds the metrics of the tunnels to `registry`.
    pub fn register(&self, registry: &mut MetricsRegistry) {
        self.0.metrics.register(registry);
        registry.register_collector(Box::new(LiveTunnels(Arc::downgrade(&self.0))));
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

fn tunnel_status(tunnel: &Tunnel) -> TunnelStatus {
    let stats = tunnel.connection.stats().path;
    let facts = tunnel.facts.load();
    TunnelStatus {
        id: tunnel.id,
        state: tunnel.state(),
        dialled: match &tunnel.origin {
            Origin::Dialled(target) => Some(target.clone()),
            Origin::Accepted => None,
        },
        remote: tunnel.connection.remote_address(),
        age: tunnel.since.elapsed(),
        rtt: stats.rtt,
        streams: tunnel.outstanding(),
        lost_packets: stats.lost_packets,
        sent_packets: stats.sent_packets,
        mtu: stats.current_mtu,
        instance: facts.instance.clone(),
        software: facts.software.clone(),
        version: facts.version,
        skew_millis: facts.skew_millis,
        acknowledged: facts.acknowledged,
        believed: facts.believed,
        judged: facts.judged.clone(),
        certificates: tunnel.credential.load().chain.clone(),
    }
}

fn dial_status(target: federation_model::addr::GatewayAddr, state: TargetState) -> DialStatus {
    match state {
        TargetState::Waiting { due, failures } => {
            let next_dial = Some(due.saturating_duration_since(now()));
            DialStatus { target, failures, up: false, next_dial }
        }
        TargetState::Dialling { failures } => DialStatus { target, failures, up: false, next_dial: None },
        TargetState::Up { failures, .. } => DialStatus { target, failures, up: true, next_dial: None },
    }
}
