//! What the gateway supplies: the judgement of requests, connections to endpoints, and where requests are recorded.
//!
//! Owns the traits and their values. Never implements them.

use std::{borrow::Cow, future::Future};

use federation_model::outcome::Outcome;
use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::exchange::Exchange;

/// Judges requests, by the newest policies the gateway has.
pub trait Judge: Send + Sync + 'static {
    /// Whether the caller of this connection may do `method` on `path`, the path of the request target as it was sent,
    /// without its query; `*` for `OPTIONS *`. A WebSocket over HTTP/2 (RFC 8441) is judged as the `GET` it is over
    /// HTTP/1.1. Called once for each request, before anything of it reaches an endpoint; it must not wait.
    ///
    /// # Errors
    /// When it may not. The client is told so and the connection goes on.
    fn judge(&self, method: &Method, path: &str) -> Result<(), Refused>;
}

/// A request that is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why, for the record and the header `x-landbridge-refused`.
    pub outcome: Outcome,
    /// The status: mostly 403, 400 for a target that can be read in two ways.
    pub status: StatusCode,
    /// One short line for the client.
    pub reason: Cow<'static, str>,
    /// The rule that decided, for the record; the client never sees it.
    pub rule: Option<String>,
    /// What to do about that rule, for the record; the client never sees it either.
    pub remedy: Option<String>,
}

/// Connects to endpoints of the service.
pub trait Connect: Send + Sync + 'static {
    /// A connection to an endpoint. Shutting it down ends the direction towards the endpoint, dropping it ends both.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Connects to one endpoint, after trying as many as it sees fit, within a time of its own. Called for the first
    /// request and whenever the connection before has ended; a request is sent on a second connection only when the
    /// first took nothing of it, or when it has no body, is idempotent and a kept connection ended under it.
    fn connect(&self) -> impl Future<Output = Result<Self::Io, ConnectError>> + Send;
}

/// There is no connection to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ConnectError {
    /// None is ready.
    #[error("the service has no ready endpoint")]
    NoEndpoint,
    /// The last one tried refused, or could not be reached.
    #[error("the endpoint refused the connection")]
    Refused,
    /// The last one tried said nothing in time.
    #[error("the endpoint did not answer in time")]
    TimedOut,
}

impl ConnectError {
    /// The outcome of a request that this leaves without an answer.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::NoEndpoint => Outcome::NoEndpoint,
            Self::Refused => Outcome::ConnectRefused,
            Self::TimedOut => Outcome::ConnectTimeout,
        }
    }
}

/// Records requests.
pub trait Observe: Send + Sync + 'static {
    /// A request has ended, as the exchange says. Every request that was read comes here exactly once; it must not wait.
    fn ended(&self, exchange: &Exchange);
}
