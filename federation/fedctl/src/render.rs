//! Answers as tables for people and as values for programs.
//!
//! Owns how each answer looks: one module each, a value that serializes to the JSON of `-o json` and becomes a table of
//! text. Field names of the JSON are a promise. Never talks to anybody.

pub(crate) mod audit;
pub(crate) mod certificates;
pub(crate) mod dns;
pub(crate) mod explain;
pub(crate) mod findings;
pub(crate) mod foreign;
pub(crate) mod install;
pub(crate) mod join;
pub(crate) mod link;
pub(crate) mod members;
pub(crate) mod policy;
pub(crate) mod revocations;
pub(crate) mod rotation;
pub(crate) mod service;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod tokens;

use comfy_table::{Cell, Color, Table, presets};
use federation_model::time::Timestamp;

/// What rendering depends on beside the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) now: Timestamp,
    pub(crate) color: bool,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    Doubtful,
    Bad,
}

impl Look {
    /// A table with these columns.
    pub(crate) fn table(self, columns: &[&str]) -> Table {
        let mut table = self.facts();
        table.set_header(columns.iter().copied());
        table
    }

    /// A table without a header.
    pub(crate) fn facts(self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }
}

/// A cell in the colour of its mood.
pub(crate) fn mood_cell(text: impl ToString, mood: Mood) -> Cell {
    Cell::new(text).fg(match mood {
        Mood::Good => Color::Green,
        Mood::Doubtful => Color::Yellow,
        Mood::Bad => Color::Red,
    })
}

/// The text of a table: two spaces between columns, nothing at the end of a line.
pub(crate) fn text_of(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// `-` for nothing.
pub(crate) fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// `1 member`, `2 members`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Nothing for an empty text, in JSON.
pub(crate) fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
