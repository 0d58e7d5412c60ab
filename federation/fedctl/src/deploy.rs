//! The manifests that `fedctl install` applies, and what `deploy/` holds of them.
//!
//! Owns the parameters and what they mean in `deploy/templates`. From these templates come the manifests here, the bases under
//! `deploy/kustomize` and the templates of the charts: a test writes them (`UPDATE_DEPLOY=1`) and holds them together. Never
//! talks to a cluster.

#[cfg(test)]
mod chart;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use template::{Template, Values};

use crate::args::install::{Identity, InstallFederation, InstallGateway, Place, ServiceType};

const GATEWAY: &str = include_str!("../../../deploy/templates/gateway.yaml");
const FEDERATION: &str = include_str!("../../../deploy/templates/federation.yaml");

/// The definitions of Landbridge's own kinds.
const OWN_CRDS: [&str; 2] = [
    include_str!("../../../deploy/crds/authorizationpolicies.policy.landbridge.dev.yaml"),
    include_str!("../../../deploy/crds/peerauthentications.policy.landbridge.dev.yaml"),
];
/// The definitions of kinds that other programs bring too.
const STANDARD_CRDS: [&str; 3] = [
    include_str!("../../../deploy/kustomize/crds/serviceexports.multicluster.x-k8s.io.yaml"),
    include_str!("../../../deploy/kustomize/crds/serviceimports.multicluster.x-k8s.io.yaml"),
    include_str!("../../../deploy/kustomize/crds/clusterproperties.about.k8s.io.yaml"),
];
/// What lets tenants install gateways for their namespaces.
const TENANT: &str = include_str!("../../../deploy/kustomize/tenants/tenant.yaml");

const ALERTS: &str = include_str!("../../../deploy/alerts/landbridge.yaml");
const DASHBOARD: &str = include_str!("../../../deploy/dashboards/landbridge.json");

/// What a gateway needs, as YAML: definitions first, then its namespace, its rights and the rest.
pub(crate) fn gateway(install: &InstallGateway) -> String {
    let tenant = !install.namespaces.is_empty();
    // A tenant may make neither definitions nor namespaces.
    let crds = if tenant { Vec::new() } else { [&OWN_CRDS[..], &STANDARD_CRDS[..]].concat() };
    let rendered = render(GATEWAY, &gateway_values(install));
    documents(crds.into_iter().chain([rendered.as_str()]))
}

/// What the federation service needs, as YAML.
pub(crate) fn federation(install: &InstallFederation) -> String {
    render(FEDERATION, &federation_values(install))
}

/// The definitions, and what lets tenants install gateways, as YAML.
pub(crate) fn crds() -> String {
    documents(OWN_CRDS.into_iter().chain(STANDARD_CRDS).chain([TENANT]))
}

/// The name under which the federation service is reached in its own cluster.
pub(crate) fn federation_name(place: &Place) -> String {
    format!("landbridge-federation.{}.svc", place.namespace)
}

fn documents<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.map(str::trim_end).collect::<Vec<_>>().join("\n---\n") + "\n"
}

fn gateway_values(install: &InstallGateway) -> Values {
    let InstallGateway {
        cluster, trust_domain, advertise, identity, service_type, namespaces, replicas, place, ..
    } = install;
    let mut values = placed(place, *service_type);
    let advertise: Vec<_> = advertise.iter().map(ToString::to_string).collect();
    let names: Vec<_> = namespaces.iter().map(ToString::to_string).collect();
    values.scalars.extend([
        ("cluster", quoted(cluster.as_str())),
        ("trust_domain", quoted(trust_domain.as_ref())),
        ("advertise", quoted(&advertise.join(","))),
        ("namespaces", quoted(&names.join(","))),
        ("replicas", replicas.to_string()),
    ]);
    values.lists.insert("namespaces", names.iter().map(|name| quoted(name)).collect());
    match identity {
        Identity::SelfSigned => {}
        Identity::CertManager => values.flags.extend(["cert_manager"]),
    }
    if names.is_empty() {
        values.flags.insert("create_namespace");
    } else {
        values.flags.insert("namespaced");
    }
    values
}

fn federation_values(install: &InstallFederation) -> Values {
    let InstallFederation { names, trust_domain, service_type, place, .. } = install;
    let mut values = placed(place, *service_type);
    let names = if names.is_empty() { federation_name(place) } else { names.join(",") };
    values.scalars.extend([("names", quoted(&names)), ("trust_domain", quoted(trust_domain.as_ref()))]);
    values.flags.insert("create_namespace");
    values
}

/// What both programs have.
fn placed(place: &Place, service_type: ServiceType) -> Values {
    let Place { namespace, image, priority_class, monitoring } = place;
    let mut flags = BTreeSet::new();
    match service_type {
        ServiceType::LoadBalancer => flags.extend(["service", "load_balancer"]),
        ServiceType::NodePort | ServiceType::ClusterIp => flags.extend(["service"]),
        ServiceType::None => {}
    }
    if *monitoring {
        flags.insert("monitoring");
    }
    if priority_class.is_some() {
        flags.insert("priority_class");
    }
    let scalars = BTreeMap::from([
        ("namespace", quoted(namespace.as_str())),
        ("image", quoted(&image.0)),
        ("priority_class", quoted(priority_class.as_deref().unwrap_or_default())),
        ("service_type", quoted(service_type.label())),
    ]);
    Values { scalars, flags, lists: BTreeMap::new() }
}

fn render(template: &str, values: &Values) -> String {
    let files = BTreeMap::from([("alerts.yaml", ALERTS), ("dashboard.json", DASHBOARD)]);
    let rendered = Template::read(template).and_then(|template| template.render(values, &files));
    rendered.expect("the templates are constants, and a test renders them with every parameter")
}

/// A YAML scalar: JSON strings are such.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
