//! `fedctl revoke`: something is not believed any more, anywhere.
//!
//! Shows what will be cut before anything is; then waits until every member that can be reached has cut it.

use std::time::Duration;

use federation_client::operator::Revoked;
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
    render::revocations::{self, Plan, RevocationView, RevokedView},
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
        Revoke::Reinstate { id, force } => {
            let lifted = operator.reinstate(&id, force).await?;
            let (view, revision) = (lifted.revocation.as_ref().map(RevocationView::from), lifted.revision);
            console.answer(&json!({ "id": id, "revision": revision, "revocation": view }), || {
                revocations::lifted(id, lifted.revocation.as_ref(), revision)
            });
            Ok(Ending::Done)
        }
    }
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
    if !how.wait.is_zero() {
        follow(&revoked, how.wait, &mut operator, (&mut view, &mut *console)).await?;
    }
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(if view.complete { Ending::Done } else { Ending::ChecksFailed })
}

/// Takes in who has acknowledged, until all who can be reached have or the wait is over.
async fn follow(
    revoked: &Revoked,
    wait: Duration,
    operator: &mut Operator,
    (view, console): (&mut RevokedView, &mut Console),
) -> Result<(), Failure> {
    let unknown = |failure: Failure| {
        failure.context(format!(
            "it is revoked from revision {} on, and it is not known who has acknowledged that: fedctl members shows it",
            revoked.revision
        ))
    };
    let deadline = Instant::now() + wait;
    let mut acknowledgements = operator.acknowledgements(revoked.revision).await.map_err(unknown)?;
    let mut progress = console.progress("waiting for the members");
    loop {
        match timeout_at(deadline, acknowledgements.next()).await {
            Ok(Ok(Some(news))) => {
                if let Some(told) = view.take(news) {
                    progress.done(&told);
                }
                progress.doing(&view.waiting());
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(unknown(connect::operator_failure(error))),
            Err(_elapsed) => break,
        }
    }
    view.settle();
    Ok(())
}
