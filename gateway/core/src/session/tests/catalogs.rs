//! How catalogs travel.

use std::collections::BTreeMap;

use federation_model::catalog::{CatalogError, ExportedService, MAX_PORTS, MAX_SERVICES};
use proptest::{collection, prelude::*};
use proto::tunnel::v1::{CatalogDelta, SnapshotRequest};

use super::{pair::End, *};

fn is_snapshot(message: &Message) -> bool {
    matches!(message, Message::Snapshot(_))
}

fn is_delta(message: &Message) -> bool {
    matches!(message, Message::Delta(_))
}

fn removals_of(message: &Message) -> Option<usize> {
    if let Message::Delta(delta) = message { Some(delta.removals.len()) } else { None }
}

fn is_request(message: &Message) -> bool {
    matches!(message, Message::SnapshotRequest(_))
}

/// A pair where both hold something of an earlier session.
fn pair_holding(east: &Arc<Catalog>, west: &Arc<Catalog>, held_by_west: &Arc<Catalog>) -> Pair {
    let now = clock();
    let catalogs = Catalogs { held: Some(held_by_west.clone()), local: west.clone() };
    let west = Session::new(config("west"), "east".parse().unwrap(), catalogs, now, EPOCH_MILLIS);
    Pair::of(session("east", "west", east, now), west, now)
}

fn ended_by(end: &End) -> &SessionError {
    end.ended.as_ref().unwrap()
}

/// Runs a pair whose east tampers with what it sends, from before its snapshot.
fn tampered(tamper: Tamper) -> Pair {
    let mut pair = Pair::new(&catalog("east", &[("a", 1)]), &catalog("west", &[]));
    pair.east.tamper = Some(tamper);
    pair.run_millis(100);
    pair
}

#[test]
fn both_ends_get_a_snapshot_when_they_connect() {
    let (east, west) = (catalog("east", &[("a", 1), ("b", 2)]), catalog("west", &[("c", 3)]));
    let mut pair = Pair::new(&east, &west);
    pair.run_millis(200);
    assert_eq!((pair.east.known(), pair.west.known()), (Some(&west), Some(&east)));
    assert_eq!(pair.east.acknowledged(), [east.digest()]);
    assert_eq!(pair.west.acknowledged(), [west.digest()]);
}

#[test]
fn a_snapshot_is_not_sent_to_a_peer_that_holds_its_digest() {
    let east = catalog("east", &[("a", 1)]);
    let mut pair = pair_holding(&east, &catalog("west", &[]), &east);
    pair.run_millis(200);
    assert!(pair.west.events.contains(&SessionEvent::Unchanged));
    assert_eq!(pair.west.known(), None);
    let Some(Message::Snapshot(snapshot)) = pair.east.sent.iter().find(|message| is_snapshot(message)) else {
        panic!()
    };
    assert!(snapshot.unchanged && snapshot.catalog.is_none());
    assert_eq!(pair.east.acknowledged(), [east.digest()]);

    let later = catalog("east", &[("a", 1), ("b", 2)]);
    pair.east.session.handle_local_catalog(later.clone());
    pair.run_millis(200);
    assert_eq!(pair.west.known(), Some(&later), "deltas build on what was held");
    assert_eq!(pair.east.sent_count(is_snapshot), 1);
}

#[test]
fn a_peer_that_holds_another_state_gets_a_snapshot() {
    let east = catalog("east", &[("a", 1)]);
    let mut pair = pair_holding(&east, &catalog("west", &[]), &catalog("east", &[("a", 2)]));
    pair.run_millis(200);
    assert_eq!(pair.west.known(), Some(&east));
}

#[test]
fn what_is_held_of_another_cluster_is_not_offered() {
    let east = catalog("east", &[]);
    let mut pair = pair_holding(&east, &catalog("west", &[]), &catalog("north", &[]));
    pair.run_millis(200);
    assert_eq!(pair.west.known(), Some(&east), "the digests of empty catalogs are equal");
}

