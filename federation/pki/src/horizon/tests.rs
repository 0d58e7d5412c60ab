use federation_model::spiffe::SpiffeId;

use super::*;
use crate::{
    ca::{Authority, SvidRequest},
    svid::Svid,
};

const NOW: Timestamp = Timestamp(1_700_000_000);
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// From so many seconds before now until so many after.
fn around(before: u64, after: u64) -> Validity {
    Validity { not_before: Timestamp(NOW.0 - before), not_after: at(after) }
}

fn at(after: u64) -> Timestamp {
    Timestamp(NOW.0 + after)
}

fn domain(cluster: &str) -> TrustDomain {
    TrustDomain::new(format!("{cluster}.example")).unwrap()
}

fn authority(cluster: &str, validity: Validity) -> Authority {
    Authority::generate(&domain(cluster), cluster, validity).unwrap()
}

fn leaf(authority: &Authority, validity: Validity) -> Svid {
    let id = SpiffeId::from_segments(authority.trust_domain().clone(), &["landbridge", "gateway"]).unwrap();
    authority.issue(&SvidRequest { id, names: vec![], validity }).unwrap()
}

fn bundle(of: &[&Authority]) -> TrustBundle {
    let authorities = of.iter().map(|authority| authority.certificate().clone()).collect();
    TrustBundle { trust_domain: of[0].trust_domain().clone(), sequence: 1, authorities }
}

/// A cluster whose authority and certificate are far from their ends.
struct World {
    name: ClusterName,
    bundle: TrustBundle,
    chain: Vec<CertificateDer<'static>>,
}

impl World {
    fn of(cluster: &str, authority_validity: Validity, leaf_validity: Validity) -> Self {
        let authority = authority(cluster, authority_validity);
        let chain = leaf(&authority, leaf_validity).chain().to_vec();
        Self { name: cluster.parse().unwrap(), bundle: bundle(&[&authority]), chain }
    }

    fn fresh(cluster: &str) -> Self {
        Self::of(cluster, around(YEAR, 9 * YEAR), around(HOUR, 23 * HOUR))
    }

    fn seen(&self) -> Cluster<'_> {
        Cluster { name: &self.name, bundle: &self.bundle, chains: vec![&self.chain] }
    }

    fn outlook(&self) -> Outlook<'_> {
        Outlook::alone(self.seen())
    }
}

fn ends(whose: Whose, part: Part, after: u64) -> Break {
    Break { at: at(after), whose, part, why: None }
}

fn west() -> Whose {
    Whose::Peer("west".parse().unwrap())
}

