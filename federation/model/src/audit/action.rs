//! What can be done to a cluster set.
//!
//! Owns the closed list and its labels, which stand in logs that outlive the program: a label is never changed and never
//! used again for something else.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $label:literal,)*) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Action {
            $($(#[$doc])* #[serde(rename = $label)] $variant,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word in the log.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }

        impl FromStr for Action {
            type Err = UnknownAction;
            fn from_str(label: &str) -> Result<Self, UnknownAction> {
                match label {
                    $($label => Ok(Self::$variant),)*
                    _ => Err(UnknownAction(label.chars().take(40).collect())),
                }
            }
        }
    };
}

actions! {
    /// The federation service made its store.
    SetUp = "set-up",
    /// The log begins in a store that was made without one.
    LogStarted = "log-started",
    /// A store that was brought back from a backup goes on under another id.
    Restored = "restored",
    /// A join token was made.
    TokenCreated = "token-created",
    /// A join token was made useless.
    TokenRevoked = "token-revoked",
    /// A cluster joined, or joined anew.
    Join = "join",
    /// A join was refused.
    JoinRefused = "join-refused",
    /// A join that waited for it was approved.
    JoinApproved = "join-approved",
    /// A member changed what it says of itself.
    MemberChanged = "member-changed",
    /// A member left.
    MemberLeft = "member-left",
    /// A member was removed.
    MemberRemoved = "member-removed",
    /// A member changed its trust bundle.
    BundleChanged = "bundle-changed",
    /// A change of a trust bundle was refused.
    BundleRefused = "bundle-refused",
    /// A step of a rotation was taken.
    RotationStep = "rotation-step",
    /// A cluster, an id or a certificate was revoked.
    Revoked = "revoked",
    /// A revocation was taken back.
    Reinstated = "reinstated",
    /// A foreign trust domain was added.
    ForeignAdded = "foreign-added",
    /// A foreign trust domain was removed.
    ForeignRemoved = "foreign-removed",
    /// The bundle of a foreign trust domain changed.
    ForeignBundleChanged = "foreign-bundle-changed",
    /// The authorities of the federation service changed.
    AuthorityChanged = "authority-changed",
    /// A member had seen what is not in the store: it was restored from an older copy.
    RewindDetected = "rewind-detected",
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// A word that is no action, or one of another version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an action that this version knows: {known}", known = listed())]
pub struct UnknownAction(String);

fn listed() -> String {
    Action::ALL.iter().map(|action| action.label()).collect::<Vec<_>>().join(", ")
}
