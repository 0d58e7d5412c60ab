//! How tunnels and streams end, in codes.
//!
//! Owns the mapping between QUIC's errors and [`Outcome`]. Codes of streams are those of outcomes, codes of tunnels those of
//! [`CloseReason`]. Never decides that something ends.

use federation_model::outcome::Outcome;
use gateway_core::session::CloseReason;
use quinn::{ConnectionError, VarInt};

/// Why a tunnel is closed by this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Close {
    /// The code the peer gets.
    pub(crate) reason: CloseReason,
    /// The text the peer gets.
    pub(crate) text: String,
}

impl Close {
    pub(crate) fn new(reason: CloseReason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

/// The wire code of an outcome, for streams.
pub(crate) fn code(outcome: Outcome) -> VarInt {
    VarInt::from_u32(outcome.code())
}

/// What a code on a stream says; streams are never ended by code as if nothing had happened.
pub(crate) fn stream_outcome(code: VarInt) -> Outcome {
    let outcome = Outcome::from_code(code.into_inner());
    if outcome == Outcome::Completed { Outcome::PeerError } else { outcome }
}

/// How the streams of a lost connection end; `local` is why this side closed it, when it did.
pub(crate) fn lost_outcome(error: &ConnectionError, local: Option<CloseReason>) -> Outcome {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            CloseReason::from_code(close.error_code.into_inner()).map_or(Outcome::TunnelLost, closed_outcome)
        }
        ConnectionError::LocallyClosed => local.map_or(Outcome::TunnelLost, closed_outcome),
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::CidsExhausted => Outcome::TunnelLost,
    }
}

fn closed_outcome(reason: CloseReason) -> Outcome {
    match reason {
        CloseReason::Stopped => Outcome::Draining,
        CloseReason::Revoked | CloseReason::Expired => Outcome::Revoked,
        CloseReason::Superseded | CloseReason::Silent => Outcome::TunnelLost,
        CloseReason::VersionMismatch
        | CloseReason::WrongCluster
        | CloseReason::BadCatalog
        | CloseReason::ProtocolViolation => Outcome::ProtocolError,
    }
}

/// The loss of a connection in words that help.
pub(crate) fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TimedOut => {
            "nothing came back in time: check that UDP reaches the gateway's port in both directions".to_owned()
        }
        ConnectionError::ConnectionClosed(close) if close.reason.is_empty() => {
            format!("the peer ended the handshake ({}): see the log of its gateway", close.error_code)
        }
        ConnectionError::ConnectionClosed(close) => {
            format!("the peer ended it: {}", plain(&line(&close.reason)))
        }
        ConnectionError::ApplicationClosed(close) => {
            let code = close.error_code.into_inner();
            let reason =
                CloseReason::from_code(code).map_or_else(|| format!("code {code}"), |reason| reason.to_string());
            format!("the peer closed it ({reason}): {}", line(&close.reason))
        }
        ConnectionError::Reset => "the peer does not know this tunnel any more: its gateway was restarted".to_owned(),
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => plain(&error.to_string()),
    }
}

/// What a verifier says of a certificate, which rustls shows in the types it is wrapped in.
fn plain(text: &str) -> String {
    match text.split_once("Other(OtherError(") {
        Some((before, said)) => format!("{before}{}", said.strip_suffix("))").unwrap_or(said)),
        None => text.to_owned(),
    }
}

/// Text of the peer as one line for the log, at most 400 characters.
fn line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}

#[cfg(test)]
mod tests {
    use quinn::ApplicationClose;

    use super::*;

    #[test]
    fn the_code_of_a_closed_tunnel_decides_how_its_streams_end() {
        let closed = |code: u32| {
            let close = ApplicationClose { error_code: VarInt::from_u32(code), reason: "x".into() };
            lost_outcome(&ConnectionError::ApplicationClosed(close), None)
        };
        assert_eq!(closed(CloseReason::Revoked.code()), Outcome::Revoked);
        assert_eq!(closed(CloseReason::Stopped.code()), Outcome::Draining);
        assert_eq!(closed(CloseReason::BadCatalog.code()), Outcome::ProtocolError);
        assert_eq!(closed(7777), Outcome::TunnelLost);
        assert_eq!(lost_outcome(&ConnectionError::TimedOut, Some(CloseReason::Revoked)), Outcome::TunnelLost);
        assert_eq!(lost_outcome(&ConnectionError::LocallyClosed, Some(CloseReason::Revoked)), Outcome::Revoked);
    }

    #[test]
    fn a_stream_is_never_ended_by_code_as_if_nothing_had_happened() {
        assert_eq!(stream_outcome(VarInt::from_u32(0)), Outcome::PeerError);
        assert_eq!(stream_outcome(code(Outcome::ClientReset)), Outcome::ClientReset);
    }

    #[test]
    fn what_a_verifier_says_is_shown_without_the_types_around_it() {
        let refused = "invalid peer certificate: Other(OtherError(west is of a trust domain that is not known (yet)))";
        assert_eq!(plain(refused), "invalid peer certificate: west is of a trust domain that is not known (yet)");
        assert_eq!(plain("invalid peer certificate: Expired"), "invalid peer certificate: Expired");
    }

    #[test]
    fn the_text_of_a_peer_is_shown_as_one_line() {
        assert_eq!(line(b"a\nb\x1b[31m"), "a b [31m");
        assert_eq!(line(&[b'a'; 900]).len(), 400);
    }
}
