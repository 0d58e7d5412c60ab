//! Delivery as HTTP: requests with headers that name the caller, each judged by the newest policies.
//!
//! Owns what `gateway-http` asks of a gateway: the judgement of a request, the connection to an endpoint, and the record of a
//! request. HTTP itself is there.

use std::{
    borrow::Cow,
    future::pending,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use federation_model::{
    addr::{Port, Transport},
    caller::Caller,
    names::{ClusterName, EndpointName, ServiceKey},
    outcome::Outcome,
    trace::TraceContext,
};
use gateway_core::policy::{Call, HttpRequest, RefusedBy, Ruling};
use gateway_http::{Connect, ConnectError, Exchange, HttpLimits, Introduction, Judge, Observe, Refused};
use http::{Method, StatusCode};
use tokio::{net::TcpStream, time::timeout};

use super::{Delivery, MAX_ENDPOINTS, NotDelivered, endpoint_io::EndpointIo, pipe::pipe, rotated};
use crate::{
    history::{Step, Storyteller, beginning},
    path::DataPath,
    policy::{self, Admitted},
    requests::Requests,
    splice::{Counts, Sink, Source, splice},
};

/// How long the speaker may take to end when both directions of its connection have.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much of a method or a path is told in the story of a connection, bytes.
const SHOWN: usize = 128;

/// One connection to be delivered as HTTP.
#[derive(Debug)]
pub struct HttpDelivery {
    parties: Arc<Parties>,
    introduction: Introduction,
    /// The endpoint that has accepted already; none when a policy refuses the connection as a whole, so that every request
    /// is refused in the words of HTTP.
    first: Option<TcpStream>,
    requests: Arc<Requests>,
}

/// Who calls what.
#[derive(Debug)]
struct Parties {
    caller: Caller,
    source_cluster: ClusterName,
    service: ServiceKey,
    port: Port,
    endpoint: Option<EndpointName>,
    trace: TraceContext,
}

impl Parties {
    fn call(&self) -> Call<'_> {
        let Self { caller, source_cluster, service, port, .. } = self;
        Call { caller, source_cluster, service, port: *port }
    }
}

impl HttpDelivery {
    /// Connects an endpoint for the first request, unless no request is going to be allowed.
    ///
    /// # Errors
    /// When the client speaks TLS, or no endpoint accepts: another cluster may have one.
    pub async fn begin(delivery: &Delivery<'_>, path: &DataPath) -> Result<Self, NotDelivered> {
        if delivery.is_tls_already() {
            return Err((
                Outcome::BadRequest,
                format!(
                    "{}:{} is delivered as http, and the client speaks TLS that no gateway can read: let it use the import \
                     address, or outbound.mtls_listen",
                    delivery.service, delivery.port
                ),
            ));
        }
        let parties = Arc::new(Parties {
            caller: delivery.caller.clone(),
            source_cluster: delivery.source_cluster.clone(),
            service: delivery.service.clone(),
            port: delivery.port,
            endpoint: delivery.endpoint.cloned(),
            trace: delivery.trace,
        });
        let first = match delivery.admitted {
            Admitted::Passes => Some(dial(&parties, path).await?),
            Admitted::ToBeTold => None,
        };
        let introduction = Introduction {
            caller: delivery.caller.clone(),
            source_cluster: Some(delivery.source_cluster.clone()),
            by: path.gateway_id.clone(),
            client: delivery.client,
            trace: delivery.trace,
            authority: path.zone.host_of(delivery.service).parse().ok(),
        };
        Ok(Self { parties, introduction, first, requests: Arc::default() })
    }

    /// The requests under way, for the judgement of the connection while it lives.
    #[must_use]
    pub fn requests(&self) -> Arc<Requests> {
        self.requests.clone()
    }

    /// Delivers until the connection ends. `first` was read from the client already.
    pub async fn serve<C: Sink>(
        self,
        client: (&mut impl Source, &mut C),
        first: Vec<Bytes>,
        (path, story): (&Arc<DataPath>, Storyteller),
        cut: impl Future<Output = Outcome> + Send,
    ) -> (Outcome, Counts) {
        let Self { parties, introduction, first: endpoint, requests } = self;
        let rulings = Rulings { path: path.clone(), parties: parties.clone(), story: story.clone(), requests };
        let delivery = gateway_http::Delivery {
            introduction,
            judge: rulings.clone(),
            connect: Endpoints { path: path.clone(), parties, story, first: Mutex::new(endpoint) },
            observe: rulings,
            limits: HttpLimits { idle: path.limits.idle_timeout, ..HttpLimits::default() },
        };
        let (spoken, mut source, mut sink, tell) = pipe();
        let serving = async {
            let served = gateway_http::serve(spoken, delivery, cut, path.draining.cancelled()).await;
            tell.send_replace(Some(served.outcome));
            served
        };
        let carrying = splice(client, (&mut source, &mut sink), first, path.limits.idle_timeout, pending());
        tokio::pin!(serving, carrying);
        let (served, (outcome, counts)) = tokio::select! {
            biased;
            served = &mut serving => (Some(served), carrying.await),
            carried = &mut carrying => {
                // An end in order follows by itself; any other ends what is spoken.
                let served = if carried.0 == Outcome::Completed { timeout(LAST_WORDS, serving).await.ok() } else { None };
                (served, carried)
            }
        };
        let outcome = match served {
            Some(served) if served.outcome != Outcome::Completed => served.outcome,
            Some(served)
                if outcome == Outcome::Completed && served.requests > 0 && served.refused == served.requests =>
            {
                Outcome::Denied
            }
            Some(_) | None => outcome,
        };
        (outcome, counts)
    }
}

