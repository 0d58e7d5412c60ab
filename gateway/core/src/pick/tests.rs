use federation_model::{
    addr::{Port, Transport},
    catalog::SessionAffinity,
};
use proptest::prelude::*;

use super::*;

fn candidate(name: &str, priority: u32, weight: u32) -> Candidate {
    Candidate { cluster: name.parse().unwrap(), local: name == "east", priority, weight, ready: 1 }
}

fn route(candidates: Vec<Candidate>) -> Route {
    Route {
        service: "shop/web".parse().unwrap(),
        port: Port::new(443).unwrap(),
        transport: Transport::Tcp,
        endpoint: None,
        affinity: SessionAffinity::None,
        candidates,
    }
}

#[expect(clippy::disallowed_methods, reason = "an Instant has no other beginning; the tests only add to it")]
fn start() -> Instant {
    Instant::now()
}

fn idle(_: &ClusterName) -> Load {
    Load::default()
}

fn order(picker: &Picker, route: &Route, draw: Draw, now: Instant) -> Vec<String> {
    picker.order(route, idle, draw, now).iter().map(ToString::to_string).collect()
}

/// How often each cluster comes first in many draws.
fn firsts(route: &Route, load: impl Fn(&ClusterName) -> Load + Copy) -> BTreeMap<String, u32> {
    let (picker, now) = (Picker::new(), start());
    let mut counts = BTreeMap::new();
    for bits in 0..10_000 {
        *counts.entry(picker.order(route, load, Draw::Random(mix(bits)), now)[0].to_string()).or_default() += 1;
    }
    counts
}

#[test]
fn this_cluster_comes_first_then_the_priorities_in_turn() {
    let route = route(vec![candidate("a", 2, 100), candidate("b", 1, 100), candidate("east", 9, 1)]);
    assert_eq!(order(&Picker::new(), &route, Draw::Random(5), start()), ["east", "b", "a"]);
}

#[test]
fn clusters_of_one_priority_share_by_weight() {
    let counts = firsts(&route(vec![candidate("a", 0, 300), candidate("b", 0, 100)]), idle);
    assert!((7200..=7800).contains(&counts["a"]), "{counts:?}");
}

#[test]
fn a_near_cluster_gets_more_and_a_distant_one_still_some() {
    let load = |cluster: &ClusterName| Load {
        outstanding: 0,
        rtt: Some(Duration::from_millis(if cluster.as_str() == "a" { 10 } else { 40 })),
    };
    let counts = firsts(&route(vec![candidate("a", 0, 100), candidate("b", 0, 100)]), load);
    assert!((7700..=8300).contains(&counts["a"]), "{counts:?}");
}

#[test]
fn a_clearly_busier_cluster_loses_half_of_the_draws_it_would_win() {
    let load = |cluster: &ClusterName| Load { outstanding: if cluster.as_str() == "a" { 500 } else { 10 }, rtt: None };
    let counts = firsts(&route(vec![candidate("a", 0, 100), candidate("b", 0, 100)]), load);
    assert!((2300..=2700).contains(&counts["a"]), "{counts:?}");
}

#[test]
fn failures_in_a_row_eject_a_cluster_for_that_service_alone() {
    let (picker, now) = (Picker::new(), start());
    let route = route(vec![candidate("a", 0, 100), candidate("b", 1, 100)]);
    let a = &route.candidates[0].cluster;
    for _ in 1..FAILURES_TO_EJECT {
        picker.failed(&route.service, a, now);
    }
    assert_eq!(order(&picker, &route, Draw::Random(1), now), ["a", "b"]);
    picker.failed(&route.service, a, now);
    assert_eq!(order(&picker, &route, Draw::Random(1), now), ["b", "a"], "an ejected cluster is still the last resort");
    let other = Route { service: "shop/api".parse().unwrap(), ..route.clone() };
    assert_eq!(order(&picker, &other, Draw::Random(1), now), ["a", "b"]);
    assert_eq!(order(&picker, &route, Draw::Random(1), now + EJECTION), ["a", "b"], "the ejection ends");
}

#[test]
fn a_failure_after_an_ejection_ejects_again_for_longer_and_a_success_forgives() {
    let (picker, now) = (Picker::new(), start());
    let (service, a) = ("shop/web".parse().unwrap(), "a".parse().unwrap());
    for _ in 0..FAILURES_TO_EJECT {
        picker.failed(&service, &a, now);
    }
    let later = now + EJECTION;
    picker.failed(&service, &a, later);
    assert!(picker.is_ejected(&service, &a, later + EJECTION));
    assert!(!picker.is_ejected(&service, &a, later + 2 * EJECTION));
    picker.succeeded(&service, &a);
    picker.failed(&service, &a, later);
    assert!(!picker.is_ejected(&service, &a, later));
}

#[test]
fn remembered_failures_are_bounded() {
    let (picker, now) = (Picker::new(), start());
    for n in 0..MAX_TRACKED + 5 {
        let service = format!("shop/s{n}").parse().unwrap();
        picker.failed(&service, &"a".parse().unwrap(), now + Duration::from_millis(n as u64));
    }
    let failures = picker.locked();
    assert_eq!(failures.len(), MAX_TRACKED);
    assert!(!failures.contains_key(&("shop/s0".parse().unwrap(), "a".parse().unwrap())));
}

#[test]
fn a_sticky_draw_moves_only_the_clients_of_a_cluster_that_left() {
    let all = route(["a", "b", "c"].map(|name| candidate(name, 0, 100)).to_vec());
    let fewer = route(["a", "c"].map(|name| candidate(name, 0, 100)).to_vec());
    let (picker, now) = (Picker::new(), start());
    let mut seen = BTreeMap::new();
    for hash in 0..3000u64 {
        let before = order(&picker, &all, Draw::Sticky(mix(hash)), now);
        let after = order(&picker, &fewer, Draw::Sticky(mix(hash)), now);
        *seen.entry(before[0].clone()).or_insert(0) += 1;
        assert!(before[0] == "b" || before[0] == after[0]);
    }
    assert!(seen.values().all(|count| (850..=1150).contains(count)), "{seen:?}");
}

#[test]
fn retries_are_bounded_to_a_part_of_the_connections() {
    let budget = RetryBudget::new();
    let burst = (0..1000).filter(|_| budget.spend()).count();
    assert_eq!(burst, 100);
    (0..50).for_each(|_| budget.earn());
    assert_eq!((0..1000).filter(|_| budget.spend()).count(), 10);
}

proptest! {
    #[test]
    fn every_candidate_is_in_the_order_once(
        weights in proptest::collection::vec((0u32..3, 0u32..1001, 0u32..1000, 0u64..500), 0..8),
        bits: u64,
        sticky: bool,
    ) {
        let names = |n: usize| format!("c{n}");
        let candidates = weights.iter().enumerate().map(|(n, w)| candidate(&names(n), w.0, w.1)).collect();
        let load = |cluster: &ClusterName| {
            let n: usize = cluster.as_str()[1..].parse().unwrap();
            Load { outstanding: weights[n].2, rtt: Some(Duration::from_millis(weights[n].3)) }
        };
        let draw = if sticky { Draw::Sticky(bits) } else { Draw::Random(bits) };
        let mut order: Vec<String> =
            Picker::new().order(&route(candidates), load, draw, start()).iter().map(ToString::to_string).collect();
        order.sort();
        prop_assert_eq!(order, (0..weights.len()).map(names).collect::<Vec<_>>());
    }
}
