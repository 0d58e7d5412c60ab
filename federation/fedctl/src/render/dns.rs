//! What becomes of the DNS of a cluster, and how it stands with it.

use std::net::IpAddr;

use federation_kube::dns::{DnsError, Found, Plan, State, Step};
use federation_model::sni::Zone;
use serde::Serialize;
use similar::TextDiff;

use super::{Look, Mood, mood_cell, text_of};

/// Lines around a change that are shown with it.
const AROUND: usize = 3;

/// What is to be done.
#[derive(Debug, Serialize)]
pub(crate) struct PlanView {
    cluster: String,
    places: Vec<StepView>,
}

/// What is to be done in one place.
#[derive(Debug, Serialize)]
struct StepView {
    place: String,
    plan: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

impl PlanView {
    pub(crate) fn new(cluster: &str, steps: &[Step]) -> Self {
        Self { cluster: cluster.to_owned(), places: steps.iter().map(StepView::new).collect() }
    }

    pub(crate) fn changes(&self) -> bool {
        self.places.iter().any(|step| step.diff.is_some())
    }

    pub(crate) fn is_well(&self) -> bool {
        self.places.iter().all(|step| step.reason.is_none())
    }

    pub(crate) fn text(&self) -> String {
        self.places.iter().map(StepView::text).collect()
    }
}

impl StepView {
    fn new(step: &Step) -> Self {
        let place = step.place.to_string();
        let (plan, diff, refusal) = match &step.plan {
            Plan::Change { before, after } => ("change", Some(diff(&place, before.as_deref(), after.as_deref())), None),
            Plan::Unchanged => ("unchanged", None, None),
            Plan::Refused(refusal) => ("refused", None, Some(refusal.clone())),
        };
        let (reason, remedy) = refusal.map(|refusal| (refusal.reason, refusal.remedy)).unzip();
        Self { place, plan, diff, reason, remedy, notes: step.notes.clone() }
    }

    fn text(&self) -> String {
        let mut text = match (&self.diff, &self.reason, &self.remedy) {
            (Some(diff), _, _) => diff.clone(),
            (None, Some(reason), Some(remedy)) => format!("{}: {reason}\n  try: {remedy}\n", self.place),
            (None, _, _) => format!("{}: unchanged\n", self.place),
        };
        for note in &self.notes {
            text.push_str(&format!("  note: {note}\n"));
        }
        text
    }
}

/// A unified diff.
fn diff(place: &str, before: Option<&str>, after: Option<&str>) -> String {
    let name = |text: Option<&str>| if text.is_some() { place } else { "/dev/null" };
    let compared = TextDiff::from_lines(before.unwrap_or_default(), after.unwrap_or_default());
    compared.unified_diff().context_radius(AROUND).header(name(before), name(after)).to_string()
}

/// How it stands.
#[derive(Debug, Serialize)]
pub(crate) struct StandingView {
    cluster: String,
    zone: String,
    /// The addresses of the gateways' DNS.
    servers: Vec<IpAddr>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    places: Vec<PlaceView>,
}

/// How it stands in one place.
#[derive(Debug, Serialize)]
struct PlaceView {
    place: String,
    state: &'static str,
    asks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
    #[serde(skip)]
    mood: Mood,
}

impl StandingView {
    pub(crate) fn new(cluster: &str, zone: &Zone, servers: &Result<Vec<IpAddr>, DnsError>, places: Vec<Found>) -> Self {
        let error = servers.as_ref().err();
        Self {
            cluster: cluster.to_owned(),
            zone: zone.to_string(),
            servers: servers.as_deref().unwrap_or_default().to_vec(),
            missing: error.map(ToString::to_string),
            remedy: error.map(DnsError::remedy),
            places: places.into_iter().map(PlaceView::new).collect(),
        }
    }

    pub(crate) fn is_well(&self) -> bool {
        self.missing.is_none() && self.places.iter().all(|place| place.mood != Mood::Bad)
    }

