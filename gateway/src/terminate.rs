//! The end of a client's TLS at this gateway: what it is shown, and what it proves.
//!
//! Owns the handshake on the terminating listener and the judgement of the client's certificate, by the trust bundle of this
//! cluster alone. Never routes, never sees a key: certificates for names are made and kept by `federation-pki`.
//!
//! ```text
//! ClientHello ─> name is imported ─> handshake with a certificate of that name ─> the client's SVID is of this cluster
//!      \______________________ an alert that says what is wrong, and the outcome ______________________/
//! ```

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use bytes::{Bytes, BytesMut};
use federation_model::{caller::Caller, catalog::ServicePort, outcome::Outcome};
use federation_pki::{
    names::{NameCertificates, Shown},
    terminate::session_config,
    trust::TrustStore,
    verify::{VerifyError, broken_rule, verify_workload},
};
use gateway_core::hello::{AlertDescription, ClientHello};
use rustls::{ServerConnection, pki_types::CertificateDer, sign::CertifiedKey};

use tokio::time::{Instant, timeout_at};

use crate::{
    accept::{Accepted, Refused},
    client_end::ClientEnd,
    identity::ClusterIdentity,
    splice::{Sink as _, Source as _, TcpEnd},
    tls_end::TlsEnd,
};

/// What ends the TLS of clients.
#[derive(Debug)]
pub struct Terminator {
    identity: Arc<ClusterIdentity>,
    /// Whose revocations hold for this cluster too.
    revoking: Arc<TrustStore>,
    /// Held while one certificate is made, some hundred microseconds.
    names: Mutex<NameCertificates>,
}

/// What the client asked for, in words of the tables.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The DNS name of the import.
    pub host: &'a str,
    /// The port behind it.
    pub port: &'a ServicePort,
    /// What the client said.
    pub hello: &'a ClientHello,
    /// Its bytes so far: the ClientHello.
    pub first: Bytes,
    /// When the handshake must be done.
    pub deadline: Instant,
}

/// A connection whose client has proven who it is.
#[derive(Debug)]
pub struct Terminated {
    /// The connection; its end is the session.
    pub accepted: Accepted,
    /// The client.
    pub caller: Caller,
    /// What the client has said inside the session so far.
    pub prefix: BytesMut,
}

impl Terminator {
    /// Ends TLS as the gateway of this identity; `revoking` knows what is revoked.
    #[must_use]
    pub fn new(identity: Arc<ClusterIdentity>, revoking: Arc<TrustStore>) -> Self {
        let shown = Shown { id: identity.cluster().gateway_id(), ttl: identity.lifetime() };
        Self { identity, revoking, names: Mutex::new(NameCertificates::new(shown)) }
    }

    /// Shakes hands with a client that asked for an import, and finds out who it is.
    ///
    /// # Errors
    /// When the handshake fails, or the client does not prove to be a workload of this cluster.
    pub async fn terminate(&self, mut accepted: Accepted, asked: Asked<'_>) -> Result<Terminated, Refused> {
        let alpn = protocol(asked.port, &asked.hello.alpn);
        let session = session_config(self.certificate(asked.host), alpn);
        let session = session
            .map_err(|error| error.to_string())
            .and_then(|config| ServerConnection::new(Arc::new(config)).map_err(|error| error.to_string()));
        let mut session = match session {
            Ok(session) => session,
            Err(reason) => return Err(accepted.refuse(Outcome::Aborted, reason)),
        };
        let mut tcp = accepted.end.socket().clone();
        let prefix = match timeout_at(asked.deadline, shake(&mut tcp, &mut session, asked.first)).await {
            Ok(Ok(prefix)) => prefix,
            Ok(Err(Failed::Silently(outcome, reason))) => return Err(accepted.refuse(outcome, reason)),
            Ok(Err(Failed::Told(outcome, reason))) => return Err(accepted.refuse_told(outcome, reason)),
            Err(_) => return Err(accepted.refuse(Outcome::ClientSilent, "the handshake was not done in time")),
        };
        let chain = session.peer_certificates().unwrap_or_default().to_vec();
        accepted.end = ClientEnd::Tls(TlsEnd::established(tcp, session));
        match self.judge(&chain) {
            Ok(caller) => Ok(Terminated { accepted, caller, prefix }),
            Err(error) => {
                let outcome = if matches!(error, VerifyError::Revoked { .. }) {
                    Outcome::Revoked
                } else {
                    Outcome::ClientUntrusted
                };
                Err(accepted.refuse_saying(alert_of(&error), outcome, error.to_string()))
            }
        }
    }

