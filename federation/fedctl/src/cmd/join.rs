//! `fedctl join`: this cluster becomes a member of a cluster set.
//!
//! Shows who joins whom, with both fingerprints, before the token is spent; then follows the gateway until the peers are
//! connected. In a Kubernetes cluster a gateway is installed first where there is none, and a probe verifies the join.

use std::{fs::File, io::Read, time::Duration};

use federation_client::gateway::Steps;
use federation_model::{
    bundle::Fingerprint,
    finding::{Finding, Level},
};
use federation_pki::token::{JoinToken, MAX_TOKEN};
use proto::gateway::v1::{Done, JoinRequest, Status, join_progress::Step};

use super::{confirmed, look};
use crate::{
    Ending,
    args::{Join, Target},
    connect::{self, Gateway},
    failure::{Failure, OrHint},
    print::{Console, Progress},
    render::{
        findings::{self, FindingView},
        join::{JoinView, Plan},
    },
};

mod cluster;

/// How long the join itself may take, beside the wait for the peers: reaching the federation service over several addresses.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most bytes read for a token: the token, and the white space around it.
const MAX_INPUT: u64 = MAX_TOKEN as u64 + 1024;

pub(super) async fn run(join: Join, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let (text, token) = token(&join, console)?;
    check_pin(&token, join.federation_fingerprint.as_ref())?;
    if target.context.is_none() {
        check_options(&join)?;
    } else if let Some(ending) = cluster::prepare((&join, &token), target, console).await? {
        return Ok(ending);
    }
    let mut gateway = connect::gateway(target).await?;
    let status = gateway.status().await?;
    let plan = Plan::new(&status, &token);
    check_plan(&status, &token)?;
    let mut view = JoinView { context: target.context.clone(), ..JoinView::of(&plan, join.dry_run) };
    if is_member(&status, &token)? && !join.dry_run {
        view.joined = true;
        view.already_member = true;
        view.pending = status.federation.as_ref().is_some_and(|federation| federation.pending);
        view.members = u32::try_from(status.peers.len()).unwrap_or(u32::MAX).saturating_add(1);
        let look = look(console);
        console.answer(&view, || view.text(look));
        return Ok(Ending::Done);
    }
    console.note(&plan.text(look(console)));
    if asks(&join) {
        confirmed(console, "Compare the fingerprints with those the operator sees. Join?")?;
    }
    let wait_seconds = u32::try_from(join.wait.as_secs()).unwrap_or(u32::MAX);
    let request = JoinRequest { token: text, dry_run: join.dry_run, wait_seconds };
    carry_out(&mut gateway, request, &mut view, console).await?;
    if view.joined && target.context.is_some() && !join.no_probe {
        view.probes = cluster::verify(&mut gateway, &view, target, console).await?;
    }
    finish(&join, &view, console)
}

/// Has a gateway join, and follows it to the end.
pub(super) async fn carry_out(
    gateway: &mut Gateway,
    request: JoinRequest,
    view: &mut JoinView,
    console: &mut Console,
) -> Result<(), Failure> {
    let patience = Duration::from_secs(request.wait_seconds.into()) + PATIENCE;
    let progress = gateway.join(request).await?;
    let followed = tokio::time::timeout(patience, follow(progress, view, console)).await;
    let done =
        followed.or_hint("the gateway has not finished the join", "fedctl status; the join may still go on")??;
    if let Some(done) = done {
        (view.peers_connected, view.peers_expected) = (done.connected, done.expected);
    }
    Ok(())
}

/// The token, as text and as what it says.
fn token(join: &Join, console: &mut Console) -> Result<(String, JoinToken), Failure> {
    let text = match (&join.token, &join.token_file) {
        (Some(token), _) if token != "-" => token.clone(),
        (None, Some(file)) => {
            let mut text = String::new();
            File::open(file).and_then(|file| file.take(MAX_INPUT).read_to_string(&mut text)).or_hint(
                format!("the token file {} cannot be read", file.display()),
                "another file, or - to paste it",
            )?;
            text
        }
        (Some(_) | None, _) => console
            .read_input(MAX_INPUT)
            .or_hint("the token cannot be read from standard input", "fedctl join --token-file FILE")?,
    };
    let text = text.trim().to_owned();
    let token = text.parse().or_hint(
        "this token cannot be used",
        "fedctl token create --cluster NAME on the federation side, and copy all of it",
    )?;
    Ok((text, token))
}

/// Whether a person is asked before anything is done. Whoever read the token from standard input has nothing left to answer with.
fn asks(join: &Join) -> bool {
    !join.dry_run && !join.yes && join.federation_fingerprint.is_none() && join.token.as_deref() != Some("-")
}

