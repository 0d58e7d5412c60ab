//! Stage two: who is calling, and what the first bytes say.
//!
//! Owns the order in which a caller is found out (a certificate proven here, else the pod that owns the source address, else
//! nothing), the peek at the ClientHello, and that a caller who was revoked gets no further. Never routes; TLS that ends here
//! ends in `terminate`.

use std::sync::Arc;

use bytes::BytesMut;
use federation_model::{addr::Port, caller::Caller, outcome::Outcome};
use gateway_core::{hello::ClientHello, tables::Tables};

use tokio::time::{Instant, timeout};

use crate::{
    accept::{Accepted, Refused, Via},
    client_hello,
    path::DataPath,
    route::named,
    terminate::{Asked, Terminated},
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
    /// The port that name means, when the client's TLS has ended here.
    pub port: Option<Port>,
    /// Bytes read from the client that belong to the application.
    pub prefix: BytesMut,
}

impl Identified {
    /// A connection judged by the newest tables, of which nothing else is known.
    fn unknown(accepted: Accepted, path: &DataPath) -> Self {
        let tables = path.tables.borrow().clone();
        Self { accepted, tables, caller: Caller::Unknown, server_name: None, port: None, prefix: BytesMut::new() }
    }

    /// The pod that owns the source address vouches for the caller.
    fn attested(mut self) -> Self {
        if let Some(id) = self.tables.principal_of(self.accepted.client.ip().to_canonical()) {
            self.caller = Caller::Vouched { id: id.clone() };
        }
        self
    }
}

/// Finds out who is calling.
///
/// # Errors
/// When the listener routes by server name and the client does not give one, the client does not prove what it must, or the
/// caller was revoked.
pub async fn identify(accepted: Accepted, path: &DataPath) -> Result<Identified, Refused> {
    let mut identified = match accepted.via {
        Via::Address => Identified::unknown(accepted, path).attested(),
        Via::ServerName => greet(accepted, path).await?.0.attested(),
        Via::Terminated => {
            let deadline = Instant::now() + path.limits.hello_timeout;
            let (greeted, hello) = greet(accepted, path).await?;
            terminate(greeted, &hello, deadline, path).await?
        }
    };
    let Identified { accepted, tables, caller, .. } = &mut identified;
    accepted.record.called_by(caller.clone());
    let revoked = caller.principal().and_then(|id| tables.revoked(id)).map(ToString::to_string);
    match revoked {
        Some(reason) => Err(identified.accepted.refuse(Outcome::Revoked, reason)),
        None => Ok(identified),
    }
}

/// Reads the ClientHello of a client that must give a server name in it.
async fn greet(mut accepted: Accepted, path: &DataPath) -> Result<(Identified, ClientHello), Refused> {
    let mut prefix = BytesMut::new();
    let hello = match timeout(path.limits.hello_timeout, client_hello::read(&mut accepted.end, &mut prefix)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err((outcome, reason))) => return Err(accepted.refuse(outcome, reason)),
        Err(_) => return Err(accepted.refuse(Outcome::ClientSilent, "no complete ClientHello in time")),
    };
    let Some(name) = hello.server_name.clone() else {
        return Err(accepted.refuse(Outcome::NoServerName, "the ClientHello has no server name"));
    };
    let unknown = Identified::unknown(accepted, path);
    Ok((Identified { server_name: Some(name), prefix, ..unknown }, hello))
}

/// Ends the client's TLS, where it asks for what is imported now, and has it prove who it is.
async fn terminate(
    greeted: Identified,
    hello: &ClientHello,
    deadline: Instant,
    path: &DataPath,
) -> Result<Identified, Refused> {
    let Identified { accepted, tables, server_name, prefix, .. } = greeted;
    let asked = named(server_name.as_deref().unwrap_or_default(), &path.zone).and_then(|target| {
        let unknown = |outcome| (outcome, format!("no port of an import is meant by the server name {target:?}"));
        Ok((path.zone.host_of(&target.service), tables.port_behind(&target).map_err(unknown)?))
    });
    let (host, port) = match asked {
        Ok(asked) => asked,
        Err((outcome, reason)) => return Err(accepted.refuse(outcome, reason)),
    };
    let asked = Asked { host: &host, port, hello, first: prefix.freeze(), deadline };
    let Terminated { accepted, caller, prefix } = path.terminator.terminate(accepted, asked).await?;
    let port = Some(port.port);
    Ok(Identified { accepted, caller, server_name, port, prefix, tables })
}
