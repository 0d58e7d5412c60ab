use federation_model::{catalog::EndpointCounts, time::Timestamp};
use proptest::prelude::*;

use super::*;

fn port(text: &str) -> ServicePort {
    let (rest, transport) = text.split_once('/').unwrap();
    let (name, number) = rest.split_once(':').map_or((None, rest), |(name, number)| (Some(name), number));
    ServicePort {
        name: name.map(|name| name.parse().unwrap()),
        transport: if transport == "udp" { Transport::Udp } else { Transport::Tcp },
        port: Port::new(number.parse().unwrap()).unwrap(),
        app_protocol: None,
    }
}

fn export(at: u64, ports: &[&str]) -> ExportedService {
    ExportedService {
        exported_at: Timestamp(at),
        kind: ServiceKind::ClusterSetIp,
        ports: ports.iter().map(|text| port(text)).collect(),
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

fn catalog(cluster: &str, service: ExportedService) -> Catalog {
    let services = [("shop/web".parse().unwrap(), service)].into();
    Catalog { cluster: cluster.parse().unwrap(), services }
}

/// The import of the exports of clusters `a`, `b`, ... in turn.
fn merged(exports: impl IntoIterator<Item = ExportedService>) -> Import {
    let catalogs: Vec<Catalog> =
        exports.into_iter().zip('a'..='z').map(|(export, name)| catalog(&name.to_string(), export)).collect();
    merge(&catalogs).remove(&"shop/web".parse().unwrap()).unwrap()
}

fn conflicts(import: &Import) -> Vec<Conflict> {
    import.conflicts.iter().copied().collect()
}

fn exposed(import: &Import, cluster: &str) -> Vec<String> {
    let source = &import.sources[&cluster.parse::<ClusterName>().unwrap()];
    source.ports.iter().map(|(port, transport)| format!("{port}/{transport}")).collect()
}

#[test]
fn an_import_exists_while_at_least_one_export_does() {
    assert_eq!(merge(&[]).len(), 0);
    let import = merged([export(1, &["80/tcp"])]);
    assert_eq!(import.sources.len(), 1);
    assert_eq!(conflicts(&import), []);
}

#[test]
fn ports_are_united_and_each_cluster_exposes_only_its_own() {
    let import = merged([export(1, &["http:80/tcp"]), export(2, &["http:80/tcp", "admin:81/tcp"])]);
    assert_eq!(import.ports, [port("http:80/tcp"), port("admin:81/tcp")]);
    assert_eq!(conflicts(&import), []);
    assert_eq!(exposed(&import, "a"), ["80/tcp"]);
    assert_eq!(exposed(&import, "b"), ["80/tcp", "81/tcp"]);
}

#[test]
fn ports_of_one_name_with_different_numbers_conflict_and_the_oldest_stays() {
    let import = merged([export(2, &["http:80/tcp"]), export(1, &["http:8080/tcp"])]);
    assert_eq!(import.ports, [port("http:8080/tcp")]);
    assert_eq!(conflicts(&import), [Conflict::Port]);
    assert_eq!(exposed(&import, "a"), [] as [&str; 0]);
}

#[test]
fn ports_of_one_number_with_different_names_conflict_and_the_oldest_stays() {
    let import = merged([export(1, &["http:80/tcp"]), export(2, &["web:80/tcp"])]);
    assert_eq!(import.ports, [port("http:80/tcp")]);
    assert_eq!(conflicts(&import), [Conflict::Port]);
    assert_eq!(exposed(&import, "b"), ["80/tcp"], "it really exposes that number");
}

#[test]
fn unnamed_ports_with_different_numbers_conflict() {
    let import = merged([export(1, &["80/tcp"]), export(2, &["81/tcp"])]);
    assert_eq!((import.ports.len(), conflicts(&import)), (1, vec![Conflict::Port]));
}

#[test]
fn ports_of_one_number_over_tcp_and_udp_do_not_conflict() {
    let import = merged([export(1, &["tcp:42/tcp"]), export(2, &["udp:42/udp"])]);
    assert_eq!((import.ports.len(), conflicts(&import)), (2, vec![]));
    assert_eq!(exposed(&import, "a"), ["42/tcp"]);
    assert_eq!(exposed(&import, "b"), ["42/udp"]);
}

#[test]
fn different_application_protocols_of_a_port_conflict() {
    let mut other = export(2, &["http:80/tcp"]);
    other.ports[0].app_protocol = Some("kubernetes.io/h2c".to_owned());
    assert_eq!(conflicts(&merged([export(1, &["http:80/tcp"]), other])), [Conflict::Port]);
}

#[test]
fn the_oldest_export_decides_the_type_and_others_keep_serving() {
    let headless =
        |at| ExportedService { kind: ServiceKind::Headless(vec!["db-0".parse().unwrap()]), ..export(at, &["80/tcp"]) };
    let import = merged([headless(1), export(2, &["80/tcp"])]);
    assert_eq!((import.kind, conflicts(&import)), (ImportKind::Headless, vec![Conflict::Type]));
    let import = merged([headless(2), export(1, &["80/tcp"])]);
    assert_eq!((import.kind, conflicts(&import)), (ImportKind::ClusterSetIp, vec![Conflict::Type]));
    assert!(import.sources.values().all(|source| source.endpoints.is_empty() && !source.ports.is_empty()));
}

#[test]
fn different_endpoints_of_headless_exports_do_not_conflict() {
    let headless = |name: &str| ExportedService {
        kind: ServiceKind::Headless(vec![name.parse().unwrap()]),
        ..export(1, &["80/tcp"])
    };
    assert_eq!(conflicts(&merged([headless("x"), headless("y")])), []);
}

#[test]
fn the_oldest_export_decides_session_affinity() {
    let sticky = |at, timeout_seconds| ExportedService {
        session_affinity: SessionAffinity::ClientIp { timeout_seconds },
        ..export(at, &["80/tcp"])
    };
    let import = merged([export(2, &["80/tcp"]), sticky(1, 60)]);
    assert_eq!(import.session_affinity, SessionAffinity::ClientIp { timeout_seconds: 60 });
    assert_eq!(conflicts(&import), [Conflict::SessionAffinity]);
    let import = merged([sticky(1, 60), sticky(2, 90)]);
    assert_eq!(import.session_affinity, SessionAffinity::ClientIp { timeout_seconds: 60 });
    assert_eq!(conflicts(&import), [Conflict::SessionAffinityConfig]);
}

#[test]
fn the_oldest_export_decides_the_internal_traffic_policy_and_none_means_cluster() {
    let policy = |at, policy: &str| ExportedService {
        internal_traffic_policy: Some(policy.to_owned()),
        ..export(at, &["80/tcp"])
    };
    let import = merged([policy(1, "Local"), export(2, &["80/tcp"])]);
    assert_eq!(import.internal_traffic_policy.as_deref(), Some("Local"));
    assert_eq!(conflicts(&import), [Conflict::InternalTrafficPolicy]);
    assert_eq!(conflicts(&merged([policy(1, "Cluster"), export(2, &["80/tcp"])])), []);
}

#[test]
fn the_oldest_export_decides_the_traffic_distribution() {
    let close = ExportedService { traffic_distribution: Some("PreferClose".to_owned()), ..export(2, &["80/tcp"]) };
    let import = merged([export(1, &["80/tcp"]), close]);
    assert_eq!(
        (import.traffic_distribution.as_deref(), conflicts(&import)),
        (None, vec![Conflict::TrafficDistribution])
    );
}

#[test]
fn the_oldest_export_decides_labels_and_annotations_as_a_whole() {
    let tagged = |at, value: &str| {
        let map = BTreeMap::from([(format!("key-{value}"), value.to_owned())]);
        ExportedService { labels: map.clone(), annotations: map, ..export(at, &["80/tcp"]) }
    };
    let import = merged([tagged(2, "new"), tagged(1, "old")]);
    assert_eq!(import.labels, BTreeMap::from([("key-old".to_owned(), "old".to_owned())]));
    assert_eq!(import.annotations, import.labels);
    assert_eq!(conflicts(&import), [Conflict::Annotations, Conflict::Labels]);
}

#[test]
fn exports_of_one_second_are_told_apart_by_the_name_of_their_cluster() {
    let import = merged([export(1, &["http:80/tcp"]), export(1, &["http:81/tcp"])]);
    assert_eq!(import.ports, [port("http:80/tcp")]);
}

#[test]
fn the_conflict_condition_joins_its_reasons_and_names_the_clusters() {
    let mut other = export(2, &["http:81/tcp"]);
    other.traffic_distribution = Some("PreferClose".to_owned());
    let condition = crate::conditions::of_conflicts(&merged([export(1, &["http:80/tcp"]), other]));
    assert_eq!(condition.kind.to_string(), "Conflict");
    assert_eq!(condition.status.to_string(), "True");
    assert_eq!(condition.reason, "PortConflict,TrafficDistributionConflict");
    assert!(
        condition.message.contains("clusters a, b disagree on ports, trafficDistribution"),
        "{}",
        condition.message
    );
    let none = crate::conditions::of_conflicts(&merged([export(1, &["http:80/tcp"])]));
    assert_eq!((none.status.to_string(), none.reason), ("False".to_owned(), "NoConflicts".to_owned()));
}

fn any_port() -> impl Strategy<Value = ServicePort> {
    (proptest::option::of("[ab]"), 1u16..4, any::<bool>(), proptest::option::of("h2c")).prop_map(
        |(name, number, udp, app_protocol)| ServicePort {
            name: name.map(|name| name.parse().unwrap()),
            transport: if udp { Transport::Udp } else { Transport::Tcp },
            port: Port::new(number).unwrap(),
            app_protocol,
        },
    )
}

fn any_export() -> impl Strategy<Value = ExportedService> {
    let kind = prop_oneof![
        Just(ServiceKind::ClusterSetIp),
        "[xy]".prop_map(|name| ServiceKind::Headless(vec![name.parse().unwrap()])),
    ];
    let affinity = prop_oneof![
        Just(SessionAffinity::None),
        (1u32..3).prop_map(|timeout_seconds| SessionAffinity::ClientIp { timeout_seconds }),
    ];
    let ports = proptest::collection::vec(any_port(), 0..4);
    let policies = (proptest::option::of("Local|Cluster"), proptest::option::of("PreferClose"));
    let labels = proptest::collection::btree_map("[ab]", "[cd]", 0..2);
    (0u64..3, kind, affinity, ports, policies, labels).prop_map(
        |(at, kind, session_affinity, ports, policies, labels)| ExportedService {
            kind,
            session_affinity,
            ports,
            internal_traffic_policy: policies.0,
            traffic_distribution: policies.1,
            annotations: labels.clone(),
            labels,
            ..export(at, &[])
        },
    )
}

proptest! {
    #[test]
    fn the_order_of_the_catalogs_does_not_matter(
        (exports, shuffled) in proptest::collection::vec(any_export(), 1..6).prop_flat_map(|exports| {
            let catalogs: Vec<Catalog> =
                exports.into_iter().zip('a'..='z').map(|(export, name)| catalog(&name.to_string(), export)).collect();
            (Just(catalogs.clone()), Just(catalogs).prop_shuffle())
        }),
    ) {
        prop_assert_eq!(merge(&exports), merge(&shuffled));
    }

    #[test]
    fn imported_ports_have_distinct_names_and_numbers_and_are_exposed_somewhere(
        exports in proptest::collection::vec(any_export(), 1..6),
    ) {
        let import = merged(exports);
        let names: BTreeSet<_> = import.ports.iter().map(|port| port.name.clone()).collect();
        let numbers: BTreeSet<_> = import.ports.iter().map(|port| (port.port, port.transport)).collect();
        prop_assert_eq!(names.len(), import.ports.len());
        prop_assert_eq!(numbers.len(), import.ports.len());
        for port in numbers {
            prop_assert!(import.sources.values().any(|source| source.ports.contains(&port)));
        }
    }
}