/// Options that mean nothing without a cluster of Kubernetes.
fn check_options(join: &Join) -> Result<(), Failure> {
    let given = !join.peer.is_empty() || join.no_probe || join.gateway.is_given();
    if given {
        return Err(Failure::because(
            "--peer, --no-probe and the options of an installation are for a gateway in Kubernetes",
            "--context CONTEXT, or leave them out",
        ));
    }
    Ok(())
}

/// Whether the token is of the federation that a person expects.
fn check_pin(token: &JoinToken, expected: Option<&Fingerprint>) -> Result<(), Failure> {
    if let Some(expected) = expected.filter(|expected| **expected != token.pin) {
        return Err(Failure::because(
            format!("the token belongs to a federation with the authority {}, not {expected}", token.pin),
            "ask the operator for a new token and for its fingerprint; do not use this one",
        ));
    }
    Ok(())
}

/// What can be refused before anything is sent.
fn check_plan(status: &Status, token: &JoinToken) -> Result<(), Failure> {
    if status.cluster != token.cluster.as_str() {
        return Err(Failure::because(
            format!("the token is for cluster {}, and this gateway is of cluster {}", token.cluster, status.cluster),
            format!("fedctl token create --cluster {} on the federation side", status.cluster),
        ));
    }
    Ok(())
}

/// Whether the cluster is in this cluster set already.
fn is_member(status: &Status, token: &JoinToken) -> Result<bool, Failure> {
    let Some(federation) = status.federation.as_ref().filter(|federation| federation.joined) else { return Ok(false) };
    if federation.authority == token.pin.to_string() {
        return Ok(true);
    }
    Err(Failure::because(
        format!("{} is a member of another cluster set, with the authority {}", status.cluster, federation.authority),
        "fedctl leave, then join again",
    ))
}

/// Takes in the steps of the join until it ends.
async fn follow(mut steps: Steps, view: &mut JoinView, console: &mut Console) -> Result<Option<Done>, Failure> {
    let mut progress = console.progress(if view.dry_run { "testing" } else { "joining" });
    while let Some(step) = steps.next().await.map_err(connect::gateway_failure)? {
        if let Step::Done(done) = step {
            return Ok(Some(done));
        }
        take(step, view, &mut progress)?;
    }
    Ok(None)
}

fn take(step: Step, view: &mut JoinView, progress: &mut Progress<'_>) -> Result<(), Failure> {
    match step {
        Step::Fingerprints(shown) if shown.federation_authority != view.federation_authority => {
            return Err(Failure::because(
                format!(
                    "the federation service has the authority {}, not the one of the token",
                    shown.federation_authority
                ),
                "ask the operator whether the service was replaced, and for a new token",
            ));
        }
        Step::Fingerprints(_) => progress.doing("asking the federation service"),
        Step::Finding(finding) => {
            let unknown =
                |error| Finding::failed("answer", format!("{error}"), "the same version of fedctl and gateway");
            let finding = FindingView::new("gateway", Finding::try_from(finding).unwrap_or_else(unknown));
            if finding.level != Level::Ok && !view.dry_run {
                progress.done(&format!("{}: {}", finding.check, finding.detail));
            }
            view.findings.push(finding);
        }
        Step::Joined(joined) => {
            view.joined = true;
            view.already_member = joined.already;
            view.pending = joined.pending;
            view.members = joined.members;
            if joined.pending {
                progress.done("the federation service has taken the token; the join waits for approval");
            } else {
                progress.done(&format!("the federation service has accepted {}", view.cluster));
                progress.doing("waiting for the peers");
            }
        }
        Step::Peer(peer) => progress.done(&view.peer(peer)),
        // The caller has taken the end already.
        Step::Done(_) => {}
    }
    Ok(())
}

/// Shows what came of it.
fn finish(join: &Join, view: &JoinView, console: &mut Console) -> Result<Ending, Failure> {
    let failed = view.findings.iter().chain(&view.probes).any(FindingView::failed);
    let look = look(console);
    if join.dry_run {
        console.answer(view, || findings::table(&view.findings, look));
    } else if view.joined {
        console.answer(view, || view.text(look));
    } else if failed {
        console.answer(view, || findings::table(&view.findings, look));
    } else {
        return Err(Failure::because(
            "the gateway ended the join without a result",
            "fedctl status, and the gateway's log",
        ));
    }
    let missing = !join.wait.is_zero() && view.peers_connected < view.peers_expected;
    Ok(if failed || missing { Ending::ChecksFailed } else { Ending::Done })
}
