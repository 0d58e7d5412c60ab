//! The ClientHello at the beginning of a connection, read without taking it away.
//!
//! Owns the reading from a source; what the bytes mean is `gateway-core`'s. Never waits for a limited time: the caller does.

use bytes::BytesMut;
use federation_model::outcome::Outcome;
use gateway_core::hello::{self, ClientHello, Peek};

use crate::splice::Source;

/// Reads until the first bytes of `source` tell whether it speaks TLS, `seen` being those read before. Whoever ends before
/// does not.
pub async fn is_tls(source: &mut impl Source, mut seen: BytesMut) -> bool {
    let mut batch = Vec::new();
    loop {
        if let Some(told) = hello::is_tls(&seen) {
            return told;
        }
        match source.read(&mut batch).await {
            Ok(true) => batch.drain(..).for_each(|bytes| seen.extend_from_slice(&bytes)),
            Ok(false) | Err(_) => return false,
        }
    }
}

/// Reads until the first bytes of `source` are a ClientHello. `seen` holds those read before and gets those read now: all of
/// them belong to whoever the connection is for. Loses nothing when dropped half-way.
///
/// # Errors
/// When they are none, or the connection ends before.
pub async fn read(source: &mut impl Source, seen: &mut BytesMut) -> Result<ClientHello, (Outcome, String)> {
    let mut batch = Vec::new();
    loop {
        match hello::peek(seen) {
            Ok(Peek::Hello(hello)) => return Ok(hello),
            Ok(Peek::NeedMore) => {}
            Err(error) => return Err((error.outcome(), error.to_string())),
        }
        match source.read(&mut batch).await {
            Ok(true) => batch.drain(..).for_each(|bytes| seen.extend_from_slice(&bytes)),
            Ok(false) => return Err((Outcome::ClientReset, "the client closed before its ClientHello".to_owned())),
            Err(outcome) => return Err((outcome, "the client aborted before its ClientHello".to_owned())),
        }
    }
}
