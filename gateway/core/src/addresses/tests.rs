use federation_model::names::ServiceKey;
use proptest::prelude::*;

use super::*;

fn key(text: &str) -> AddressKey {
    text.parse().unwrap()
}

fn plan(range: &str) -> AddressPlan {
    AddressPlan::new(range.parse().unwrap()).unwrap()
}

fn keys(names: impl IntoIterator<Item = usize>) -> BTreeSet<AddressKey> {
    names.into_iter().map(|n| key(&format!("shop/s{n}"))).collect()
}

#[test]
fn a_key_keeps_its_address_while_others_come_and_go() {
    let plan = plan("127.80.0.0/16");
    let first = plan.assign(&Assignments::default(), &keys([7])).assignments;
    let address = first.address(&key("shop/s7")).unwrap();
    let more = plan.assign(&first, &keys(0..1000)).assignments;
    assert_eq!(more.address(&key("shop/s7")), Some(address));
    let gone = plan.assign(&more, &keys(100..200)).assignments;
    let back = plan.assign(&gone, &keys([7])).assignments;
    assert_eq!(back.address(&key("shop/s7")), Some(address), "a service that comes back finds its old address");
}

#[test]
fn gateways_that_never_met_agree_on_nearly_all_addresses() {
    let plan = plan("127.80.0.0/16");
    let one = plan.assign(&Assignments::default(), &keys(0..1000)).assignments;
    let other = plan.assign(&Assignments::default(), &keys(10..1010)).assignments;
    let same = one.iter().filter(|(key, address)| other.address(key) == Some(*address)).count();
    assert!(same > 900, "{same} of 990");
}

#[test]
fn a_full_range_names_itself_and_the_key_and_the_rest_works() {
    let assigned = plan("10.0.0.0/30").assign(&Assignments::default(), &keys(0..3));
    assert_eq!(assigned.assignments.len(), 2);
    let text = assigned.refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("");
    assert!(text.contains("10.0.0.0/30") && text.contains("shop/s2") && text.contains("vip_cidr"), "{text}");
}

#[test]
fn the_address_of_a_vanished_key_is_taken_when_none_is_free() {
    let plan = plan("10.0.0.0/30");
    let first = plan.assign(&Assignments::default(), &keys(0..2)).assignments;
    let second = plan.assign(&first, &keys(1..3));
    assert_eq!(second.refused, []);
    assert_eq!(second.assignments.address(&key("shop/s1")), first.address(&key("shop/s1")));
    assert_eq!(second.assignments.address(&key("shop/s2")), first.address(&key("shop/s0")));
    assert_eq!(second.assignments.address(&key("shop/s0")), None);
}

#[test]
fn network_broadcast_and_localhost_are_never_given_away() {
    for (range, usable) in [("127.0.0.0/29", 5), ("10.0.0.8/29", 6), ("fd00::/125", 6)] {
        let plan = plan(range);
        let assigned = plan.assign(&Assignments::default(), &keys(0..8));
        assert_eq!(assigned.assignments.len(), usable, "{range}");
        assert!(assigned.assignments.iter().all(|(_, ip)| plan.usable(ip) && plan.range.contains(&ip)), "{range}");
    }
    assert!(AddressPlan::new("10.0.0.0/31".parse().unwrap()).is_err());
    assert!(AddressPlan::new("127.0.0.1/32".parse().unwrap()).is_err());
}

#[test]
fn addresses_outside_a_changed_range_are_given_anew() {
    let old = plan("10.0.0.0/24").assign(&Assignments::default(), &keys(0..5)).assignments;
    let new = plan("10.1.0.0/24").assign(&old, &keys(0..5)).assignments;
    assert_eq!(new.len(), 5);
    let range: IpNet = "10.1.0.0/24".parse().unwrap();
    assert!(new.iter().all(|(_, ip)| range.contains(&ip)));
}

#[test]
fn vanished_keys_are_remembered_up_to_the_limit() {
    let plan = plan("10.0.0.0/8");
    let many = plan.assign(&Assignments::default(), &keys(0..MAX_REMEMBERED + 10)).assignments;
    assert_eq!(plan.assign(&many, &keys([])).assignments.len(), MAX_REMEMBERED);
}

#[test]
fn stored_assignments_survive_the_round_trip_and_duplicates_lose() {
    let wanted: BTreeSet<_> = ["shop/web", "shop/db/west/db-0"].into_iter().map(key).collect();
    let assignments = plan("10.0.0.0/24").assign(&Assignments::default(), &wanted).assignments;
    let map = BTreeMap::from(assignments.clone());
    assert_eq!(Assignments::from(map), assignments);
    let twice = BTreeMap::from([(key("a/a"), "10.0.0.1".parse().unwrap()), (key("a/b"), "10.0.0.1".parse().unwrap())]);
    assert_eq!(Assignments::from(twice).len(), 1);
}

proptest! {
    #[test]
    fn every_key_survives_display_and_parse(
        parts in proptest::collection::vec("[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", 4),
        endpoint: bool,
    ) {
        let service = ServiceKey::new(parts[0].parse().unwrap(), parts[1].parse().unwrap());
        let key = match endpoint {
            true => AddressKey::Endpoint(service, parts[2].parse().unwrap(), parts[3].parse().unwrap()),
            false => AddressKey::Service(service),
        };
        prop_assert_eq!(key.to_string().parse::<AddressKey>().unwrap(), key);
    }

    #[test]
    fn no_address_is_given_twice_and_no_wanted_key_goes_without_while_there_is_room(
        before in proptest::collection::btree_set(0usize..40, 0..30),
        after in proptest::collection::btree_set(0usize..40, 0..30),
    ) {
        let plan = plan("10.0.0.0/27");
        let first = plan.assign(&Assignments::default(), &keys(before));
        let second = plan.assign(&first.assignments, &keys(after.clone()));
        let distinct: BTreeSet<_> = second.assignments.iter().map(|(_, ip)| ip).collect();
        prop_assert_eq!(distinct.len(), second.assignments.len());
        prop_assert_eq!(&second.refused, &[]);
        prop_assert!(keys(after).iter().all(|key| second.assignments.address(key).is_some()));
    }
}
