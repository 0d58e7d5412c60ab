//! A federation service that says whatever a test wants: one that was broken into.
//!
//! Owns the keys of the real service, whose place it takes. Never follows a rule by itself, so that a test can break each.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use federation_model::{
    member::Change,
    spiffe::{SpiffeId, TrustDomain},
};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    identity::LiveIdentity,
    tls::{Clients, server_config},
};
use federation_runtime::tls_incoming::TlsIncoming;
use futures::{Stream, StreamExt as _, stream};
use proto::federation::v1::{
    self as wire,
    membership_server::{Membership, MembershipServer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    task::JoinSet,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::server::Connected};

/// Messages that a watcher may be behind: tests say a handful.
const MAX_BEHIND: usize = 64;

/// The puppet; it serves until it is dropped.
#[derive(Debug)]
pub struct Puppet {
    service: Service,
    stop: CancellationToken,
    _serving: JoinSet<()>,
}

#[derive(Debug, Clone)]
struct Service {
    said: broadcast::Sender<wire::WatchResponse>,
    watchers: watch::Sender<usize>,
    published: Arc<Mutex<Vec<wire::PublishBundleRequest>>>,
}

impl Puppet {
    /// Takes the place of a federation service that has stopped: its address, and its keys in `store`.
    ///
    /// # Panics
    /// When the keys or the address cannot be used.
    pub async fn start(store: &Path, address: SocketAddr) -> Self {
        let read = |file| std::fs::read_to_string(store.join("authority").join(file)).expect("the service has run");
        let domain = TrustDomain::new("federation.internal").expect("the constant is a trust domain");
        let authority = Authority::from_pem(&read("ca.crt"), &read("ca.key"), &domain).expect("the keys are usable");
        let id = SpiffeId::from_segments(domain, &["landbridge", "federation"]).expect("the constant is an id");
        let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(3600));
        let svid = authority.issue(&SvidRequest { id, names: Vec::new(), validity }).expect("the authority issues");
        let tls = server_config(Arc::new(LiveIdentity::new(svid)), Clients::Deferred, b"h2").expect("TLS is possible");
        let listener = TcpListener::bind(address).await.expect("the real service has left its address");
        let stop = CancellationToken::new();
        let (said, watchers) = (broadcast::Sender::new(MAX_BEHIND), watch::Sender::new(0));
        let service = Service { said, watchers, published: Arc::default() };
        let (served, stopped) = (service.clone(), stop.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let (_keep, config) = watch::channel(Arc::new(tls));
            let incoming = TlsIncoming::new(listener, config, stopped.clone()).map(|stream| stream.map(Encrypted));
            let server = tonic::transport::Server::builder().add_service(MembershipServer::new(served));
            // A test that ends takes the connections with it.
            let _ = server.serve_with_incoming_shutdown(incoming, stopped.cancelled_owned()).await;
        });
        Self { service, stop, _serving: serving }
    }

    /// Waits until so many gateways listen.
    pub async fn is_heard_by(&self, gateways: usize) {
        let mut watchers = self.service.watchers.subscribe();
        let heard = watchers.wait_for(|watchers| *watchers >= gateways);
        drop(crate::client::soon("the gateways follow the puppet", heard).await);
    }

    /// Says it to everybody, as revision `revision` of the store `store_id`.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn say(&self, store_id: &str, revision: u64, reset: bool, changes: &[Change]) {
        let response = wire::WatchResponse {
            store_id: store_id.to_owned(),
            revision,
            reset,
            changes: changes.iter().map(Into::into).collect(),
            ..wire::WatchResponse::default()
        };
        self.service.said.send(response).expect("somebody listens");
    }

    /// Every bundle that a gateway announced.
    #[must_use]
    pub fn published(&self) -> Vec<wire::PublishBundleRequest> {
        self.service.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn silent<T>() -> Result<Response<T>, Status> {
    Err(Status::unavailable("a puppet does not answer this"))
}

#[tonic::async_trait]
impl Membership for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<wire::WatchResponse, Status>> + Send>>;

    async fn check_join(&self, _: Request<wire::JoinRequest>) -> Result<Response<wire::CheckJoinResponse>, Status> {
        silent()
    }

    async fn join(&self, _: Request<wire::JoinRequest>) -> Result<Response<wire::JoinResponse>, Status> {
        silent()
    }

    async fn watch(
        &self,
        request: Request<Streaming<wire::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (hears, requests) = (self.said.subscribe(), request.into_inner());
        self.watchers.send_modify(|watchers| *watchers += 1);
        // The requests are kept, so that the gateway may acknowledge.
        let told = stream::unfold((hears, requests), |(mut hears, requests)| async move {
            let response = hears.recv().await.ok()?;
            Some((Ok(response), (hears, requests)))
        });
        Ok(Response::new(Box::pin(told)))
    }

    async fn publish(&self, _: Request<wire::PublishRequest>) -> Result<Response<wire::PublishResponse>, Status> {
        silent()
    }

    async fn publish_bundle(
        &self,
        request: Request<wire::PublishBundleRequest>,
    ) -> Result<Response<wire::PublishBundleResponse>, Status> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).push(request.into_inner());
        Ok(Response::new(wire::PublishBundleResponse { revision: 1 }))
    }

    async fn report_rotation(
        &self,
        _: Request<wire::ReportRotationRequest>,
    ) -> Result<Response<wire::ReportRotationResponse>, Status> {
        Ok(Response::new(wire::ReportRotationResponse {}))
    }

    async fn leave(&self, _: Request<wire::LeaveRequest>) -> Result<Response<wire::LeaveResponse>, Status> {
        silent()
    }
}

/// A TLS stream that tonic takes.
struct Encrypted(TlsStream<TcpStream>);

impl Connected for Encrypted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
