//! The headers that introduce a caller to the endpoint.
//!
//! Owns their forms, and writes them once for a connection: a request only gets copies. Never removes what a client sent
//! under the same names: `forged` has done that before.
//!
//! | header | when | form |
//! |---|---|---|
//! | `x-forwarded-client-cert` | the caller is known | Envoy's: `By`, `Hash` and `Cert` of a certificate the caller proved, `URI` |
//! | `client-cert` | the caller proved a certificate | RFC 9440: a structured field with the DER in base64 |
//! | `x-landbridge-principal` | the caller is known | its SPIFFE ID |
//! | `x-landbridge-assurance` | always | `mtls`, `attested`, `none` |
//! | `x-landbridge-source-cluster` | it is known | the name of the cluster that is called from |
//! | `forwarded`, `x-forwarded-for` | always | what the client sent, then its address, or `unknown` |
//! | `traceparent` | always | the client's where it is valid, else that of the connection |
//!
//! Of the last three the client may claim what it likes; the last element of each address list is the gateway's word.

use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use federation_model::{caller::Caller, names::ClusterName, spiffe::SpiffeId, trace::TraceContext};
use http::{HeaderMap, HeaderName, HeaderValue, header, uri::Authority};

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PRINCIPAL: HeaderName = HeaderName::from_static("x-landbridge-principal");
const ASSURANCE: HeaderName = HeaderName::from_static("x-landbridge-assurance");
const SOURCE_CLUSTER: HeaderName = HeaderName::from_static("x-landbridge-source-cluster");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Who calls, as the endpoint is told in headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// The caller.
    pub caller: Caller,
    /// The cluster it calls from.
    pub source_cluster: Option<ClusterName>,
    /// The gateway that introduces it: this one.
    pub by: SpiffeId,
    /// Where the caller's connection came from, as its first gateway saw it.
    pub client: Option<SocketAddr>,
    /// The trace of the connection, for requests that bring none of their own.
    pub trace: TraceContext,
    /// The host of requests that name none, which only HTTP/1.0 allows.
    pub authority: Option<Authority>,
}

/// An introduction in header values.
#[derive(Debug)]
pub(crate) struct Stamp {
    fixed: Vec<(HeaderName, HeaderValue)>,
    forwarded: HeaderValue,
    forwarded_for: HeaderValue,
    traceparent: HeaderValue,
    trace: TraceContext,
    pub(crate) host: Option<HeaderValue>,
}

impl Stamp {
    pub(crate) fn new(introduction: &Introduction) -> Self {
        let caller = &introduction.caller;
        let mut fixed = vec![(ASSURANCE, HeaderValue::from_static(caller.assurance().label()))];
        if let Some(cluster) = &introduction.source_cluster {
            fixed.push((SOURCE_CLUSTER, value(cluster.to_string())));
        }
        if let Some(principal) = caller.principal() {
            fixed.push((PRINCIPAL, value(principal.to_string())));
            let der = caller.certificate().map(AsRef::as_ref);
            fixed.push((FORWARDED_CLIENT_CERT, value(forwarded_client_cert(&introduction.by, principal, der))));
        }
        if let Some(der) = caller.certificate() {
            fixed.push((CLIENT_CERT, value(format!(":{}:", BASE64_STANDARD.encode(der)))));
        }
        let address = introduction.client.map(|client| client.ip().to_canonical());
        Self {
            fixed,
            forwarded: value(match address {
                None => "for=unknown".to_owned(),
                Some(ip) if ip.is_ipv6() => format!("for=\"[{ip}]\""),
                Some(ip) => format!("for={ip}"),
            }),
            forwarded_for: value(address.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string())),
            traceparent: value(introduction.trace.to_string()),
            trace: introduction.trace,
            host: introduction.authority.as_ref().map(|authority| value(authority.to_string())),
        }
    }

    /// Introduces the caller in the headers of one request.
    pub(crate) fn set(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.fixed {
            headers.insert(name, value.clone());
        }
        append(headers, header::FORWARDED, &self.forwarded);
        append(headers, FORWARDED_FOR, &self.forwarded_for);
        if own_trace(headers).is_none() {
            headers.insert(TRACEPARENT, self.traceparent.clone());
            // State belongs to the trace it came with.
            headers.remove(TRACESTATE);
        }
    }

    /// The trace a request belongs to.
    pub(crate) fn trace_of(&self, headers: &HeaderMap) -> TraceContext {
        own_trace(headers).unwrap_or(self.trace)
    }
}

/// The trace a request brings along, when it is exactly one and valid.
fn own_trace(headers: &HeaderMap) -> Option<TraceContext> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let (first, second) = (all.next()?, all.next());
    if second.is_some() {
        return None;
    }
    first.to_str().ok()?.parse().ok()
}

/// Adds `ours` at the end of a list, as one line: there are endpoints that read the first line alone.
fn append(headers: &mut HeaderMap, name: HeaderName, ours: &HeaderValue) {
    if !headers.contains_key(&name) {
        headers.insert(name, ours.clone());
        return;
    }
    let joined = {
        let all = headers.get_all(&name).iter().chain([ours]).map(HeaderValue::as_bytes);
        all.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b", "[..])
    };
    // Parts of header values make a header value; were it otherwise, ours alone would stand.
    let joined = HeaderValue::from_bytes(&joined).unwrap_or_else(|_| ours.clone());
    headers.insert(name, joined);
}

/// One element of Envoy's `x-forwarded-client-cert`. There is no `Subject`: SVIDs mostly have none, and it proves nothing.
fn forwarded_client_cert(by: &SpiffeId, principal: &SpiffeId, der: Option<&[u8]>) -> String {
    let mut text = format!("By={}", quoted(&by.to_string()));
    if let Some(der) = der {
        let hash: String = digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!(";Hash={hash};Cert=\"{}\"", encoded_pem(der)));
    }
    text.push_str(&format!(";URI={}", quoted(&principal.to_string())));
    text
}

/// A value of `x-forwarded-client-cert`, in quotes where it needs them.
fn quoted(text: &str) -> String {
    if text.contains([',', ';', '=', '"']) { format!("\"{}\"", text.replace('"', "\\\"")) } else { text.to_owned() }
}

/// A certificate as PEM, URL-encoded as Envoy does it: of what base64 and PEM are made of, these five characters.
fn encoded_pem(der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let mut pem = String::with_capacity(base64.len() * 5 / 4 + 80);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    for (index, letter) in base64.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    let mut encoded = String::with_capacity(pem.len() * 5 / 4);
    for letter in pem.chars() {
        match letter {
            '\n' => encoded.push_str("%0A"),
            ' ' => encoded.push_str("%20"),
            '+' => encoded.push_str("%2B"),
            '/' => encoded.push_str("%2F"),
            '=' => encoded.push_str("%3D"),
            other => encoded.push(other),
        }
    }
    encoded
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("ids, names, addresses, hex and base64 are printable ASCII")
}

#[cfg(test)]
mod tests;
