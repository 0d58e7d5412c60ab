//! A double of a SPIFFE agent: the Workload API on a Unix socket, with what a test wants it to issue.
//!
//! Owns the socket and the answers. Never attests: whoever can open the socket is issued everything.

use std::{collections::HashMap, path::PathBuf, pin::Pin};

use futures::{Stream, stream};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tempfile::TempDir;
use tokio::{net::UnixListener, runtime::Builder, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use self::wire::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use crate::process::Guard;

#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::use_self,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated code"
)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/_.rs"));
}

/// The metadata without which agents refuse a call, so that no web page can make one (SPIFFE Workload Endpoint, section 6).
const HEADER: &str = "workload.spiffe.io";

/// One SVID with the bundle of its trust domain.
#[derive(Debug, Clone)]
pub struct IssuedSvid {
    /// As the agent names it.
    pub id: String,
    /// Leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// PEM.
    pub key: String,
    /// The roots.
    pub bundle: Vec<CertificateDer<'static>>,
}

/// An agent.
#[derive(Debug)]
pub struct AgentDouble {
    dir: TempDir,
    issued: watch::Sender<Vec<IssuedSvid>>,
    server: Option<Guard>,
}

impl AgentDouble {
    /// Starts an agent that issues nothing.
    ///
    /// # Panics
    /// When there is no directory for its socket.
    #[must_use]
    pub fn start() -> Self {
        let dir = TempDir::new().expect("a directory for the socket");
        let mut agent = Self { dir, issued: watch::Sender::new(Vec::new()), server: None };
        agent.restart();
        agent
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    /// Issues these, to everybody who watches too; none of them refuses everybody.
    pub fn issue(&self, svids: Vec<IssuedSvid>) {
        self.issued.send_replace(svids);
    }

    /// Ends it with all of its connections, as a crash does.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.end().await;
        }
    }

    /// Starts it again.
    ///
    /// # Panics
    /// When its socket cannot be made.
    pub fn restart(&mut self) {
        // What the agent before left behind.
        let _ = std::fs::remove_file(self.socket());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().thread_name("agent").build();
        let runtime = runtime.expect("a runtime for the agent");
        let entered = runtime.enter();
        let listener = UnixListener::bind(self.socket()).expect("a free path");
        let service = SpiffeWorkloadApiServer::new(Service(self.issued.clone()));
        runtime.spawn(async move {
            let served = Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener));
            served.await.expect("the server runs until it is ended");
        });
        drop(entered);
        self.server = Some(Guard::new(runtime));
    }
}

struct Service(watch::Sender<Vec<IssuedSvid>>);

type Answers = Pin<Box<dyn Stream<Item = Result<wire::X509svidResponse, Status>> + Send>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = Answers;

    async fn fetch_x509svid(&self, request: Request<wire::X509svidRequest>) -> Result<Response<Answers>, Status> {
        if request.metadata().get(HEADER).is_none_or(|value| value != "true") {
            return Err(Status::invalid_argument("security header missing from request"));
        }
        let mut issued = self.0.subscribe();
        issued.mark_changed();
        let answers = stream::unfold(issued, |mut issued| async {
            issued.changed().await.ok()?;
            let answer = answer(&issued.borrow_and_update());
            Some((answer, issued))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn answer(issued: &[IssuedSvid]) -> Result<wire::X509svidResponse, Status> {
    if issued.is_empty() {
        return Err(Status::permission_denied("no identity issued"));
    }
    let svids = issued.iter().map(|svid| wire::X509svid {
        spiffe_id: svid.id.clone(),
        x509_svid: concatenated(&svid.chain),
        x509_svid_key: PrivateKeyDer::from_pem_slice(svid.key.as_bytes())
            .map(|key| key.secret_der().to_vec())
            .unwrap_or_default(),
        bundle: concatenated(&svid.bundle),
    });
    Ok(wire::X509svidResponse { svids: svids.collect(), federated_bundles: HashMap::new() })
}

fn concatenated(certificates: &[CertificateDer<'static>]) -> Vec<u8> {
    certificates.iter().flat_map(|certificate| certificate.iter().copied()).collect()
}
