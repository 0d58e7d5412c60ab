//! The admin socket of a gateway.
//!
//! Owns connecting to it. The messages are those of `admin.proto`: they are made for tools and shown as they are.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use proto::gateway::v1::{
    self as wire, gateway_admin_client::GatewayAdminClient, gateway_policies_client::GatewayPoliciesClient,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time::timeout,
};
use tonic::{Streaming, transport::Channel};

use crate::{
    call::{CallError, MAX_ANSWER, answer},
    dial::{chain, channel_over},
};

pub use proto::gateway::v1 as messages;

/// What a gateway is called on a connection.
const NAME: &str = "http://landbridge-gateway";
/// The socket is local.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a gateway cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// There is no socket.
    #[error(
        "there is no gateway at {}: check that landbridge-gateway runs on this host, and name its socket, <state.dir>/admin.sock, with --gateway unix:PATH", .0.display()
    )]
    NoSocket(PathBuf),
    /// Nobody listens on the socket.
    #[error("the gateway at {} does not run (its socket is there, and nobody listens): start landbridge-gateway", .0.display())]
    NotRunning(PathBuf),
    /// The socket belongs to another user.
    #[error("{} belongs to another user: run this command as the user of landbridge-gateway, or with sudo", .0.display())]
    Denied(PathBuf),
    /// Something else.
    #[error("the gateway at {} cannot be reached: {reason}", .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The call failed.
    #[error("the gateway answered: {0}")]
    Call(String),
}

/// A connection to the admin socket of one gateway.
#[derive(Debug, Clone)]
pub struct GatewayClient {
    client: GatewayAdminClient<Channel>,
    policies: GatewayPoliciesClient<Channel>,
}

impl GatewayClient {
    /// Connects to the socket.
    ///
    /// # Errors
    /// When there is no gateway.
    pub async fn connect(path: &Path) -> Result<Self, GatewayError> {
        let stream = Self::bridge(path).await?;
        let channel = channel_over(stream, NAME).await;
        channel.map(Self::of).map_err(|error| unreachable(path, chain(&error)))
    }

    /// The bytes of a connection to the socket, for somebody elsewhere.
    ///
    /// # Errors
    /// When there is no gateway.
    pub async fn bridge(path: &Path) -> Result<UnixStream, GatewayError> {
        match timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(refused(path, &error)),
            Err(_) => Err(unreachable(path, format!("no answer within {CONNECT_TIMEOUT:?}"))),
        }
    }

    /// Speaks over a stream that ends at the socket of a gateway elsewhere.
    ///
    /// # Errors
    /// When nobody speaks gRPC there.
    pub async fn over<S>(stream: S) -> Result<Self, GatewayError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let channel = channel_over(stream, NAME).await;
        channel.map(Self::of).map_err(|error| GatewayError::Call(chain(&error)))
    }

    fn of(channel: Channel) -> Self {
        let policies = GatewayPoliciesClient::new(channel.clone());
        Self {
            client: GatewayAdminClient::new(channel).max_decoding_message_size(MAX_ANSWER),
            policies: policies.max_decoding_message_size(MAX_ANSWER),
        }
    }

    /// Joins a cluster set; every step is told.
    ///
    /// # Errors
    /// When the gateway refuses or the call fails.
    pub async fn join(&mut self, request: wire::JoinRequest) -> Result<Steps, GatewayError> {
        Ok(Steps(answer(self.client.join(request)).await.map_err(call)?))
    }

    /// Replaces the cluster's authority, or asks how far that is; every change is told.
    ///
    /// # Errors
    /// When the gateway refuses or the call fails.
    pub async fn rotate_trust(&mut self, request: wire::RotateTrustRequest) -> Result<Rotation, GatewayError> {
        Ok(Rotation(answer(self.client.rotate_trust(request)).await.map_err(call)?))
    }

    /// Believes a bundle that was refused; its sequence.
    ///
    /// # Errors
    /// When the gateway refuses or the call fails.
    pub async fn accept_bundle(&mut self, request: wire::AcceptBundleRequest) -> Result<u64, GatewayError> {
        Ok(answer(self.client.accept_bundle(request)).await.map_err(call)?.sequence)
    }

    /// Every certificate that matters to the gateway.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn certificates(&mut self) -> Result<wire::ListCertificatesResponse, GatewayError> {
        answer(self.client.list_certificates(wire::ListCertificatesRequest {})).await.map_err(call)
    }

    /// Leaves the cluster set.
    ///
    /// # Errors
    /// When the gateway refuses or the call fails.
    pub async fn leave(&mut self, request: wire::LeaveRequest) -> Result<wire::LeaveResponse, GatewayError> {
        answer(self.client.leave(request)).await.map_err(call)
    }

    /// What the gateway is and whom it is connected with.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn status(&mut self) -> Result<wire::Status, GatewayError> {
        answer(self.client.get_status(wire::GetStatusRequest {})).await.map_err(call)
    }

    /// The services of the set as the gateway sees them.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn services(&mut self) -> Result<Vec<wire::Service>, GatewayError> {
        let answer = answer(self.client.list_services(wire::ListServicesRequest {})).await.map_err(call)?;
        Ok(answer.services)
    }

    /// What the policies in force decide about a call that nobody makes.
    ///
    /// # Errors
    /// When the gateway does not know the service or the call fails.
    pub async fn test_policy(
        &mut self,
        request: wire::TestPolicyRequest,
    ) -> Result<wire::TestPolicyResponse, GatewayError> {
        answer(self.policies.test_policy(request)).await.map_err(call)
    }

    /// The policies the gateway has read.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn policies(&mut self) -> Result<Vec<wire::Policy>, GatewayError> {
        let answer = answer(self.policies.list_policies(wire::ListPoliciesRequest {})).await.map_err(call)?;
        Ok(answer.policies)
    }

    /// What policies in AUDIT would have refused.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn policy_report(
        &mut self,
        request: wire::ReportPoliciesRequest,
    ) -> Result<wire::ReportPoliciesResponse, GatewayError> {
        answer(self.policies.report_policies(request)).await.map_err(call)
    }

    /// What was decided about the connections whose trace id begins like this, newest first.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn explain(&mut self, trace: String) -> Result<Vec<wire::Story>, GatewayError> {
        let request = wire::ExplainConnectionRequest { trace };
        Ok(answer(self.policies.explain_connection(request)).await.map_err(call)?.connections)
    }

    /// What the gateway finds when it checks itself.
    ///
    /// # Errors
    /// When the call fails or a finding does not convert.
    pub async fn check(&mut self) -> Result<Vec<federation_model::finding::Finding>, GatewayError> {
        let answer = answer(self.client.check(wire::CheckRequest {})).await.map_err(call)?;
        let findings = answer.findings.into_iter().map(TryInto::try_into);
        findings.collect::<Result<_, _>>().map_err(|error| call(CallError::Malformed(error)))
    }
}