    /// What is shown to a client that asks for `host`.
    fn certificate(&self, host: &str) -> Arc<CertifiedKey> {
        let (voucher, revocations) = (self.identity.signer(), self.revoking.revocations());
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.present(host, &voucher, &revocations, SystemTime::now().into()).unwrap_or_else(|error| {
            // Clients that verify names will say so; `fedctl check` tells of an authority that has ended.
            tracing::debug!(host, %error, "no certificate for this name; the gateway's own is shown");
            self.identity.live().current().certified_key()
        })
    }

    /// Who the client is, by the authorities of this cluster and no others.
    fn judge(&self, chain: &[CertificateDer<'static>]) -> Result<Caller, VerifyError> {
        let trust = TrustStore::new();
        // A bundle that is not usable counts as empty, which the verification says.
        let _ = trust.replace([self.identity.bundle()]);
        trust.revoke(&self.revoking.revocations());
        let own = &self.identity.cluster().trust_domain;
        let id = verify_workload(chain, &trust, own, SystemTime::now().into())?;
        Ok(Caller::Workload { id, certificate: chain.first().cloned().map(Arc::new) })
    }
}

/// The application protocol to select: the one that the port is said to speak, where the client offers it.
fn protocol(port: &ServicePort, offered: &[Vec<u8>]) -> Option<&'static [u8]> {
    const SPOKEN: [(&str, &[u8]); 7] = [
        ("kubernetes.io/h2c", b"h2"),
        ("grpc", b"h2"),
        ("h2c", b"h2"),
        ("http2", b"h2"),
        ("http", b"http/1.1"),
        ("ws", b"http/1.1"),
        ("kubernetes.io/ws", b"http/1.1"),
    ];
    let said = port.app_protocol.as_deref()?;
    let (_, spoken) = SPOKEN.iter().find(|(word, _)| said.eq_ignore_ascii_case(word))?;
    offered.iter().any(|offered| offered == spoken).then_some(*spoken)
}

/// Why a handshake did not come to its end.
enum Failed {
    /// The client is gone, there is nothing to tell.
    Silently(Outcome, String),
    /// The client was told by an alert of the handshake.
    Told(Outcome, String),
}

/// Shakes hands over a socket whose first bytes were read already; gives what the client has said after it.
async fn shake(tcp: &mut TcpEnd, session: &mut ServerConnection, first: Bytes) -> Result<BytesMut, Failed> {
    let mut plain = BytesMut::new();
    let mut arrived = vec![first];
    loop {
        let taken = arrived.drain(..).try_for_each(|bytes| take(session, &bytes, &mut plain));
        let mut records = Vec::new();
        while session.wants_write() {
            // A vector takes every byte.
            let _ = session.write_tls(&mut records);
        }
        // An alert goes out before anything is said of its cause.
        let sent = tcp.write(&mut vec![records.into()]).await;
        taken.map_err(|error| failed(&error))?;
        sent.map_err(|outcome| Failed::Silently(outcome, "the client aborted during its handshake".to_owned()))?;
        if !session.is_handshaking() {
            return Ok(plain);
        }
        match tcp.read(&mut arrived).await {
            Ok(true) => {}
            Ok(false) => {
                return Err(Failed::Silently(
                    Outcome::ClientReset,
                    "the client closed during its handshake".to_owned(),
                ));
            }
            Err(outcome) => {
                return Err(Failed::Silently(outcome, "the client aborted during its handshake".to_owned()));
            }
        }
    }
}

/// Gives bytes of the client to its session, and takes out what they say.
fn take(session: &mut ServerConnection, mut bytes: &[u8], plain: &mut BytesMut) -> Result<(), rustls::Error> {
    let unreadable = |error: std::io::Error| rustls::Error::General(error.to_string());
    while !bytes.is_empty() {
        session.read_tls(&mut bytes).map_err(unreadable)?;
        let length = session.process_new_packets()?.plaintext_bytes_to_read();
        let start = plain.len();
        plain.resize(start + length, 0);
        std::io::Read::read_exact(&mut session.reader(), &mut plain[start..]).map_err(unreadable)?;
    }
    Ok(())
}

