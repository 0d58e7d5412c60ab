//! The result of one check, for people.
//!
//! Owns its form. Never checks anything.

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is wrong.
    Ok,
    /// It works, and may stop working.
    Warning,
    /// It does not work.
    Failed,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was checked: a few words.
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub detail: String,
    /// What to do; empty when nothing is wrong.
    pub hint: String,
}

impl Finding {
    /// Nothing is wrong.
    #[must_use]
    pub fn ok(check: &str, detail: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level: Level::Ok, detail: detail.into(), hint: String::new() }
    }

    /// It works, and may stop working.
    #[must_use]
    pub fn warning(check: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level: Level::Warning, detail: detail.into(), hint: hint.into() }
    }

    /// It does not work.
    #[must_use]
    pub fn failed(check: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level: Level::Failed, detail: detail.into(), hint: hint.into() }
    }
}
