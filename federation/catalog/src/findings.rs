//! What in the objects of a cluster does not work, or not as its author may think, as findings for people.
//!
//! Owns the words and the order: what is refused or held back comes first. Never limits how many there are, and never logs.

use std::fmt::Display;

use federation_model::{
    export::{Audience, LocalExport},
    finding::Finding,
    names::{ClusterName, ServiceKey},
    policy::{BrokenPolicy, Policies, PolicyKey, PolicyKind},
};

use crate::{conditions::ExportConditions, local::LocalState, objects::EXPORT_TO};

/// The most services or clusters a finding names.
const MAX_SHOWN: usize = 5;

/// What is to be told of the exports and pods of a cluster: exports that are held back first.
#[must_use]
pub fn of_local(local: &LocalState) -> Vec<Finding> {
    let held = local.conditions.iter().filter(|(_, conditions)| !conditions.is_exported());
    let held = held.map(|(export, conditions)| held_back(export, conditions));
    let warnings = local.warnings.iter().map(|warning| {
        Finding::warning("objects", warning.to_string(), "mend the object; everything else stays in force")
    });
    held.chain(warnings).collect()
}

fn held_back(export: &ServiceKey, conditions: &ExportConditions) -> Finding {
    let ready = &conditions.ready;
    let detail = format!("not exported ({}): {}", ready.reason, ready.message);
    Finding::failed(&format!("export {export}"), detail, "mend the Service or its ServiceExport")
}

/// What is to be told of the clusters that exports are for: those that `known` says are not in the set, such as a name that
/// is misspelt. They are warnings, for a cluster may be named before it joins.
#[must_use]
pub fn of_audiences(local: &LocalState, known: impl Fn(&ClusterName) -> bool) -> Vec<Finding> {
    let unknown = |(key, export): (&ServiceKey, &LocalExport)| {
        let Audience::Only(clusters) = &export.audience else { return None };
        let strangers: Vec<&ClusterName> = clusters.iter().filter(|cluster| !known(cluster)).collect();
        let detail = format!("{EXPORT_TO} names what is no cluster of the set: {}", named(&strangers));
        let hint = "correct the name, or join that cluster: it is told of the service once it is a member";
        (!strangers.is_empty()).then(|| Finding::warning(&format!("export {key}"), detail, hint))
    };
    local.exports.iter().filter_map(unknown).collect()
}

/// What is to be told of the policies of a cluster: those that cannot be read, and what they refuse for it.
#[must_use]
pub fn of_policies(policies: &Policies) -> Vec<Finding> {
    policies.broken.iter().map(|((kind, key), broken)| of_broken(*kind, key, broken)).collect()
}

fn of_broken(kind: PolicyKind, key: &PolicyKey, broken: &BrokenPolicy) -> Finding {
    let refused = match &broken.services[..] {
        [] => "every call to a service it can select is refused".to_owned(),
        some => format!("every call to {} is refused", named(some)),
    };
    let detail = format!("it cannot be read, so {refused}: {}", broken.reason);
    Finding::failed(
        &format!("{kind} {key}"),
        detail,
        "mend the policy; a version that can be read takes its place at once",
    )
}

fn named(names: &[impl Display]) -> String {
    let shown: Vec<_> = names.iter().take(MAX_SHOWN).map(ToString::to_string).collect();
    match names.len().saturating_sub(MAX_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        local::compile,
        objects::{Objects, ServiceExportObject, ServiceObject, ServiceType},
    };
    use federation_model::{catalog::SessionAffinity, finding::Level, spiffe::TrustDomain, time::Timestamp};

    fn broken(services: &[&str]) -> Finding {
        let key = PolicyKey { namespace: "shop".parse().unwrap(), name: "callers".to_owned() };
        let services = services.iter().map(|text| text.parse().unwrap()).collect();
        let broken = BrokenPolicy { services, reason: "a.yaml:3: spec.action: no".to_owned() };
        let policies = Policies { broken: [((PolicyKind::Authorization, key), broken)].into(), ..Policies::default() };
        of_policies(&policies).remove(0)
    }

    #[test]
    fn clusters_that_an_export_names_and_nobody_knows_are_warned_of() {
        let mut objects = Objects::default();
        objects.insert_service(ServiceObject {
            key: "shop/web".parse().unwrap(),
            service_type: ServiceType::ClusterIp,
            ports: Vec::new(),
            session_affinity: SessionAffinity::None,
            internal_traffic_policy: None,
            traffic_distribution: None,
        });
        objects.insert_service_export(ServiceExportObject {
            key: "shop/web".parse().unwrap(),
            created: Timestamp(1),
            exported_labels: [].into(),
            exported_annotations: [].into(),
            annotations: [(EXPORT_TO.to_owned(), "west, wset".to_owned())].into(),
        });
        let local = compile(&objects, &TrustDomain::new("east.example").unwrap());
        let findings = of_audiences(&local, |cluster| cluster.as_str() == "west");
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!((findings[0].check.as_str(), findings[0].level), ("export shop/web", Level::Warning));
        assert!(findings[0].detail.ends_with("no cluster of the set: wset"), "{}", findings[0].detail);
        assert_eq!(of_audiences(&local, |_| true), []);
    }

    #[test]
    fn a_broken_policy_fails_and_says_what_it_refuses_and_why() {
        let finding = broken(&["api", "web-*"]);
        assert_eq!((finding.check.as_str(), finding.level), ("AuthorizationPolicy shop/callers", Level::Failed));
        assert_eq!(
            finding.detail,
            "it cannot be read, so every call to api, web-* is refused: a.yaml:3: spec.action: no"
        );
        assert!(broken(&[]).detail.contains("every call to a service it can select is refused"));
        assert!(broken(&["a"; MAX_SHOWN + 2]).detail.contains("a and 2 more is refused"));
        assert_eq!(of_policies(&Policies::default()), []);
    }
}
