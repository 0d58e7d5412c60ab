//! Clusters that are linked: the plan and the result.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    Look, Mood,
    findings::{self, FindingView},
    mood_cell, text_of,
};
use crate::failure::Failure;

/// A cluster, as its gateway and its context say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) context: String,
    pub(crate) cluster: String,
    pub(crate) trust_domain: String,
    pub(crate) authority: String,
    /// Where the others reach it; none when it only dials out.
    pub(crate) addresses: Vec<String>,
    /// The authority of the set that it is a member of, or waits to be.
    pub(crate) set: Option<String>,
    pub(crate) pending: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Will {
    /// It is a member.
    Stay,
    /// It has joined, and waits for approval. That is not given here: only of a join that this command makes is it known who
    /// made it.
    Wait,
    /// It gets a token, and joins with it.
    Join,
}

impl Will {
    /// What becomes of each in the set of a federation service with these authorities.
    pub(crate) fn of_all(seen: &[Seen], authorities: &BTreeSet<String>) -> Result<Vec<Self>, Failure> {
        for (index, one) in seen.iter().enumerate() {
            for other in &seen[..index] {
                if let Some(reason) = clash(one, other) {
                    return Err(Failure::because(reason, "clusters with names and trust domains of their own"));
                }
            }
        }
        let mut outbound = seen.iter().filter(|one| one.addresses.is_empty());
        if let (Some(one), Some(other)) = (outbound.next(), outbound.next()) {
            return Err(Failure::because(
                format!("neither {} nor {} has an address at which the other can dial it", one.cluster, other.cluster),
                "fedctl install gateway --advertise HOST:PORT in one of them, with its other options as they were",
            ));
        }
        seen.iter().map(|one| Self::of(one, authorities)).collect()
    }

    fn of(seen: &Seen, authorities: &BTreeSet<String>) -> Result<Self, Failure> {
        match &seen.set {
            None => Ok(Self::Join),
            Some(set) if !authorities.contains(set) => Err(Failure::because(
                format!("{} is a member of another cluster set, with the authority {set}", seen.cluster),
                format!(
                    "fedctl leave --context {}, then the same command again; or --federation-context",
                    seen.context
                ),
            )),
            Some(_) if seen.pending => Ok(Self::Wait),
            Some(_) => Ok(Self::Stay),
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Stay => "is a member: nothing",
            Self::Wait => "waits for approval: fedctl approve",
            Self::Join => "is no member: make a token, and join",
        }
    }
}

fn clash(one: &Seen, other: &Seen) -> Option<String> {
    let (a, b) = (&one.context, &other.context);
    if one.cluster == other.cluster {
        Some(format!("the contexts {b} and {a} are both of a cluster called {}", one.cluster))
    } else if one.trust_domain == other.trust_domain {
        Some(format!("the clusters of {b} and {a} have one trust domain, {}", one.trust_domain))
    } else {
        None
    }
}

/// One cluster of a link.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LinkedView {
    pub(crate) context: String,
    pub(crate) cluster: String,
    pub(crate) trust_domain: String,
    pub(crate) authority: String,
    pub(crate) addresses: Vec<String>,
    #[serde(skip)]
    pub(crate) will: Will,
    /// What was done; empty before.
    #[serde(rename = "result")]
    pub(crate) done: &'static str,
}

impl LinkedView {
    fn addresses_shown(&self) -> String {
        if self.addresses.is_empty() { "dials out only".to_owned() } else { self.addresses.join(" ") }
    }
}

impl From<(Seen, Will)> for LinkedView {
    fn from((seen, will): (Seen, Will)) -> Self {
        let Seen { context, cluster, trust_domain, authority, addresses, set: _, pending: _ } = seen;
        Self { context, cluster, trust_domain, authority, addresses, will, done: "" }
    }
}

/// What one cluster sees of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SightView {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) connected: bool,
    /// The round trip time, or why not.
    pub(crate) detail: String,
    /// The fingerprints of the other's authorities that it does not believe.
    pub(crate) refused: Vec<String>,
}

