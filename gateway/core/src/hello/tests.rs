//! Hellos of a real client, in pieces, and bytes that are none.

use std::sync::Arc;

use proptest::{collection, prelude::*};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    server::Acceptor,
};

use super::*;

const NAME: &str = "Web.shop.svc.ClusterSet.local";

/// The first flight of a rustls client.
fn rustls_hello(name: &str, alpn: &[&[u8]], post_quantum: bool) -> Vec<u8> {
    let mut provider: CryptoProvider = aws_lc_rs::default_provider();
    if !post_quantum {
        provider.kx_groups.retain(|group| group.name() != rustls::NamedGroup::X25519MLKEM768);
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// What rustls reads from the same bytes.
fn oracle(mut bytes: &[u8]) -> Result<Option<ClientHello>, ()> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).map_err(|_| ())?;
        if let Some(accepted) = acceptor.accept().map_err(|_| ())? {
            let hello = accepted.client_hello();
            return Ok(Some(ClientHello {
                server_name: hello.server_name().map(str::to_owned),
                alpn: hello.alpn().map(|list| list.map(<[u8]>::to_vec).collect()).unwrap_or_default(),
            }));
        }
    }
    Ok(None)
}

/// The records of `hello` cut into pieces of these lengths, the last length repeated.
fn in_records(hello: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut rest = &hello[5..];
    let mut lengths = lengths.iter().copied().chain(std::iter::repeat(*lengths.last().unwrap()));
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(lengths.next().unwrap().clamp(1, rest.len()));
        out.extend([22, 3, 1]);
        out.extend(u16::try_from(piece.len()).unwrap().to_be_bytes());
        out.extend(piece);
        rest = after;
    }
    out
}

fn hello_of(bytes: &[u8]) -> ClientHello {
    match peek(bytes) {
        Ok(Peek::Hello(hello)) => hello,
        other => panic!("{other:?}"),
    }
}

/// A hello with these extensions and otherwise as little as is allowed.
fn built(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, data) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        list.extend(data);
    }
    let mut body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 0x01], &[1, 0]].concat();
    body.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
    body.extend(list);
    framed(&body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut message = vec![1];
    message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    record.extend(message);
    record
}

fn host_name_extension(names: &[(u8, &[u8])]) -> (u16, Vec<u8>) {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        list.extend(*name);
    }
    let mut data = u16::try_from(list.len()).unwrap().to_be_bytes().to_vec();
    data.extend(list);
    (0, data)
}

fn malformed(bytes: &[u8]) -> &'static str {
    match peek(bytes) {
        Err(HelloError::Malformed(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_name_in_lowercase_and_the_protocols_in_order_are_read_from_a_real_hello() {
    for post_quantum in [false, true] {
        let hello = hello_of(&rustls_hello(NAME, &[b"h2", b"http/1.1"], post_quantum));
        assert_eq!(hello.server_name.as_deref(), Some("web.shop.svc.clusterset.local"));
        assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }
}

#[test]
fn every_proper_prefix_of_a_hello_needs_more() {
    let whole = rustls_hello(NAME, &[b"h2"], true);
    let pieces = in_records(&whole, &[1, 3, 100]);
    for bytes in [whole, pieces] {
        for end in 0..bytes.len() {
            assert_eq!(peek(&bytes[..end]), Ok(Peek::NeedMore), "{end} of {}", bytes.len());
        }
        assert_eq!(hello_of(&bytes).alpn, [b"h2"]);
    }
}

#[test]
fn what_follows_the_hello_is_not_looked_at() {
    let mut bytes = rustls_hello(NAME, &[], false);
    bytes.extend(b"anything, even what is no record");
    assert_eq!(hello_of(&bytes).server_name.as_deref(), Some("web.shop.svc.clusterset.local"));
}

#[test]
fn an_address_is_no_server_name() {
    for address in ["192.0.2.1", "2001:db8::1"] {
        assert_eq!(hello_of(&rustls_hello(address, &[], false)).server_name, None);
        assert_eq!(hello_of(&built(&[host_name_extension(&[(0, address.as_bytes())])])).server_name, None);
    }
}

#[test]
fn a_hello_without_extensions_names_nothing() {
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x00, 0x2f], &[1, 0]].concat();
    assert_eq!(hello_of(&framed(&body)), ClientHello::default());
}

#[test]
fn istio_names_are_read() {
    let name = "outbound_.8443_.v1_.api.production.svc.clusterset.local";
    assert_eq!(hello_of(&rustls_hello(name, &[], false)).server_name.as_deref(), Some(name));
}

#[test]
fn bytes_of_other_protocols_are_not_tls() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x", b"\x16\x02\x00\x00\x00", b"\x15\x03\x01", b"\x80\x2e\x01\x03\x01"]
    {
        assert_eq!(peek(bytes), Err(HelloError::NotTls), "{bytes:?}");
    }
    assert_eq!(peek(b""), Ok(Peek::NeedMore));
    assert_eq!(peek(b"\x16"), Ok(Peek::NeedMore));
}