/// The steps of a join as they happen.
#[derive(Debug)]
pub struct Steps(Streaming<wire::JoinProgress>);

impl Steps {
    /// The next step, or nothing at the end.
    ///
    /// # Errors
    /// When the join failed.
    pub async fn next(&mut self) -> Result<Option<wire::join_progress::Step>, GatewayError> {
        // A step of another version is empty here; the ones around it still tell what happens.
        while let Some(progress) = self.0.message().await.map_err(|status| call(status.into()))? {
            if progress.step.is_some() {
                return Ok(progress.step);
            }
        }
        Ok(None)
    }
}

/// Where a rotation stands, as it changes.
#[derive(Debug)]
pub struct Rotation(Streaming<wire::RotationStanding>);

impl Rotation {
    /// The next change, or nothing at the end.
    ///
    /// # Errors
    /// When the order was refused.
    pub async fn next(&mut self) -> Result<Option<wire::RotationStanding>, GatewayError> {
        self.0.message().await.map_err(|status| call(status.into()))
    }
}

fn call(error: CallError) -> GatewayError {
    GatewayError::Call(match error {
        CallError::Refused { message, .. } | CallError::Unexpected { message, .. } => message,
        CallError::Lost(reason) => format!("nothing more: the connection broke ({reason}); look at its log"),
        CallError::TimedOut => "nothing in time; look at its log".to_owned(),
        CallError::Malformed(error) => format!("something this version cannot read ({error})"),
        CallError::CertificateRefused { alert } => format!("TLS alert {alert:?}"),
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "`io::ErrorKind` is non-exhaustive")]
fn refused(path: &Path, error: &io::Error) -> GatewayError {
    match error.kind() {
        io::ErrorKind::NotFound => GatewayError::NoSocket(path.to_owned()),
        io::ErrorKind::ConnectionRefused => GatewayError::NotRunning(path.to_owned()),
        io::ErrorKind::PermissionDenied => GatewayError::Denied(path.to_owned()),
        _ => unreachable(path, error.to_string()),
    }
}

fn unreachable(path: &Path, reason: String) -> GatewayError {
    GatewayError::Unreachable { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gateway_that_does_not_run_is_told_apart_from_a_wrong_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        assert!(matches!(GatewayClient::connect(&path).await, Err(GatewayError::NoSocket(_))));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(GatewayClient::connect(&path).await, Err(GatewayError::NotRunning(_))));
    }
}
