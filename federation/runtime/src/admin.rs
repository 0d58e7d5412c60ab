//! The admin port: health, metrics and read-only views, over plain HTTP.
//!
//! Owns the server and its routes. Everything it serves is read-only; what changes state goes over gRPC. Never makes up a
//! value: routes are closures of the program.
//!
//! ```text
//! /          the list of routes        /livez    the process runs
//! /metrics   OpenMetrics               /readyz   200 or 503, every condition with its reason
//! ```

use std::{future::IntoFuture as _, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod connections;
mod readiness;

pub use readiness::{Condition, Readiness};

use connections::Bounded;

const OPENMETRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Why the admin port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (`{key}`): {error}; set `{key}` to a free address")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The setting it comes from.
    pub key: &'static str,
    /// Why not.
    pub error: io::Error,
}

/// What the admin port will serve.
pub struct Admin {
    program: &'static str,
    readiness: Readiness,
    router: Router,
    routes: Vec<Route>,
}

#[derive(Debug, Clone, Serialize)]
struct Route {
    path: &'static str,
    about: &'static str,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("program", &self.program).field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl Admin {
    /// Health and metrics of `program`.
    #[must_use]
    pub fn new(program: &'static str, readiness: Readiness, metrics: Registry) -> Self {
        let metrics = Arc::new(metrics);
        let ready = readiness.clone();
        let admin = Self { program, readiness, router: Router::new(), routes: Vec::new() };
        admin
            .route("/livez", "200 while the process runs", || "ok\n".into_response())
            .route("/readyz", "200 when every condition holds, else 503, with the reasons", move || answer(&ready))
            .route("/metrics", "metrics in OpenMetrics text", move || exposition(&metrics))
    }

    /// Adds a route that answers with JSON; `value` is called for every request and must be quick.
    #[must_use]
    pub fn json<T, F>(self, path: &'static str, about: &'static str, value: F) -> Self
    where
        T: Serialize,
        F: Fn() -> T + Send + Sync + 'static,
    {
        self.route(path, about, move || json(StatusCode::OK, &value()))
    }

    /// The conditions that `/readyz` tells.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    fn route<F>(mut self, path: &'static str, about: &'static str, answer: F) -> Self
    where
        F: Fn() -> Response + Send + Sync + 'static,
    {
        let answer = Arc::new(answer);
        self.router = self.router.route(path, get(move || std::future::ready(answer())).fallback(read_only));
        self.routes.push(Route { path, about });
        self
    }

    /// Opens the port. `key` is the setting `address` comes from.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub async fn bind(self, address: SocketAddr, key: &'static str) -> Result<AdminServer, BindError> {
        let fail = |error| BindError { address, key, error };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let local = listener.local_addr().map_err(fail)?;
        let routes = Router::new().route("/", get(list).fallback(read_only));
        let index = routes.with_state(Arc::new((self.program, self.routes)));
        let router = self.router.merge(index).fallback(unknown);
        Ok(AdminServer { listener, local, router })
    }
}

/// The open admin port.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    local: SocketAddr,
    router: Router,
}

impl AdminServer {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop`; requests under way are answered.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> io::Result<()> {
        let listener = Bounded::new(self.listener);
        axum::serve(listener, self.router).with_graceful_shutdown(stop.cancelled_owned()).into_future().await
    }
}

type Index = Arc<(&'static str, Vec<Route>)>;

async fn list(State(index): State<Index>) -> Response {
    #[derive(Serialize)]
    struct Listing<'a> {
        program: &'static str,
        routes: &'a [Route],
    }
    json(StatusCode::OK, &Listing { program: index.0, routes: &index.1 })
}

async fn unknown() -> Response {
    (StatusCode::NOT_FOUND, "no such route: GET / lists them\n").into_response()
}

async fn read_only() -> Response {
    let allow = [(header::ALLOW, HeaderValue::from_static("GET, HEAD"))];
    (StatusCode::METHOD_NOT_ALLOWED, allow, "this port is read-only: use GET\n").into_response()
}

fn answer(readiness: &Readiness) -> Response {
    let report = readiness.report();
    json(if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &report)
}

fn exposition(metrics: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, metrics) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => internal(&error),
    }
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec_pretty(value) {
        Ok(mut body) => {
            body.push(b'\n');
            (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
        }
        Err(error) => internal(&error),
    }
}

fn internal(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "an admin route cannot be written");
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}

#[cfg(test)]
mod tests;
