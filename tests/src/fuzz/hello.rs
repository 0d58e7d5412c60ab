//! The peek into a ClientHello, next to what rustls reads.

use federation_model::sni::{SniTarget, Zone};
use gateway_core::hello::{ClientHello, HelloError, MAX_HELLO, MAX_SERVER_NAME, Peek, peek};
use rustls::server::Acceptor;

const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;

/// What follows is what a client sends first.
pub fn client_hello(data: &[u8]) {
    assert_settles_at_once(data);
    let read = peek(data);
    let hello = match &read {
        Ok(Peek::NeedMore) => {
            assert!(data.len() < MAX_HELLO, "the limit ends the waiting");
            return;
        }
        Ok(Peek::Hello(hello)) => hello,
        Err(error) => {
            let _ = (error.outcome(), error.to_string());
            return assert_rustls_agrees(data, &read);
        }
    };
    assert_rustls_agrees(data, &read);
    assert_within_limits(hello);
    let message = message_of(data);
    for length in [1, 7, 255, 1 << 14] {
        let pieces = in_records(&message, length);
        let expected =
            if pieces.len() <= MAX_HELLO { Ok(Peek::Hello(hello.clone())) } else { Err(HelloError::TooLarge) };
        assert_eq!(peek(&pieces), expected, "in records of {length} bytes");
    }
}

fn assert_settles_at_once(data: &[u8]) {
    super::assert_settles(data, &Ok(Peek::NeedMore), peek);
}

fn assert_within_limits(hello: &ClientHello) {
    if let Some(name) = &hello.server_name {
        assert!((1..=MAX_SERVER_NAME).contains(&name.len()), "{name:?}");
        assert!(name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()), "{name:?}");
        let zone = Zone::default();
        if let Ok(target) = SniTarget::parse(name, &zone) {
            assert_eq!(SniTarget::parse(&target.to_sni(&zone), &zone), Ok(target), "{name:?}");
        }
    }
    assert!(hello.alpn.iter().all(|protocol| (1..=255).contains(&protocol.len())), "{:?}", hello.alpn);
}

/// What rustls accepts is read the same way or refused; what only a server that goes on needs, rustls alone checks.
fn assert_rustls_agrees(mut data: &[u8], read: &Result<Peek, HelloError>) {
    let mut acceptor = Acceptor::default();
    while !data.is_empty() {
        if acceptor.read_tls(&mut data).is_err() {
            return;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let expected = ClientHello {
                    server_name: hello.server_name().map(str::to_owned),
                    alpn: hello.alpn().map(|list| list.map(<[u8]>::to_vec).collect()).unwrap_or_default(),
                };
                match read {
                    Ok(read) => assert_eq!(*read, Peek::Hello(expected)),
                    Err(HelloError::Malformed(_) | HelloError::TooLarge) => {}
                    Err(HelloError::NotTls) => panic!("rustls reads {expected:?}"),
                }
                return;
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// The handshake message that the records of a complete ClientHello carry.
fn message_of(mut data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    loop {
        let length = usize::from(u16::from_be_bytes([data[3], data[4]]));
        let end = data.len().min(RECORD_HEADER + length);
        message.extend_from_slice(&data[RECORD_HEADER..end]);
        data = &data[end..];
        if let Some(header) = message.first_chunk::<MESSAGE_HEADER>() {
            let length = MESSAGE_HEADER + u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
            if message.len() >= length {
                message.truncate(length);
                return message;
            }
        }
    }
}

fn in_records(message: &[u8], length: usize) -> Vec<u8> {
    let mut records = Vec::new();
    for piece in message.chunks(length) {
        records.extend([22, 3, 1]);
        records.extend(u16::try_from(piece.len()).unwrap().to_be_bytes());
        records.extend(piece);
    }
    records
}
