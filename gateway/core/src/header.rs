//! What precedes the bytes of an application connection inside a tunnel, and what answers it.
//!
//! Owns the codec of stream headers and replies: two bytes of length, big endian, then a message; fields this version does
//! not know are passed over. Never believes a header: whether its caller lies in the peer's trust domain is for the stage
//! that authorizes.

use std::net::SocketAddr;

use crate::policy::Ruling;
use bytes::{BufMut, Bytes, BytesMut};
use federation_model::{
    addr::{Port, Transport},
    caller::Caller,
    names::{EndpointName, ServiceKey},
    outcome::Outcome,
    spiffe::SpiffeIdError,
    trace::TraceContext,
};
use prost::Message;
use proto::{
    convert::{ConvertError, catalog, header as convert},
    tunnel::v1 as wire,
};

/// The longest header or reply, in bytes, without its length.
pub const MAX_HEADER: usize = 4096;
/// The longest reason in a refusal, in bytes.
pub const MAX_REASON: usize = 512;
/// The bytes of the length field.
pub const LENGTH_PREFIX: usize = 2;

/// The longest server name that is carried, in bytes.
const MAX_SERVER_NAME: usize = crate::hello::MAX_SERVER_NAME;

/// What one application connection is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHeader {
    /// Where it goes.
    pub destination: Destination,
    /// Who opened it.
    pub caller: Caller,
    /// The trace it belongs to.
    pub trace: TraceContext,
    /// The client's address as its gateway saw it.
    pub client: Option<SocketAddr>,
    /// The TLS server name the client asked for, when it was seen.
    pub server_name: Option<String>,
}

/// Where an application connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The service.
    pub service: ServiceKey,
    /// The service port.
    pub port: Port,
    /// The transport of the port.
    pub transport: Transport,
    /// One endpoint of a headless service; any when none is named.
    pub endpoint: Option<EndpointName>,
}

/// The answer to a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamReply {
    /// The destination accepted: its bytes follow.
    Connected,
    /// It ends here.
    Refused {
        /// How.
        outcome: Outcome,
        /// What to tell the caller's operator, one line.
        reason: String,
        /// What refuses it, where a policy does.
        by: Option<Ruling>,
    },
}

/// A header or reply that cannot be written or read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HeaderError {
    /// It is over the limit.
    #[error("a stream header of {length} bytes, {MAX_HEADER} are accepted")]
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// The stream ended inside it.
    #[error("the stream ended inside its header")]
    Truncated,
    /// It is not a message.
    #[error("the stream header does not parse: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A field is missing or has a value the model does not have.
    #[error("the stream header is not valid: {0}")]
    Field(#[from] ConvertError),
    /// The caller is not the id of a workload.
    #[error("the stream header names a caller that is no workload: {0}")]
    Principal(#[from] SpiffeIdError),
}

impl HeaderError {
    /// How the connection ends.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::TooLarge { .. } => Outcome::HeaderTooLarge,
            Self::Truncated | Self::Malformed(_) | Self::Field(_) | Self::Principal(_) => Outcome::ProtocolError,
        }
    }
}

/// A header or reply at the start of `buf`, without its length, and how many bytes of `buf` it takes; nothing as long as it
/// is not complete. A buffer of [`LENGTH_PREFIX`] + [`MAX_HEADER`] bytes is always enough.
///
/// # Errors
/// When it is over the limit.
pub fn split_frame(buf: &[u8]) -> Result<Option<(&[u8], usize)>, HeaderError> {
    let Some((prefix, rest)) = buf.split_first_chunk::<LENGTH_PREFIX>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*prefix));
    if length > MAX_HEADER {
        return Err(HeaderError::TooLarge { length });
    }
    Ok(rest.get(..length).map(|body| (body, LENGTH_PREFIX + length)))
}

impl StreamHeader {
    /// The header as a frame. A certificate of the caller that does not fit is left out: it tells nothing that the id does not.
    ///
    /// # Errors
    /// When it is over the limit.
    pub fn encode(&self) -> Result<Bytes, HeaderError> {
        let mut message = self.message();
        if message.encoded_len() > MAX_HEADER {
            message.workload_certificate = Bytes::new();
        }
        frame(&message)
    }

    fn message(&self) -> wire::StreamHeader {
        let Destination { service, port, transport, endpoint } = &self.destination;
        wire::StreamHeader {
            destination: Some(wire::Destination {
                namespace: service.namespace.to_string(),
                service: service.name.to_string(),
                port: port.number().into(),
                transport: wire::Transport::from(*transport).into(),
                endpoint: endpoint.as_ref().map(ToString::to_string).unwrap_or_default(),
            }),
            caller: convert::caller_message(&self.caller),
            trace: Some((&self.trace).into()),
            client: self.client.map(Into::into),
            server_name: self.server_name.clone().unwrap_or_default(),
            workload_certificate: convert::certificate_bytes(&self.caller),
        }
    }

