//! `fedctl install`: a program into a cluster, object by object.
//!
//! Installs nothing twice: what is there and the same stays as it is. Says of each object what became of it, and goes on after
//! one that was refused, so that all refusals are told at once; a program alone is held back then, since it would run without
//! what it needs.

use std::time::Duration;

use federation_kube::install::{Applied, Cluster, Manifest, ManifestError};
use federation_model::names::Namespace;
use serde_json::json;
use tokio::time::Instant;

use super::look;
use crate::{
    Ending,
    args::install::{How, Identity, Install, InstallFederation, InstallGateway, NAMESPACE, ServiceType},
    deploy,
    failure::{Failure, OrHint as _},
    print::{Console, Progress},
    render::install::{InstalledView, ObjectView},
};

/// How long a definition may take until objects of its kind are accepted.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn run(what: Install, console: &mut Console) -> Result<Ending, Failure> {
    let (text, how, next) = match what {
        Install::Gateway(install) => {
            check(&install)?;
            (deploy::gateway(&install), install.how.clone(), after_gateway(&install))
        }
        Install::Federation(install) => (deploy::federation(&install), install.how.clone(), after_federation(&install)),
        Install::Crds(install) => (deploy::crds(), install.how, Vec::new()),
    };
    let manifests = read(&text)?;
    if how.print {
        let items: Vec<_> = manifests.iter().map(Manifest::json).collect();
        console.answer(&json!({ "apiVersion": "v1", "kind": "List", "items": items }), || text);
        return Ok(Ending::Done);
    }
    let cluster = connect(how.context.as_deref()).await?;
    let objects = apply(&cluster, &manifests, &how, &mut console.progress("installing")).await;
    let view = InstalledView::new(cluster.server(), objects, next);
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(if view.is_well() { Ending::Done } else { Ending::ChecksFailed })
}

/// What no single option shows.
fn check(install: &InstallGateway) -> Result<(), Failure> {
    match install.identity {
        Identity::SelfSigned if install.replicas > 1 => Err(Failure::because(
            "several gateways need one authority, and --identity self-signed makes one for each",
            "--identity cert-manager, or --replicas 1",
        )),
        Identity::SelfSigned | Identity::CertManager => Ok(()),
    }
}

fn read(text: &str) -> Result<Vec<Manifest>, Failure> {
    let read: Result<_, ManifestError> = Manifest::read_all(text);
    read.or_hint("the manifests of this fedctl are broken", "fedctl of another version")
}

pub(super) async fn connect(context: Option<&str>) -> Result<Cluster, Failure> {
    let connected = Cluster::connect(context).await;
    connected.or_hint("cannot connect to the cluster", "kubectl config get-contexts, then --context NAME")
}

async fn apply(cluster: &Cluster, manifests: &[Manifest], how: &How, progress: &mut Progress<'_>) -> Vec<ObjectView> {
    let mut objects = Vec::new();
    for manifest in manifests {
        if manifest.runs_pods() && !objects.iter().all(ObjectView::is_well) {
            progress.done(&format!("{:<11} {manifest}", "held back"));
            objects.push(ObjectView::held_back(manifest));
            continue;
        }
        progress.doing(&format!("applying {manifest}"));
        let applied = cluster.apply(manifest, how.force_conflicts).await;
        progress.done(&format!("{:<11} {manifest}", applied.label()));
        let mut object = ObjectView::new(manifest, &applied);
        if manifest.is_definition() && applied == Applied::Created {
            object.wait(cluster, manifest, Instant::now() + ESTABLISHED_WITHIN, progress).await;
        }
        objects.push(object);
    }
    // Nothing becomes available without what was refused.
    if !how.wait.is_zero() && objects.iter().all(ObjectView::is_well) {
        let deadline = Instant::now() + how.wait;
        for (manifest, object) in manifests.iter().zip(&mut objects) {
            if manifest.runs_pods() {
                object.wait(cluster, manifest, deadline, progress).await;
            }
        }
    }
    objects
}

impl ObjectView {
    /// Waits until the object can be used, and keeps the reason when it cannot.
    async fn wait(&mut self, cluster: &Cluster, manifest: &Manifest, until: Instant, progress: &mut Progress<'_>) {
        let waited = cluster
            .wait(manifest, until, |reason| {
                progress.doing(&format!("{manifest}: {reason}"));
                progress.done(&format!("{:<11} {manifest}: {reason}", "waiting"));
            })
            .await;
        match waited {
            Ok(()) => progress.done(&format!("{:<11} {manifest}", "available")),
            Err(waiting) => self.late(waiting.reason),
        }
    }
}

fn after_gateway(install: &InstallGateway) -> Vec<String> {
    let namespace = &install.place.namespace;
    let cluster = &install.cluster;
    let mut next = Vec::new();
    let balanced = match install.service_type {
        ServiceType::LoadBalancer => true,
        ServiceType::NodePort | ServiceType::ClusterIp | ServiceType::None => false,
    };
    if install.advertise.is_empty() && balanced {
        next.push(format!(
            "kubectl get service -n {namespace} landbridge-gateway   for the address that other clusters reach, then the same \
             command with --advertise ADDRESS:15443; until then this gateway only dials out"
        ));
    }
    next.push(format!(
        "fedctl token create --cluster {cluster}   on the federation side, then kubectl exec -i -n {namespace} \
         deploy/landbridge-gateway -- fedctl join -   with the token on standard input"
    ));
    next.push(format!(
        "{}   so that the cluster's DNS asks the gateways about clusterset.local",
        dns_install(namespace)
    ));
    next
}

fn dns_install(namespace: &Namespace) -> String {
    let option = if namespace.as_str() == NAMESPACE { String::new() } else { format!(" --namespace {namespace}") };
    format!("fedctl dns install{option}")
}

fn after_federation(install: &InstallFederation) -> Vec<String> {
    let namespace = &install.place.namespace;
    let mut next = Vec::new();
    if install.names.is_empty() {
        next.push(format!(
            "the same command with --name HOST: tokens name {}, which other clusters cannot resolve",
            deploy::federation_name(&install.place)
        ));
    }
    next.push(format!(
        "kubectl exec -n {namespace} landbridge-federation-0 -- fedctl token create --cluster NAME   lets a cluster join"
    ));
    next
}
