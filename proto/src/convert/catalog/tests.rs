//! Round trips of catalogs, and messages that are refused.

use proptest::{collection, option, prelude::*};
use prost::Message as _;

use super::*;

fn ports() -> impl Strategy<Value = Vec<ServicePort>> {
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)];
    let port = (option::of("[a-z]{1,15}"), transport, 1u16.., option::of("\\PC{0,20}")).prop_map(
        |(name, transport, port, app_protocol)| ServicePort {
            name: name.map(|name| name.parse().unwrap()),
            transport,
            port: Port::new(port).unwrap(),
            app_protocol,
        },
    );
    collection::vec(port, 0..4)
}

fn kinds() -> impl Strategy<Value = ServiceKind> {
    prop_oneof![
        Just(ServiceKind::ClusterSetIp),
        collection::btree_set("[a-z]{1,8}", 0..4)
            .prop_map(|names| ServiceKind::Headless(names.iter().map(|name| name.parse().unwrap()).collect())),
    ]
}

fn exported() -> impl Strategy<Value = ExportedService> {
    let numbers = (any::<u64>(), any::<u32>(), any::<u32>(), 0..=MAX_AFFINITY_SECONDS, any::<u32>(), 1..=MAX_WEIGHT);
    let texts = (option::of("\\PC{0,9}"), option::of("\\PC{0,9}"));
    let pairs = || collection::btree_map("\\PC{0,9}", "\\PC{0,9}", 0..3);
    (kinds(), ports(), numbers, texts, pairs(), pairs()).prop_map(
        |(kind, ports, (at, ready, terminating, affinity, priority, weight), texts, labels, annotations)| {
            ExportedService {
                exported_at: Timestamp(at),
                kind,
                ports,
                health: EndpointCounts { ready, terminating },
                session_affinity: match affinity {
                    0 => SessionAffinity::None,
                    timeout_seconds => SessionAffinity::ClientIp { timeout_seconds },
                },
                priority,
                weight,
                internal_traffic_policy: texts.0,
                traffic_distribution: texts.1,
                labels,
                annotations,
            }
        },
    )
}

fn catalogs() -> impl Strategy<Value = Catalog> {
    collection::btree_map("[a-d]{1,2}/[a-z]{1,3}", exported(), 0..6).prop_map(|services| Catalog {
        cluster: "west".parse().unwrap(),
        services: services.into_iter().map(|(key, service)| (key.parse().unwrap(), service)).collect(),
    })
}

fn minimal() -> wire::Service {
    let key = wire::ServiceKey { namespace: "ns".into(), name: "api".into() };
    wire::Service { key: Some(key), weight: 100, ..Default::default() }
}

type Edit = fn(&mut wire::Service);

#[test]
fn services_the_model_would_not_build_are_refused_by_message_and_field() {
    let cases: [(Edit, &str); 9] = [
        (|s| s.key = None, "Service.key"),
        (|s| s.key.as_mut().unwrap().namespace = "NS".into(), "ServiceKey.namespace"),
        (|s| s.key.as_mut().unwrap().name = String::new(), "ServiceKey.name"),
        (|s| s.endpoints = vec!["a".into()], "Service.endpoints"),
        (|s| (s.headless, s.endpoints) = (true, vec!["b".into(), "a".into()]), "Service.endpoints"),
        (|s| s.client_ip_affinity = 86_401, "Service.client_ip_affinity"),
        (|s| s.weight = 0, "Service.weight"),
        (|s| s.ports = vec![wire::Port { port: 80, ..Default::default() }], "Port.transport"),
        (|s| s.ports = vec![wire::Port { transport: 1, port: 65_536, ..Default::default() }], "Port.port"),
    ];
    assert!(<(ServiceKey, ExportedService)>::try_from(minimal()).is_ok());
    for (edit, place) in cases {
        let mut service = minimal();
        edit(&mut service);
        let error = <(ServiceKey, ExportedService)>::try_from(service).unwrap_err().to_string();
        assert!(error.starts_with(place), "{place}: {error}");
    }
}

#[test]
fn a_service_named_twice_is_refused() {
    let message = wire::Catalog { cluster: "west".into(), services: vec![minimal(), minimal()] };
    assert_eq!(Catalog::try_from(message).unwrap_err().field, "services");
    let delta = wire::CatalogDelta {
        upserts: vec![minimal()],
        removals: vec![minimal().key.unwrap()],
        digest: Bytes::from_static(&[0; 32]),
        ..Default::default()
    };
    assert_eq!(Delta::try_from(delta).unwrap_err().field, "removals");
}

#[test]
fn a_digest_of_another_length_is_refused() {
    assert_eq!(digest("Hello", "held_digest", &Bytes::from_static(&[1; 31])).unwrap_err().field, "held_digest");
}

proptest! {
    #[test]
    fn every_catalog_survives_the_wire(catalog in catalogs()) {
        let bytes = wire::Catalog::from(&catalog).encode_to_vec();
        let read = Catalog::try_from(wire::Catalog::decode(bytes.as_slice()).unwrap()).unwrap();
        prop_assert_eq!(read.digest(), catalog.digest());
        prop_assert_eq!(read, catalog);
    }

    #[test]
    fn every_delta_survives_the_wire(old in catalogs(), new in catalogs()) {
        let delta = Delta::between(&old, &new);
        let bytes = delta_message(&delta, Revision(4), Revision(5)).encode_to_vec();
        let message = wire::CatalogDelta::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!((message.base, message.revision), (4, 5));
        prop_assert_eq!(Delta::try_from(message).unwrap(), delta);
    }
}
