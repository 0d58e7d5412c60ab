use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use federation_model::{
    addr::{Port, Transport},
    catalog::{EndpointCounts, ServicePort, SessionAffinity},
    import::{Import, ImportKind, ImportSource, Imports, address::address_keys},
    sni::Zone,
    time::Timestamp,
};
use gateway_core::{
    addresses::{AddressPlan, Assignments},
    places::Places,
    tables::{Inputs, Tables},
};

use super::*;

pub(crate) const TTL: u32 = 5;

fn import(kind: ImportKind, endpoints: usize) -> Import {
    let port = Port::new(443).unwrap();
    let source = ImportSource {
        kind: ImportKind::ClusterSetIp,
        exported_at: Timestamp(1),
        ports: BTreeSet::from([(port, Transport::Tcp)]),
        health: EndpointCounts { ready: 1, terminating: 0 },
        endpoints: (0..endpoints).map(|n| format!("db-{n}").parse().unwrap()).collect(),
        priority: 0,
        weight: 100,
    };
    Import {
        kind,
        ports: vec![ServicePort {
            name: Some("https".parse().unwrap()),
            transport: Transport::Tcp,
            port,
            app_protocol: None,
        }],
        session_affinity: SessionAffinity::None,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        sources: BTreeMap::from([("west".parse().unwrap(), source)]),
        conflicts: BTreeSet::new(),
    }
}

/// `shop/web`, and the headless `shop/db` with three endpoints and `shop/big` with 200.
pub(crate) fn tables() -> Tables {
    let imports: Imports = [
        ("shop/web", import(ImportKind::ClusterSetIp, 0)),
        ("shop/db", import(ImportKind::Headless, 3)),
        ("shop/big", import(ImportKind::Headless, 200)),
    ]
    .into_iter()
    .map(|(key, import)| (key.parse().unwrap(), import))
    .collect();
    let plan = AddressPlan::new("127.80.0.0/16".parse().unwrap()).unwrap();
    Tables::compile(Inputs {
        generation: 7,
        cluster: "east".parse().unwrap(),
        zone: Zone::default(),
        places: Places::Range(Arc::new(plan.assign(&Assignments::default(), &address_keys(&imports)).assignments)),
        imports: Arc::new(imports),
        exports: Arc::default(),
        pods: Arc::default(),
        members: Arc::default(),
        reachable: Arc::default(),
        revocations: Arc::default(),
        policies: Arc::default(),
        nameservers: Arc::new(["127.0.0.1".parse().unwrap()]),
    })
}

pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

fn ask_bytes(query: &[u8], via: Via) -> Option<Message> {
    let reply = answer(query, tables().names(), TTL, via)?;
    Some(Message::from_vec(&reply.bytes).unwrap())
}

fn ask(query: &Message, via: Via) -> Message {
    ask_bytes(&query.to_vec().unwrap(), via).unwrap()
}

fn code(name: &str, kind: RecordType) -> ResponseCode {
    ask(&question(name, kind), Via::Udp).metadata.response_code
}

const WEB: &str = "web.shop.svc.clusterset.local.";
const BIG: &str = "big.shop.svc.clusterset.local.";

#[test]
fn an_answer_is_authoritative_offers_no_recursion_and_has_the_configured_ttl() {
    let response = ask(&question(WEB, RecordType::A), Via::Udp);
    assert!(response.metadata.authoritative && !response.metadata.recursion_available);
    assert!(response.metadata.recursion_desired, "copied from the query");
    assert_eq!((response.metadata.id, response.answers.len(), response.answers[0].ttl), (4711, 1, TTL));
    assert_eq!(response.authorities, []);
    assert_eq!(response.edns, None, "not sent to a client that did not");
}

#[test]
fn the_case_of_the_question_is_kept_in_the_answer() {
    let odd = "wEb.sHOP.svc.CLUSTERset.locaL.";
    let response = ask(&question(odd, RecordType::A), Via::Udp);
    assert_eq!(response.queries[0].name().to_string(), odd);
    assert_eq!(response.answers[0].name.to_string(), odd);
    assert_eq!(ask(&question(odd, RecordType::AAAA), Via::Udp).metadata.response_code, ResponseCode::NoError);
}

