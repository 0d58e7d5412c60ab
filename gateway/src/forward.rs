//! Stage four: a cluster takes the connection, this one or another over a tunnel.
//!
//! Owns the order of attempts and the bytes kept for the next one. Header and first bytes leave together; until the reply
//! arrives the client's bytes are kept, so that a failed connect is tried elsewhere without the application noticing.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use federation_model::{catalog::SessionAffinity, names::ClusterName, outcome::Outcome};
use gateway_core::{
    addresses::fnv1a,
    header::{Destination, StreamHeader, StreamReply},
    pick::{Draw, Load},
    tables::{Route, Tables},
};
use gateway_tunnel::OutboundStream;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    accept::Refused,
    deliver::{self, Delivery, NotDelivered},
    identify::Identified,
    live::Grant,
    path::DataPath,
    route::Routed,
    splice::{Counts, Source, TcpEnd, splice},
};

/// How many clusters one connection is tried on: a failover must not multiply the load of an outage.
const MAX_ATTEMPTS: usize = 4;
/// How many of the client's bytes are kept for another attempt; more wait in the client's socket until the reply.
const MAX_REPLAY: usize = 64 * 1024;
/// How long a cluster may take to reply, on top of what its gateway gives its endpoints.
const REPLY_MARGIN: Duration = Duration::from_secs(5);

/// What took the connection.
#[derive(Debug)]
enum Carrier {
    Endpoint(TcpStream),
    Tunnel(Box<OutboundStream>),
}

/// A connection on its way to a cluster that takes it.
#[derive(Debug)]
struct Forwarding<'a> {
    path: &'a DataPath,
    tables: Arc<Tables>,
    header: StreamHeader,
    client: TcpEnd,
    replay: Replay,
}

/// The client's bytes that no destination has confirmed yet.
#[derive(Debug)]
struct Replay {
    bytes: BytesMut,
    ended: bool,
}

impl Replay {
    fn has_room(&self) -> bool {
        !self.ended && self.bytes.len() < MAX_REPLAY
    }
}

/// Carries one connection to its end.
///
/// # Errors
/// When no cluster takes it.
pub async fn forward(routed: Routed, path: &Arc<DataPath>) -> Result<(), Refused> {
    let Routed { identified, route } = routed;
    let Identified { mut accepted, tables, caller, server_name, prefix } = identified;
    let header = StreamHeader {
        destination: Destination {
            service: route.service.clone(),
            port: route.port,
            transport: route.transport,
            endpoint: route.endpoint.clone(),
        },
        caller,
        trace: accepted.record.trace(),
        client: Some(accepted.client),
        server_name,
    };
    path.retries.earn();
    let replay = Replay { bytes: prefix, ended: false };
    let mut forwarding = Forwarding { path, tables, header, client: accepted.end.clone(), replay };
    let mut last: NotDelivered =
        (Outcome::NoHealthyCluster, "no cluster that exports it is reachable and has a ready endpoint".to_owned());
    for cluster in order(&route, accepted.client, path).into_iter().take(MAX_ATTEMPTS) {
        if cluster == path.cluster {
            accepted.record.stays_local();
        } else {
            accepted.record.with_peer(cluster.clone());
        }
        match forwarding.attempt(&cluster).await {
            Ok(carrier) => {
                accepted.record.connected();
                let (outcome, counts) = forwarding.carry(carrier, cluster).await;
                accepted.record.end(outcome, counts, "");
                return Ok(());
            }
            Err((outcome, reason)) => {
                tracing::debug!(%cluster, service = %route.service, %outcome, reason, "attempt failed");
                last = (outcome, reason);
                if !outcome.retryable() || !path.retries.spend() {
                    break;
                }
                accepted.record.retried();
            }
        }
    }
    Err(accepted.refuse(last.0, last.1))
}