#[test]
fn deltas_follow_changes_and_are_acknowledged() {
    let states: Vec<_> = (0..5u16).map(|n| catalog("east", &[("a", n + 1), (&format!("s{n}"), 9)])).collect();
    let mut pair = Pair::new(&states[0], &catalog("west", &[]));
    pair.run_millis(200);
    for state in &states[1..] {
        pair.east.session.handle_local_catalog(state.clone());
        pair.run_millis(200);
        assert_eq!(pair.west.known(), Some(state));
    }
    assert_eq!(pair.east.acknowledged(), states.iter().map(|state| state.digest()).collect::<Vec<_>>());
    assert_eq!((pair.east.sent_count(is_snapshot), pair.east.sent_count(is_delta)), (1, 4));
}

#[test]
fn an_equal_catalog_sends_nothing() {
    let mut pair = Pair::new(&catalog("east", &[("a", 1)]), &catalog("west", &[]));
    pair.run_millis(200);
    pair.east.session.handle_local_catalog(catalog("east", &[("a", 1)]));
    pair.run_millis(200);
    assert_eq!(pair.east.sent_count(is_delta), 0);
}

#[test]
fn changes_while_an_acknowledgement_is_outstanding_are_sent_as_one() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.latency = Duration::from_millis(100);
    pair.run_millis(1000);
    for n in 1..=50 {
        pair.east.session.handle_local_catalog(catalog("east", &[("a", n)]));
        pair.run_millis(1);
    }
    pair.run_millis(1000);
    assert_eq!(pair.west.known(), Some(&catalog("east", &[("a", 50)])));
    assert_eq!(pair.east.sent_count(is_delta), 2);
}

#[test]
fn a_change_during_a_stall_arrives_after_it() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.run_millis(200);
    pair.east.stalled = true;
    for n in 1..=20 {
        pair.east.session.handle_local_catalog(catalog("east", &[("a", n)]));
        pair.run_millis(100);
    }
    pair.east.stalled = false;
    pair.run_millis(200);
    assert_eq!(pair.west.known(), Some(&catalog("east", &[("a", 20)])));
}

#[test]
fn a_divergence_asks_for_a_snapshot_and_is_healed_by_it() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.run_millis(200);
    pair.east.tamper = Some(|message| {
        if let Message::Delta(delta) = message {
            delta.upserts.pop();
        }
    });
    let state = catalog("east", &[("a", 1), ("b", 2)]);
    pair.east.session.handle_local_catalog(state.clone());
    pair.run_millis(25);
    pair.east.tamper = None;
    // Changes on this side while the snapshot is on its way are part of it, or follow it.
    pair.run_millis(300);
    assert_eq!(pair.west.sent_count(is_request), 1);
    assert_eq!(pair.east.sent_count(is_snapshot), 2);
    assert_eq!(pair.west.known(), Some(&state));
    assert_eq!(pair.east.acknowledged().last(), Some(&state.digest()));
    let next = catalog("east", &[("a", 1)]);
    pair.east.session.handle_local_catalog(next.clone());
    pair.run_millis(300);
    assert_eq!(pair.west.known(), Some(&next));
    assert_eq!(pair.east.sent_count(is_snapshot), 2);
}

#[test]
fn a_delta_on_another_base_asks_for_a_snapshot() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.run_millis(200);
    pair.east.tamper = Some(|message| {
        if let Message::Delta(delta) = message {
            delta.base += 7;
        }
    });
    pair.east.session.handle_local_catalog(catalog("east", &[("a", 1)]));
    pair.run_millis(300);
    assert_eq!(pair.west.sent_count(is_request), 1);
    assert_eq!(pair.west.known(), Some(&catalog("east", &[("a", 1)])));
}

#[test]
fn an_unfounded_unchanged_asks_for_a_snapshot() {
    let lie: Tamper = |message| {
        if let Message::Snapshot(snapshot) = message
            && snapshot.revision == 1
        {
            (snapshot.unchanged, snapshot.catalog) = (true, None);
        }
    };
    let mut pair = tampered(lie);
    pair.run_millis(300);
    assert_eq!(pair.west.sent_count(is_request), 1);
    assert_eq!(pair.west.known(), Some(&catalog("east", &[("a", 1)])));
}