impl SightView {
    pub(crate) fn new(from: &str, to: &str, peer: Option<(bool, String)>) -> Self {
        let (connected, detail) = peer.unwrap_or_else(|| (false, "it has not heard of it yet".to_owned()));
        Self { from: from.to_owned(), to: to.to_owned(), connected, detail, refused: Vec::new() }
    }

    /// It does not believe what it is told of the other.
    pub(crate) fn refused(self, reason: &str, fingerprints: &[String]) -> Self {
        Self { detail: reason.to_owned(), refused: fingerprints.to_vec(), ..self }
    }

    /// Whether waiting changes nothing: they are connected, or one of the two refuses the other until a person has compared.
    pub(crate) fn is_settled(&self, all: &[Self]) -> bool {
        let of_the_two = |other: &&Self| {
            (&self.from, &self.to) == (&other.from, &other.to) || (&self.from, &self.to) == (&other.to, &other.from)
        };
        self.connected || all.iter().filter(of_the_two).any(|other| !other.refused.is_empty())
    }
}

/// A link.
#[derive(Debug, Serialize)]
pub(crate) struct LinkView {
    federation_context: Option<String>,
    federation_authorities: Vec<String>,
    pub(crate) clusters: Vec<LinkedView>,
    pub(crate) sights: Vec<SightView>,
    pub(crate) probes: Vec<FindingView>,
}

impl LinkView {
    pub(crate) fn new(context: Option<String>, authorities: &BTreeSet<String>, clusters: Vec<LinkedView>) -> Self {
        let federation_authorities = authorities.iter().cloned().collect();
        Self { federation_context: context, federation_authorities, clusters, sights: Vec::new(), probes: Vec::new() }
    }

    /// Whether anything is to be done.
    pub(crate) fn changes(&self) -> bool {
        self.clusters.iter().any(|linked| linked.will == Will::Join)
    }

    /// Whether all of it is as wished, where somebody waited for that.
    pub(crate) fn is_well(&self, waited: bool) -> bool {
        let seen = !waited || self.sights.iter().all(|sight| sight.connected);
        seen && !self.probes.iter().any(FindingView::failed)
    }

    pub(crate) fn plan(&self, look: Look) -> String {
        let mut table = look.table(&["CONTEXT", "CLUSTER", "TRUST DOMAIN", "ADDRESS", "AUTHORITY", "PLAN"]);
        for linked in &self.clusters {
            table.add_row([
                &linked.context,
                &linked.cluster,
                &linked.trust_domain,
                &linked.addresses_shown(),
                &linked.authority,
                &linked.will.label().to_owned(),
            ]);
        }
        let federation = self.federation_context.as_ref().map(|context| format!(" in {context}")).unwrap_or_default();
        let authorities = self.federation_authorities.join(" ");
        format!("Federation service{federation}, with the authority {authorities}\n\n{}", text_of(table))
    }

    pub(crate) fn text(&self, look: Look) -> String {
        let mut text = String::new();
        for linked in &self.clusters {
            text.push_str(&format!("{}: {}\n", linked.cluster, linked.done));
        }
        let mut table = look.table(&["FROM", "TO", "TUNNEL", "DETAIL"]);
        for sight in &self.sights {
            let (word, mood) = if sight.connected { ("connected", Mood::Good) } else { ("none", Mood::Bad) };
            table.add_row([
                sight.from.as_str().into(),
                sight.to.as_str().into(),
                mood_cell(word, mood),
                sight.detail.as_str().into(),
            ]);
        }
        text.push_str(&format!("\n{}", text_of(table)));
        if !self.probes.is_empty() {
            text.push_str(&format!("\n{}", findings::table(&self.probes, look)));
        }
        text.push_str(&format!("\n{}", self.next()));
        text
    }

    fn cluster(&self, name: &str) -> Option<&LinkedView> {
        self.clusters.iter().find(|linked| linked.cluster == name)
    }

    fn context_of(&self, name: &str) -> &str {
        self.cluster(name).map_or("CONTEXT", |linked| &linked.context)
    }

