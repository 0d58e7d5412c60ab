//! How the commands reach a gateway and the federation service.
//!
//! Owns which of the two is meant, and the hint for everything that can go wrong on the way. Never interprets an answer.

use std::{path::Path, time::Duration};

pub(crate) use federation_client::gateway::Rotation;
use federation_client::{
    call::CallError,
    dial::DialError,
    gateway::{GatewayClient, GatewayError, Steps},
    operator::{
        Acknowledgements, AuditLines, Credential, ForeignStatus, Listing, OperatorClient, OperatorError, Recovered,
        Reinstated, Revoked, TokenInfo, Wanted,
    },
};
use federation_model::{
    addr::GatewayAddr,
    audit::Entry,
    bundle::{Fingerprint, TrustBundle},
    finding::Finding,
    foreign::BundleSource,
    names::ClusterName,
    revocation::{Line, Revocation, RevocationId},
    spiffe::TrustDomain,
};
use federation_pki::{
    certificate::CertificateFacts,
    token::{JoinToken, TokenId},
};
use proto::{convert::revocation::Asked, gateway::v1 as gateway};

use crate::{
    args::{Target, install::Program},
    failure::Failure,
};

mod pods;

pub(crate) use pods::cluster;

/// The admin socket of a gateway that is configured as installed.
const DEFAULT_GATEWAY: &str = "/var/lib/landbridge/admin.sock";

/// Whether the gateway is meant: when it or its cluster is named, or nothing else is.
pub(crate) fn wants_gateway(target: &Target) -> bool {
    target.gateway.is_some() || target.context.is_some() || target.federation.is_none()
}

/// Whether the federation service is meant.
pub(crate) fn wants_federation(target: &Target) -> bool {
    target.federation.is_some()
}

/// A gateway that answers.
pub(crate) struct Gateway(GatewayClient);

/// Connects to the gateway that is meant.
pub(crate) async fn gateway(target: &Target) -> Result<Gateway, Failure> {
    check(target)?;
    let connected = match &target.context {
        Some(_) => GatewayClient::over(pods::reach(target, Program::Gateway).await?).await,
        None => GatewayClient::connect(socket(target)).await,
    };
    connected.map(Gateway).map_err(gateway_failure)
}

/// Connects to every gateway of the cluster that is meant, by the names of their pods, or to the one that is named.
pub(crate) async fn gateways(target: &Target) -> Result<Vec<(String, Result<Gateway, Failure>)>, Failure> {
    if target.context.is_none() {
        return Ok(vec![(Program::Gateway.label().to_owned(), gateway(target).await)]);
    }
    check(target)?;
    let mut gateways = Vec::new();
    for (pod, reached) in pods::reach_all(target, Program::Gateway).await? {
        let gateway = match reached {
            Ok(stream) => GatewayClient::over(stream).await.map(Gateway).map_err(gateway_failure),
            Err(failure) => Err(failure),
        };
        gateways.push((pod, gateway));
    }
    Ok(gateways)
}

/// A kubeconfig alone says nothing of which program is meant.
fn check(target: &Target) -> Result<(), Failure> {
    if target.kubeconfig.is_some() && target.context.is_none() {
        return Err(Failure::because(
            "--kubeconfig without --context names no gateway and no federation service",
            "--context CONTEXT too; kubectl config get-contexts lists them",
        ));
    }
    Ok(())
}

/// The socket of the gateway that is meant.
pub(crate) fn socket(target: &Target) -> &Path {
    target.gateway.as_ref().map_or_else(|| Path::new(DEFAULT_GATEWAY), |socket| socket.0.as_path())
}

impl Gateway {
    /// The state of the gateway.
    pub(crate) async fn status(&mut self) -> Result<gateway::Status, Failure> {
        self.0.status().await.map_err(gateway_failure)
    }

    /// What it serves.
    pub(crate) async fn services(&mut self) -> Result<Vec<gateway::Service>, Failure> {
        self.0.services().await.map_err(gateway_failure)
    }

    /// What it finds when it tests itself.
    pub(crate) async fn check(&mut self) -> Result<Vec<Finding>, Failure> {
        self.0.check().await.map_err(gateway_failure)
    }

    /// Starts a join, and gives its steps.
    pub(crate) async fn join(&mut self, request: gateway::JoinRequest) -> Result<Steps, Failure> {
        self.0.join(request).await.map_err(gateway_failure)
    }

    /// Replaces the cluster's authority, or asks how far that is.
    pub(crate) async fn rotate_trust(&mut self, request: gateway::RotateTrustRequest) -> Result<Rotation, Failure> {
        self.0.rotate_trust(request).await.map_err(gateway_failure)
    }

