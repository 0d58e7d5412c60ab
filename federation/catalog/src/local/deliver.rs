//! How each port of an export is delivered: the annotations `landbridge.dev/deliver` and `landbridge.dev/tls-*`.
//!
//! Owns their grammar. Never guesses: another way than the one meant could let callers forge what the service trusts.
//!
//! ```text
//! deliver   item, item, ...      item   MODE            for every port without one of its own, at most once
//!                                       PORT=MODE       PORT is a TCP port of the Service, by name or number, each at most once
//! MODE      passthrough | plain | proxy-v2 | http | tls
//! ```

use std::collections::BTreeMap;

use federation_model::{
    addr::{Port, Transport},
    export::{ClientIdentity, Deliver, DeliverModes, EndpointProof, EndpointTls},
    spiffe::SpiffeId,
};

use super::{CarriedPort, warning::Warning};
use crate::objects::{DELIVER, ServiceExportObject, TLS_CLIENT_IDENTITY, TLS_SERVER_NAME, TLS_SPIFFE_ID};

/// The most characters of a value that are shown.
const SHOWN: usize = 80;

/// Why it is not known how an export is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DeliverFault {
    #[error(
        "the annotation landbridge.dev/deliver has the value {0:?}; write passthrough, plain, proxy-v2, http or tls, or one of them for each port: http, 5432=proxy-v2, metrics=plain"
    )]
    Mode(String),
    #[error(
        "the annotation landbridge.dev/deliver names the port {0:?}, which is no TCP port of the Service; it has {1}"
    )]
    Port(String, String),
    #[error("the annotation landbridge.dev/deliver says twice how {0} is delivered; write it once")]
    Twice(String),
    #[error("the annotation {annotation} has the value {value:?}; write {expected}")]
    Tls { annotation: &'static str, value: String, expected: &'static str },
    #[error(
        "the annotations landbridge.dev/tls-spiffe-id and landbridge.dev/tls-server-name are both there; leave one of them out: an endpoint proves an id or a name"
    )]
    TwoProofs,
}

/// How each port of `export` is delivered.
pub(super) fn modes(
    export: &ServiceExportObject,
    ports: &[CarriedPort<'_>],
    warnings: &mut Vec<Warning>,
) -> Result<DeliverModes, DeliverFault> {
    let text = export.annotations.get(DELIVER).map(String::as_str);
    let items = text.map(|text| text.split(',').map(str::trim)).into_iter().flatten();
    let (mut default, mut exceptions, mut speaks_tls) = (None, BTreeMap::new(), false);
    for item in items {
        let (place, word) = match item.split_once('=') {
            Some((place, word)) => (Some(place.trim()), word.trim()),
            None => (None, item),
        };
        let mode = mode(word, export)?.ok_or_else(|| DeliverFault::Mode(shown(item)))?;
        speaks_tls |= matches!(mode, Deliver::Tls(_));
        let before = match place {
            None => default.replace(mode),
            Some(place) => exceptions.insert(port(place, ports)?, mode),
        };
        if before.is_some() {
            let what = place.map_or_else(|| "every other port".to_owned(), |place| format!("port {}", shown(place)));
            return Err(DeliverFault::Twice(what));
        }
    }
    if !speaks_tls {
        let idle = [TLS_SPIFFE_ID, TLS_SERVER_NAME, TLS_CLIENT_IDENTITY];
        for annotation in idle.into_iter().filter(|name| export.annotations.contains_key(*name)) {
            warnings.push(Warning::WithoutTls { export: export.key.clone(), annotation });
        }
    }
    Ok(DeliverModes::new(default.unwrap_or_default(), exceptions))
}

/// The mode of a word; nothing when there is none.
fn mode(word: &str, export: &ServiceExportObject) -> Result<Option<Deliver>, DeliverFault> {
    Ok(Some(match word {
        "passthrough" => Deliver::Passthrough,
        "plain" => Deliver::Plain,
        "proxy-v2" => Deliver::ProxyV2,
        "http" => Deliver::Http,
        "tls" => Deliver::Tls(endpoint_tls(export)?),
        _ => return Ok(None),
    }))
}

fn port(place: &str, ports: &[CarriedPort<'_>]) -> Result<Port, DeliverFault> {
    let number = place.parse().ok().and_then(Port::new);
    let mut carried = ports.iter().filter(|(_, transport)| *transport == Transport::Tcp).map(|(port, _)| *port);
    let meant = carried
        .clone()
        .find(|port| number == Some(port.port) || port.name.as_ref().is_some_and(|name| name.as_str() == place));
    meant.map(|port| port.port).ok_or_else(|| {
        let known: Vec<_> = carried
            .by_ref()
            .take(8)
            .map(|port| match &port.name {
                Some(name) => format!("{name} ({})", port.port),
                None => port.port.to_string(),
            })
            .collect();
        DeliverFault::Port(shown(place), if known.is_empty() { "none".to_owned() } else { known.join(", ") })
    })
}

fn endpoint_tls(export: &ServiceExportObject) -> Result<EndpointTls, DeliverFault> {
    let value = |annotation| export.annotations.get(annotation).map(|value| value.trim());
    let fault = |annotation, value, expected| DeliverFault::Tls { annotation, value: shown(value), expected };
    let proof = match (value(TLS_SPIFFE_ID), value(TLS_SERVER_NAME)) {
        (Some(_), Some(_)) => return Err(DeliverFault::TwoProofs),
        (Some(text), None) => {
            let id = SpiffeId::new(text).ok().filter(|id| !id.path().is_empty());
            let expected = "the SPIFFE ID of the endpoint: spiffe://<trust domain>/<path>";
            EndpointProof::SpiffeId(id.ok_or_else(|| fault(TLS_SPIFFE_ID, text, expected))?)
        }
        (None, Some(text)) => {
            let expected = "one DNS name that the certificate of the endpoint holds";
            EndpointProof::ServerName(text.parse().map_err(|_| fault(TLS_SERVER_NAME, text, expected))?)
        }
        (None, None) => EndpointProof::ServiceHost,
    };
    let presents = match value(TLS_CLIENT_IDENTITY) {
        None => ClientIdentity::None,
        Some("gateway") => ClientIdentity::Gateway,
        Some(other) => return Err(fault(TLS_CLIENT_IDENTITY, other, "gateway, or leave it out to present nothing")),
    };
    Ok(EndpointTls { proof, presents })
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests;
