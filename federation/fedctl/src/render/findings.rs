//! The results of checks.

use federation_model::finding::{Finding, Level};
use serde::Serialize;

use super::{Look, Mood, mood_cell, some, text_of};

/// One result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FindingView {
    /// Who was asked: `gateway`, `federation`; or the directory that was read.
    pub(crate) of: String,
    pub(crate) check: String,
    pub(crate) level: Level,
    pub(crate) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

fn shown(level: Level) -> (&'static str, Mood) {
    match level {
        Level::Ok => ("ok", Mood::Good),
        Level::Warning => ("warning", Mood::Doubtful),
        Level::Failed => ("failed", Mood::Bad),
    }
}

impl FindingView {
    pub(crate) fn new(of: impl Into<String>, finding: Finding) -> Self {
        let Finding { check, level, detail, hint } = finding;
        Self { of: of.into(), check, level, detail, hint: some(hint) }
    }

    pub(crate) fn failed(&self) -> bool {
        self.level == Level::Failed
    }
}

/// Every result, and what to do where something is wrong.
pub(crate) fn table(findings: &[FindingView], look: Look) -> String {
    let mut table = look.table(&["OF", "CHECK", "RESULT", "DETAIL"]);
    for finding in findings {
        let (word, mood) = shown(finding.level);
        table.add_row([
            finding.of.as_str().into(),
            finding.check.as_str().into(),
            mood_cell(word, mood),
            finding.detail.as_str().into(),
        ]);
    }
    let mut text = text_of(table);
    for finding in findings.iter().filter(|finding| finding.level != Level::Ok) {
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("\n{}: try: {hint}", finding.check));
        }
    }
    text.push_str(&format!("\n{}\n", summary(findings)));
    text
}

/// How many checks ended how.
pub(crate) fn summary(findings: &[FindingView]) -> String {
    let of = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (ok, warnings, failed) = (of(Level::Ok), of(Level::Warning), of(Level::Failed));
    format!("{ok} ok, {}, {failed} failed", super::count(warnings, "warning", "warnings"))
}
