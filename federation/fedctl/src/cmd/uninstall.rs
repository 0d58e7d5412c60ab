//! `fedctl uninstall`: a program out of a cluster.
//!
//! Removes what it finds by label, the program first, so that nothing is made again behind its back. Never removes definitions,
//! the namespace, or what cannot be made again: keys and members.

use federation_kube::{
    connect::Cluster,
    install::{Found, Kind, Removed, Selection},
};
use tokio::time::Instant;

use super::{confirmed, look};
use crate::{
    Ending,
    args::{
        Target,
        install::{Program, Uninstall},
    },
    connect,
    failure::Failure,
    print::{Console, Progress},
    render::{
        count,
        install::{RemovedView, UninstalledView},
    },
};

/// Where objects of a kind are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the namespace of the program.
    Own,
    /// In any namespace, or in those that it was installed for.
    Served,
    /// In no namespace.
    Cluster,
}

const fn kind(group: &'static str, version: &'static str, kind: &'static str) -> Kind {
    Kind { group, version, kind }
}

/// What runs.
const RUNNING: [(Kind, Place); 2] =
    [(kind("apps", "v1", "Deployment"), Place::Own), (kind("apps", "v1", "StatefulSet"), Place::Own)];

/// What a gateway has made: derived Services, the slices that point them at it, imports, and what it says of the cluster.
const MADE: [(Kind, Place); 5] = [
    (kind("multicluster.x-k8s.io", "v1beta1", "ServiceImport"), Place::Served),
    (kind("multicluster.x-k8s.io", "v1alpha1", "ServiceImport"), Place::Served),
    (kind("about.k8s.io", "v1beta1", "ClusterProperty"), Place::Cluster),
    (kind("discovery.k8s.io", "v1", "EndpointSlice"), Place::Own),
    (kind("", "v1", "Service"), Place::Own),
];

/// What was installed around it, the rights last.
const AROUND: [(Kind, Place); 13] = [
    (kind("policy", "v1", "PodDisruptionBudget"), Place::Own),
    (kind("networking.k8s.io", "v1", "NetworkPolicy"), Place::Own),
    (kind("", "v1", "Service"), Place::Own),
    (kind("", "v1", "ConfigMap"), Place::Own),
    (kind("monitoring.coreos.com", "v1", "ServiceMonitor"), Place::Own),
    (kind("monitoring.coreos.com", "v1", "PrometheusRule"), Place::Own),
    (kind("cert-manager.io", "v1", "Certificate"), Place::Own),
    (kind("cert-manager.io", "v1", "Issuer"), Place::Own),
    (kind("rbac.authorization.k8s.io", "v1", "RoleBinding"), Place::Served),
    (kind("rbac.authorization.k8s.io", "v1", "Role"), Place::Served),
    (kind("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"), Place::Cluster),
    (kind("rbac.authorization.k8s.io", "v1", "ClusterRole"), Place::Cluster),
    (kind("", "v1", "ServiceAccount"), Place::Own),
];

/// Groups of other programs, of which a gateway has objects only when somebody asked for them.
const OF_OTHERS: [&str; 2] = ["monitoring.coreos.com", "cert-manager.io"];

/// What is there, and what could not be looked at.
#[derive(Default)]
struct Inventory {
    running: Vec<Found>,
    rest: Vec<Found>,
    unseen: Vec<String>,
}

pub(super) async fn run(what: Uninstall, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let cluster = connect::cluster(target).await?;
    let inventory = look_around(&cluster, &what).await;
    let all = || inventory.running.iter().chain(&inventory.rest);
    if let Some(release) = all().find_map(|found| found.release.as_deref()) {
        return Err(Failure::because(
            format!("it was installed by Helm, as the release {release}"),
            format!("helm uninstall -n {} {release}", what.namespace),
        ));
    }
    if !what.yes && all().next().is_some() {
        for found in all() {
            console.note(&format!("  {found}"));
        }
        confirmed(console, &question(all().count(), &cluster))?;
    }
    let removed = remove(&cluster, &what, &inventory, &mut console.progress("removing")).await;
    let view = UninstalledView::new(cluster.server(), removed, inventory.unseen, kept(&what));
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(if view.is_well() { Ending::Done } else { Ending::ChecksFailed })
}

fn question(objects: usize, cluster: &Cluster) -> String {
    format!("Remove {} from {}?", count(objects, "object", "objects"), cluster.server())
}

async fn look_around(cluster: &Cluster, what: &Uninstall) -> Inventory {
    let name = what.program.name();
    let installed = format!("app.kubernetes.io/name={name},app.kubernetes.io/part-of=landbridge");
    let made = format!("app.kubernetes.io/managed-by={name}");
    let mut inventory = Inventory::default();
    inventory.running = find(cluster, what, &RUNNING, &installed, &mut inventory.unseen).await;
    inventory.rest = find(cluster, what, &MADE, &made, &mut inventory.unseen).await;
    inventory.rest.extend(find(cluster, what, &AROUND, &installed, &mut inventory.unseen).await);
    inventory
}

