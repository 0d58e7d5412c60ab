//! The HTTP server that calls another service, in whatever cluster that is, and answers with what it said.
//!
//! Owns one call for each request: the name is resolved anew each time, as short TTLs ask for.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, StatusCode, body::Incoming, client::conn::http1 as client, header::HOST, server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{Workload, answer::respond, dns, listen::listen, say, talk::connect};

/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer of the service called.
const MAX_ANSWER: usize = 64 * 1024;

#[derive(Debug)]
struct Frontend {
    workload: Workload,
    name: String,
    port: u16,
    dns: Option<SocketAddr>,
}

/// Serves plain HTTP.
pub(crate) async fn serve(workload: Workload, api: &str, dns: Option<SocketAddr>) -> anyhow::Result<()> {
    let (name, port) = api.rsplit_once(':').context("--api is name:port")?;
    let port = port.parse().with_context(|| format!("{port} is not a port"))?;
    let frontend = Arc::new(Frontend { name: name.to_owned(), port, dns, workload });
    let address = frontend.workload.listen;
    listen(address, |stream, _| converse(frontend.clone(), stream)).await
}

async fn converse(frontend: Arc<Frontend>, stream: TcpStream) -> anyhow::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let frontend = frontend.clone();
        async move {
            let path = request.uri().path().to_owned();
            let (status, body) = frontend.answer(&path).await;
            Ok::<_, Infallible>(respond(status, &body))
        }
    });
    let mut http = server::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(CALL_TIMEOUT);
    http.serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

impl Frontend {
    async fn answer(&self, path: &str) -> (StatusCode, Value) {
        let started = Instant::now();
        let called = tokio::time::timeout(CALL_TIMEOUT, self.call(path)).await;
        let called = called.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {CALL_TIMEOUT:?}")));
        let mut body = json!({ "cluster": self.workload.cluster, "pod": self.workload.pod, "called": self.name });
        body["millis"] = (started.elapsed().as_secs_f64() * 1000.0).round().into();
        match called {
            Ok((address, answer)) => {
                say(format_args!("{path}: {address} answered as {} of {}", answer["pod"], answer["cluster"]));
                body["address"] = address.to_string().into();
                body["answer"] = answer;
                (StatusCode::OK, body)
            }
            Err(error) => {
                say(format_args!("{path}: {error:#}"));
                body["error"] = format!("{error:#}").into();
                (StatusCode::BAD_GATEWAY, body)
            }
        }
    }

    async fn call(&self, path: &str) -> anyhow::Result<(SocketAddr, Value)> {
        let address = SocketAddr::new(self.resolve().await?, self.port);
        let stream = connect(address, Some(self.workload.listen.ip())).await?;
        let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        let request =
            Request::get(path).header(HOST, format!("{}:{}", self.name, self.port)).body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            ensure!(response.status().is_success(), "the service answered {}", response.status());
            let body =
                Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?;
            Ok(serde_json::from_slice(&body.to_bytes())?)
        };
        // The connection makes progress only while it is polled.
        tokio::select! {
            answer = exchange => Ok((address, answer?)),
            ended = connection => Err(ended.err().map_or_else(|| anyhow::anyhow!("the connection ended"), Into::into)),
        }
    }

    async fn resolve(&self) -> anyhow::Result<IpAddr> {
        match self.dns {
            Some(server) => dns::resolve(server, &self.name).await,
            None => {
                let mut found = tokio::net::lookup_host((self.name.as_str(), self.port)).await?;
                found.next().map(|address| address.ip()).context("the name has no address")
            }
        }
    }
}
