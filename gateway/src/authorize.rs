//! Stage five: whether this caller may reach this service, at the cluster that has it.
//!
//! Owns the rule that a peer vouches only inside its own trust domain and never for who was revoked, and that only exported
//! services are reachable. Never connects anything.

use std::{sync::Arc, time::Duration};

use federation_model::{addr::Transport, caller::Caller, outcome::Outcome, trace::TraceContext};
use federation_pki::verify::{serial_of, spiffe_id_of};
use gateway_core::{header::StreamHeader, tables::Tables};
use gateway_tunnel::{HeadError, InboundStream};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    path::DataPath,
    record::{Direction, Record},
    splice::Counts,
};

/// How long a peer may take to take the reply to a header, a few bytes.
pub(crate) const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// A stream that may be delivered.
#[derive(Debug)]
pub struct Authorized {
    /// The stream; nothing has been replied yet.
    pub stream: InboundStream,
    /// What it asks for.
    pub header: StreamHeader,
    /// The caller, confined to the trust domain of the peer.
    pub caller: Caller,
    /// The one snapshot this stream is judged by.
    pub tables: Arc<Tables>,
    /// Its record.
    pub record: Record,
    /// Its place among the limited connections.
    pub place: OwnedSemaphorePermit,
}

/// A stream that is not delivered.
#[derive(Debug)]
pub struct Rejected {
    stream: Box<InboundStream>,
    record: Box<Record>,
    outcome: Outcome,
    reason: String,
}

impl Rejected {
    /// A stream that ends with `outcome`.
    #[must_use]
    pub fn new(stream: InboundStream, record: Record, outcome: Outcome, reason: String) -> Self {
        Self { stream: Box::new(stream), record: Box::new(record), outcome, reason }
    }

    /// Tells the peer, and records the outcome.
    pub async fn answer(self) {
        // A peer that takes no bytes does not get to keep the connection's place.
        match timeout(REPLY_LIMIT, self.stream.refuse(self.outcome, &self.reason)).await {
            Ok(Ok(())) => {}
            Ok(Err(ended)) => tracing::debug!(%ended, "the peer did not wait for the refusal"),
            Err(_elapsed) => tracing::debug!("the peer did not take the refusal"),
        }
        self.record.end(self.outcome, Counts::default(), &self.reason);
    }
}

/// Whether the certificate that a peer sends along is of the caller it names, and believed: it is shown to the destination.
fn check_certificate(caller: &Caller, tables: &Tables) -> Result<(), (Outcome, String)> {
    let (Some(id), Some(certificate)) = (caller.principal(), caller.certificate()) else { return Ok(()) };
    let foreign =
        |reason| (Outcome::ForeignPrincipal, format!("the certificate that came with {id} is not its own: {reason}"));
    let named = spiffe_id_of(certificate).map_err(|error| foreign(error.to_string()))?;
    if named != *id {
        return Err(foreign(format!("it is of {named}")));
    }
    let serial = serial_of(certificate).map_err(|error| foreign(error.to_string()))?;
    match tables.revocations().of_serial(id.trust_domain(), &serial) {
        Some(revocation) => Err((Outcome::Revoked, revocation.to_string())),
        None => Ok(()),
    }
}

/// Judges one stream of another cluster.
///
/// # Errors
/// When its header is not acceptable, or its caller may not reach what it asks for.
pub fn authorize(mut stream: InboundStream, path: &DataPath) -> Result<Authorized, Rejected> {
    let header = std::mem::replace(&mut stream.header, Err(HeadError::TooSlow));
    let trace = match &header {
        Ok(header) => header.trace,
        Err(_) => TraceContext::from_random(rand::random(), rand::random()),
    };
    let client = header.as_ref().ok().and_then(|header| header.client);
    let mut record = path.recorder.begin(Direction::Inbound, client, trace);
    record.comes_from(stream.peer.clone());

    let header = match header {
        Ok(header) => header,
        Err(error) => return Err(Rejected::new(stream, record, error.outcome(), error.to_string())),
    };
    record.calls(header.destination.service.clone(), header.destination.port);
    let caller = match header.caller.clone().confined_to(&stream.trust_domain) {
        Ok(caller) => caller,
        Err(foreign) => {
            tracing::warn!(peer = %stream.peer, error = %foreign, "refused a principal its cluster cannot vouch for");
            return Err(Rejected::new(stream, record, Outcome::ForeignPrincipal, foreign.to_string()));
        }
    };
    record.called_by(caller.clone());
    let tables = path.tables.borrow().clone();
    if let Some(revocation) = caller.principal().and_then(|id| tables.revoked(id)) {
        let reason = revocation.to_string();
        return Err(Rejected::new(stream, record, Outcome::Revoked, reason));
    }
    if let Err((outcome, reason)) = check_certificate(&caller, &tables) {
        return Err(Rejected::new(stream, record, outcome, reason));
    }
    if !tables.exports(&header.destination.service, header.destination.port) {
        let reason = format!("{}:{} is not exported here", header.destination.service, header.destination.port);
        return Err(Rejected::new(stream, record, Outcome::NotExported, reason));
    }
    if header.destination.transport != Transport::Tcp {
        let reason = format!("{} is asked for over UDP, which is not carried", header.destination.service);
        return Err(Rejected::new(stream, record, Outcome::UnknownPort, reason));
    }
    match path.places.clone().try_acquire_owned() {
        Ok(place) => Ok(Authorized { stream, header, caller, tables, record, place }),
        Err(_) => Err(Rejected::new(stream, record, Outcome::OverCapacity, "limits.connections is reached".to_owned())),
    }
}
