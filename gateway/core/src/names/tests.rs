use super::*;
use crate::tables::{
    Tables,
    tests::{import, source, tables},
};

const ALL: [RecordType; 7] = [
    RecordType::A,
    RecordType::Aaaa,
    RecordType::Srv,
    RecordType::Txt,
    RecordType::Soa,
    RecordType::Ns,
    RecordType::Other,
];

fn ask(tables: &Tables, name: &str, kind: RecordType) -> NameAnswer {
    let labels: Vec<&str> = name.split('.').filter(|label| !label.is_empty()).collect();
    tables.names().lookup(&labels, kind)
}

/// The records of the answer as text, without the zone's two labels.
fn told(answer: NameAnswer) -> Vec<String> {
    let NameAnswer::Records { answers, additional: _ } = answer else {
        return vec![format!("{answer:?}")];
    };
    let text = |record: &Record| match &record.data {
        RecordData::Address(ip) => ip.to_string(),
        RecordData::Srv { priority, weight, port, target } => format!("{priority} {weight} {port} {target}"),
        RecordData::Txt(text) | RecordData::Ns(text) => text.clone(),
        RecordData::Soa { nameserver, mailbox, serial } => format!("{nameserver} {mailbox} {serial}"),
    };
    answers.iter().map(text).map(|text| text.replace(".clusterset.local", "")).collect()
}

fn set() -> Tables {
    let web = ["http:80/tcp", "dns:42/udp", "dns-tcp:42/tcp", "9999/tcp"];
    let db = ["db:5432/tcp", "metrics:9100/tcp"];
    tables(&[
        ("shop/web", import(ImportKind::ClusterSetIp, &web, &[("west", source(&web, 0, &[]))])),
        (
            "shop/db",
            import(
                ImportKind::Headless,
                &db,
                &[("north", source(&db, 1, &["db-0"])), ("west", source(&["5432/tcp"], 2, &["db-0", "db-1"]))],
            ),
        ),
        ("idle/queue", import(ImportKind::Headless, &db, &[("west", source(&db, 0, &[]))])),
    ])
}

#[test]
fn the_schema_version_is_a_text_with_the_ttl_of_the_specification() {
    let NameAnswer::Records { answers, .. } = ask(&set(), "dns-version.clusterset.local", RecordType::Txt) else {
        panic!("no records");
    };
    assert_eq!(answers[0].ttl, Some(28_800));
    assert_eq!(answers[0].data, RecordData::Txt("1.0.0".to_owned()));
    assert_eq!(ask(&set(), "dns-version.clusterset.local", RecordType::A), NameAnswer::NoData);
}

#[test]
fn the_apex_holds_soa_and_ns_and_the_nameserver_has_an_address() {
    let set = set();
    assert_eq!(told(ask(&set, "clusterset.local", RecordType::Soa)), ["ns.dns hostmaster 7"]);
    assert_eq!(told(ask(&set, "clusterset.local", RecordType::Ns)), ["ns.dns"]);
    assert_eq!(told(ask(&set, "ns.dns.clusterset.local", RecordType::A)), ["127.0.0.1"]);
    assert_eq!(ask(&set, "ns.dns.clusterset.local", RecordType::Aaaa), NameAnswer::NoData);
    assert_eq!(ask(&set, "clusterset.local", RecordType::A), NameAnswer::NoData);
}

#[test]
fn a_nameserver_on_every_address_has_a_name_but_no_address() {
    let every = Arc::new(["0.0.0.0".parse().unwrap()]);
    let names = NameTable::new(Zone::default(), Arc::default(), Places::default(), every, 1);
    assert_eq!(names.lookup(&["ns", "dns", "clusterset", "local"], RecordType::A), NameAnswer::NoData);
}

#[test]
fn a_clusterset_ip_service_has_its_address_even_without_ready_endpoints() {
    let set = set();
    let address = set.addresses_of(&"shop/web".parse().unwrap())[0].to_string();
    for name in ["web.shop.svc.clusterset.local", "WEB.Shop.svc.ClusterSet.LOCAL"] {
        assert_eq!(told(ask(&set, name, RecordType::A)).concat(), address);
    }
    assert_eq!(ask(&set, "web.shop.svc.clusterset.local", RecordType::Aaaa), NameAnswer::NoData);
}

#[test]
fn srv_of_a_named_port_points_to_the_service_and_brings_its_address() {
    let set = set();
    let answer = ask(&set, "_http._tcp.web.shop.svc.clusterset.local", RecordType::Srv);
    let NameAnswer::Records { additional, .. } = &answer else { panic!("no records") };
    assert_eq!(additional.len(), 1);
    assert_eq!(told(answer), ["0 100 80 web.shop.svc"]);
    assert_eq!(ask(&set, "_http._tcp.web.shop.svc.clusterset.local", RecordType::A), NameAnswer::NoData);
    for name in ["_http._udp.web", "_https._tcp.web", "_9999._tcp.web", "_http._sctp.web", "_sctp.web", "http._tcp.web"]
    {
        let name = format!("{name}.shop.svc.clusterset.local");
        assert_eq!(ask(&set, &name, RecordType::Srv), NameAnswer::NxDomain, "{name}");
    }
    assert_eq!(ask(&set, "_tcp.web.shop.svc.clusterset.local", RecordType::Srv), NameAnswer::NoData);
    assert_eq!(ask(&set, "_udp.db.shop.svc.clusterset.local", RecordType::Srv), NameAnswer::NxDomain);
}

