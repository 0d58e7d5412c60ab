//! The gRPC server.
//!
//! Owns the listener's limits, who may call what, and the way from messages to decisions. Never decides about the set: the
//! state does, through the registry.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use federation_model::{addr::GatewayAddr, audit::Actor, names::ClusterName, spiffe::SpiffeId};
use federation_pki::{
    ca::Authority, external::ExternalRoots, identity::LiveIdentity, token::MAX_ADDRESSES, trust::TrustStore,
};
use federation_runtime::tls_incoming::TlsIncoming;
use proto::{
    convert::member::{Refusal, STORE_KEY},
    federation::v1::{membership_server::MembershipServer, operator_server::OperatorServer},
};
use tokio::sync::{Semaphore, watch as channel};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Server};

use crate::{
    attempts::{Attempts, network},
    clock::Clock,
    config::ServerName,
    foreign::Foreign,
    issuer::InUse,
    metrics::Metrics,
    presence::Presence,
    refused_joins::RefusedJoins,
    registry::Registry,
    state::{audit::By, tokens::TokenRules},
};

mod audit;
mod caller;
mod connections;
mod foreign;
mod membership;
mod operator;
mod recovery;
mod refuse;
mod revocation;
mod rotation;
mod watch;

use caller::Peer;
use connections::Connections;
use refuse::status;

/// The largest request: a member with a full bundle is below 64 KiB.
const MAX_REQUEST: usize = 128 << 10;
/// Calls at a time on one connection: a gateway has a watch and a call or two.
const MAX_STREAMS: u32 = 32;
const MAX_HEADERS: u32 = 16 << 10;
/// A silent connection is probed after this time, and closed when the answer takes longer than the next.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the headers of an answer: a decision waits for one disk write.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A refused join is forgiven after this time.
const JOIN_FORGIVEN: Duration = Duration::from_secs(6);
/// Changes of one member at once, and the time after which one of them is forgiven: gateways change when they are
/// configured anew. At this rate one member needs two years to fill the audit log.
const CHANGES: u32 = 30;
const CHANGE_FORGIVEN: Duration = Duration::from_secs(60);

/// Refused joins, by address.
pub(crate) fn attempts(allowed: u32) -> Arc<Mutex<Attempts<IpAddr>>> {
    Arc::new(Mutex::new(Attempts::new(allowed, JOIN_FORGIVEN)))
}

/// Changes, by member.
pub(crate) fn changes() -> Arc<Mutex<Attempts<ClusterName>>> {
    Arc::new(Mutex::new(Attempts::new(CHANGES, CHANGE_FORGIVEN)))
}

/// Entries of the audit log about one member that has seen what is not in the store: one an hour, for it tries again until
/// an operator has looked. A set of a thousand members needs six weeks to fill the log that way.
const REWIND_FORGIVEN: Duration = Duration::from_secs(3600);

/// Members that have seen what is not in the store.
pub(crate) fn rewinds() -> Arc<Mutex<Attempts<ClusterName>>> {
    Arc::new(Mutex::new(Attempts::new(1, REWIND_FORGIVEN)))
}

/// What every call needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) registry: Registry,
    pub(crate) presence: Presence,
    pub(crate) trust: Arc<TrustStore>,
    pub(crate) attempts: Arc<Mutex<Attempts<IpAddr>>>,
    pub(crate) changes: Arc<Mutex<Attempts<ClusterName>>>,
    pub(crate) rewinds: Arc<Mutex<Attempts<ClusterName>>>,
    pub(crate) refused_joins: Arc<Mutex<RefusedJoins>>,
    pub(crate) searches: Arc<Semaphore>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) tokens: TokenRules,
    pub(crate) foreign: Foreign,
    pub(crate) service: Arc<ServiceFacts>,
    pub(crate) stop: CancellationToken,
}

