use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::*;

fn id(text: &str) -> SpiffeId {
    SpiffeId::new(text).unwrap()
}

fn introduction(caller: Caller) -> Introduction {
    Introduction {
        caller,
        source_cluster: Some("east".parse().unwrap()),
        by: id("spiffe://west.example/landbridge/gateway"),
        client: Some("10.1.2.3:4711".parse().unwrap()),
        trace: TraceContext { trace_id: 7, span_id: 9, sampled: true },
        authority: None,
    }
}

fn stamped(introduction: &Introduction, sent: &[(&'static str, &str)]) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    for (name, text) in sent {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(text).unwrap());
    }
    Stamp::new(introduction).set(&mut headers);
    let mut all: Vec<_> = headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
    all.sort();
    all
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_caller_that_proved_a_certificate_is_introduced_with_it_byte_for_byte() {
    // 50 bytes: the base64 has a second line, padding, and both characters that URLs give another meaning.
    let der = Arc::new(CertificateDer::from([&[0xfb, 0xff, 0xfe][..], &[0; 47]].concat()));
    let caller =
        Caller::Workload { id: id("spiffe://east.example/ns/shop/sa/frontend"), certificate: Some(Arc::clone(&der)) };
    let hash = "6c15d7e4ba1b96ef4eebe0e0af0ef2b3a4ea6f52a3d3a1e0c7a7fd7b0a0d1234";
    let real: String = digest(&SHA256, &der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(real.len(), hash.len());
    let pem = format!(
        "-----BEGIN%20CERTIFICATE-----%0A%2B%2F%2F%2B{}%0AAAA%3D%0A-----END%20CERTIFICATE-----%0A",
        "A".repeat(60)
    );
    assert_eq!(
        stamped(&introduction(caller), &[]),
        pairs(&[
            ("client-cert", &format!(":+//+{}AAA=:", "A".repeat(60))),
            ("forwarded", "for=10.1.2.3"),
            ("traceparent", "00-00000000000000000000000000000007-0000000000000009-01"),
            (
                "x-forwarded-client-cert",
                &format!(
                    "By=spiffe://west.example/landbridge/gateway;Hash={real};Cert=\"{pem}\";\
                     URI=spiffe://east.example/ns/shop/sa/frontend"
                )
            ),
            ("x-forwarded-for", "10.1.2.3"),
            ("x-landbridge-assurance", "mtls"),
            ("x-landbridge-principal", "spiffe://east.example/ns/shop/sa/frontend"),
            ("x-landbridge-source-cluster", "east"),
        ])
    );
}

#[test]
fn a_caller_that_is_vouched_for_is_introduced_without_a_certificate() {
    let caller = Caller::Vouched { id: id("spiffe://east.example/ns/shop/sa/frontend") };
    assert_eq!(
        stamped(&introduction(caller), &[])[2..],
        pairs(&[
            (
                "x-forwarded-client-cert",
                "By=spiffe://west.example/landbridge/gateway;URI=spiffe://east.example/ns/shop/sa/frontend"
            ),
            ("x-forwarded-for", "10.1.2.3"),
            ("x-landbridge-assurance", "attested"),
            ("x-landbridge-principal", "spiffe://east.example/ns/shop/sa/frontend"),
            ("x-landbridge-source-cluster", "east"),
        ])
    );
}

#[test]
fn an_unknown_caller_is_not_introduced_by_name() {
    let mut unknown = introduction(Caller::Unknown);
    unknown.source_cluster = None;
    unknown.client = None;
    assert_eq!(
        stamped(&unknown, &[]),
        pairs(&[
            ("forwarded", "for=unknown"),
            ("traceparent", "00-00000000000000000000000000000007-0000000000000009-01"),
            ("x-forwarded-for", "unknown"),
            ("x-landbridge-assurance", "none"),
        ])
    );
}

#[test]
fn the_last_address_is_the_gateways_word_on_one_line() {
    let mut unknown = introduction(Caller::Unknown);
    unknown.client = Some("[::ffff:10.1.2.3]:1".parse().unwrap());
    let sent = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2, 3.3.3.3"), ("forwarded", "for=x")];
    let all = stamped(&unknown, &sent);
    assert!(all.contains(&("x-forwarded-for".into(), "1.1.1.1, 2.2.2.2, 3.3.3.3, 10.1.2.3".into())), "{all:?}");
    assert!(all.contains(&("forwarded".into(), "for=x, for=10.1.2.3".into())), "{all:?}");
    unknown.client = Some("[2001:db8::1]:1".parse().unwrap());
    let all = stamped(&unknown, &[]);
    assert!(all.contains(&("forwarded".into(), "for=\"[2001:db8::1]\"".into())), "{all:?}");
}

#[test]
fn one_valid_trace_of_the_client_goes_on_and_anything_else_is_replaced() {
    const OWN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let unknown = introduction(Caller::Unknown);
    let all = stamped(&unknown, &[("traceparent", OWN), ("tracestate", "a=b")]);
    assert!(all.contains(&("traceparent".into(), OWN.into())) && all.contains(&("tracestate".into(), "a=b".into())));
    for sent in [
        &[("traceparent", "00-0-0-0"), ("tracestate", "a=b")][..],
        &[("traceparent", OWN), ("traceparent", OWN), ("tracestate", "a=b")],
    ] {
        let all = stamped(&unknown, sent);
        assert!(all.contains(&("traceparent".into(), unknown.trace.to_string())), "{all:?}");
        assert!(all.iter().all(|(name, _)| name != "tracestate"), "{all:?}");
    }
}

#[test]
fn values_that_would_end_early_are_quoted() {
    assert_eq!(quoted("spiffe://a/b"), "spiffe://a/b");
    assert_eq!(quoted(r#"a;URI="b",c"#), r#""a;URI=\"b\",c""#);
}
