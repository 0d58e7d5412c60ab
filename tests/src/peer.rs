//! A gateway that says whatever a test wants: the other end of a tunnel, byte by byte.
//!
//! Owns a QUIC endpoint of its own in the simulated network. Follows no rule of the protocol by itself, so that a test can
//! break each of them.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use federation_pki::{
    svid::Svid,
    tls::provider,
    trust::TrustStore,
    verify::{Expect, SpiffeVerifier},
};
use gateway_core::{
    control::{self, ControlMessage, Decoder},
    header::StreamReply,
};
use proto::tunnel::v1::{Hello, control_message::Message};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig,
    TokioRuntime, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::version::TLS13;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::{client::soon, net::Network};

/// What a tunnel's TLS must name.
pub const ALPN: &[u8] = b"landbridge/1";

/// What a peer presents in its handshake; nothing of it need be right.
#[derive(Debug)]
pub struct Credential {
    /// The certificates, the leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the leaf.
    pub key: PrivateKeyDer<'static>,
}

impl From<&Svid> for Credential {
    fn from(svid: &Svid) -> Self {
        let key = svid.key_pem();
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).expect("an SVID has a well-formed key");
        Self { chain: svid.chain().to_vec(), key }
    }
}

/// The other end of a tunnel.
#[derive(Debug)]
pub struct Peer {
    connection: Connection,
    control: Option<(SendStream, RecvStream)>,
    decoder: Decoder,
    _endpoint: Endpoint,
}

impl Peer {
    /// Dials `to`, which must be a gateway of a trust domain in `trust`.
    ///
    /// # Errors
    /// When the handshake fails.
    ///
    /// # Panics
    /// When QUIC cannot be configured.
    pub async fn dial(
        network: &Network,
        from: SocketAddr,
        credential: Credential,
        (to, trust): (SocketAddr, TrustStore),
    ) -> Result<Self, ConnectionError> {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(SpiffeVerifier::new(Arc::new(trust), Expect::Any)))
            .with_client_auth_cert(credential.chain, credential.key)
            .expect("the key is of a kind that can sign");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3 can carry QUIC")));
        let endpoint = endpoint(network, from);
        let connecting = endpoint.connect_with(config, to, "landbridge").expect("the address can be dialled");
        let connection = soon("the handshake", connecting).await?;
        Ok(Self { connection, control: None, decoder: Decoder::default(), _endpoint: endpoint })
    }

    /// Why the gateway closed the tunnel, in its own words.
    ///
    /// # Panics
    /// When it was not the gateway who closed it.
    pub async fn closed(&self) -> String {
        match soon("the gateway closes the tunnel", self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => String::from_utf8_lossy(&close.reason).into_owned(),
            ConnectionError::ConnectionClosed(close) => String::from_utf8_lossy(&close.reason).into_owned(),
            other @ (ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted) => panic!("the tunnel ended otherwise: {other}"),
        }
    }

    /// Whether the tunnel is up still.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Opens the control stream and writes these bytes to it.
    ///
    /// # Errors
    /// When the gateway has closed the tunnel.
    pub async fn write_control(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        if self.control.is_none() {
            self.control = Some(soon("the control stream", self.connection.open_bi()).await?);
        }
        if let Some((send, _)) = &mut self.control {
            // What cannot be written any more shows in the way the tunnel ends.
            let _ = send.write_all(bytes).await;
        }
        Ok(())
    }

    /// Says something on the control stream.
    ///
    /// # Errors
    /// When the gateway has closed the tunnel.
    ///
    /// # Panics
    /// When the message is too long for a frame.
    pub async fn tell(&mut self, message: Message) -> Result<(), ConnectionError> {
        let frame = control::encode(&ControlMessage { message: Some(message) }).expect("the message fits");
        self.write_control(&frame).await
    }

    /// The next message of the gateway.
    ///
    /// # Panics
    /// When there is none.
    pub async fn hear(&mut self) -> Message {
        let (_, recv) = self.control.as_mut().expect("the control stream is open");
        loop {
            if let Some(message) = self.decoder.poll().expect("the gateway says what parses") {
                return message.message.expect("the gateway says what this version knows");
            }
            let chunk = soon("a message of the gateway", recv.read_chunk(64 * 1024, true)).await;
            let chunk = chunk.expect("the control stream lives").expect("the control stream has not ended");
            self.decoder.feed(&chunk.bytes);
        }
    }

    /// Greets as a gateway of `cluster` does, and hears the greeting.
    ///
    /// # Errors
    /// When the gateway closes the tunnel.
    pub async fn greet(&mut self, cluster: &str) -> Result<(), ConnectionError> {
        self.tell(Message::Hello(hello(cluster))).await?;
        let answer = self.hear().await;
        assert!(matches!(answer, Message::Hello(_)), "the gateway did not greet: {answer:?}");
        Ok(())
    }

    /// Opens a stream with these bytes.
    ///
    /// # Errors
    /// When the gateway has closed the tunnel.
    pub async fn stream(&self, bytes: &[u8]) -> Result<Stream, ConnectionError> {
        let (mut send, recv) = soon("a stream", self.connection.open_bi()).await?;
        // A gateway that refuses early shows it in its reply.
        let _ = send.write_all(bytes).await;
        Ok(Stream { send, recv })
    }

    /// Leaves without a word more.
    pub fn close(&self) {
        self.connection.close(VarInt::from_u32(0), b"the test is over");
    }
}

