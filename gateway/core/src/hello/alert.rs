//! TLS alerts as whole records.
//!
//! Owns their bytes and which outcome is answered with which alert. Never sends one.

use federation_model::outcome::Outcome;

/// The length of an alert record.
pub const ALERT_LENGTH: usize = 7;

/// Why a handshake is refused (RFC 8446 section 6), by its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AlertDescription {
    /// The sequence of messages is wrong.
    UnexpectedMessage = 10,
    /// No acceptable parameters.
    HandshakeFailure = 40,
    /// The certificate breaks a rule.
    BadCertificate = 42,
    /// The certificate was revoked.
    CertificateRevoked = 44,
    /// The certificate, or one above it, is not valid now.
    CertificateExpired = 45,
    /// A field has a value that is not allowed.
    IllegalParameter = 47,
    /// No authority of this cluster stands behind the caller.
    UnknownCa = 48,
    /// The caller is known and not allowed.
    AccessDenied = 49,
    /// A message does not parse.
    DecodeError = 50,
    /// The refusal is not the client's fault.
    InternalError = 80,
    /// No service has this name.
    UnrecognizedName = 112,
    /// The client showed no certificate.
    CertificateRequired = 116,
}

impl AlertDescription {
    /// The alert a client that sent a ClientHello sees when its connection ends before anything was delivered; nothing for
    /// outcomes that come with bytes of the destination, or where the client does not speak TLS.
    #[must_use]
    pub const fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Completed
            | Outcome::ClientReset
            | Outcome::DestinationReset
            | Outcome::IdleTimeout
            | Outcome::ClientSilent
            | Outcome::NotTls => None,
            Outcome::NoServerName | Outcome::UnknownService | Outcome::UnknownPort | Outcome::NotExported => {
                Some(Self::UnrecognizedName)
            }
            Outcome::BadHello => Some(Self::DecodeError),
            Outcome::BadRequest => Some(Self::HandshakeFailure),
            Outcome::HelloTooLarge => Some(Self::IllegalParameter),
            Outcome::ForeignPrincipal | Outcome::Denied | Outcome::Revoked | Outcome::CallerGone => {
                Some(Self::AccessDenied)
            }
            Outcome::ClientUntrusted => Some(Self::UnknownCa),
            Outcome::OverCapacity
            | Outcome::NoHealthyCluster
            | Outcome::TunnelLost
            | Outcome::TunnelBusy
            | Outcome::ProtocolError
            | Outcome::HeaderTooLarge
            | Outcome::Draining
            | Outcome::PeerError
            | Outcome::NoEndpoint
            | Outcome::ConnectRefused
            | Outcome::ConnectTimeout
            | Outcome::EndpointUntrusted
            | Outcome::Aborted => Some(Self::InternalError),
        }
    }
}

/// A fatal alert as a TLS record.
#[must_use]
pub const fn alert(description: AlertDescription) -> [u8; ALERT_LENGTH] {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    [ALERT, 3, 3, 0, 2, FATAL, description as u8]
}
