//! Round trips, and headers that are refused.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use federation_model::spiffe::SpiffeId;
use proptest::{collection, option, prelude::*};
use rustls_pki_types::CertificateDer;

use super::*;

fn certificate() -> impl Strategy<Value = Option<Arc<CertificateDer<'static>>>> {
    option::of(collection::vec(any::<u8>(), 1..1500).prop_map(|der| Arc::new(CertificateDer::from(der))))
}

fn callers() -> impl Strategy<Value = Caller> {
    let id = || "[a-z]{1,12}(\\.[a-z]{1,12})?/ns/[a-z]{1,9}/sa/[a-zA-Z0-9._-]{1,3}x";
    let id = move || id().prop_map(|text| SpiffeId::new(format!("spiffe://{text}")).unwrap());
    prop_oneof![
        Just(Caller::Unknown),
        (id(), certificate()).prop_map(|(id, certificate)| Caller::Workload { id, certificate }),
        id().prop_map(|id| Caller::Vouched { id }),
    ]
}

fn destinations() -> impl Strategy<Value = Destination> {
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)];
    ("[a-z]{1,63}", "[a-z]{1,63}", 1u16.., transport, option::of("[a-z]{1,63}")).prop_map(
        |(namespace, name, port, transport, endpoint)| Destination {
            service: ServiceKey::new(namespace.parse().unwrap(), name.parse().unwrap()),
            port: Port::new(port).unwrap(),
            transport,
            endpoint: endpoint.map(|name| name.parse().unwrap()),
        },
    )
}

fn headers() -> impl Strategy<Value = StreamHeader> {
    let client = option::of((any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from));
    let trace = (1u128.., 1u64.., any::<bool>()).prop_map(|(trace_id, span_id, sampled)| TraceContext {
        trace_id,
        span_id,
        sampled,
    });
    (destinations(), callers(), trace, client, option::of("[!-~]{1,253}")).prop_map(
        |(destination, caller, trace, client, server_name)| StreamHeader {
            destination,
            caller,
            trace,
            client,
            server_name,
        },
    )
}

fn header(caller: Caller) -> StreamHeader {
    StreamHeader {
        destination: Destination {
            service: "production/api".parse().unwrap(),
            port: Port::new(443).unwrap(),
            transport: Transport::Tcp,
            endpoint: None,
        },
        caller,
        trace: TraceContext::from_random(1, 2),
        client: None,
        server_name: None,
    }
}

fn on_the_wire() -> wire::StreamHeader {
    let frame = header(Caller::Unknown).encode().unwrap();
    wire::StreamHeader::decode(&frame[LENGTH_PREFIX..]).unwrap()
}

type Edit = fn(&mut wire::StreamHeader);

#[test]
fn headers_the_model_would_not_build_are_protocol_errors_that_name_the_field() {
    let cases: [(Edit, &str); 9] = [
        (|h| h.destination = None, "StreamHeader.destination"),
        (|h| h.trace = None, "StreamHeader.trace"),
        (|h| h.trace.as_mut().unwrap().span_id = 0, "TraceContext.span_id"),
        (|h| h.destination.as_mut().unwrap().namespace = "A".into(), "Destination.namespace"),
        (|h| h.destination.as_mut().unwrap().service = String::new(), "Destination.service"),
        (|h| h.destination.as_mut().unwrap().port = 65_536, "Destination.port"),
        (|h| h.destination.as_mut().unwrap().transport = 3, "Destination.transport"),
        (|h| h.destination.as_mut().unwrap().endpoint = "a.b".into(), "Destination.endpoint"),
        (|h| h.server_name = "a\r\nb".into(), "StreamHeader.server_name"),
    ];
    assert!(StreamHeader::decode(&on_the_wire().encode_to_vec()).is_ok());
    for (edit, place) in cases {
        let mut message = on_the_wire();
        edit(&mut message);
        let error = StreamHeader::decode(&message.encode_to_vec()).unwrap_err();
        assert!(matches!(error, HeaderError::Field(_)), "{place}: {error}");
        assert!(error.to_string().contains(place), "{place}: {error}");
        assert_eq!(error.outcome(), Outcome::ProtocolError);
    }
}

#[test]
fn a_caller_that_is_no_workload_is_refused_by_name() {
    for id in ["spiffe://east.example", "east.example/ns/a/sa/b", "", "spiffe://EAST/ns//x"] {
        let mut message = on_the_wire();
        message.caller = Some(wire::stream_header::Caller::Vouched(id.into()));
        let error = StreamHeader::decode(&message.encode_to_vec()).unwrap_err();
        assert!(matches!(error, HeaderError::Principal(_)), "{id}: {error}");
        assert_eq!(error.outcome(), Outcome::ProtocolError);
    }
}

