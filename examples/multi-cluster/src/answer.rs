//! The HTTP server that answers who it is and whom it sees.
//!
//! Owns the shape of the answer, and which headers introduce a caller (`landbridge.dev/deliver: http`). A server that trusts
//! them must be reachable by its gateway alone, which removes those that a client sends. It runs over any stream, so that `tls`
//! uses it too.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Workload, arrival::arrive, listen::listen, say};

/// How long a caller may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Headers that introduce a caller, and what they are called in the answer.
const INTRODUCTION: [(&str, &str); 4] = [
    ("x-landbridge-principal", "principal"),
    ("x-landbridge-assurance", "assurance"),
    ("x-landbridge-source-cluster", "source_cluster"),
    ("traceparent", "traceparent"),
];

/// What the headers of a request are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Headers {
    /// The gateway's word on who calls.
    Introduce,
    /// What the client likes.
    Claim,
}

/// Serves plain HTTP.
pub(crate) async fn serve(workload: Workload) -> anyhow::Result<()> {
    listen(workload.listen, |stream, peer| {
        let workload = workload.clone();
        async move {
            let arrival = arrive(stream, peer).await?;
            answer(arrival.io, &workload, (arrival.caller, Headers::Introduce)).await
        }
    })
    .await
}

/// Answers every request on one connection.
pub(crate) async fn answer(
    io: impl AsyncRead + AsyncWrite + Unpin,
    workload: &Workload,
    (caller, headers): (Value, Headers),
) -> anyhow::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let mut caller = caller.clone();
        match headers {
            Headers::Introduce => introduce(&mut caller, request.headers()),
            Headers::Claim => {}
        }
        let body = describe(workload, &request, &caller);
        async move { Ok::<_, Infallible>(respond(StatusCode::OK, &body)) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    http.serve_connection(TokioIo::new(io), service).await?;
    Ok(())
}

/// Adds what the headers say of the caller.
fn introduce(caller: &mut Value, headers: &HeaderMap) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    for (header, name) in INTRODUCTION {
        if let Some(value) = text(header) {
            caller[name] = value.into();
        }
    }
    // The last element is the gateway's word; those before it are the client's.
    if let Some((_, client)) = text("x-forwarded-for").map(|all| all.rsplit_once(", ").unwrap_or(("", all))) {
        caller["client"] = client.into();
    }
}

fn describe(workload: &Workload, request: &Request<Incoming>, caller: &Value) -> Value {
    let path = request.uri().path();
    say(format_args!("{} {path} from {caller}", request.method()));
    json!({
        "cluster": workload.cluster,
        "pod": workload.pod,
        "path": path,
        "host": request.headers().get(HOST).and_then(|host| host.to_str().ok()),
        "caller": caller,
    })
}

/// A response with a body for people and programs alike.
pub(crate) fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{body:#}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