#[test]
fn nxdomain_and_nodata_both_bring_the_soa_record() {
    for (name, expected) in [
        ("nope.shop.svc.clusterset.local.", ResponseCode::NXDomain),
        (WEB, ResponseCode::NoError),
        ("shop.svc.clusterset.local.", ResponseCode::NoError),
        ("west.db.shop.svc.clusterset.local.", ResponseCode::NoError),
        ("west.web.shop.svc.clusterset.local.", ResponseCode::NXDomain),
    ] {
        let response = ask(&question(name, RecordType::AAAA), Via::Udp);
        assert_eq!(response.metadata.response_code, expected, "{name}");
        assert_eq!(response.answers, [], "{name}");
        assert!(response.metadata.authoritative, "{name}");
        let RData::SOA(soa) = &response.authorities[0].data else { panic!("{name}: no SOA") };
        assert_eq!((soa.serial, soa.minimum, response.authorities[0].ttl), (7, TTL, TTL));
        assert_eq!(response.authorities[0].name.to_string(), "clusterset.local.");
    }
}

#[test]
fn what_is_not_ours_is_refused_without_authority() {
    for (name, kind) in [
        ("example.com.", RecordType::A),
        ("web.shop.svc.cluster.local.", RecordType::A),
        (".", RecordType::NS),
        ("clusterset.local.", RecordType::AXFR),
        ("clusterset.local.", RecordType::IXFR),
    ] {
        for via in [Via::Udp, Via::Tcp] {
            let response = ask(&question(name, kind), via);
            assert_eq!(response.metadata.response_code, ResponseCode::Refused, "{name} {kind}");
            assert!(!response.metadata.authoritative && response.answers.is_empty() && response.authorities.is_empty());
        }
    }
    let mut chaos = question("clusterset.local.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(ask(&chaos, Via::Udp).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn every_kind_of_record_is_told() {
    let data = |name: &str, kind| {
        let response = ask(&question(name, kind), Via::Tcp);
        response.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(data("dns-version.clusterset.local.", RecordType::TXT), ["1.0.0"]);
    assert_eq!(data("clusterset.local.", RecordType::NS), ["ns.dns.clusterset.local."]);
    assert_eq!(data("ns.dns.clusterset.local.", RecordType::A), ["127.0.0.1"]);
    let soa = data("clusterset.local.", RecordType::SOA);
    assert_eq!(soa, ["ns.dns.clusterset.local. hostmaster.clusterset.local. 7 7200 1800 86400 5"]);
    let srv = "_https._tcp.web.shop.svc.clusterset.local.";
    assert_eq!(data(srv, RecordType::SRV), ["0 100 443 web.shop.svc.clusterset.local."]);
    assert_eq!(ask(&question(srv, RecordType::SRV), Via::Udp).additionals.len(), 1);
    assert_eq!(data("db-1.west.db.shop.svc.clusterset.local.", RecordType::A).len(), 1);
    let version = ask(&question("dns-version.clusterset.local.", RecordType::TXT), Via::Udp);
    assert_eq!(version.answers[0].ttl, 28_800);
}

#[test]
fn any_is_answered_with_the_least() {
    let response = ask(&question(BIG, RecordType::ANY), Via::Udp);
    assert!(matches!(&response.answers[..], [Record { data: RData::HINFO(hinfo), .. }] if *hinfo.cpu == *b"RFC8482"));
    assert_eq!(code("nope.clusterset.local.", RecordType::ANY), ResponseCode::NXDomain);
}

#[test]
fn an_answer_too_large_for_a_datagram_is_cut_to_what_fits_and_whole_over_tcp() {
    let plain = question(BIG, RecordType::A);
    for (query, limit) in [
        (plain.clone(), 512),
        (with_edns(plain.clone(), 100), 512),
        (with_edns(plain.clone(), 800), 800),
        (with_edns(plain.clone(), 4096), 1232),
    ] {
        let reply = answer(&query.to_vec().unwrap(), tables().names(), TTL, Via::Udp).unwrap();
        let response = Message::from_vec(&reply.bytes).unwrap();
        assert!(response.metadata.truncation && reply.outcome.truncated);
        assert!(reply.bytes.len() <= limit && reply.bytes.len() + 20 > limit, "{} of {limit}", reply.bytes.len());
        assert_eq!(response.edns.is_some(), query.edns.is_some());
    }
    let whole = ask(&plain, Via::Tcp);
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 200));
}