#[test]
fn deltas_that_diverge_without_end_end_the_session() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.run_millis(200);
    pair.east.tamper = Some(|message| {
        if let Message::Delta(delta) = message {
            delta.upserts.clear();
        }
    });
    for n in 1..=9 {
        assert_eq!((&pair.east.ended, &pair.west.ended), (&None, &None));
        pair.east.session.handle_local_catalog(catalog("east", &[("a", n)]));
        pair.run_millis(200);
    }
    assert_eq!(ended_by(&pair.west), &SessionError::Diverging(9));
    assert_eq!(ended_by(&pair.west).close_reason(), CloseReason::ProtocolViolation);
}

#[test]
fn divergences_with_good_deltas_between_do_not_end_the_session() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.run_millis(200);
    let damage: Tamper = |message| {
        if let Message::Delta(delta) = message {
            delta.upserts.clear();
        }
    };
    for n in 1..=40 {
        pair.east.tamper = (n % 2 == 0).then_some(damage);
        pair.east.session.handle_local_catalog(catalog("east", &[("a", n)]));
        pair.run_millis(200);
    }
    assert_eq!((&pair.east.ended, &pair.west.ended), (&None, &None));
    assert_eq!(pair.west.known(), Some(&catalog("east", &[("a", 40)])));
    assert_eq!(pair.west.sent_count(is_request), 20);
}

#[test]
fn deltas_that_arrive_before_the_snapshot_that_was_asked_for_are_passed_over() {
    let now = clock();
    let mut east = greeted(now);
    for revision in 1..50 {
        let delta = CatalogDelta { base: revision, revision: revision + 1, ..Default::default() };
        east.handle_message(message(Message::Delta(delta)), now, EPOCH_MILLIS).unwrap();
    }
    let sent: Vec<Message> = std::iter::from_fn(|| east.poll_transmit()).filter_map(|sent| sent.message).collect();
    assert_eq!(sent.iter().filter(|message| is_request(message)).count(), 1);
}

#[test]
fn a_peer_that_asks_for_snapshots_without_end_is_refused() {
    let now = clock();
    let mut east = greeted(now);
    let ask = || message(Message::SnapshotRequest(SnapshotRequest { reason: "again".into() }));
    for _ in 0..8 {
        east.handle_message(ask(), now, EPOCH_MILLIS).unwrap();
    }
    let error = east.handle_message(ask(), now, EPOCH_MILLIS).unwrap_err();
    assert_eq!(error, SessionError::SnapshotsInARow(9));
}

#[test]
fn an_acknowledgement_a_snapshot_has_overtaken_is_passed_over() {
    let now = clock();
    let mut east = greeted(now);
    while east.poll_transmit().is_some() {}
    east.handle_message(message(Message::SnapshotRequest(SnapshotRequest::default())), now, EPOCH_MILLIS).unwrap();
    while east.poll_transmit().is_some() {}
    while east.poll_event().is_some() {}
    east.handle_message(message(Message::Ack(CatalogAck { revision: 1 })), now, EPOCH_MILLIS).unwrap();
    assert_eq!(east.poll_event(), None);
    east.handle_message(message(Message::Ack(CatalogAck { revision: 2 })), now, EPOCH_MILLIS).unwrap();
    assert!(matches!(east.poll_event(), Some(SessionEvent::Acknowledged(_))));
}

#[test]
fn a_catalog_of_another_cluster_ends_the_session() {
    let pair = tampered(|message| {
        if let Message::Snapshot(snapshot) = message {
            snapshot.catalog.as_mut().unwrap().cluster = "north".into();
        }
    });
    assert!(matches!(ended_by(&pair.west), SessionError::CatalogRefused(CatalogError::WrongCluster { .. })));
    assert_eq!(ended_by(&pair.west).close_reason(), CloseReason::BadCatalog);
    assert_eq!(pair.west.known(), None);
}

