//! `fedctl analyze`: what is wrong in manifests, before a gateway reads them.
//!
//! Asks nobody: the directories are read as a gateway reads its own when it starts. Nothing is remembered, so a document
//! that is wrong here has no good version before it.

use std::collections::BTreeMap;

use federation_catalog::{
    findings,
    local::{self, LocalState},
    objects::Objects,
};
use federation_kube::manifests::{Manifests, Quarantined, read_once};
use federation_model::{
    export::Deliver,
    finding::{Finding, Level},
    names::Namespace,
    policy::{Policies, ROOT_NAMESPACE},
    spiffe::TrustDomain,
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

pub(super) fn run(what: &Analyze, console: &mut Console) -> Result<Ending, Failure> {
    let mut found = Vec::new();
    for directory in &what.directories {
        let manifests = read_once(directory, root()).or_hint("nothing was analyzed", "a directory of manifests")?;
        let of = directory.display().to_string();
        found.extend(of_manifests(&manifests).into_iter().map(|finding| FindingView::new(of.clone(), finding)));
    }
    let ok = !found.iter().any(|finding| fails(finding.level, what.strict));
    let look = look(console);
    console.answer(&json!({ "ok": ok, "findings": found }), || table(&found, look));
    Ok(if ok { Ending::Done } else { Ending::ChecksFailed })
}

fn fails(level: Level, strict: bool) -> bool {
    match level {
        Level::Ok => false,
        Level::Warning => strict,
        Level::Failed => true,
    }
}

fn root() -> Namespace {
    ROOT_NAMESPACE.parse().expect("the constant is a label")
}

fn of_manifests(manifests: &Manifests) -> Vec<Finding> {
    let mut found = vec![summary(&manifests.objects)];
    found.extend(manifests.quarantined.iter().map(of_document));
    found.extend(of_objects(&manifests.objects));
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
    let detail = format!("{}{line}: {}", quarantined.file.display(), quarantined.reason);
    Finding::failed(quarantined.object.as_deref().unwrap_or("document"), detail, "mend the document")
}

/// What is wrong with objects that are read, whatever they are read from.
fn of_objects(objects: &Objects) -> Vec<Finding> {
    // The ids that it makes of service accounts are not looked at.
    let trust_domain = TrustDomain::new("cluster.local").expect("the constant is a trust domain");
    let local = local::compile(objects, &trust_domain);
    let mut found = findings::of_local(&local);
    found.extend(of_policies(&objects.policies, &local));
    found
}

/// What is wrong with policies that can be read; the others are told with their documents. Callers of other clusters are
/// not known here, so nobody is missed.
fn of_policies(policies: &Policies, local: &LocalState) -> Vec<Finding> {
    let exports = || local.exports.iter();
    let http = exports().flat_map(|(service, export)| {
        let ports = export.service.ports.iter().map(|port| port.port);
        let http = ports.filter(|port| *export.deliver.mode_of(*port) == Deliver::Http);
        http.map(|port| (service.clone(), port))
    });
    let surroundings = Surroundings {
        services: Some(exports().map(|(service, _)| service.clone()).collect()),
        http_ports: Some(http.collect()),
        ..Surroundings::default()
    };
    let readable = Policies { broken: BTreeMap::new(), ..policies.clone() };
    analyze(&readable, &root(), &TrustDomainAliases::default(), &surroundings).iter().map(Finding::from).collect()
}