    /// Believes a bundle that was refused; its sequence.
    pub(crate) async fn accept_bundle(&mut self, request: gateway::AcceptBundleRequest) -> Result<u64, Failure> {
        self.0.accept_bundle(request).await.map_err(gateway_failure)
    }

    /// Every certificate that matters to it.
    pub(crate) async fn certificates(&mut self) -> Result<gateway::ListCertificatesResponse, Failure> {
        self.0.certificates().await.map_err(gateway_failure)
    }

    /// What its policies decide about a call that nobody makes.
    pub(crate) async fn test_policy(
        &mut self,
        request: gateway::TestPolicyRequest,
    ) -> Result<gateway::TestPolicyResponse, Failure> {
        self.0.test_policy(request).await.map_err(gateway_failure)
    }

    /// The policies it has read.
    pub(crate) async fn policies(&mut self) -> Result<Vec<gateway::Policy>, Failure> {
        self.0.policies().await.map_err(gateway_failure)
    }

    /// What policies in AUDIT would have refused.
    pub(crate) async fn policy_report(
        &mut self,
        request: gateway::ReportPoliciesRequest,
    ) -> Result<gateway::ReportPoliciesResponse, Failure> {
        self.0.policy_report(request).await.map_err(gateway_failure)
    }

    /// What was decided about connections.
    pub(crate) async fn explain(&mut self, trace: String) -> Result<Vec<gateway::Story>, Failure> {
        self.0.explain(trace).await.map_err(gateway_failure)
    }

    /// Leaves the cluster set.
    pub(crate) async fn leave(&mut self, force: bool) -> Result<gateway::LeaveResponse, Failure> {
        self.0.leave(gateway::LeaveRequest { force }).await.map_err(gateway_failure)
    }
}

/// What to do about an error of the admin socket.
pub(crate) fn gateway_failure(error: GatewayError) -> Failure {
    let hint = match &error {
        GatewayError::NoSocket(_) => {
            "--gateway unix:PATH, --context CONTEXT for a gateway in Kubernetes, or --federation URL for the federation service"
        }
        GatewayError::NotRunning(_) => "landbridge-gateway --config FILE",
        GatewayError::Denied(_) => "the same command as the user of the gateway",
        GatewayError::Unreachable { .. } => "the same command again, then the log of the gateway",
        GatewayError::Call(_) => "fedctl check",
    };
    Failure::new(error, hint)
}

/// The federation service, as an operator sees it; with the certificates of the credential, leaf first.
pub(crate) struct Operator(OperatorClient, Vec<CertificateFacts>);

/// Connects to the federation service that is meant: the one that is named, or else the one of the Kubernetes cluster.
pub(crate) async fn operator(target: &Target) -> Result<Operator, Failure> {
    check(target)?;
    if target.context.is_some() && target.federation.is_none() {
        let stream = pods::reach(target, Program::Federation).await?;
        // The credential stays in the pod.
        return OperatorClient::over(stream).await.map(|client| Operator(client, Vec::new())).map_err(operator_failure);
    }
    let (address, credential) = operator_here(target)?;
    let shown = credential.chain().iter().filter_map(|der| CertificateFacts::of(der).ok()).collect();
    let connected = OperatorClient::connect(std::slice::from_ref(address), credential).await;
    connected.map(|client| Operator(client, shown)).map_err(operator_failure)
}

/// The address and the credential that are named here.
pub(crate) fn operator_here(target: &Target) -> Result<(&GatewayAddr, Credential), Failure> {
    let Some(federation) = &target.federation else {
        return Err(Failure::because(
            "this command asks the federation service, and its address is not given",
            "--federation https://host:port, or --context CONTEXT for one in Kubernetes",
        ));
    };
    let Some(directory) = &target.operator else {
        return Err(Failure::because(
            "this command needs the credential of an operator, and its directory is not given",
            "--operator DIR, or FEDCTL_OPERATOR; landbridge-federation writes one to <store>/operator",
        ));
    };
    let credential = Credential::load(directory).map_err(|error| operator_failure(error.into()))?;
    Ok((&federation.0, credential))
}

impl Operator {
    /// The certificates of the operator credential, leaf first.
    pub(crate) fn credential(&self) -> &[CertificateFacts] {
        &self.1
    }

    /// Makes a token.
    pub(crate) async fn create_token(
        &mut self,
        cluster: &ClusterName,
        ttl: Duration,
    ) -> Result<(JoinToken, TokenInfo), Failure> {
        self.0.create_token(cluster, ttl).await.map_err(operator_failure)
    }

    /// Every token.
    pub(crate) async fn tokens(&mut self) -> Result<Vec<TokenInfo>, Failure> {
        self.0.list_tokens().await.map_err(operator_failure)
    }

    /// Makes a token useless.
    pub(crate) async fn revoke_token(&mut self, id: &TokenId) -> Result<TokenInfo, Failure> {
        self.0.revoke_token(id).await.map_err(operator_failure)
    }

