//! Verification of exported logs, which asks nobody.

use std::{path::Path, time::Duration};

use federation_model::audit::{Action, Actor, Entry, Event, Head};
use federation_pki::{Validity, ca::Authority, export::Header};

use super::*;

fn authority() -> Authority {
    let validity = Validity::starting(Timestamp(NOW), Duration::from_secs(3600));
    Authority::generate(&TrustDomain::new("federation.internal").unwrap(), "federation", validity).unwrap()
}

fn log(length: u64) -> Vec<Entry> {
    let mut head = Head::start("store-1");
    let entry = |number| {
        let event = Event::new(Actor::Service, Action::Join, "west", &format!("join {number}"));
        let entry = Entry::next(&head, Timestamp(NOW + number), event);
        head = entry.head();
        entry
    };
    (1..=length).map(entry).collect()
}

/// The lines of an export that begins with entry `first`.
fn export(entries: &[Entry], by: &Authority) -> Vec<String> {
    let trust_domain = TrustDomain::new("federation.internal").unwrap();
    let header = Header { store_id: "store-1".to_owned(), trust_domain, first: entries[0].index };
    let seal = header.seal_line(by, entries.last().unwrap().head(), Timestamp(NOW + 99)).unwrap();
    let lines = std::iter::once(header.line(by)).chain(entries.iter().map(Entry::to_line));
    lines.chain(std::iter::once(seal)).collect()
}

fn write(dir: &Path, name: &str, lines: &[String]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_whole_log_says_what_it_holds_and_warns_when_nobody_knows_its_authority() {
    let (dir, by) = (tempfile::tempdir().unwrap(), authority());
    let fingerprint = by.fingerprint().to_string();
    let file = write(dir.path(), "log", &export(&log(5)[1..], &by));
    let ran = fedctl(&["audit", "verify", &file], None);
    ran.assert_code(0);
    let told = format!("{}---\n{}", ran.stdout, ran.stderr);
    let told = told.replace(&file, "FILE").replace(&fingerprint, "SHA256:<authority>");
    insta::assert_snapshot!("audit_whole", told);

    let known = fedctl(&["audit", "verify", &file, "--authority", &fingerprint, "-o", "json"], None);
    known.assert_code(0);
    let answer: serde_json::Value = serde_json::from_str(&known.stdout).unwrap();
    assert_eq!(
        (&answer["whole"], &answer["authority_compared"], &answer["entries"]),
        (&true.into(), &true.into(), &4.into())
    );
    assert_eq!(known.stderr, "");

    let credential = dir.path().join("operator");
    std::fs::create_dir(&credential).unwrap();
    std::fs::write(credential.join("ca.crt"), by.certificate_pem()).unwrap();
    let operator = fedctl(&["audit", "verify", &file, "--operator", credential.to_str().unwrap()], None);
    operator.assert_code(0);
    assert_eq!(operator.stderr, "");
    let text = std::fs::read_to_string(&file).unwrap();
    fedctl(&["audit", "verify", "-", "--authority", &fingerprint], Some(&text)).assert_code(0);
}

#[test]
fn what_is_wrong_with_a_log_is_named_and_ends_with_exit_code_1() {
    let (dir, by) = (tempfile::tempdir().unwrap(), authority());
    let whole = export(&log(9), &by);
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = whole.clone();
        change(&mut lines);
        lines
    };
    let cases = [
        ("entry 7 was changed", changed(&|lines| lines[7] = lines[7].replace("join 7", "join 8"))),
        ("entries 5 to 8 are missing", changed(&|lines| drop(lines.drain(5..9)))),
        ("entry 3 is there twice", changed(&|lines| lines.insert(4, lines[3].clone()))),
        ("entry 3 is out of order", changed(&|lines| lines.swap(3, 4))),
        ("the file ends before its seal, after entry 9", changed(&|lines| drop(lines.pop()))),
        ("entries 8 to 9 are missing", changed(&|lines| drop(lines.drain(8..10)))),
        ("the seal's signature does not hold", changed(&|lines| lines[10] = lines[10].replace("\"at\":1", "\"at\":2"))),
        ("line 3 is not an entry", changed(&|lines| lines[2] = "hello".to_owned())),
        ("line 1 is not the header", changed(&|lines| drop(lines.remove(0)))),
        ("the seal is by another authority", export(&log(9), &authority())),
        ("line 2 is not an entry", changed(&|lines| lines[1] = "x".repeat(1 << 20))),
    ];
    let known = by.fingerprint().to_string();
    for (reason, lines) in cases {
        let file = write(dir.path(), "log", &lines);
        let ran = fedctl(&["audit", "verify", &file, "--authority", &known], None);
        ran.assert_code(1);
        assert!(ran.stdout.contains(reason), "{reason}: {}", ran.stdout);
        let ran = fedctl(&["audit", "verify", &file, "--authority", &known, "-o", "json"], None);
        let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(answer["whole"] == false && answer["fault"].as_str().unwrap().contains(reason), "{answer}");
    }
    let nowhere = fedctl(&["audit", "verify", "/nowhere"], None);
    nowhere.assert_code(2);
    assert!(nowhere.stderr.contains("/nowhere cannot be read"), "{}", nowhere.stderr);
}

#[test]
fn a_log_that_was_rewritten_by_the_service_itself_is_found_with_an_earlier_export() {
    let (dir, by) = (tempfile::tempdir().unwrap(), authority());
    let earlier = write(dir.path(), "earlier", &export(&log(3), &by));
    let later = write(dir.path(), "later", &export(&log(6), &by));
    let mut rewritten = log(2);
    for number in 2..6 {
        let event = Event::new(Actor::Service, Action::Join, "north", "");
        rewritten.push(Entry::next(&rewritten[number - 1].head(), Timestamp(NOW), event));
    }
    let rewritten = write(dir.path(), "rewritten", &export(&rewritten, &by));
    let known = by.fingerprint().to_string();
    let verify = |file: &str, earlier: &str| {
        fedctl(&["audit", "verify", file, "--authority", &known, "--continues", earlier], None)
    };
    verify(&later, &earlier).assert_code(0);
    let found = verify(&rewritten, &earlier);
    found.assert_code(1);
    assert!(found.stdout.contains("entry 3 is another one than in the earlier export"), "{}", found.stdout);
    let shortened = verify(&earlier, &later);
    shortened.assert_code(1);
    assert!(shortened.stdout.contains("it was shortened"), "{}", shortened.stdout);
}
