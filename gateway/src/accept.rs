//! Stage one: a socket becomes an [`Accepted`] connection with a record and a place among the limited connections.
//!
//! Owns the accept loop of one listener. Never reads a byte: that is `identify`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use federation_model::{outcome::Outcome, trace::TraceContext};
use gateway_core::hello::{AlertDescription, alert};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
};
use tokio_util::sync::CancellationToken;

use crate::{
    path::DataPath,
    record::{Direction, Record},
    splice::{Counts, Sink, TcpEnd, discard},
};

/// How long accepting rests after an error that concerns the process, such as too many open files.
const REST_AFTER_ERROR: Duration = Duration::from_millis(50);
/// How long a client may take to receive the alert that ends its connection.
const ALERT_TIMEOUT: Duration = Duration::from_secs(1);

/// How a connection says where it wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By the import address it was made to.
    Address,
    /// By the server name in its ClientHello.
    ServerName,
}

/// A connection of an application, before anything is known of it.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub end: TcpEnd,
    /// The client.
    pub client: SocketAddr,
    /// The address the client dialled.
    pub local: SocketAddr,
    /// How the destination is named.
    pub via: Via,
    /// Its record.
    pub record: Record,
    /// Its place among the limited connections; given back when the connection ends.
    pub place: OwnedSemaphorePermit,
}

/// A connection that goes no further.
#[derive(Debug)]
pub struct Refused {
    accepted: Box<Accepted>,
    outcome: Outcome,
    reason: String,
}

impl Accepted {
    /// Ends the connection at this stage.
    #[must_use]
    pub fn refuse(self, outcome: Outcome, reason: impl Into<String>) -> Refused {
        Refused { accepted: Box::new(self), outcome, reason: reason.into() }
    }
}

impl Refused {
    /// Tells the client honestly, and records the outcome: a TLS alert where the client speaks TLS, else a reset.
    pub async fn answer(self) {
        let Accepted { mut end, via, record, .. } = *self.accepted;
        let description = match via {
            Via::Address => None,
            Via::ServerName => AlertDescription::of(self.outcome),
        };
        if let Some(description) = description {
            let mut bytes = vec![Bytes::copy_from_slice(&alert(description))];
            // A client that does not take its alert is closed all the same.
            let _ = tokio::time::timeout(ALERT_TIMEOUT, end.write(&mut bytes)).await;
            let _ = end.finish();
            discard(&mut end).await;
        } else {
            end.abort();
        }
        record.end(self.outcome, Counts::default(), &self.reason);
    }
}

/// Accepts connections until `stop`; each is served by a task of its own, owned by `path`.
pub async fn accept(listener: TcpListener, via: Via, path: Arc<DataPath>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => admit(stream, client, via, &path),
            Err(error) => {
                tracing::warn!(%error, "cannot accept; check the limit on open files");
                tokio::time::sleep(REST_AFTER_ERROR).await;
            }
        }
    }
}

fn admit(stream: TcpStream, client: SocketAddr, via: Via, path: &Arc<DataPath>) {
    let trace = TraceContext::from_random(rand::random(), rand::random());
    let record = path.recorder.begin(Direction::Outbound, Some(client), trace);
    let Ok(local) = stream.local_addr() else {
        return record.end(Outcome::ClientReset, Counts::default(), "the socket has no local address any more");
    };
    // Small writes of interactive protocols must not wait for acknowledgements.
    let _ = stream.set_nodelay(true);
    let end = TcpEnd::new(stream, Outcome::ClientReset);
    let Ok(place) = path.places.clone().try_acquire_owned() else {
        end.abort();
        return record.end(Outcome::OverCapacity, Counts::default(), "limits.connections is reached");
    };
    let accepted = Accepted { end, client, local, via, record, place };
    path.connections.spawn(crate::path::serve(path.clone(), accepted));
}
