//! The functions of `tests::fuzz` over the inputs checked in under `tests/fuzz/corpus`, and over damaged copies of these.
//!
//! Owns the damage, which is the same in every run. An input that breaks a promise is kept: put it into the corpus under a
//! name that says what it is.

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tests::fuzz::{TARGETS, Target};

/// No damage makes an input longer than this, in bytes: more than the largest limit that is tested.
const LONGEST: usize = 20_000;
/// Damages done to one input.
const MOST_DAMAGES: usize = 6;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The inputs of a function by name, in order.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = names_in(&directory().join("corpus").join(name)).into_iter().collect();
    files.sort();
    files
        .into_iter()
        .map(|file| (file.clone(), fs::read(directory().join("corpus").join(name).join(file)).unwrap()))
        .collect()
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs the corpus of a function, then `rounds` damaged inputs.
fn run(name: &str, rounds: usize) {
    let target = TARGETS.iter().find(|(target, _)| *target == name).unwrap();
    let corpus = corpus(name);
    assert!(corpus.len() > 5, "{name} has a corpus");
    for (file, input) in &corpus {
        check(*target, file, input);
    }
    let mut random = StdRng::seed_from_u64(4);
    for round in 0..rounds {
        let (file, input) = &corpus[random.random_range(0..corpus.len())];
        let (_, other) = &corpus[random.random_range(0..corpus.len())];
        let mut input = input.clone();
        for _ in 0..random.random_range(1..=MOST_DAMAGES) {
            damage(&mut input, other, &mut random);
        }
        check(*target, &format!("{file}, damaged in round {round}"), &input);
    }
}

fn check((name, target): Target, what: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let kept = std::env::temp_dir().join(format!("landbridge-fuzz-{name}-{}", std::process::id()));
        fs::write(&kept, input).unwrap();
        panic!("{name}: {what} breaks a promise (above); the input is kept in {}", kept.display());
    }
}

/// Bytes at which parsers are wrong by one, or end something.
const TELLING: [u8; 16] = [0, 1, 0x7f, 0x80, 0xff, 0x10, 0x40, b'\r', b'\n', b' ', b':', b'"', b'-', b'*', b'%', b'/'];

/// Damages an input in one place; what is put in may come from `other`.
fn damage(input: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    let length = random.random_range(0..=(input.len() - at).min(40));
    let byte = if random.random() { random.random() } else { TELLING[random.random_range(0..TELLING.len())] };
    match random.random_range(0..8_u8) {
        0 | 1 if at < input.len() => input[at] = byte,
        2 if at < input.len() => input[at] ^= 1 << random.random_range(0..8_u8),
        3 => input.insert(at, byte),
        4 => drop(input.drain(at..at + length)),
        5 => {
            let again = input[at..at + length].to_vec();
            drop(input.splice(at..at, again));
        }
        6 if !other.is_empty() => {
            let start = random.random_range(0..other.len());
            let end = random.random_range(start..=other.len());
            drop(input.splice(at..at + length, other[start..end].iter().copied()));
        }
        _ => input.truncate(at.max(input.len() / 2)),
    }
    input.truncate(LONGEST);
}

#[test]
fn every_function_has_a_corpus_and_a_program_of_its_own() {
    let functions: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in(&directory().join("corpus")), functions);
    let programs = functions.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names_in(&directory().join("fuzz_targets")), programs);
    let manifest = fs::read_to_string(directory().join("Cargo.toml")).unwrap();
    let listed: BTreeSet<_> =
        manifest.split("[[bin]]\nname = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(functions.iter().map(String::as_str).eq(listed), "{manifest}");
    for name in functions {
        let program = fs::read_to_string(directory().join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("tests::fuzz::{name}(data)")), "{program}");
    }
}

#[test]
fn a_client_hello_is_read_like_rustls_reads_it_however_it_arrives() {
    run("client_hello", 3000);
}

#[test]
fn a_stream_header_is_read_and_written_again_however_it_arrives() {
    run("stream_header", 5000);
}

#[test]
fn a_stream_reply_is_read_and_written_again_however_it_arrives() {
    run("stream_reply", 5000);
}

#[test]
fn a_proxy_header_tells_what_the_stream_header_said() {
    run("proxy_header", 3000);
}

#[test]
fn a_pattern_is_written_as_it_was_read() {
    run("pattern", 20_000);
}

#[test]
fn a_canonical_path_has_one_reading() {
    run("path", 20_000);
}

#[test]
fn a_policy_is_in_force_or_refuses_and_takes_no_other_along() {
    run("policy", 1500);
}

#[test]
fn whatever_a_client_sends_an_endpoint_is_asked_in_one_reading_what_was_judged() {
    run("http", 1500);
}
