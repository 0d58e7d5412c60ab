//! How it stands with the watches, for people, probes and metrics.
//!
//! Owns the words. Never watches.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use super::watched::WatchId;

/// The least difference between two times of events that is told of.
const SEEN: Duration = Duration::from_secs(1);

/// How one watch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It reads what there is.
    Listing,
    /// Changes arrive as they happen.
    Live,
    /// The API server has no such kind, which is looked for again and again.
    Missing {
        /// The kind, with the versions that were looked for.
        wanted: String,
    },
    /// A right is missing; what was known before stays in force.
    Refused {
        /// The command that says so.
        check: String,
    },
    /// The API server cannot be reached, or fails; what was known before stays in force.
    Failing {
        /// Why.
        reason: String,
    },
}

impl Standing {
    /// Every word of [`Self::label`].
    pub const LABELS: [&'static str; 5] = ["listing", "live", "missing", "refused", "failing"];

    /// The word for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Listing => "listing",
            Self::Live => "live",
            Self::Missing { .. } => "missing",
            Self::Refused { .. } => "refused",
            Self::Failing { .. } => "failing",
        }
    }

    /// What is wrong, and what to do about it; nothing when all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Listing | Self::Live => None,
            Self::Missing { wanted } => Some(format!(
                "the API server has no {wanted}; install the custom resources, which are then read at once"
            )),
            Self::Refused { check } => {
                Some(format!("a right is missing: `{check}` must say yes; see the ClusterRole of the gateway"))
            }
            Self::Failing { reason } => Some(reason.clone()),
        }
    }
}

/// What is known of one watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchView {
    /// How it stands.
    pub standing: Standing,
    /// Whether everything was listed once, or there is nothing to list.
    pub complete: bool,
    /// When something arrived last.
    pub newest: Option<SystemTime>,
}

/// What is known of all watches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standings {
    /// The watches.
    pub watches: BTreeMap<WatchId, WatchView>,
    /// Whether the objects were published: from then on they are complete.
    pub published: bool,
}

impl Standings {
    pub(super) fn of(watches: impl IntoIterator<Item = WatchId>) -> Self {
        let view = WatchView { standing: Standing::Listing, complete: false, newest: None };
        Self { watches: watches.into_iter().map(|id| (id, view.clone())).collect(), published: false }
    }

    /// What of them is worth waking somebody for.
    pub(super) fn states(&self) -> impl Iterator<Item = (&Standing, bool)> {
        self.watches.values().map(|view| (&view.standing, view.complete))
    }

    /// Whether the times of the newest events of `newer` are later by what can be seen.
    pub(super) fn is_behind(&self, newer: &Self) -> bool {
        let age = |known: &WatchView, newer: &WatchView| match (known.newest, newer.newest) {
            (Some(known), Some(newer)) => newer.duration_since(known).unwrap_or_default(),
            (None, Some(_)) => Duration::MAX,
            (Some(_) | None, None) => Duration::ZERO,
        };
        self.watches.values().zip(newer.watches.values()).any(|(known, newer)| age(known, newer) >= SEEN)
    }

    pub(super) fn are_complete(&self) -> bool {
        self.watches.values().all(|view| view.complete)
    }

    /// What the objects wait for, before they were published once.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        if self.published {
            return None;
        }
        let missing = self.watches.iter().filter(|(_, view)| !view.complete);
        let resources: BTreeSet<&str> = missing.clone().map(|(id, _)| id.watched.resource()).collect();
        let resources: Vec<&str> = resources.into_iter().collect();
        let trouble = missing.filter_map(|(_, view)| view.standing.trouble()).next();
        let trouble = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
        Some(format!("waiting for {}{trouble}", resources.join(", ")))
    }
}
