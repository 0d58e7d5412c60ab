//! The grammar of records and of the ClientHello.
//!
//! Owns reassembly and the walk through the fields. Never looks at what the gateway does not need: cipher suites, key shares
//! and the like pass through unread.

use std::{borrow::Cow, net::IpAddr};

use super::{ClientHello, HelloError, MAX_HELLO, MAX_SERVER_NAME};

const RECORD_HEADER: usize = 5;
const HANDSHAKE_RECORD: u8 = 22;
/// The longest plaintext record (RFC 8446 section 5.1).
const MAX_RECORD: usize = 1 << 14;
const HANDSHAKE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;
/// The bytes that tell a ClientHello from anything else: the header of its record, and the type of its message.
pub(super) const TELLING: usize = RECORD_HEADER + 1;
const MAX_SESSION_ID: usize = 32;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

type Field<T> = Result<T, &'static str>;

/// The body of the first handshake message, once it is complete; it borrows when one record holds it all.
pub(super) fn handshake(buf: &[u8]) -> Result<Option<Cow<'_, [u8]>>, HelloError> {
    let mut joined: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = buf;
    let mut first = true;
    loop {
        let Some((payload, complete, after)) = record(rest, first)? else { return Ok(None) };
        first = false;
        if joined.is_empty() {
            joined = Cow::Borrowed(payload);
        } else {
            joined.to_mut().extend_from_slice(payload);
        }
        if let Some(end) = message_end(&joined)? {
            return Ok(Some(match joined {
                Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[HANDSHAKE_HEADER..end]),
                Cow::Owned(bytes) => Cow::Owned(bytes[HANDSHAKE_HEADER..end].to_vec()),
            }));
        }
        if !complete {
            return Ok(None);
        }
        rest = after;
    }
}

/// A record's payload as far as it is there, whether that is all of it, and what follows.
type Record<'a> = (&'a [u8], bool, &'a [u8]);

fn record(buf: &[u8], first: bool) -> Result<Option<Record<'_>>, HelloError> {
    let foreign =
        if first { HelloError::NotTls } else { HelloError::Malformed("another record inside the ClientHello") };
    if buf.first().is_some_and(|kind| *kind != HANDSHAKE_RECORD) || buf.get(1).is_some_and(|major| *major != 3) {
        return Err(foreign);
    }
    let Some((header, rest)) = buf.split_first_chunk::<RECORD_HEADER>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    match length {
        0 => return Err(HelloError::Malformed("a record is empty")),
        1..=MAX_RECORD => {}
        _ => return Err(HelloError::Malformed("a record is over 16384 bytes")),
    }
    let (payload, after) = rest.split_at(length.min(rest.len()));
    Ok(Some((payload, payload.len() == length, after)))
}

/// Where the first handshake message of `joined` ends, once it is all there.
fn message_end(joined: &[u8]) -> Result<Option<usize>, HelloError> {
    if joined.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::Malformed("the first message is not a ClientHello"));
    }
    let Some(header) = joined.first_chunk::<HANDSHAKE_HEADER>() else { return Ok(None) };
    let end = HANDSHAKE_HEADER + u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    if end + RECORD_HEADER > MAX_HELLO {
        return Err(HelloError::TooLarge);
    }
    Ok((joined.len() >= end).then_some(end))
}

/// The ClientHello of a handshake message's body.
pub(super) fn client_hello(body: &[u8]) -> Field<ClientHello> {
    let mut fields = Reader(body);
    fields.take(2 + 32, "it ends before its random")?;
    if fields.list8("the session id is cut off")?.0.len() > MAX_SESSION_ID {
        return Err("the session id is over 32 bytes");
    }
    let suites = fields.list16("the cipher suites are cut off")?;
    if suites.0.is_empty() || !suites.0.len().is_multiple_of(2) {
        return Err("the cipher suites are not a list of two-byte numbers");
    }
    if fields.list8("the compression methods are cut off")?.0.is_empty() {
        return Err("there is no compression method");
    }
    if fields.0.is_empty() {
        return Ok(ClientHello::default());
    }
    let extensions = fields.list16("the extensions are cut off")?;
    if !fields.0.is_empty() {
        return Err("bytes follow the extensions");
    }
    read_extensions(extensions)
}

fn read_extensions(mut extensions: Reader<'_>) -> Field<ClientHello> {
    let mut hello = ClientHello::default();
    let (mut named, mut negotiates) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.u16("an extension is cut off")?;
        let data = extensions.list16("an extension is cut off")?;
        match kind {
            SERVER_NAME if std::mem::replace(&mut named, true) => return Err("there are two server_name extensions"),
            SERVER_NAME => hello.server_name = server_name(data)?,
            ALPN if std::mem::replace(&mut negotiates, true) => return Err("there are two ALPN extensions"),
            ALPN => hello.alpn = protocols(data)?,
            _ => {}
        }
    }
    Ok(hello)
}

/// The host name of a server_name extension (RFC 6066 section 3).
///
/// Servers differ in what they make of a list with other types or several names: one that is not a single host name is refused,
/// so that the gateway never routes by another name than the destination reads.
fn server_name(mut data: Reader<'_>) -> Field<Option<String>> {
    let mut names = data.list16("the server names are cut off")?;
    if !data.0.is_empty() {
        return Err("the list of server names does not fill its extension");
    }
    if names.u8("there is no server name in the list")? != HOST_NAME {
        return Err("a server name is not a host name");
    }
    let name = names.list16("a server name is cut off")?;
    if names.0.is_empty() { host_name(name.0) } else { Err("there is more than one server name") }
}

fn host_name(name: &[u8]) -> Field<Option<String>> {
    let text = std::str::from_utf8(name).map_err(|_| "the host name is not ASCII")?;
    if text.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    // The final dot counts: what is read here has to fit into a stream header.
    if text.len() > MAX_SERVER_NAME {
        return Err("the host name is over 253 bytes");
    }
    let absolute = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if !absolute.split('.').all(label) {
        return Err("the host name is not a DNS name");
    }
    Ok(Some(text.to_ascii_lowercase()))
}

/// The protocols of an ALPN extension (RFC 7301 section 3.1).
fn protocols(mut data: Reader<'_>) -> Field<Vec<Vec<u8>>> {
    let mut list = data.list16("the protocols are cut off")?;
    if list.0.is_empty() || !data.0.is_empty() {
        return Err("the list of protocols does not fill its extension");
    }
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        match list.list8("a protocol is cut off")?.0 {
            [] => return Err("a protocol is empty"),
            protocol => protocols.push(protocol.to_vec()),
        }
    }
    Ok(protocols)
}

/// What is left to read of one field.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, or: &'static str) -> Field<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(or)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self, or: &'static str) -> Field<u8> {
        let (first, rest) = self.0.split_first().ok_or(or)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self, or: &'static str) -> Field<u16> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(or)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    fn list8(&mut self, or: &'static str) -> Field<Self> {
        let length = self.u8(or)?;
        self.take(length.into(), or).map(Self)
    }

    fn list16(&mut self, or: &'static str) -> Field<Self> {
        let length = self.u16(or)?;
        self.take(length.into(), or).map(Self)
    }
}
