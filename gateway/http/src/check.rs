//! Requests as HTTP allows them, where hyper is more lenient than an endpoint may be.
//!
//! Owns what is refused before anybody judges: what two readers could read in two ways. Never looks at who calls.

use http::{
    HeaderValue, Method, StatusCode, Uri, Version, header,
    request::Parts,
    uri::{PathAndQuery, Scheme},
};
use hyper::ext::Protocol;

use crate::{
    answer::Refusal,
    headers,
    limits::{FIELDS, TARGET_BYTES},
};

/// What a request is, as far as it matters to its delivery.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A request and a response.
    Plain,
    /// It wants to leave HTTP/1.1 for this.
    Upgrade(HeaderValue),
    /// It wants its HTTP/2 stream for another protocol (RFC 8441).
    Tunnel,
}

/// Refuses what is malformed or too large, and gives the rest one reading: the host of an absolute target becomes `Host`.
///
/// # Errors
/// When the request is not to be delivered.
pub(crate) fn check(parts: &mut Parts) -> Result<Kind, Refusal> {
    if parts.headers.len() > FIELDS {
        return Err(Refusal::bad(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header fields"));
    }
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES) {
        return Err(Refusal::bad(StatusCode::URI_TOO_LONG, "the request target is too long"));
    }
    if parts.headers.get_all(header::HOST).iter().nth(1).is_some() {
        return Err(Refusal::bad(StatusCode::BAD_REQUEST, "more than one Host"));
    }
    if parts.version == Version::HTTP_2 { two(parts) } else { one(parts) }
}

fn two(parts: &mut Parts) -> Result<Kind, Refusal> {
    let host = parts.headers.get(header::HOST).map(HeaderValue::as_bytes);
    match (parts.uri.authority(), host) {
        (Some(authority), Some(host)) if !host.eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            return Err(Refusal::bad(StatusCode::BAD_REQUEST, "Host and :authority differ"));
        }
        (Some(_), _) => {}
        (None, Some(host)) => {
            let malformed = || Refusal::bad(StatusCode::BAD_REQUEST, "Host is malformed");
            let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
            let uri = Uri::builder().scheme(Scheme::HTTP).authority(host).path_and_query(target);
            parts.uri = uri.build().map_err(|_| malformed())?;
        }
        (None, None) => return Err(Refusal::bad(StatusCode::BAD_REQUEST, "no :authority and no Host")),
    }
    if parts.method != Method::CONNECT {
        return Ok(Kind::Plain);
    }
    match parts.extensions.get::<Protocol>() {
        Some(protocol) if !headers::carries_http(protocol.as_str()) => Ok(Kind::Tunnel),
        Some(_) | None => Err(no_proxy()),
    }
}

fn one(parts: &mut Parts) -> Result<Kind, Refusal> {
    if parts.method == Method::CONNECT {
        return Err(no_proxy());
    }
    let codings: Vec<_> = parts.headers.get_all(header::TRANSFER_ENCODING).iter().collect();
    if codings.iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) || codings.len() > 1 {
        return Err(Refusal::bad(StatusCode::NOT_IMPLEMENTED, "a transfer coding other than chunked"));
    }
    if let Some(authority) = parts.uri.authority() {
        if parts.uri.scheme().is_none() {
            return Err(Refusal::bad(StatusCode::BAD_REQUEST, "a target that is a host alone"));
        }
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Refusal::bad(StatusCode::BAD_REQUEST, "the host of the target is malformed"))?;
        parts.headers.insert(header::HOST, host);
        parts.uri = Uri::from(parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    } else if parts.version == Version::HTTP_11 && !parts.headers.contains_key(header::HOST) {
        return Err(Refusal::bad(StatusCode::BAD_REQUEST, "no Host"));
    }
    let host = parts.headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    if host.iter().any(|byte| matches!(byte, b' ' | b'\t' | b',' | b'/' | b'@' | b'\\' | 0x80..)) {
        return Err(Refusal::bad(StatusCode::BAD_REQUEST, "Host is malformed"));
    }
    // An upgrade is an affair of HTTP/1.1; hyper reads it there alone.
    let upgrade = if parts.version == Version::HTTP_11 { headers::wanted_upgrade(&parts.headers) } else { None };
    Ok(upgrade.map_or(Kind::Plain, Kind::Upgrade))
}

const fn no_proxy() -> Refusal {
    Refusal::bad(StatusCode::NOT_IMPLEMENTED, "CONNECT is not served here")
}
