//! Which entries of the audit log tell of which writes.
//!
//! Owns the end of the log, and the words for every change: whoever changes the set is told of, for no decision writes its
//! own entry and a new kind of write does not compile without one. Never keeps entries: the store does.

use std::{net::IpAddr, sync::Arc};

use federation_model::{
    audit::{Action, Actor, Entry, Event, Head},
    bundle::TrustBundle,
    member::Member,
    time::Timestamp,
};

use super::{ForeignRecord, MemberRecord, State, TokenRecord, Write};

/// Entries that are kept, some hundred bytes each; beyond them the oldest are dropped. A set of a thousand members that
/// changes once an hour each fills it within six weeks, and refused joins alone would need two years.
pub const MAX_ENTRIES: u64 = 1_000_000;
/// The subject of what concerns the service itself.
pub const SERVICE: &str = "federation";

/// Where the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trail {
    /// The id that the store had when the log began, which the first hash is made of; the store may go on under another.
    pub origin: Arc<str>,
    /// The number of the oldest entry that is kept; of the next one when there is none.
    pub first: u64,
    /// The last entry.
    pub head: Head,
    /// How many entries are kept.
    pub limit: u64,
}

impl Trail {
    /// The log of a store, empty.
    #[must_use]
    pub fn start(store_id: &str) -> Self {
        Self { origin: store_id.into(), first: 1, head: Head::start(store_id), limit: MAX_ENTRIES }
    }

    pub(super) fn append(&mut self, at: Timestamp, event: Event) {
        self.head = Entry::next(&self.head, at, event).head();
        self.first = self.first.max(self.head.index.saturating_sub(self.limit - 1));
    }
}

/// The entries among `writes`, the first one after `head`.
#[must_use]
pub fn entries(head: &Head, writes: &[Write]) -> Vec<Entry> {
    let mut head = *head;
    let events = writes
        .iter()
        .filter_map(|write| if let Write::Audit { at, event } = write { Some((*at, event)) } else { None });
    let entry = |(at, event): (Timestamp, &Event)| {
        let entry = Entry::next(&head, at, event.clone());
        head = entry.head();
        entry
    };
    events.map(entry).collect()
}

/// Who has something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// From where; nothing for the service itself.
    pub from: Option<IpAddr>,
    /// When.
    pub at: Timestamp,
}

impl By {
    /// The service itself.
    #[must_use]
    pub fn service(at: Timestamp) -> Self {
        Self { actor: Actor::Service, from: None, at }
    }

    /// An entry of its own, for what no other write shows.
    #[must_use]
    pub fn entry(&self, action: Action, subject: &str, detail: &str) -> Write {
        let detail = match self.from {
            Some(from) if !matches!(self.actor, Actor::Stranger(_)) => format!("{detail}{}from {from}", gap(detail)),
            Some(_) | None => detail.to_owned(),
        };
        Write::Audit { at: self.at, event: Event::new(self.actor.clone(), action, subject, &detail) }
    }
}

fn gap(detail: &str) -> &'static str {
    if detail.is_empty() { "" } else { ", " }
}

impl State {
    /// The entries that tell of `writes`, which are about to be made to this state.
    #[must_use]
    pub fn told(&self, writes: &[Write], by: &By) -> Vec<Write> {
        writes.iter().filter_map(|write| self.told_of(write, by)).collect()
    }

    fn told_of(&self, write: &Write, by: &By) -> Option<Write> {
        match write {
            Write::Member(record) | Write::MemberQuietly(record) => self.member_told(record, by),
            Write::MemberGone(cluster) => {
                let left = by.actor == Actor::Member(cluster.clone());
                let action = if left { Action::MemberLeft } else { Action::MemberRemoved };
                let pending = self.members.get(cluster).is_some_and(|held| held.pending);
                let detail = if pending { "its join was not approved" } else { "" };
                Some(by.entry(action, cluster.as_str(), detail))
            }
            Write::Token(record) => self.token_told(record, by),
            // Tokens that nobody can use any more make room.
            Write::TokenGone(_) => None,
            Write::Federation(bundle) => {
                let detail = bundle_changed(&self.federation, bundle);
                Some(by.entry(Action::AuthorityChanged, SERVICE, &detail))
            }
            Write::Foreign(record) | Write::ForeignQuietly(record) => self.foreign_told(record, by),
            Write::ForeignGone(trust_domain) => Some(by.entry(Action::ForeignRemoved, trust_domain.as_str(), "")),
            Write::Revocation(revocation) => {
                let reason = revocation.reason.as_str();
                let detail = format!("{}{}{reason}", revocation.id, gap(reason));
                Some(by.entry(Action::Revoked, &revocation.subject.to_string(), &detail))
            }
            Write::Reinstated(id, _) => {
                let subject = self.revocations.named(id).map(|held| held.subject.to_string());
                let detail = if subject.is_some() { id.to_string() } else { format!("{id}, which is not known here") };
                Some(by.entry(Action::Reinstated, subject.as_deref().unwrap_or(SERVICE), &detail))
            }
            Write::StoreId(id) => {
                let detail = format!("store {} goes on as {id}, at revision {}", self.store_id, self.revision);
                Some(by.entry(Action::Restored, SERVICE, &detail))
            }
            // Only what was lifted long ago is forgotten.
            Write::ReinstatedGone(_) | Write::Audit { .. } => None,
        }
    }