    fn next(&self) -> String {
        if let Some(waits) = self.clusters.iter().find(|linked| linked.will == Will::Wait) {
            let (cluster, authority) = (&waits.cluster, &waits.authority);
            return format!("Next: fedctl approve {cluster} --fingerprint {authority}, then the same command again\n");
        }
        if let Some(SightView { from, to, .. }) = self.sights.iter().find(|sight| !sight.refused.is_empty()) {
            let (context, authority) = (self.context_of(from), &self.cluster(to).map_or("another", |to| &to.authority));
            return format!(
                "Next: the gateway of {to} itself shows {authority}. When its operators changed it: \
                 fedctl trust accept {to} --context {context}, then the same command again\n"
            );
        }
        if let Some(sight) = self.sights.iter().find(|sight| !sight.connected) {
            return format!("Next: fedctl check --context {}, which says why\n", self.context_of(&sight.from));
        }
        let installs: Vec<_> =
            self.clusters.iter().map(|linked| format!("fedctl dns install --context {}", linked.context)).collect();
        format!(
            "Next: {}, so that pods resolve names of clusterset.local; then export a service\n",
            installs.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, set: Option<&str>, pending: bool) -> Seen {
        Seen {
            context: format!("kind-{name}"),
            cluster: name.to_owned(),
            trust_domain: format!("{name}.example"),
            authority: format!("SHA256:{name}"),
            addresses: vec![format!("{name}.example:15443")],
            set: set.map(str::to_owned),
            pending,
        }
    }

    fn plan(all: &[Seen]) -> Result<Vec<Will>, String> {
        Will::of_all(all, &BTreeSet::from(["ours".to_owned()])).map_err(|failure| failure.causes().join(": "))
    }

    #[test]
    fn who_is_no_member_joins_and_who_waits_goes_on_waiting() {
        let all = [seen("east", Some("ours"), false), seen("west", None, false), seen("north", Some("ours"), true)];
        assert_eq!(plan(&all).unwrap(), [Will::Stay, Will::Join, Will::Wait]);
    }

    #[test]
    fn a_member_of_another_set_has_to_leave_it_first() {
        let error = plan(&[seen("east", None, false), seen("west", Some("theirs"), false)]).unwrap_err();
        assert_eq!(error, "west is a member of another cluster set, with the authority theirs");
    }

    #[test]
    fn of_two_clusters_one_must_have_an_address() {
        let outbound = |name| Seen { addresses: Vec::new(), ..seen(name, None, false) };
        assert!(plan(&[outbound("east"), seen("west", None, false)]).is_ok());
        let error = plan(&[outbound("east"), outbound("west")]).unwrap_err();
        assert_eq!(error, "neither east nor west has an address at which the other can dial it");
    }

    #[test]
    fn nobody_waits_for_a_cluster_that_is_refused_until_a_person_has_compared() {
        let sight = |from: &str, to: &str| SightView::new(from, to, None);
        let refused = sight("east", "west").refused("another authority", &["SHA256:new".to_owned()]);
        let sights = [refused, sight("west", "east"), sight("east", "north"), sight("north", "east")];
        assert_eq!(sights.each_ref().map(|sight| sight.is_settled(&sights)), [true, true, false, false]);
        let clusters = ["east", "west"].map(|name| LinkedView::from((seen(name, None, false), Will::Join)));
        let mut view = LinkView::new(None, &BTreeSet::new(), clusters.to_vec());
        view.sights = sights.to_vec();
        assert_eq!(
            view.next(),
            "Next: the gateway of west itself shows SHA256:west. When its operators changed it: fedctl trust accept west \
             --context kind-east, then the same command again\n"
        );
    }

    #[test]
    fn clusters_that_have_one_name_or_trust_domain_are_not_linked() {
        let error = plan(&[seen("east", None, false), seen("east", None, false)]).unwrap_err();
        assert!(error.contains("both of a cluster called east"), "{error}");
        let mut west = seen("west", None, false);
        "east.example".clone_into(&mut west.trust_domain);
        let error = plan(&[seen("east", None, false), west]).unwrap_err();
        assert!(error.contains("have one trust domain, east.example"), "{error}");
    }
}
