//! Stage six: an endpoint of this cluster accepts the connection, and is told who calls the way its export says.
//!
//! Owns the connect with its retries over endpoints, and what stands before the first byte of the client. Never judges the
//! caller: that is `authorize`.

mod end;
mod endpoint_io;
mod http;
mod pipe;
mod tls;

use std::{io, net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
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
    client_hello,
    history::{Step, Storyteller},
    live::{Grant, Registered},
    path::DataPath,
    policy::Admitted,
    proxy_protocol::Introduction,
    requests::Requests,
    splice::{Counts, Sink, Source, TcpEnd, splice},
    tls_end::TlsEnd,
};

pub use self::{end::EndpointEnd, http::HttpDelivery, tls::EndpointTrust};

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
    /// What the policies say.
    pub admitted: Admitted,
    /// Where it is told which endpoint took it.
    pub story: Storyteller,
}

/// What takes the bytes of the client.
#[derive(Debug)]
pub enum Delivered {
    /// An endpoint.
    Bytes(EndpointEnd),
    /// HTTP, between the client and endpoints.
    Http(Box<HttpDelivery>),
}

impl Delivery<'_> {
    /// Whether the bytes are the client's own TLS: it was routed by the name in its ClientHello, and no gateway has opened it
    /// to see its certificate.
    fn is_tls_already(&self) -> bool {
        match self.caller {
            Caller::Unknown | Caller::Vouched { .. } => self.server_name.is_some(),
            Caller::Workload { .. } => false,
        }
    }
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

async fn to_endpoint(authorized: Authorized, path: &Arc<DataPath>) -> Result<(), Rejected> {
    let Authorized { mut stream, header, caller, admitted, tables, mut record, place: _place } = authorized;
    let peer = stream.peer.clone();
    let story = record.storyteller();
    let delivery = Delivery {
        service: &header.destination.service,
        port: header.destination.port,
        endpoint: header.destination.endpoint.as_ref(),
        caller: &caller,
        source_cluster: &peer,
        client: header.client,
        server_name: header.server_name.as_deref(),
        trace: header.trace,
        admitted,
        story: story.clone(),
    };
    let mut seen = BytesMut::new();
    let delivered = match connect(&delivery, &tables, path, (&mut stream.recv, &mut seen)).await {
        Ok(delivered) => delivered,
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
        requests: delivered.requests(),
        attested_at: None,
    };
    let mut registered = path.live.register(grant);
    let InboundStream { send: to_peer, recv: from_peer, .. } = &mut stream;
    let (outcome, counts) = delivered.carry((from_peer, to_peer), seen.freeze(), (path, story), &mut registered).await;
    if let Some(ruling) = registered.refused_by() {
        record.refused_by(ruling);
    }
    record.end(outcome, counts, "");
    Ok(())
}

impl Delivered {
    /// The requests under way, where there are requests.
    #[must_use]
    pub fn requests(&self) -> Option<Arc<Requests>> {
        match self {
            Self::Bytes(_) => None,
            Self::Http(http) => Some(http.requests()),
        }
    }

    /// Moves the client's bytes, `first` of which were read already, until the connection ends.
    pub async fn carry<C: Sink>(
        self,
        client: (&mut impl Source, &mut C),
        first: Bytes,
        (path, story): (&Arc<DataPath>, Storyteller),
        registered: &mut Registered,
    ) -> (Outcome, Counts) {
        match self {
            Self::Bytes(mut endpoint_in) => {
                let mut endpoint_out = endpoint_in.clone();
                let destination = (&mut endpoint_in, &mut endpoint_out);
                splice(client, destination, vec![first], path.limits.idle_timeout, registered.cut()).await
            }
            Self::Http(http) => http.serve(client, vec![first], (path, story), registered.cut()).await,
        }
    }
}

