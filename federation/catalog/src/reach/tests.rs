use federation_model::{
    catalog::{EndpointCounts, ExportedService, ServiceKind, SessionAffinity},
    export::{Audience, DeliverModes},
    time::Timestamp,
};

use super::*;

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn rtt(micros: u64) -> Rtt {
    Rtt::of(Duration::from_micros(micros), None)
}

fn exports(list: &[(&str, Option<&str>)]) -> BTreeMap<ServiceKey, LocalExport> {
    let service = ExportedService {
        exported_at: Timestamp(1),
        kind: ServiceKind::ClusterSetIp,
        ports: Vec::new(),
        health: EndpointCounts::default(),
        session_affinity: SessionAffinity::None,
        priority: 0,
        weight: 100,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    let export = |(name, only): &(&str, Option<&str>)| {
        let audience = only.map_or(Audience::Everyone, |only| Audience::Only([cluster(only)].into()));
        let (endpoints, deliver) = (Vec::new(), DeliverModes::default());
        let export = LocalExport { service: service.clone(), endpoints, deliver, audience };
        (format!("shop/{name}").parse().unwrap(), export)
    };
    list.iter().map(export).collect()
}

fn said(states: &[(&str, ImportState)]) -> Option<Reported> {
    let states = states.iter().map(|(name, state)| (format!("shop/{name}").parse().unwrap(), *state));
    Some(Reported::Said(Arc::new(states.collect())))
}

fn labels(reach: &Reach, name: &str) -> Vec<String> {
    let reach = &reach[&format!("shop/{name}").parse().unwrap()];
    reach.importers().map(|(cluster, importer)| format!("{cluster} {}", importer.label())).collect()
}

#[test]
fn a_round_trip_time_is_told_in_steps() {
    let told = [0, 900, 1000, 1001, 5000, 5001, 60_000, 1_000_000, 1_000_001].map(|micros| rtt(micros).to_string());
    assert_eq!(told, ["1 ms", "1 ms", "1 ms", "2 ms", "5 ms", "10 ms", "100 ms", "1 s", "over 1 s"]);
    assert_eq!((rtt(0).most_millis(), rtt(2_000_000).most_millis()), (Some(1), None));
}

#[test]
fn a_time_at_the_edge_of_two_steps_does_not_go_back_and_forth() {
    let mut told = None;
    let mut follow = |micros| {
        told = Some(Rtt::of(Duration::from_micros(micros), told));
        told.unwrap().to_string()
    };
    assert_eq!([4900, 5100, 4900, 5900].map(&mut follow), ["5 ms"; 4]);
    assert_eq!([6100, 5100, 4100].map(&mut follow), ["10 ms"; 3]);
    assert_eq!([3900, 1700].map(&mut follow), ["5 ms", "5 ms"]);
    assert_eq!([1500, 0].map(&mut follow), ["2 ms", "1 ms"]);
    assert_eq!([5_000_000, 900_000, 300_000].map(&mut follow), ["over 1 s", "over 1 s", "500 ms"]);
}

#[test]
fn every_member_that_an_export_is_for_is_told_of_with_what_it_made_of_it() {
    use ImportState::{NoAddress, Ready, TypeConflict};
    let peers = [
        ("far", Peer { tunnel: None, reported: said(&[("a", Ready), ("b", Ready)]) }),
        ("new", Peer { tunnel: Some(rtt(1)), reported: None }),
        ("old", Peer { tunnel: Some(rtt(1)), reported: Some(Reported::Unable) }),
        ("west", Peer { tunnel: Some(rtt(1)), reported: said(&[("a", Ready), ("b", NoAddress), ("d", TypeConflict)]) }),
    ];
    let peers: BTreeMap<ClusterName, Peer> = peers.into_iter().map(|(name, peer)| (cluster(name), peer)).collect();
    let exports = exports(&[("a", None), ("b", None), ("c", Some("west")), ("d", Some("west")), ("e", Some("nobody"))]);
    let reach = of(&exports, &peers);
    assert_eq!(labels(&reach, "a"), ["far no-tunnel", "new pending", "old unknown", "west reachable"]);
    assert_eq!(labels(&reach, "b"), ["far no-tunnel", "new pending", "old unknown", "west no-address"]);
    assert_eq!(labels(&reach, "c"), ["west pending"]);
    assert_eq!(labels(&reach, "d"), ["west type-conflict"]);
    assert_eq!(labels(&reach, "e"), Vec::<String>::new());
}

#[test]
fn exports_that_are_as_far_everywhere_share_one_value() {
    let peers = [(cluster("west"), Peer { tunnel: Some(rtt(1)), reported: Some(Reported::Unable) })].into();
    let reach = of(&exports(&[("a", None), ("b", None), ("c", Some("north"))]), &peers);
    let of = |name: &str| &reach[&format!("shop/{name}").parse().unwrap()];
    assert!(Arc::ptr_eq(of("a"), of("b")) && !Arc::ptr_eq(of("a"), of("c")));
}

#[test]
fn every_state_has_a_label_of_the_list_and_no_two_have_one() {
    use ImportState::{NoAddress, NoNamespace, Other, PortConflict, Ready, TypeConflict};
    let states = [Ready, NoAddress, NoNamespace, PortConflict, TypeConflict, Other].map(Imported::Said);
    let near = Some(rtt(1));
    let mut importers: Vec<Importer> = states.map(|import| Importer { import, tunnel: near }).into();
    importers.extend([Imported::Pending, Imported::Unsaid].map(|import| Importer { import, tunnel: near }));
    importers.push(Importer { import: Imported::Pending, tunnel: None });
    let labels: BTreeSet<&str> = importers.iter().map(Importer::label).collect();
    assert_eq!(labels, Importer::LABELS.into());
}
