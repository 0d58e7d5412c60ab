//! Who has acknowledged a revision, and who has not.

use std::collections::BTreeMap;

use federation_client::operator::Acknowledgement;
use federation_model::{names::ClusterName, time::Timestamp};
use proto::convert::revocation::Standing;
use serde::Serialize;

use super::super::{Look, Mood, mood_cell, text_of};
use crate::clock;

/// What the members are told, in words.
pub(crate) struct Words {
    all: &'static str,
    late: &'static str,
    away: &'static str,
}

pub(crate) const REVOKED: Words = Words {
    all: "Every member that can be reached has cut it off.",
    late: "Not every member has cut it off in time",
    away: "It may still be believed in",
};
pub(crate) const LIFTED: Words = Words {
    all: "Every member that can be reached has lifted it.",
    late: "Not every member has lifted it in time",
    away: "It stays refused in",
};

/// How far every member is with a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Told {
    /// Whether every member that can be reached has acknowledged, or nobody waited for it.
    pub(crate) complete: bool,
    pub(crate) members: Vec<MemberView>,
    #[serde(skip)]
    revision: u64,
    #[serde(skip)]
    waits: bool,
    #[serde(skip)]
    told: BTreeMap<ClusterName, Acknowledgement>,
}

/// How far one member is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MemberView {
    pub(crate) cluster: ClusterName,
    pub(crate) state: &'static str,
    pub(crate) acknowledged: u64,
    pub(crate) last_seen: Option<String>,
    #[serde(skip)]
    mood: Mood,
    #[serde(skip)]
    seen: Option<Timestamp>,
}

const fn shown(standing: Standing) -> (&'static str, Mood) {
    match standing {
        Standing::Acknowledged => ("acknowledged", Mood::Good),
        Standing::Pending => ("not acknowledged", Mood::Bad),
        Standing::Away => ("away", Mood::Doubtful),
        Standing::Gone => ("no member any more", Mood::Doubtful),
    }
}

impl Told {
    pub(super) fn new(revision: u64, waits: bool) -> Self {
        Self { complete: !waits, members: Vec::new(), revision, waits, told: BTreeMap::new() }
    }

    /// The revision that is waited for.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes in how far a member is, and what to tell of it.
    pub(crate) fn take(&mut self, news: Acknowledgement) -> Option<String> {
        let told = match news.standing {
            Standing::Acknowledged => Some(format!("{} has acknowledged", news.cluster)),
            Standing::Away => Some(format!("{} is away", news.cluster)),
            Standing::Pending | Standing::Gone => None,
        };
        self.told.insert(news.cluster.clone(), news);
        told
    }

    /// Who is waited for.
    pub(crate) fn waiting(&self) -> String {
        format!("waiting for {}", self.names(Standing::Pending))
    }

    fn names(&self, standing: Standing) -> String {
        let of = self.told.values().filter(|news| news.standing == standing);
        of.map(|news| news.cluster.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Nothing more is waited for.
    pub(crate) fn settle(&mut self) {
        self.complete = !self.told.values().any(|news| news.standing == Standing::Pending);
        let view = |news: &Acknowledgement| {
            let (state, mood) = shown(news.standing);
            let (seen, last_seen) = (news.last_seen, news.last_seen.and_then(clock::date));
            MemberView { cluster: news.cluster.clone(), state, acknowledged: news.acknowledged, last_seen, mood, seen }
        };
        self.members = self.told.values().filter(|news| news.standing != Standing::Gone).map(view).collect();
    }

    pub(super) fn text(&self, look: Look, words: &Words) -> String {
        if !self.waits {
            return "Nobody was waited for. Next: fedctl members shows who has acknowledged\n".to_owned();
        }
        if self.members.is_empty() {
            return "There is no other member that had to be told.\n".to_owned();
        }
        let mut table = look.table(&["MEMBER", "STATE", "REVISION", "SEEN"]);
        for member in &self.members {
            table.add_row([
                member.cluster.as_str().into(),
                mood_cell(member.state, member.mood),
                format!("{}/{}", member.acknowledged, self.revision).into(),
                clock::ago(look.now, member.seen).into(),
            ]);
        }
        text_of(table) + &self.sum(words)
    }

    fn sum(&self, words: &Words) -> String {
        let mut text = if self.complete {
            format!("{}\n", words.all)
        } else {
            let late = self.names(Standing::Pending);
            format!("{}: {late}. Next: fedctl members, then the logs of {late}\n", words.late)
        };
        let away = self.names(Standing::Away);
        if !away.is_empty() {
            text.push_str(&format!("{} {away} until its gateways reach the federation service again.\n", words.away));
        }
        text
    }
}