/// Connects an endpoint of this cluster, and tells it of the caller in the way of its export. `client` is where the client's
/// bytes come from, and those that were read already: some ways look at them first, and leave all of them to be sent.
///
/// # Errors
/// When the service has no such endpoint, none of those tried accepts in time, or the client does not speak what it must.
pub async fn connect(
    delivery: &Delivery<'_>,
    tables: &Tables,
    path: &DataPath,
    client: (&mut impl Source, &mut BytesMut),
) -> Result<Delivered, NotDelivered> {
    let target = format!("{}:{}", delivery.service, delivery.port);
    let (endpoints, mode) = tables
        .local_endpoints(delivery.service, delivery.port, Transport::Tcp, delivery.endpoint)
        .map_err(|outcome| (outcome, format!("{target} has no endpoint here")))?;
    match &mode {
        // Another cluster says that this is the client's own TLS: an endpoint that is to get TLS gets nothing else.
        Deliver::Tls(_) if delivery.is_tls_already() => expect_tls(&target, &mode, client, path).await?,
        Deliver::Plain | Deliver::ProxyV2 | Deliver::Tls(_) => {}
        Deliver::Passthrough => expect_tls(&target, &mode, client, path).await?,
        Deliver::Http => {
            let http = HttpDelivery::begin(delivery, path).await?;
            return Ok(Delivered::Http(Box::new(http)));
        }
    }
    let mut last = (Outcome::NoEndpoint, format!("{target} has no endpoint here"));
    for address in rotated(&endpoints, delivery.trace).take(MAX_ENDPOINTS) {
        let reason = match timeout(path.limits.connect_timeout, reach(address, &mode, delivery, path)).await {
            Ok(Ok(endpoint)) => {
                delivery.story.tell(Step::Delivered { endpoint: address, mode: mode.label() });
                return Ok(Delivered::Bytes(endpoint));
            }
            Ok(Err(refused)) => refused,
            Err(_) => (Outcome::ConnectTimeout, "no answer in time".to_owned()),
        };
        last = (reason.0, format!("{target} at {address}: {}", reason.1));
    }
    Err(last)
}

/// Waits for the ClientHello of the client: what goes through as its own TLS is TLS and nothing else.
async fn expect_tls(
    target: &str,
    mode: &Deliver,
    (source, seen): (&mut impl Source, &mut BytesMut),
    path: &DataPath,
) -> Result<(), NotDelivered> {
    let silent =
        || (Outcome::ClientSilent, "the client said nothing, or not all of its ClientHello, in time".to_owned());
    let read = timeout(path.limits.hello_timeout, client_hello::read(source, seen)).await;
    match read.unwrap_or_else(|_| Err(silent())) {
        Ok(_hello) => Ok(()),
        Err((outcome, reason)) => Err((
            outcome,
            format!(
                "{target} is delivered as {}, and this is no TLS of the client ({reason}); write landbridge.dev/deliver: plain where clients speak something else, or wait for the server to speak first",
                mode.label()
            ),
        )),
    }
}

/// The endpoints from a start that spreads connections evenly.
fn rotated(endpoints: &[SocketAddr], trace: TraceContext) -> impl Iterator<Item = SocketAddr> {
    // The trace id is random, so it serves as the dice as well.
    let start = usize::try_from(trace.trace_id % (endpoints.len().max(1) as u128)).unwrap_or(0);
    endpoints.iter().cycle().skip(start).take(endpoints.len()).copied()
}

/// Connects one endpoint.
async fn reach(
    address: SocketAddr,
    mode: &Deliver,
    delivery: &Delivery<'_>,
    path: &DataPath,
) -> Result<EndpointEnd, NotDelivered> {
    let refused = |error: io::Error| (Outcome::ConnectRefused, error.to_string());
    let mut tcp = TcpStream::connect(address).await.map_err(refused)?;
    tcp.set_nodelay(true).map_err(refused)?;
    match mode {
        Deliver::ProxyV2 => introduce(&mut tcp, address, delivery, path).await.map_err(refused)?,
        Deliver::Tls(tls) if !delivery.is_tls_already() => {
            let host = path.zone.host_of(delivery.service);
            let secured = path.endpoint_trust.secure(tcp, tls, &host).await;
            let secured = secured.map_err(|reason| (Outcome::EndpointUntrusted, reason))?;
            return Ok(EndpointEnd::Tls(TlsEnd::new(secured.into(), Outcome::DestinationReset)));
        }
        Deliver::Plain | Deliver::Passthrough | Deliver::Http | Deliver::Tls(_) => {}
    }
    Ok(EndpointEnd::Tcp(TcpEnd::new(tcp, Outcome::DestinationReset)))
}

async fn introduce(
    tcp: &mut TcpStream,
    endpoint: SocketAddr,
    delivery: &Delivery<'_>,
    path: &DataPath,
) -> io::Result<()> {
    let host = path.zone.host_of(delivery.service);
    let introduction = Introduction {
        client: delivery.client,
        endpoint,
        caller: delivery.caller,
        source_cluster: delivery.source_cluster,
        authority: delivery.server_name.unwrap_or(&host),
        trace: delivery.trace,
    };
    let header = introduction.encode().ok_or_else(|| io::Error::other("the PROXY header is too large"))?;
    tcp.write_all(&header).await
}