    /// The header in the body of a frame, as [`split_frame`] gives it.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(body: &[u8]) -> Result<Self, HeaderError> {
        let message: wire::StreamHeader = message(body)?;
        let missing = |field| ConvertError::new("StreamHeader", field, "it is missing");
        Ok(Self {
            destination: destination(message.destination.ok_or_else(|| missing("destination"))?)?,
            caller: convert::caller(message.caller, &message.workload_certificate)?,
            trace: message.trace.ok_or_else(|| missing("trace"))?.try_into()?,
            client: message.client.map(TryInto::try_into).transpose()?,
            server_name: server_name(message.server_name)?,
        })
    }

    /// The header at the start of `buf` and how many bytes it takes; nothing as long as it is not complete.
    ///
    /// # Errors
    /// When it is over the limit or not a header.
    pub fn read(buf: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        split_frame(buf)?.map(|(body, taken)| Ok((Self::decode(body)?, taken))).transpose()
    }
}

fn destination(message: wire::Destination) -> Result<Destination, ConvertError> {
    let part = |field| move |error| ConvertError::new("Destination", field, error);
    let namespace = message.namespace.parse().map_err(part("namespace"))?;
    let name = message.service.parse().map_err(part("service"))?;
    let endpoint = match message.endpoint.as_str() {
        "" => None,
        endpoint => Some(endpoint.parse().map_err(part("endpoint"))?),
    };
    Ok(Destination {
        service: ServiceKey::new(namespace, name),
        port: catalog::port("Destination", message.port)?,
        transport: catalog::transport("Destination", message.transport)?,
        endpoint,
    })
}

/// It ends up in the log and in PROXY protocol headers: printable ASCII alone.
fn server_name(text: String) -> Result<Option<String>, ConvertError> {
    let fail = |reason| Err(ConvertError::new("StreamHeader", "server_name", reason));
    match text.len() {
        0 => return Ok(None),
        1..=MAX_SERVER_NAME => {}
        _ => return fail("it is over 253 bytes"),
    }
    if text.bytes().all(|b| b.is_ascii_graphic()) { Ok(Some(text)) } else { fail("it is not a host name") }
}

impl StreamReply {
    /// The reply as a frame; a text over [`MAX_REASON`] bytes is cut.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let result = match self {
            Self::Connected => wire::stream_reply::Result::Connected(wire::Connected {}),
            Self::Refused { outcome, reason, by } => {
                let text = |of: fn(&Ruling) -> &str| by.as_ref().map(|by| one_line(of(by))).unwrap_or_default();
                wire::stream_reply::Result::Refused(wire::Refused {
                    code: outcome.code(),
                    reason: one_line(reason),
                    rule: text(|by| &by.rule),
                    remedy: text(|by| &by.remedy),
                })
            }
        };
        frame(&wire::StreamReply { result: Some(result) }).expect("a code and three texts of 512 bytes are under 4096")
    }

    /// The reply in the body of a frame.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(body: &[u8]) -> Result<Self, HeaderError> {
        let message: wire::StreamReply = message(body)?;
        match message.result {
            Some(wire::stream_reply::Result::Connected(wire::Connected {})) => Ok(Self::Connected),
            Some(wire::stream_reply::Result::Refused(refused)) => {
                let by = Ruling { rule: one_line(&refused.rule), remedy: one_line(&refused.remedy) };
                let by = Some(by).filter(|by| !by.rule.is_empty());
                Ok(Self::Refused { outcome: refusal(refused.code), reason: one_line(&refused.reason), by })
            }
            None => Err(ConvertError::new("StreamReply", "result", "it is missing").into()),
        }
    }

    /// The reply at the start of `buf` and how many bytes it takes; nothing as long as it is not complete.
    ///
    /// # Errors
    /// When it is over the limit or not a reply.
    pub fn read(buf: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        split_frame(buf)?.map(|(body, taken)| Ok((Self::decode(body)?, taken))).transpose()
    }
}

/// The outcome of a refusal, which is never a success.
fn refusal(code: u32) -> Outcome {
    let outcome = Outcome::from_code(code.into());
    if outcome == Outcome::Completed { Outcome::PeerError } else { outcome }
}

/// Text of the peer that is shown to people: no control characters, at most [`MAX_REASON`] bytes.
fn one_line(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line = String::with_capacity(text.len().min(MAX_REASON));
    for c in clean {
        if line.len() + c.len_utf8() > MAX_REASON {
            break;
        }
        line.push(c);
    }
    line
}

fn message<M: Message + Default>(body: &[u8]) -> Result<M, HeaderError> {
    if body.len() > MAX_HEADER {
        return Err(HeaderError::TooLarge { length: body.len() });
    }
    Ok(M::decode(body)?)
}

fn frame(message: &impl Message) -> Result<Bytes, HeaderError> {
    let length = message.encoded_len();
    let prefix = u16::try_from(length).ok().filter(|_| length <= MAX_HEADER);
    let prefix = prefix.ok_or(HeaderError::TooLarge { length })?;
    let mut frame = BytesMut::with_capacity(LENGTH_PREFIX + length);
    frame.put_u16(prefix);
    message.encode_raw(&mut frame);
    Ok(frame.freeze())
}

#[cfg(test)]
mod tests;
