//! `fedctl policy`: who may reach what, asked of the gateway that decides.
//!
//! The gateway of the cluster that has the service decides, so that is the one to ask.

use std::collections::BTreeSet;

use federation_model::{policy::PolicyKey, time::Timestamp};
use proto::gateway::v1::{ReportPoliciesRequest, TestPolicyRequest};

use super::look;
use crate::{
    Ending,
    args::{
        Target,
        policy::{Policy, PolicyReport, PolicyTest},
    },
    connect,
    failure::Failure,
    print::Console,
    render::policy::{PoliciesView, PolicyView, ReportView, TestsView},
};

pub(super) async fn run(what: Policy, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    match what {
        Policy::Test(test) => self::test(test, target, console).await,
        Policy::List => list(target, console).await,
        Policy::Report(report) => self::report(report, target, console).await,
        Policy::Promote(promote) => super::promote::run(promote, target, console).await,
    }
}

async fn test(test: PolicyTest, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let PolicyTest { from, assurance, cluster, to, method, path } = test;
    let request = TestPolicyRequest {
        principal: from.map(|id| id.to_string()).unwrap_or_default(),
        assurance: assurance.map(|word| word.value().label().to_owned()).unwrap_or_default(),
        cluster: cluster.map(|cluster| cluster.to_string()).unwrap_or_default(),
        namespace: to.service.namespace.to_string(),
        service: to.service.name.to_string(),
        port: to.port.map_or(0, |port| port.number().into()),
        method: method.unwrap_or_default(),
        path: path.unwrap_or_default(),
    };
    let view = TestsView::from(connect::gateway(target).await?.test_policy(request).await?);
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(if view.all_allowed() { Ending::Done } else { Ending::ChecksFailed })
}

async fn list(target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let view = PoliciesView::from(connect::gateway(target).await?.policies().await?);
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(if view.is_well() { Ending::Done } else { Ending::ChecksFailed })
}

async fn report(report: PolicyReport, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let since = Timestamp(console.now.0.saturating_sub(report.since.as_secs()));
    let mut gateways = Vec::new();
    for (_, gateway) in connect::gateways(target).await? {
        gateways.push(gateway?);
    }
    let policy = report.policy.map(|policy| policy.0);
    let view = ask(&mut gateways, since, policy.as_ref()).await?;
    if let Some(policy) = policy.filter(|_| view.calls.is_empty() && view.on_trial.is_empty()) {
        return Err(Failure::because(
            format!("the gateway has no AuthorizationPolicy {policy} in AUDIT, and had none since then"),
            "fedctl policy list",
        ));
    }
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(Ending::Done)
}

/// What policies would have refused since a moment, one of them or all, by the gateways of one cluster together.
pub(super) async fn ask(
    gateways: &mut [connect::Gateway],
    since: Timestamp,
    policy: Option<&PolicyKey>,
) -> Result<ReportView, Failure> {
    let wanted = policy.map(ToString::to_string);
    let (mut on_trial, mut reports) = (BTreeSet::new(), Vec::new());
    for gateway in gateways {
        let policies = PoliciesView::from(gateway.policies().await?).policies;
        let trials = policies.iter().filter(|policy| policy.is_on_trial()).map(PolicyView::key);
        on_trial.extend(trials.filter(|key| wanted.as_ref().is_none_or(|wanted| wanted == key)));
        let request = ReportPoliciesRequest { since: since.0, policy: wanted.clone().unwrap_or_default() };
        reports.push(gateway.policy_report(request).await?);
    }
    Ok(ReportView::new(since, on_trial.into_iter().collect(), reports))
}
