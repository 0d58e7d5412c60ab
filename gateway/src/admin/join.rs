//! Joining and leaving a cluster set, step by step.
//!
//! Owns the order of the steps: fingerprints first, then every check, then the token is spent, then the peers are waited
//! for. Repeating a join of the same set changes nothing.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use federation_client::membership::{Application, JoinClient};
use federation_model::{
    finding::{Finding, Level},
    lineage::Lineage,
    member::Member,
    names::ClusterName,
    time::Timestamp,
};
use federation_pki::token::JoinToken;
use proto::gateway::v1::{
    Done, Fingerprints, JoinProgress, JoinRequest, Joined as JoinedMessage, LeaveRequest, LeaveResponse,
    join_progress::Step,
};
use tokio::sync::mpsc;
use tonic::Status;

use super::{Administration, status};
use crate::{SOFTWARE, membership::Membership};

/// The longest a join waits for peers, whatever was asked.
const MAX_WAIT: Duration = Duration::from_secs(600);

type Steps = mpsc::Sender<Result<JoinProgress, Status>>;

async fn tell(steps: &Steps, step: Step) -> Result<(), Status> {
    let gone = |_| Status::cancelled("whoever asked for the join went away");
    steps.send(Ok(JoinProgress { step: Some(step) })).await.map_err(gone)
}

/// Joins, or tests a join.
pub(super) async fn join(this: &Administration, request: JoinRequest, steps: &Steps) -> Result<(), Status> {
    let token: JoinToken = request.token.trim().parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
    let fingerprints = Fingerprints {
        cluster: this.config.cluster.name.to_string(),
        trust_domain: this.config.cluster.trust_domain.to_string(),
        cluster_authority: status::authority(&this.identity),
        federation_authority: token.pin.to_string(),
    };
    tell(steps, Step::Fingerprints(fingerprints)).await?;
    match this.follower.current() {
        Some(membership) if belongs_to(&membership, &token) => {
            let joined = JoinedMessage { already: true, ..joined(&membership) };
            tell(steps, Step::Joined(joined)).await?;
        }
        Some(membership) => {
            return Err(Status::failed_precondition(format!(
                "this cluster is a member of another cluster set ({}); leave it first with fedctl leave",
                membership.federation_id.trust_domain()
            )));
        }
        None => {
            local_checks(this, &token)?;
            if let Some(joined) = spend(this, &token, request.dry_run, steps).await? {
                tell(steps, Step::Joined(joined)).await?;
            }
        }
    }
    // Whoever waits for approval has nobody to connect with, and an operator may take days.
    if request.dry_run || this.follower.current().is_some_and(|membership| membership.pending) {
        return tell(steps, Step::Done(Done { connected: 0, expected: 0 })).await;
    }
    let wait = Duration::from_secs(request.wait_seconds.into()).min(MAX_WAIT);
    wait_for_peers(this, wait, steps).await
}

fn belongs_to(membership: &Membership, token: &JoinToken) -> bool {
    membership.federation.fingerprints().any(|fingerprint| fingerprint == token.pin)
}

/// What is known to be wrong before anybody is asked.
fn local_checks(this: &Administration, token: &JoinToken) -> Result<(), Status> {
    let own = &this.config.cluster.name;
    if token.cluster != *own {
        return Err(Status::invalid_argument(format!(
            "the token is for cluster {}, this is cluster {own}; ask for one with fedctl token create --cluster {own}",
            token.cluster
        )));
    }
    let now = Timestamp::from(SystemTime::now());
    if token.expires_at <= now {
        return Err(Status::invalid_argument(format!(
            "the token expired {} ago by this machine's clock; ask for a new one with fedctl token create --cluster {own}",
            status::words(now.since(token.expires_at))
        )));
    }
    Ok(())
}

fn joined(membership: &Membership) -> JoinedMessage {
    let members = u32::try_from(membership.members.len()).unwrap_or(u32::MAX);
    JoinedMessage { already: false, members, pending: membership.pending }
}

