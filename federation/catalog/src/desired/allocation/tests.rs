use std::sync::Arc;

use federation_model::{
    catalog::{Catalog, EndpointCounts, ExportedService, ServiceKind, ServicePort, SessionAffinity},
    derived::{DerivedPort, DerivedService, PlacedService},
    names::ServiceKey,
};
use proptest::prelude::*;

use super::*;
use crate::{desired::derived_services::PresentService, merge::merge};

const NOW: Timestamp = Timestamp(1_000);

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn exported(since: u64, ports: impl IntoIterator<Item = u16>) -> ExportedService {
    let port = |number| ServicePort {
        name: Some(format!("p{number}").parse().unwrap()),
        transport: Transport::Tcp,
        port: port(number),
        app_protocol: None,
    };
    ExportedService {
        exported_at: Timestamp(since),
        kind: ServiceKind::ClusterSetIp,
        ports: ports.into_iter().map(port).collect(),
        health: EndpointCounts { ready: 1, terminating: 0 },
        session_affinity: SessionAffinity::None,
        priority: 0,
        weight: 100,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

/// Imports of exports that each have a cluster, a service, an age and ports.
fn imports(exports: &[(&str, &str, u64, Vec<u16>)]) -> Imports {
    let mut catalogs: BTreeMap<&str, Catalog> = BTreeMap::new();
    for (cluster, key, since, ports) in exports {
        let catalog = catalogs.entry(cluster).or_insert_with(|| Catalog::empty(cluster.parse().unwrap()));
        catalog.services.insert(key.parse().unwrap(), exported(*since, ports.iter().copied()));
    }
    merge(catalogs.values())
}

fn allocations(range: &str) -> Allocations {
    Allocations::new(range.parse().unwrap(), BTreeSet::new())
}

/// Asks for every port of every import; what each got.
fn ask(allocations: &mut Allocations, imports: &Imports) -> BTreeMap<(ServiceKey, Port), Result<Port, Refusal>> {
    let mut round = allocations.begin(imports, &Present::default(), NOW);
    let mut got = BTreeMap::new();
    for (service, import) in imports {
        for asked in &import.ports {
            let result = round.port_of(&AddressKey::Service(service.clone()), asked.port, asked.transport);
            got.insert((service.clone(), asked.port), result);
        }
    }
    round.end();
    got
}

fn refused_of(got: &BTreeMap<(ServiceKey, Port), Result<Port, Refusal>>, key: &str) -> Vec<(u16, Refusal)> {
    let of_key = got.iter().filter(|((service, _), _)| service.to_string() == key);
    of_key.filter_map(|((_, port), result)| Some((port.number(), result.clone().err()?))).collect()
}

/// What is held beforehand, what is asked for then, and the ports of `shop/new` that are refused.
struct Case {
    rule: &'static str,
    before: Vec<(&'static str, &'static str, u64, Vec<u16>)>,
    added: Vec<(&'static str, &'static str, u64, Vec<u16>)>,
    refused: Vec<u16>,
}

#[test]
fn the_rules_of_fair_shares() {
    let cases = [
        Case {
            rule: "while a quarter is free everybody gets what they ask for",
            before: vec![("greedy", "shop/all", 1, (1..=20).collect()), ("other", "shop/one", 1, vec![1])],
            added: vec![("greedy", "shop/new", 1, (1..=10).collect())],
            refused: vec![],
        },
        Case {
            rule: "with less than a quarter free a cluster that has its share gets no new port",
            before: vec![("greedy", "shop/all", 1, (1..=31).collect()), ("other", "shop/one", 1, vec![1])],
            added: vec![("greedy", "shop/new", 1, vec![1, 2])],
            refused: vec![1, 2],
        },
        Case {
            rule: "with less than a quarter free a cluster below its share gets one",
            before: vec![("greedy", "shop/all", 1, (1..=31).collect()), ("other", "shop/one", 1, vec![1])],
            added: vec![("other", "shop/new", 1, vec![1, 2])],
            refused: vec![],
        },
        Case {
            rule: "a port is charged to the oldest of the clusters that expose it",
            before: vec![("greedy", "shop/all", 1, (1..=31).collect()), ("other", "shop/one", 1, vec![1])],
            added: vec![("other", "shop/new", 1, vec![1]), ("greedy", "shop/new", 2, vec![1])],
            refused: vec![],
        },
        Case {
            rule: "what a cluster adds to the service of another one is charged to the one that adds it",
            before: vec![("greedy", "shop/all", 1, (1..=31).collect()), ("other", "shop/one", 1, vec![1])],
            added: vec![("other", "shop/new", 5, vec![1]), ("greedy", "shop/new", 9, vec![1, 2, 3])],
            refused: vec![2, 3],
        },
        Case {
            rule: "the only cluster has the whole range",
            before: vec![("greedy", "shop/all", 1, (1..=31).collect())],
            added: vec![("greedy", "shop/new", 1, (1..=9).collect())],
            refused: vec![],
        },
    ];
    for Case { rule, before, added, refused } in cases {
        let mut allocations = allocations("20000-20039");
        let held = ask(&mut allocations, &imports(&before));
        assert!(held.values().all(Result::is_ok), "{rule}: {held:?}");
        let both: Vec<_> = before.into_iter().chain(added).collect();
        let got = ask(&mut allocations, &imports(&both));
        let numbers: Vec<u16> = refused_of(&got, "shop/new").into_iter().map(|(port, _)| port).collect();
        assert_eq!(numbers, refused, "{rule}");
        assert!(held.iter().all(|(owner, port)| got[owner] == *port), "{rule}: what is held stays");
    }
}

#[test]
fn a_refusal_names_the_cluster_and_what_can_be_done() {
    let mut allocations = allocations("20000-20039");
    let exports = [("greedy", "shop/all", 1, (1..=40).collect()), ("other", "shop/one", 1, vec![1])];
    let got = ask(&mut allocations, &imports(&exports));
    let (_, refusal) = refused_of(&got, "shop/all").remove(0);
    assert_eq!(
        refusal.to_string(),
        "cluster greedy already has its share of the ports 20000-20039, of which few are left"
    );
    assert_eq!(refusal.remedy(), "export fewer ports from greedy, or make kubernetes.import_ports larger");
    assert_eq!(refused_of(&got, "shop/one"), []);
}

#[test]
fn ports_of_an_import_that_derived_services_hold_stay_though_the_range_is_full() {
    let mut allocations = allocations("20000-20003");
    let key = AddressKey::Service("shop/cart".parse().unwrap());
    let ports = [(1, 20_002), (2, 20_003)].map(|(meant, allocated)| DerivedPort {
        name: None,
        transport: Transport::Tcp,
        port: port(meant),
        allocated: port(allocated),
        app_protocol: None,
    });
    let service = DerivedService { key, ports: ports.to_vec(), session_affinity: SessionAffinity::None };
    let placed = Some(PlacedService { service, addresses: Vec::new(), created: NOW });
    let there = PresentService { uid: "u".to_owned(), ours: true, placed, exporters: Arc::default() };
    let present = Present { services: [("s".to_owned(), there)].into(), ..Present::default() };
    let imports = imports(&[
        ("greedy", "shop/all", 1, (1..=9).collect()),
        ("west", "shop/cart", 1, vec![1, 2]),
        ("greedy", "shop/cart", 2, (1..=9).collect()),
    ]);
    let mut round = allocations.begin(&imports, &present, NOW);
    let all = AddressKey::Service("shop/all".parse().unwrap());
    for number in 1..=9 {
        let _ = round.port_of(&all, port(number), Transport::Tcp);
    }
    let cart = AddressKey::Service("shop/cart".parse().unwrap());
    assert_eq!(round.port_of(&cart, port(1), Transport::Tcp), Ok(port(20_002)));
    assert_eq!(round.port_of(&cart, port(2), Transport::Tcp), Ok(port(20_003)));
    assert!(round.port_of(&cart, port(3), Transport::Tcp).is_err());
}

type Exports = Vec<(usize, usize, u64, BTreeSet<u16>)>;

/// Some exports: cluster, service, age and ports.
fn some_exports() -> impl Strategy<Value = Exports> {
    let export = (0..4_usize, 0..5_usize, 0..3_u64, prop::collection::btree_set(1..12_u16, 1..8));
    prop::collection::vec(export, 0..16)
}

proptest! {
    #[test]
    fn what_is_held_is_never_taken_and_nobody_below_their_share_is_refused(steps in prop::collection::vec(some_exports(), 1..8)) {
        let clusters = ["a", "b", "c", "d"];
        let services = ["shop/a", "shop/b", "shop/c", "shop/d", "shop/e"];
        let mut allocations = allocations("20000-20031");
        let mut before = BTreeMap::new();
        for step in steps {
            let exports: Vec<_> = step
                .into_iter()
                .map(|(cluster, service, since, ports)| (clusters[cluster], services[service], since, ports.into_iter().collect()))
                .collect();
            let imports = imports(&exports);
            let got = ask(&mut allocations, &imports);
            for (owner, port) in &before {
                if let Some(now) = got.get(owner) {
                    prop_assert_eq!(now, &Ok(*port), "held by {:?}", owner);
                }
            }
            let given: BTreeMap<_, Port> = got.iter().filter_map(|(owner, got)| Some((owner.clone(), *got.as_ref().ok()?))).collect();
            let distinct: BTreeSet<Port> = given.values().copied().collect();
            prop_assert_eq!(distinct.len(), given.len(), "no port is given twice");
            let exporting: BTreeSet<&ClusterName> = imports.values().flat_map(|import| import.sources.keys()).collect();
            let charged = |(service, port): &(ServiceKey, Port)| {
                let owner = (AddressKey::Service(service.clone()), *port, Transport::Tcp);
                share::charged(&imports, &owner).unwrap().clone()
            };
            let free = 32 - given.len() - allocations.resting.iter().filter(|(port, _)| !distinct.contains(port)).count();
            for (owner, refusal) in got.iter().filter_map(|(owner, got)| Some((owner, got.as_ref().err()?))) {
                let payer = charged(owner);
                let has = given.keys().filter(|owner| charged(owner) == payer).count();
                prop_assert!(free == 0 || has >= (32 / exporting.len()).max(1), "{:?}: {} has {} of {} free", refusal, payer, has, free);
            }
            before = given;
        }
    }
}
