//! `fedctl dns`: the DNS of a cluster asks the gateways about the zone of the cluster set, or no more.
//!
//! Shows the change of each text before it is made. Never writes anything but these texts, and what is not ours in them stays.

use federation_kube::{
    connect::Cluster,
    dns::{Action, DnsError, Intent, Step},
    install::Applied,
};
use federation_model::sni::Zone;

use super::{confirmed, look};
use crate::{
    Ending,
    args::{
        Target,
        dns::{Dns, DnsInstall, DnsStatus, DnsUninstall},
    },
    connect,
    failure::Failure,
    print::Console,
    render::{
        dns::{PlanView, StandingView},
        install::{InstalledView, ObjectView},
    },
};

/// How it is done.
#[derive(Clone, Copy)]
struct How {
    print: bool,
    yes: bool,
}

pub(super) async fn run(what: Dns, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    match what {
        Dns::Install(DnsInstall { zone, print, force, yes }) => {
            let cluster = connect::cluster(target).await?;
            let servers = cluster.dns_servers(&target.namespace).await.map_err(failed)?;
            let intent = Intent { zone, action: Action::Install { servers, force } };
            change(&cluster, &intent, How { print, yes }, target, console).await
        }
        Dns::Uninstall(DnsUninstall { zone, print, yes }) => {
            let cluster = connect::cluster(target).await?;
            let intent = Intent { zone, action: Action::Uninstall };
            change(&cluster, &intent, How { print, yes }, target, console).await
        }
        Dns::Status(DnsStatus { zone }) => status(&zone, target, console).await,
    }
}

async fn change(
    cluster: &Cluster,
    intent: &Intent,
    how: How,
    target: &Target,
    console: &mut Console,
) -> Result<Ending, Failure> {
    let steps = cluster.survey_dns().await.map_err(failed)?.plan(intent);
    let plan = PlanView::new(cluster.server(), &steps);
    if how.print {
        console.answer(&plan, || plan.text());
        return Ok(if plan.is_well() { Ending::Done } else { Ending::ChecksFailed });
    }
    if plan.changes() {
        console.note(&plan.text());
        if !how.yes {
            confirmed(console, &format!("Change this in {}?", cluster.server()))?;
        }
    }
    let notes = notes(&steps);
    let (mut objects, mut progress) = (Vec::new(), console.progress("writing"));
    for step in steps {
        let at = step.place.clone();
        let applied = cluster.carry_out(step, intent).await;
        progress.done(&format!("{:<11} {at}", applied.label()));
        objects.push((at, applied));
    }
    drop(progress);
    let changed = objects.iter().any(|(_, applied)| matches!(applied, Applied::Created | Applied::Configured));
    let objects = objects.iter().map(|(at, applied)| {
        let name = (Some(at.namespace()), at.name.as_str());
        ObjectView::of("ConfigMap", name, applied)
    });
    let next = if changed { next(intent, target) } else { Vec::new() };
    let view = InstalledView::new(cluster.server(), objects.collect(), next).noting(notes);
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(if view.is_well() { Ending::Done } else { Ending::ChecksFailed })
}

/// What a person should know, whatever becomes of the rest.
fn notes(steps: &[Step]) -> Vec<String> {
    let restart = |step: &Step| {
        let workload = step.restart.as_ref()?;
        let namespace = step.place.namespace();
        Some(format!("{workload} does not follow changes by itself: kubectl rollout restart -n {namespace} {workload}"))
    };
    steps.iter().flat_map(|step| step.notes.iter().cloned().chain(restart(step))).collect()
}

fn next(intent: &Intent, target: &Target) -> Vec<String> {
    let (namespace, zone) = (&target.namespace, &intent.zone);
    let context = target.context.as_ref().map(|context| format!(" --context {context}")).unwrap_or_default();
    match intent.action {
        Action::Install { .. } => vec![format!(
            "fedctl check{context} --namespace {namespace}   in two minutes, when the change has been read, says whether pods resolve {zone}"
        )],
        Action::Uninstall => Vec::new(),
    }
}

async fn status(zone: &Zone, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let cluster = connect::cluster(target).await?;
    let servers = match cluster.dns_servers(&target.namespace).await {
        Ok(servers) => Ok(servers),
        Err(error @ (DnsError::NoService { .. } | DnsError::NoAddress { .. })) => Err(error),
        Err(error @ (DnsError::NotFound | DnsError::Unread { .. })) => return Err(failed(error)),
    };
    let survey = cluster.survey_dns().await.map_err(failed)?;
    let found = survey.standing(zone, servers.as_deref().unwrap_or_default());
    let view = StandingView::new(cluster.server(), zone, &servers, found);
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(if view.is_well() { Ending::Done } else { Ending::ChecksFailed })
}

fn failed(error: DnsError) -> Failure {
    let remedy = error.remedy();
    Failure::new(error, remedy)
}