/// Runs the checks of the service and, unless this is a dry run, spends the token; what came of it.
async fn spend(
    this: &Administration,
    token: &JoinToken,
    dry_run: bool,
    steps: &Steps,
) -> Result<Option<JoinedMessage>, Status> {
    let lineage = Lineage::clone(&this.identity.lineage().borrow());
    let member = Member {
        cluster: this.config.cluster.name.clone(),
        gateway_id: this.config.cluster.gateway_id(),
        advertise: this.config.tunnel.advertise.clone(),
        bundle: this.identity.bundle(),
        lineage,
        region: this.config.cluster.region.clone(),
        zone: this.config.cluster.zone.clone(),
        joined_at: SystemTime::now().into(),
    };
    let signer = this.identity.signer();
    let application = Application { member: &member, signer: &signer, software: SOFTWARE };
    let failed = |error: &dyn std::fmt::Display| Status::failed_precondition(error.to_string());
    let mut client = JoinClient::connect(token).await.map_err(|e| failed(&e))?;
    let reached = Finding::ok("reachability", format!("the federation service answers at {}", client.address()));
    tell(steps, Step::Finding((&reached).into())).await?;
    let checked = client.check(application).await.map_err(|e| failed(&e))?;
    let mut broken = None;
    for finding in &checked.findings {
        tell(steps, Step::Finding(finding.into())).await?;
        if finding.level == Level::Failed && broken.is_none() {
            broken = Some(format!("{}: {}; {}", finding.check, finding.detail, finding.hint));
        }
    }
    match broken {
        Some(_) if dry_run => return Ok(None),
        Some(reason) => return Err(Status::failed_precondition(reason)),
        None if dry_run => return Ok(None),
        None => {}
    }
    let membership = Membership::from(client.join(application).await.map_err(|e| failed(&e))?);
    let joined = joined(&membership);
    this.follower.adopt(membership).await.map_err(|error| Status::internal(format!("{error:#}")))?;
    Ok(Some(joined))
}

/// Tells every change of a peer until all that can be connected are, or the wait is over.
async fn wait_for_peers(this: &Administration, wait: Duration, steps: &Steps) -> Result<(), Status> {
    let deadline = tokio::time::sleep(wait);
    tokio::pin!(deadline);
    let mut tables = this.tables.clone();
    let mut members = this.follower.members();
    let mut told = BTreeSet::new();
    loop {
        let expected = expected(this);
        let connected: BTreeSet<ClusterName> = {
            let now = tables.borrow_and_update();
            expected.iter().filter(|cluster| now.is_reachable(cluster)).cloned().collect()
        };
        members.mark_unchanged();
        for peer in status::peers(this) {
            if connected.iter().any(|cluster| cluster.as_str() == peer.cluster) && told.insert(peer.cluster.clone()) {
                tell(steps, Step::Peer(peer)).await?;
            }
        }
        let count = |set: &BTreeSet<ClusterName>| u32::try_from(set.len()).unwrap_or(u32::MAX);
        let done = Done { connected: count(&connected), expected: count(&expected) };
        let synchronised = this.follower.link().connected.is_some() || !expected.is_empty();
        if connected.len() == expected.len() && synchronised {
            return tell(steps, Step::Done(done)).await;
        }
        tokio::select! {
            () = &mut deadline => return tell(steps, Step::Done(done)).await,
            _ = tables.changed() => {}
            _ = members.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

/// The members a tunnel can exist with: at least one of the two sides can be dialled.
fn expected(this: &Administration) -> BTreeSet<ClusterName> {
    let members = this.follower.members().borrow().clone();
    let own_advertises = !this.config.tunnel.advertise.is_empty();
    members
        .values()
        .filter(|member| own_advertises || !member.advertise.is_empty())
        .map(|member| member.cluster.clone())
        .collect()
}

/// Leaves the cluster set.
pub(super) async fn leave(this: &Administration, request: LeaveRequest) -> Result<LeaveResponse, Status> {
    let Some(membership) = this.follower.current() else {
        return Ok(LeaveResponse {
            federation_told: false,
            detail: "this cluster is not a member of a set".to_owned(),
        });
    };
    let told = match this.follower.client(&membership) {
        Ok(client) => match client.leave().await {
            Ok(_) => Ok(()),
            // An operator has removed it already.
            Err(error) if error.not_a_member() => Ok(()),
            Err(error) => Err(error.to_string()),
        },
        Err(error) => Err(format!("{error:#}")),
    };
    if let (Err(reason), false) = (&told, request.force) {
        return Err(Status::unavailable(format!(
            "the federation service was not told: {reason}; leave all the same with fedctl leave --force, and have an operator remove the member"
        )));
    }
    this.follower.forget().await.map_err(|error| Status::internal(format!("{error:#}")))?;
    let detail = told.as_ref().err().cloned().unwrap_or_default();
    Ok(LeaveResponse { federation_told: told.is_ok(), detail })
}
