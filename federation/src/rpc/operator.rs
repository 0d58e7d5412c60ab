//! The calls of operators.
//!
//! Owns converting them. Every call is verified first, and what it changes is in the audit log with the operator's name.

use std::{pin::Pin, time::Duration};

use federation_model::{
    audit::{Actor, Text},
    bundle::Fingerprint,
    names::ClusterName,
    time::Timestamp,
};
use federation_pki::token::{JoinToken, SecretHash, TokenId, TokenSecret};
use futures::Stream;
use proto::{
    convert::{ConvertError, member::Refusal},
    federation::v1::{self as wire, operator_server::Operator},
};
use tonic::{Request, Response, Status};

use super::{
    Context, audit,
    caller::Peer,
    foreign, recovery,
    refuse::{invalid, status},
    revocation,
};
use crate::{
    SOFTWARE,
    registry::Undecided,
    state::{
        MemberRecord, NotAMember, TokenRecord,
        approval::ApprovalRefusal,
        audit::By,
        tokens::{NewToken, TokenRefusal, TokenState},
    },
};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Debug)]
pub(super) struct Calls(pub(super) Context);

#[tonic::async_trait]
impl Operator for Calls {
    type ListAuditStream = Answers<wire::ListAuditResponse>;
    type ExportAuditStream = Answers<wire::ExportAuditResponse>;
    type AwaitAcknowledgementStream = Pin<Box<dyn Stream<Item = Result<wire::Acknowledgement, Status>> + Send>>;

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreateTokenResponse>, Status> {
        let peer = Peer::of(request.extensions())?;
        let by = self.by(&peer)?;
        let request = request.into_inner();
        let cluster = cluster_of("CreateTokenRequest", &request.cluster)?;
        let addresses = self.0.service.addresses(&peer);
        if addresses.is_empty() {
            let text =
                "the service does not know under which address clusters reach it: set `grpc.names` in federation.toml";
            return Err(self.0.refuse(Refusal::NoAddress, text));
        }
        let secret = TokenSecret::random();
        let new = NewToken {
            id: TokenId::random(),
            secret: SecretHash::of(&secret),
            cluster,
            ttl: Duration::from_secs(request.ttl_seconds),
        };
        let (rules, now) = (self.0.tokens, self.0.clock.now());
        let decision = self.0.registry.decide(by, move |state| state.create_token(new, rules, now));
        let (record, _) = decision.await.map_err(refused)?;
        let token = JoinToken {
            addresses,
            pin: self.0.service.authority().fingerprint(),
            id: record.id,
            secret,
            expires_at: record.expires_at,
            cluster: record.cluster.clone(),
        };
        Ok(Response::new(wire::CreateTokenResponse { token: token.to_string(), info: Some(info(&record, now)) }))
    }

