//! Stage two: who is calling, and what the first bytes say.
//!
//! Owns the peek at the ClientHello, the attestation by source address, and that a caller who was revoked gets no further.
//! Never decrypts, never routes.

use std::sync::Arc;

use bytes::BytesMut;
use federation_model::{caller::Caller, outcome::Outcome};
use gateway_core::tables::Tables;

use crate::{
    accept::{Accepted, Refused, Via},
    client_hello,
    path::DataPath,
    splice::TcpEnd,
};

/// A connection whose caller is known as well as it can be.
#[derive(Debug)]
pub struct Identified {
    /// The connection.
    pub accepted: Accepted,
    /// The one snapshot this connection is judged by.
    pub tables: Arc<Tables>,
    /// The caller.
    pub caller: Caller,
    /// The server name, when the connection is routed by it.
    pub server_name: Option<String>,
    /// Bytes read from the client that belong to the application.
    pub prefix: BytesMut,
}

/// Finds out who is calling.
///
/// # Errors
/// When the listener routes by server name and the client does not give one, or the caller was revoked.
pub async fn identify(mut accepted: Accepted, path: &DataPath) -> Result<Identified, Refused> {
    let mut prefix = BytesMut::new();
    let server_name = match accepted.via {
        Via::Address => None,
        Via::ServerName => {
            let peeked = read_server_name(&mut accepted.end, &mut prefix);
            match tokio::time::timeout(path.limits.hello_timeout, peeked).await {
                Ok(Ok(name)) => Some(name),
                Ok(Err((outcome, reason))) => return Err(accepted.refuse(outcome, reason)),
                Err(_) => return Err(accepted.refuse(Outcome::ClientSilent, "no complete ClientHello in time")),
            }
        }
    };
    let tables = path.tables.borrow().clone();
    let caller = attest(&accepted, &tables);
    accepted.record.called_by(caller.clone());
    if let Some(revocation) = caller.principal().and_then(|id| tables.revoked(id)) {
        return Err(accepted.refuse(Outcome::Revoked, revocation.to_string()));
    }
    Ok(Identified { accepted, tables, caller, server_name, prefix })
}

/// The pod that owns the source address vouches for the caller.
fn attest(accepted: &Accepted, tables: &Tables) -> Caller {
    match tables.principal_of(accepted.client.ip().to_canonical()) {
        Some(id) => Caller::Vouched { id: id.clone() },
        None => Caller::Unknown,
    }
}

async fn read_server_name(end: &mut TcpEnd, prefix: &mut BytesMut) -> Result<String, (Outcome, String)> {
    let hello = client_hello::read(end, prefix).await?;
    hello.server_name.ok_or_else(|| (Outcome::NoServerName, "the ClientHello has no server name".to_owned()))
}
