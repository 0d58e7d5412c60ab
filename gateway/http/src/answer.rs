//! What a client is told when there is no answer of the endpoint.
//!
//! Owns the words, the status, and their form for gRPC. Never decides that there is no answer.

use std::borrow::Cow;

use bytes::Bytes;
use federation_model::outcome::Outcome;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    body::Answer,
    destination::{ConnectError, Observe, Refused, Ruling},
    exchange::Open,
};

const REFUSED: HeaderName = HeaderName::from_static("x-landbridge-refused");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC: &str = "application/grpc";
/// The longest reason a client is told, in bytes: one line.
const REASON: usize = 256;

/// Why the client gets an answer of ours.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) outcome: Outcome,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) rule: Option<Ruling>,
    /// Whether the judge refused.
    pub(crate) judged: bool,
}

impl Refusal {
    /// A request that is not as it should be.
    pub(crate) const fn bad(status: StatusCode, reason: &'static str) -> Self {
        Self::ours(status, Outcome::BadRequest, reason)
    }

    const fn ours(status: StatusCode, outcome: Outcome, reason: &'static str) -> Self {
        Self { status, outcome, reason: Cow::Borrowed(reason), rule: None, judged: false }
    }

    /// The client left in the middle of its request; it may hear this when it only gave up its own direction.
    pub(crate) fn gone() -> Self {
        Self {
            outcome: Outcome::ClientReset,
            ..Self::bad(StatusCode::BAD_REQUEST, "the body of the request broke off")
        }
    }

    /// The endpoint gave no answer, or none that can be passed on.
    pub(crate) const fn broken(reason: &'static str) -> Self {
        Self::ours(StatusCode::BAD_GATEWAY, Outcome::DestinationReset, reason)
    }
}

impl From<Refused> for Refusal {
    fn from(Refused { outcome, status, reason, rule }: Refused) -> Self {
        Self { status, outcome, reason, rule, judged: true }
    }
}

impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Self {
        let (status, reason) = match error {
            ConnectError::NoEndpoint => (StatusCode::SERVICE_UNAVAILABLE, "the service has no ready endpoint"),
            ConnectError::Refused => (StatusCode::BAD_GATEWAY, "the endpoint refused the connection"),
            ConnectError::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "the endpoint did not answer in time"),
        };
        Self::ours(status, error.outcome(), reason)
    }
}

/// Whether a request is gRPC: then the client looks for a status of gRPC, whatever HTTP says.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.strip_prefix(GRPC.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Answers in place of the endpoint; with that the exchange is decided.
pub(crate) fn refuse<O: Observe>(refusal: Refusal, grpc: bool, mut open: Open<O>) -> Response<Answer<O>> {
    open.ends(refusal.outcome);
    open.exchange.rule = refusal.rule;
    open.refused = refusal.judged;
    let status = if grpc { StatusCode::OK } else { refusal.status };
    open.exchange.status = Some(status);
    let text = if grpc { Bytes::new() } else { line(&refusal.reason) };
    let mut response = Response::new(Answer::of_ours(text, open));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(REFUSED, HeaderValue::from_static(refusal.outcome.label()));
    if grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(GRPC));
        headers.insert(GRPC_STATUS, grpc_status(refusal.status).into());
        headers.insert(GRPC_MESSAGE, grpc_message(&refusal.reason));
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if refusal.outcome == Outcome::BadRequest {
            // Whoever sends this may mean something else by what follows.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}

fn shortened(reason: &str) -> &str {
    let mut end = reason.len().min(REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

fn line(reason: &str) -> Bytes {
    let mut text = shortened(reason).replace(['\r', '\n'], " ");
    text.push('\n');
    text.into()
}

/// The status of gRPC for one of HTTP (gRPC's `http-grpc-status-mapping`, with 501 as what it means).
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 | 501 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// A message as gRPC over HTTP/2 writes it: printable ASCII without `%`, everything else percent-encoded.
fn grpc_message(reason: &str) -> HeaderValue {
    let mut text = String::with_capacity(reason.len());
    for byte in shortened(reason).bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    HeaderValue::try_from(text).expect("printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_known_by_its_content_type() {
        let grpc = |kind| is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]));
        assert!(grpc("application/grpc") && grpc("application/grpc+proto") && grpc("application/grpc;x=y"));
        assert!(!grpc("application/grpc-web") && !grpc("application/json") && !is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_reason_is_one_short_line_in_every_form() {
        let long = "é\n%".repeat(100);
        assert!(line(&long).len() <= REASON + 1);
        assert_eq!(line("a\r\nb"), "a  b\n");
        assert_eq!(grpc_message("no: 100 %\né"), "no: 100 %25%0A%C3%A9");
    }
}
