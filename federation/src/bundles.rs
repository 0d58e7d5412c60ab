//! The SPIFFE bundle endpoint: where others read the bundles of this set's trust domains (SPIFFE Federation, section 5).
//!
//! Owns the two listeners, one of each profile, and the limits of their connections: everybody may ask, so nobody is asked
//! for a certificate and nobody gets more than one answer a connection. Never serves a bundle that was read elsewhere.
//!
//! ```text
//! https_spiffe   presents the service's own SVID          ┐
//! https_web      presents the pair in bundles.web_dir     ┴── answer: GET / and GET /<trust domain>
//! ```

use std::{collections::BTreeMap, convert::Infallible, io, net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use federation_runtime::tls_incoming::TlsIncoming;
use futures::StreamExt as _;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{Id, JoinSet},
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, registry::Registry};

mod answer;
mod web_pair;

pub(crate) use answer::{Facts, Profile};
pub(crate) use web_pair::WebPairFiles;

/// The protocol of an endpoint.
pub(crate) const ALPN: &[u8] = b"http/1.1";
/// Open connections: an importer asks every few minutes and takes milliseconds.
const MAX_CONNECTIONS: usize = 256;
/// Those of one address: many importers may stand behind one NAT.
const MAX_PER_ADDRESS: usize = 32;
/// Until the request is there.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// From the handshake to the last byte, on the slowest of links.
const CONNECTION_LIMIT: Duration = Duration::from_secs(20);
/// When the service stops, answers under way are finished within this.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);
/// The largest request head; hyper accepts no less.
const MAX_HEAD: usize = 8 << 10;

/// One listener.
#[derive(Debug)]
pub(crate) struct Endpoint {
    listener: TcpListener,
    facts: Facts,
    registry: Registry,
    metrics: Metrics,
}

impl Endpoint {
    /// Opens the port; `key` is the setting `address` comes from.
    pub(crate) async fn bind(
        (address, key): (SocketAddr, &'static str),
        facts: Facts,
        registry: Registry,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let explain = || format!("cannot listen on {address} (`{key}`); set `{key}` to a free address");
        let listener = TcpListener::bind(address).await.with_context(explain)?;
        Ok(Self { listener, facts, registry, metrics })
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`; answers under way are finished.
    pub(crate) async fn serve(self, tls: ServerConfig, stop: CancellationToken) {
        // The sender stays here: the configuration stays as it is, what it presents is live.
        let (_keep, config) = watch::channel(Arc::new(tls));
        let mut incoming = TlsIncoming::new(self.listener, config, stop.clone());
        let answerer = Answerer { facts: Arc::new(self.facts), registry: self.registry, metrics: self.metrics };
        let mut open = Open::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = open.connections.join_next_with_id() => open.ended(ended.map_or_else(|error| error.id(), |(id, ())| id)),
                accepted = incoming.next(), if open.connections.len() < MAX_CONNECTIONS => match accepted {
                    Some(Ok(stream)) => open.begin(stream, &answerer),
                    Some(Err(_)) => {}
                    None => break,
                },
            }
        }
        // Whoever takes longer is cut off when the set is dropped.
        let _ = timeout(DRAIN_LIMIT, async { while open.connections.join_next().await.is_some() {} }).await;
    }
}

/// Connections that are open.
#[derive(Debug, Default)]
struct Open {
    connections: JoinSet<()>,
    peers: BTreeMap<Id, IpAddr>,
}

impl Open {
    fn begin(&mut self, stream: TlsStream<TcpStream>, answerer: &Answerer) {
        let Ok(address) = stream.get_ref().0.peer_addr().map(|address| address.ip().to_canonical()) else { return };
        if self.peers.values().filter(|peer| **peer == address).count() >= MAX_PER_ADDRESS {
            tracing::debug!(%address, "connection to the bundle endpoint closed: too many are open from there");
            return;
        }
        let handle = self.connections.spawn(answerer.clone().converse(stream));
        self.peers.insert(handle.id(), address);
    }

    fn ended(&mut self, id: Id) {
        self.peers.remove(&id);
    }
}

/// What a connection needs.
#[derive(Debug, Clone)]
struct Answerer {
    facts: Arc<Facts>,
    registry: Registry,
    metrics: Metrics,
}

impl Answerer {
    /// One request, one answer.
    async fn converse(self, stream: TlsStream<TcpStream>) {
        let service = service_fn(move |request: Request<Incoming>| {
            let response = answer::answer(&request, &self.registry.state(), &self.facts);
            self.metrics.bundle_request(self.facts.profile.label(), response.status().as_u16());
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .keep_alive(false)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        match timeout(CONNECTION_LIMIT, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection to the bundle endpoint broke"),
            Err(_) => tracing::debug!("a connection to the bundle endpoint took too long"),
        }
    }
}
