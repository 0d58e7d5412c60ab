//! `fedctl analyze`: what is wrong in manifests, before a gateway reads them.
//!
//! Asks nobody: the directories are read as a gateway reads its own when it starts. Nothing is remembered, so a document
//! that is wrong here has no good version before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use federation_catalog::{
    findings,
    local::{self, LocalState},
    objects::Objects,
};
use federation_kube::manifests::{Manifests, Quarantined, read_once};
use federation_model::{
    export::Deliver,
    finding::{Finding, Level},
    policy::Policies,
    spiffe::{SpiffeId, TrustDomain},
};
use gateway_core::policy::{Surroundings, TrustDomainAliases, analyze};
use serde_json::json;

use super::look;
use crate::{
    Ending,
    args::analyze::Analyze,
    failure::{Failure, OrHint as _},
    print::Console,
    render::{
        count,
        findings::{FindingView, table},
    },
};

/// A directory that was read.
struct Cluster<'a> {
    directory: &'a Path,
    manifests: Manifests,
    local: LocalState,
}

/// What policies are compared with, beside the exports of their own cluster.
#[derive(Default)]
struct Known {
    /// All principals of the trust domains that were named.
    principals: BTreeMap<TrustDomain, BTreeSet<SpiffeId>>,
    aliases: TrustDomainAliases,
}

pub(super) fn run(what: &Analyze, console: &mut Console) -> Result<Ending, Failure> {
    let (clusters, known) = read(what)?;
    let mut found = Vec::new();
    for cluster in &clusters {
        let of = cluster.directory.display().to_string();
        let findings = of_cluster(cluster, what, &known).into_iter();
        found.extend(findings.map(|finding| FindingView::new(of.clone(), finding)));
    }
    let ok = !found.iter().any(|finding| fails(finding.level, what.strict));
    let look = look(console);
    console.answer(&json!({ "ok": ok, "findings": found }), || table(&found, look));
    Ok(if ok { Ending::Done } else { Ending::ChecksFailed })
}

/// Reads every directory before any is judged: policies of one name callers of another.
fn read(what: &Analyze) -> Result<(Vec<Cluster<'_>>, Known), Failure> {
    let (directories, domains) = (what.directories.len(), what.trust_domains.len());
    if domains != 0 && domains != directories {
        return Err(Failure::because(
            format!(
                "{} and {}",
                count(directories, "directory", "directories"),
                count(domains, "trust domain", "trust domains")
            ),
            "--trust-domain once for each directory, in the same order, or not at all",
        ));
    }
    let nameless = nameless();
    let (mut clusters, mut known) = (Vec::new(), Known::default());
    for (alias, domain) in &what.aliases {
        known.aliases.0.entry(alias.clone()).or_default().insert(domain.clone());
    }
    for (at, directory) in what.directories.iter().enumerate() {
        let root = what.root_namespace.clone();
        let manifests = read_once(directory, root).or_hint("nothing was analyzed", "a directory of manifests")?;
        let domain = what.trust_domains.get(at);
        let local = local::compile(&manifests.objects, domain.unwrap_or(&nameless));
        if let Some(domain) = domain {
            known
                .principals
                .entry(domain.clone())
                .or_default()
                .extend(local.pods.values().map(|id| SpiffeId::clone(id)));
        }
        clusters.push(Cluster { directory, manifests, local });
    }
    Ok((clusters, known))
}

/// The trust domain of a cluster whose own was not named: the ids that it makes of service accounts are not looked at.
fn nameless() -> TrustDomain {
    TrustDomain::new("cluster.local").expect("the constant is a trust domain")
}

fn fails(level: Level, strict: bool) -> bool {
    match level {
        Level::Ok => false,
        Level::Warning => strict,
        Level::Failed => true,
    }
}

fn of_cluster(cluster: &Cluster<'_>, what: &Analyze, known: &Known) -> Vec<Finding> {
    let Cluster { manifests, local, .. } = cluster;
    let mut found = vec![summary(&manifests.objects)];
    found.extend(manifests.quarantined.iter().map(of_document));
    found.extend(findings::of_local(local));
    found.extend(of_policies(&manifests.objects.policies, local, what, known));
    found
}

/// How much was read: nothing at all is more often a wrong path than an empty cluster.
fn summary(objects: &Objects) -> Finding {
    let policies = objects.policies.authorization.len() + objects.policies.authentication.len();
    let counts = [
        (objects.services.len(), "Service", "Services"),
        (objects.endpoint_slices.len(), "EndpointSlice", "EndpointSlices"),
        (objects.pods.len(), "Pod", "Pods"),
        (objects.service_exports.len(), "ServiceExport", "ServiceExports"),
        (policies, "policy", "policies"),
    ];
    let read: Vec<_> =
        counts.iter().filter(|(number, ..)| *number > 0).map(|(number, one, many)| count(*number, one, many)).collect();
    if read.is_empty() {
        return Finding::warning("objects", "there are none in it", "a directory with files .yaml, .yml or .json");
    }
    Finding::ok("objects", format!("{} read", read.join(", ")))
}

/// A broken policy is told here, with its place and with what it refuses.
fn of_document(quarantined: &Quarantined) -> Finding {
    let line = quarantined.line.map(|line| format!(":{line}")).unwrap_or_default();
    let file = quarantined.file.as_deref().unwrap_or_else(|| Path::new("")).display();
    let detail = format!("{file}{line}: {}", quarantined.reason);
    Finding::failed(quarantined.object.as_deref().unwrap_or("document"), detail, "mend the document")
}

/// What is wrong with policies that can be read; the others are told with their documents. A caller is missed only in a trust
/// domain that was named, since the callers of others are not known here.
fn of_policies(policies: &Policies, local: &LocalState, what: &Analyze, known: &Known) -> Vec<Finding> {
    let exports = || local.exports.iter();
    let http = exports().flat_map(|(service, export)| {
        let ports = export.service.ports.iter().map(|port| port.port);
        let http = ports.filter(|port| *export.deliver.mode_of(*port) == Deliver::Http);
        http.map(|port| (service.clone(), port))
    });
    let surroundings = Surroundings {
        services: Some(exports().map(|(service, _)| service.clone()).collect()),
        http_ports: Some(http.collect()),
        principals: known.principals.clone(),
    };
    let readable = Policies { broken: BTreeMap::new(), ..policies.clone() };
    analyze(&readable, &what.root_namespace, &known.aliases, &surroundings).iter().map(Finding::from).collect()
}
