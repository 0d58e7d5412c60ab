//! Endpoints that look at everything they are asked, and find nothing a gateway may not send.

use http::{HeaderMap, Method, Response, StatusCode, header};
use tokio::io::{AsyncWriteExt as _, BufReader, DuplexStream};

use super::{Asked, CLIENT, PRINCIPAL, strict};

/// What only a gateway sets, and what it sets here; nothing as the value has a form of its own.
const INTRODUCED: [(&str, Option<&str>); 5] = [
    ("x-landbridge-principal", Some(PRINCIPAL)),
    ("x-landbridge-assurance", Some("mtls")),
    ("x-landbridge-source-cluster", Some("east")),
    ("client-cert", Some(":MAMCAQU=:")),
    ("x-forwarded-client-cert", None),
];
/// What only a gateway may set, all punctuation taken for the same.
const RESERVED: [&str; 4] = ["x-forwarded-client-cert", "client-cert", "client-cert-chain", "l5d-client-id"];
/// Headers of one hop (RFC 9110 section 7.6.1) that a gateway never passes on.
const HOP_BY_HOP: [&str; 3] = ["keep-alive", "proxy-connection", "proxy-authorization"];

/// Reads requests of HTTP/1.1 as RFC 9112 has them and no other way, and answers each.
pub(super) async fn one(io: DuplexStream) -> Vec<Asked> {
    let mut io = BufReader::new(io);
    let mut asked = Vec::new();
    // The head is enough for the request to count: an endpoint may act on it before the body ends.
    while let Some(head) = strict::head(&mut io).await {
        assert_introduced(&head.headers);
        assert_eq!(head.headers.get_all(header::HOST).iter().count(), 1, "{head:?}");
        asked.push(Asked { method: head.method.clone(), path: path_of(&head.target) });
        let Some(trailers) = strict::body(&mut io, &head).await else { break };
        assert_unforged(&trailers);
        // A gateway that has gone does not read it.
        let _ = io.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    }
    asked
}

fn path_of(target: &str) -> String {
    target.split('?').next().unwrap_or_default().to_owned()
}

/// Reads requests of HTTP/2 as the h2 crate has them, and answers each.
pub(super) async fn two(io: DuplexStream) -> Vec<Asked> {
    let mut asked = Vec::new();
    let mut builder = h2::server::Builder::new();
    let Ok(mut connection) = builder.enable_connect_protocol().handshake::<_, bytes::Bytes>(io).await else {
        return asked;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_introduced(request.headers());
        let method = if *request.method() == Method::CONNECT { Method::GET } else { request.method().clone() };
        asked.push(Asked { method, path: request.uri().path().to_owned() });
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NO_CONTENT;
        // A gateway that has reset the stream does not hear it.
        let _ = respond.send_response(response, true);
    }
    asked
}

fn assert_introduced(headers: &HeaderMap) {
    for (name, expected) in INTRODUCED {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(values.len(), 1, "{name} in {headers:?}");
        assert!(expected.is_none_or(|expected| values[0] == expected), "{name}: {values:?}");
    }
    for (name, end) in [("x-forwarded-for", CLIENT), ("forwarded", "for=10.1.2.3")] {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        let [value] = values[..] else { panic!("{name}: {values:?}") };
        let last = value.as_bytes().rsplit(|b| *b == b',').next().unwrap();
        assert_eq!(last.trim_ascii(), end.as_bytes(), "{name}: {value:?}");
    }
    assert_eq!(headers.get_all("traceparent").iter().count(), 1, "{headers:?}");
    assert!(HOP_BY_HOP.iter().all(|name| !headers.contains_key(*name)), "{headers:?}");
    let ours = |name: &str| INTRODUCED.iter().any(|(set, _)| *set == name);
    assert_reserved_are(headers, ours);
}

/// Nobody is introduced in trailers.
pub(super) fn assert_unforged(trailers: &HeaderMap) {
    assert_reserved_are(trailers, |_| false);
}

fn assert_reserved_are(headers: &HeaderMap, ours: impl Fn(&str) -> bool) {
    for name in headers.keys().map(|name| name.as_str()) {
        let folded = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let reserved = RESERVED.contains(&&*folded) || folded.starts_with("x-landbridge-");
        assert!(!reserved || ours(name), "{name} may introduce somebody: {headers:?}");
    }
}
