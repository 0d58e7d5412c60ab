//! Administration of this gateway: gRPC over `<state.dir>/admin.sock`, mode 0600.
//!
//! Owns the socket and the service. Whatever changes state goes through here and nowhere else; who may open the socket may
//! administrate. Never listens on a network.

use std::{
    fmt,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use federation_catalog::reach::Reach;
use federation_kube::manifests::Manifests;
use federation_model::{finding::Finding, time::Timestamp};
use federation_runtime::admin::Readiness;
use futures::Stream;
use gateway_core::tables::Tables;
use gateway_tunnel::Tunnels;
use proto::gateway::v1::{
    AcceptBundleRequest, AcceptBundleResponse, CheckRequest, CheckResponse, GetStatusRequest, JoinProgress,
    JoinRequest, LeaveRequest, LeaveResponse, ListCertificatesRequest, ListCertificatesResponse, ListServicesRequest,
    ListServicesResponse, RotateTrustRequest, RotationStanding, Status as StatusMessage,
    gateway_admin_server::{GatewayAdmin, GatewayAdminServer},
    gateway_policies_server::GatewayPoliciesServer,
};
use tokio::{
    net::UnixListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status};

use crate::{
    audited::AuditedCalls, config::Config, delegated::Delegated, horizon::Horizon, identity::ClusterIdentity,
    membership::follow::Follower, record::Recorder, source::SourceView,
};

mod certificates;
mod check;
mod ends;
mod explain;
mod join;
mod policy;
mod services;
mod status;
mod trust;

/// The only mode the socket has.
const MODE: u32 = 0o600;
/// A person may be behind an exec that nobody ends: who does not answer for so long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Steps of a join that wait to be read by the person's tool.
const STEPS: usize = 32;

/// Everything administration looks at.
#[derive(Debug)]
pub struct Administration {
    /// The settings.
    pub config: Config,
    /// The cluster's identity.
    pub identity: Arc<ClusterIdentity>,
    /// The membership.
    pub follower: Arc<Follower>,
    /// The tunnels.
    pub tunnels: Tunnels,
    /// The tables in force.
    pub tables: watch::Receiver<Arc<Tables>>,
    /// The objects in force.
    pub manifests: watch::Receiver<Arc<Manifests>>,
    /// How it stands with where they come from.
    pub source: SourceView,
    /// What does not come to be in the Kubernetes cluster, where there is one.
    pub controllers: Option<watch::Receiver<Arc<Vec<Finding>>>>,
    /// Whether the DNS of that cluster asks the gateways, where this gateway can tell.
    pub delegated: Option<Delegated>,
    /// What in those objects needs attention.
    pub notices: watch::Receiver<Arc<Vec<Finding>>>,
    /// Where the exports of this cluster have arrived.
    pub reach: watch::Receiver<Arc<Reach>>,
    /// Whether this gateway is ready.
    pub readiness: Readiness,
    /// Connections that live, and what became of those that ended.
    pub recorder: Recorder,
    /// What policies in AUDIT would have refused.
    pub audited: AuditedCalls,
    /// When this gateway started.
    pub started_at: Timestamp,
    /// Joins, and rotations that somebody follows.
    pub joins: TaskTracker,
}

impl Administration {
    fn horizon(&self) -> Horizon {
        Horizon { identity: self.identity.clone(), follower: self.follower.clone(), tunnels: self.tunnels.clone() }
    }
}

/// The open socket.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Opens the socket in a state directory, which the caller has locked: a socket that is there is a leftover.
    ///
    /// # Errors
    /// When the path is too long for a socket or cannot be used.
    pub fn bind(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join("admin.sock");
        let failed = || {
            format!(
                "cannot open the administration socket {}; choose a state.dir of less than 90 characters that this user may write",
                path.display()
            )
        };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(failed),
            Ok(()) | Err(_) => {}
        }
        // The directory is 0700, so nobody else gets in before the mode is set.
        let listener = UnixListener::bind(&path).with_context(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(MODE)).with_context(failed)?;
        Ok(Self { listener, path })
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until `stop`, then removes the socket.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn serve(self, administration: Arc<Administration>, stop: CancellationToken) -> anyhow::Result<()> {
        let policies = GatewayPoliciesServer::new(policy::Policies(administration.clone()));
        let service = GatewayAdminServer::new(Service(administration));
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .add_service(service)
            .add_service(policies)
            .serve_with_incoming_shutdown(UnixListenerStream::new(self.listener), stop.cancelled_owned())
            .await;
        // Whoever connects from here on is told that no gateway runs.
        let _ = std::fs::remove_file(&self.path);
        served.context("the administration socket failed")
    }
}

struct Service(Arc<Administration>);

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("administration")
    }
}

#[tonic::async_trait]
impl GatewayAdmin for Service {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<JoinProgress, Status>> + Send>>;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<Self::JoinStream>, Status> {
        let (steps, receiver) = mpsc::channel(STEPS);
        let administration = self.0.clone();
        let joining = async move {
            if let Err(status) = join::join(&administration, request.into_inner(), &steps).await {
                // Who asked may have gone away.
                let _ = steps.send(Err(status)).await;
            }
        };
        self.0.joins.spawn(joining);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type RotateTrustStream = Pin<Box<dyn Stream<Item = Result<RotationStanding, Status>> + Send>>;

    async fn rotate_trust(
        &self,
        request: Request<RotateTrustRequest>,
    ) -> Result<Response<Self::RotateTrustStream>, Status> {
        let (told, receiver) = mpsc::channel(STEPS);
        let administration = self.0.clone();
        let rotating = async move {
            if let Err(status) = trust::rotate(&administration, request.into_inner(), &told).await {
                // Who asked may have gone away.
                let _ = told.send(Err(status)).await;
            }
        };
        self.0.joins.spawn(rotating);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn accept_bundle(
        &self,
        request: Request<AcceptBundleRequest>,
    ) -> Result<Response<AcceptBundleResponse>, Status> {
        trust::accept(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn list_certificates(
        &self,
        _: Request<ListCertificatesRequest>,
    ) -> Result<Response<ListCertificatesResponse>, Status> {
        Ok(Response::new(certificates::certificates(&self.0)))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        join::leave(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<StatusMessage>, Status> {
        Ok(Response::new(status::status(&self.0)))
    }

    async fn list_services(&self, _: Request<ListServicesRequest>) -> Result<Response<ListServicesResponse>, Status> {
        let tables = self.0.tables.borrow().clone();
        let reach = self.0.reach.borrow().clone();
        let services = services::services(&self.0.config.dns.zone, &tables, &reach);
        Ok(Response::new(ListServicesResponse { services }))
    }

    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let findings = check::check(&self.0).await;
        Ok(Response::new(CheckResponse { findings: findings.iter().map(Into::into).collect() }))
    }
}