/// What the service says of itself.
#[derive(Debug)]
pub(crate) struct ServiceFacts {
    /// The authority in use.
    pub(crate) in_use: channel::Receiver<InUse>,
    /// What it presents.
    pub(crate) identity: Arc<LiveIdentity>,
    /// Whether joins wait for approval (`join.require_approval`).
    pub(crate) require_approval: bool,
    pub(crate) id: SpiffeId,
    pub(crate) names: Vec<ServerName>,
    pub(crate) listen: SocketAddr,
    /// Where the authorities of members must come from, when that is not left to them.
    pub(crate) external: Option<Arc<ExternalRoots>>,
}

impl ServiceFacts {
    /// The authority that tokens pin, and that exported logs are sealed with.
    fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.in_use.borrow().authority)
    }

    /// Where others reach the service: the configured names, else the address it listens on, else the one on which this
    /// caller reached it.
    fn addresses(&self, peer: &Peer) -> Vec<GatewayAddr> {
        let port = self.listen.port();
        let named: Vec<_> = self.names.iter().filter_map(|name| name.address(port)).take(MAX_ADDRESSES).collect();
        if !named.is_empty() {
            return named;
        }
        let ip = if self.listen.ip().is_unspecified() { peer.local.ip().to_canonical() } else { self.listen.ip() };
        SocketAddr::new(ip, port).to_string().parse().into_iter().collect()
    }
}

/// Searches of the audit log at a time.
pub(crate) fn searches() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(audit::MAX_SEARCHES))
}

impl Context {
    /// Who changes something with a call of `actor`.
    fn by(&self, actor: Actor, peer: &Peer) -> By {
        By { actor, from: Some(peer.address.ip()), at: self.clock.now() }
    }

    /// Refuses an address that failed too often.
    fn admit_attempt(&self, from: IpAddr) -> Result<(), Status> {
        self.attempts().check(&network(from), Instant::now()).map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            let text = format!("too many refused joins from {from}: wait {seconds} s and try again");
            self.refuse(Refusal::TooManyAttempts, text)
        })
    }

    fn failed_attempt(&self, from: IpAddr) {
        self.attempts().count(&network(from), Instant::now());
    }

    /// Holders of the lock only count, so a poisoned one is still whole.
    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts<IpAddr>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a change of what a member says of itself, and refuses it when there were too many: each is told to every
    /// other member, and to the audit log.
    fn admit_change(&self, cluster: &ClusterName) -> Result<(), Status> {
        let now = Instant::now();
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = changes.check(cluster, now);
        if checked.is_ok() {
            changes.count(cluster, now);
        }
        drop(changes);
        checked.map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            let text = format!(
                "cluster {cluster} changes its addresses too often: wait {seconds} s, and give its gateways the same `tunnel.advertise`"
            );
            self.refuse(Refusal::TooManyAttempts, text)
        })
    }

    /// Counts a refusal and words it.
    fn refuse(&self, refusal: Refusal, message: impl Into<String>) -> Status {
        self.metrics.refused(refusal);
        let mut status = status(refusal, message);
        if refusal == Refusal::NotAMember
            && let Ok(store_id) = self.registry.state().store_id.to_string().parse()
        {
            status.metadata_mut().insert(STORE_KEY, store_id);
        }
        status
    }
}

/// Serves until the context's `stop`; calls under way are answered, watches are ended.
pub(crate) async fn serve(context: Context, incoming: TlsIncoming) -> Result<(), tonic::transport::Error> {
    let connections = Connections::new(incoming, &context);
    let stop = context.stop.clone();
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADERS)
        .max_concurrent_streams(MAX_STREAMS)
        .timeout(CALL_TIMEOUT)
        .add_service(MembershipServer::new(membership::Calls(context.clone())).max_decoding_message_size(MAX_REQUEST))
        .add_service(OperatorServer::new(operator::Calls(context)).max_decoding_message_size(MAX_REQUEST))
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
        .await
}
