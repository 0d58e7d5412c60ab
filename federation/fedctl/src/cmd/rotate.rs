//! `fedctl trust rotate`: another authority for a cluster, while traffic goes on.
//!
//! The gateway does it, and goes on when this command ends; repeating the command follows it again.

use proto::gateway::v1::{RotateAction, RotateTrustRequest, RotationStanding};

use super::confirmed;
use crate::{
    Ending,
    args::{Rotate, Target},
    connect,
    failure::Failure,
    print::{Console, Progress},
    render::rotation::RotationView,
};

pub(super) async fn run(rotate: Rotate, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let mut gateway = connect::gateway(target).await?;
    let request = |action: RotateAction, wait_seconds| RotateTrustRequest {
        cluster: rotate.cluster.to_string(),
        action: action.into(),
        wait_seconds,
    };
    let now = last(gateway.rotate_trust(request(RotateAction::Status, 0)).await?, None).await?;
    if rotate.status {
        console.answer(&now, || now.text());
        return Ok(ending(&now));
    }
    let action = if rotate.force {
        RotateAction::Force
    } else if rotate.cancel {
        RotateAction::Cancel
    } else {
        RotateAction::Begin
    };
    if !rotate.yes {
        confirmed(console, &question(action, &now))?;
    }
    let wait = u32::try_from(rotate.wait.as_secs()).unwrap_or(u32::MAX);
    let steps = gateway.rotate_trust(request(action, wait)).await?;
    let mut progress = console.progress("rotating");
    let end = last(steps, Some(&mut progress)).await?;
    drop(progress);
    console.answer(&end, || end.text());
    Ok(ending(&end))
}

fn question(action: RotateAction, now: &RotationView) -> String {
    let cluster = &now.cluster;
    match action {
        RotateAction::Force => format!("{}Pass the gate of {cluster} all the same?", now.consequences()),
        RotateAction::Cancel => format!("Give up the rotation of the authority of {cluster}?"),
        RotateAction::Begin | RotateAction::Status | RotateAction::Unspecified if now.is_under_way() => {
            format!("The rotation of {cluster} is under way ({}). Follow it?", now.phase)
        }
        RotateAction::Begin | RotateAction::Status | RotateAction::Unspecified => {
            format!("Replace the authority of {cluster}? Every member is waited for, and no connection is cut.")
        }
    }
}

/// The last word; every change before it is told.
async fn last(mut steps: connect::Rotation, mut progress: Option<&mut Progress<'_>>) -> Result<RotationView, Failure> {
    let mut held: Option<RotationView> = None;
    while let Some(step) = steps.next().await.map_err(connect::gateway_failure)? {
        let now = RotationView::from(step);
        if let Some(progress) = progress.as_deref_mut() {
            for line in now.news(held.as_ref()) {
                progress.done(&line);
            }
            progress.doing(&now.doing());
        }
        held = Some(now);
    }
    held.ok_or_else(|| Failure::because("the gateway told nothing", "fedctl status, and the gateway's log"))
}

fn ending(now: &RotationView) -> Ending {
    if now.done { Ending::Done } else { Ending::ChecksFailed }
}

impl From<RotationStanding> for RotationView {
    fn from(standing: RotationStanding) -> Self {
        Self::new(standing)
    }
}
