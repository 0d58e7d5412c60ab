//! Stage three: where the connection goes, by one lookup on one snapshot.
//!
//! Owns the choice between address and server name. Never picks a cluster: that is `forward`.

use federation_model::{
    addr::Transport,
    outcome::Outcome,
    sni::{SniTarget, Zone},
};
use gateway_core::tables::Route;

use crate::{accept::Refused, identify::Identified, path::DataPath};

/// A connection that has a destination.
#[derive(Debug)]
pub struct Routed {
    /// The connection and its caller.
    pub identified: Identified,
    /// The destination and the clusters that offer it.
    pub route: Route,
}

/// Looks the destination up.
///
/// # Errors
/// When nothing by that address or name is imported.
pub fn route(mut identified: Identified, path: &DataPath) -> Result<Routed, Refused> {
    let found = match &identified.server_name {
        None => {
            let local = identified.accepted.local;
            identified
                .tables
                .by_address(local, Transport::Tcp)
                .map_err(|outcome| (outcome, format!("nothing is imported at {local}")))
        }
        Some(name) => named(name, &path.zone).and_then(|target| {
            let reason = |outcome| (outcome, format!("no route for the server name {name}"));
            let target = SniTarget { port: target.port.or(identified.port), ..target };
            identified.tables.by_name(&target).map_err(reason)
        }),
    };
    match found {
        Ok(route) => {
            identified.accepted.record.calls(route.service.clone(), route.port);
            Ok(Routed { identified, route })
        }
        Err((outcome, reason)) => Err(identified.accepted.refuse(outcome, reason)),
    }
}

/// What a server name asks for.
pub(crate) fn named(name: &str, zone: &Zone) -> Result<SniTarget, (Outcome, String)> {
    SniTarget::parse(name, zone).map_err(|error| (Outcome::UnknownService, error.to_string()))
}
