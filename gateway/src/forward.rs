//! Stage four: a cluster takes the connection, this one or another over a tunnel.
//!
//! Owns the order of attempts and the bytes kept for the next one. Header and first bytes leave together; until the reply
//! arrives the client's bytes are kept, so that a failed connect is tried elsewhere without the application noticing.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use federation_model::{
    caller::Caller, catalog::SessionAffinity, names::ClusterName, outcome::Outcome, stable_hash::fnv1a,
};
use gateway_core::{
    header::{Destination, StreamHeader, StreamReply},
    pick::{Draw, Load},
    policy::{Call, Ruling},
    tables::{Route, Tables},
};
use gateway_tunnel::OutboundStream;
use tokio::time::Instant;

use crate::{
    accept::Refused,
    client_end::ClientEnd,
    deliver::{self, Delivered, Delivery, NotDelivered},
    history::{Step, Storyteller},
    identify::Identified,
    live::Grant,
    path::DataPath,
    policy,
    record::Record,
    route::Routed,
    splice::{Counts, Source, splice},
};

/// How often one connection is tried, on one cluster or another: a failover must not multiply the load of an outage.
const MAX_ATTEMPTS: usize = 4;
/// How many of the client's bytes are kept for another attempt; more wait in the client's socket until the reply.
const MAX_REPLAY: usize = 64 * 1024;
/// How long a cluster may take to reply, on top of what its gateway gives its endpoints.
const REPLY_MARGIN: Duration = Duration::from_secs(5);

/// What took the connection.
#[derive(Debug)]
enum Carrier {
    Endpoint(Delivered),
    Tunnel(Box<OutboundStream>),
}

/// A connection on its way to a cluster that takes it.
#[derive(Debug)]
struct Forwarding<'a> {
    path: &'a Arc<DataPath>,
    tables: Arc<Tables>,
    header: StreamHeader,
    /// The address that told who calls, where that is how it is known.
    attested_at: Option<IpAddr>,
    client: ClientEnd,
    replay: Replay,
}

/// The client's bytes that no destination has confirmed yet.
#[derive(Debug)]
struct Replay {
    bytes: BytesMut,
    /// The end of `bytes` that the stream under way did not take yet.
    unsent: Vec<Bytes>,
    ended: bool,
}

impl Replay {
    fn keep(&mut self, bytes: Bytes) {
        self.bytes.extend_from_slice(&bytes);
        self.unsent.push(bytes);
    }

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
    let Identified { mut accepted, tables, caller, server_name, prefix, port: _ } = identified;
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
    let replay = Replay { bytes: prefix, unsent: Vec::new(), ended: false };
    let attested_at = attested_at(&header.caller, accepted.client);
    let mut forwarding = Forwarding { path, tables, header, attested_at, client: accepted.end.clone(), replay };
    let mut last: NotDelivered =
        (Outcome::NoHealthyCluster, "no cluster that exports it is reachable and has a ready endpoint".to_owned());
    let mut clusters = VecDeque::from(order(&route, accepted.client, path));
    accepted.record.tell(Step::Routed(clusters.iter().cloned().collect()));
    for _attempt in 0..MAX_ATTEMPTS {
        let Some(cluster) = clusters.pop_front() else { break };
        if cluster == path.cluster {
            accepted.record.stays_local();
        } else {
            accepted.record.goes_to(cluster.clone());
        }
        match forwarding.attempt(&cluster, !clusters.is_empty(), &mut accepted.record).await {
            Ok(carrier) => {
                accepted.record.tell(Step::Taken(cluster.clone()));
                accepted.record.connected();
                let story = accepted.record.storyteller();
                let (outcome, counts, ruling) = forwarding.carry(carrier, cluster, story).await;
                if let Some(ruling) = ruling {
                    accepted.record.refused_by(ruling);
                }
                accepted.record.end(outcome, counts, "");
                return Ok(());
            }
            Err((outcome, reason)) => {
                tracing::debug!(%cluster, service = %route.service, %outcome, reason, "attempt failed");
                accepted.record.tried(&cluster, outcome, &reason);
                last = (outcome, reason);
                if !outcome.retryable() || !path.retries.spend() {
                    break;
                }
                accepted.record.retried();
                // The gateway that was asked is gone, another one of the same cluster is there.
                if matches!(outcome, Outcome::TunnelLost | Outcome::Draining) && path.tunnels.reachable(&cluster) {
                    clusters.push_front(cluster);
                }
            }
        }
    }
    Err(accepted.refuse_after(forwarding.replay.bytes, last.0, last.1))
}

