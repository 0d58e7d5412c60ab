//! From the bytes of a query to the bytes of its answer.
//!
//! Owns the protocol rules, each where it is applied. Never waits, never touches a socket.

use std::net::IpAddr;

use gateway_core::names::{self, NameAnswer, NameTable, RecordData};
use hickory_proto::{
    ProtoError,
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, HINFO, NS, SOA, SRV, TXT},
    },
};

/// The largest datagram sent: fits every path without fragments (DNS flag day 2020).
pub(crate) const MAX_DATAGRAM: u16 = 1232;
/// The largest datagram for a client without EDNS (RFC 1035 section 4.2.1).
const MIN_DATAGRAM: u16 = 512;
/// The bytes of a DNS header.
const HEADER: usize = 12;
/// The times of the SOA record, for secondaries, of which there are none.
const REFRESH: i32 = 7200;
const RETRY: i32 = 1800;
const EXPIRE: i32 = 86_400;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Udp,
    Tcp,
}

/// An answer, ready to be sent.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) outcome: Outcome,
}

/// What is counted of an answer: few values each, whatever is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) kind: &'static str,
    pub(crate) code: &'static str,
    pub(crate) truncated: bool,
}

/// Answers `query` from `names`; nothing when it is no query at all, since answering an answer makes a loop.
pub(crate) fn answer(query: &[u8], names: &NameTable, ttl: u32, via: Via) -> Option<Reply> {
    let header: &[u8; HEADER] = query.first_chunk()?;
    let is_response = header[2] & 0x80 != 0;
    if is_response {
        return None;
    }
    let message = Message::from_vec(query);
    let (response, kind) = match &message {
        _ if opcode(header) != OpCode::Query => (bare(header, ResponseCode::NotImp), "none"),
        Err(_) => (bare(header, ResponseCode::FormErr), "none"),
        Ok(message) => match message.queries.as_slice() {
            [question] => (respond(message, question, names, ttl), kind_label(question.query_type())),
            [] | [_, _, ..] => (bare(header, ResponseCode::FormErr), "none"),
        },
    };
    let limit = match via {
        Via::Tcp => u16::MAX,
        Via::Udp => datagram_limit(message.ok().and_then(|message| message.edns)),
    };
    let code = code_label(response.metadata.response_code);
    match encode(response, limit.into()) {
        Ok((bytes, truncated)) => Some(Reply { bytes, outcome: Outcome { kind, code, truncated } }),
        Err(error) => {
            tracing::debug!(%error, "an answer could not be encoded");
            let bytes = bare(header, ResponseCode::ServFail).to_vec().ok()?;
            Some(Reply { bytes, outcome: Outcome { kind, code: "servfail", truncated: false } })
        }
    }
}

/// How large a datagram the client takes, as far as every path carries it.
fn datagram_limit(edns: Option<Edns>) -> u16 {
    edns.map_or(MIN_DATAGRAM, |edns| edns.max_payload().clamp(MIN_DATAGRAM, MAX_DATAGRAM))
}

fn opcode(header: &[u8; HEADER]) -> OpCode {
    OpCode::from_u8((header[2] >> 3) & 0x0f)
}

/// A response to a message of which no more than the header can be trusted.
fn bare(header: &[u8; HEADER], code: ResponseCode) -> Message {
    let mut response = Message::new(u16::from_be_bytes([header[0], header[1]]), MessageType::Response, opcode(header));
    response.metadata.recursion_desired = header[2] & 0x01 != 0;
    response.metadata.response_code = code;
    response
}

fn respond(message: &Message, question: &Query, names: &NameTable, ttl: u32) -> Message {
    let mut response = Message::new(message.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata = Metadata::response_from_request(&message.metadata);
    response.metadata.recursion_available = false;
    response.add_query(question.clone());
    if let Some(asked) = &message.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM);
        edns.set_version(0);
        // The bit is copied even though nothing here is signed (RFC 3225 section 3).
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        response.set_edns(edns);
        if asked.version() > 0 {
            response.metadata.response_code = ResponseCode::BADVERS;
            return response;
        }
    }
    let transfer = matches!(question.query_type(), RecordType::AXFR | RecordType::IXFR);
    if transfer || question.query_class() != DNSClass::IN {
        response.metadata.response_code = ResponseCode::Refused;
        return response;
    }
    fill(&mut response, question, names, ttl);
    response
}

