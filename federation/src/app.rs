//! The program: what is started in which order, and how it stops.
//!
//! Owns the wiring. Never handles a call.
//!
//! ```text
//! lock ── authority ── store ── registry ── grpc ── admin ── bundle endpoints        start
//! grpc (calls answered, watches ended), bundle endpoints ── registry, identity, polls ── admin ── lock      stop
//! ```

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use federation_model::{
    audit::Action,
    bundle::{Fingerprint, TrustBundle},
};
use federation_pki::{
    external::ExternalRoots,
    identity::LiveIdentity,
    tls::{Clients, server_config},
    trust::TrustStore,
};
use federation_runtime::{
    admin::{Admin, AdminServer, Readiness},
    state::StateLock,
    tasks::{OnEnd, Stage, Tasks},
    tls_incoming::TlsIncoming,
};
use prometheus_client::registry::Registry as Exposition;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    authority::{self, External, Given, service_id},
    clock::Clock,
    config::Config,
    foreign::{ForeignView, Poller, Probe, RootsSource, Standings, foreign},
    issuer::{InUse, Issuer, Pace, Surroundings},
    lag::Lag,
    metrics::Metrics,
    presence::Presence,
    refused_joins::RefusedJoins,
    registry::{Owner, registry},
    rpc::{self, Context, ServiceFacts},
    state::{
        State,
        audit::{By, SERVICE},
        tokens::TokenRules,
    },
    store::Store,
    views::Set,
};

mod endpoints;

use endpoints::Endpoints;

const NAME: &str = "landbridge-federation";
/// Calls take a disk write; watches end at once.
const GRACE: Duration = Duration::from_secs(10);
/// Renewed certificates are put into the identity, so the TLS configuration itself stays.
const ALPN: &[u8] = b"h2";

/// A started service.
#[derive(Debug)]
pub struct Program {
    grpc: SocketAddr,
    admin: SocketAddr,
    bundles: Option<SocketAddr>,
    bundles_web: Option<SocketAddr>,
    authority: Fingerprint,
    operator_dir: PathBuf,
    first_start: bool,
    tasks: Tasks,
    _lock: StateLock,
}

impl Program {
    /// Where gateways and operators connect.
    #[must_use]
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc
    }

    /// Where health, metrics and views are served.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Where bundles are served with the profile `https_spiffe`, if they are.
    #[must_use]
    pub fn bundles_addr(&self) -> Option<SocketAddr> {
        self.bundles
    }

    /// Where bundles are served with the profile `https_web`, if they are.
    #[must_use]
    pub fn bundles_web_addr(&self) -> Option<SocketAddr> {
        self.bundles_web
    }

    /// The authority of the service, which tokens pin.
    #[must_use]
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }

    /// Where the operator credential lies.
    #[must_use]
    pub fn operator_dir(&self) -> &Path {
        &self.operator_dir
    }

    /// Whether this start set the service up.
    #[must_use]
    pub fn first_start(&self) -> bool {
        self.first_start
    }

    /// Runs until it is asked to stop or cannot go on.
    ///
    /// # Errors
    /// When a task failed that the service cannot do without.
    pub async fn run(self) -> anyhow::Result<()> {
        let shutdown = self.tasks.run(GRACE).await;
        tracing::info!("stopped");
        shutdown.into_result()
    }
}

/// Starts the service and runs it until `stop`.
///
/// # Errors
/// When it cannot start, or cannot go on.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    start(config, stop).await?.run().await
}

/// Starts the service; cancelling `stop` stops it.
///
/// # Errors
/// When a setting, the store, the authority or an address cannot be used.
pub async fn start(config: Config, stop: CancellationToken) -> anyhow::Result<Program> {
    start_with(config, stop, Clock::system(), Pace::default()).await
}

