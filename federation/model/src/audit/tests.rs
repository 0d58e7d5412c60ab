use proptest::prelude::*;

use super::*;

const STORE: &str = "store-1";

fn event(number: u64) -> Event {
    let actor = match number % 4 {
        0 => Actor::Operator(Text::fitting("admin")),
        1 => Actor::Member("west".parse().unwrap()),
        2 => Actor::Service,
        _ => Actor::Stranger("2001:db8::1".parse().unwrap()),
    };
    let action = Action::ALL[usize::try_from(number).unwrap() % Action::ALL.len()];
    Event::new(actor, action, &format!("cluster-{number}"), "a \"detail\" with a \\ and a ü")
}

fn log(length: u64) -> Vec<Entry> {
    let mut head = Head::start(STORE);
    let entry = |number| {
        let entry = Entry::next(&head, Timestamp(1_800_000_000 + number), event(number));
        head = entry.head();
        entry
    };
    (1..=length).map(entry).collect()
}

fn checked(entries: &[Entry]) -> Result<Head, ChainFault> {
    verify(entries, Start::of(STORE, 1))
}

#[test]
fn the_bytes_of_a_hash_are_those_that_are_documented() {
    let event = Event::new(Actor::Service, Action::SetUp, "federation", "");
    let entry = Entry::next(&Head::start("s"), Timestamp(7), event);
    let mut bytes = b"landbridge audit entry v1\0".to_vec();
    let start = digest(&SHA256, b"landbridge audit start v1\0\0\0\0\0\0\0\0\x01s");
    for field in [start.as_ref(), &1_u64.to_be_bytes(), &7_u64.to_be_bytes(), b"service", b"set-up", b"federation", b""]
    {
        bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    assert_eq!(entry.hash.as_bytes().as_slice(), digest(&SHA256, &bytes).as_ref());
    // A log that is on somebody's disk must be readable for ever.
    assert_eq!(
        entry.to_line(),
        r#"{"index":1,"at":7,"actor":"service","action":"set-up","subject":"federation","detail":"","previous":"1ee7945c187d460ca594b1e1df4cb03d6e7b60455f434939853582f6866318c5","hash":"de52fb75737dad4f8f1ceb54fb06ec16e47614404b7c3978fa0290067f225da6"}"#
    );
}

#[test]
fn actors_and_actions_survive_their_text() {
    for number in 0..4 {
        let actor = event(number).actor;
        assert_eq!(actor.to_string().parse(), Ok(actor));
    }
    for text in ["", "operator", "member:West", "stranger:", "service:x", "nobody:x", "stranger:1.2.3"] {
        assert!(text.parse::<Actor>().is_err(), "{text}");
    }
    for action in Action::ALL {
        assert_eq!(action.label().parse(), Ok(*action));
    }
    assert!("nothing".parse::<Action>().unwrap_err().to_string().contains("join-refused"));
}

#[test]
fn texts_are_cut_and_escaped_when_they_are_made_and_refused_when_they_are_read() {
    let made = Text::<12>::fitting("a\nb\u{202e}c");
    assert_eq!(&*made, "a\\u{a}b…");
    assert_eq!(&*Text::<12>::fitting("twelve bytes"), "twelve bytes");
    assert_eq!(&*Text::<4>::fitting("üüü"), "…");
    assert_eq!(Text::<4>::try_from("12345".to_owned()), Err(TextError::TooLong(5, 4)));
    assert_eq!(Text::<9>::try_from("a\u{200b}".to_owned()), Err(TextError::Hidden('\u{200b}')));
}

#[test]
fn a_log_that_begins_later_is_whole_when_it_is_said_to_begin_there() {
    let entries = log(9);
    assert_eq!(verify(&entries[4..], Start::At(5)), Ok(entries[8].head()));
    assert_eq!(verify(&entries[5..], Start::At(5)), Err(ChainFault::Missing { from: 5, to: 5 }));
    assert_eq!(checked(&entries[4..]), Err(ChainFault::Missing { from: 1, to: 4 }));
    assert_eq!(verify(&entries[3..], Start::After(entries[2].head())), Ok(entries[8].head()));
    assert_eq!(verify(&entries[3..3], Start::At(5)), Err(ChainFault::Missing { from: 5, to: 5 }));
    assert_eq!(verify(&entries, Start::of("store-2", 1)), Err(ChainFault::Unlinked { index: 1 }));
}

#[test]
fn a_rewritten_entry_does_not_fit_to_the_next_one() {
    let mut entries = log(9);
    entries[3] = Entry::next(&entries[2].head(), Timestamp(1), event(1));
    assert_eq!(checked(&entries), Err(ChainFault::Unlinked { index: 5 }));
}

#[test]
fn faults_are_told_in_words() {
    let words = [
        (ChainFault::Changed { index: 17 }, "entry 17 was changed"),
        (ChainFault::Missing { from: 5, to: 9 }, "entries 5 to 9 are missing"),
        (ChainFault::Missing { from: 5, to: 5 }, "entry 5 is missing"),
        (ChainFault::Unlinked { index: 3 }, "entry 3 does not follow from entry 2: one of the two was rewritten"),
    ];
    for (fault, text) in words {
        assert_eq!(fault.to_string(), text);
    }
}

proptest! {
    #[test]
    fn an_entry_survives_its_line(subject in ".{0,40}", detail in "\\PC{0,60}", at in any::<u64>()) {
        let event = Event::new(Actor::Service, Action::Join, &subject, &detail);
        let entry = Entry::next(&Head::start(STORE), Timestamp(at), event);
        let line = entry.to_line();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(Entry::from_line(&line), Ok(entry));
    }

    #[test]
    fn a_change_of_any_byte_of_any_entry_is_found(which in 0..6_usize, place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut entries = log(6);
        let mut bytes = entries[which].to_line().into_bytes();
        let place = place.index(bytes.len());
        prop_assume!(bytes[place] != byte);
        bytes[place] = byte;
        // What is no entry any more is refused by its line.
        if let Ok(changed) = String::from_utf8(bytes).map_err(drop).and_then(|line| Entry::from_line(&line).map_err(drop)) {
            entries[which] = changed;
            prop_assert_eq!(checked(&entries), Err(ChainFault::Changed { index: which as u64 + 1 }));
        }
    }

    #[test]
    fn removed_entries_are_named(first in 1..10_u64, count in 1..4_u64) {
        let entries = log(12);
        let last = first + count - 1;
        let left: Vec<_> = entries.into_iter().filter(|entry| !(first..=last).contains(&entry.index)).collect();
        let expected = if last == 12 { Ok(left.last().unwrap().head()) } else { Err(ChainFault::Missing { from: first, to: last }) };
        prop_assert_eq!(checked(&left), expected);
    }

    #[test]
    fn an_entry_that_was_moved_is_named(from in 0..12_usize, to in 0..12_usize) {
        let mut entries = log(12);
        let moved = entries.remove(from);
        entries.insert(to, moved);
        let fault = checked(&entries);
        if from == to {
            prop_assert!(fault.is_ok());
        } else {
            // Moved to the back it stands after the one it was moved behind; moved to the front, those it jumped over do.
            let (index, after) = if from < to { (from + 1, to + 1) } else { (to + 1, from + 1) };
            prop_assert_eq!(fault, Err(ChainFault::OutOfOrder { index: index as u64, after: after as u64 }));
        }
    }

    #[test]
    fn an_entry_that_is_there_twice_is_named(which in 0..12_usize, to in 0..13_usize) {
        let mut entries = log(12);
        let again = entries[which].clone();
        entries.insert(to, again);
        let index = which as u64 + 1;
        let expected = if to <= which && to < which { ChainFault::OutOfOrder { index: to as u64 + 1, after: index } } else { ChainFault::Repeated { index } };
        prop_assert_eq!(checked(&entries), Err(expected));
    }

    #[test]
    fn nothing_that_is_read_panics(line in "\\PC{0,200}") {
        let _ = Entry::from_line(&line);
    }
}
