use std::{sync::OnceLock, time::Duration};

use federation_model::audit::{Action, Actor, Event};
use proptest::prelude::*;

use super::*;
use crate::Validity;

const STORE: &str = "store-1";
const AT: Timestamp = Timestamp(1_800_000_100);

fn authority() -> &'static Authority {
    static MADE: OnceLock<Authority> = OnceLock::new();
    MADE.get_or_init(another_authority)
}

fn another_authority() -> Authority {
    let validity = Validity::starting(Timestamp(1_800_000_000), Duration::from_secs(3600));
    Authority::generate(&TrustDomain::new("federation.internal").unwrap(), "federation", validity).unwrap()
}

fn log(length: u64) -> Vec<Entry> {
    let mut head = Head::start(STORE);
    let entry = |number| {
        let event = Event::new(Actor::Member("west".parse().unwrap()), Action::Join, "west", &format!("join {number}"));
        let entry = Entry::next(&head, Timestamp(1_800_000_000 + number), event);
        head = entry.head();
        entry
    };
    (1..=length).map(entry).collect()
}

fn sealed(entries: &[Entry], first: u64, by: &Authority) -> Vec<String> {
    let trust_domain = TrustDomain::new("federation.internal").unwrap();
    let header = Header { store_id: STORE.to_owned(), trust_domain, first };
    let head = entries.last().map_or_else(|| Head::start(STORE), Entry::head);
    let lines = std::iter::once(header.line(by)).chain(entries.iter().map(Entry::to_line));
    lines.chain(std::iter::once(header.seal_line(by, head, AT).unwrap())).collect()
}

/// Eight entries, on the lines 2 to 9; the seal on line 10.
fn file() -> Vec<String> {
    static MADE: OnceLock<Vec<String>> = OnceLock::new();
    MADE.get_or_init(|| sealed(&log(8), 1, authority())).clone()
}

fn examine(lines: &[String]) -> Result<Examined, ExportFault> {
    let mut examination = Examination::default();
    lines.iter().try_for_each(|line| examination.line(line))?;
    examination.finish()
}

fn fault(lines: &[String]) -> String {
    examine(lines).unwrap_err().to_string()
}

#[test]
fn a_whole_file_says_what_it_holds_and_who_sealed_it() {
    let examined = examine(&file()).unwrap();
    assert_eq!((examined.entries, examined.head, examined.sealed_at), (8, log(8)[7].head(), AT));
    assert_eq!(examined.between, Some((Timestamp(1_800_000_001), Timestamp(1_800_000_008))));
    assert_eq!(examined.authority, authority().fingerprint());
    assert_eq!(examine(&sealed(&[], 1, authority())).unwrap().entries, 0);
}

#[test]
fn a_log_whose_older_entries_were_dropped_is_whole_from_there_on() {
    let lines = sealed(&log(8)[4..], 5, authority());
    assert_eq!(examine(&lines).unwrap().header.first, 5);
    assert!(lines.iter().all(|line| line.len() <= MAX_LINE));
    // Whoever cuts the beginning off cannot say that the service did.
    let mut cut = lines;
    cut.remove(1);
    assert_eq!(fault(&cut), "line 5: entry 5 is missing");
    cut[0] = cut[0].replace("\"first\":5", "\"first\":6");
    assert_eq!(fault(&cut), "the seal's signature does not hold");
}

#[test]
fn a_forged_file_is_told_from_a_cut_one() {
    let theirs = another_authority();
    let mut forged = file();
    forged[9] = sealed(&log(8), 1, &theirs).pop().unwrap();
    assert!(fault(&forged).starts_with("the header names the authority SHA256:"), "{}", fault(&forged));
    let mut older = file();
    older[9] = sealed(&log(6), 1, authority()).pop().unwrap();
    assert_eq!(fault(&older), "entries 7 to 8 are not covered by the seal: it is over a log that ends with entry 6");
    let mut rewritten = log(8);
    rewritten[7] = Entry::next(&rewritten[6].head(), Timestamp(1), rewritten[0].event.clone());
    let mut lines = sealed(&rewritten, 1, authority());
    lines[9] = file()[9].clone();
    assert_eq!(fault(&lines), "entry 8 was rewritten: the seal is over another one");
    assert_eq!(examine(&sealed(&log(8), 1, &theirs)).unwrap().authority, theirs.fingerprint());
}