    pub(crate) fn text(&self, look: Look) -> String {
        let mut table = look.table(&["PLACE", "STATE", "ASKS"]);
        for place in &self.places {
            let asks = place.asks.join(" ");
            let state = mood_cell(place.state, place.mood);
            table.add_row([place.place.as_str().into(), state, super::or_dash(&asks).into()]);
        }
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        let mut text = format!(
            "{}\nThe gateways answer {} at {}\n",
            text_of(table),
            self.zone,
            super::or_dash(&servers.join(" "))
        );
        if let (Some(missing), Some(remedy)) = (&self.missing, &self.remedy) {
            text.push_str(&format!("\n{missing}\n  try: {remedy}\n"));
        }
        for place in &self.places {
            let Some(remedy) = place.remedy else { continue };
            let detail = place.detail.as_deref().unwrap_or(place.state);
            text.push_str(&format!("\n{}: {detail}\n  try: {remedy}\n", place.place));
        }
        text
    }
}

impl PlaceView {
    fn new(found: Found) -> Self {
        let install = "fedctl dns install";
        let (state, mood, detail, remedy) = match found.state {
            State::Current => ("current", Mood::Good, None, None),
            State::Fitting => ("by hand", Mood::Good, None, None),
            State::Outdated => ("outdated", Mood::Bad, Some("it asks other addresses".to_owned()), Some(install)),
            State::Missing => ("missing", Mood::Bad, Some("the gateways are not asked".to_owned()), Some(install)),
            State::Unused => (
                "unused",
                Mood::Doubtful,
                Some("our block belongs in the Corefile: this one is not read, or is one too many".to_owned()),
                Some(install),
            ),
            State::Itself(claim) => {
                ("itself", Mood::Doubtful, Some(claim), Some("nothing, if that is wanted: docs/install.md#names"))
            }
            State::Claimed(claim) => {
                ("taken", Mood::Bad, Some(claim), Some("fedctl dns install --print says what can be done"))
            }
            State::Unread(error) => ("unread", Mood::Bad, Some(error), Some("mend it by hand")),
        };
        Self { place: found.place.to_string(), state, asks: found.servers, detail, remedy, mood }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_as_a_unified_diff() {
        let text = diff("ConfigMap kube-system/coredns Corefile", Some(". {\n}\n"), Some(". {\n}\na {\n}\n"));
        assert_eq!(
            text,
            "--- ConfigMap kube-system/coredns Corefile\n+++ ConfigMap kube-system/coredns Corefile\n@@ -1,2 +1,4 @@\n . {\n }\n+a {\n+}\n"
        );
        assert!(diff("a", None, Some("b\n")).starts_with("--- /dev/null\n+++ a\n"));
        assert!(diff("a", Some("b\n"), None).contains("+++ /dev/null\n"));
    }

    fn found(state: State, servers: &[&str]) -> Found {
        let place = federation_kube::dns::Place { name: "coredns".to_owned(), key: "Corefile".to_owned() };
        Found { place, state, servers: servers.iter().map(|server| (*server).to_owned()).collect() }
    }

    fn standing(servers: Result<Vec<IpAddr>, DnsError>, found: Found) -> (bool, String) {
        let view = StandingView::new("https://a", &Zone::default(), &servers, vec![found]);
        let look = Look { now: federation_model::time::Timestamp(0), color: false };
        (view.is_well(), view.text(look))
    }

    #[test]
    fn only_places_that_ask_the_gateways_are_well_and_every_other_has_a_remedy() {
        let servers = || Ok(vec!["10.96.7.7".parse().unwrap()]);
        let (well, text) = standing(servers(), found(State::Current, &["10.96.7.7"]));
        assert!(well && text.ends_with("\nThe gateways answer clusterset.local at 10.96.7.7\n"), "{text}");
        assert!(standing(servers(), found(State::Fitting, &["10.96.7.7"])).0);
        assert!(
            standing(servers(), found(State::Itself("line 1: CoreDNS".to_owned()), &[])).0,
            "as somebody wanted it"
        );
        for (state, told) in [
            (State::Missing, "the gateways are not asked\n  try: fedctl dns install"),
            (State::Outdated, "it asks other addresses\n  try: fedctl dns install"),
            (State::Claimed("line 3: somebody".to_owned()), "line 3: somebody\n  try: fedctl dns install --print"),
            (State::Unread("line 1: a brace".to_owned()), "line 1: a brace\n  try: mend it by hand"),
        ] {
            let (well, text) = standing(servers(), found(state, &[]));
            assert!(!well && text.contains(told), "{text}");
        }
        let gone = DnsError::NoService { namespace: "a".parse().unwrap() };
        let (well, text) = standing(Err(gone), found(State::Outdated, &["10.96.7.7"]));
        assert!(
            !well && text.contains("there is no Service a/landbridge-dns\n  try: fedctl install gateway"),
            "{text}"
        );
    }
}