/// A place where gateways dial and somebody else answers.
#[derive(Debug)]
pub struct Listener(Endpoint);

impl Listener {
    /// Answers at `place` with this credential, and asks for none.
    ///
    /// # Panics
    /// When QUIC cannot be configured.
    #[must_use]
    pub fn at(network: &Network, place: SocketAddr, credential: Credential) -> Self {
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(credential.chain, credential.key)
            .expect("the key fits the certificate");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let config = QuicServerConfig::try_from(tls).expect("TLS 1.3 can carry QUIC");
        let endpoint = endpoint(network, place);
        endpoint.set_server_config(Some(ServerConfig::with_crypto(Arc::new(config))));
        Self(endpoint)
    }

    /// Why the next gateway that dials does not go on.
    ///
    /// # Panics
    /// When it does.
    pub async fn refusal(&self) -> String {
        let incoming = soon("a gateway dials", self.0.accept()).await.expect("the endpoint lives");
        let error = match soon("the handshake", incoming.into_future()).await {
            Ok(connection) => soon("the gateway refuses", connection.closed()).await,
            Err(error) => error,
        };
        match error {
            ConnectionError::ConnectionClosed(close) => String::from_utf8_lossy(&close.reason).into_owned(),
            other @ (ConnectionError::ApplicationClosed(_)
            | ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted) => panic!("the handshake ended otherwise: {other}"),
        }
    }
}

/// The hello of a gateway of `cluster` as this version says it.
#[must_use]
pub fn hello(cluster: &str) -> Hello {
    Hello {
        min_version: 1,
        max_version: 1,
        cluster: cluster.to_owned(),
        instance: "test".to_owned(),
        software: "test".to_owned(),
        held_digest: Bytes::new(),
        unix_millis: 0,
        reports_imports: false,
    }
}

/// A stream of a peer.
#[derive(Debug)]
pub struct Stream {
    /// Towards the gateway.
    pub send: SendStream,
    /// From the gateway.
    pub recv: RecvStream,
}

impl Stream {
    /// What the gateway says to the header.
    ///
    /// # Panics
    /// When it says nothing.
    pub async fn reply(&mut self) -> StreamReply {
        let mut buffer = Vec::new();
        loop {
            if let Some((reply, _)) = StreamReply::read(&buffer).expect("a reply parses") {
                return reply;
            }
            let chunk = soon("the reply", self.recv.read_chunk(4096, true)).await;
            let chunk = chunk.expect("the stream lives until the reply").expect("the stream ends after the reply");
            buffer.extend_from_slice(&chunk.bytes);
        }
    }
}

fn endpoint(network: &Network, address: SocketAddr) -> Endpoint {
    let socket = network.socket(address);
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
        .expect("the simulated socket can be used")
}