    fn foreign_told(&self, record: &ForeignRecord, by: &By) -> Option<Write> {
        let (source, held) = (&record.source, self.foreign.get(&record.source.trust_domain));
        let read = |held: &Option<TrustBundle>| held.as_ref().map(|bundle| bundle.authorities.clone());
        let (action, detail) = match held.filter(|held| held.source == *source) {
            None => {
                let id = source.profile.endpoint_id().map(|id| format!(", {id}")).unwrap_or_default();
                (Action::ForeignAdded, format!("read from {}, {}{id}", source.url, source.profile.label()))
            }
            Some(held) if read(&held.bundle) == read(&record.bundle) => return None,
            Some(held) => {
                let none =
                    TrustBundle { trust_domain: source.trust_domain.clone(), sequence: 0, authorities: Vec::new() };
                let bundle = |held: &Option<TrustBundle>| held.clone().unwrap_or_else(|| none.clone());
                (Action::ForeignBundleChanged, bundle_changed(&bundle(&held.bundle), &bundle(&record.bundle)))
            }
        };
        Some(by.entry(action, source.trust_domain.as_str(), &detail))
    }

    fn member_told(&self, record: &MemberRecord, by: &By) -> Option<Write> {
        let member = &record.member;
        let held = self.members.get(&member.cluster);
        let Some(held) = held.filter(|held| held.token == record.token) else {
            let how = match (held, record.pending) {
                (_, true) => "; it waits for approval",
                (Some(_), false) => "; it was a member before",
                (None, false) => "",
            };
            let detail = format!("token {}, {}{how}", record.token, authorities(&member.bundle));
            return Some(by.entry(Action::Join, member.cluster.as_str(), &detail));
        };
        let (action, detail) = if held.pending && !record.pending {
            (Action::JoinApproved, authorities(&member.bundle))
        } else if held.member.bundle != member.bundle {
            (Action::BundleChanged, bundle_changed(&held.member.bundle, &member.bundle))
        } else if held.member != *member {
            (Action::MemberChanged, member_changed(&held.member, member))
        } else {
            return None;
        };
        Some(by.entry(action, member.cluster.as_str(), &detail))
    }

    fn token_told(&self, record: &TokenRecord, by: &By) -> Option<Write> {
        let (action, detail) = match self.tokens.get(&record.id) {
            None => (
                Action::TokenCreated,
                format!("token {}, for {:?}", record.id, record.expires_at.since(record.created_at)),
            ),
            Some(held) if held.revoked_at != record.revoked_at => {
                (Action::TokenRevoked, format!("token {}", record.id))
            }
            // The join that spends it is told.
            Some(_) => return None,
        };
        Some(by.entry(action, record.cluster.as_str(), &detail))
    }
}

fn authorities(bundle: &TrustBundle) -> String {
    let mut fingerprints = bundle.fingerprints();
    match (fingerprints.next(), fingerprints.count()) {
        (None, _) => "no authority".to_owned(),
        (Some(first), 0) => format!("authority {first}"),
        (Some(first), more) => format!("authority {first} and {more} more"),
    }
}

fn bundle_changed(before: &TrustBundle, after: &TrustBundle) -> String {
    let mut text = format!("sequence {} to {}", before.sequence, after.sequence);
    if before.trust_domain != after.trust_domain {
        text.push_str(&format!(", trust domain {} to {}", before.trust_domain, after.trust_domain));
    }
    let (old, new): (Vec<_>, Vec<_>) = (before.fingerprints().collect(), after.fingerprints().collect());
    for added in new.iter().filter(|fingerprint| !old.contains(fingerprint)) {
        text.push_str(&format!(", with {added}"));
    }
    for retired in old.iter().filter(|fingerprint| !new.contains(fingerprint)) {
        text.push_str(&format!(", without {retired}"));
    }
    text
}

fn member_changed(before: &Member, after: &Member) -> String {
    let mut parts = Vec::new();
    if before.advertise != after.advertise {
        let addresses: Vec<_> = after.advertise.iter().map(ToString::to_string).collect();
        parts.push(if addresses.is_empty() {
            "advertises nothing".to_owned()
        } else {
            format!("advertises {}", addresses.join(" "))
        });
    }
    if before.region != after.region {
        parts.push(format!("region {:?}", after.region));
    }
    if before.zone != after.zone {
        parts.push(format!("zone {:?}", after.zone));
    }
    if before.gateway_id != after.gateway_id {
        parts.push(format!("gateway id {}", after.gateway_id));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests;
