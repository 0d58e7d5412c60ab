//! One question to one DNS server: what is the IPv4 address of this name?
//!
//! Owns the bytes of the question and of its answer (RFC 1035, section 4). An application uses the resolver of its system; this
//! stands in for it where three clusters share one machine and so one `resolv.conf`.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::net::UdpSocket;

/// How long one question waits for its answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is asked.
const ATTEMPTS: u32 = 3;
/// The largest answer without EDNS.
const MAX_ANSWER: usize = 512;
const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;

/// Asks `server` for the first address of `name`.
pub(crate) async fn resolve(server: SocketAddr, name: &str) -> anyhow::Result<IpAddr> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
    socket.connect(server).await?;
    for attempt in 0..ATTEMPTS {
        let id = u16::try_from(RandomState::new().hash_one(attempt) & 0xffff)?;
        let question = question(id, name)?;
        socket.send(&question).await.with_context(|| format!("asking {server}"))?;
        let mut answer = [0; MAX_ANSWER];
        match tokio::time::timeout(TIMEOUT, socket.recv(&mut answer)).await {
            Ok(length) => {
                let address = address(&answer[..length.with_context(|| format!("asking {server}"))?], &question);
                return address.with_context(|| format!("{server} on {name}")).map(IpAddr::V4);
            }
            Err(_) => continue,
        }
    }
    bail!("{server} does not answer")
}

fn question(id: u16, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEADER + name.len() + 6);
    bytes.extend(id.to_be_bytes());
    // One question, recursion desired.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        ensure!((1..=63).contains(&label.len()), "{name} is not a DNS name");
        bytes.push(u8::try_from(label.len())?);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(TYPE_A.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    Ok(bytes)
}

fn address(answer: &[u8], question: &[u8]) -> anyhow::Result<Ipv4Addr> {
    ensure!(answer.len() >= question.len() && answer[..2] == question[..2], "not an answer to the question");
    match answer[3] & 0x0f {
        0 => {}
        3 => bail!("no such name (NXDOMAIN): is the service exported?"),
        code => bail!("the answer is error {code}"),
    }
    let count = u16::from_be_bytes([answer[6], answer[7]]);
    // The question comes back unchanged, so the records start where it ended.
    let mut rest = &answer[question.len()..];
    for _ in 0..count {
        let (kind, data, after) = record(rest).context("the answer is cut short")?;
        if let (TYPE_A, Ok(octets)) = (kind, <[u8; 4]>::try_from(data)) {
            return Ok(octets.into());
        }
        rest = after;
    }
    bail!("the name has no IPv4 address")
}

/// The type and data of the first record, and what comes after it.
fn record(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let mut at = 0;
    // The owner: labels up to the root, or to a pointer.
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => break at += 1,
            0xc0.. => break at += 2,
            _ => at += usize::from(length) + 1,
        }
    }
    let fixed = bytes.get(at..at + 10)?;
    let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
    let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    let data = bytes.get(at + 10..at + 10 + length)?;
    Some((kind, data, &bytes[at + 10 + length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u8, records: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
        let question = question(7, "api.example").unwrap();
        let mut answer = question.clone();
        answer[2..4].copy_from_slice(&[0x84, code]);
        answer[7] = u8::try_from(records.len()).unwrap();
        records.iter().for_each(|record| answer.extend(*record));
        (question, answer)
    }

    const CNAME: &[u8] = &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 5, 0, 2, 0xc0, 12];
    const ADDRESS: &[u8] = &[3, b'a', b'p', b'i', 0, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 80, 0, 9];

    #[test]
    fn the_first_address_is_found_behind_other_records() {
        let (question, answer) = answer(0, &[CNAME, ADDRESS]);
        assert_eq!(address(&answer, &question).unwrap(), Ipv4Addr::new(127, 80, 0, 9));
    }

    #[test]
    fn errors_and_answers_without_an_address_are_told_apart() {
        for (code, records, expected) in
            [(3, vec![], "NXDOMAIN"), (5, vec![], "error 5"), (0, vec![CNAME], "no IPv4 address")]
        {
            let (question, answer) = answer(code, &records);
            let error = address(&answer, &question).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_answer_cut_anywhere_is_an_error() {
        let (question, answer) = answer(0, &[ADDRESS]);
        for length in 0..answer.len() {
            assert!(address(&answer[..length], &question).is_err(), "{length}");
        }
    }
}
