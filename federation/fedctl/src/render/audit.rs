//! The audit log, and what came of its verification.

use federation_model::{
    audit::{Action, Entry},
    bundle::Fingerprint,
};
use federation_pki::export::Examined;
use serde::Serialize;

use super::{Look, Mood, count, mood_cell, or_dash, text_of};
use crate::clock;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct EntryView {
    pub(crate) index: u64,
    pub(crate) at: Option<String>,
    pub(crate) actor: String,
    pub(crate) action: Action,
    pub(crate) subject: String,
    pub(crate) detail: String,
    pub(crate) hash: String,
}

impl From<Entry> for EntryView {
    fn from(entry: Entry) -> Self {
        Self {
            index: entry.index,
            at: clock::date(entry.at),
            actor: entry.event.actor.to_string(),
            action: entry.event.action,
            subject: entry.event.subject.to_string(),
            detail: entry.event.detail.to_string(),
            hash: entry.hash.to_string(),
        }
    }
}

const fn mood(action: Action) -> Mood {
    match action {
        Action::JoinRefused | Action::BundleRefused | Action::RewindDetected => Mood::Bad,
        Action::MemberLeft
        | Action::MemberRemoved
        | Action::TokenRevoked
        | Action::Revoked
        | Action::ForeignRemoved
        | Action::AuthorityChanged
        | Action::Restored => Mood::Doubtful,
        Action::SetUp
        | Action::LogStarted
        | Action::TokenCreated
        | Action::Join
        | Action::JoinApproved
        | Action::MemberChanged
        | Action::BundleChanged
        | Action::RotationStep
        | Action::Reinstated
        | Action::ForeignAdded
        | Action::ForeignBundleChanged => Mood::Good,
    }
}

/// The entries, one a line.
pub(crate) fn table(entries: &[EntryView], look: Look) -> String {
    if entries.is_empty() {
        return "No entries. Next: fedctl audit list without --action, --subject and --since\n".to_owned();
    }
    let mut table = look.table(&["ENTRY", "TIME", "WHO", "ACTION", "SUBJECT", "DETAIL"]);
    for entry in entries {
        table.add_row([
            entry.index.into(),
            or_dash(entry.at.as_deref().unwrap_or_default()).into(),
            entry.actor.as_str().into(),
            mood_cell(entry.action, mood(entry.action)),
            entry.subject.as_str().into(),
            or_dash(&entry.detail).into(),
        ]);
    }
    text_of(table)
}

/// An exported log that is whole, or what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ExportView {
    pub(crate) file: String,
    pub(crate) whole: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<LogView>,
}

/// What a whole log says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LogView {
    pub(crate) store: String,
    pub(crate) trust_domain: String,
    pub(crate) entries: u64,
    /// The oldest entry that is kept.
    pub(crate) begins_at: u64,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) head: u64,
    pub(crate) head_hash: String,
    pub(crate) authority: String,
    pub(crate) sealed_at: Option<String>,
    /// Whether the authority is the one that was given.
    pub(crate) authority_compared: bool,
}

impl ExportView {
    /// A log without a fault; `known` are the authorities it may be sealed by, none when they are not known.
    pub(crate) fn new(file: String, examined: &Examined, known: &[Fingerprint]) -> Self {
        if !known.is_empty() && !known.contains(&examined.authority) {
            let known: Vec<_> = known.iter().map(ToString::to_string).collect();
            let fault = format!("the seal is by another authority: {}, not {}", examined.authority, known.join(" or "));
            return Self::broken(file, &fault);
        }
        let ends = examined.between;
        let log = LogView {
            store: examined.header.store_id.clone(),
            trust_domain: examined.header.trust_domain.to_string(),
            entries: examined.entries,
            begins_at: examined.header.first,
            from: ends.and_then(|(from, _)| clock::date(from)),
            to: ends.and_then(|(_, to)| clock::date(to)),
            head: examined.head.index,
            head_hash: examined.head.hash.to_string(),
            authority: examined.authority.to_string(),
            sealed_at: clock::date(examined.sealed_at),
            authority_compared: !known.is_empty(),
        };
        Self { file, whole: true, fault: None, log: Some(log) }
    }

    /// A log with a fault.
    pub(crate) fn broken(file: String, fault: &impl ToString) -> Self {
        Self { file, whole: false, fault: Some(fault.to_string()), log: None }
    }

    pub(crate) fn text(&self) -> String {
        let Some(log) = &self.log else {
            let fault = self.fault.as_deref().unwrap_or("it is not whole");
            return format!(
                "{}: {fault}\nThis is not what the federation service exported. Next: fedctl audit export to another file, and compare\n",
                self.file
            );
        };
        let entries = count(usize::try_from(log.entries).unwrap_or(usize::MAX), "entry", "entries");
        let date = |date: &Option<String>| date.clone().unwrap_or_else(|| "-".to_owned());
        let mut text = format!(
            "{}: {entries}, from {} to {}, sealed by {}, whole\n",
            self.file,
            date(&log.from),
            date(&log.to),
            log.authority
        );
        text.push_str(&format!("Store {} of {}, sealed at {}\n", log.store, log.trust_domain, date(&log.sealed_at)));
        text.push_str(&format!("Head  {} {}\n", log.head, log.head_hash));
        if log.begins_at > 1 {
            text.push_str(&format!("It begins at entry {}: the service keeps no older ones.\n", log.begins_at));
        }
        text
    }

    /// What the file alone cannot tell.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        self.log.as_ref().filter(|log| !log.authority_compared).map(|_| {
            "warning: the seal was not compared with a known authority, so anybody may have made this file\n  try: --authority SHA256:... as the first start of the service and fedctl token create show it, or --operator DIR"
        })
    }
}
