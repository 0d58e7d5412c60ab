use proptest::prelude::*;

use super::*;

fn id(text: &str) -> SpiffeId {
    SpiffeId::new(text).unwrap()
}

fn domain(text: &str) -> TrustDomain {
    TrustDomain::new(text).unwrap()
}

fn revocation(number: u64, subject: Subject) -> Arc<Revocation> {
    Arc::new(Revocation {
        id: RevocationId::from_bits(number),
        subject,
        reason: "key lost".parse().unwrap(),
        by: "admin".parse().unwrap(),
        at: Timestamp(1),
    })
}

fn set(subjects: &[Subject]) -> Revocations {
    Revocations::of((0..).zip(subjects).map(|(number, subject)| revocation(number, subject.clone()))).unwrap()
}

fn by_id(text: &str) -> Subject {
    Subject::parse_id(text).unwrap()
}

#[test]
fn a_prefix_covers_whole_path_segments_and_the_path_itself() {
    let set = set(&[by_id("spiffe://west.example/ns/a/*")]);
    for covered in ["/ns/a", "/ns/a/sa/b", "/ns/a/sa/b/c"] {
        assert!(set.of_id(&id(&format!("spiffe://west.example{covered}"))).is_some(), "{covered}");
    }
    for free in ["/ns/ab", "/ns/ab/sa/b", "/ns", "/n", "/x/ns/a", "/NS/a"] {
        assert!(set.of_id(&id(&format!("spiffe://west.example{free}"))).is_none(), "{free}");
    }
    assert!(set.of_id(&id("spiffe://east.example/ns/a/sa/b")).is_none(), "another trust domain");
}

#[test]
fn a_whole_trust_domain_is_a_prefix_and_is_never_revoked_by_a_slip() {
    let set = set(&[by_id("spiffe://west.example/*")]);
    assert!(set.of_id(&id("spiffe://west.example/anything/at/all")).is_some());
    assert!(set.of_trust_domain(&domain("west.example")).is_some());
    assert!(set.of_trust_domain(&domain("east.example")).is_none());
    let slip = Subject::parse_id("spiffe://west.example").unwrap_err().to_string();
    assert!(slip.contains("write spiffe://west.example/* to revoke everything in it"), "{slip}");
}

#[test]
fn only_ids_and_prefixes_are_read_as_such() {
    for text in ["", "*", "spiffe://*", "spiffe://west.example/a*", "spiffe://west.example/*/b", "https://x/y", "west"]
    {
        assert!(Subject::parse_id(text).is_err(), "{text}");
    }
    for text in ["spiffe://west.example/ns/a", "spiffe://west.example/ns/a/*", "spiffe://west.example/*"] {
        assert_eq!(by_id(text).to_string(), format!("id {text}"));
    }
    assert_eq!(by_id("SPIFFE://West.Example/a").to_string(), "id spiffe://west.example/a");
}

#[test]
fn a_cluster_is_revoked_by_its_name_and_with_everything_of_its_trust_domain() {
    let subject = Subject::Cluster { cluster: "west".parse().unwrap(), trust_domain: domain("west.example") };
    let set = set(&[subject]);
    assert!(set.of_cluster(&"west".parse().unwrap()).is_some());
    assert!(set.of_id(&id("spiffe://west.example/ns/a/sa/b")).is_some());
    assert!(set.of_trust_domain(&domain("west.example")).is_some());
    assert!(set.of_cluster(&"east".parse().unwrap()).is_none());
}

#[test]
fn a_serial_number_has_one_form_however_it_is_written() {
    for text in ["0aff", "AFF", "0A:FF", "00:0a:ff", "000000000000000000000000000000000000000aff"] {
        assert_eq!(text.parse::<Serial>().unwrap().as_str(), "0aff", "{text}");
    }
    assert_eq!(Serial::from_bytes(&[0, 0x0a, 0xff]), "0aff".parse().unwrap());
    assert_eq!((Serial::from_bytes(&[0]).as_str(), "0".parse::<Serial>().unwrap().as_str()), ("00", "00"));
    for text in ["", ":", "xyz", "0x1f", "-1", &"1".repeat(41)] {
        assert!(text.parse::<Serial>().is_err(), "{text}");
    }
}

#[test]
fn a_serial_number_is_that_of_one_trust_domain_and_covers_no_id() {
    let serial: Serial = "01".parse().unwrap();
    let set = set(&[Subject::Serial { trust_domain: domain("west.example"), serial: serial.clone() }]);
    assert!(set.of_serial(&domain("west.example"), &serial).is_some());
    assert!(set.of_serial(&domain("east.example"), &serial).is_none());
    assert!(set.of_id(&id("spiffe://west.example/a")).is_none());
}

