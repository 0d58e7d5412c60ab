//! The server name and the protocols of a TLS ClientHello, read without touching the bytes.
//!
//! Owns the reading of a ClientHello that may be spread over several TLS records (RFC 8446 sections 4.1.2 and 5.1), and the
//! alerts that refuse one. Never terminates TLS, never consumes input: the caller keeps the bytes and forwards them.

mod alert;
mod parse;

use federation_model::outcome::Outcome;

pub use alert::{ALERT_LENGTH, AlertDescription, alert};

/// The most bytes a client may send before its ClientHello is complete.
pub const MAX_HELLO: usize = 16 * 1024;

/// The longest server name, in bytes (RFC 1035 section 2.3.4).
pub const MAX_SERVER_NAME: usize = 253;

/// What the bytes so far say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peek {
    /// The ClientHello is not complete.
    NeedMore,
    /// It is.
    Hello(ClientHello),
}

/// What a ClientHello asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The server name in lowercase, when there is one; an IP address is none (RFC 6066 section 3).
    pub server_name: Option<String>,
    /// The application protocols, most wanted first; empty when the client names none.
    pub alpn: Vec<Vec<u8>>,
}

/// Why bytes are not a usable ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The first record is not a TLS handshake record.
    #[error("the client does not speak TLS")]
    NotTls,
    /// The record or the message breaks its grammar.
    #[error("the ClientHello is malformed: {0}")]
    Malformed(&'static str),
    /// The ClientHello does not fit into [`MAX_HELLO`] bytes.
    #[error("the ClientHello is over {MAX_HELLO} bytes")]
    TooLarge,
}

impl HelloError {
    /// How the connection ends.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::NotTls => Outcome::NotTls,
            Self::Malformed(_) => Outcome::BadHello,
            Self::TooLarge => Outcome::HelloTooLarge,
        }
    }
}

/// Reads a ClientHello from the first bytes of a connection; what follows the hello is not looked at.
///
/// Called again with the same bytes and more until the answer is not [`Peek::NeedMore`]. A buffer of [`MAX_HELLO`] bytes is
/// always enough.
///
/// # Errors
/// When more bytes would not help.
pub fn peek(buf: &[u8]) -> Result<Peek, HelloError> {
    let seen = &buf[..buf.len().min(MAX_HELLO)];
    match parse::handshake(seen)? {
        Some(message) => parse::client_hello(&message).map(Peek::Hello).map_err(HelloError::Malformed),
        None if buf.len() >= MAX_HELLO => Err(HelloError::TooLarge),
        None => Ok(Peek::NeedMore),
    }
}

/// Whether a connection that begins with these bytes speaks TLS: they begin a handshake record with a ClientHello in it.
/// Nothing while they are too few to tell.
#[must_use]
pub fn is_tls(first: &[u8]) -> Option<bool> {
    match peek(first) {
        Err(HelloError::NotTls) => Some(false),
        Err(HelloError::Malformed(_) | HelloError::TooLarge) | Ok(Peek::Hello(_)) => Some(true),
        Ok(Peek::NeedMore) => (first.len() >= parse::TELLING).then_some(true),
    }
}

#[cfg(test)]
mod tests;
