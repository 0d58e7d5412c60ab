//! Stage five: whether this caller may reach this service, at the cluster that has it.
//!
//! Owns the rule that a peer vouches only inside its own trust domain and never for who was revoked, that it shows no
//! certificate but that of the caller it names, that only what is exported to its cluster is reachable, and that the policies are
//! asked. Never connects anything.

use std::{sync::Arc, time::Duration};

use federation_model::{
    addr::Transport, caller::Caller, outcome::Outcome, revocation::Revocation, trace::TraceContext,
};
use federation_pki::verify::{serial_of, spiffe_id_of};
use gateway_core::{
    header::StreamHeader,
    policy::{Call, Ruling},
    tables::Tables,
};
use gateway_tunnel::{HeadError, InboundStream};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    history::Step,
    path::DataPath,
    policy::{self, Admitted},
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
    /// What the policies say.
    pub admitted: Admitted,
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
    /// What the peer is told, when that is not the reason.
    told: Option<String>,
}

impl Rejected {
    /// A stream that ends with `outcome`.
    #[must_use]
    pub fn new(stream: InboundStream, record: Record, outcome: Outcome, reason: String) -> Self {
        Self { stream: Box::new(stream), record: Box::new(record), outcome, reason, told: None }
    }

    /// The same, of which the peer is told no more than this.
    #[must_use]
    pub fn telling(self, told: String) -> Self {
        Self { told: Some(told), ..self }
    }

    /// What the peer is told of a rule: its name and whom to ask. What it asks for would tell a hostile gateway which of its
    /// own workloads to claim.
    fn told_of(&self, by: &Ruling) -> Ruling {
        let trace = self.record.trace().trace_id;
        let remedy =
            format!("ask the operators of the called cluster: fedctl explain {trace:032x} at its gateway says why");
        Ruling { rule: by.rule.clone(), remedy }
    }

    /// Tells the peer, and records the outcome.
    pub async fn answer(self) {
        // A peer that takes no bytes does not get to keep the connection's place.
        let told = self.told.as_ref().unwrap_or(&self.reason);
        let by = self.record.ruling().filter(|_| self.outcome == Outcome::Denied).map(|by| self.told_of(by));
        match timeout(REPLY_LIMIT, self.stream.refuse(self.outcome, told, by.as_ref())).await {
            Ok(Ok(())) => {}
            Ok(Err(ended)) => tracing::debug!(%ended, "the peer did not wait for the refusal"),
            Err(_elapsed) => tracing::debug!("the peer did not take the refusal"),
        }
        self.record.end(self.outcome, Counts::default(), &self.reason);
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
    record.tell(Step::Received { peer: stream.peer.clone(), client });

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
    if let Err((outcome, reason)) = shows_its_own(&caller) {
        tracing::warn!(peer = %stream.peer, reason, "refused a certificate that is not that of its caller");
        return Err(Rejected::new(stream, record, outcome, reason));
    }
    record.called_by(caller.clone());
    let tables = path.tables.borrow().clone();
    if let Some(revocation) = revocation(&caller, &tables) {
        let reason = revocation.to_string();
        return Err(Rejected::new(stream, record, Outcome::Revoked, reason));
    }
    let (service, port) = (&header.destination.service, header.destination.port);
    if !tables.exports_to(service, port, &stream.peer) {
        let told = format!("{service}:{port} is not exported here");
        let reason = match tables.audience(service) {
            Some(audience) if !audience.includes(&stream.peer) => {
                format!("{told} to cluster {}: it is for {audience}", stream.peer)
            }
            Some(_) | None => told.clone(),
        };
        // Who is not told of a service does not learn that it exists.
        return Err(Rejected::new(stream, record, Outcome::NotExported, reason).telling(told));
    }
    let call = Call { caller: &caller, source_cluster: &stream.peer, service, port };
    let admitted = match policy::admit(path, &tables, &call, &mut record) {
        Ok(admitted) => admitted,
        Err((outcome, reason)) => {
            let told = policy::told(&path.cluster, &caller);
            return Err(Rejected::new(stream, record, outcome, reason).telling(told));
        }
    };
    if header.destination.transport != Transport::Tcp {
        let reason = format!("{} is asked for over UDP, which is not carried", header.destination.service);
        return Err(Rejected::new(stream, record, Outcome::UnknownPort, reason));
    }
    match path.places.clone().try_acquire_owned() {
        Ok(place) => Ok(Authorized { stream, header, caller, admitted, tables, record, place }),
        Err(_) => Err(Rejected::new(stream, record, Outcome::OverCapacity, "limits.connections is reached".to_owned())),
    }
}

/// What covers the caller, or the certificate that came with it.
fn revocation<'a>(caller: &Caller, tables: &'a Tables) -> Option<&'a Revocation> {
    let id = caller.principal()?;
    let serial = || caller.certificate().and_then(|certificate| serial_of(certificate).ok());
    let by_serial = || tables.revocations().of_serial(id.trust_domain(), &serial()?).map(|revocation| &**revocation);
    tables.revoked(id).or_else(by_serial)
}

/// The certificate that came with the caller must be one of its id: applications are handed it, and look into it themselves.
fn shows_its_own(caller: &Caller) -> Result<(), (Outcome, String)> {
    let (Some(id), Some(certificate)) = (caller.principal(), caller.certificate()) else { return Ok(()) };
    match spiffe_id_of(certificate) {
        Ok(shown) if shown == *id => Ok(()),
        Ok(shown) => Err((
            Outcome::ForeignPrincipal,
            format!("the stream is said to come from {id}, and its certificate is one of {shown}"),
        )),
        Err(error) => Err((
            Outcome::ProtocolError,
            format!("the stream is said to come from {id}, and its certificate is no SVID: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use federation_model::{
        spiffe::{SpiffeId, TrustDomain},
        time::Timestamp,
    };
    use federation_pki::{
        Validity,
        ca::{Authority, SvidRequest},
    };

    use super::*;

    #[test]
    fn a_caller_with_the_certificate_of_somebody_else_is_refused() {
        let id = |path: &str| SpiffeId::new(format!("spiffe://east.example/ns/shop/sa/{path}")).unwrap();
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        let authority = Authority::generate(&TrustDomain::new("east.example").unwrap(), "east", validity).unwrap();
        let request = SvidRequest { id: id("web"), names: Vec::new(), validity };
        let certificate = Arc::new(authority.issue(&request).unwrap().chain()[0].clone());
        let caller = |path, certificate| Caller::Workload { id: id(path), certificate: Some(certificate) };
        assert_eq!(shows_its_own(&caller("web", certificate.clone())), Ok(()));
        let (outcome, reason) = shows_its_own(&caller("admin", certificate)).unwrap_err();
        assert_eq!(outcome, Outcome::ForeignPrincipal);
        assert!(reason.contains("sa/admin") && reason.contains("sa/web"), "{reason}");
        let unreadable = shows_its_own(&caller("web", Arc::new(vec![48, 0].into()))).unwrap_err();
        assert_eq!(unreadable.0, Outcome::ProtocolError);
        let authority = shows_its_own(&caller("web", Arc::new(authority.certificate().clone()))).unwrap_err();
        assert_eq!(authority.0, Outcome::ProtocolError, "{}", authority.1);
        assert_eq!(shows_its_own(&Caller::Vouched { id: id("web") }), Ok(()));
    }
}
