//! Whether the members have seen more of the set than the store holds.
//!
//! Owns the marks of revisions, and the rule by which a store that was restored from an older copy is recognised: a member
//! has seen a revision of the same store that is not there, or another one of the same number. Such a member must not be
//! reset: it would forget who joined and believe who left. Owns the end of that state as well: another store id, which only an
//! operator gives. Never asks a member.

use std::sync::Arc;

use federation_model::mark::Mark;

use super::{State, Subject, Write};

/// One revision, as far as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Which.
    pub revision: u64,
    /// What it changed.
    pub subject: Subject,
    /// What it is recognised by; nothing when it was made before there were marks.
    pub mark: Option<Mark>,
}

/// What a member has seen of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Of which store.
    pub store_id: String,
    /// Up to which revision; 0 when it has seen nothing, as while it waits for approval.
    pub revision: u64,
    /// The mark of that revision, when it knows it.
    pub mark: Option<Mark>,
}

/// A member has seen what is not in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this member has seen {} of the set, and the federation service is at revision {at}: its store was restored from an older copy; compare `fedctl members` and `fedctl revoke list` with what was done since that copy, and then run `fedctl recover`", named(*.seen, *.at)
)]
pub struct Rewound {
    /// The revision the member has seen.
    pub seen: u64,
    /// The revision of the store.
    pub at: u64,
}

fn named(seen: u64, at: u64) -> String {
    if seen > at { format!("revision {seen}") } else { format!("another revision {seen}") }
}

impl State {
    /// Whether a member may be told what it missed. What is not known cannot be compared: a revision that is not remembered
    /// any more, or was made before there were marks.
    ///
    /// # Errors
    /// When the store is an older copy of the one the member knows, or has gone on from one.
    pub fn resume(&self, from: &Seen) -> Result<(), Rewound> {
        let same_store = *from.store_id == *self.store_id;
        let contradicts = match (from.mark, self.mark_at(from.revision)) {
            (Some(theirs), Some(ours)) => theirs != ours,
            (Some(_) | None, _) => false,
        };
        if same_store && (from.revision > self.revision || contradicts) {
            return Err(Rewound { seen: from.revision, at: self.revision });
        }
        Ok(())
    }

    /// The mark of the revision the set is at.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.mark_at(self.revision)
    }

    fn mark_at(&self, revision: u64) -> Option<Mark> {
        let index = self.log.binary_search_by_key(&revision, |logged| logged.revision).ok()?;
        self.log[index].mark
    }

    /// Marks the revisions after `before` by the log as it ends now, with every entry that tells of them.
    pub(super) fn mark_since(&mut self, before: u64) {
        let mark = Mark::of(&self.audit.head);
        for logged in self.log.iter_mut().rev().take_while(|logged| logged.revision > before) {
            logged.mark = Some(mark);
        }
    }

    /// Goes on under another store id: the members do not know it, and take the state as it is here.
    #[must_use]
    pub fn recover(&self, store_id: Arc<str>) -> Vec<Write> {
        vec![Write::StoreId(store_id)]
    }
}

#[cfg(test)]
mod tests;