impl Forwarding<'_> {
    /// Tries one cluster; `others` says whether more are left.
    async fn attempt(
        &mut self,
        cluster: &ClusterName,
        others: bool,
        record: &mut Record,
    ) -> Result<Carrier, NotDelivered> {
        let attempt = if *cluster == self.path.cluster {
            self.deliver(cluster, record).await.map(Carrier::Endpoint)
        } else {
            self.open(cluster, others, record).await.map(|stream| Carrier::Tunnel(Box::new(stream)))
        };
        let (service, now) = (&self.header.destination.service, Instant::now().into_std());
        match &attempt {
            Ok(_) => self.path.picker.succeeded(service, cluster),
            Err((outcome, _)) if outcome.retryable() => self.path.picker.failed(service, cluster, now),
            Err(_) => {}
        }
        attempt
    }

    /// Takes the connection here, in the caller's own cluster: what is asked of the streams of others is asked of it, too.
    async fn deliver(&mut self, own: &ClusterName, record: &mut Record) -> Result<Delivered, NotDelivered> {
        let Self { path, tables, header, client, replay, attested_at: _ } = self;
        let Destination { service, port, endpoint, .. } = &header.destination;
        let call = Call { caller: &header.caller, source_cluster: own, service, port: *port };
        let admitted = policy::admit(path, tables, &call, record)?;
        let delivery = Delivery {
            service,
            port: *port,
            endpoint: endpoint.as_ref(),
            caller: &header.caller,
            source_cluster: own,
            client: header.client,
            server_name: header.server_name.as_deref(),
            trace: header.trace,
            admitted,
            story: record.storyteller(),
        };
        deliver::connect(&delivery, tables, path, (client, &mut replay.bytes)).await
    }

    /// Opens a stream with the header and what the client has said so far, and waits for the reply.
    async fn open(
        &mut self,
        cluster: &ClusterName,
        others: bool,
        record: &mut Record,
    ) -> Result<OutboundStream, NotDelivered> {
        let first = Bytes::copy_from_slice(&self.replay.bytes);
        self.replay.unsent.clear();
        let mut stream = self
            .path
            .tunnels
            .open(cluster, &self.header, first)
            .await
            .map_err(|error| (error.outcome(), error.to_string()))?;
        let patience = self.path.limits.connect_timeout.saturating_mul(3).saturating_add(REPLY_MARGIN);
        let (silence, path) = (stream.silence(), self.path);
        let deserted = async {
            silence.await;
            // A late reply is better than none where there is nobody else to ask.
            if !others && !path.tunnels.reachable(cluster) {
                std::future::pending().await
            }
        };
        let answer = tokio::select! {
            biased;
            answer = tokio::time::timeout(patience, self.reply(&mut stream)) => answer,
            () = deserted => Ok(Err(Outcome::TunnelLost)),
        };
        let failed = match answer {
            Ok(Ok(StreamReply::Connected)) => return Ok(stream),
            Ok(Ok(StreamReply::Refused { outcome, reason, by })) => {
                if let Some(by) = by {
                    record.refused_by(by);
                }
                (outcome, reason)
            }
            Ok(Err(Outcome::ClientReset)) => (Outcome::ClientReset, "the client aborted before the reply".to_owned()),
            Ok(Err(outcome)) => {
                (outcome, format!("cluster {cluster} ended the stream, or fell silent, before its reply"))
            }
            Err(_) => (Outcome::ConnectTimeout, format!("cluster {cluster} did not reply in time")),
        };
        stream.abort(failed.0);
        Err(failed)
    }

    /// Waits for the reply while the client's next bytes go out, as long as they can be kept for another attempt.
    async fn reply(&mut self, stream: &mut OutboundStream) -> Result<StreamReply, Outcome> {
        let (send, mut reply) = stream.split();
        let Self { client, replay, .. } = self;
        let mut batch = Vec::new();
        loop {
            let (all_sent, has_room) = (replay.unsent.is_empty(), replay.has_room());
            tokio::select! {
                biased;
                reply = reply.read() => return reply,
                // A stream that takes no more bytes has a reply, or an end, on its way.
                _ = send.write_chunks(&mut replay.unsent), if !all_sent => replay.unsent.clear(),
                more = client.read(&mut batch), if all_sent && has_room => {
                    replay.ended = !more?;
                    batch.drain(..).for_each(|bytes| replay.keep(bytes));
                }
            }
        }
    }

    /// Moves bytes until the connection ends; what refused it, when a policy of this cluster did.
    async fn carry(
        self,
        carrier: Carrier,
        cluster: ClusterName,
        story: Storyteller,
    ) -> (Outcome, Counts, Option<Ruling>) {
        let Self { path, client: mut client_in, replay, header, attested_at, .. } = self;
        let mut client_out = client_in.clone();
        let idle = path.limits.idle_timeout;
        let caller = header.caller.clone();
        let client = (&mut client_in, &mut client_out);
        match carrier {
            Carrier::Endpoint(endpoint) => {
                let Destination { service, port, .. } = header.destination;
                let (delivered, requests) = (Some((service, port)), endpoint.requests());
                let mut registered = path.live.register(Grant { peer: None, delivered, caller, attested_at, requests });
                let (outcome, counts) =
                    endpoint.carry(client, replay.bytes.freeze(), (path, story), &mut registered).await;
                (outcome, counts, registered.refused_by())
            }
            Carrier::Tunnel(mut stream) => {
                let grant = Grant { peer: Some(cluster), delivered: None, caller, attested_at, requests: None };
                let mut registered = path.live.register(grant);
                let unsent: usize = replay.unsent.iter().map(Bytes::len).sum();
                let sent = (replay.bytes.len() - unsent) as u64;
                drop(replay.bytes);
                let OutboundStream { send, recv, .. } = &mut *stream;
                let destination = (recv, send);
                let (outcome, mut counts) = splice(client, destination, replay.unsent, idle, registered.cut()).await;
                counts.sent += sent;
                (outcome, counts, None)
            }
        }
    }
}

/// Where the pod is that vouches for the caller.
fn attested_at(caller: &Caller, client: SocketAddr) -> Option<IpAddr> {
    match caller {
        Caller::Vouched { .. } => Some(client.ip().to_canonical()),
        Caller::Workload { .. } | Caller::Unknown => None,
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