    /// The members, and the service itself.
    pub(crate) async fn members(&mut self) -> Result<Listing, Failure> {
        self.0.list_members().await.map_err(operator_failure)
    }

    /// Ends a membership; the revision from which on it is over.
    pub(crate) async fn remove_member(&mut self, cluster: &ClusterName) -> Result<u64, Failure> {
        self.0.remove_member(cluster).await.map_err(operator_failure)
    }

    /// Approves a join; the revision from which on the cluster is a member.
    pub(crate) async fn approve(&mut self, cluster: &ClusterName, authority: &Fingerprint) -> Result<u64, Failure> {
        self.0.approve_member(cluster, authority).await.map_err(operator_failure)
    }

    /// Entries of the audit log.
    pub(crate) async fn audit(&mut self, wanted: &Wanted) -> Result<Vec<Entry>, Failure> {
        self.0.audit(wanted).await.map_err(operator_failure)
    }

    /// The whole audit log.
    pub(crate) async fn export_audit(&mut self) -> Result<AuditLines, Failure> {
        self.0.export_audit().await.map_err(operator_failure)
    }

    /// The foreign trust domains.
    pub(crate) async fn foreign(&mut self) -> Result<Vec<ForeignStatus>, Failure> {
        self.0.list_foreign().await.map_err(operator_failure)
    }

    /// Adds a foreign trust domain, or replaces what was said of it.
    pub(crate) async fn add_foreign(
        &mut self,
        source: &BundleSource,
        bootstrap: Option<&TrustBundle>,
    ) -> Result<(), Failure> {
        self.0.add_foreign(source, bootstrap).await.map(drop).map_err(operator_failure)
    }

    /// Forgets a foreign trust domain; the revision from which on it is forgotten.
    pub(crate) async fn remove_foreign(&mut self, trust_domain: &TrustDomain) -> Result<u64, Failure> {
        self.0.remove_foreign(trust_domain).await.map_err(operator_failure)
    }

    /// Has the bundle of one foreign trust domain, or of all, read now.
    pub(crate) async fn refresh_foreign(
        &mut self,
        trust_domain: Option<&TrustDomain>,
    ) -> Result<Vec<ForeignStatus>, Failure> {
        self.0.refresh_foreign(trust_domain).await.map_err(operator_failure)
    }

    /// Revokes something.
    pub(crate) async fn revoke(&mut self, asked: &Asked, reason: &Line) -> Result<Revoked, Failure> {
        self.0.revoke(asked, reason).await.map_err(operator_failure)
    }

    /// Every revocation.
    pub(crate) async fn revocations(&mut self) -> Result<Vec<Revocation>, Failure> {
        self.0.list_revocations().await.map_err(operator_failure)
    }

    /// Lifts a revocation.
    pub(crate) async fn reinstate(&mut self, id: &RevocationId, force: bool) -> Result<Reinstated, Failure> {
        self.0.reinstate(id, force).await.map_err(operator_failure)
    }

    /// Has the service go on with a store that was restored.
    pub(crate) async fn recover(&mut self) -> Result<Recovered, Failure> {
        self.0.recover().await.map_err(operator_failure)
    }

    /// Who has acknowledged a revision, and who does while it is watched.
    pub(crate) async fn acknowledgements(&mut self, revision: u64) -> Result<Acknowledgements, Failure> {
        self.0.acknowledgements(revision).await.map_err(operator_failure)
    }
}

/// What to do about an error of the federation service.
pub(crate) fn operator_failure(error: OperatorError) -> Failure {
    let hint = match &error {
        OperatorError::Credential(_) => "--operator DIR with ca.crt, tls.crt and tls.key",
        OperatorError::Dial(DialError::Unreachable { .. }) => "--federation with the address it listens on",
        OperatorError::Dial(DialError::PinMismatch { .. } | DialError::Untrusted { .. }) => {
            "--operator with a credential of this federation service, or --federation with the right address"
        }
        OperatorError::Dial(DialError::Clock { .. }) => "timedatectl status on both hosts",
        OperatorError::Call(CallError::CertificateRefused { .. }) => {
            "--operator with a new credential from <store>/operator of the federation service"
        }
        OperatorError::Call(CallError::Refused { .. }) => {
            "fedctl members, fedctl token list, fedctl trust foreign list and fedctl revoke list show what there is"
        }
        OperatorError::Call(CallError::Lost(_) | CallError::TimedOut) => "the same command again",
        OperatorError::Call(CallError::Malformed(_) | CallError::Unexpected { .. }) | OperatorError::Token(_) => {
            "the same version of fedctl and federation service"
        }
        OperatorError::Tls(_) => "another build of fedctl: its TLS library does not work here",
    };
    Failure::new(error, hint)
}