/// Connects an endpoint of this cluster.
async fn dial(parties: &Parties, path: &DataPath) -> Result<TcpStream, NotDelivered> {
    let Parties { service, port, endpoint, trace, .. } = parties;
    let tables = path.tables.borrow().clone();
    let none = |outcome| (outcome, format!("{service}:{port} has no endpoint here"));
    let found = tables.local_endpoints(service, *port, Transport::Tcp, endpoint.as_ref()).map_err(none)?;
    let mut last = none(Outcome::NoEndpoint);
    for address in rotated(&found.0, *trace).take(MAX_ENDPOINTS) {
        let connected = timeout(path.limits.connect_timeout, TcpStream::connect(address)).await;
        last = match connected.map(|connected| connected.and_then(without_delay)) {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => (Outcome::ConnectRefused, format!("{service}:{port} at {address}: {error}")),
            Err(_) => (Outcome::ConnectTimeout, format!("{service}:{port} at {address}: no answer in time")),
        };
    }
    Err(last)
}

fn without_delay(tcp: TcpStream) -> io::Result<TcpStream> {
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// The endpoints of one connection.
struct Endpoints {
    path: Arc<DataPath>,
    parties: Arc<Parties>,
    story: Storyteller,
    first: Mutex<Option<TcpStream>>,
}

impl Connect for Endpoints {
    type Io = EndpointIo;

    async fn connect(&self) -> Result<EndpointIo, ConnectError> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let tcp = match first {
            Some(tcp) => tcp,
            None => dial(&self.parties, &self.path).await.map_err(|(outcome, reason)| {
                tracing::debug!(%outcome, reason, "no endpoint took a request");
                unreachable_by(outcome)
            })?,
        };
        if let Ok(endpoint) = tcp.peer_addr() {
            self.story.tell(Step::Delivered { endpoint, mode: "http" });
        }
        Ok(EndpointIo::new(tcp))
    }
}

fn unreachable_by(outcome: Outcome) -> ConnectError {
    if outcome == Outcome::ConnectRefused {
        ConnectError::Refused
    } else if outcome == Outcome::ConnectTimeout {
        ConnectError::TimedOut
    } else {
        ConnectError::NoEndpoint
    }
}

/// What becomes of the requests of one connection. A clone is the same.
#[derive(Debug, Clone)]
struct Rulings {
    path: Arc<DataPath>,
    parties: Arc<Parties>,
    story: Storyteller,
    requests: Arc<Requests>,
}

impl Judge for Rulings {
    fn judge(&self, method: &Method, path: &str) -> Result<(), Refused> {
        let request = HttpRequest { method: method.as_str(), path };
        // In this order: whoever judges live connections meanwhile sees the request, or what that judged by is seen here.
        self.requests.begin(request);
        let tables = self.path.tables.borrow().clone();
        let Err(refusal) = policy::rule_on(&self.path, &tables, &self.parties.call(), request) else { return Ok(()) };
        let ruling = Ruling::from(&*refusal);
        self.requests.refuse(request, ruling.clone());
        let (method, path) = (beginning(method.as_str(), SHOWN), beginning(path, SHOWN));
        self.story.tell(Step::RequestRefused(format!(
            "{method} {path}: {}; remedy: {}",
            refusal.cause(),
            ruling.remedy
        )));
        let ambiguous = matches!(refusal.by, RefusedBy::Path { .. });
        let cluster = &self.path.cluster;
        Err(Refused {
            outcome: Outcome::Denied,
            status: if ambiguous { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN },
            reason: if ambiguous {
                Cow::Borrowed("the path can be read in more than one way: send it in its plain form")
            } else {
                Cow::Owned(policy::told(cluster, &self.parties.caller))
            },
            rule: Some(gateway_http::Ruling { rule: ruling.rule, remedy: ruling.remedy }),
        })
    }
}

impl Observe for Rulings {
    fn ended(&self, exchange: &Exchange) {
        if exchange.admitted {
            // Over HTTP/2 a WebSocket begins with CONNECT, and is judged as the GET that it is otherwise.
            let websocket = exchange.method == Method::CONNECT;
            let method = if websocket { Method::GET.as_str() } else { exchange.method.as_str() };
            self.requests.end(HttpRequest { method, path: exchange.path() });
        }
        let Parties { caller, source_cluster, service, port, .. } = &*self.parties;
        self.path.recorder.request(exchange, (caller, source_cluster), (service, *port));
    }
}
