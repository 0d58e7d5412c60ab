//! Stage six: an endpoint of this cluster accepts the connection, and is told who calls the way its export says.
//!
//! Owns the connect with its retries over endpoints. Never judges the caller: that is `authorize`.

use std::{io, net::SocketAddr, sync::Arc};

use federation_model::{
    addr::{Port, Transport},
    caller::Caller,
    export::Deliver,
    names::ClusterName,
    names::EndpointName,
    names::ServiceKey,
    outcome::Outcome,
    trace::TraceContext,
};
use gateway_core::{header::StreamReply, tables::Tables};
use gateway_tunnel::InboundStream;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use crate::{
    authorize::{Authorized, REPLY_LIMIT, Rejected, authorize},
    live::Grant,
    path::DataPath,
    proxy_protocol::Introduction,
    splice::{TcpEnd, splice},
};

/// How many endpoints are tried before the cluster is said to have none.
const MAX_ENDPOINTS: usize = 3;

/// What is to be delivered, for streams of other clusters and for connections that stay here alike.
#[derive(Debug, Clone)]
pub struct Delivery<'a> {
    /// The service.
    pub service: &'a ServiceKey,
    /// Its port.
    pub port: Port,
    /// One endpoint of it, when the caller asks for that one.
    pub endpoint: Option<&'a EndpointName>,
    /// The caller.
    pub caller: &'a Caller,
    /// Its cluster.
    pub source_cluster: &'a ClusterName,
    /// Its address.
    pub client: Option<SocketAddr>,
    /// The server name it asked for.
    pub server_name: Option<&'a str>,
    /// The trace context.
    pub trace: TraceContext,
}

/// Why no endpoint took the connection.
pub type NotDelivered = (Outcome, String);

/// Serves one stream of another cluster.
pub async fn deliver(path: Arc<DataPath>, stream: InboundStream) {
    let delivered = match authorize(stream, &path) {
        Ok(authorized) => to_endpoint(authorized, &path).await,
        Err(rejected) => Err(rejected),
    };
    if let Err(rejected) = delivered {
        rejected.answer().await;
    }
}

async fn to_endpoint(authorized: Authorized, path: &DataPath) -> Result<(), Rejected> {
    let Authorized { mut stream, header, caller, tables, record, place: _place } = authorized;
    let peer = stream.peer.clone();
    let delivery = Delivery {
        service: &header.destination.service,
        port: header.destination.port,
        endpoint: header.destination.endpoint.as_ref(),
        caller: &caller,
        source_cluster: &peer,
        client: header.client,
        server_name: header.server_name.as_deref(),
        trace: header.trace,
    };
    let tcp = match connect(&delivery, &tables, path).await {
        Ok(tcp) => tcp,
        Err((outcome, reason)) => return Err(Rejected::new(stream, record, outcome, reason)),
    };
    let replied = timeout(REPLY_LIMIT, stream.reply(&StreamReply::Connected)).await;
    if let Err(outcome) = replied.unwrap_or(Err(Outcome::TunnelBusy)) {
        return Err(Rejected::new(stream, record, outcome, "the peer went away before the reply".to_owned()));
    }
    record.connected();
    let grant = Grant {
        peer: Some(peer.clone()),
        delivered: Some((delivery.service.clone(), delivery.port)),
        caller: caller.clone(),
        attested_at: None,
    };
    let mut registered = path.live.register(grant);
    let InboundStream { send: to_peer, recv: from_peer, .. } = &mut stream;
    let mut endpoint_in = TcpEnd::new(tcp, Outcome::DestinationReset);
    let mut endpoint_out = endpoint_in.clone();
    let client = (from_peer, to_peer);
    let destination = (&mut endpoint_in, &mut endpoint_out);
    let (outcome, counts) = splice(client, destination, Vec::new(), path.limits.idle_timeout, registered.cut()).await;
    record.end(outcome, counts, "");
    Ok(())
}

/// Connects an endpoint of this cluster and introduces the caller.
///
/// # Errors
/// When the service has no such endpoint, or none of those tried accepts in time.
pub async fn connect(delivery: &Delivery<'_>, tables: &Tables, path: &DataPath) -> Result<TcpStream, NotDelivered> {
    let target = format!("{}:{}", delivery.service, delivery.port);
    let (endpoints, mode) = tables
        .local_endpoints(delivery.service, delivery.port, Transport::Tcp, delivery.endpoint)
        .map_err(|outcome| (outcome, format!("{target} has no endpoint here")))?;
    let mut last = (Outcome::NoEndpoint, format!("{target} has no endpoint here"));
    for address in rotated(&endpoints, delivery).take(MAX_ENDPOINTS) {
        match timeout(path.limits.connect_timeout, introduce(address, mode, delivery, path)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = (Outcome::ConnectRefused, format!("{target} at {address}: {error}")),
            Err(_) => last = (Outcome::ConnectTimeout, format!("{target} at {address}: no answer in time")),
        }
    }
    Err(last)
}

/// The endpoints from a start that spreads connections evenly.
fn rotated<'a>(endpoints: &'a [SocketAddr], delivery: &Delivery<'_>) -> impl Iterator<Item = SocketAddr> + 'a {
    // The trace id is random, so it serves as the dice as well.
    let start = usize::try_from(delivery.trace.trace_id % (endpoints.len().max(1) as u128)).unwrap_or(0);
    endpoints.iter().cycle().skip(start).take(endpoints.len()).copied()
}

async fn introduce(
    address: SocketAddr,
    mode: Deliver,
    delivery: &Delivery<'_>,
    path: &DataPath,
) -> io::Result<TcpStream> {
    let mut tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    match mode {
        Deliver::Plain => {}
        Deliver::ProxyV2 => {
            let host = path.zone.host_of(delivery.service);
            let introduction = Introduction {
                client: delivery.client,
                endpoint: address,
                caller: delivery.caller,
                source_cluster: delivery.source_cluster,
                authority: delivery.server_name.unwrap_or(&host),
                trace: delivery.trace,
            };
            let header = introduction.encode().ok_or_else(|| io::Error::other("the PROXY header is too large"))?;
            tcp.write_all(&header).await?;
        }
    }
    Ok(tcp)
}
