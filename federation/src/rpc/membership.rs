//! The calls of gateways.
//!
//! Owns converting them, and the limits of those that need no certificate. Never decides about a join.

use std::{net::IpAddr, pin::Pin};

use federation_model::{finding::Level, member::Member};
use federation_pki::token::TokenSecret;
use futures::Stream;
use proto::{
    convert::{
        ConvertError,
        member::{Refusal, advertised, locality, software},
        revocation,
    },
    federation::v1::{self as wire, membership_server::Membership},
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Context,
    caller::Peer,
    refuse::{invalid, status},
    watch,
};
use crate::{
    SOFTWARE,
    registry::Undecided,
    state::{
        NotAMember, Publication,
        join::{Here, JoinRefusal, Joining},
    },
};

#[derive(Debug)]
pub(super) struct Calls(pub(super) Context);

#[tonic::async_trait]
impl Membership for Calls {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<wire::WatchResponse, Status>> + Send>>;

    async fn check_join(
        &self,
        request: Request<wire::JoinRequest>,
    ) -> Result<Response<wire::CheckJoinResponse>, Status> {
        let from = Peer::of(request.extensions())?.address.ip();
        self.0.admit_attempt(from)?;
        let findings = match joining(request.into_inner())? {
            Some(joining) => self.0.registry.state().check_join(&joining, &self.here()),
            None => vec![unknown_token()],
        };
        if findings.iter().any(|finding| finding.check == "join token" && finding.level == Level::Failed) {
            self.0.failed_attempt(from);
        }
        Ok(Response::new(wire::CheckJoinResponse {
            findings: findings.iter().map(Into::into).collect(),
            unix_millis: self.0.clock.millis(),
            software: SOFTWARE.to_owned(),
        }))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinResponse>, Status> {
        let peer = Peer::of(request.extensions())?;
        let from = peer.address.ip();
        self.0.admit_attempt(from)?;
        let Some(joining) = joining(request.into_inner())? else {
            return Err(self.refused(from, &JoinRefusal::TokenUnknown));
        };
        let (here, cluster, token) = (self.here(), joining.member.cluster.clone(), joining.token_id);
        let decision = self.0.registry.decide(move |state| {
            let admitted = state.join(&joining, &here)?;
            let repeated = admitted.writes.is_empty();
            Ok((admitted.writes, (admitted.record, repeated)))
        });
        let (record, repeated) = match decision.await {
            Ok((admitted, _)) => admitted,
            Err(Undecided::Refused(refusal)) => return Err(self.refused(from, &refusal)),
            Err(Undecided::Unavailable(reason)) => return Err(status(Refusal::Unavailable, reason)),
        };
        self.0.metrics.joined(None);
        let authority = record.member.bundle.fingerprints().next().map(|fingerprint| fingerprint.to_string());
        tracing::info!(target: "landbridge::audit", %cluster, %token, authority, %from, repeated, "cluster joined");
        let state = self.0.registry.state();
        Ok(Response::new(wire::JoinResponse {
            member: Some((&record.member).into()),
            federation: Some((&state.federation).into()),
            federation_id: self.0.service.id.to_string(),
            members: state.members.values().map(|record| (&record.member).into()).collect(),
            revision: state.revision,
            addresses: self.0.service.addresses(&peer).iter().map(ToString::to_string).collect(),
            store_id: state.store_id.to_string(),
            revocations: revocation::messages(&state.revocations),
        }))
    }

    async fn watch(
        &self,
        request: Request<Streaming<wire::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = Peer::of(request.extensions())?;
        let record = self.0.member(&peer)?;
        let stream = watch::open(self.0.clone(), peer, record.member.cluster.clone(), request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn publish(&self, request: Request<wire::PublishRequest>) -> Result<Response<wire::PublishResponse>, Status> {
        let record = self.0.member(&Peer::of(request.extensions())?)?;
        let publication = publication(request.into_inner()).map_err(|error| invalid(&error))?;
        let cluster = record.member.cluster.clone();
        let decision =
            self.0.registry.decide(move |state| state.publish(&cluster, publication).map(|writes| (writes, ())));
        let ((), revision) = decision.await.map_err(gone)?;
        Ok(Response::new(wire::PublishResponse { revision }))
    }

    async fn leave(&self, request: Request<wire::LeaveRequest>) -> Result<Response<wire::LeaveResponse>, Status> {
        let record = self.0.member(&Peer::of(request.extensions())?)?;
        let cluster = record.member.cluster.clone();
        let leaving = cluster.clone();
        let decision = self.0.registry.decide(move |state| state.remove(&leaving).map(|writes| (writes, ())));
        let ((), revision) = decision.await.map_err(gone)?;
        self.0.presence.forget(&cluster);
        tracing::info!(target: "landbridge::audit", %cluster, revision, "cluster left");
        Ok(Response::new(wire::LeaveResponse { revision }))
    }
}

impl Calls {
    fn here(&self) -> Here {
        Here { unix_millis: self.0.clock.millis(), authority: self.0.service.authority }
    }

    /// Counts a refused join, remembers the address, and words the refusal.
    fn refused(&self, from: IpAddr, refusal: &JoinRefusal) -> Status {
        self.0.failed_attempt(from);
        self.0.metrics.joined(Some(refusal.refusal()));
        tracing::info!(target: "landbridge::audit", %from, reason = %refusal.refusal(), "join refused");
        status(refusal.refusal(), refusal.to_string())
    }
}

/// Nothing when the token cannot be one of ours: that is the same as not knowing it.
fn joining(request: wire::JoinRequest) -> Result<Option<Joining>, Status> {
    let (Ok(token_id), Some(secret)) = (request.token_id.parse(), TokenSecret::from_bytes(&request.secret)) else {
        return Ok(None);
    };
    let convert = || {
        let member = request.member.ok_or_else(|| ConvertError::new("JoinRequest", "member", "it is missing"))?;
        Ok(Joining {
            token_id,
            secret,
            member: Member::try_from(member)?,
            software: software("JoinRequest", request.software)?,
            unix_millis: request.unix_millis,
            proof: request.proof.to_vec(),
            versions: request.min_version..=request.max_version,
        })
    };
    convert().map(Some).map_err(|error: ConvertError| invalid(&error))
}

fn unknown_token() -> federation_model::finding::Finding {
    let refusal = JoinRefusal::TokenUnknown;
    federation_model::finding::Finding::failed("join token", refusal.detail(), refusal.hint())
}

fn publication(request: wire::PublishRequest) -> Result<Publication, ConvertError> {
    Ok(Publication {
        advertise: advertised("PublishRequest", &request.advertise)?,
        region: locality("PublishRequest", "region", request.region)?,
        zone: locality("PublishRequest", "zone", request.zone)?,
        software: software("PublishRequest", request.software)?,
    })
}

/// The member went while it called.
fn gone(undecided: Undecided<NotAMember>) -> Status {
    match undecided {
        Undecided::Refused(error) => status(Refusal::NotAMember, error.to_string()),
        Undecided::Unavailable(reason) => status(Refusal::Unavailable, reason),
    }
}