#[test]
fn a_later_export_goes_on_from_an_earlier_one_or_the_log_was_rewritten() {
    let goes_on = |lines: &[String], known| {
        let mut examination = Examination::continuing(known);
        lines.iter().try_for_each(|line| examination.line(line))?;
        examination.finish()
    };
    let known = log(5)[4].head();
    assert!(goes_on(&file(), known).is_ok());
    assert!(goes_on(&sealed(&log(8)[6..], 7, authority()), known).is_ok(), "the entry was dropped since");
    // Whoever holds the key of the authority can rewrite everything but what somebody has already.
    let mut rewritten = log(2);
    for number in 3..=8 {
        let event = Event::new(Actor::Service, Action::Join, "west", "another");
        rewritten.push(Entry::next(&rewritten[number - 2].head(), AT, event));
    }
    let rewritten = sealed(&rewritten, 1, authority());
    assert!(examine(&rewritten).is_ok());
    assert_eq!(goes_on(&rewritten, known), Err(ExportFault::Diverged { index: 5 }));
    let shortened = sealed(&log(4), 1, authority());
    assert_eq!(goes_on(&shortened, known), Err(ExportFault::Shortened { to: 4, known: 5 }));
}

#[test]
fn another_format_and_no_format_are_told() {
    let mut newer = file();
    newer[0] = newer[0].replace("audit/1", "audit/2");
    assert!(fault(&newer).starts_with("the file has the format \"landbridge-audit/2\""), "{}", fault(&newer));
    assert_eq!(fault(&[]), "line 1 is not the header of an exported audit log: the file is empty");
    let broken = [file()[0].clone(), "{}".to_owned()];
    assert!(fault(&broken).starts_with("line 2 is not an entry: missing field"), "{}", fault(&broken));
    let other_store = [file()[0].replace(STORE, "store-2"), file()[1].clone()];
    assert_eq!(fault(&other_store), "line 2: entry 1 is not the beginning of this store's log");
}

#[test]
fn a_file_that_was_cut_at_any_line_says_where() {
    let lines = file();
    for kept in 1..lines.len() {
        let text = fault(&lines[..kept]);
        let after = if kept == 1 { "its header".to_owned() } else { format!("entry {}", kept - 1) };
        assert_eq!(text, format!("the file ends before its seal, after {after}: the rest was cut off"));
    }
}

#[test]
fn entries_that_are_missing_anywhere_are_named() {
    for first in 1..=8 {
        for last in first..=8 {
            let mut lines = file();
            lines.drain(first..=last);
            let named = if first == last {
                format!("entry {first} is missing")
            } else {
                format!("entries {first} to {last} are missing")
            };
            assert!(fault(&lines).contains(&named), "{named}: {}", fault(&lines));
        }
    }
}

#[test]
fn lines_that_are_there_twice_or_in_another_order_are_found() {
    let lines = file();
    for from in 0..lines.len() {
        for to in 0..lines.len() {
            let mut twice = lines.clone();
            twice.insert(to, lines[from].clone());
            assert!(examine(&twice).is_err(), "line {from} again at {to}");
            let mut swapped = lines.clone();
            swapped.swap(from, to);
            assert_eq!(examine(&swapped).is_ok(), from == to, "lines {from} and {to} swapped");
        }
    }
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    assert_eq!(fault(&swapped), "line 5: entry 3 is out of order: it stands after entry 4");
    let mut twice = lines;
    twice.insert(4, twice[3].clone());
    assert_eq!(fault(&twice), "line 5: entry 3 is there twice");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_change_of_any_byte_of_any_line_is_found(line in 0..10_usize, place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut lines = file();
        let mut bytes = lines[line].clone().into_bytes();
        let place = place.index(bytes.len());
        prop_assume!(bytes[place] != byte);
        bytes[place] = byte;
        if let Ok(changed) = String::from_utf8(bytes) {
            lines[line] = changed;
            let fault = examine(&lines);
            prop_assert!(fault.is_err(), "{}", lines[line]);
        }
    }

    #[test]
    fn no_line_panics(line in "\\PC{0,80}", seal in any::<bool>()) {
        let line = if seal { format!("{{\"head\":{line}") } else { line };
        let mut examination = Examination::default();
        let _ = examination.line(&file()[0]);
        let _ = examination.line(&line);
        let _ = Examination::default().line(&line);
    }
}