#[test]
fn catalogs_over_the_limits_end_the_session() {
    let ports = tampered(|message| {
        if let Message::Snapshot(snapshot) = message {
            let service = &mut snapshot.catalog.as_mut().unwrap().services[0];
            service.ports = vec![service.ports[0].clone(); MAX_PORTS + 1];
        }
    });
    assert!(matches!(ended_by(&ports.west), SessionError::CatalogRefused(CatalogError::TooMany { .. })));
    let services = tampered(|message| {
        if let Message::Snapshot(snapshot) = message {
            let services = &mut snapshot.catalog.as_mut().unwrap().services;
            for n in 0..MAX_SERVICES {
                let mut service = services[0].clone();
                service.key.as_mut().unwrap().name = format!("more-{n}");
                services.push(service);
            }
        }
    });
    assert!(matches!(ended_by(&services.west), SessionError::CatalogRefused(CatalogError::TooManyServices(_))));
}

#[test]
fn deltas_cannot_grow_a_catalog_over_the_limits() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.run_millis(200);
    let mut services = BTreeMap::new();
    for n in 0..=MAX_SERVICES {
        services.insert(format!("ns/s{n}").parse().unwrap(), pair::service(1));
    }
    pair.east.session.handle_local_catalog(Arc::new(Catalog { cluster: "east".parse().unwrap(), services }));
    pair.run_millis(500);
    assert!(matches!(ended_by(&pair.west), SessionError::CatalogRefused(CatalogError::TooManyServices(_))));
}

#[test]
fn catalogs_and_deltas_that_do_not_convert_end_the_session() {
    let missing = tampered(|message| {
        if let Message::Snapshot(snapshot) = message {
            snapshot.catalog = None;
        }
    });
    assert!(ended_by(&missing.west).to_string().contains("CatalogSnapshot.catalog"));
    let digest = tampered(|message| {
        if let Message::Snapshot(snapshot) = message {
            snapshot.digest = vec![1].into();
        }
    });
    assert!(ended_by(&digest.west).to_string().contains("CatalogSnapshot.digest"));
    let mut delta = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    delta.run_millis(200);
    delta.east.tamper = Some(|message| {
        if let Message::Delta(delta) = message {
            delta.upserts[0].weight = 0;
        }
    });
    delta.east.session.handle_local_catalog(catalog("east", &[("a", 1)]));
    delta.run_millis(200);
    assert!(ended_by(&delta.west).to_string().contains("Service.weight"));
    assert_eq!(ended_by(&delta.west).close_reason(), CloseReason::BadCatalog);
}

#[test]
fn a_peer_with_another_way_to_digest_is_followed_all_the_same() {
    let mut pair = tampered(|message| {
        let other = |digest: &mut bytes::Bytes| *digest = digest.iter().map(|byte| byte ^ 0xff).collect();
        if let Message::Snapshot(snapshot) = message {
            other(&mut snapshot.digest);
        } else if let Message::Delta(delta) = message {
            other(&mut delta.digest);
        }
    });
    for n in 1..20 {
        let state = catalog("east", &[("a", n), (if n % 2 == 0 { "b" } else { "c" }, n)]);
        pair.east.session.handle_local_catalog(state.clone());
        pair.run_millis(200);
        assert_eq!(pair.west.known(), Some(&state));
    }
    assert_eq!(pair.west.sent_count(is_request), 0);
    assert_eq!(pair.east.sent_count(is_snapshot), 1);
}