impl Forwarding<'_> {
    async fn attempt(&mut self, cluster: &ClusterName) -> Result<Carrier, NotDelivered> {
        let attempt = if *cluster == self.path.cluster {
            deliver::connect(&self.delivery(cluster), &self.tables, self.path).await.map(Carrier::Endpoint)
        } else {
            self.open(cluster).await.map(|stream| Carrier::Tunnel(Box::new(stream)))
        };
        let (service, now) = (&self.header.destination.service, Instant::now().into_std());
        match &attempt {
            Ok(_) => self.path.picker.succeeded(service, cluster),
            Err((outcome, _)) if outcome.retryable() => self.path.picker.failed(service, cluster, now),
            Err(_) => {}
        }
        attempt
    }

    fn delivery<'a>(&'a self, cluster: &'a ClusterName) -> Delivery<'a> {
        let Destination { service, port, endpoint, .. } = &self.header.destination;
        Delivery {
            service,
            port: *port,
            endpoint: endpoint.as_ref(),
            caller: &self.header.caller,
            source_cluster: cluster,
            client: self.header.client,
            server_name: self.header.server_name.as_deref(),
            trace: self.header.trace,
        }
    }

    /// Opens a stream with the header and what the client has said so far, and waits for the reply.
    async fn open(&mut self, cluster: &ClusterName) -> Result<OutboundStream, NotDelivered> {
        let first = Bytes::copy_from_slice(&self.replay.bytes);
        let mut stream = self
            .path
            .tunnels
            .open(cluster, &self.header, first)
            .await
            .map_err(|error| (error.outcome(), error.to_string()))?;
        let patience = self.path.limits.connect_timeout * 3 + REPLY_MARGIN;
        let failed = match tokio::time::timeout(patience, self.reply(&mut stream)).await {
            Ok(Ok(StreamReply::Connected)) => return Ok(stream),
            Ok(Ok(StreamReply::Refused { outcome, reason })) => (outcome, reason),
            Ok(Err(Outcome::ClientReset)) => (Outcome::ClientReset, "the client aborted before the reply".to_owned()),
            Ok(Err(outcome)) => (outcome, format!("cluster {cluster} ended the stream before its reply")),
            Err(_) => (Outcome::ConnectTimeout, format!("cluster {cluster} did not reply in time")),
        };
        stream.abort(failed.0);
        Err(failed)
    }

    /// Waits for the reply while the client's next bytes go out, as long as they can be kept for another attempt.
    async fn reply(&mut self, stream: &mut OutboundStream) -> Result<StreamReply, Outcome> {
        let mut batch = Vec::new();
        loop {
            let more = tokio::select! {
                biased;
                reply = stream.reply() => return reply,
                more = self.client.read(&mut batch), if self.replay.has_room() => more?,
            };
            self.replay.ended = !more;
            for bytes in batch.drain(..) {
                self.replay.bytes.extend_from_slice(&bytes);
                // A stream that takes no more bytes has a reply, or an end, on its way.
                let _ = stream.send.write(bytes).await;
            }
        }
    }

    /// Moves bytes until the connection ends.
    async fn carry(self, carrier: Carrier, cluster: ClusterName) -> (Outcome, Counts) {
        let Self { path, client: mut client_in, replay, .. } = self;
        let mut client_out = client_in.clone();
        let idle = path.limits.idle_timeout;
        let client = (&mut client_in, &mut client_out);
        match carrier {
            Carrier::Endpoint(tcp) => {
                let mut registered = path.live.register(Grant { peer: None, delivered: None });
                let mut endpoint_in = TcpEnd::new(tcp, Outcome::DestinationReset);
                let mut endpoint_out = endpoint_in.clone();
                let first = vec![replay.bytes.freeze()];
                let destination = (&mut endpoint_in, &mut endpoint_out);
                splice(client, destination, first, idle, registered.cut()).await
            }
            Carrier::Tunnel(mut stream) => {
                let mut registered = path.live.register(Grant { peer: Some(cluster), delivered: None });
                let sent = replay.bytes.len() as u64;
                drop(replay);
                let OutboundStream { send, recv, .. } = &mut *stream;
                let destination = (recv, send);
                let (outcome, mut counts) = splice(client, destination, Vec::new(), idle, registered.cut()).await;
                counts.sent += sent;
                (outcome, counts)
            }
        }
    }
}

/// The clusters to try, best first.
fn order(route: &Route, client: SocketAddr, path: &DataPath) -> Vec<ClusterName> {
    let load = |cluster: &ClusterName| Load {
        outstanding: u32::try_from(path.tunnels.outstanding(cluster)).unwrap_or(u32::MAX),
        rtt: path.tunnels.rtt(cluster),
    };
    let draw = match route.affinity {
        SessionAffinity::None => Draw::Random(rand::random()),
        SessionAffinity::ClientIp { .. } => Draw::Sticky(affinity_key(client)),
    };
    path.picker.order(route, load, draw, Instant::now().into_std())
}

/// The same for every connection of one client address, in every replica.
fn affinity_key(client: SocketAddr) -> u64 {
    match client.ip().to_canonical() {
        IpAddr::V4(ip) => fnv1a(&ip.octets()),
        IpAddr::V6(ip) => fnv1a(&ip.octets()),
    }
}
