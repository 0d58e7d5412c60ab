//! A web server that tells what it was asked, and a client that writes HTTP as it likes.
//!
//! Owns both. The server speaks HTTP/1.1 and, to those who begin with it, HTTP/2; it never looks at who asks.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use crate::client::soon;

/// The longest head of an answer, in bytes; what is longer is no answer of these tests.
const MAX_HEAD: usize = 64 * 1024;
/// What a path begins with that is answered by a line, and never by an end.
pub const ENDLESS: &str = "/endless";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A server that answers with the request it got: its name, method and target, then every header, each in a line. Who asks
/// for [`ENDLESS`] gets the first line only, and waits for the rest. Who asks for an upgrade gets it, and every byte back.
#[derive(Debug)]
pub struct Web {
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    name: &'static str,
    asked: Mutex<Vec<String>>,
    switched: Mutex<JoinSet<()>>,
}

impl Web {
    /// Starts it at `address`.
    ///
    /// # Errors
    /// When the address is not free.
    pub async fn start(name: &'static str, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let state = Arc::new(State { name, asked: Mutex::default(), switched: Mutex::default() });
        let mut tasks = JoinSet::new();
        let served = state.clone();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = served.clone();
                let service = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(state.answer(request))));
                sessions.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A client that goes away ends its session, nothing else.
                    let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { state, _tasks: tasks })
    }

    /// What it was asked, method and target, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        locked(&self.state.asked).clone()
    }
}

fn line_of(request: &Request<Incoming>) -> String {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    format!("{} {target}", request.method())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let asked = line_of(&request);
        locked(&self.asked).push(asked.clone());
        if request.headers().contains_key(header::UPGRADE) {
            return self.switch(&mut request);
        }
        let mut text = format!("{}\n{asked}\n", self.name);
        if request.uri().path().starts_with(ENDLESS) {
            let begun = Ok(Frame::data(Bytes::from(text)));
            return Response::new(StreamBody::new(stream::iter([begun]).chain(stream::pending())).boxed_unsync());
        }
        for (name, value) in request.headers() {
            text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        }
        Response::new(Full::from(text).boxed_unsync())
    }

    fn switch(&self, request: &mut Request<Incoming>) -> Response<Body> {
        let upgraded = hyper::upgrade::on(request);
        locked(&self.switched).spawn(async move {
            if let Ok(upgraded) = upgraded.await {
                let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
                // A client that goes away ends it.
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            }
        });
        let mut response = Response::new(Full::default().boxed_unsync());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        response
    }
}

/// The head of a WebSocket's first request to `path`.
#[must_use]
pub fn websocket(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// The head of a request without a body, with these further lines.
#[must_use]
pub fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: web\r\n{headers}\r\n")
}

/// An answer over HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    /// The body, where its length is told.
    pub body: String,
}

impl Answer {
    /// The values the server was sent under a header, as it tells.
    #[must_use]
    pub fn told(&self, name: &str) -> Vec<&str> {
        let lines = self.body.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(told, _)| *told == name).map(|(_, value)| value).collect()
    }
}

/// Writes what may be a request, and reads an answer.
///
/// # Errors
/// When the connection ends before the end of the answer.
pub async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> io::Result<Answer> {
    // Who is refused early may not take all of it.
    let _ = stream.write_all(request.as_bytes()).await;
    soon("an answer over HTTP", read(stream)).await
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        if head.len() > MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}
