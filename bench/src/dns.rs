//! One question for one address (RFC 1035, section 4).
//!
//! Owns the bytes. A lost packet counts as no answer: callers ask again.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::net::UdpSocket;

/// How long an answer on loopback may take.
const TIMEOUT: Duration = Duration::from_millis(500);
const HEADER: usize = 12;

/// The address of `name`; nothing when there is none or no answer comes.
pub(crate) async fn resolve(server: SocketAddr, name: &str) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    // The socket takes answers of this server to this port alone, so a constant id will do.
    socket.connect(server).await.ok()?;
    let question = question(name)?;
    socket.send(&question).await.ok()?;
    let mut answer = [0; 512];
    let length = tokio::time::timeout(TIMEOUT, socket.recv(&mut answer)).await.ok()?.ok()?;
    address(&answer[..length], &question)
}

fn question(name: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0x4c, 0x42, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).ok()?);
        bytes.extend(label.as_bytes());
    }
    // The root, type A, class IN.
    bytes.extend([0, 0, 1, 0, 1]);
    Some(bytes)
}

/// The first record after the question, when it is an address.
fn address(answer: &[u8], question: &[u8]) -> Option<Ipv4Addr> {
    let without_error = answer.get(3)? & 0x0f == 0;
    let answered = answer.get(6..8)? != [0, 0];
    if !without_error || !answered || answer.len() < question.len() {
        return None;
    }
    let mut at = question.len().max(HEADER);
    // The owner is a pointer to the question or is written out.
    while *answer.get(at)? != 0 && *answer.get(at)? < 0xc0 {
        at += usize::from(*answer.get(at)?) + 1;
    }
    at += if *answer.get(at)? == 0 { 1 } else { 2 };
    let record = answer.get(at..at + 14)?;
    (record[..2] == [0, 1] && record[8..10] == [0, 4])
        .then(|| Ipv4Addr::new(record[10], record[11], record[12], record[13]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_behind_a_pointer_and_behind_a_name() {
        let question = question("a.example").unwrap();
        let fixed = [0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 190, 0, 7];
        for owner in [&[0xc0, 12][..], &question[HEADER..question.len() - 4]] {
            let mut answer = question.clone();
            answer[7] = 1;
            answer.extend(owner);
            answer.extend(fixed);
            assert_eq!(address(&answer, &question), Some(Ipv4Addr::new(127, 190, 0, 7)));
            assert_eq!(address(&answer[..answer.len() - 1], &question), None);
            answer[3] = 3;
            assert_eq!(address(&answer, &question), None);
        }
    }
}
