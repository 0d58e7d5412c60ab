//! `fedctl revoke`: something is not believed any more, anywhere.
//!
//! Shows what will be cut before anything is; then waits until every member that can be reached has cut it, and likewise when
//! it is lifted.

use std::time::Duration;

use federation_model::revocation::Subject;
use proto::convert::revocation::Asked;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::{confirmed, look};
use crate::{
    Ending,
    args::{
        Target,
        revoke::{Revoke, RevokeHow},
    },
    connect::{self, Operator},
    failure::Failure,
    print::Console,
    render::revocations::{self, LiftedView, Plan, RevocationView, RevokedView, Told},
};

pub(super) async fn run(what: Revoke, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let mut operator = connect::operator(target).await?;
    let look = look(console);
    match what {
        Revoke::Cluster { cluster, how } => revoke(Asked::Cluster(cluster), &how, operator, console).await,
        Revoke::Id { id, how } => revoke(Asked::Subject(id), &how, operator, console).await,
        Revoke::Serial { serial, trust_domain, how } => {
            let subject = Subject::Serial { trust_domain, serial };
            revoke(Asked::Subject(subject), &how, operator, console).await
        }
        Revoke::List => {
            let mut all: Vec<_> = operator.revocations().await?.iter().map(RevocationView::from).collect();
            all.sort_by_key(RevocationView::order);
            console.answer(&json!({ "revocations": all }), || revocations::table(&all, look));
            Ok(Ending::Done)
        }
        Revoke::Reinstate { id, force, wait } => {
            let lifted = operator.reinstate(&id, force).await?;
            let mut view = LiftedView::new(id, &lifted, !wait.is_zero());
            follow("lifted", wait, &mut operator, (&mut view.told, &mut *console)).await?;
            console.answer(&view, || view.text(look));
            Ok(ending(&view.told))
        }
    }
}

fn ending(told: &Told) -> Ending {
    if told.complete { Ending::Done } else { Ending::ChecksFailed }
}

async fn revoke(
    asked: Asked,
    how: &RevokeHow,
    mut operator: Operator,
    console: &mut Console,
) -> Result<Ending, Failure> {
    let plan = Plan::new(&asked, &operator.members().await?);
    console.note(&plan.text(look(console)));
    if !how.yes {
        confirmed(console, "Revoke it?")?;
    }
    let revoked = operator.revoke(&asked, &how.reason).await?;
    for warning in &revoked.warnings {
        console.note(&format!("warning: {warning}"));
    }
    let mut view = RevokedView::new(&revoked, !how.wait.is_zero());
    follow("revoked", how.wait, &mut operator, (&mut view.told, &mut *console)).await?;
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(ending(&view.told))
}

/// Takes in who has acknowledged, until all who can be reached have or the wait is over.
async fn follow(
    what: &str,
    wait: Duration,
    operator: &mut Operator,
    (told, console): (&mut Told, &mut Console),
) -> Result<(), Failure> {
    if wait.is_zero() {
        return Ok(());
    }
    let revision = told.revision();
    let unknown = |failure: Failure| {
        failure.context(format!(
            "it is {what} from revision {revision} on, and it is not known who has acknowledged that: fedctl members shows it"
        ))
    };
    let deadline = Instant::now() + wait;
    let mut acknowledgements = operator.acknowledgements(revision).await.map_err(unknown)?;
    let mut progress = console.progress("waiting for the members");
    loop {
        match timeout_at(deadline, acknowledgements.next()).await {
            Ok(Ok(Some(news))) => {
                if let Some(news) = told.take(news) {
                    progress.done(&news);
                }
                progress.doing(&told.waiting());
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(unknown(connect::operator_failure(error))),
            Err(_elapsed) => break,
        }
    }
    told.settle();
    Ok(())
}