/// As [`start`], with another clock and another pace of its own certificates.
///
/// # Errors
/// As [`start`].
pub async fn start_with(config: Config, stop: CancellationToken, clock: Clock, pace: Pace) -> anyhow::Result<Program> {
    config.check()?;
    let directory = config.directory()?;
    let lock = StateLock::acquire(&directory, NAME).context("`store.url`")?;
    let directory = directory.canonicalize().context("`store.url`")?;
    let kept = Kept::open(&config, &directory, (&clock, pace))?;

    let metrics = Metrics::default();
    let trust = Arc::new(TrustStore::new());
    let (registry, owner) = registry(kept.store, kept.state, Arc::clone(&trust), metrics.clone());
    let listener = bind(config.grpc.listen).await?;
    let grpc = listener.local_addr()?;
    let identity = Arc::new(LiveIdentity::new(kept.issuer.first()?));
    let (in_use, operator_dir) = (kept.issuer.in_use.subscribe(), kept.issuer.operator_dir.clone());
    let authority = in_use.borrow().authority.fingerprint();

    let (foreign, poller) = foreign(Probe {
        registry: registry.clone(),
        standings: Standings::default(),
        metrics: metrics.clone(),
        clock: clock.clone(),
        roots: RootsSource(config.bundles.web_roots.clone()),
    });
    let tasks = Tasks::new(stop);
    let context = Context {
        registry,
        foreign,
        presence: Presence::new(metrics.clone()),
        trust,
        attempts: rpc::attempts(config.join.failures),
        changes: rpc::changes(),
        rewinds: rpc::rewinds(),
        refused_joins: Arc::new(Mutex::new(RefusedJoins::default())),
        searches: rpc::searches(),
        metrics,
        clock,
        tokens: TokenRules { ttl: config.join.token_ttl, max_ttl: config.join.max_token_ttl },
        service: Arc::new(ServiceFacts {
            in_use,
            identity,
            require_approval: config.join.require_approval,
            id: service_id(&config.trust.domain),
            names: config.names()?,
            listen: grpc,
            external: external_roots(&config)?.map(Arc::new),
        }),
        stop: tasks.stage(Stage::Accept).stop().clone(),
    };
    let readiness = Readiness::default();
    let admin = admin(&config, &context, readiness.clone()).await?;
    let endpoints = Endpoints::bind(&config, &context).await?;
    let program = Program {
        grpc,
        admin: admin.local_addr(),
        bundles: endpoints.spiffe_addr(),
        bundles_web: endpoints.web_addr(),
        authority,
        operator_dir,
        first_start: kept.first_start,
        tasks,
        _lock: lock,
    };
    let parts = Parts { owner, issuer: kept.issuer, external: kept.external, listener, admin, endpoints, poller };
    spawn(&program.tasks, parts, context, &readiness)?;
    let Program { admin, bundles, bundles_web, .. } = &program;
    let [bundles, bundles_web] = [bundles, bundles_web].map(|address| address.map(tracing::field::display));
    tracing::info!(%grpc, %admin, bundles, bundles_web, trust_domain = %config.trust.domain, %authority, "serving");
    Ok(program)
}

/// Where the authorities of members must come from; nothing when that is left to them.
fn external_roots(config: &Config) -> anyhow::Result<Option<ExternalRoots>> {
    let Some(file) = &config.trust.external_roots else {
        return Ok(config.trust.require_external_ca.then(ExternalRoots::default));
    };
    let pem = federation_runtime::state::read_text(file).context("`trust.external_roots`")?;
    let roots = ExternalRoots::from_pem(&pem)
        .map_err(|reason| anyhow::anyhow!("{} (`trust.external_roots`) cannot be used: {reason}", file.display()))?;
    Ok(config.trust.require_external_ca.then_some(roots))
}

/// What is on disk.
struct Kept {
    store: Store,
    state: State,
    issuer: Issuer,
    /// Where the authority is put by somebody else, and who is told of another one.
    external: Option<(External, watch::Sender<Given>)>,
    first_start: bool,
}

impl Kept {
    fn open(config: &Config, directory: &Path, (clock, pace): (&Clock, Pace)) -> anyhow::Result<Self> {
        let (authority, made) = authority::authority(config, directory, clock.now())?;
        let store = Store::open(directory)?;
        let bundle = authority.bundle(1);
        let by = By::service(clock.now());
        let (state, new) = match store.load()? {
            Some(state) => (announced(&store, begun(&store, state, Action::LogStarted, &by)?, &bundle, &by)?, false),
            None => {
                let state = State::new(&format!("{:032x}", rand::random::<u128>()), bundle);
                store.create(&state)?;
                (begun(&store, state, Action::SetUp, &by)?, true)
            }
        };
        let names = config.names()?.iter().filter_map(crate::config::ServerName::subject).collect();
        let operator_dir = directory.join("operator");
        let authority = Arc::new(authority);
        let (giving, given) = watch::channel(Given { authority: Arc::clone(&authority), fault: None });
        let (in_use, _) = watch::channel(InUse { authority, renewal: clock.now() });
        let external = config.trust.ca_dir.clone().map(|dir| External { dir, domain: config.trust.domain.clone() });
        let issuer = Issuer { names, operator_dir, clock: clock.clone(), pace, given, in_use };
        issuer.operator()?;
        let external = external.map(|external| (external, giving));
        Ok(Self { store, state, issuer, external, first_start: made || new })
    }
}