#[test]
fn names_that_are_no_dns_names_are_malformed() {
    let label = "a".repeat(64);
    let long = vec!["a".repeat(60); 5].join(".");
    for name in ["", ".", "a..b", "a b", "a/b", "*.a", "é.a", "a\0b", label.as_str(), long.as_str()] {
        assert!(malformed(&built(&[host_name_extension(&[(0, name.as_bytes())])])).contains("host name"), "{name:?}");
    }
    assert!(malformed(&built(&[host_name_extension(&[(0, b"\xff")])])).contains("ASCII"));
}

#[test]
fn the_longest_name_has_253_bytes_with_its_final_dot() {
    let of = |length| format!("{}.", vec!["a".repeat(60); 5].join(".").split_at(length - 1).0);
    let longest = of(MAX_SERVER_NAME);
    assert_eq!(hello_of(&built(&[host_name_extension(&[(0, longest.as_bytes())])])).server_name, Some(longest));
    let longer = built(&[host_name_extension(&[(0, of(MAX_SERVER_NAME + 1).as_bytes())])]);
    assert!(malformed(&longer).contains("over 253 bytes"));
}

#[test]
fn ambiguous_hellos_are_malformed() {
    let name = || host_name_extension(&[(0, b"a.example")]);
    let protocols = || (16, vec![0, 3, 2, b'h', b'2']);
    assert!(malformed(&built(&[name(), name()])).contains("two server_name"));
    assert!(malformed(&built(&[protocols(), protocols()])).contains("two ALPN"));
    assert!(malformed(&built(&[host_name_extension(&[(0, b"a"), (0, b"b")])])).contains("more than one"));
    assert!(malformed(&built(&[host_name_extension(&[(9, b"??"), (0, b"a.example")])])).contains("not a host name"));
    assert!(malformed(&built(&[(0, vec![0, 0])])).contains("no server name"));
    assert!(malformed(&built(&[(16, vec![0, 1, 0])])).contains("protocol is empty"));
    assert!(malformed(&built(&[(0, [name().1, vec![0]].concat())])).contains("does not fill"));
}

#[test]
fn records_and_messages_of_other_kinds_inside_a_hello_are_malformed() {
    let whole = rustls_hello(NAME, &[], false);
    let mut alert_inside = in_records(&whole, &[50, 5000]);
    alert_inside[55] = 21;
    assert!(malformed(&alert_inside).contains("another record"));
    assert!(malformed(&[22, 3, 1, 0, 0]).contains("empty"));
    assert!(malformed(&[22, 3, 1, 0x40, 1]).contains("16384"));
    assert!(malformed(&[22, 3, 1, 0, 4, 2, 0, 0, 0]).contains("not a ClientHello"));
}

#[test]
fn a_hello_over_the_limit_is_refused_as_soon_as_it_says_so() {
    let just_too_large = u32::try_from(MAX_HELLO - 5 - 4 + 1).unwrap().to_be_bytes();
    let start = |length: [u8; 4]| [22, 3, 1, 0x40, 0, 1, length[1], length[2], length[3]];
    assert_eq!(peek(&start(just_too_large)), Err(HelloError::TooLarge));
    assert_eq!(peek(&start([0, 255, 255, 255])), Err(HelloError::TooLarge));
    assert_eq!(peek(&start((MAX_HELLO as u32 - 9).to_be_bytes())), Ok(Peek::NeedMore));
}

#[test]
fn a_hello_of_exactly_the_limit_is_read_and_one_record_header_more_is_refused() {
    let padding = |length: usize| (21u16, vec![0u8; length]);
    let overhead = built(&[host_name_extension(&[(0, b"a.example")]), padding(0)]).len();
    let whole = built(&[host_name_extension(&[(0, b"a.example")]), padding(MAX_HELLO - overhead)]);
    assert_eq!(whole.len(), MAX_HELLO);
    assert_eq!(hello_of(&whole).server_name.as_deref(), Some("a.example"));
    let split = in_records(&whole, &[8000]);
    assert_eq!(peek(&split), Err(HelloError::TooLarge));
    assert_eq!(peek(&split[..MAX_HELLO - 1]), Ok(Peek::NeedMore));
}

