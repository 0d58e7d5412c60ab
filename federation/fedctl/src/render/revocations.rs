//! Revocations: what will be cut, who has cut it, and what is revoked.

use federation_client::operator::{Listing, Reinstated, Revoked};
use federation_model::{
    names::ClusterName,
    revocation::{Revocation, RevocationId, Subject},
    spiffe::TrustDomain,
    time::Timestamp,
};
use proto::convert::revocation::Asked;
use serde::Serialize;

use super::{Look, count, or_dash, some, text_of};
use crate::clock;

mod told;

pub(crate) use told::Told;
use told::{LIFTED, REVOKED};

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    subject: String,
    owner: String,
    effect: String,
    members: usize,
    /// Those that will not hear of it now.
    away: Vec<(ClusterName, Option<Timestamp>)>,
}

impl Plan {
    pub(crate) fn new(asked: &Asked, listing: &Listing) -> Self {
        let of_domain = |domain: &TrustDomain| {
            let mut members = listing.members.iter().map(|status| &status.member);
            members.find(|member| member.bundle.trust_domain == *domain)
        };
        let (subject, leaving, owner) = match asked {
            Asked::Cluster(cluster) => (format!("cluster {cluster}"), Some(cluster), None),
            Asked::Subject(subject) => (subject.to_string(), None, of_domain(subject.trust_domain())),
        };
        let told = || listing.members.iter().filter(|status| Some(&status.member.cluster) != leaving);
        Self {
            subject,
            owner: match (leaving, owner) {
                (Some(cluster), _) => format!("cluster {cluster} with its trust domain"),
                (None, Some(member)) => format!("cluster {}", member.cluster),
                (None, None) => "no member: nobody has this trust domain".to_owned(),
            },
            effect: match asked {
                Asked::Cluster(_) => CLUSTER.to_owned(),
                Asked::Subject(Subject::Serial { .. }) => SERIAL.to_owned(),
                Asked::Subject(subject) => match owner.filter(|member| subject.covers(&member.gateway_id)) {
                    Some(member) => {
                        format!("all gateways of {} are cut off, with every connection through them", member.cluster)
                    }
                    None => ID.to_owned(),
                },
            },
            members: told().count(),
            away: told()
                .filter(|status| !status.watching)
                .map(|status| (status.member.cluster.clone(), status.last_seen))
                .collect(),
        }
    }

    pub(crate) fn text(&self, look: Look) -> String {
        let mut facts = look.facts();
        facts.add_row(["Revoke", &self.subject]);
        facts.add_row(["Of", &self.owner]);
        facts.add_row(["Effect", &self.effect]);
        facts.add_row(["Told", &count(self.members, "member", "members")]);
        for (cluster, seen) in &self.away {
            facts.add_row([
                "",
                &format!("{cluster} is away ({}): it learns of it when it is back", last_seen(look, *seen)),
            ]);
        }
        text_of(facts)
    }
}

const CLUSTER: &str = "it is no member any more: its tunnels and connections are cut, and it cannot join again";
const ID: &str = "its connections are cut at both ends, and new ones are refused";
const SERIAL: &str = "the tunnels of the gateway that holds it are cut until it has another certificate";

/// The service knows no more than what happened since its start.
fn last_seen(look: Look, seen: Option<Timestamp>) -> String {
    let unseen = || "not seen since the service started".to_owned();
    seen.map_or_else(unseen, |seen| format!("last seen {} ago", clock::ago(look.now, Some(seen))))
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RevocationView {
    pub(crate) id: RevocationId,
    pub(crate) kind: &'static str,
    pub(crate) trust_domain: String,
    pub(crate) cluster: Option<ClusterName>,
    pub(crate) spiffe_id: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) by: String,
    pub(crate) at: Option<String>,
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    since: Timestamp,
}