/// Begins the audit log where there is none.
fn begun(store: &Store, state: State, action: Action, by: &By) -> anyhow::Result<State> {
    if state.audit.head.index > 0 {
        return Ok(state);
    }
    let authorities: Vec<_> = state.federation.fingerprints().map(|fingerprint| fingerprint.to_string()).collect();
    let detail =
        format!("store {}, authority {}, {} members", state.store_id, authorities.join(" "), state.members.len());
    let writes = [by.entry(action, SERVICE, &detail)];
    let after = state.applied(&writes);
    store.commit(&writes, state.revision, &after)?;
    Ok(after)
}

/// Tells members of an authority that was replaced while the service was down.
fn announced(store: &Store, state: State, bundle: &TrustBundle, by: &By) -> anyhow::Result<State> {
    let mut writes = state.announce(bundle);
    writes.extend(state.told(&writes, by));
    if writes.is_empty() {
        return Ok(state);
    }
    let known = bundle.authorities.iter().all(|authority| state.federation.authorities.contains(authority));
    if !known && !state.members.is_empty() {
        tracing::warn!(
            members = state.members.len(),
            "the authority of the federation service was replaced while it was down: members do not believe the new one and must join again"
        );
    }
    let after = state.applied(&writes);
    store.commit(&writes, state.revision, &after)?;
    Ok(after)
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let explain = |error: io::Error| {
        anyhow::anyhow!("cannot listen on {address} (`grpc.listen`): {error}; set `grpc.listen` to a free address")
    };
    TcpListener::bind(address).await.map_err(explain)
}

async fn admin(config: &Config, context: &Context, readiness: Readiness) -> anyhow::Result<AdminServer> {
    let mut exposition = Exposition::default();
    context.metrics.register(&mut exposition);
    Lag { states: context.registry.states(), presence: context.presence.clone() }.register(&mut exposition);
    readiness.register(exposition.sub_registry_with_prefix("landbridge_federation"));
    let (registry, presence, clock) = (context.registry.clone(), context.presence.clone(), context.clock.clone());
    let (set, foreign) = (registry.clone(), context.foreign.clone());
    let admin = Admin::new(NAME, readiness, exposition)
        .json("/debug/members", "members, and how many tokens there are", move || Set::now(&set, &presence, &clock))
        .json("/debug/foreign", "foreign trust domains, and how reading their bundles goes", move || {
            ForeignView::all(&registry, &foreign)
        });
    Ok(admin.bind(config.admin.listen, "admin.listen").await?)
}

struct Parts {
    owner: Owner,
    issuer: Issuer,
    external: Option<(External, watch::Sender<Given>)>,
    listener: TcpListener,
    admin: AdminServer,
    endpoints: Endpoints,
    poller: Poller,
}

fn spawn(tasks: &Tasks, parts: Parts, context: Context, readiness: &Readiness) -> anyhow::Result<()> {
    let (accept, work, support) = (tasks.stage(Stage::Accept), tasks.stage(Stage::Work), tasks.stage(Stage::Support));
    let identity = Arc::clone(&context.service.identity);
    let tls = server_config(Arc::clone(&identity), Clients::Deferred, ALPN)?;

    support.spawn("admin", OnEnd::Stop, parts.admin.serve(support.stop().clone()));

    let stored = readiness.condition("store");
    let stop = work.stop().clone();
    work.spawn("registry", OnEnd::Stop, async move {
        stored.holds();
        let ended = parts.owner.run(stop).await;
        stored.fails("no changes are accepted any more");
        ended
    });

    work.spawn("refused joins", OnEnd::Stop, context.clone().keep_told(work.stop().clone()));

    let around = Surroundings {
        identity: Arc::clone(&identity),
        registry: context.registry.clone(),
        condition: readiness.condition("identity"),
        metrics: context.metrics.clone(),
    };
    work.spawn("identity", OnEnd::Stop, parts.issuer.keep_fresh(around, work.stop().clone()));
    if let Some((external, giving)) = parts.external {
        // Its death is a bug that a restart should show.
        let following = external.follow(giving, context.clock.clone(), work.stop().clone());
        work.spawn("external authority", OnEnd::Stop, following);
    }
    // What it knows stays without it, and its death is a bug that a restart should show.
    work.spawn("foreign bundles", OnEnd::Stop, parts.poller.run(work.stop().clone()));
    parts.endpoints.spawn(&accept, identity)?;

    let serving = readiness.condition("grpc");
    // The sender goes with the task: the configuration stays as it is, the identity within it is live.
    let (keep, config) = watch::channel(Arc::new(tls));
    let incoming = TlsIncoming::new(parts.listener, config, accept.stop().clone());
    accept.spawn("grpc", OnEnd::Stop, async move {
        serving.holds();
        let ended = Box::pin(rpc::serve(context, incoming)).await;
        serving.fails("stopping");
        drop(keep);
        ended
    });
    Ok(())
}

#[cfg(test)]
mod tests;
