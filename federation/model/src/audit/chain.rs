//! Whether entries are a whole log, and what is wrong when they are not.
//!
//! Owns the naming of the first fault. Works through entries one by one and keeps none, so a log may be of any length. Never
//! compares times: the clock of a host may be set back.

use std::fmt;

use super::{Entry, Head};

/// Where the entries must begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the entry that follows this one.
    After(Head),
    /// With the entry of this number, whatever came before it: the older ones were dropped.
    At(u64),
}

impl Start {
    /// The beginning of a store's log whose first entry is number `first`.
    #[must_use]
    pub fn of(store_id: &str, first: u64) -> Self {
        if first <= 1 { Self::After(Head::start(store_id)) } else { Self::At(first) }
    }
}

/// What is wrong with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainFault {
    /// An entry does not have the hash of what it says.
    Changed {
        /// Its place.
        index: u64,
    },
    /// Entries are not there.
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// An entry is there once more.
    Repeated {
        /// Its number.
        index: u64,
    },
    /// An entry stands behind a later one.
    OutOfOrder {
        /// Its number.
        index: u64,
        /// The number of the one before it.
        after: u64,
    },
    /// An entry is whole and follows from another entry than the one before it.
    Unlinked {
        /// Its number.
        index: u64,
    },
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { index } => write!(f, "entry {index} was changed"),
            Self::Missing { from, to } if from == to => write!(f, "entry {from} is missing"),
            Self::Missing { from, to } => write!(f, "entries {from} to {to} are missing"),
            Self::Repeated { index } => write!(f, "entry {index} is there twice"),
            Self::OutOfOrder { index, after } => {
                write!(f, "entry {index} is out of order: it stands after entry {after}")
            }
            Self::Unlinked { index: 1 } => f.write_str("entry 1 is not the beginning of this store's log"),
            Self::Unlinked { index } => {
                write!(f, "entry {index} does not follow from entry {}: one of the two was rewritten", index - 1)
            }
        }
    }
}

impl std::error::Error for ChainFault {}

/// A log that is being looked through.
#[derive(Debug, Clone)]
pub struct Chain {
    start: Start,
    /// The last entry; nothing before the first one of a log that begins anywhere.
    head: Option<Head>,
    /// The first entries that were not where they belong. They may come later: then they are out of order, not missing.
    gap: Option<(u64, u64)>,
}

impl Chain {
    /// A log without entries yet.
    #[must_use]
    pub fn new(start: Start) -> Self {
        let head = match start {
            Start::After(head) => Some(head),
            Start::At(_) => None,
        };
        Self { start, head, gap: None }
    }

    /// The number of the entry that comes next.
    fn next(&self) -> u64 {
        match (self.head, self.start) {
            (Some(head), _) => head.index.saturating_add(1),
            (None, Start::At(first)) => first,
            (None, Start::After(head)) => head.index.saturating_add(1),
        }
    }

    /// Takes in the next entry.
    ///
    /// # Errors
    /// What is wrong, when this entry shows it.
    pub fn push(&mut self, entry: &Entry) -> Result<(), ChainFault> {
        let next = self.next();
        if entry.hash != entry.computed() {
            return Err(self.first_fault(ChainFault::Changed { index: next }));
        }
        if entry.index < next {
            let awaited = self.gap.is_some_and(|(from, to)| (from..=to).contains(&entry.index));
            let (index, after) = (entry.index, next - 1);
            return Err(if awaited {
                ChainFault::OutOfOrder { index, after }
            } else {
                self.first_fault(ChainFault::Repeated { index })
            });
        }
        if entry.index > next {
            self.gap.get_or_insert((next, entry.index - 1));
        } else if self.head.is_some_and(|head| head.hash != entry.previous) {
            return Err(self.first_fault(ChainFault::Unlinked { index: entry.index }));
        }
        self.head = Some(entry.head());
        Ok(())
    }

    /// The end of the log.
    ///
    /// # Errors
    /// When entries are missing.
    pub fn finish(self) -> Result<Head, ChainFault> {
        match (self.gap, self.head, self.start) {
            (Some((from, to)), _, _) => Err(ChainFault::Missing { from, to }),
            (None, Some(head), _) => Ok(head),
            (None, None, Start::After(head)) => Ok(head),
            (None, None, Start::At(first)) => Err(ChainFault::Missing { from: first, to: first }),
        }
    }

    /// Entries that did not come stood before whatever is wrong now.
    fn first_fault(&self, fault: ChainFault) -> ChainFault {
        self.gap.map_or(fault, |(from, to)| ChainFault::Missing { from, to })
    }
}

/// The end of a log with exactly these entries.
///
/// # Errors
/// What is wrong first.
pub fn verify<'a>(entries: impl IntoIterator<Item = &'a Entry>, start: Start) -> Result<Head, ChainFault> {
    let mut chain = Chain::new(start);
    entries.into_iter().try_for_each(|entry| chain.push(entry))?;
    chain.finish()
}
