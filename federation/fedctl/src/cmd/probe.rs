//! A service that is exported for as long as it takes the other clusters to say that they reach it.
//!
//! Owns what is exported (the port of the gateway's own DNS, which is no secret and refuses what it does not serve), and that it
//! is gone again, also when the command is interrupted; what a killed one leaves goes with the next. The clusters that import it say so themselves, over the tunnels: no rights there are
//! needed. Never opens a connection.

use std::{collections::BTreeSet, time::Duration};

use federation_kube::{
    connect::Cluster,
    install::{Applied, Kind, Manifest, Removed, Selection},
};
use federation_model::{finding::Finding, names::Namespace, stable_hash::fnv1a};
use proto::gateway::v1::{Importer, Service};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use crate::{
    connect::Gateway,
    failure::{Failure, OrHint as _},
    print::Progress,
    render::findings::FindingView,
};

/// How long the other clusters have to import it: a write and a watch in each API server, and a report.
const PATIENCE: Duration = Duration::from_secs(45);
/// How often the gateway is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// What a probe is found by, after a command that was killed too.
const LABELS: [(&str, &str); 3] = [
    ("app.kubernetes.io/name", "landbridge-gateway"),
    ("app.kubernetes.io/component", "probe"),
    ("app.kubernetes.io/part-of", "landbridge"),
];
const SERVICE: Kind = Kind { group: "", version: "v1", kind: "Service" };
const EXPORT: Kind = Kind { group: "multicluster.x-k8s.io", version: "v1beta1", kind: "ServiceExport" };

/// Where it is exported, and to whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe<'a> {
    /// The cluster that exports it, in which the rights of a person are needed.
    pub(super) cluster: &'a Cluster,
    /// Its name in the set.
    pub(super) name: &'a str,
    /// The namespace of the gateway.
    pub(super) namespace: &'a Namespace,
    /// The clusters that shall reach it.
    pub(super) peers: &'a BTreeSet<String>,
}

impl Probe<'_> {
    /// Exports it, waits, and removes it. One finding for each peer.
    pub(super) async fn run(
        self,
        gateway: &mut Gateway,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<FindingView>, Failure> {
        if self.peers.is_empty() {
            return Ok(Vec::new());
        }
        progress.doing(&format!("verifying: a service of {} is exported for some seconds", self.name));
        let looked = tokio::select! {
            biased;
            () = interrupted() => {
                Err(Failure::because("interrupted while verifying", "fedctl services shows what is reached"))
            }
            looked = self.export_and_look(gateway, progress) => looked,
        };
        let left = self.remove().await.map(|reason| {
            let remedy = format!("kubectl delete service,serviceexport -n {} {}", self.namespace, self.service());
            Finding::warning("probe removed", reason, remedy)
        });
        match (looked, left) {
            (Ok(mut findings), left) => {
                findings.extend(left.map(|finding| FindingView::new(self.name, finding)));
                Ok(findings)
            }
            (Err(failure), None) => Err(failure),
            (Err(failure), Some(finding)) => {
                progress.done(&format!("the probe is still exported ({}): {}", finding.detail, finding.hint));
                Err(failure)
            }
        }
    }

    async fn export_and_look(
        self,
        gateway: &mut Gateway,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<FindingView>, Failure> {
        for manifest in self.manifests()? {
            if let Applied::Refused(refusal) = self.cluster.apply(&manifest, true).await {
                let finding = Finding::failed("probe", format!("{manifest}: {}", refusal.reason), refusal.remedy);
                return Ok(vec![FindingView::new(self.name, finding)]);
            }
        }
        let until = Instant::now() + PATIENCE;
        let mut told = BTreeSet::new();
        loop {
            let services = gateway.services().await?;
            let importers = self.importers(&services);
            for importer in importers.iter().filter(|importer| importer.reached) {
                if told.insert(importer.cluster.clone()) {
                    progress.done(&format!("{} reaches {} ({})", importer.cluster, self.name, importer.distance));
                }
            }
            if told.len() == self.peers.len() || Instant::now() + ASK_EVERY > until {
                return Ok(self.findings(&importers));
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// What the peers say of it.
    fn importers(self, services: &[Service]) -> Vec<Importer> {
        let name = self.service();
        let here = |service: &&Service| service.name == name && service.namespace == self.namespace.as_str();
        let export = services.iter().find(here).and_then(|service| service.export.as_ref());
        let importers = export.into_iter().flat_map(|export| &export.importers);
        importers.filter(|importer| self.peers.contains(&importer.cluster)).cloned().collect()
    }

    fn findings(self, importers: &[Importer]) -> Vec<FindingView> {
        let finding = |peer: &String| {
            let check = format!("reached from {peer}");
            let found = importers.iter().find(|importer| importer.cluster == *peer);
            FindingView::new(self.name, judged(&check, found, self.namespace))
        };
        self.peers.iter().map(finding).collect()
    }

    /// Why it is still there, if it is.
    async fn remove(self) -> Option<String> {
        let labels: Vec<_> = LABELS.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let (labels, mut refused) = (labels.join(","), None);
        // The export first: its withdrawal is told, rather than that it lost its Service.
        for kind in [EXPORT, SERVICE] {
            let selection = Selection { labels: &labels, namespace: Some(self.namespace.as_str()) };
            let found = self.cluster.find(kind, selection).await;
            let found = found.unwrap_or_else(|refusal| {
                refused = Some(refusal.reason);
                Vec::new()
            });
            for one in found.into_iter().filter(|one| one.name() == self.service()) {
                match self.cluster.delete(&one).await {
                    Removed::Deleted | Removed::Gone => {}
                    Removed::Refused(refusal) => refused = Some(refusal.reason),
                }
            }
        }
        refused
    }

    /// Its name: of the exporting cluster alone, since services of one name are one service in the set.
    fn service(self) -> String {
        format!("landbridge-probe-{:08x}", fnv1a(self.name.as_bytes()) & 0xffff_ffff)
    }

    fn manifests(self) -> Result<Vec<Manifest>, Failure> {
        let peers: Vec<&str> = self.peers.iter().map(String::as_str).collect();
        let labels: serde_json::Map<_, _> =
            LABELS.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let (name, namespace) = (self.service(), self.namespace.as_str());
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {
                "selector": {"app.kubernetes.io/name": "landbridge-gateway"},
                "ports": [{"name": "dns-tcp", "port": 53, "targetPort": "dns-tcp", "protocol": "TCP"}],
            },
        });
        let export = json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
            "metadata": {
                "name": name, "namespace": namespace, "labels": labels,
                "annotations": {"landbridge.dev/export-to": peers.join(", ")},
            },
        });
        let read = Manifest::read_all(&format!("{service}\n---\n{export}\n"));
        read.or_hint("the probe of this fedctl is broken", "--no-probe, and fedctl of another version")
    }
}