#[test]
fn one_byte_records_without_end_are_refused_at_the_limit() {
    let whole = built(&[(21, vec![0; 10_000])]);
    let bytes = in_records(&whole, &[1]);
    assert_eq!(peek(&bytes[..MAX_HELLO]), Err(HelloError::TooLarge));
}

#[test]
fn alerts_are_fatal_records_and_errors_map_to_outcomes() {
    assert_eq!(alert(AlertDescription::UnrecognizedName), [21, 3, 3, 0, 2, 2, 112]);
    assert_eq!(alert(AlertDescription::AccessDenied), [21, 3, 3, 0, 2, 2, 49]);
    assert_eq!(HelloError::Malformed("x").outcome(), Outcome::BadHello);
    assert_eq!(HelloError::TooLarge.outcome(), Outcome::HelloTooLarge);
    assert_eq!(HelloError::NotTls.outcome(), Outcome::NotTls);
    assert_eq!(AlertDescription::of(Outcome::UnknownService), Some(AlertDescription::UnrecognizedName));
    assert_eq!(AlertDescription::of(Outcome::NotTls), None);
}

#[test]
fn six_bytes_tell_a_client_that_speaks_tls_from_any_other() {
    let hello = rustls_hello("a.example", &[], false);
    assert!((0..6).all(|length| is_tls(&hello[..length]).is_none()));
    assert!((6..hello.len()).all(|length| is_tls(&hello[..length]) == Some(true)));
    assert_eq!(is_tls(&[&hello[..40], &[0xff; 100]].concat()), Some(true), "it speaks TLS, badly");
    for other in [&b"GET / HTTP/1.1"[..], b"\0", b"\x16\x01", b"\r\n\r\n\0\r\nQUIT\n"] {
        assert_eq!(is_tls(other), Some(false), "{other:?}");
    }
}

#[test]
fn rustls_understands_the_alerts() {
    let mut client = ClientConnection::new(
        Arc::new(
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth(),
        ),
        "a.example".try_into().unwrap(),
    )
    .unwrap();
    client.write_tls(&mut Vec::new()).unwrap();
    client.read_tls(&mut alert(AlertDescription::UnrecognizedName).as_slice()).unwrap();
    let error = client.process_new_packets().unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::UnrecognisedName));
}

fn protocol_lists() -> impl Strategy<Value = Vec<Vec<u8>>> {
    collection::vec(collection::vec(any::<u8>(), 1..20), 0..5)
}

proptest! {
    #[test]
    fn any_split_into_records_reads_like_rustls_reads_it(
        name in "([a-zA-Z]([a-zA-Z0-9_-]{0,20}[a-zA-Z0-9])?\\.){1,4}[a-z]{2,8}",
        alpn in protocol_lists(),
        lengths in collection::vec(1usize..600, 1..8),
        post_quantum: bool,
    ) {
        let alpn: Vec<&[u8]> = alpn.iter().map(Vec::as_slice).collect();
        let bytes = in_records(&rustls_hello(&name, &alpn, post_quantum), &lengths);
        let expected = oracle(&bytes).unwrap().unwrap();
        prop_assert_eq!(peek(&bytes).unwrap(), Peek::Hello(expected));
    }

    #[test]
    fn a_damaged_hello_is_never_read_as_another_than_rustls_reads(
        flips in collection::vec((0usize..400, any::<u8>()), 1..4),
    ) {
        let mut bytes = rustls_hello(NAME, &[b"h2"], false);
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        match (oracle(&bytes), peek(&bytes)) {
            (Ok(Some(expected)), Ok(read)) => prop_assert_eq!(read, Peek::Hello(expected)),
            (Ok(Some(_)), Err(refused)) => prop_assert!(matches!(refused, HelloError::Malformed(_))),
            // What only a server that goes on needs, rustls checks and this does not.
            (Ok(None) | Err(()), _) => {}
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in collection::vec(any::<u8>(), 0..200)) {
        let _ = peek(&bytes);
    }

    #[test]
    fn arbitrary_bodies_never_panic_however_they_are_split(
        body in collection::vec(any::<u8>(), 0..300),
        lengths in collection::vec(1usize..50, 1..5),
    ) {
        let whole = framed(&body);
        prop_assert_eq!(peek(&whole), peek(&in_records(&whole, &lengths)));
    }

    #[test]
    fn arbitrary_extensions_never_panic(
        extensions in collection::vec((prop_oneof![Just(0u16), Just(16), any::<u16>()], collection::vec(any::<u8>(), 0..40)), 0..6),
    ) {
        prop_assert_ne!(peek(&built(&extensions)), Ok(Peek::NeedMore));
    }
}