async fn find(
    cluster: &Cluster,
    what: &Uninstall,
    kinds: &[(Kind, Place)],
    labels: &str,
    unseen: &mut Vec<String>,
) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    for (kind, place) in kinds {
        for namespace in namespaces(what, *place) {
            match cluster.find(*kind, Selection { labels, namespace }).await {
                // An object that is served in two versions is found twice.
                Ok(found) => {
                    let new: Vec<_> =
                        found.into_iter().filter(|one| !all.iter().any(|seen| seen.is_same(one))).collect();
                    all.extend(new);
                }
                // A tenant that may not look at them has installed none.
                Err(_) if !what.namespaces.is_empty() && OF_OTHERS.contains(&kind.group) => {}
                Err(refusal) => unseen.push(format!("{}: {}", kind.kind, refusal.reason)),
            }
        }
    }
    all
}

/// The namespaces that are looked at; none: all of them at once, and objects of the whole cluster.
fn namespaces(what: &Uninstall, place: Place) -> Vec<Option<&str>> {
    let own = Some(what.namespace.as_str());
    let tenant = !what.namespaces.is_empty();
    match place {
        Place::Own => vec![own],
        Place::Served if tenant => what.namespaces.iter().map(|name| Some(name.as_str())).chain([own]).collect(),
        // A tenant has nothing there, and may not look.
        Place::Cluster if tenant => Vec::new(),
        Place::Served | Place::Cluster => vec![None],
    }
}

async fn remove(
    cluster: &Cluster,
    what: &Uninstall,
    inventory: &Inventory,
    progress: &mut Progress<'_>,
) -> Vec<RemovedView> {
    let mut removed = Vec::new();
    let deadline = Instant::now() + what.wait;
    for found in &inventory.running {
        let mut view = delete(cluster, found, progress).await;
        if !what.wait.is_zero() && view.is_well() {
            progress.doing(&format!("{found} drains"));
            if !cluster.is_gone(found, deadline).await {
                view.late();
            }
        }
        removed.push(view);
    }
    for found in &inventory.rest {
        removed.push(delete(cluster, found, progress).await);
    }
    removed
}

async fn delete(cluster: &Cluster, found: &Found, progress: &mut Progress<'_>) -> RemovedView {
    let removed = cluster.delete(found).await;
    let word = match &removed {
        Removed::Deleted => "deleted",
        Removed::Gone => "gone",
        Removed::Refused(_) => "refused",
    };
    progress.done(&format!("{word:<11} {found}"));
    RemovedView::new(found.to_string(), word, removed)
}

/// What stays, and how it goes too.
fn kept(what: &Uninstall) -> Vec<String> {
    let namespace = &what.namespace;
    let mut kept = vec![
        "the definitions of kinds, since their objects would go with them: kubectl delete crd NAME".to_owned(),
        format!("the namespace: kubectl delete namespace {namespace}"),
    ];
    if what.program == Program::Gateway {
        kept.push(
            "what fedctl dns install has put into the DNS of the cluster, which asks nobody then: fedctl dns uninstall"
                .to_owned(),
        );
    }
    kept.push(match what.program {
        Program::Gateway => format!(
            "the cluster's authority and membership: kubectl delete secret -n {namespace} landbridge-gateway-state, after fedctl \
             members remove"
        ),
        Program::Federation => format!(
            "the members, the audit log and the authority of the set: kubectl delete pvc -n {namespace} \
             store-landbridge-federation-0"
        ),
    });
    kept
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(line: &str) -> Uninstall {
        let Command::Uninstall(what) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!("{line} removes nothing");
        };
        what
    }

    #[test]
    fn a_tenant_looks_only_where_it_may() {
        let whole = parse("fedctl uninstall gateway");
        assert_eq!(namespaces(&whole, Place::Own), [Some("landbridge-system")]);
        assert_eq!((namespaces(&whole, Place::Served), namespaces(&whole, Place::Cluster)), (vec![None], vec![None]));
        let tenant = parse("fedctl uninstall gateway --namespace team-a --namespaces team-a,team-b");
        assert_eq!(namespaces(&tenant, Place::Served), [Some("team-a"), Some("team-b"), Some("team-a")]);
        assert!(namespaces(&tenant, Place::Cluster).is_empty());
    }

    #[test]
    fn everything_that_is_installed_is_looked_for() {
        let install = "fedctl install gateway --cluster a --trust-domain a.example --monitoring";
        let kinds: Vec<_> = RUNNING.iter().chain(&AROUND).map(|(kind, _)| (kind.group, kind.kind)).collect();
        for options in ["--identity cert-manager", "--namespaces team-a"] {
            let Command::Install(crate::args::install::Install::Gateway(install)) =
                Cli::try_parse_from(format!("{install} {options}").split_whitespace()).unwrap().command
            else {
                panic!("{options}");
            };
            let manifests = federation_kube::install::Manifest::read_all(&crate::deploy::gateway(&install)).unwrap();
            for manifest in
                manifests.iter().filter(|manifest| !manifest.is_definition() && manifest.kind() != "Namespace")
            {
                assert!(kinds.contains(&(manifest.group(), manifest.kind())), "{manifest} would stay");
                let labels = &manifest.json()["metadata"]["labels"];
                assert_eq!(labels["app.kubernetes.io/name"], "landbridge-gateway", "{manifest} would not be found");
                assert_eq!(labels["app.kubernetes.io/part-of"], "landbridge", "{manifest} would not be found");
            }
        }
    }
}
