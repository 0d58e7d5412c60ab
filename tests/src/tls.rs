//! TLS between applications, which the gateways never see into.
//!
//! Owns the certificates of the applications and their clients. Never takes part in the trust between clusters.

use std::{io, net::SocketAddr, sync::Arc};

use federation_pki::tls::provider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// A server that greets with its name over TLS with its own certificate, then echoes.
#[derive(Debug)]
pub struct TlsEcho {
    certificate: CertificateDer<'static>,
    _tasks: JoinSet<()>,
}

impl TlsEcho {
    /// Starts it at `address`, with a certificate for `host`.
    ///
    /// # Errors
    /// When the address is not free.
    ///
    /// # Panics
    /// When no certificate can be made.
    pub async fn start(name: &'static str, host: &str, address: SocketAddr) -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).expect("a host name makes a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a new key is well-formed");
        Self::with(name, (made.cert.der().clone(), key), address).await
    }

    /// Starts it at `address`, with this certificate and its key.
    ///
    /// # Errors
    /// When the address is not free.
    ///
    /// # Panics
    /// When the two do not fit.
    pub async fn with(
        name: &'static str,
        (certificate, key): (CertificateDer<'static>, PrivateKeyDer<'static>),
        address: SocketAddr,
    ) -> io::Result<Self> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.clone()], key))
            .expect("the certificate and its key fit");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(address).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                sessions.spawn(async move {
                    // A client that goes away ends its session, nothing else.
                    let _ = session(acceptor, stream, name).await;
                });
            }
        });
        Ok(Self { certificate, _tasks: tasks })
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
}

async fn session(acceptor: TlsAcceptor, stream: TcpStream, name: &str) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    stream.write_all(format!("{name}\n").as_bytes()).await?;
    let mut chunk = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut chunk).await? {
            0 => return stream.shutdown().await,
            n => stream.write_all(&chunk[..n]).await?,
        }
        stream.flush().await?;
    }
}

/// A client that believes this certificate alone, and asks for no particular protocol.
///
/// # Panics
/// When the certificate is not usable.
#[must_use]
pub fn believing(certificate: &CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("the certificate of the test is usable");
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Says hello over `stream` to the server `host`.
///
/// # Errors
/// When the handshake fails.
///
/// # Panics
/// When `host` is no host.
pub async fn connect(config: ClientConfig, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).expect("the tests use valid names");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The first bytes of a client that asks for `host`, in one record.
///
/// # Panics
/// When no ClientHello can be made.
#[must_use]
pub fn client_hello(mut config: ClientConfig, host: &str, sni: bool) -> Vec<u8> {
    config.enable_sni = sni;
    let name = ServerName::try_from(host.to_owned()).expect("the tests use valid names");
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).expect("the client can start");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a vector takes every byte");
    bytes
}

/// The same handshake message in records of at most `size` bytes.
///
/// # Panics
/// When `hello` is not a TLS record.
#[must_use]
pub fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let (head, message) = hello.split_at(5);
    let fragments = message.chunks(size).flat_map(|fragment| {
        let length = u16::try_from(fragment.len()).expect("a fragment is shorter than a record");
        head[..3].iter().copied().chain(length.to_be_bytes()).chain(fragment.iter().copied()).collect::<Vec<_>>()
    });
    fragments.collect()
}
