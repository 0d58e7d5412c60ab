//! What is printed: a table for people, or JSON for programs.
//!
//! Owns how figures look. Says beside them what they depend on.

use std::path::Path;

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::spread::Spread;

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    programs: String,
    rounds: u32,
    figures: Vec<(String, Figure)>,
    notes: Vec<String>,
}

/// One measured thing.
#[derive(Debug)]
pub(crate) struct Figure {
    unit: &'static str,
    direct: Option<Spread>,
    landbridge: Spread,
}

impl Figure {
    /// A figure without a direct counterpart.
    pub(crate) fn one(unit: &'static str, landbridge: Spread) -> Self {
        Self { unit, direct: None, landbridge }
    }

    /// A figure with its direct counterpart.
    pub(crate) fn two(unit: &'static str, direct: Spread, landbridge: Spread) -> Self {
        Self { unit, direct: Some(direct), landbridge }
    }

    /// What the gateways add, or what part is left.
    fn difference(&self) -> String {
        let Some(direct) = &self.direct else { return String::new() };
        let (direct, landbridge) = (direct.median(), self.landbridge.median());
        match self.unit {
            "us" => format!("+{:.0} us", landbridge - direct),
            _ => format!("{:.0} %", 100.0 * landbridge / direct),
        }
    }
}

impl Report {
    /// Without figures yet.
    pub(crate) fn new(programs: &Path, rounds: u32) -> Self {
        Self { programs: programs.display().to_string(), rounds, figures: Vec::new(), notes: Vec::new() }
    }

    /// Adds a figure.
    pub(crate) fn add(&mut self, what: impl Into<String>, figure: Figure) {
        self.figures.push((what.into(), figure));
    }

    /// Adds a remark.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["", "DIRECT", "LANDBRIDGE", "(LEAST..MOST)", "UNIT", "DIFFERENCE"]);
        for (what, figure) in &self.figures {
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            let spread = &figure.landbridge;
            let range = if spread.count() > 1 {
                format!("({}..{})", shown(spread.least()), shown(spread.most()))
            } else {
                String::new()
            };
            table.add_row([
                Cell::new(what),
                right(figure.direct.as_ref().map_or_else(|| "-".to_owned(), |direct| shown(direct.median()))),
                right(shown(spread.median())),
                right(range),
                Cell::new(figure.unit),
                right(figure.difference()),
            ]);
        }
        table
    }

    fn json(&self) -> Value {
        let spread = |spread: &Spread| json!({ "median": spread.median(), "least": spread.least(), "most": spread.most(), "rounds": spread.count() });
        let figures = self.figures.iter().map(|(what, figure)| {
            json!({
                "what": what,
                "unit": figure.unit,
                "direct": figure.direct.as_ref().map(spread),
                "landbridge": spread(&figure.landbridge),
            })
        });
        json!({ "programs": self.programs, "rounds": self.rounds, "figures": figures.collect::<Vec<_>>(), "notes": self.notes })
    }
}

/// Three digits that say something.
fn shown(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Prints the report.
#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
pub(crate) fn print(report: &Report, as_json: bool) {
    if as_json {
        println!("{:#}", report.json());
        return;
    }
    println!("{}", report.table());
    println!();
    println!(
        "Medians of {} rounds, direct and through the gateways by turns; programs of {}.",
        report.rounds, report.programs
    );
    println!("Client, both gateways and backend share this machine, over loopback: compare within this run alone.");
    for note in &report.notes {
        println!("{note}.");
    }
}

/// Says what is being done.
#[expect(clippy::print_stderr, reason = "progress goes beside the report, not into it")]
pub(crate) fn progress(what: &str) {
    eprintln!("... {what}");
}
