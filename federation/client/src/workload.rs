//! The SPIFFE Workload API: what the agent of this node issues to this very process (SPIFFE Workload API, section 4).
//!
//! Owns the connection to the agent, its repetition with growing pauses, and the choice of the one SVID that is wanted. Never
//! keeps anything: what was good before stays with the caller, whatever comes later.

mod error;
mod socket;

use std::{
    fmt, io,
    pin::Pin,
    time::{Duration, SystemTime},
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use federation_model::spiffe::SpiffeId;
use federation_pki::material::Material;
use futures::{Stream, StreamExt as _};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context};
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};
use tonic::transport::{Channel, Endpoint};
use zeroize::Zeroizing;

pub use self::{
    error::WorkloadError,
    socket::{AgentSocket, AgentSocketError, VARIABLE},
};

/// The socket is local.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An agent that has the SVID sends it at once; one that has none says so.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// An agent that hangs is found out after this time. gRPC servers in Go, as SPIRE's are, cut clients that probe more often
/// than every five minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(360);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The first pause; an agent that restarts is back within seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: the agent is on this node, and nobody else waits for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

type Updates = Pin<Box<dyn Stream<Item = Result<X509Context, WorkloadApiError>> + Send>>;

/// What a watch tells.
#[derive(Debug)]
pub enum WorkloadEvent {
    /// The SVID that is wanted, and the bundle of its trust domain.
    Material(Box<Material>),
    /// Nothing usable; it will be tried again.
    Fault {
        /// Why, and what to do.
        error: WorkloadError,
        /// The pause before the next attempt.
        retry_in: Duration,
    },
}

/// A watch of one SVID that never ends; dropping it ends it.
pub struct WorkloadWatch {
    wanted: Wanted,
    pauses: ExponentialBackoff,
    state: State,
}

/// Which SVID, and who issues it.
struct Wanted {
    socket: AgentSocket,
    id: SpiffeId,
}

enum State {
    Dial,
    Pause(Duration),
    /// Nothing was received yet.
    Opened(Updates),
    Following(Updates),
}

impl WorkloadWatch {
    /// Watches for the SVID with this id. Connects when the first event is asked for.
    #[must_use]
    pub fn new(socket: AgentSocket, id: SpiffeId) -> Self {
        Self { wanted: Wanted { socket, id }, pauses: pauses(), state: State::Dial }
    }

    /// The next event. Cancel safe: a connection that was being made is made again, and nothing else is lost.
    pub async fn next(&mut self) -> WorkloadEvent {
        loop {
            let update = match &mut self.state {
                State::Pause(pause) => {
                    sleep(*pause).await;
                    self.state = State::Dial;
                    continue;
                }
                State::Dial => match self.wanted.open().await {
                    Ok(updates) => {
                        self.state = State::Opened(updates);
                        continue;
                    }
                    Err(error) => return self.fault(error),
                },
                State::Opened(updates) => timeout(FIRST_ANSWER, updates.next())
                    .await
                    .map_err(|_| WorkloadError::Silent(self.wanted.socket.clone())),
                State::Following(updates) => Ok(updates.next().await),
            };
            let judged = update.and_then(|update| match update {
                Some(Ok(context)) => self.wanted.judge(&context),
                Some(Err(error)) => Err(self.wanted.refused(error)),
                None => Err(WorkloadError::Ended(self.wanted.socket.clone())),
            });
            match judged {
                Ok(material) => {
                    self.pauses = pauses();
                    if let State::Opened(updates) = std::mem::replace(&mut self.state, State::Dial) {
                        self.state = State::Following(updates);
                    }
                    return WorkloadEvent::Material(Box::new(material));
                }
                Err(error) => return self.fault(error),
            }
        }
    }

    fn fault(&mut self, error: WorkloadError) -> WorkloadEvent {
        let retry_in = self.pauses.next().unwrap_or(LONGEST_PAUSE);
        self.state = State::Pause(retry_in);
        WorkloadEvent::Fault { error, retry_in }
    }
}

impl Wanted {
    async fn open(&self) -> Result<Updates, WorkloadError> {
        let unreachable = |reason| WorkloadError::Unreachable { socket: self.socket.clone(), reason };
        let stream = match timeout(CONNECT_TIMEOUT, UnixStream::connect(self.socket.path())).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no answer within {CONNECT_TIMEOUT:?}"))),
        };
        let channel = channel_over(stream).await.map_err(|error| unreachable(crate::dial::chain(&error)))?;
        let client = WorkloadApiClient::new_with_channel(self.socket.endpoint(), channel);
        let opening = timeout(FIRST_ANSWER, client.stream_x509_contexts()).await;
        let opening = opening.map_err(|_| WorkloadError::Silent(self.socket.clone()))?;
        Ok(Box::pin(opening.map_err(|error| self.refused(error))?))
    }

    /// The SVID that is wanted among those of the agent, as material.
    fn judge(&self, context: &X509Context) -> Result<Material, WorkloadError> {
        let Some(svid) = context.svids().iter().find(|svid| *svid.spiffe_id() == self.id) else {
            let others = context.svids().iter().map(|svid| svid.spiffe_id().clone()).collect();
            return Err(WorkloadError::NotOurs { id: self.id.clone(), others });
        };
        let der = |certificate: &spiffe::Certificate| CertificateDer::from(certificate.as_bytes().to_vec());
        let bundle = context.bundle_set().get(self.id.trust_domain());
        let bundle = bundle.map(|bundle| bundle.authorities().iter().map(der).collect()).unwrap_or_default();
        let key = Zeroizing::new(svid.private_key().as_bytes().to_vec());
        let chain = svid.cert_chain().iter().map(der).collect();
        Ok(Material::from_workload(chain, key, bundle, &self.id, SystemTime::now().into())?)
    }

    fn refused(&self, error: WorkloadApiError) -> WorkloadError {
        let (socket, reason) = (self.socket.clone(), crate::dial::chain(&error));
        #[expect(clippy::wildcard_enum_match_arm, reason = "a library's enum that grows")]
        match error {
            WorkloadApiError::NoIdentityIssued => WorkloadError::NoIdentity(self.id.clone()),
            WorkloadApiError::PermissionDenied(reason) => WorkloadError::Denied { id: self.id.clone(), reason },
            WorkloadApiError::Transport(_) => WorkloadError::Unreachable { socket, reason },
            // What is left are answers that break a rule of the Workload API or of X.509-SVIDs.
            _ => WorkloadError::Answer { socket, reason },
        }
    }
}

impl fmt::Debug for WorkloadWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadWatch")
            .field("socket", &self.wanted.socket)
            .field("id", &self.wanted.id)
            .finish_non_exhaustive()
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}

/// Hands one connection to tonic. When it breaks the channel is of no more use, and a new one is made.
async fn channel_over(stream: UnixStream) -> Result<Channel, tonic::transport::Error> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: http::Uri| {
        std::future::ready(stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    Endpoint::from_static("http://spiffe-agent")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .connect_with_connector(connector)
        .await
}
