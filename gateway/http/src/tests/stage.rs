//! A client and the endpoints of a service, with `serve` between them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use federation_model::{caller::Caller, outcome::Outcome, spiffe::SpiffeId, trace::TraceContext};
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    sync::oneshot,
    task::JoinSet,
};

use crate::{
    Connect, ConnectError, Delivery, Exchange, HttpLimits, Introduction, Judge, Observe, Refused, Served, serve,
};

/// How long anything may take that happens at once on a machine that is not overloaded.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) type Play = Box<dyn FnOnce(DuplexStream) -> BoxFuture<'static, ()> + Send>;
type Dial = Arc<dyn Fn(usize) -> Result<Play, ConnectError> + Send + Sync>;
type Verdict = Arc<dyn Fn(usize, &Method, &str) -> Result<(), Refused> + Send + Sync>;

/// What stands behind the gateway, and what it may be asked.
#[derive(Clone)]
pub(super) struct Set {
    pub(super) caller: Caller,
    pub(super) limits: HttpLimits,
    pub(super) verdict: Verdict,
    dial: Dial,
    dialled: Arc<AtomicUsize>,
    judged: Arc<AtomicUsize>,
    records: Arc<Mutex<Vec<Exchange>>>,
    /// What runs endpoints; they end with the test.
    plays: Arc<Mutex<JoinSet<()>>>,
}

impl Judge for Set {
    fn judge(&self, method: &Method, path: &str) -> Result<(), Refused> {
        (self.verdict)(self.judged.fetch_add(1, SeqCst), method, path)
    }
}

impl Connect for Set {
    type Io = DuplexStream;

    async fn connect(&self) -> Result<DuplexStream, ConnectError> {
        let play = (self.dial)(self.dialled.fetch_add(1, SeqCst))?;
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.plays.lock().unwrap().spawn(play(theirs));
        Ok(ours)
    }
}

impl Observe for Set {
    fn ended(&self, exchange: &Exchange) {
        self.records.lock().unwrap().push(exchange.clone());
    }
}

impl Set {
    /// Endpoints, the n-th connection to which is played by what `dial` gives.
    pub(super) fn new(dial: impl Fn(usize) -> Result<Play, ConnectError> + Send + Sync + 'static) -> Self {
        Self {
            caller: Caller::Vouched { id: SpiffeId::new("spiffe://east.example/ns/shop/sa/frontend").unwrap() },
            limits: HttpLimits::default(),
            verdict: Arc::new(|_, _, _| Ok(())),
            dial: Arc::new(dial),
            dialled: Arc::default(),
            judged: Arc::default(),
            records: Arc::default(),
            plays: Arc::default(),
        }
    }

    /// An endpoint that answers with what it was asked.
    pub(super) fn echo(two: bool) -> Self {
        Self::answering(two, |request| Box::pin(echo(request)))
    }

    /// An endpoint that answers as `answer` says.
    pub(super) fn answering(
        two: bool,
        answer: impl Fn(Request<Incoming>) -> BoxFuture<'static, Reply> + Send + Sync + Clone + 'static,
    ) -> Self {
        Self::new(move |_| Ok(playing(two, answer.clone())))
    }

    /// An endpoint that reads the head of one request and says exactly this, then closes.
    pub(super) fn saying(words: &'static [u8]) -> Self {
        Self::new(move |_| {
            Ok(Box::new(move |mut io| {
                Box::pin(async move {
                    let _ = head(&mut io).await;
                    io.write_all(words).await.unwrap();
                })
            }))
        })
    }

    /// The same, but the connection stays.
    pub(super) fn saying_and_staying(words: &'static [u8]) -> Self {
        Self::new(move |_| {
            Ok(Box::new(move |mut io| {
                Box::pin(async move {
                    head(&mut io).await.unwrap();
                    io.write_all(words).await.unwrap();
                    std::future::pending().await
                })
            }))
        })
    }

    /// An endpoint of HTTP/2 that does not know RFC 8441.
    pub(super) fn answering_without_tunnels() -> Self {
        Self::new(|_| {
            Ok(Box::new(|io| {
                Box::pin(async move {
                    let service =
                        service_fn(|request| async { Ok::<_, std::convert::Infallible>(echo(request).await) });
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(io), service).await;
                })
            }))
        })
    }

    /// An endpoint that does not mind how large a head is.
    pub(super) fn accepting_large_heads() -> Self {
        Self::saying(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    }

    pub(super) fn dialled(&self) -> usize {
        self.dialled.load(SeqCst)
    }

    pub(super) fn judged(&self) -> usize {
        self.judged.load(SeqCst)
    }

    /// What was recorded: method, path, status, outcome.
    pub(super) fn recorded(&self) -> Vec<(String, String, Option<u16>, Outcome)> {
        let records = self.records.lock().unwrap();
        let told = |e: &Exchange| {
            (e.method.to_string(), e.path().to_owned(), e.status.map(|status| status.as_u16()), e.outcome)
        };
        records.iter().map(told).collect()
    }

    pub(super) fn records(&self) -> Vec<Exchange> {
        self.records.lock().unwrap().clone()
    }

    pub(super) fn delivery(&self) -> Delivery<Self, Self, Self> {
        let introduction = Introduction {
            caller: self.caller.clone(),
            source_cluster: Some("east".parse().unwrap()),
            by: SpiffeId::new("spiffe://west.example/landbridge/gateway").unwrap(),
            client: Some("10.1.2.3:4711".parse().unwrap()),
            trace: TraceContext { trace_id: 7, span_id: 9, sampled: false },
            authority: Some("api.shop.svc.clusterset.local".parse().unwrap()),
        };
        let (judge, connect, observe) = (self.clone(), self.clone(), self.clone());
        Delivery { introduction, judge, connect, observe, limits: self.limits }
    }

    /// Serves one connection in memory.
    pub(super) fn open(&self) -> Stage {
        let (client, io) = tokio::io::duplex(64 * 1024);
        let (cut, cuts) = oneshot::channel();
        let (drain, drains) = oneshot::channel();
        let delivery = self.delivery();
        let mut tasks = JoinSet::new();
        let (done, served) = oneshot::channel();
        tasks.spawn(async move {
            let cut = async { cuts.await.unwrap() };
            let drain = async { drains.await.unwrap() };
            let _ = done.send(serve(io, delivery, cut, drain).await);
        });
        Stage { client, cut: Some(cut), drain: Some(drain), served, tasks }
    }
}

