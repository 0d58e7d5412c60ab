//! HTTP/2 frame by frame, for clients that hyper would not be.

use tokio::io::{AsyncReadExt as _, DuplexStream};

use super::stage::soon;

pub(super) const HEADERS: u8 = 1;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GO_AWAY: u8 = 7;
pub(super) const DATA: u8 = 0;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
/// `GET http://a/`, from the static table of HPACK but for the authority.
pub(super) const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub(super) fn hello() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat()
}

pub(super) fn asks(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, GET)
}

pub(super) fn takes_back(stream: u32) -> Vec<u8> {
    frame(RESET, 0, stream, &8_u32.to_be_bytes())
}

/// Kinds of the frames that arrive until one of `last`, the settings of the beginning left out; or until the end.
pub(super) async fn kinds_until(client: &mut DuplexStream, last: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    let mut head = [0; 9];
    while soon(client.read_exact(&mut head)).await.is_ok() {
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        soon(client.read_exact(&mut payload)).await.unwrap();
        if head[3] != SETTINGS {
            kinds.push(head[3]);
        }
        if last.contains(&head[3]) {
            break;
        }
    }
    kinds
}
