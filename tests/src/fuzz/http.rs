//! Delivery as HTTP: what reaches an endpoint was judged, is in one reading, and carries one introduction.

mod endpoint;
mod strict;

use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use federation_model::{caller::Caller, outcome::Outcome, spiffe::SpiffeId, trace::TraceContext};
use gateway_http::{
    Connect, ConnectError, Delivery, Exchange, HttpLimits, Introduction, Judge, Observe, Refused, serve,
};
use http::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};

/// How long a connection may take whose client has said everything.
const SOON: Duration = Duration::from_secs(30);
/// What is kept of a connection in memory.
const WINDOW: usize = 64 * 1024;
/// No request for a path that begins so is let through.
const PRIVATE: &str = "/private";
const PRINCIPAL: &str = "spiffe://east.example/ns/shop/sa/frontend";
const CLIENT: &str = "10.1.2.3";

/// What follows is what a client sends until it closes.
pub fn http(data: &[u8]) {
    let _ = requests_that_arrive(data);
}

/// How many requests reach an endpoint.
fn requests_that_arrive(data: &[u8]) -> usize {
    let witness = Witness::default();
    let quiet = Arc::clone(&witness.quiet);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().on_thread_park(move || quiet.notify_waiters()).build().unwrap();
    runtime.block_on(async {
        timeout(SOON, witness.connection(data)).await.expect("the connection of a client that has closed ends")
    })
}

/// What was seen of one connection.
#[derive(Debug, Clone, Default)]
struct Witness {
    /// The requests that may pass, method and path, in order.
    allowed: Arc<Mutex<Vec<(Method, String)>>>,
    recorded: Arc<Mutex<u64>>,
    endpoints: Arc<Mutex<JoinSet<Vec<Asked>>>>,
    is_two: bool,
    /// Notified whenever nothing goes on without the client.
    quiet: Arc<Notify>,
}

/// A request as an endpoint reads it; of a WebSocket over HTTP/2 the method is `GET`.
#[derive(Debug)]
struct Asked {
    method: Method,
    path: String,
}

impl Witness {
    async fn connection(mut self, data: &[u8]) -> usize {
        self.is_two = data.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let (client, io) = tokio::io::duplex(WINDOW);
        let (judge, connect, observe) = (self.clone(), self.clone(), self.clone());
        let limits = HttpLimits::default();
        let delivery = Delivery { introduction: introduction(), judge, connect, observe, limits };
        let served = Box::pin(serve(io, delivery, pending(), pending()));
        let (served, ()) = tokio::join!(served, speak(client, data, &self.quiet));
        assert_eq!(served.requests, *locked(&self.recorded), "each request is recorded once");
        let mut endpoints = std::mem::take(&mut *locked(&self.endpoints));
        let mut asked = Vec::new();
        while let Some(ended) = endpoints.join_next().await {
            asked.extend(ended.unwrap());
        }
        let mut allowed = locked(&self.allowed).clone();
        let arrived = asked.len();
        for Asked { method, path } in asked {
            let at = allowed.iter().position(|allowed| *allowed == (method.clone(), path.clone()));
            let at = at.unwrap_or_else(|| panic!("{method} {path} was not judged; {allowed:?} were"));
            if self.is_two {
                // Requests of HTTP/2 pass each other.
                allowed.remove(at);
            } else {
                allowed.drain(..=at);
            }
        }
        arrived
    }
}

/// Sends everything, closes when that has been dealt with, and reads to the end: a client that closes earlier counts as
/// gone, and nothing is asked for it.
async fn speak(client: DuplexStream, data: &[u8], quiet: &Notify) {
    let (mut read, mut write) = tokio::io::split(client);
    let send = async {
        // The connection may end before everything is sent.
        let _ = write.write_all(data).await;
        quiet.notified().await;
        let _ = write.shutdown().await;
    };
    let mut answer = Vec::new();
    let (_, ended) = tokio::join!(send, read.read_to_end(&mut answer));
    ended.unwrap();
}

fn introduction() -> Introduction {
    let certificate = Some(Arc::new(vec![0x30, 0x03, 0x02, 0x01, 0x05].into()));
    Introduction {
        caller: Caller::Workload { id: SpiffeId::new(PRINCIPAL).unwrap(), certificate },
        source_cluster: Some("east".parse().unwrap()),
        by: SpiffeId::new("spiffe://west.example/landbridge/gateway").unwrap(),
        client: Some(format!("{CLIENT}:4711").parse().unwrap()),
        trace: TraceContext { trace_id: 7, span_id: 9, sampled: false },
        authority: Some("api.shop.svc.clusterset.local".parse().unwrap()),
    }
}

/// Nothing is left half done under these locks.
fn locked<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Judge for Witness {
    fn judge(&self, method: &Method, path: &str) -> Result<(), Refused> {
        if path.starts_with(PRIVATE) {
            return Err(Refused {
                outcome: Outcome::Denied,
                status: StatusCode::FORBIDDEN,
                reason: "private".into(),
                rule: None,
            });
        }
        locked(&self.allowed).push((method.clone(), path.to_owned()));
        Ok(())
    }
}

impl Connect for Witness {
    type Io = DuplexStream;

    async fn connect(&self) -> Result<DuplexStream, ConnectError> {
        let (ours, theirs) = tokio::io::duplex(WINDOW);
        if self.is_two {
            locked(&self.endpoints).spawn(endpoint::two(theirs));
        } else {
            locked(&self.endpoints).spawn(endpoint::one(theirs));
        }
        Ok(ours)
    }
}

impl Observe for Witness {
    fn ended(&self, _: &Exchange) {
        *locked(&self.recorded) += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_arrives_and_nothing_else() {
        let get = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let words = [get("/a"), get("/private"), get("/b"), "GET".to_owned()].concat();
        assert_eq!(requests_that_arrive(words.as_bytes()), 2);
        let frames = [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
            b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a",
            b"\0\0\x06\x01\x05\0\0\0\x03\x82\x86\x84\x41\x01a",
        ];
        assert_eq!(requests_that_arrive(&frames.concat()), 2);
    }
}