/// A connection that is being served.
pub(super) struct Stage {
    pub(super) client: DuplexStream,
    pub(super) cut: Option<oneshot::Sender<Outcome>>,
    pub(super) drain: Option<oneshot::Sender<()>>,
    served: oneshot::Receiver<Served>,
    pub(super) tasks: JoinSet<()>,
}

impl Stage {
    /// Sends, and reads until the connection is closed.
    pub(super) async fn say(&mut self, words: impl AsRef<[u8]>) -> String {
        self.client.write_all(words.as_ref()).await.unwrap();
        rest(&mut self.client).await
    }

    /// Sends, and reads one response with a known length.
    pub(super) async fn ask(&mut self, words: impl AsRef<[u8]>) -> String {
        self.client.write_all(words.as_ref()).await.unwrap();
        let mut text = head(&mut self.client).await.unwrap();
        let length = field(&text, "content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        soon(self.client.read_exact(&mut body)).await.unwrap();
        text.push_str(&String::from_utf8(body).unwrap());
        text
    }

    pub(super) fn cut(&mut self, outcome: Outcome) {
        self.cut.take().unwrap().send(outcome).unwrap();
    }

    pub(super) fn drain(&mut self) {
        self.drain.take().unwrap().send(()).unwrap();
    }

    /// How it ended.
    pub(super) async fn served(&mut self) -> Served {
        soon(&mut self.served).await.unwrap()
    }

    /// The same, for tests with a time of their own.
    pub(super) async fn ended(&mut self) -> Served {
        (&mut self.served).await.unwrap()
    }

    /// Leaves, and tells how it ended.
    pub(super) async fn leave(self) -> Served {
        let Self { client, served, cut, drain, tasks } = self;
        drop(client);
        let served = soon(served).await.unwrap();
        drop((cut, drain, tasks));
        served
    }
}

pub(super) type Body = BoxBody<Bytes, std::io::Error>;
pub(super) type Reply = Response<Body>;

/// What a hyper server would be given to answer with.
fn playing(
    two: bool,
    answer: impl Fn(Request<Incoming>) -> BoxFuture<'static, Reply> + Send + Sync + Clone + 'static,
) -> Play {
    Box::new(move |io| {
        Box::pin(async move {
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            let io = TokioIo::new(io);
            // An endpoint that is gone from is no failure of the test.
            if two {
                let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.enable_connect_protocol().serve_connection(io, service).await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await;
            }
        })
    })
}

pub(super) fn text(status: u16, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// Method, target and version, a line for each header in order of name, an empty line, the body, its trailers.
pub(super) async fn echo(request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let mut words = format!("{} {} {:?}\n", head.method, head.uri, head.version);
    words.push_str(&lines(&head.headers));
    words.push('\n');
    let Ok(body) = body.collect().await else { return text(400, "broken") };
    let trailers = body.trailers().cloned().unwrap_or_default();
    words.push_str(&String::from_utf8_lossy(&body.to_bytes()));
    words.push_str(&lines(&trailers));
    text(200, words)
}

fn lines(headers: &http::HeaderMap) -> String {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    lines.concat()
}

/// Waits for what must happen soon.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it happens within twenty seconds")
}

/// Waits until `condition` holds.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let held = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, held).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Reads up to the empty line after a head.
pub(super) async fn head(io: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(soon(io.read_u8()).await?);
    }
    Ok(String::from_utf8(bytes).unwrap())
}

/// Reads to the end.
pub(super) async fn rest(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // An abrupt end is an end.
    let _ = soon(io.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A header of a response, or of what an endpoint says it was asked.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut fields: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    fields.remove(name)
}

/// A client of hyper over `io`, for HTTP/2.
pub(super) async fn two(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    tasks: &mut JoinSet<()>,
) -> hyper::client::conn::http2::SendRequest<Body> {
    let io = TokioIo::new(io);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    sender
}

pub(super) fn no_body() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed()
}
