//! The rules of ARCHITECTURE.md and STYLE.md that no lint can hold.
//!
//! Owns the comparison of the workspace with its own documents. Never looks at behaviour.

use std::collections::{BTreeMap, BTreeSet};

mod documents;
mod sources;
mod workspace;

use documents::{Floors, Walls};
use sources::Source;
use workspace::Workspace;

/// Lines of production code after which a file must be divided (STYLE.md, rule 11).
const FILE_LIMIT: usize = 500;
/// From this many lines on a file explains itself first.
const DOCUMENTED_FROM: usize = 15;
/// Lines of ARCHITECTURE.md that somebody still reads.
const ARCHITECTURE_LIMIT: usize = 250;
/// What a pure crate can do nothing with but I/O.
const HANDS: [&str; 9] = ["tokio", "mio", "socket2", "quinn", "hyper", "tonic", "hickory-proto", "kube", "notify"];

#[test]
fn the_edges_between_our_crates_are_those_of_the_floors_table() {
    let workspace = Workspace::load();
    let table: BTreeMap<_, _> =
        Floors::read().crates.into_iter().map(|(name, floor)| (name, floor.may_depend_on)).collect();
    assert_eq!(
        workspace.own_edges(),
        table,
        "left: what the Cargo.toml files say; right: the floors table in ARCHITECTURE.md; change the one that is wrong"
    );
}

#[test]
fn every_edge_points_to_a_lower_floor() {
    let floors = Floors::read();
    for (name, floor) in &floors.crates {
        for target in &floor.may_depend_on {
            let below = &floors.crates[target];
            assert!(below.number < floor.number, "{name} (F{}) may not use {target} (F{})", floor.number, below.number);
        }
    }
}

#[test]
fn pure_crates_reach_no_library_that_does_input_or_output() {
    for name in Floors::read().pure() {
        let linked = workspace::linked_with(&name);
        for hand in HANDS {
            assert!(!linked.contains(hand), "{name} is pure, and reaches {hand}: cargo tree -p {name} -i {hand}");
        }
    }
}

#[test]
fn pure_crates_ban_the_clocks() {
    let workspace = Workspace::load();
    for name in Floors::read().pure() {
        let file = workspace.directory_of(&name).join("clippy.toml");
        let text = sources::read(&file);
        for clock in ["std::time::Instant::now", "std::time::SystemTime::now"] {
            assert!(text.contains(clock), "{} does not ban {clock}", file.display());
        }
    }
}

#[test]
fn pure_crates_but_one_do_not_name_private_keys() {
    // Put together here, so that this file does not find itself.
    let words =
        [concat!("Private", "KeyDer"), concat!("PrivatePkcs8", "KeyDer"), concat!("Key", "Pair"), "PRIVATE KEY"];
    let workspace = Workspace::load();
    let pure: Vec<_> = Floors::read().pure().filter(|name| name != "federation-pki").collect();
    assert!(pure.len() > 3, "{pure:?}");
    let directories: Vec<_> = pure.iter().map(|name| workspace.directory_of(name).join("src")).collect();
    let mut found = Vec::new();
    for source in Source::rust().filter(|source| directories.iter().any(|dir| source.path.starts_with(dir))) {
        for (index, line) in source.text.lines().take(source.production_lines()).enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", source.shown(), index + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "private keys are reached by way of federation-pki: {found:#?}");
}

#[test]
fn libraries_behind_a_wall_are_named_by_their_own_crate_alone() {
    let workspace = Workspace::load();
    let walls = Walls::read();
    assert!(walls.wrappers.contains_key("quinn"), "deny.toml was not understood: {walls:?}");
    for (library, allowed) in &walls.wrappers {
        let users = workspace.users_of(library);
        let strangers: BTreeSet<_> = users.difference(allowed).collect();
        assert!(strangers.is_empty(), "{library} is named by {strangers:?}; deny.toml allows {allowed:?}");
    }
}

#[test]
fn banned_libraries_are_not_in_the_linux_build() {
    let walls = Walls::read();
    assert!(walls.banned.contains("ring"), "deny.toml was not understood: {walls:?}");
    let found: Vec<_> = workspace::built().intersection(&walls.banned).cloned().collect();
    assert!(found.is_empty(), "banned by deny.toml: {found:?}; see where from with cargo tree -i NAME");
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let workspace = Workspace::load();
    for member in workspace.members() {
        let file = workspace.directory_of(member).join("Cargo.toml");
        assert!(sources::read(&file).contains("[lints]\nworkspace = true"), "{}", file.display());
    }
}

#[test]
fn no_file_is_longer_than_its_limit() {
    let long: Vec<_> = Source::rust()
        .filter(|source| source.production_lines() > FILE_LIMIT)
        .map(|source| format!("{} ({} lines)", source.shown(), source.production_lines()))
        .collect();
    assert!(long.is_empty(), "over {FILE_LIMIT} lines of production code: {long:#?}");
    let architecture = sources::read(&workspace::root().join("ARCHITECTURE.md")).lines().count();
    assert!(architecture <= ARCHITECTURE_LIMIT, "ARCHITECTURE.md has {architecture} lines");
}

#[test]
fn every_module_says_first_what_it_owns() {
    let silent: Vec<_> = Source::rust()
        .filter(|source| source.text.lines().count() >= DOCUMENTED_FROM && !source.is_unit_test())
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| source.shown())
        .collect();
    assert!(silent.is_empty(), "these start without `//!`: {silent:#?}");
}

#[test]
fn nothing_is_left_half_done() {
    // Put together here, so that this file does not find itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
    let marks = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("db", "g!("), concat!("``", "`ignore")];
    let mut found = Vec::new();
    for source in Source::all() {
        for (index, line) in source.text.lines().enumerate() {
            let mut tokens = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let word = tokens.any(|token| words.contains(&token));
            if word || source.is_rust() && marks.iter().any(|mark| line.contains(mark)) {
                found.push(format!("{}:{}: {}", source.shown(), index + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_merge_is_left_undecided() {
    let marks = [concat!("<<<<", "<<< "), concat!(">>>>", ">>> ")];
    let undecided: Vec<_> = Source::all()
        .filter(|source| source.text.lines().any(|line| marks.iter().any(|mark| line.starts_with(mark))))
        .map(|source| source.shown())
        .collect();
    assert!(undecided.is_empty(), "these hold the marks of a merge: {undecided:#?}");
}

#[test]
fn exceptions_from_lints_are_expected_with_a_reason() {
    let mark = concat!("[al", "low(");
    // What a generator writes changes with its version, so an expectation would fail where it is not met.
    let excused = |attribute: &str| attribute.contains("reason = \"generated code\"");
    let found: Vec<_> = Source::rust()
        .filter(|source| {
            let attributes = source.text.split(mark).skip(1);
            attributes.filter_map(|rest| rest.split(")]").next()).any(|attribute| !excused(attribute))
        })
        .map(|source| source.shown())
        .collect();
    assert!(found.is_empty(), "use #[expect(.., reason = \"..\")]: {found:#?}");
}

#[test]
fn modules_are_named_after_the_domain() {
    let empty_words = ["mod", "util", "utils", "common", "helper", "helpers", "manager", "misc"];
    let found: Vec<_> = Source::rust()
        .filter(|source| source.path.file_stem().is_some_and(|stem| empty_words.iter().any(|word| stem == *word)))
        .map(|source| source.shown())
        .collect();
    assert!(found.is_empty(), "name the module after what it owns: {found:#?}");
}
