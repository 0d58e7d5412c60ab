//! The authority of this cluster and its rotation, and bundles that a person vouches for.
//!
//! Owns the way from an order to the identity, and the telling of where it stands. Never decides what is safe: the keeper of
//! the identity does.

use std::{sync::Arc, time::Duration};

use federation_model::{bundle::Fingerprint, names::ClusterName};
use federation_pki::rotation::{self, Phase};
use proto::gateway::v1::{
    AcceptBundleRequest, AcceptBundleResponse, Blocker, RotateAction, RotateTrustRequest, RotationStanding, SlowClock,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tonic::Status;

use super::Administration;
use crate::identity::{Order, Standing};

/// The longest an order is followed, whatever was asked: whoever wants to know more asks again.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

pub(super) type Standings = mpsc::Sender<Result<RotationStanding, Status>>;

/// Carries out an order, and tells every change until nothing is left to do or the wait is over.
pub(super) async fn rotate(this: &Administration, request: RotateTrustRequest, told: &Standings) -> Result<(), Status> {
    let own = &this.config.cluster.name;
    if request.cluster != own.as_str() {
        return Err(Status::invalid_argument(format!(
            "this gateway is of cluster {own}: the authority of {} is replaced where its key is, at a gateway of {}",
            request.cluster, request.cluster
        )));
    }
    let order = match request.action() {
        RotateAction::Status => None,
        RotateAction::Begin => Some(Order::Rotate),
        RotateAction::Force => Some(Order::Force),
        RotateAction::Cancel => Some(Order::Cancel),
        RotateAction::Unspecified => return Err(Status::invalid_argument("the action is missing")),
    };
    let mut standing = this.identity.standing();
    if let Some(order) = order {
        tracing::info!(target: "landbridge::audit", ?order, "an operator orders");
        standing.mark_unchanged();
        this.identity.order(order).await.map_err(Status::failed_precondition)?;
        // The first word after the order; nothing new is an answer too.
        let soon = Instant::now() + Duration::from_secs(1);
        let _ = timeout_at(soon, standing.changed()).await;
    }
    let deadline = Instant::now() + Duration::from_secs(request.wait_seconds.into()).min(MAX_WAIT);
    loop {
        let now = message(this, &standing.borrow_and_update().clone());
        let done = now.done;
        let gone = |_| Status::cancelled("whoever asked went away");
        told.send(Ok(now)).await.map_err(gone)?;
        if done {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = told.closed() => return Ok(()),
            changed = timeout_at(deadline, standing.changed()) => match changed {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(()),
            }
        }
    }
}

fn message(this: &Administration, standing: &Arc<Standing>) -> RotationStanding {
    let bundle = this.identity.bundle();
    RotationStanding {
        cluster: this.config.cluster.name.to_string(),
        phase: standing.phase.label().to_owned(),
        sequence: bundle.sequence,
        authorities: bundle.fingerprints().map(|shown| shown.to_string()).collect(),
        blockers: standing.blockers.iter().map(blocker).collect(),
        behind: standing.behind.iter().map(blocker).collect(),
        fault: standing.fault.clone().unwrap_or_default(),
        clocks: standing
            .clocks
            .iter()
            .map(|(cluster, wait)| SlowClock {
                cluster: cluster.to_string(),
                wait_millis: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            })
            .collect(),
        done: standing.phase == Phase::Settled && standing.fault.is_none() && standing.behind.is_empty(),
        certificate: this.identity.live().current().fingerprint().to_string(),
    }
}

fn blocker(blocker: &rotation::Blocker) -> Blocker {
    Blocker {
        cluster: blocker.cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
        reason: blocker.reason.clone(),
        consequence: blocker.consequence.clone(),
    }
}

/// Believes what was refused.
pub(super) async fn accept(
    this: &Administration,
    request: AcceptBundleRequest,
) -> Result<AcceptBundleResponse, Status> {
    let cluster: ClusterName = request.cluster.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
    let shown: Fingerprint = request.fingerprint.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
    let accepted = this.follower.accept(cluster.clone(), shown).await;
    let sequence = accepted.map_err(|error| Status::failed_precondition(format!("{error:#}")))?;
    tracing::warn!(target: "landbridge::audit", %cluster, %shown, sequence, "an operator vouches for a bundle that was refused");
    Ok(AcceptBundleResponse { sequence })
}
