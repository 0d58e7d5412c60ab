//! What in this cluster's objects is not in force, or not as its author may think, for people.
//!
//! Owns the list of findings that the log, `fedctl check` and the metrics are made of; each is logged once, when it
//! appears. Never decides what is exported, nor words it: `federation_catalog` does.

use std::{collections::BTreeSet, sync::Arc};

use federation_catalog::{findings, local::LocalState};
use federation_model::{
    finding::{Finding, Level},
    names::ClusterName,
    policy::Policies,
};
use tokio::sync::watch;

/// The most findings that are kept and shown; the last one then says how many more there are.
pub const MAX_FINDINGS: usize = 200;
/// The most lines one change writes to the log.
const MAX_LINES: usize = 20;

/// The findings, as they change.
#[derive(Debug)]
pub struct Notices {
    published: watch::Sender<Arc<Vec<Finding>>>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { published: watch::Sender::new(Arc::default()) }
    }
}

impl Notices {
    /// The findings, as they change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Vec<Finding>>> {
        self.published.subscribe()
    }

    /// Takes over what the exports and policies have to tell, and logs what they did not tell before. `known` says which
    /// clusters are in the set.
    pub fn update(&self, local: &LocalState, policies: &Policies, known: impl Fn(&ClusterName) -> bool) {
        let findings = findings(local, policies, known);
        self.published.send_if_modified(|known| {
            if **known == findings {
                return false;
            }
            log(&new_ones(known, &findings));
            *known = Arc::new(findings);
            true
        });
    }
}

/// What there is to tell, policies that refuse all they select first, within the limit.
fn findings(local: &LocalState, policies: &Policies, known: impl Fn(&ClusterName) -> bool) -> Vec<Finding> {
    let mut findings = findings::of_policies(policies);
    findings.extend(findings::of_local(local));
    findings.extend(findings::of_audiences(local, known));
    if findings.len() > MAX_FINDINGS {
        let more = findings.len() - (MAX_FINDINGS - 1);
        findings.truncate(MAX_FINDINGS - 1);
        findings.push(Finding::warning("objects", format!("{more} more findings"), "mend those above first"));
    }
    findings
}

fn new_ones<'a>(known: &[Finding], findings: &'a [Finding]) -> Vec<&'a Finding> {
    let known: BTreeSet<(&str, &str)> = known.iter().map(|f| (f.check.as_str(), f.detail.as_str())).collect();
    findings.iter().filter(|finding| !known.contains(&(finding.check.as_str(), finding.detail.as_str()))).collect()
}

fn log(new: &[&Finding]) {
    for Finding { check, level, detail, .. } in new.iter().take(MAX_LINES) {
        match level {
            Level::Failed => tracing::warn!(about = check, "a service is {detail}"),
            Level::Warning | Level::Ok => tracing::warn!(about = check, "{detail}"),
        }
    }
    if new.len() > MAX_LINES {
        tracing::warn!(more = new.len() - MAX_LINES, "more findings about the objects: fedctl check shows them");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use federation_catalog::{
        local,
        objects::{Objects, ServiceExportObject},
    };
    use federation_model::{spiffe::TrustDomain, time::Timestamp};

    fn export(name: &str) -> ServiceExportObject {
        ServiceExportObject {
            key: name.parse().unwrap(),
            created: Timestamp(1),
            exported_labels: [].into(),
            exported_annotations: [].into(),
            annotations: [].into(),
        }
    }

    /// The state of a cluster with exports of services that do not exist.
    fn without_services(names: &[String]) -> LocalState {
        let mut objects = Objects::default();
        for name in names {
            objects.insert_service_export(export(name));
        }
        local::compile(&objects, &TrustDomain::new("east.example").unwrap())
    }

    #[test]
    fn an_export_that_is_held_back_is_a_finding_that_says_why() {
        let notices = Notices::default();
        let receiver = notices.subscribe();
        notices.update(&without_services(&["shop/web".to_owned()]), &Policies::default(), |_| true);
        let findings = receiver.borrow().clone();
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].check.as_str(), findings[0].level), ("export shop/web", Level::Failed));
        assert!(findings[0].detail.contains("Pending") && findings[0].detail.contains("there is no Service"));
    }

    #[test]
    fn only_what_was_not_told_before_is_new() {
        let before = findings(&without_services(&["shop/web".to_owned()]), &Policies::default(), |_| true);
        let after =
            findings(&without_services(&["shop/web".to_owned(), "shop/api".to_owned()]), &Policies::default(), |_| {
                true
            });
        assert_eq!(new_ones(&before, &after).iter().map(|f| f.check.as_str()).collect::<Vec<_>>(), ["export shop/api"]);
        assert_eq!(new_ones(&after, &after), Vec::<&Finding>::new());
    }

    #[test]
    fn a_state_that_changes_nothing_wakes_nobody() {
        let notices = Notices::default();
        let state = without_services(&["shop/web".to_owned()]);
        notices.update(&state, &Policies::default(), |_| true);
        let mut receiver = notices.subscribe();
        receiver.mark_unchanged();
        notices.update(&state, &Policies::default(), |_| true);
        assert!(!receiver.has_changed().unwrap());
        notices.update(&LocalState::default(), &Policies::default(), |_| true);
        assert!(receiver.has_changed().unwrap() && receiver.borrow().is_empty());
    }

    #[test]
    fn the_number_of_findings_is_limited_and_the_last_one_counts_the_rest() {
        let names: Vec<String> = (0..MAX_FINDINGS + 5).map(|n| format!("shop/s{n}")).collect();
        let findings = findings(&without_services(&names), &Policies::default(), |_| true);
        assert_eq!(findings.len(), MAX_FINDINGS);
        assert_eq!(findings.last().unwrap().detail, "6 more findings");
    }
}