fn failed(error: &rustls::Error) -> Failed {
    if let Some(rule) = broken_rule(error) {
        return Failed::Told(Outcome::ClientUntrusted, rule.to_string());
    }
    if let rustls::Error::AlertReceived(alert) = error {
        return Failed::Told(Outcome::ClientReset, format!("the client ended the handshake with the alert {alert:?}"));
    }
    let forged = matches!(error, rustls::Error::InvalidCertificate(_));
    let outcome = if forged { Outcome::ClientUntrusted } else { Outcome::BadHello };
    Failed::Told(outcome, format!("the handshake failed: {error}"))
}

/// The alert that says the same (RFC 8446 section 6.2).
fn alert_of(error: &VerifyError) -> AlertDescription {
    match error {
        VerifyError::NoCertificate => AlertDescription::CertificateRequired,
        VerifyError::Expired { .. }
        | VerifyError::NotYetValid { .. }
        | VerifyError::SignerExpired(_)
        | VerifyError::AuthorityExpired { .. }
        | VerifyError::AuthorityNotYetValid { .. } => AlertDescription::CertificateExpired,
        VerifyError::Revoked { .. } => AlertDescription::CertificateRevoked,
        VerifyError::UnknownTrustDomain(_)
        | VerifyError::OtherTrustDomain { .. }
        | VerifyError::NothingTrusted(_)
        | VerifyError::WrongAuthority { .. }
        | VerifyError::NoAuthority { .. }
        | VerifyError::PinMissing(_)
        | VerifyError::PinUnusable { .. } => AlertDescription::UnknownCa,
        VerifyError::Unexpected { .. } | VerifyError::NotFederation(_) => AlertDescription::AccessDenied,
        VerifyError::Malformed(_)
        | VerifyError::NoUriSan
        | VerifyError::TwoUriSans(_)
        | VerifyError::NotSpiffe { .. }
        | VerifyError::NoPath(_)
        | VerifyError::IsCa(_)
        | VerifyError::NoKeyUsage(_)
        | VerifyError::KeyUsageNotCritical(_)
        | VerifyError::NoDigitalSignature(_)
        | VerifyError::SignsCertificates(_)
        | VerifyError::SignsCrls(_)
        | VerifyError::NoClientAuth(_)
        | VerifyError::NoServerAuth(_)
        | VerifyError::NamesNotCritical(_)
        | VerifyError::ChainTooLong(..)
        | VerifyError::PathTooLong(_)
        | VerifyError::SignerIsLeaf(_)
        | VerifyError::ForeignSigner { .. }
        | VerifyError::SignerPurpose(_)
        | VerifyError::SignerMayNotSign(_)
        | VerifyError::NameConstraints(_) => AlertDescription::BadCertificate,
    }
}

#[cfg(test)]
mod tests {
    use federation_model::addr::{Port, Transport};

    use super::*;

    fn port(app_protocol: Option<&str>) -> ServicePort {
        ServicePort {
            name: None,
            transport: Transport::Tcp,
            port: Port::new(80).unwrap(),
            app_protocol: app_protocol.map(str::to_owned),
        }
    }

    #[test]
    fn the_protocol_of_the_port_is_selected_where_the_client_offers_it_and_nothing_else_ever() {
        let both = [b"h2".to_vec(), b"http/1.1".to_vec()];
        let selected = |said, offered: &[Vec<u8>]| protocol(&port(said), offered);
        for h2 in ["kubernetes.io/h2c", "grpc", "GRPC", "h2c", "http2"] {
            assert_eq!(selected(Some(h2), &both), Some(&b"h2"[..]), "{h2}");
            assert_eq!(selected(Some(h2), &both[1..]), None, "{h2}");
        }
        assert_eq!(selected(Some("http"), &both), Some(&b"http/1.1"[..]));
        for unknown in [None, Some("postgresql"), Some("")] {
            assert_eq!(selected(unknown, &both), None, "{unknown:?}");
        }
    }
}
