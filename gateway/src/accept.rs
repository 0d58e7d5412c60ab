//! Stage one: a socket becomes an [`Accepted`] connection with a record and a place among the limited connections.
//!
//! Owns the accept loop of one listener, and how a connection that goes no further is told so. Never reads a byte of one
//! that does: that is `identify`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use federation_model::{outcome::Outcome, trace::TraceContext};
use gateway_core::hello::AlertDescription;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    client_end::ClientEnd,
    client_hello,
    history::Step,
    path::DataPath,
    record::{Direction, Record},
    splice::{Counts, TcpEnd},
};

/// How long accepting rests after an error that concerns the process, such as too many open files.
const REST_AFTER_ERROR: Duration = Duration::from_millis(50);
/// How long a client that is refused may take to show that it speaks TLS: its ClientHello follows its connect at once.
const SHOW_TLS: Duration = Duration::from_millis(500);

/// How a connection says where it wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By the import address it was made to.
    Address,
    /// By the server name in its ClientHello, which goes through to the server.
    ServerName,
    /// By the server name in its ClientHello, and its TLS ends here.
    Terminated,
}

impl Via {
    /// In words.
    const fn label(self) -> &'static str {
        match self {
            Self::Address => "import address",
            Self::ServerName => "server name",
            Self::Terminated => "server name, and ends the client's TLS",
        }
    }
}

/// A connection of an application, before anything is known of it.
#[derive(Debug)]
pub struct Accepted {
    /// The client's end; the socket, until its TLS has ended here.
    pub end: ClientEnd,
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
    farewell: Farewell,
    /// What was read of the client and not taken by anybody.
    heard: BytesMut,
}

/// What a client that speaks TLS is told.
#[derive(Debug, Clone, Copy)]
enum Farewell {
    /// What its outcome says.
    Outcome,
    /// This.
    Alert(AlertDescription),
    /// Nothing more: it was told.
    Told,
}

impl Accepted {
    /// Ends the connection at this stage.
    #[must_use]
    pub fn refuse(self, outcome: Outcome, reason: impl Into<String>) -> Refused {
        self.end_with(Farewell::Outcome, outcome, reason.into())
    }

    /// Ends the connection at this stage, after these bytes were read of the client.
    #[must_use]
    pub fn refuse_after(self, heard: BytesMut, outcome: Outcome, reason: String) -> Refused {
        Refused { heard, ..self.refuse(outcome, reason) }
    }

    /// Ends the connection with an alert that says more than its outcome does.
    #[must_use]
    pub fn refuse_saying(self, alert: AlertDescription, outcome: Outcome, reason: String) -> Refused {
        self.end_with(Farewell::Alert(alert), outcome, reason)
    }

    /// Ends the connection after the client was told by its handshake.
    #[must_use]
    pub fn refuse_told(self, outcome: Outcome, reason: String) -> Refused {
        self.end_with(Farewell::Told, outcome, reason)
    }

    fn end_with(self, farewell: Farewell, outcome: Outcome, reason: String) -> Refused {
        Refused { accepted: Box::new(self), outcome, reason, farewell, heard: BytesMut::new() }
    }
}

impl Refused {
    /// Tells the client honestly, and records the outcome: a TLS alert where the client speaks TLS, else a reset.
    pub async fn answer(self) {
        let Self { accepted, outcome, reason, farewell, heard } = self;
        let Accepted { mut end, via, record, place: _place, .. } = *accepted;
        let alert = AlertDescription::of(outcome);
        match (farewell, via) {
            (Farewell::Told, _) => end.part().await,
            (Farewell::Alert(alert), _) => end.refuse(Some(alert)).await,
            (Farewell::Outcome, Via::Address) => {
                let understood = alert.is_some() && speaks_tls(&mut end, heard).await;
                end.refuse(alert.filter(|_| understood)).await;
            }
            (Farewell::Outcome, Via::ServerName | Via::Terminated) => end.refuse(alert).await,
        }
        record.end(outcome, Counts::default(), &reason);
    }
}

/// Whether a client that has said this so far speaks TLS; for whoever says nothing the wait is short.
async fn speaks_tls(end: &mut ClientEnd, heard: BytesMut) -> bool {
    timeout(SHOW_TLS, client_hello::is_tls(end, heard)).await.unwrap_or(false)
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
    let client = canonical(client);
    let trace = TraceContext::from_random(rand::random(), rand::random());
    let record = path.recorder.begin(Direction::Outbound, Some(client), trace);
    let Ok(local) = stream.local_addr() else {
        return record.end(Outcome::ClientReset, Counts::default(), "the socket has no local address any more");
    };
    let local = canonical(local);
    record.tell(Step::Accepted { client, local, via: via.label() });
    // Small writes of interactive protocols must not wait for acknowledgements.
    let _ = stream.set_nodelay(true);
    let end = TcpEnd::new(stream, Outcome::ClientReset);
    let Ok(place) = path.places.clone().try_acquire_owned() else {
        end.abort();
        return record.end(Outcome::OverCapacity, Counts::default(), "limits.connections is reached");
    };
    let accepted = Accepted { end: ClientEnd::Tcp(end), client, local, via, record, place };
    path.connections.spawn(crate::path::serve(path.clone(), accepted));
}

/// An IPv4 address is told as one, though the socket that accepted it is for both families.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
