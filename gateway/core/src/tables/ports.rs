//! Which port of a service a server name means that names none.
//!
//! Owns the two orders of preference. Never looks at what is behind a port: its author says it by name, protocol or number.

use federation_model::{addr::Transport, catalog::ServicePort};

/// Names and application protocols of ports that speak TLS themselves.
const TLS: [&str; 5] = ["https", "tls", "grpcs", "wss", "kubernetes.io/wss"];
/// Those of ports that speak HTTP without TLS.
const HTTP: [&str; 7] = ["http", "http2", "h2c", "grpc", "ws", "kubernetes.io/h2c", "kubernetes.io/ws"];

/// The port for a client whose TLS goes through to the server: the only TCP port, else the one that says it is TLS by its
/// name or its application protocol, else 443, else 8443.
pub(super) fn tls_port(ports: &[ServicePort]) -> Option<&ServicePort> {
    let named = |port: &&ServicePort| port.name.as_ref().is_some_and(|name| matches!(name.as_str(), "https" | "tls"));
    only(ports, |_| true)
        .or_else(|| tcp(ports).find(named))
        .or_else(|| tcp(ports).find(|port| speaks(port, &TLS)))
        .or_else(|| tcp(ports).find(|port| port.port.number() == 443))
        .or_else(|| tcp(ports).find(|port| port.port.number() == 8443))
}

/// The port for a client whose TLS ends at the gateway: the only TCP port, else the only one that does not say it is TLS, else
/// the one that says it is HTTP, else 80, else 8080.
pub(super) fn plain_port(ports: &[ServicePort]) -> Option<&ServicePort> {
    let plain = |port: &ServicePort| !says(port, &TLS) && !matches!(port.port.number(), 443 | 8443);
    only(ports, |_| true)
        .or_else(|| only(ports, plain))
        .or_else(|| tcp(ports).find(|port| says(port, &HTTP)))
        .or_else(|| tcp(ports).find(|port| port.port.number() == 80))
        .or_else(|| tcp(ports).find(|port| port.port.number() == 8080))
}

fn tcp(ports: &[ServicePort]) -> impl Iterator<Item = &ServicePort> {
    ports.iter().filter(|port| port.transport == Transport::Tcp)
}

/// The one TCP port that fits, where there is exactly one.
fn only(ports: &[ServicePort], fits: impl Fn(&ServicePort) -> bool) -> Option<&ServicePort> {
    let mut found = tcp(ports).filter(|port| fits(port));
    match (found.next(), found.next()) {
        (Some(only), None) => Some(only),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

fn says(port: &ServicePort, words: &[&str]) -> bool {
    port.name.as_ref().is_some_and(|name| words.contains(&name.as_str())) || speaks(port, words)
}

fn speaks(port: &ServicePort, words: &[&str]) -> bool {
    let protocol = port.app_protocol.as_deref();
    protocol.is_some_and(|protocol| words.iter().any(|word| protocol.eq_ignore_ascii_case(word)))
}
