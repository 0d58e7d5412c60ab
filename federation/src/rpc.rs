//! The gRPC server.
//!
//! Owns the listener's limits, who may call what, and the way from messages to decisions. Never decides about the set: the
//! state does, through the registry.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use federation_model::{addr::GatewayAddr, bundle::Fingerprint, spiffe::SpiffeId};
use federation_pki::{token::MAX_ADDRESSES, trust::TrustStore};
use federation_runtime::tls_incoming::TlsIncoming;
use proto::{
    convert::member::{Refusal, STORE_KEY},
    federation::v1::{membership_server::MembershipServer, operator_server::OperatorServer},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Server};

use crate::{
    attempts::Attempts, clock::Clock, config::ServerName, metrics::Metrics, presence::Presence, registry::Registry,
    state::tokens::TokenRules,
};

mod caller;
mod connections;
mod membership;
mod operator;
mod refuse;
mod revocation;
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

/// What every call needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) registry: Registry,
    pub(crate) presence: Presence,
    pub(crate) trust: Arc<TrustStore>,
    pub(crate) attempts: Arc<Mutex<Attempts>>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) tokens: TokenRules,
    pub(crate) service: Arc<ServiceFacts>,
    pub(crate) stop: CancellationToken,
}

/// What does not change while the service runs.
#[derive(Debug)]
pub(crate) struct ServiceFacts {
    /// The authority that tokens pin.
    pub(crate) authority: Fingerprint,
    pub(crate) id: SpiffeId,
    pub(crate) names: Vec<ServerName>,
    pub(crate) listen: SocketAddr,
}

impl ServiceFacts {
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

impl Context {
    /// Refuses an address that failed too often.
    fn admit_attempt(&self, from: IpAddr) -> Result<(), Status> {
        self.attempts().check(from, Instant::now()).map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            let text = format!("too many refused joins from {from}: wait {seconds} s and try again");
            self.refuse(Refusal::TooManyAttempts, text)
        })
    }

    fn failed_attempt(&self, from: IpAddr) {
        self.attempts().failed(from, Instant::now());
    }

    /// Holders of the lock only count, so a poisoned one is still whole.
    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
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