#[test]
fn a_catalog_too_large_for_one_message_arrives_in_several() {
    let labels: BTreeMap<String, String> = (0..32).map(|n| (format!("label-{n}"), "x".repeat(500))).collect();
    let large = |name: usize| {
        (format!("ns/s{name}").parse().unwrap(), ExportedService { labels: labels.clone(), ..pair::service(1) })
    };
    let state = |from: usize, to: usize| {
        Arc::new(Catalog { cluster: "east".parse().unwrap(), services: (from..to).map(large).collect() })
    };
    let (first, second) = (state(0, 300), state(290, 600));
    let mut pair = Pair::new(&first, &catalog("west", &[]));
    pair.run_millis(500);
    assert_eq!(pair.west.known(), Some(&first));
    pair.east.session.handle_local_catalog(second.clone());
    pair.run_millis(500);
    assert_eq!(pair.west.known(), Some(&second));
    assert_eq!(pair.east.acknowledged().last(), Some(&second.digest()));
    assert_eq!((pair.east.sent_count(is_snapshot), pair.west.sent_count(is_request)), (1, 0));
    assert!(pair.east.sent_count(is_delta) >= 4, "{}", pair.east.sent_count(is_delta));
    let removals: Vec<usize> = pair.east.sent.iter().filter_map(removals_of).collect();
    let first = removals.iter().position(|removals| *removals > 0).unwrap();
    assert_eq!((removals[first], removals.last()), (290, Some(&0)), "what is gone leaves first: {removals:?}");
    let length = |message: &Message| prost::Message::encoded_len(&ControlMessage { message: Some(message.clone()) });
    assert!(pair.east.sent.iter().map(length).max().unwrap() < MAX_DELTA_BYTES + 10_000);
}

/// Something that happens to a pair.
#[derive(Debug, Clone)]
enum Step {
    East(Vec<u16>),
    West(Vec<u16>),
    StallEast(bool),
    StallWest(bool),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ports = || collection::vec(1u16..4, 0..4);
    let step = prop_oneof![
        ports().prop_map(Step::East),
        ports().prop_map(Step::West),
        any::<bool>().prop_map(Step::StallEast),
        any::<bool>().prop_map(Step::StallWest),
        (0u64..400).prop_map(Step::Pass),
    ];
    collection::vec(step, 1..40)
}

fn numbered(cluster: &str, ports: &[u16]) -> Arc<Catalog> {
    let names: Vec<String> = (0..ports.len()).map(|n| format!("s{n}")).collect();
    let services: Vec<(&str, u16)> = names.iter().map(String::as_str).zip(ports.iter().copied()).collect();
    catalog(cluster, &services)
}

/// Each snapshot or delta left only after the one before was acknowledged.
fn one_in_flight(end: &End) -> bool {
    let catalogs = end.sent_count(is_snapshot) + end.sent_count(is_delta);
    let acknowledged = end.acknowledged().len();
    catalogs == acknowledged || catalogs == acknowledged + 1
}

proptest! {
    #[test]
    fn whatever_changes_and_stalls_both_ends_agree_in_the_end(steps in steps()) {
        let (mut east, mut west) = (numbered("east", &[1]), numbered("west", &[2]));
        let mut pair = Pair::new(&east, &west);
        pair.run_millis(100);
        for step in steps {
            match step {
                Step::East(ports) => {
                    east = numbered("east", &ports);
                    pair.east.session.handle_local_catalog(east.clone());
                }
                Step::West(ports) => {
                    west = numbered("west", &ports);
                    pair.west.session.handle_local_catalog(west.clone());
                }
                Step::StallEast(stalled) => pair.east.stalled = stalled,
                Step::StallWest(stalled) => pair.west.stalled = stalled,
                Step::Pass(millis) => pair.run_millis(millis),
            }
            prop_assert!(one_in_flight(&pair.east) && one_in_flight(&pair.west));
        }
        (pair.east.stalled, pair.west.stalled) = (false, false);
        pair.run_millis(500);
        prop_assert_eq!((&pair.east.ended, &pair.west.ended), (&None, &None));
        prop_assert_eq!(pair.east.known(), Some(&west));
        prop_assert_eq!(pair.west.known(), Some(&east));
        prop_assert_eq!(pair.east.acknowledged().pop(), Some(east.digest()));
        prop_assert_eq!(pair.east.sent_count(is_snapshot) + pair.west.sent_count(is_snapshot), 2);
        prop_assert_eq!(pair.east.sent_count(is_request) + pair.west.sent_count(is_request), 0);
    }
}