/// Waits for the signals by which a person or a shell ends a command.
async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => drop(terminated.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

fn judged(check: &str, importer: Option<&Importer>, namespace: &Namespace) -> Finding {
    match importer {
        None => Finding::failed(
            check,
            format!("nothing was heard of its import within {} s", PATIENCE.as_secs()),
            "fedctl check in both clusters",
        ),
        Some(importer) if importer.reached => {
            Finding::ok(check, format!("a probe was imported and is reachable, {}", importer.distance))
        }
        Some(importer) if importer.state == "no-namespace" => Finding::warning(
            check,
            importer.why_not.clone(),
            format!("nothing, unless services of {namespace} are to be reached from there"),
        ),
        Some(importer) if importer.state == "unknown" => {
            Finding::warning(check, importer.why_not.clone(), "a gateway of this version there")
        }
        Some(importer) => {
            Finding::failed(check, importer.why_not.clone(), "fedctl services and fedctl check in both clusters")
        }
    }
}

#[cfg(test)]
mod tests {
    use federation_model::finding::Level;

    use super::*;

    fn importer(state: &str, reached: bool) -> Importer {
        let why_not = if reached { String::new() } else { format!("because {state}") };
        Importer { cluster: "west".to_owned(), state: state.to_owned(), reached, why_not, distance: "5 ms".to_owned() }
    }

    #[test]
    fn what_an_importing_cluster_says_is_judged() {
        let namespace = "landbridge-system".parse().unwrap();
        for (importer, level, detail) in [
            (Some(importer("reachable", true)), Level::Ok, "a probe was imported and is reachable, 5 ms"),
            (Some(importer("no-namespace", false)), Level::Warning, "because no-namespace"),
            (Some(importer("unknown", false)), Level::Warning, "because unknown"),
            (Some(importer("no-tunnel", false)), Level::Failed, "because no-tunnel"),
            (None, Level::Failed, "nothing was heard of its import within 45 s"),
        ] {
            let finding = judged("reached from west", importer.as_ref(), &namespace);
            assert_eq!((finding.level, finding.detail.as_str()), (level, detail));
        }
    }
}