impl From<&Revocation> for RevocationView {
    fn from(revocation: &Revocation) -> Self {
        let (kind, cluster, spiffe_id, serial) = match &revocation.subject {
            Subject::Cluster { cluster, .. } => ("cluster", Some(cluster.clone()), None, None),
            Subject::Id(id) => ("id", None, Some(id.to_string()), None),
            Subject::Prefix(prefix) => ("prefix", None, Some(prefix.to_string()), None),
            Subject::Serial { serial, .. } => ("serial", None, None, Some(serial.to_string())),
        };
        Self {
            id: revocation.id,
            kind,
            trust_domain: revocation.subject.trust_domain().to_string(),
            cluster,
            spiffe_id,
            serial,
            reason: some(revocation.reason.to_string()),
            by: revocation.by.to_string(),
            at: clock::date(revocation.at),
            text: revocation.subject.to_string(),
            since: revocation.at,
        }
    }
}

impl RevocationView {
    /// Oldest first.
    pub(crate) fn order(&self) -> (Timestamp, RevocationId) {
        (self.since, self.id)
    }
}

/// The revocations, one a line.
pub(crate) fn table(all: &[RevocationView], look: Look) -> String {
    if all.is_empty() {
        return "Nothing is revoked.\n".to_owned();
    }
    let mut table = look.table(&["ID", "REVOKED", "AGE", "BY", "REASON"]);
    for view in all {
        table.add_row([
            view.id.to_string(),
            view.text.clone(),
            clock::ago(look.now, Some(view.since)),
            view.by.clone(),
            or_dash(view.reason.as_deref().unwrap_or_default()).to_owned(),
        ]);
    }
    text_of(table)
}

/// What came of lifting one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LiftedView {
    pub(crate) id: RevocationId,
    pub(crate) revision: u64,
    pub(crate) revocation: Option<RevocationView>,
    #[serde(flatten)]
    pub(crate) told: Told,
    #[serde(skip)]
    cluster: Option<ClusterName>,
}

impl LiftedView {
    pub(crate) fn new(id: RevocationId, lifted: &Reinstated, waits: bool) -> Self {
        let cluster = lifted.revocation.as_ref().and_then(|revocation| match &revocation.subject {
            Subject::Cluster { cluster, .. } => Some(cluster.clone()),
            Subject::Id(_) | Subject::Prefix(_) | Subject::Serial { .. } => None,
        });
        let (revision, revocation) = (lifted.revision, lifted.revocation.as_ref().map(RevocationView::from));
        Self { id, revision, revocation, told: Told::new(revision, waits), cluster }
    }

    pub(crate) fn text(&self, look: Look) -> String {
        let what = match &self.revocation {
            Some(revocation) => format!("{} is believed again", revocation.text),
            None => format!(
                "The federation service holds no revocation {}; members that do have been told to lift it",
                self.id
            ),
        };
        let told = self.told.text(look, &LIFTED);
        let next = match &self.cluster {
            Some(cluster) => format!("Next: fedctl token create --cluster {cluster} (it must join again)\n"),
            None => String::new(),
        };
        format!("{what}, from revision {} on.\n{told}{next}", self.revision)
    }
}

/// What came of revoking, and who has cut it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RevokedView {
    pub(crate) revocation: RevocationView,
    pub(crate) revision: u64,
    pub(crate) already: bool,
    pub(crate) warnings: Vec<String>,
    #[serde(flatten)]
    pub(crate) told: Told,
}

impl RevokedView {
    pub(crate) fn new(revoked: &Revoked, waits: bool) -> Self {
        Self {
            revocation: (&revoked.revocation).into(),
            revision: revoked.revision,
            already: revoked.already,
            warnings: revoked.warnings.clone(),
            told: Told::new(revoked.revision, waits),
        }
    }

    pub(crate) fn text(&self, look: Look) -> String {
        let RevocationView { text, id, .. } = &self.revocation;
        let head = if self.already {
            format!("{text} was revoked already ({id}); the set is at revision {}.\n", self.revision)
        } else {
            format!("{text} is revoked ({id}), from revision {} on.\n", self.revision)
        };
        head + &self.told.text(look, &REVOKED)
    }
}

#[cfg(test)]
mod tests;
