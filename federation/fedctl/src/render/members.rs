//! The members of the cluster set, as the federation service sees them.

use federation_client::operator::{Listing, MemberStatus};
use federation_model::{bundle::TrustBundle, names::ClusterName, time::Timestamp};
use serde::Serialize;

use super::{
    Look, Mood, count,
    foreign::{self, ForeignView},
    mood_cell, or_dash, some, text_of,
};
use crate::clock;

/// The federation service and its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FederationView {
    pub(crate) id: String,
    pub(crate) software: String,
    pub(crate) revision: u64,
    pub(crate) authorities: Vec<String>,
    pub(crate) members: Vec<MemberView>,
    /// Trust domains outside the set, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) foreign: Vec<ForeignView>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MemberView {
    pub(crate) cluster: ClusterName,
    pub(crate) trust_domain: String,
    pub(crate) gateway_id: String,
    pub(crate) advertise: Vec<String>,
    pub(crate) region: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) authorities: Vec<String>,
    pub(crate) bundle_sequence: u64,
    /// It waits for approval.
    pub(crate) pending: bool,
    pub(crate) watching: bool,
    pub(crate) acknowledged: u64,
    pub(crate) last_seen: Option<String>,
    pub(crate) joined_at: Option<String>,
    pub(crate) software: Option<String>,
    #[serde(skip)]
    last_seen_at: Option<Timestamp>,
    #[serde(skip)]
    joined: Timestamp,
}

impl From<Listing> for FederationView {
    fn from(listing: Listing) -> Self {
        let mut members: Vec<_> = listing.members.into_iter().map(MemberView::from).collect();
        members.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        Self {
            id: listing.federation_id.to_string(),
            software: listing.software,
            revision: listing.revision,
            authorities: fingerprints(&listing.federation),
            members,
            foreign: Vec::new(),
        }
    }
}

impl From<MemberStatus> for MemberView {
    fn from(status: MemberStatus) -> Self {
        let MemberStatus { member, watching, acknowledged, last_seen, software, pending } = status;
        Self {
            trust_domain: member.bundle.trust_domain.to_string(),
            gateway_id: member.gateway_id.to_string(),
            advertise: member.advertise.iter().map(ToString::to_string).collect(),
            region: some(member.region),
            zone: some(member.zone),
            authorities: fingerprints(&member.bundle),
            bundle_sequence: member.bundle.sequence,
            pending,
            watching,
            acknowledged,
            last_seen: last_seen.and_then(clock::date),
            joined_at: clock::date(member.joined_at),
            software: some(software),
            cluster: member.cluster,
            last_seen_at: last_seen,
            joined: member.joined_at,
        }
    }
}

fn fingerprints(bundle: &TrustBundle) -> Vec<String> {
    bundle.fingerprints().map(|fingerprint| fingerprint.to_string()).collect()
}

impl MemberView {
    /// Whether the member knows the newest state.
    pub(crate) fn standing(&self, revision: u64) -> (&'static str, Mood) {
        if self.pending {
            return ("pending", Mood::Doubtful);
        }
        match (self.watching, self.acknowledged >= revision) {
            (true, true) => ("up to date", Mood::Good),
            (true, false) => ("behind", Mood::Doubtful),
            (false, _) => ("away", Mood::Bad),
        }
    }

    /// What to look at before it is approved.
    pub(crate) fn plan(&self, look: Look) -> String {
        let mut facts = look.facts();
        facts.add_row(["Cluster", &format!("{} ({})", self.cluster, self.trust_domain)]);
        for (index, authority) in self.authorities.iter().enumerate() {
            facts.add_row([if index == 0 { "  its authority" } else { "  and" }, authority]);
        }
        facts.add_row(["Gateways", &self.gateway_id]);
        facts.add_row(["Joined", &format!("{} ago", clock::ago(look.now, Some(self.joined)))]);
        text_of(facts)
    }
}

/// The members, one a line.
pub(crate) fn table(federation: &FederationView, look: Look) -> String {
    if federation.members.is_empty() {
        return "The cluster set has no members yet. Next: fedctl token create --cluster NAME\n".to_owned();
    }
    let mut table = look.table(&[
        "CLUSTER",
        "STATE",
        "REVISION",
        "TRUST DOMAIN",
        "ADVERTISES",
        "SEEN",
        "JOINED",
        "SOFTWARE",
        "AUTHORITY",
    ]);
    for member in &federation.members {
        let (word, mood) = member.standing(federation.revision);
        let advertises =
            if member.advertise.is_empty() { "outbound only".to_owned() } else { member.advertise.join(" ") };
        let known = format!("{}/{}", member.acknowledged, federation.revision);
        let mut authorities = member.authorities.iter();
        table.add_row([
            member.cluster.as_str().into(),
            mood_cell(word, mood),
            if member.pending { "-".to_owned() } else { known }.into(),
            member.trust_domain.as_str().into(),
            advertises.into(),
            clock::ago(look.now, member.last_seen_at).into(),
            clock::ago(look.now, Some(member.joined)).into(),
            or_dash(member.software.as_deref().unwrap_or_default()).into(),
            or_dash(authorities.next().map_or("", String::as_str)).into(),
        ]);
        for authority in authorities {
            table.add_row(["", "", "", "", "", "", "", "", authority]);
        }
    }
    let mut text = text_of(table);
    for member in federation.members.iter().filter(|member| member.pending) {
        text.push_str(&format!(
            "\n{0} waits for approval: compare its authority with what fedctl status shows there. Next: fedctl approve {0}\n",
            member.cluster
        ));
    }
    text
}

/// The service itself, above its members.
pub(crate) fn overview(federation: &FederationView, look: Look) -> String {
    let mut facts = look.facts();
    facts.add_row(["Federation", &format!("{}, {}", federation.id, federation.software)]);
    for authority in &federation.authorities {
        facts.add_row(["Authority", authority]);
    }
    let pending = federation.members.iter().filter(|member| member.pending).count();
    let members = count(federation.members.len() - pending, "member", "members");
    let waiting = if pending == 0 { String::new() } else { format!(", {pending} waiting for approval") };
    facts.add_row(["Members", &format!("{members}{waiting}, revision {}", federation.revision)]);
    let mut text = format!("{}\n{}", text_of(facts), table(federation, look));
    if !federation.foreign.is_empty() {
        text.push('\n');
        text.push_str(&foreign::table(&federation.foreign, look));
    }
    text
}
