//! The calls of gateways.
//!
//! Owns converting them, and the limits of those that need no certificate. Never decides about a join.

use std::{convert::Infallible, net::IpAddr, pin::Pin};

use federation_model::{
    audit::{Action, Actor},
    finding::Level,
    member::Member,
    names::ClusterName,
};
use federation_pki::token::TokenSecret;
use futures::Stream;
use proto::{
    convert::{
        ConvertError,
        member::{Refusal, advertised, lineage, locality, software},
        revocation,
    },
    federation::v1::{self as wire, membership_server::Membership},
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Context,
    caller::Peer,
    recovery,
    refuse::{invalid, status},
    rotation, watch,
};
use crate::{
    SOFTWARE,
    registry::Undecided,
    state::{
        BundleRefusal, NotAMember, Publication,
        join::{Here, JoinRefusal, Joining},
    },
};

/// The certificates of whoever proves a join: a leaf and three above it.
const MAX_SIGNER: usize = 4;

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
        let (findings, cluster) = match joining(request.into_inner())? {
            Some(joining) => (self.0.registry.state().check_join(&joining, &self.here()), Some(joining.member.cluster)),
            None => (vec![unknown_token()], None),
        };
        // Gateways ask this first, and do not go on to a join that would be refused.
        if let Some(failed) = findings.iter().find(|finding| finding.level == Level::Failed) {
            self.0.tell_refused(from, cluster.as_ref(), format!("test, {}: {}", failed.check, failed.detail)).await;
            if failed.check == "join token" {
                self.0.failed_attempt(from);
            }
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
            return Err(self.refused(from, None, &JoinRefusal::TokenUnknown).await);
        };
        let (here, cluster) = (self.here(), joining.member.cluster.clone());
        let by = self.0.by(Actor::Member(cluster.clone()), &peer);
        let decision = self.0.registry.decide(by, move |state| {
            let admitted = state.join(&joining, &here)?;
            Ok((admitted.writes, admitted.record))
        });
        let record = match decision.await {
            Ok((record, _)) => record,
            Err(Undecided::Refused(refusal)) => return Err(self.refused(from, Some(&cluster), &refusal).await),
            Err(Undecided::Unavailable(reason)) => return Err(status(Refusal::Unavailable, reason)),
        };
        self.0.metrics.joined(None);
        let state = self.0.registry.state();
        // It may have been approved since.
        let record = state.members.get(&cluster).unwrap_or(&record);
        let (members, revision) = state.known_to(record);
        let mark = if record.pending { None } else { state.mark() };
        Ok(Response::new(wire::JoinResponse {
            member: Some((&record.member).into()),
            federation: Some((&state.federation).into()),
            federation_id: self.0.service.id.to_string(),
            members: members.into_iter().map(Into::into).collect(),
            revision,
            addresses: self.0.service.addresses(&peer).iter().map(ToString::to_string).collect(),
            store_id: state.store_id.to_string(),
            pending: record.pending,
            foreign: state.foreign_bundles().map(Into::into).collect(),
            revocations: revocation::messages(&state.revocations),
            mark: mark.map(|mark| mark.as_bytes().to_vec().into()).unwrap_or_default(),
            former_store_ids: Vec::new(),
        }))
    }

    async fn watch(
        &self,
        request: Request<Streaming<wire::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = Peer::of(request.extensions())?;
        let record = match self.0.member(&peer) {
            Ok(record) => record,
            Err(status) if peer.chain.is_empty() => return Err(status),
            Err(status) => return Err(recovery::refused(&self.0, request.into_inner(), status).await),
        };
        let stream = watch::open(self.0.clone(), peer, record.member.cluster.clone(), request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn publish(&self, request: Request<wire::PublishRequest>) -> Result<Response<wire::PublishResponse>, Status> {
        let peer = Peer::of(request.extensions())?;
        let record = self.0.member(&peer)?;
        let publication = publication(request.into_inner()).map_err(|error| invalid(&error))?;
        let cluster = record.member.cluster.clone();
        let changes = self.0.registry.state().publish(&cluster, publication.clone());
        if changes.is_ok_and(|writes| !writes.is_empty()) {
            self.0.admit_change(&cluster)?;
        }
        let by = self.0.by(Actor::Member(cluster.clone()), &peer);
        let decision =
            self.0.registry.decide(by, move |state| state.publish(&cluster, publication).map(|writes| (writes, ())));
        let ((), revision) = decision.await.map_err(gone)?;
        Ok(Response::new(wire::PublishResponse { revision }))
    }

    async fn publish_bundle(
        &self,
        request: Request<wire::PublishBundleRequest>,
    ) -> Result<Response<wire::PublishBundleResponse>, Status> {
        let peer = Peer::of(request.extensions())?;
        let record = self.0.member(&peer)?;
        let lineage = lineage("PublishBundleRequest", request.into_inner().lineage).map_err(|error| invalid(&error))?;
        let cluster = &record.member.cluster;
        let changes = self.0.registry.state().publish_bundle(cluster, &lineage);
        if !changes.as_ref().is_ok_and(Vec::is_empty) {
            self.0.admit_change(cluster)?;
        }
        let (by, publisher) = (self.0.by(Actor::Member(cluster.clone()), &peer), cluster.clone());
        let decision = self
            .0
            .registry
            .decide(by.clone(), move |state| state.publish_bundle(&publisher, &lineage).map(|writes| (writes, ())));
        match decision.await {
            Ok(((), revision)) => Ok(Response::new(wire::PublishBundleResponse { revision })),
            Err(Undecided::Refused(BundleRefusal::NotAMember(error))) => {
                Err(status(Refusal::NotAMember, error.to_string()))
            }
            Err(Undecided::Refused(error @ (BundleRefusal::Continuity(_) | BundleRefusal::Fault(_)))) => {
                let entry = by.entry(Action::BundleRefused, cluster.as_str(), &error.to_string());
                let told = self.0.registry.decide(by, move |_| Ok::<_, Infallible>((vec![entry], ())));
                if told.await.is_err() {
                    tracing::error!(%cluster, %error, "a refused bundle could not be written to the audit log");
                }
                Err(self.0.refuse(Refusal::BundleRefused, error.to_string()))
            }
            Err(Undecided::Unavailable(reason)) => Err(status(Refusal::Unavailable, reason)),
        }
    }

    async fn report_rotation(
        &self,
        request: Request<wire::ReportRotationRequest>,
    ) -> Result<Response<wire::ReportRotationResponse>, Status> {
        let peer = Peer::of(request.extensions())?;
        let record = self.0.member(&peer)?;
        let detail = rotation::detail(&request.into_inner()).map_err(|error| invalid(&error))?;
        let cluster = &record.member.cluster;
        self.0.admit_change(cluster)?;
        let by = self.0.by(Actor::Member(cluster.clone()), &peer);
        let entry = by.entry(Action::RotationStep, cluster.as_str(), &detail);
        match self.0.registry.decide(by, move |_| Ok::<_, Infallible>((vec![entry], ()))).await {
            Ok(_) => Ok(Response::new(wire::ReportRotationResponse {})),
            Err(Undecided::Refused(never)) => match never {},
            Err(Undecided::Unavailable(reason)) => Err(status(Refusal::Unavailable, reason)),
        }
    }

    async fn leave(&self, request: Request<wire::LeaveRequest>) -> Result<Response<wire::LeaveResponse>, Status> {
        let peer = Peer::of(request.extensions())?;
        let record = self.0.member(&peer)?;
        let cluster = record.member.cluster.clone();
        let (leaving, by) = (cluster.clone(), self.0.by(Actor::Member(cluster.clone()), &peer));
        let decision = self.0.registry.decide(by, move |state| state.remove(&leaving).map(|writes| (writes, ())));
        let ((), revision) = decision.await.map_err(gone)?;
        self.0.presence.forget(&cluster);
        Ok(Response::new(wire::LeaveResponse { revision }))
    }
}

impl Calls {
    fn here(&self) -> Here {
        let service = &self.0.service;
        Here {
            unix_millis: self.0.clock.millis(),
            authority: service.authority().fingerprint(),
            external: service.external.clone(),
            require_approval: service.require_approval,
        }
    }

    /// Counts a refused join, remembers the address, and words the refusal.
    async fn refused(&self, from: IpAddr, cluster: Option<&ClusterName>, refusal: &JoinRefusal) -> Status {
        self.0.failed_attempt(from);
        self.0.metrics.joined(Some(refusal.refusal()));
        self.0.tell_refused(from, cluster, format!("{}: {}", refusal.refusal(), refusal.detail())).await;
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
            signer: request.signer.iter().take(MAX_SIGNER).map(|der| der.to_vec().into()).collect(),
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
