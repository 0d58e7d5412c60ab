//! What the documents say: the floors table of ARCHITECTURE.md and the walls of deny.toml.
//!
//! Owns the reading of both. Never compares them with anything.

use std::collections::{BTreeMap, BTreeSet};

use super::{sources::read, workspace::root};

/// The floors table.
#[derive(Debug)]
pub(super) struct Floors {
    /// By package name.
    pub(super) crates: BTreeMap<String, Floor>,
}

/// One row of the floors table.
#[derive(Debug)]
pub(super) struct Floor {
    /// 0 to 5.
    pub(super) number: u8,
    /// Crates of ours.
    pub(super) may_depend_on: BTreeSet<String>,
}

impl Floors {
    /// Reads the rows between the two markers.
    pub(super) fn read() -> Self {
        let text = read(&root().join("ARCHITECTURE.md"));
        let rows = text
            .lines()
            .skip_while(|line| !line.starts_with("<!-- floors:"))
            .take_while(|line| !line.starts_with("<!-- end of floors"))
            .filter(|line| line.starts_with('|'))
            .skip(2);
        let crates: BTreeMap<_, _> = rows.map(row).collect();
        assert!(crates.len() > 10, "the floors table in ARCHITECTURE.md was not found: {crates:?}");
        Self { crates }
    }

    /// The crates that do no I/O.
    pub(super) fn pure(&self) -> impl Iterator<Item = String> {
        self.crates.iter().filter(|(_, floor)| floor.number <= 2).map(|(name, _)| name.clone())
    }
}

fn row(line: &str) -> (String, Floor) {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [name, floor, edges] = cells[..] else { panic!("three cells expected: {line}") };
    let number = floor.strip_prefix('F').and_then(|digits| digits.parse().ok());
    let number = number.unwrap_or_else(|| panic!("the floor is F0 to F5: {line}"));
    let edges = edges.split(',').map(str::trim).filter(|edge| *edge != "-");
    (name.to_owned(), Floor { number, may_depend_on: edges.map(str::to_owned).collect() })
}

/// The bans of deny.toml.
#[derive(Debug, Default)]
pub(super) struct Walls {
    /// Libraries that some crates may name directly.
    pub(super) wrappers: BTreeMap<String, BTreeSet<String>>,
    /// Libraries that may not be in the build at all.
    pub(super) banned: BTreeSet<String>,
}

impl Walls {
    /// Reads the entries `{ crate = "..", wrappers = [..] }`, one on each line.
    pub(super) fn read() -> Self {
        let text = read(&root().join("deny.toml"));
        let mut walls = Self::default();
        for line in text.lines().filter(|line| line.trim_start().starts_with("{ crate = ")) {
            // Every second part of the line, divided at its quotes, is a name.
            let mut names = line.split('"').skip(1).step_by(2).map(str::to_owned);
            let library = names.next().unwrap_or_else(|| panic!("a quoted name expected: {line}"));
            if line.contains("wrappers") {
                walls.wrappers.insert(library, names.collect());
            } else {
                walls.banned.insert(library);
            }
        }
        walls
    }
}