#[test]
fn lifting_one_of_two_revocations_of_a_subject_leaves_the_other_in_force() {
    let subject = by_id("spiffe://west.example/a");
    let mut set = set(&[subject.clone(), subject]);
    assert!(set.lift(&RevocationId::from_bits(0)));
    assert_eq!(set.of_id(&id("spiffe://west.example/a")).map(|r| r.id), Some(RevocationId::from_bits(1)));
    assert!(set.lift(&RevocationId::from_bits(1)));
    assert!(set.is_empty() && set.of_id(&id("spiffe://west.example/a")).is_none());
    assert!(!set.lift(&RevocationId::from_bits(1)));
}

#[test]
fn there_are_at_most_so_many_revocations() {
    let one = |number: u64| revocation(number, by_id(&format!("spiffe://west.example/{number}")));
    let mut full = Revocations::of((0..MAX_REVOCATIONS as u64).map(one)).unwrap();
    assert_eq!(full.add(one(MAX_REVOCATIONS as u64)), Err(TooManyRevocations));
    assert_eq!(full.add(one(0)), Ok(()), "one that is there needs no room");
    assert_eq!(full.len(), MAX_REVOCATIONS);
}

#[test]
fn lines_and_ids_are_refused_outside_their_grammar() {
    assert_eq!("a\nb".parse::<Line>(), Err(LineError::Control));
    assert_eq!("a".repeat(MAX_LINE + 1).parse::<Line>(), Err(LineError::TooLong(MAX_LINE + 1)));
    for text in ["", "abc", "00000000000000zz", "00000000000000FF", "000000000000000000"] {
        assert!(text.parse::<RevocationId>().is_err(), "{text}");
    }
    let shown = revocation(255, by_id("spiffe://west.example/a")).to_string();
    assert_eq!(shown, "id spiffe://west.example/a was revoked (key lost), revocation 00000000000000ff");
}

fn paths() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab]{1,2}", 1..5)
}

fn written(segments: &[String]) -> String {
    segments.iter().map(|segment| format!("/{segment}")).collect()
}

proptest! {
    /// The lookup finds what a comparison of segments one by one finds, and what each subject says of itself.
    #[test]
    fn lookups_agree_with_segments_compared_one_by_one(
        exact in prop::collection::vec(paths(), 0..6), prefixes in prop::collection::vec(paths(), 0..6), asked in paths(),
    ) {
        let mut subjects: Vec<_> =
            exact.iter().map(|path| by_id(&format!("spiffe://west.example{}", written(path)))).collect();
        subjects.extend(prefixes.iter().map(|path| by_id(&format!("spiffe://west.example{}/*", written(path)))));
        let asked_id = id(&format!("spiffe://west.example{}", written(&asked)));
        let expected = exact.contains(&asked) || prefixes.iter().any(|prefix| asked.starts_with(prefix));
        let found = set(&subjects).of_id(&asked_id).cloned();
        prop_assert_eq!(found.is_some(), expected);
        prop_assert_eq!(subjects.iter().any(|subject| subject.covers(&asked_id)), expected);
        if let Some(found) = found {
            prop_assert!(found.subject.covers(&asked_id));
        }
    }

    #[test]
    fn serials_and_ids_survive_display_and_parse(bytes in prop::collection::vec(any::<u8>(), 1..=20), bits: u64) {
        let serial = Serial::from_bytes(&bytes);
        prop_assert_eq!(serial.to_string().parse::<Serial>().unwrap(), serial);
        let id = RevocationId::from_bits(bits);
        prop_assert_eq!(id.to_string().parse::<RevocationId>().unwrap(), id);
    }

    #[test]
    fn parsing_arbitrary_text_never_panics(text in "\\PC*") {
        let _ = (Subject::parse_id(&text), text.parse::<Serial>(), text.parse::<RevocationId>(), text.parse::<Line>());
    }

    /// Whatever comes and goes, the set is that of the records that are left.
    #[test]
    fn a_set_after_changes_is_the_set_of_what_is_left(steps in prop::collection::vec((0..6_u64, any::<bool>()), 0..30)) {
        let one = |number: u64| revocation(number, by_id(&format!("spiffe://west.example/{}", number % 3)));
        let (mut set, mut left) = (Revocations::default(), std::collections::BTreeSet::new());
        for (number, comes) in steps {
            if comes {
                set.add(one(number)).unwrap();
                left.insert(number);
            } else {
                prop_assert_eq!(set.lift(&RevocationId::from_bits(number)), left.remove(&number));
            }
        }
        prop_assert_eq!(&set, &Revocations::of(left.iter().map(|number| one(*number))).unwrap());
        for path in 0..3 {
            let covered = set.of_id(&id(&format!("spiffe://west.example/{path}"))).is_some();
            prop_assert_eq!(covered, left.iter().any(|number| number % 3 == path));
        }
    }
}