/// Looks the name up and puts what was found into the sections.
fn fill(response: &mut Message, question: &Query, names: &NameTable, ttl: u32) {
    let labels: Vec<_> = question.name().iter().map(String::from_utf8_lossy).collect();
    let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
    let found = names.lookup(&labels, kind(question.query_type()));
    let negative = |response: &mut Message| response.authorities.extend(record(&names.soa(), question, ttl));
    response.metadata.authoritative = true;
    match found {
        NameAnswer::Records { mut answers, additional } => {
            // Clients that take the first address spread over all of them.
            let start = usize::from(response.metadata.id) % answers.len().max(1);
            answers.rotate_left(start);
            response.answers.extend(answers.iter().filter_map(|found| record(found, question, ttl)));
            response.additionals.extend(additional.iter().filter_map(|found| record(found, question, ttl)));
        }
        // The least that says the name exists (RFC 8482 section 4.2).
        NameAnswer::NoData if question.query_type() == RecordType::ANY => {
            let data = RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()));
            response.answers.push(Record::from_rdata(question.name().clone(), ttl, data));
        }
        NameAnswer::NoData => negative(response),
        NameAnswer::NxDomain => {
            response.metadata.response_code = ResponseCode::NXDomain;
            negative(response);
        }
        NameAnswer::Refused => {
            response.metadata.authoritative = false;
            response.metadata.response_code = ResponseCode::Refused;
        }
    }
}

/// The record as hickory has it; nothing when a name in it is too long for DNS.
fn record(found: &names::Record, question: &Query, ttl: u32) -> Option<Record> {
    let owner = name(&found.name)?;
    // The question's own spelling, since its case may be a nonce (0x20).
    let owner = if owner == question.name().to_lowercase() { question.name().clone() } else { owner };
    let data = match &found.data {
        RecordData::Address(IpAddr::V4(ip)) => RData::A(A(*ip)),
        RecordData::Address(IpAddr::V6(ip)) => RData::AAAA(AAAA(*ip)),
        RecordData::Srv { priority, weight, port, target } => {
            RData::SRV(SRV::new(*priority, *weight, port.number(), name(target)?))
        }
        RecordData::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        RecordData::Ns(nameserver) => RData::NS(NS(name(nameserver)?)),
        RecordData::Soa { nameserver, mailbox, serial } => {
            RData::SOA(SOA::new(name(nameserver)?, name(mailbox)?, *serial, REFRESH, RETRY, EXPIRE, ttl))
        }
    };
    Some(Record::from_rdata(owner, found.ttl.unwrap_or(ttl), data))
}

fn name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// Encodes within `limit`: first without the additional records, which nobody needs, then with as many answers as fit and
/// the sign to ask again over TCP.
fn encode(mut response: Message, limit: usize) -> Result<(Vec<u8>, bool), ProtoError> {
    let fits = |response: &Message| -> Result<Option<Vec<u8>>, ProtoError> {
        let bytes = response.to_vec()?;
        // The encoder itself stops at the largest message and says so in the header.
        let cut = bytes.get(2).is_some_and(|flags| flags & 0x02 != 0) && !response.metadata.truncation;
        Ok((bytes.len() <= limit && !cut).then_some(bytes))
    };
    if let Some(bytes) = fits(&response)? {
        return Ok((bytes, false));
    }
    response.additionals.clear();
    if let Some(bytes) = fits(&response)? {
        return Ok((bytes, false));
    }
    response.metadata.truncation = true;
    let all = std::mem::take(&mut response.answers);
    let (mut fit, mut too_many) = (0, all.len());
    let mut best = response.to_vec()?;
    while fit + 1 < too_many {
        let half = fit.midpoint(too_many);
        response.answers = all[..half].to_vec();
        match fits(&response)? {
            Some(bytes) => {
                best = bytes;
                fit = half;
            }
            None => too_many = half,
        }
    }
    Ok((best, true))
}

/// The types that the zone may hold, and what they are counted as.
const KINDS: [(RecordType, names::RecordType, &str); 7] = [
    (RecordType::A, names::RecordType::A, "a"),
    (RecordType::AAAA, names::RecordType::Aaaa, "aaaa"),
    (RecordType::SRV, names::RecordType::Srv, "srv"),
    (RecordType::TXT, names::RecordType::Txt, "txt"),
    (RecordType::SOA, names::RecordType::Soa, "soa"),
    (RecordType::NS, names::RecordType::Ns, "ns"),
    (RecordType::ANY, names::RecordType::Other, "any"),
];

fn kind(asked: RecordType) -> names::RecordType {
    KINDS.iter().find(|(kind, _, _)| *kind == asked).map_or(names::RecordType::Other, |(_, kind, _)| *kind)
}

fn kind_label(asked: RecordType) -> &'static str {
    KINDS.iter().find(|(kind, _, _)| *kind == asked).map_or("other", |(_, _, label)| label)
}

fn code_label(code: ResponseCode) -> &'static str {
    const CODES: [(ResponseCode, &str); 6] = [
        (ResponseCode::NoError, "noerror"),
        (ResponseCode::NXDomain, "nxdomain"),
        (ResponseCode::Refused, "refused"),
        (ResponseCode::FormErr, "formerr"),
        (ResponseCode::NotImp, "notimp"),
        (ResponseCode::BADVERS, "badvers"),
    ];
    CODES.iter().find(|(known, _)| *known == code).map_or("servfail", |(_, label)| label)
}

#[cfg(test)]
pub(crate) mod tests;
