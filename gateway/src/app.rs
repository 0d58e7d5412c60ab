//! The wiring of a gateway, and the written order of its end. The only file that knows every component.
//!
//! ```text
//! start: state directory -> identity -> membership -> objects -> tunnels -> dns, listeners, admin -> tasks
//! end:   Accept   listeners close, peers are told that this gateway drains, readiness fails
//!        Work     connections finish; what is left after limits.drain_timeout is cut
//!        Support  control, membership, renewal stop, tunnels close with a reason, dns and admin stop
//! ```

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use federation_kube::connect::Cluster;
use federation_model::{catalog::Catalog, edition::Editions, outcome::Outcome, time::Timestamp};
use federation_runtime::{
    admin::{Admin, AdminServer, Readiness},
    open_files,
    signals::Signals,
    state::{self, StateLock},
    tasks::{OnEnd, Shutdown, Stage, Tasks},
};
use gateway_core::{
    pick::{Picker, RetryBudget},
    tables::Tables,
};
use gateway_dns::{DnsConfig, DnsServer};
use gateway_tunnel::{Congestion, Sources, Started, TunnelConfig, TunnelSocket, Tunnels};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    accept::{Via, accept},
    admin::{AdminSocket, Administration},
    audited::AuditedCalls,
    config::Config,
    control::{Control, ControlInputs, ControlOutputs, first_tables},
    deliver::EndpointTrust,
    horizon::Horizon,
    identity::{ClusterIdentity, Keeper, Reporter, Surroundings},
    identity_source::Source,
    kubernetes::{self, Around, Kubernetes, state::KeptState},
    listeners,
    live::Live,
    membership::{effects::Effects, follow::Follower},
    path::{DataPath, deliver_streams},
    reach::Surveyor,
    record::Recorder,
    reset_key,
    source::{Gate, ObjectSource},
    terminate::Terminator,
};

/// Files of a gateway besides its connections: listeners of some hundred imports, and a few of its own.
const OTHER_FILES: u64 = 512;
/// How long connections that are cut may take to end.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// A gateway that is ready to run.
#[derive(Debug)]
pub struct Gateway {
    tasks: Tasks,
    drain_timeout: Duration,
    addresses: Addresses,
    _lock: StateLock,
}

/// Where a gateway listens; ports that were 0 in the settings are known here.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The tunnel endpoint, UDP.
    pub tunnel: SocketAddr,
    /// DNS, UDP and TCP.
    pub dns: SocketAddr,
    /// The read-only HTTP listener.
    pub admin: SocketAddr,
    /// The listener that routes by server name.
    pub sni: Option<SocketAddr>,
    /// The listener that ends TLS.
    pub mtls: Option<SocketAddr>,
    /// The administration socket.
    pub admin_socket: PathBuf,
}

/// Runs a gateway until a signal, or until it cannot go on.
///
/// # Errors
/// When it cannot start, or a part it needs ended.
pub async fn run(config: Config) -> anyhow::Result<()> {
    ensure_open_files(config.limits.connections);
    let signals = Signals::install().context("cannot listen for signals")?;
    let stop = CancellationToken::new();
    let socket = TunnelSocket::Bind(config.tunnel.listen);
    let gateway = Gateway::start(config, socket, stop.clone()).await?;
    signals.run(&stop, gateway.run()).await.into_result()
}

