//! What a join does around itself in a Kubernetes cluster: a gateway where there is none, and a probe at the end.
//!
//! Owns the order: what is there is looked at, a plan is shown, and nothing is installed twice. Never spends a token.

use std::{collections::BTreeSet, time::Duration};

use federation_kube::connect::Cluster;
use federation_pki::token::JoinToken;

use serde_json::json;

use crate::{
    Ending,
    args::{
        Join, Target,
        install::{How, InstallGateway, Place, Program},
    },
    cmd::{check::pre, confirmed, install, look, probe::Probe},
    connect::{self, Gateway},
    deploy,
    failure::Failure,
    print::Console,
    render::{
        findings::{self, FindingView},
        install::InstalledView,
        join::{Installation, JoinView},
        status::PeerStateView,
    },
};

/// How long a gateway that was installed may take to run: its image is fetched.
const RUNS_WITHIN: Duration = Duration::from_secs(300);

/// Sees to it that a gateway runs in the cluster. When it cannot, the reasons were shown.
pub(super) async fn prepare(
    (join, token): (&Join, &JoinToken),
    target: &Target,
    console: &mut Console,
) -> Result<Option<Ending>, Failure> {
    let cluster = connect::cluster(target).await?;
    let installed = cluster.deployed(Program::Gateway.name(), target.namespace.as_str()).await;
    let installed = installed.map_err(|error| Failure::new(error, "a context that may read deployments there"))?;
    let mut found = if installed { Vec::new() } else { pre::facts(target, &cluster).await };
    found.extend(pre::paths(target, &cluster, &join.peer).await.findings);
    if found.iter().any(FindingView::failed) {
        let look = look(console);
        console.answer(&json!({ "joined": false, "findings": found }), || findings::table(&found, look));
        return Ok(Some(Ending::ChecksFailed));
    }
    if !found.is_empty() {
        console.note(&findings::table(&found, look(console)));
    }
    if installed {
        return Ok(None);
    }
    let wanted = installation(join, token, target)?;
    let manifests = install::read(&deploy::gateway(&wanted))?;
    let plan = Installation { server: cluster.server(), namespace: target.namespace.as_str(), manifests: &manifests };
    console.note(&plan.text());
    if join.dry_run {
        return Err(Failure::because(
            "no gateway runs there yet, so the join itself cannot be tested",
            "fedctl check --pre with the same context; or the same command without --dry-run",
        ));
    }
    if join.token.as_deref() == Some("-") && !join.yes && console.can_ask() {
        return Err(Failure::because(
            "a gateway would be installed, and nobody can be asked: standard input was the token",
            "--yes, once you have read the plan; or --token-file FILE",
        ));
    }
    if super::asks(join) {
        confirmed(console, &format!("Install the gateway of {} there?", token.cluster))?;
    }
    let objects = install::apply(&cluster, &manifests, &wanted.how, &mut console.progress("installing")).await;
    let view = InstalledView::new(cluster.server(), objects, Vec::new());
    if view.is_well() {
        return Ok(None);
    }
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(Some(Ending::ChecksFailed))
}

/// The installation that the options of a join describe.
fn installation(join: &Join, token: &JoinToken, target: &Target) -> Result<InstallGateway, Failure> {
    let Some(trust_domain) = join.gateway.trust_domain.clone() else {
        return Err(Failure::because(
            format!("no gateway is installed in the namespace {} of that cluster", target.namespace),
            "--trust-domain DOMAIN installs one (and --advertise HOST:PORT, where others can dial it); or fedctl install gateway",
        ));
    };
    Ok(InstallGateway {
        cluster: token.cluster.clone(),
        trust_domain,
        advertise: join.gateway.advertise.clone(),
        identity: join.gateway.identity,
        service_type: join.gateway.service_type,
        namespaces: Vec::new(),
        replicas: 1,
        place: Place {
            namespace: target.namespace.clone(),
            image: join.gateway.image.clone(),
            priority_class: None,
            monitoring: false,
        },
        how: How { print: false, wait: RUNS_WITHIN, force_conflicts: false },
    })
}

/// Verifies a join by a service that is exported for some seconds, to the peers that are connected.
pub(super) async fn verify(
    gateway: &mut Gateway,
    view: &JoinView,
    target: &Target,
    console: &mut Console,
) -> Result<Vec<FindingView>, Failure> {
    let connected = view.peers.iter().filter(|peer| peer.state == PeerStateView::Connected);
    let peers: BTreeSet<_> = connected.map(|peer| peer.cluster.clone()).collect();
    let cluster: Cluster = connect::cluster(target).await?;
    let probe = Probe { cluster: &cluster, name: &view.cluster, namespace: &target.namespace, peers: &peers };
    probe.run(gateway, &mut console.progress("verifying")).await
}
