//! Commands in pods: what a test says runs there, over the WebSocket of `kubectl exec`.
//!
//! Owns the protocol `v5.channel.k8s.io`: a message is a byte that names a channel, and bytes. Never starts a process: a test
//! gives a function, and its streams are those of the command.

use std::{collections::BTreeMap, fmt, pin::Pin, sync::Arc};

use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request as HttpRequest, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{desk::Desk, failure::Failure, request::Request};

const PROTOCOL: &str = "v5.channel.k8s.io";
const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const ERRORS: u8 = 2;
const STATUS: u8 = 3;
/// Says of the channel after it that nothing more comes.
const CLOSED: u8 = 255;
/// Bytes on their way.
const BUFFER: usize = 64 * 1024;

/// How a command ends: well, or with what it says on its standard error.
pub type Ended = Result<(), String>;
/// What runs in a pod: the command, its input and output.
pub type Runs = dyn Fn(Vec<String>, DuplexStream) -> Pin<Box<dyn Future<Output = Ended> + Send>> + Send + Sync;

/// What runs in which pod.
#[derive(Clone, Default)]
pub(super) struct Running(BTreeMap<(String, String), Arc<Runs>>);

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Running {
    pub(super) fn put(&mut self, namespace: &str, pod: &str, runs: Arc<Runs>) {
        self.0.insert((namespace.to_owned(), pod.to_owned()), runs);
    }

    pub(super) fn of(&self, namespace: &str, pod: &str) -> Option<Arc<Runs>> {
        self.0.get(&(namespace.to_owned(), pod.to_owned())).cloned()
    }
}

/// Whether a request is for a command in a pod.
pub(super) fn is_wanted(request: &HttpRequest<Incoming>) -> bool {
    let upgrades = request.headers().get(header::UPGRADE).is_some_and(|value| value == "websocket");
    upgrades && request.uri().path().ends_with("/exec")
}

/// Answers it, and carries what the command reads and writes from then on.
pub(super) fn start(desk: &Desk, request: HttpRequest<Incoming>, token: Option<&str>) -> Result<Response<()>, Failure> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let asked = Request::read(request.method(), request.uri().path(), &query);
    let runs = desk.exec(&asked, token)?;
    let command = arguments(&query);
    let response = switched(request.headers());
    let upgraded = hyper::upgrade::on(request);
    // It ends with its connection, or with the server.
    desk.state().commands.spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        carry(socket, |streams| runs(command, streams)).await;
    });
    Ok(response)
}

fn arguments(query: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| *name == "command").map(|(_, value)| super::request::unescaped(value)).collect()
}

fn switched(headers: &HeaderMap) -> Response<()> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes())).unwrap_or_default();
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    headers.extend(HeaderValue::from_str(&key).ok().map(|key| (header::SEC_WEBSOCKET_ACCEPT, key)));
    response
}

/// Carries until the command or the client ends.
async fn carry<F>(mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, run: impl FnOnce(DuplexStream) -> F)
where
    F: Future<Output = Ended>,
{
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (mut output, input) = tokio::io::split(ours);
    let mut input = Some(input);
    let mut command = std::pin::pin!(run(theirs));
    let (mut ended, mut bytes) = (None, vec![0; BUFFER]);
    loop {
        tokio::select! {
            read = output.read(&mut bytes) => match read {
                Ok(length) if length > 0 => {
                    if socket.send(framed(OUTPUT, &bytes[..length])).await.is_err() { return; }
                }
                // The command has closed its output: it has ended, or does so now.
                Ok(_) | Err(_) => break,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Binary(message))) => match message.split_first() {
                    Some((&INPUT, bytes)) => if let Some(input) = &mut input {
                        let _ = input.write_all(bytes).await;
                    },
                    Some((&CLOSED, [INPUT])) => if let Some(mut input) = input.take() {
                        let _ = input.shutdown().await;
                    },
                    Some(_) | None => {}
                },
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            result = &mut command, if ended.is_none() => ended = Some(result),
        }
    }
    let ended = match ended {
        Some(ended) => ended,
        None => command.await,
    };
    let status = match ended {
        Ok(()) => json!({"metadata": {}, "status": "Success"}),
        Err(said) => {
            let _ = socket.send(framed(ERRORS, said.as_bytes())).await;
            json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": "command terminated with exit code 2"})
        }
    };
    let _ = socket.send(framed(STATUS, status.to_string().as_bytes())).await;
    let _ = socket.close(None).await;
}

fn framed(channel: u8, bytes: &[u8]) -> Message {
    Message::binary([&[channel], bytes].concat())
}