/// Every connection takes two files at most: one here, and one to an endpoint.
fn ensure_open_files(connections: usize) {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(OTHER_FILES);
    match open_files::raise() {
        Ok(allowed) if allowed < needed => {
            tracing::warn!(
                allowed,
                needed,
                "limits.connections cannot be reached: raise the hard limit on open files (LimitNOFILE, ulimit -Hn), or lower it"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit on open files"),
    }
}

impl Gateway {
    /// Opens everything and starts the tasks; nothing is half open when this fails.
    ///
    /// # Errors
    /// When the state directory, the identity, a listener or the manifests cannot be used.
    pub async fn start(config: Config, socket: TunnelSocket, stop: CancellationToken) -> anyhow::Result<Self> {
        let cluster = kubernetes::connect(&config).await?;
        let mut kept = kubernetes::restore(&config, cluster.as_ref()).await?;
        state::create_private_dir(&config.state.dir)?;
        let lock = StateLock::acquire(&config.state.dir, "landbridge-gateway")?;
        let mut registry = Registry::with_prefix("landbridge_gateway");
        let parts = Parts::open(config, socket, cluster, &mut registry).await?;
        if let Some(kept) = &mut kept {
            kept.keep_first().await?;
        }
        let servers = Servers::open(&parts, registry).await?;
        let addresses = servers.addresses(&parts)?;
        let drain_timeout = parts.config.limits.drain_timeout;
        let tasks = Tasks::new(stop);
        parts.start(servers, kept, &tasks);
        tracing::info!(
            tunnel = %addresses.tunnel,
            dns = %addresses.dns,
            admin = %addresses.admin,
            socket = %addresses.admin_socket.display(),
            "gateway is running"
        );
        Ok(Self { tasks, drain_timeout, addresses, _lock: lock })
    }

    /// Where this gateway listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Runs until it is told to stop or cannot go on.
    pub async fn run(self) -> Shutdown {
        // `finish` keeps to the time-out; the rest is for what it cuts.
        self.tasks.run(self.drain_timeout.saturating_add(2 * CUT_LIMIT)).await
    }
}

/// What carries traffic, before its tasks run.
struct Parts {
    config: Config,
    identity: Arc<ClusterIdentity>,
    keeper: Keeper,
    reporter: Reporter,
    source: Option<Source>,
    follower: Arc<Follower>,
    objects: ObjectSource,
    gate: Option<Gate>,
    kubernetes: Option<Kubernetes>,
    control: Control,
    tables: watch::Receiver<Arc<Tables>>,
    started: Started,
    effects: Effects,
    path: Arc<DataPath>,
    surveyor: Surveyor,
    readiness: Readiness,
}

impl Parts {
    async fn open(
        config: Config,
        socket: TunnelSocket,
        cluster: Option<Cluster>,
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let source = Source::open(&config.identity, &config.cluster.gateway_id()).await?;
        let feed = source.as_ref().map(Source::feed);
        let (identity, keeper, reporter) =
            ClusterIdentity::open(&config.state.dir, &config.cluster, &config.identity, feed, registry)?;
        let own = (identity.live(), identity.lineage(), identity.disowned());
        let follower = Arc::new(Follower::open(&config, own, registry)?);
        let objects = ObjectSource::open(&config, cluster.clone())?;
        objects.view().register(registry);
        let (members, gate) = objects.view().gate(follower.members());
        let live = Live::default();
        let readiness = Readiness::default();
        readiness.register(registry);
        let kubernetes = cluster.map(|cluster| Kubernetes::open(&config, cluster, registry)).transpose()?;
        let outputs = control_outputs(&config, &readiness, kubernetes.as_ref());
        let (catalog, tables) = (outputs.catalog.subscribe(), outputs.tables.subscribe());
        let connections = outputs.judged.subscribe();
        let control = Control::new(&config, outputs, live.clone(), kubernetes.as_ref(), registry)?;
        let reports = watch::Sender::default();
        let sources = Sources {
            identity: identity.live(),
            renewed: identity.renewed(),
            trust: follower.trust(),
            members,
            catalog,
            reports: reports.subscribe(),
        };
        let started = Tunnels::start(tunnel_config(&config)?, socket, sources)?;
        started.tunnels.register(registry);
        let tunnels = started.tunnels.clone();
        let surveyor = Surveyor::new(tables.clone(), objects.subscribe(), tunnels.clone(), (reports, registry));
        Horizon { identity: identity.clone(), follower: follower.clone(), tunnels }.register(registry);
        let effects = Effects { tunnels: started.tunnels.followed(), connections };
        let path = Arc::new(DataPath {
            cluster: config.cluster.name.clone(),
            gateway_id: config.cluster.gateway_id(),
            zone: config.dns.zone.clone(),
            tables: tables.clone(),
            tunnels: started.tunnels.clone(),
            picker: Picker::new(),
            retries: RetryBudget::new(),
            recorder: Recorder::new(config.cluster.name.clone(), registry),
            endpoint_trust: EndpointTrust::open(&config.delivery, identity.clone(), follower.trust())?,
            live,
            audited: AuditedCalls::load(&config.state.dir),
            terminator: Terminator::new(identity.clone(), follower.trust()),
            limits: config.limits.clone(),
            places: Arc::new(Semaphore::new(config.limits.connections)),
            draining: CancellationToken::new(),
            connections: TaskTracker::new(),
        });
        Ok(Self {
            config,
            identity,
            keeper,
            reporter,
            source,
            follower,
            objects,
            gate,
            kubernetes,
            control,
            tables,
            started,
            effects,
            path,
            surveyor,
            readiness,
        })
    }

    /// Starts every task, each with the rule for its end.
    fn start(self, servers: Servers, kept: Option<KeptState>, tasks: &Tasks) {
        let Self { keeper, reporter, source, follower, objects, gate, control, tables, started, effects, .. } = self;
        let Self { path, surveyor, readiness, config, kubernetes, .. } = self;
        let around = Surroundings {
            tunnels: started.tunnels.clone(),
            members: follower.members(),
            membership: follower.memberships(),
            own_advertises: !config.tunnel.advertise.is_empty(),
        };
        let inputs = ControlInputs {
            manifests: objects.subscribe(),
            members: follower.members(),
            membership: follower.memberships(),
            trust: follower.trust(),
            events: started.events,
        };
        let accepting = tasks.stage(Stage::Accept);
        let stop = accepting.stop().clone();
        accepting.spawn("listeners", OnEnd::Stop, listeners::follow(path.clone(), tables.clone(), stop.clone()));
        let shared = [("sni-listener", servers.sni, Via::ServerName), ("mtls-listener", servers.mtls, Via::Terminated)];
        for (name, listener, via) in shared {
            if let Some(listener) = listener {
                accepting.spawn(name, OnEnd::Stop, accept(listener, via, path.clone(), stop.clone()));
            }
        }
        let (tunnels, takes_work) = (started.tunnels.clone(), readiness.condition("accepting"));
        takes_work.holds();
        accepting.spawn("drain", OnEnd::Stop, async move {
            stop.cancelled().await;
            takes_work.fails("shutting down");
            tunnels.drain("the gateway is shutting down");
        });

        let work = tasks.stage(Stage::Work);
        let limit = path.limits.drain_timeout;
        work.spawn("connections", OnEnd::Stop, finish(path.clone(), limit, work.stop().clone()));

        // While connections finish, a cluster that is removed must still lose its own, and names must stay true.
        let support = tasks.stage(Stage::Support);
        let stop = support.stop().clone();
        let view = objects.view();
        support.spawn("control", OnEnd::Stop, control.run_after(view.clone(), inputs, stop.clone()));
        support.spawn("catalog", OnEnd::Stop, view.judge(readiness.condition("catalog"), stop.clone()));
        support.spawn("objects", OnEnd::Stop, objects.run(stop.clone()));
        let reach = surveyor.reach();
        support.spawn("reach", OnEnd::Stop, surveyor.run(stop.clone()));
        if let Some(gate) = gate {
            support.spawn("members-gate", OnEnd::Stop, gate.run(stop.clone()));
        }
        support.spawn("rotation-reports", OnEnd::Stop, reporter.run(follower.clone(), stop.clone()));
        support.spawn("membership", OnEnd::Stop, follower.run(effects, stop.clone()));
        if let Some(kubernetes) = kubernetes {
            let listed = readiness.condition("derived-services");
            kubernetes.start(&support, Around { kept, reach, listed });
        }
        let certificate = readiness.condition("certificate");
        support.spawn("identity", OnEnd::Stop, keeper.run(around, certificate, stop.clone()));
        if let Some(source) = source {
            support.spawn("identity-source", OnEnd::Stop, source.run(stop.clone()));
        }
        support.spawn("policy-report", OnEnd::Stop, path.audited.clone().keep(stop.clone()));
        support.spawn("deliver", OnEnd::Stop, deliver_streams(path, started.inbound));
        support.spawn("tunnels", OnEnd::Stop, started.driver);
        support.spawn("tunnels-close", OnEnd::Stop, close(started.tunnels, stop.clone()));
        support.spawn("dns", OnEnd::Stop, servers.dns.run(tables, stop.clone()));
        support.spawn("admin-http", OnEnd::Stop, servers.admin.serve(stop.clone()));
        support.spawn("admin-socket", OnEnd::Stop, servers.socket.serve(servers.administration, stop));
    }
}

/// What answers people and resolvers, already bound.
struct Servers {
    dns: DnsServer,
    sni: Option<TcpListener>,
    mtls: Option<TcpListener>,
    admin: AdminServer,
    socket: AdminSocket,
    administration: Arc<Administration>,
}

impl Servers {
    async fn open(parts: &Parts, mut registry: Registry) -> anyhow::Result<Self> {
        let config = &parts.config;
        let dns = DnsConfig { listen: config.dns.listen, ttl: config.dns.ttl };
        let dns = DnsServer::bind(dns, &mut registry).await?;
        let sni = listener(config.outbound.sni_listen, "outbound.sni_listen")?;
        let mtls = listener(config.outbound.mtls_listen, "outbound.mtls_listen")?;
        let administration = Arc::new(Administration {
            config: config.clone(),
            identity: parts.identity.clone(),
            follower: parts.follower.clone(),
            tunnels: parts.started.tunnels.clone(),
            tables: parts.tables.clone(),
            manifests: parts.objects.subscribe(),
            source: parts.objects.view(),
            controllers: parts.kubernetes.as_ref().map(Kubernetes::findings),
            delegated: parts.kubernetes.as_ref().and_then(Kubernetes::delegated),
            notices: parts.control.notices(),
            reach: parts.surveyor.reach(),
            readiness: parts.readiness.clone(),
            recorder: parts.path.recorder.clone(),
            audited: parts.path.audited.clone(),
            started_at: Timestamp::from(SystemTime::now()),
            joins: TaskTracker::new(),
        });
        let (tables, source) = (parts.tables.clone(), parts.objects.view());
        let admin = Admin::new("landbridge-gateway", parts.readiness.clone(), registry)
            .json("/debug/tables", "the tables in force", move || tables.borrow().view())
            .json("/debug/source", "where objects come from", move || source.json())
            .bind(config.admin.listen, "admin.listen")
            .await?;
        let socket = AdminSocket::bind(&config.state.dir)?;
        Ok(Self { dns, sni, mtls, admin, socket, administration })
    }

    fn addresses(&self, parts: &Parts) -> anyhow::Result<Addresses> {
        Ok(Addresses {
            tunnel: parts.started.tunnels.local_addr()?,
            dns: self.dns.local_addr(),
            admin: self.admin.local_addr(),
            sni: self.sni.as_ref().map(TcpListener::local_addr).transpose()?,
            mtls: self.mtls.as_ref().map(TcpListener::local_addr).transpose()?,
            admin_socket: self.socket.path().to_owned(),
        })
    }
}

/// What the control loop publishes, before anything has been read.
fn control_outputs(config: &Config, readiness: &Readiness, kubernetes: Option<&Kubernetes>) -> ControlOutputs {
    ControlOutputs {
        tables: watch::Sender::new(Arc::new(first_tables(config))),
        catalog: watch::Sender::new(Editions::from(Catalog::empty(config.cluster.name.clone()))),
        judged: watch::Sender::default(),
        asking: kubernetes.map(Kubernetes::asking),
        compiled: readiness.condition("tables"),
        peers: readiness.condition("peers"),
    }
}

fn listener(address: Option<SocketAddr>, key: &str) -> anyhow::Result<Option<TcpListener>> {
    let listen = |address| {
        let context = || format!("cannot listen on {address} (`{key}`); set `{key}` to a free address");
        listeners::listen(address).with_context(context)
    };
    address.map(listen).transpose()
}

fn tunnel_config(config: &Config) -> anyhow::Result<TunnelConfig> {
    Ok(TunnelConfig {
        own_advertises: !config.tunnel.advertise.is_empty(),
        software: crate::SOFTWARE.to_owned(),
        idle_timeout: config.tunnel.idle_timeout,
        keep_alive: config.tunnel.keep_alive,
        // Three pings may be lost or late before the lease is.
        ping: config.tunnel.lease / 4,
        lease: config.tunnel.lease,
        streams_per_peer: config.limits.streams_per_peer,
        congestion: match config.tunnel.congestion {
            crate::config::Congestion::Cubic => Congestion::Cubic,
            crate::config::Congestion::Bbr => Congestion::Bbr,
        },
        reset_key: Some(reset_key::open(&config.state.dir)?),
        ..TunnelConfig::new(config.cluster.name.clone(), format!("{:032x}", rand::random::<u128>()))
    })
}

/// Waits for the connections that live, for `limit` at most; those that are left are cut, so that each ends as what it is
/// and leaves its record.
async fn finish(path: Arc<DataPath>, limit: Duration, stop: CancellationToken) {
    stop.cancelled().await;
    path.draining.cancel();
    path.connections.close();
    if timeout(limit, path.connections.wait()).await.is_ok() {
        return;
    }
    path.recorder.shut_down();
    let connections = path.live.cut_all(Outcome::Draining);
    tracing::warn!(connections, "cut the connections that did not end within limits.drain_timeout");
    // Those that are being set up end with the process.
    let _ = timeout(CUT_LIMIT, path.connections.wait()).await;
}

async fn close(tunnels: Tunnels, stop: CancellationToken) {
    stop.cancelled().await;
    tunnels.close("the gateway has shut down");
}

#[cfg(test)]
mod tests;