/// What it is, the authority's time, the certificate's, and what ends in how many seconds.
type Row = (&'static str, Validity, Validity, Option<(Part, u64)>);

#[test]
fn an_end_is_foreseen_for_as_long_as_its_kind_of_thing_takes_to_replace() {
    let (long, short) = (around(YEAR, 9 * YEAR), around(HOUR, 23 * HOUR));
    let (certificate, authority) = (Part::Certificate, Part::Authority);
    let table: [Row; 11] = [
        ("everything is fresh", long, short, None),
        ("a certificate of hours at half of its life", long, around(12 * HOUR, 12 * HOUR), None),
        (
            "a certificate of hours in its last quarter",
            long,
            around(19 * HOUR, 5 * HOUR),
            Some((certificate, 5 * HOUR)),
        ),
        ("a certificate of a year, two months before", long, around(300 * DAY, 60 * DAY), None),
        (
            "a certificate of a year, four weeks before",
            long,
            around(337 * DAY, 28 * DAY),
            Some((certificate, 28 * DAY)),
        ),
        ("an authority of years, two months before", around(9 * YEAR, 60 * DAY), short, None),
        ("an authority of years, four weeks before", around(9 * YEAR, 28 * DAY), short, Some((authority, 28 * DAY))),
        ("an authority of a day with a sixth left", around(20 * HOUR, 4 * HOUR), around(60, 3 * HOUR), None),
        (
            "an authority of a day with a twelfth left",
            around(22 * HOUR, 2 * HOUR),
            around(60, 2 * HOUR),
            Some((authority, 2 * HOUR)),
        ),
        ("an authority of ninety days, ten days before", around(80 * DAY, 10 * DAY), short, None),
        ("an authority of ninety days, a week before", around(83 * DAY, 7 * DAY), short, Some((authority, 7 * DAY))),
    ];
    let east = World::fresh("east");
    for (what, authority, leaf, expected) in table {
        let world = World::of("west", authority, leaf);
        let outlook = Outlook { peers: vec![world.seen()], ..east.outlook() };
        let expected: Vec<Break> = expected.into_iter().map(|(part, after)| ends(west(), part, after)).collect();
        assert_eq!(foresee(&outlook, NOW), expected, "{what}, of a peer");
        let expected: Vec<Break> = expected.into_iter().map(|ends| Break { whose: Whose::Own, ..ends }).collect();
        assert_eq!(foresee(&world.outlook(), NOW), expected, "{what}, of this cluster");
    }
}

#[test]
fn a_renewal_that_fails_is_foreseen_long_before_the_certificate_is_late() {
    let east = World::fresh("east");
    let outlook = Outlook { failing: Some("the disk is full"), ..east.outlook() };
    let expected = Break { why: Some("the disk is full".to_owned()), ..ends(Whose::Own, Part::Certificate, 23 * HOUR) };
    assert_eq!(foresee(&outlook, NOW), [expected]);
}

#[test]
fn a_source_with_a_fault_is_foreseen_at_the_end_of_what_it_gave_last() {
    let east = World::fresh("east");
    let source = |fault| Outlook { source: Some(SourceState { until: at(40 * DAY), fault }), ..east.outlook() };
    assert_eq!(foresee(&source(None), NOW), []);
    let expected = Break { why: Some("the agent is away".to_owned()), ..ends(Whose::Own, Part::Source, 40 * DAY) };
    assert_eq!(foresee(&source(Some("the agent is away")), NOW), [expected]);
}

#[test]
fn an_authority_that_carries_nobody_any_more_may_end() {
    let (old, new) = (authority("west", around(YEAR, HOUR)), authority("west", around(DAY, 9 * YEAR)));
    let both = bundle(&[&old, &new]);
    let (under_old, under_new) = (leaf(&old, around(60, HOUR)), leaf(&new, around(60, DAY)));
    let (east, name) = (World::fresh("east"), "west".parse().unwrap());
    let foreseen = |chains: &[&Svid]| {
        let chains = chains.iter().map(|svid| svid.chain()).collect();
        let peers = vec![Cluster { name: &name, bundle: &both, chains }];
        foresee(&Outlook { peers, ..east.outlook() }, NOW)
    };
    assert_eq!(foreseen(&[&under_new]), []);
    assert_eq!(foreseen(&[]), [], "nobody knows which one it uses");
    let expected = [ends(west(), Part::Authority, HOUR)];
    assert_eq!(foreseen(&[&under_old]), expected);
    assert_eq!(foreseen(&[&under_old, &under_new]), expected, "one of its gateways still stands under the old one");
    assert_eq!(believed_until(&both), Some(at(9 * YEAR)));
}

#[test]
fn of_several_certificates_of_a_peer_the_newest_tells_that_it_renews() {
    let west_authority = authority("west", around(YEAR, 9 * YEAR));
    let (old, new) = (leaf(&west_authority, around(23 * HOUR, HOUR)), leaf(&west_authority, around(60, DAY)));
    let (east, name, bundle) = (World::fresh("east"), "west".parse().unwrap(), bundle(&[&west_authority]));
    let foreseen = |chains| {
        foresee(&Outlook { peers: vec![Cluster { name: &name, bundle: &bundle, chains }], ..east.outlook() }, NOW)
    };
    assert_eq!(foreseen(vec![old.chain(), new.chain()]), []);
    assert_eq!(foreseen(vec![old.chain()]), [ends(west(), Part::Certificate, HOUR)]);
}

#[test]
fn the_first_to_break_comes_first_and_what_is_over_has_no_time_left() {
    let (east, west_world) = (World::fresh("east"), World::of("west", around(9 * YEAR, 9 * DAY), around(60, DAY)));
    let service = bundle(&[&authority("federation", around(9 * YEAR, 3 * DAY))]);
    let over = Validity { not_before: Timestamp(NOW.0 - YEAR), not_after: Timestamp(NOW.0 - 1) };
    let foreign = bundle(&[&authority("spire", over)]);
    let outlook = Outlook {
        peers: vec![west_world.seen()],
        federation: Some(&service),
        foreign: vec![&foreign],
        ..east.outlook()
    };
    let found = foresee(&outlook, NOW);
    let shown: Vec<_> = found.iter().map(|ends| (ends.whose.clone(), ends.part, ends.left(NOW))).collect();
    let days = |days| Some(Duration::from_secs(days * DAY));
    assert_eq!(
        shown,
        [
            (Whose::Foreign(domain("spire")), Part::Authority, None),
            (Whose::Federation, Part::Authority, days(3)),
            (west(), Part::Authority, days(9)),
        ]
    );
}

#[test]
fn a_bundle_of_which_every_authority_is_revoked_breaks_nothing_further() {
    let east = World::fresh("east");
    let none = TrustBundle { authorities: vec![], ..east.bundle.clone() };
    assert_eq!(foresee(&Outlook { foreign: vec![&none], ..east.outlook() }, NOW), []);
    assert_eq!(believed_until(&none), None);
}
