//! TLS that ends at a gateway: the sessions of the applications of its own cluster.
//!
//! Owns the configuration of one such session, and the last words to a client whose session is refused after its handshake.
//! Never judges the client: whoever terminates does, with [`crate::verify::verify_workload`].

use std::sync::Arc;

use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConfig, ServerConnection,
    crypto::cipher::OutboundPlainMessage,
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::tls::{Clients, TlsConfigError, server};

/// The level of alerts that end a session (RFC 8446 section 6).
const FATAL: u8 = 2;

/// The configuration of one session that shows `certificate`: version 1.3, a certificate of the client is asked for and any
/// shown is proven, the protocol `alpn` is selected where there is one. With protocols, the client must have offered it.
///
/// # Errors
/// When rustls refuses it.
pub fn session_config(certificate: Arc<CertifiedKey>, alpn: Option<&[u8]>) -> Result<ServerConfig, TlsConfigError> {
    let shown = Arc::new(SingleCertAndKey::from(certificate));
    let mut config = server(shown, Clients::Deferred, &[])?;
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    // For the last words alone: rustls has no other way to send an alert of one's own choice.
    config.enable_secret_extraction = true;
    Ok(config)
}

/// The record that ends a session with an alert of this description; nothing where the session is not established, or its end
/// was told already. Nothing else may be sent after it.
#[must_use]
pub fn last_words(session: ServerConnection, alert: AlertDescription) -> Option<Vec<u8>> {
    if session.is_handshaking() || session.wants_write() {
        return None;
    }
    let suite = session.negotiated_cipher_suite()?.tls13()?;
    let (sequence, secrets) = session.dangerous_extract_secrets().ok()?.tx;
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
    else {
        return None;
    };
    let body = [FATAL, u8::from(alert)];
    let message =
        OutboundPlainMessage { typ: ContentType::Alert, version: ProtocolVersion::TLSv1_3, payload: body[..].into() };
    let record = suite.aead_alg.encrypter(key, iv).encrypt(message, sequence).ok()?;
    Some(record.encode())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use federation_model::{
        spiffe::{SpiffeId, TrustDomain},
        time::Timestamp,
    };
    use rustls::{ClientConnection, Error, time_provider::TimeProvider};
    use rustls_pki_types::{ServerName, UnixTime};

    use super::*;
    use crate::{
        Validity,
        ca::{Authority, SvidRequest},
        identity::LiveIdentity,
        svid::Svid,
        tls::client_config,
        trust::TrustStore,
        verify::{Expect, SpiffeVerifier},
    };

    const NOW: Timestamp = Timestamp(1_700_000_000);

    #[derive(Debug)]
    struct Clock;

    impl TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(NOW.0)))
        }
    }

    struct World {
        authority: Authority,
        trust: Arc<TrustStore>,
    }

    impl World {
        fn new() -> Self {
            let validity = Validity::starting(NOW, Duration::from_secs(3600));
            let domain = TrustDomain::new("east.example").unwrap();
            let authority = Authority::generate(&domain, "east", validity).unwrap();
            let trust = Arc::new(TrustStore::new());
            trust.replace([authority.bundle(1)]).unwrap();
            Self { authority, trust }
        }

        fn svid(&self, path: &str) -> Svid {
            let validity = Validity::starting(NOW, Duration::from_secs(600));
            let id = SpiffeId::new(format!("spiffe://east.example{path}")).unwrap();
            self.authority.issue(&SvidRequest { id, names: vec![], validity }).unwrap()
        }

        /// A client that offers these protocols, and what the gateway's side selects of them.
        fn session(&self, offered: &[&[u8]], alpn: Option<&[u8]>) -> (ClientConnection, ServerConnection) {
            let verifier = Arc::new(SpiffeVerifier::new(self.trust.clone(), Expect::Any));
            let identity = Arc::new(LiveIdentity::new(self.svid("/ns/a/sa/b")));
            let mut config = client_config(Some(identity), verifier, b"").unwrap();
            config.time_provider = Arc::new(Clock);
            config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
            let name = ServerName::try_from("api.production.svc.clusterset.local").unwrap();
            let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
            let shown = self.svid("/landbridge/gateway").certified_key();
            let mut server = ServerConnection::new(Arc::new(session_config(shown, alpn).unwrap())).unwrap();
            while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
                let (mut up, mut down) = (Vec::new(), Vec::new());
                client.write_tls(&mut up).unwrap();
                server.read_tls(&mut up.as_slice()).unwrap();
                server.process_new_packets().unwrap();
                server.write_tls(&mut down).unwrap();
                client.read_tls(&mut down.as_slice()).unwrap();
                client.process_new_packets().unwrap();
            }
            (client, server)
        }
    }

    #[test]
    fn the_protocol_that_was_picked_is_selected_and_without_one_none_is() {
        let world = World::new();
        let (_, server) = world.session(&[b"h2", b"http/1.1"], Some(b"http/1.1"));
        assert_eq!(server.alpn_protocol(), Some(&b"http/1.1"[..]));
        let (_, server) = world.session(&[b"istio-peer-exchange", b"istio"], None);
        assert_eq!(server.alpn_protocol(), None);
        assert_eq!(server.peer_certificates().unwrap().len(), 2, "the client's leaf came with its authority");
    }

    #[test]
    fn the_last_words_reach_the_client_as_the_alert_that_was_chosen() {
        let (mut client, server) = World::new().session(&[], None);
        let record = last_words(server, AlertDescription::AccessDenied).unwrap();
        client.read_tls(&mut record.as_slice()).unwrap();
        let error = client.process_new_packets().unwrap_err();
        assert_eq!(error, Error::AlertReceived(AlertDescription::AccessDenied));
    }

    #[test]
    fn a_session_that_is_not_established_has_no_last_words() {
        let world = World::new();
        let shown = world.svid("/landbridge/gateway").certified_key();
        let server = ServerConnection::new(Arc::new(session_config(shown, None).unwrap())).unwrap();
        assert_eq!(last_words(server, AlertDescription::AccessDenied), None);
    }
}