    async fn list_tokens(
        &self,
        request: Request<wire::ListTokensRequest>,
    ) -> Result<Response<wire::ListTokensResponse>, Status> {
        self.0.operator(&Peer::of(request.extensions())?)?;
        let (state, now) = (self.0.registry.state(), self.0.clock.now());
        let mut records: Vec<_> = state.tokens.values().collect();
        records.sort_by_key(|record| (record.created_at, record.id));
        let tokens = records.into_iter().map(|record| info(record, now)).collect();
        Ok(Response::new(wire::ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<wire::RevokeTokenRequest>,
    ) -> Result<Response<wire::RevokeTokenResponse>, Status> {
        let by = self.by(&Peer::of(request.extensions())?)?;
        let id: TokenId = request
            .into_inner()
            .id
            .parse()
            .map_err(|error| invalid(&ConvertError::new("RevokeTokenRequest", "id", error)))?;
        let now = self.0.clock.now();
        let decision = self.0.registry.decide(by, move |state| state.revoke_token(&id, now));
        let (record, _) = decision.await.map_err(refused)?;
        Ok(Response::new(wire::RevokeTokenResponse { info: Some(info(&record, now)) }))
    }

    async fn list_members(
        &self,
        request: Request<wire::ListMembersRequest>,
    ) -> Result<Response<wire::ListMembersResponse>, Status> {
        self.0.operator(&Peer::of(request.extensions())?)?;
        let state = self.0.registry.state();
        Ok(Response::new(wire::ListMembersResponse {
            members: state.members.values().map(|record| self.status_of(record)).collect(),
            revision: state.revision,
            federation: Some((&state.federation).into()),
            federation_id: self.0.service.id.to_string(),
            software: SOFTWARE.to_owned(),
            certificate: self.0.service.identity.current().chain().iter().map(|der| der.to_vec().into()).collect(),
            next_renewal: self.0.service.in_use.borrow().renewal.0,
        }))
    }

    async fn remove_member(
        &self,
        request: Request<wire::RemoveMemberRequest>,
    ) -> Result<Response<wire::RemoveMemberResponse>, Status> {
        let by = self.by(&Peer::of(request.extensions())?)?;
        let cluster = cluster_of("RemoveMemberRequest", &request.into_inner().cluster)?;
        let removed = cluster.clone();
        let decision = self.0.registry.decide(by, move |state| state.remove(&removed).map(|writes| (writes, ())));
        let ((), revision) = decision.await.map_err(|undecided| match undecided {
            Undecided::Refused(error @ NotAMember(_)) => status(Refusal::NotFound, error.to_string()),
            Undecided::Unavailable(reason) => status(Refusal::Unavailable, reason),
        })?;
        self.0.presence.forget(&cluster);
        Ok(Response::new(wire::RemoveMemberResponse { revision }))
    }

    async fn approve_member(
        &self,
        request: Request<wire::ApproveMemberRequest>,
    ) -> Result<Response<wire::ApproveMemberResponse>, Status> {
        let by = self.by(&Peer::of(request.extensions())?)?;
        let request = request.into_inner();
        let cluster = cluster_of("ApproveMemberRequest", &request.cluster)?;
        let expected: Fingerprint = request
            .fingerprint
            .parse()
            .map_err(|error| invalid(&ConvertError::new("ApproveMemberRequest", "fingerprint", error)))?;
        let decision =
            self.0.registry.decide(by, move |state| state.approve(&cluster, &expected).map(|writes| (writes, ())));
        let ((), revision) = decision.await.map_err(not_approved)?;
        Ok(Response::new(wire::ApproveMemberResponse { revision }))
    }

    async fn list_audit(
        &self,
        request: Request<wire::ListAuditRequest>,
    ) -> Result<Response<Self::ListAuditStream>, Status> {
        self.0.operator(&Peer::of(request.extensions())?)?;
        Ok(Response::new(Box::pin(audit::list(&self.0, request.into_inner()).await?)))
    }

    async fn export_audit(
        &self,
        request: Request<wire::ExportAuditRequest>,
    ) -> Result<Response<Self::ExportAuditStream>, Status> {
        self.0.operator(&Peer::of(request.extensions())?)?;
        Ok(Response::new(Box::pin(audit::export(&self.0))))
    }

    async fn add_foreign(
        &self,
        request: Request<wire::AddForeignRequest>,
    ) -> Result<Response<wire::AddForeignResponse>, Status> {
        let by = self.by(&Peer::of(request.extensions())?)?;
        foreign::add(&self.0, by, request.into_inner()).await.map(Response::new)
    }

    async fn remove_foreign(
        &self,
        request: Request<wire::RemoveForeignRequest>,
    ) -> Result<Response<wire::RemoveForeignResponse>, Status> {
        let by = self.by(&Peer::of(request.extensions())?)?;
        foreign::remove(&self.0, by, request.into_inner()).await.map(Response::new)
    }

    async fn list_foreign(
        &self,
        request: Request<wire::ListForeignRequest>,
    ) -> Result<Response<wire::ListForeignResponse>, Status> {
        self.0.operator(&Peer::of(request.extensions())?)?;
        Ok(Response::new(foreign::list(&self.0)))
    }

    async fn refresh_foreign(
        &self,
        request: Request<wire::RefreshForeignRequest>,
    ) -> Result<Response<wire::RefreshForeignResponse>, Status> {
        self.0.operator(&Peer::of(request.extensions())?)?;
        foreign::refresh(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn revoke(&self, request: Request<wire::RevokeRequest>) -> Result<Response<wire::RevokeResponse>, Status> {
        let peer = Peer::of(request.extensions())?;
        revocation::revoke(&self.0, &peer, request.into_inner()).await.map(Response::new)
    }

    async fn list_revocations(
        &self,
        request: Request<wire::ListRevocationsRequest>,
    ) -> Result<Response<wire::ListRevocationsResponse>, Status> {
        revocation::list(&self.0, &Peer::of(request.extensions())?).map(Response::new)
    }

    async fn reinstate(
        &self,
        request: Request<wire::ReinstateRequest>,
    ) -> Result<Response<wire::ReinstateResponse>, Status> {
        let peer = Peer::of(request.extensions())?;
        revocation::reinstate(&self.0, &peer, request.into_inner()).await.map(Response::new)
    }

    async fn await_acknowledgement(
        &self,
        request: Request<wire::AwaitAcknowledgementRequest>,
    ) -> Result<Response<Self::AwaitAcknowledgementStream>, Status> {
        let peer = Peer::of(request.extensions())?;
        let stream = revocation::acknowledgements(&self.0, &peer, &request.into_inner())?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn recover(&self, request: Request<wire::RecoverRequest>) -> Result<Response<wire::RecoverResponse>, Status> {
        let by = self.by(&Peer::of(request.extensions())?)?;
        recovery::recover(&self.0, by).await.map(Response::new)
    }
}

impl Calls {
    /// The operator that changes something.
    fn by(&self, peer: &Peer) -> Result<By, Status> {
        let name = self.0.operator(peer)?;
        Ok(self.0.by(Actor::Operator(Text::fitting(&name)), peer))
    }

    fn status_of(&self, record: &MemberRecord) -> wire::MemberStatus {
        let seen = self.0.presence.of(&record.member.cluster);
        wire::MemberStatus {
            member: Some((&record.member).into()),
            watching: seen.watches > 0,
            acknowledged: seen.acknowledged,
            last_seen: seen.last_seen.map_or(0, |at| at.0),
            software: record.software.clone(),
            pending: record.pending,
        }
    }
}

fn not_approved(undecided: Undecided<ApprovalRefusal>) -> Status {
    match undecided {
        Undecided::Refused(refusal) => {
            let reason = match refusal {
                ApprovalRefusal::Unknown(_) => Refusal::NotFound,
                ApprovalRefusal::AnotherAuthority { .. } => Refusal::AnotherAuthority,
            };
            status(reason, refusal.to_string())
        }
        Undecided::Unavailable(reason) => status(Refusal::Unavailable, reason),
    }
}

fn cluster_of(message: &'static str, text: &str) -> Result<ClusterName, Status> {
    text.parse().map_err(|error| invalid(&ConvertError::new(message, "cluster", error)))
}

fn refused(undecided: Undecided<TokenRefusal>) -> Status {
    match undecided {
        Undecided::Refused(refusal) => {
            let reason = match refusal {
                TokenRefusal::TtlTooLong { .. } => Refusal::Invalid,
                TokenRefusal::TooMany => Refusal::TooManyTokens,
                TokenRefusal::Unknown(_) => Refusal::NotFound,
                TokenRefusal::Used { .. } => Refusal::TokenUsed,
            };
            status(reason, refusal.to_string())
        }
        Undecided::Unavailable(reason) => status(Refusal::Unavailable, reason),
    }
}

fn info(record: &TokenRecord, now: Timestamp) -> wire::TokenInfo {
    let state = match record.state(now) {
        TokenState::Ready => wire::TokenState::Ready,
        TokenState::Used => wire::TokenState::Used,
        TokenState::Expired => wire::TokenState::Expired,
        TokenState::Revoked => wire::TokenState::Revoked,
    };
    wire::TokenInfo {
        id: record.id.to_string(),
        cluster: record.cluster.to_string(),
        created_at: record.created_at.0,
        expires_at: record.expires_at.0,
        state: state.into(),
        used_at: record.used_at.map_or(0, |at| at.0),
    }
}