#[test]
fn additional_records_that_do_not_fit_are_left_out_without_truncation() {
    let query = with_edns(question("_https._tcp.db.shop.svc.clusterset.local.", RecordType::SRV), 512);
    let whole = ask(&query, Via::Udp);
    assert_eq!((whole.answers.len(), whole.additionals.len()), (3, 3));
    let response = question("_https._tcp.db.shop.svc.clusterset.local.", RecordType::SRV);
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    message.queries = response.queries;
    message.answers = whole.answers.clone();
    let without = message.to_vec().unwrap().len();
    message.additionals = whole.additionals;
    let (bytes, truncated) = encode(message, without).unwrap();
    let read = Message::from_vec(&bytes).unwrap();
    assert_eq!((truncated, read.metadata.truncation), (false, false));
    assert_eq!((read.answers.len(), read.additionals.len()), (3, 0));
}

#[test]
fn equal_answers_begin_with_different_addresses() {
    let first = |id| {
        let mut query = question("db.shop.svc.clusterset.local.", RecordType::A);
        query.metadata.id = id;
        ask(&query, Via::Udp).answers[0].data.to_string()
    };
    assert_eq!(BTreeSet::from([first(0), first(1), first(2)]).len(), 3);
}

#[test]
fn edns_is_answered_with_our_own_limit_and_a_newer_version_with_badvers() {
    let response = ask(&with_edns(question(WEB, RecordType::A), 4096), Via::Udp);
    assert_eq!(response.edns.map(|edns| (edns.max_payload(), edns.version())), Some((1232, 0)));
    let mut newer = with_edns(question(WEB, RecordType::A), 1232);
    newer.edns.as_mut().unwrap().set_version(1);
    let response = ask(&newer, Via::Udp);
    assert_eq!(response.edns.as_ref().map(|edns| (edns.rcode_high(), edns.version())), Some((1, 0)));
    assert_eq!(response.answers, []);
}

#[test]
fn other_operations_are_not_implemented_and_malformed_queries_say_so() {
    let mut notify = question(WEB, RecordType::SOA);
    notify.metadata.op_code = OpCode::Notify;
    let response = ask(&notify, Via::Udp);
    assert_eq!((response.metadata.response_code, response.metadata.op_code), (ResponseCode::NotImp, OpCode::Notify));

    let mut none = question(WEB, RecordType::A);
    none.queries.clear();
    assert_eq!(ask(&none, Via::Udp).metadata.response_code, ResponseCode::FormErr);
    let mut two = question(WEB, RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(ask(&two, Via::Udp).metadata.response_code, ResponseCode::FormErr);
    let bytes = question(WEB, RecordType::A).to_vec().unwrap();
    let cut = ask_bytes(&bytes[..bytes.len() - 3], Via::Udp).unwrap();
    assert_eq!((cut.metadata.response_code, cut.metadata.id), (ResponseCode::FormErr, 4711));
}

#[test]
fn responses_and_scraps_are_not_answered() {
    let mut response = question(WEB, RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert!(ask_bytes(&response.to_vec().unwrap(), Via::Udp).is_none());
    assert!(ask_bytes(&[], Via::Udp).is_none());
    assert!(ask_bytes(&[0; 11], Via::Udp).is_none());
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_every_answer_is_a_message(
        start in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
        cut in 0usize..80,
        flip in proptest::option::of((0usize..60, proptest::num::u8::ANY)),
    ) {
        let set = tables();
        let mut query = with_edns(question(WEB, RecordType::A), 1232).to_vec().unwrap();
        if let Some((at, bits)) = flip {
            let at = at % query.len();
            query[at] ^= bits;
        }
        query.truncate(cut);
        for bytes in [start, query] {
            if let Some(reply) = answer(&bytes, set.names(), TTL, Via::Udp) {
                proptest::prop_assert!(reply.bytes.len() <= 1232);
                proptest::prop_assert!(Message::from_vec(&reply.bytes).is_ok());
            }
        }
    }
}