#[test]
fn the_longest_spiffe_id_fits_and_a_frame_over_the_limit_is_refused_by_its_length() {
    let path = "a".repeat(2048 - "spiffe://east.example/".len());
    let id = SpiffeId::new(format!("spiffe://east.example/{path}")).unwrap();
    let longest = StreamHeader { server_name: Some("a".repeat(253)), ..header(Caller::Vouched { id }) };
    let frame = longest.encode().unwrap();
    assert_eq!(StreamHeader::read(&frame), Ok(Some((longest, frame.len()))));

    let error = split_frame(&[0x10, 0x01]).unwrap_err();
    assert_eq!(error, HeaderError::TooLarge { length: MAX_HEADER + 1 });
    assert_eq!(error.outcome(), Outcome::HeaderTooLarge);
    assert_eq!(split_frame(&[0x10, 0x00]), Ok(None));
    let huge = StreamHeader { server_name: Some("a".repeat(MAX_HEADER)), ..header(Caller::Unknown) };
    assert_eq!(huge.encode().unwrap_err().outcome(), Outcome::HeaderTooLarge);
}

#[test]
fn fields_of_later_versions_are_passed_over() {
    let mut body = header(Caller::Unknown).encode().unwrap()[LENGTH_PREFIX..].to_vec();
    // Field 77 with a number, field 15 (the edge proof) with bytes.
    body.extend([0xe8, 0x04, 0x07, 0x7a, 0x02, 0x01, 0x02]);
    assert_eq!(StreamHeader::decode(&body), Ok(header(Caller::Unknown)));
}

#[test]
fn a_reply_without_a_result_is_a_protocol_error() {
    assert_eq!(StreamReply::decode(&[]).unwrap_err().outcome(), Outcome::ProtocolError);
}

#[test]
fn refusals_are_never_successes_and_unknown_codes_are_the_peers_error() {
    for code in [0, 4_000_000_000] {
        let refused = wire::Refused { code, reason: "x".into(), ..wire::Refused::default() };
        let reply = wire::StreamReply { result: Some(wire::stream_reply::Result::Refused(refused)) };
        let expected = StreamReply::Refused { outcome: Outcome::PeerError, reason: "x".into(), by: None };
        assert_eq!(StreamReply::decode(&reply.encode_to_vec()), Ok(expected));
    }
}

#[test]
fn what_is_said_of_a_refusal_is_lines_of_limited_length() {
    let reason = format!("first\nsecond\u{1b}[31m{}", "é".repeat(MAX_REASON));
    let by = Some(Ruling { rule: reason.clone(), remedy: reason.clone() });
    let frame = StreamReply::Refused { outcome: Outcome::Denied, reason, by }.encode();
    let Ok(Some((StreamReply::Refused { reason, by: Some(by), .. }, taken))) = StreamReply::read(&frame) else {
        panic!()
    };
    assert_eq!(taken, frame.len());
    for text in [reason, by.rule, by.remedy] {
        assert!(text.starts_with("first second [31mé"), "{text}");
        assert!(text.len() <= MAX_REASON && text.len() > MAX_REASON - 2);
    }
}

proptest! {
    #[test]
    fn every_header_survives_the_wire_and_leaves_what_follows(header in headers(), after in collection::vec(any::<u8>(), 0..9)) {
        let frame = header.encode().unwrap();
        let length = frame.len();
        for end in 0..length {
            prop_assert_eq!(StreamHeader::read(&frame[..end]), Ok(None));
        }
        let stream = [&frame[..], &after].concat();
        prop_assert_eq!(StreamHeader::read(&stream), Ok(Some((header, length))));
    }

    #[test]
    fn every_reply_survives_the_wire(
        at in 1..Outcome::ALL.len(),
        reason in "[ -~é]{0,200}",
        by in option::of(("[ -~é]{1,200}", "[ -~é]{0,200}")),
    ) {
        let by = by.map(|(rule, remedy)| Ruling { rule, remedy });
        for reply in [StreamReply::Connected, StreamReply::Refused { outcome: Outcome::ALL[at], reason, by }] {
            let frame = reply.encode();
            let length = frame.len();
            prop_assert_eq!(StreamReply::read(&frame), Ok(Some((reply, length))));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in collection::vec(any::<u8>(), 0..300)) {
        let _ = StreamHeader::decode(&bytes);
        let _ = StreamReply::decode(&bytes);
        let _ = StreamHeader::read(&bytes);
    }
}

#[test]
fn a_certificate_that_does_not_fit_is_left_out_of_the_header() {
    let id = SpiffeId::new("spiffe://east.example/ns/shop/sa/frontend").unwrap();
    let certificate = |length| Some(Arc::new(CertificateDer::from(vec![7; length])));
    let caller = |length| Caller::Workload { id: id.clone(), certificate: certificate(length) };
    let sent = |caller| {
        let frame = header(caller).encode().unwrap();
        StreamHeader::read(&frame).unwrap().unwrap().0.caller
    };
    assert_eq!(sent(caller(2000)), caller(2000));
    assert_eq!(sent(caller(MAX_HEADER)), Caller::Workload { id: id.clone(), certificate: None });
}
