//! Headers that speak of one hop only, and requests and responses made ready for the next.
//!
//! Owns RFC 9110 section 7.6.1. Never looks at who calls.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, header::Entry};

/// Headers that belong to a connection whether or not `Connection` says so.
const OF_ONE_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Removes the headers of the last hop from those of a request. Of these `te: trailers` is said again, for gRPC; and what
/// the client wants to upgrade to, when it may.
pub(crate) fn prepare_request(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>) {
    let trailers = lists(headers, &header::TE, "trailers");
    remove_hop(headers);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade.clone());
    }
}

/// Removes the headers of the last hop from those of a response, but for what it says of an upgrade.
pub(crate) fn prepare_response(status: StatusCode, headers: &mut HeaderMap) {
    let says = matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    let upgrade = if says { headers.get(header::UPGRADE).cloned() } else { None };
    remove_hop(headers);
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        // There is no content, whatever it says; hyper would not write a length for it either.
        headers.remove(header::CONTENT_LENGTH);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade);
    }
}

/// What an HTTP/1.1 request wants to upgrade to. Nothing of it is said again when one of the protocols can carry more
/// requests of HTTP: they would pass without being judged (h2c smuggling).
pub(crate) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    if !lists(headers, &header::CONNECTION, "upgrade") {
        return None;
    }
    let mut all = headers.get_all(header::UPGRADE).iter();
    let (Some(upgrade), None) = (all.next(), all.next()) else { return None };
    let refused = upgrade.to_str().ok()?.split(',').any(carries_http);
    (!refused).then(|| upgrade.clone())
}

/// Whether a protocol that is upgraded to, or that an HTTP/2 stream is asked for, can carry requests of HTTP.
pub(crate) fn carries_http(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(name.as_str(), "" | "h2c" | "h2" | "h3" | "http" | "https" | "tls")
}

fn remove_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        for name in listed(headers) {
            headers.remove(name);
        }
    }
    for name in &OF_ONE_HOP {
        headers.remove(name);
    }
}

/// The headers `Connection` lists, but for those a request is not the same without.
fn listed(headers: &HeaderMap) -> Vec<HeaderName> {
    let tokens = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    tokens
        .flat_map(|text| text.split(','))
        .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect()
}

fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let mut tokens = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    tokens.any(|token| token.trim().eq_ignore_ascii_case(wanted))
}

/// Puts `host` where the request names no host.
pub(crate) fn default_host(headers: &mut HeaderMap, host: &HeaderValue) {
    if let Entry::Vacant(vacant) = headers.entry(header::HOST) {
        vacant.insert(host.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_connection_lists_is_removed_but_for_the_host_and_the_length() {
        let mut headers = map(&[
            ("connection", "close, X-Secret ,host"),
            ("connection", "content-length"),
            ("x-secret", "1"),
            ("host", "a"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "gzip, trailers"),
            ("accept", "*/*"),
        ]);
        prepare_request(&mut headers, None);
        assert_eq!(headers, map(&[("host", "a"), ("content-length", "3"), ("te", "trailers"), ("accept", "*/*")]));
    }

    #[test]
    fn an_upgrade_is_said_again_unless_it_could_carry_requests() {
        let wanted = |upgrade| wanted_upgrade(&map(&[("connection", "Upgrade, x"), ("upgrade", upgrade)]));
        assert_eq!(wanted("websocket").unwrap(), "websocket");
        assert_eq!(wanted("SPDY/3.1").unwrap(), "SPDY/3.1");
        for smuggling in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.0", "", "websocket,"] {
            assert_eq!(wanted(smuggling), None, "{smuggling}");
        }
        assert_eq!(wanted_upgrade(&map(&[("upgrade", "websocket")])), None);
        assert_eq!(
            wanted_upgrade(&map(&[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")])),
            None
        );
    }

    #[test]
    fn a_response_says_what_it_upgrades_to_only_when_it_does() {
        let sent = [("connection", "upgrade"), ("upgrade", "websocket")];
        for (status, kept) in [(101, true), (426, true), (200, false)] {
            let mut headers = map(&sent);
            prepare_response(StatusCode::from_u16(status).unwrap(), &mut headers);
            assert_eq!(headers.contains_key("upgrade"), kept, "{status}");
        }
    }
}