#[test]
fn srv_at_the_bare_name_gives_one_record_for_each_port_number_and_target() {
    let set = set();
    let web = told(ask(&set, "web.shop.svc.clusterset.local", RecordType::Srv));
    assert_eq!(web, ["0 50 80 web.shop.svc", "0 50 42 web.shop.svc"], "the unnamed port has none, 42 has one");
    let db = told(ask(&set, "db.shop.svc.clusterset.local", RecordType::Srv));
    assert_eq!(db.iter().filter(|record| record.contains(" 5432 ")).count(), 3);
    assert_eq!(db.iter().filter(|record| record.contains(" 9100 ")).count(), 1);
}

#[test]
fn a_headless_service_answers_with_every_ready_endpoint_and_each_has_its_name() {
    let set = set();
    let all = told(ask(&set, "db.shop.svc.clusterset.local", RecordType::A));
    assert_eq!(all.len(), 3);
    let mut each: Vec<String> = ["db-0.north", "db-0.west", "db-1.west"]
        .iter()
        .flat_map(|name| told(ask(&set, &format!("{name}.db.shop.svc.clusterset.local"), RecordType::A)))
        .collect();
    each.sort();
    let mut sorted = all;
    sorted.sort();
    assert_eq!(each, sorted);
    assert_eq!(ask(&set, "db-0.west.db.shop.svc.clusterset.local", RecordType::Aaaa), NameAnswer::NoData);
    assert_eq!(ask(&set, "db-1.north.db.shop.svc.clusterset.local", RecordType::A), NameAnswer::NxDomain);
}

#[test]
fn srv_of_a_headless_port_lists_the_endpoints_of_clusters_that_expose_it() {
    let set = set();
    assert_eq!(
        told(ask(&set, "_db._tcp.db.shop.svc.clusterset.local", RecordType::Srv)),
        ["0 33 5432 db-0.north.db.shop.svc", "0 33 5432 db-0.west.db.shop.svc", "0 33 5432 db-1.west.db.shop.svc"]
    );
    assert_eq!(
        told(ask(&set, "_metrics._tcp.db.shop.svc.clusterset.local", RecordType::Srv)),
        ["0 100 9100 db-0.north.db.shop.svc"]
    );
}

#[test]
fn the_cluster_name_below_a_service_never_holds_a_record() {
    let set = set();
    for kind in ALL {
        let headless = ask(&set, "west.db.shop.svc.clusterset.local", kind);
        assert_eq!(headless, NameAnswer::NoData, "the parent of db-0.west is an empty name: {kind:?}");
        for name in ["south.db", "west.web", "north.web"] {
            let name = format!("{name}.shop.svc.clusterset.local");
            assert_eq!(ask(&set, &name, kind), NameAnswer::NxDomain, "{name} {kind:?}");
        }
    }
}

#[test]
fn a_headless_service_without_ready_endpoints_does_not_exist() {
    let set = set();
    for name in ["queue.idle.svc", "_db._tcp.queue.idle.svc", "west.queue.idle.svc", "idle.svc"] {
        let name = format!("{name}.clusterset.local");
        for kind in ALL {
            assert_eq!(ask(&set, &name, kind), NameAnswer::NxDomain, "{name} {kind:?}");
        }
    }
}

#[test]
fn parents_exist_without_records_and_strangers_do_not() {
    let set = set();
    for name in ["svc", "shop.svc", "dns"] {
        assert_eq!(ask(&set, &format!("{name}.clusterset.local"), RecordType::A), NameAnswer::NoData, "{name}");
    }
    for name in [
        "nope",
        "nope.svc",
        "sho.svc",
        "shop0.svc",
        "nope.shop.svc",
        "web.nope.svc",
        "a.b.web.shop.svc",
        "a.b.c.web.shop.svc",
        "_http._tcp.db-0.west.db.shop.svc",
        "a.dns-version",
        "a b.shop.svc",
    ] {
        assert_eq!(ask(&set, &format!("{name}.clusterset.local"), RecordType::A), NameAnswer::NxDomain, "{name}");
    }
}

#[test]
fn names_outside_the_zone_are_refused() {
    for name in ["", "local", "example.com", "web.shop.svc.cluster.local", "xclusterset.local"] {
        assert_eq!(ask(&set(), name, RecordType::A), NameAnswer::Refused, "{name}");
    }
}

#[test]
fn every_name_that_an_answer_gives_exists_itself() {
    let set = set();
    for name in ["web.shop.svc", "db.shop.svc", "_db._tcp.db.shop.svc", "_dns._udp.web.shop.svc"] {
        let answer = ask(&set, &format!("{name}.clusterset.local"), RecordType::Srv);
        let NameAnswer::Records { answers, additional } = answer else { panic!("{name}: {answer:?}") };
        for record in answers {
            let RecordData::Srv { target, .. } = record.data else { panic!("{name}: not SRV") };
            assert!(matches!(ask(&set, &target, RecordType::A), NameAnswer::Records { .. }), "{target}");
            assert!(additional.iter().any(|glue| glue.name == target), "{target}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_labels_never_panic(labels in proptest::collection::vec("[^.]{0,8}|svc|shop|web|_tcp|west", 0..6)) {
        let mut labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        labels.extend(["svc", "clusterset", "local"]);
        let set = set();
        for kind in ALL {
            if let NameAnswer::Records { answers, .. } = set.names().lookup(&labels, kind) {
                proptest::prop_assert!(!answers.is_empty());
            }
        }
    }
}
