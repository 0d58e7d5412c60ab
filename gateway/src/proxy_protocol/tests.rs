//! Vectors written by hand from the PROXY protocol specification, sections 2.2 to 2.2.9: what is sent is a wire format that
//! other programs read.

use std::sync::Arc;

use federation_model::spiffe::SpiffeId;

use super::*;

const SIGNATURE: &[u8] = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A";
const AUTHORITY: &[u8] = b"\x02\x00\x23api.production.svc.clusterset.local";
const PRINCIPAL: &[u8] = b"\xE0\x00\x30spiffe://east.example/ns/production/sa/frontend1";
const SOURCE_CLUSTER: &[u8] = b"\xE1\x00\x04east";

fn id() -> SpiffeId {
    SpiffeId::new("spiffe://east.example/ns/production/sa/frontend1").unwrap()
}

fn encoded(caller: &Caller, client: Option<&str>, endpoint: &str) -> Vec<u8> {
    let introduction = Introduction {
        client: client.map(|client| client.parse().unwrap()),
        endpoint: endpoint.parse().unwrap(),
        caller,
        source_cluster: &"east".parse().unwrap(),
        authority: "api.production.svc.clusterset.local",
        trace: TraceContext::from_random(7, 9),
    };
    introduction.encode().unwrap()
}

/// A header with these addresses and TLVs; UNIQUE_ID is the trace context as text.
fn vector(command: u8, addresses: &[u8], ssl: &[u8], about: &[u8]) -> Vec<u8> {
    let trace = TraceContext::from_random(7, 9).to_string();
    let unique_id = [&[0x05, 0x00, u8::try_from(trace.len()).unwrap()], trace.as_bytes()].concat();
    let (family, addresses) = addresses.split_first().unwrap();
    let rest = [addresses, AUTHORITY, &unique_id, ssl, about].concat();
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x20 | command, *family], &length, &rest].concat()
}

#[test]
fn a_caller_that_is_vouched_for_is_introduced_over_ipv4() {
    let addresses = [0x11, 10, 0, 0, 5, 192, 0, 2, 1, 0x04, 0xD2, 0x1F, 0x90];
    let about = [PRINCIPAL, SOURCE_CLUSTER, b"\xE2\x00\x08attested"].concat();
    let caller = Caller::Vouched { id: id() };
    let sent = encoded(&caller, Some("10.0.0.5:1234"), "192.0.2.1:8080");
    assert_eq!(sent, vector(1, &addresses, &[], &about));
}

#[test]
fn a_caller_that_proved_its_id_is_introduced_with_its_certificate() {
    let mut addresses = vec![0x21];
    addresses.extend_from_slice(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x05");
    addresses.extend_from_slice(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01");
    addresses.extend_from_slice(&[0xFF, 0xFF, 0x00, 0x50]);
    // 5 bytes, then the version (3 + 7) and a certificate of 300 bytes (3 + 300): 318.
    let certificate = [0x30; 300];
    let ssl = [b"\x20\x01\x3E\x03\0\0\0\0\x21\x00\x07TLSv1.3\x28\x01\x2C".as_slice(), &certificate].concat();
    let about = [PRINCIPAL, SOURCE_CLUSTER, b"\xE2\x00\x04mtls"].concat();
    let caller = Caller::Workload { id: id(), certificate: Some(Arc::new(certificate.to_vec().into())) };
    let sent = encoded(&caller, Some("[2001:db8::5]:65535"), "[2001:db8::1]:80");
    assert_eq!(sent, vector(1, &addresses, &ssl, &about));
    let without = Caller::Workload { id: id(), certificate: None };
    let sent = encoded(&without, Some("[2001:db8::5]:65535"), "[2001:db8::1]:80");
    assert_eq!(sent, vector(1, &addresses, &[], &about));
}

#[test]
fn an_ipv4_client_of_an_ipv6_endpoint_has_a_mapped_address() {
    let mut addresses = vec![0x21];
    addresses.extend_from_slice(b"\0\0\0\0\0\0\0\0\0\0\xFF\xFF\x0A\0\0\x05");
    addresses.extend_from_slice(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01");
    addresses.extend_from_slice(&[0x04, 0xD2, 0x00, 0x50]);
    let about = [SOURCE_CLUSTER, b"\xE2\x00\x04none"].concat();
    let sent = encoded(&Caller::Unknown, Some("10.0.0.5:1234"), "[2001:db8::1]:80");
    assert_eq!(sent, vector(1, &addresses, &[], &about));
}

#[test]
fn a_client_without_a_known_address_is_local_to_the_gateway() {
    let about = [SOURCE_CLUSTER, b"\xE2\x00\x04none"].concat();
    let sent = encoded(&Caller::Unknown, None, "192.0.2.1:8080");
    assert_eq!(sent, vector(0, &[0x00], &[], &about));
}

#[test]
fn a_certificate_that_no_header_holds_is_left_out_and_everything_else_is_told() {
    let sent = |length: usize| {
        let certificate = Some(Arc::new(vec![0x30; length].into()));
        encoded(&Caller::Workload { id: id(), certificate }, Some("10.0.0.5:1234"), "192.0.2.1:8080")
    };
    let addresses = [0x11, 10, 0, 0, 5, 192, 0, 2, 1, 0x04, 0xD2, 0x1F, 0x90];
    let about = [PRINCIPAL, SOURCE_CLUSTER, b"\xE2\x00\x04mtls"].concat();
    assert_eq!(sent(65_526), vector(1, &addresses, &[], &about));
    assert_eq!(sent(MAX_CERTIFICATE + 1), vector(1, &addresses, &[], &about));
    assert!(sent(MAX_CERTIFICATE).len() > MAX_CERTIFICATE);
}
