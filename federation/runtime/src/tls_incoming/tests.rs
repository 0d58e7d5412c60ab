use futures::StreamExt as _;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::*;

/// A server with a certificate of its own, and the client that trusts nothing else.
fn pair() -> (Arc<ServerConfig>, TlsConnector) {
    let key = rcgen::generate_simple_self_signed(["gateway.test".to_owned()]).unwrap();
    let certificate = CertificateDer::from(key.cert.der().to_vec());
    let secret = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], secret)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), TlsConnector::from(Arc::new(client)))
}

struct Listening {
    address: std::net::SocketAddr,
    config: watch::Sender<Arc<ServerConfig>>,
    incoming: TlsIncoming,
    stop: CancellationToken,
}

async fn listening(config: Arc<ServerConfig>) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let (config, receiver) = watch::channel(config);
    Listening { address, config, incoming: TlsIncoming::new(listener, receiver, stop.clone()), stop }
}

async fn greeted(incoming: &mut TlsIncoming, address: std::net::SocketAddr, client: &TlsConnector) -> String {
    let name = ServerName::try_from("gateway.test").unwrap();
    let client = async {
        let mut stream = client.connect(name, TcpStream::connect(address).await.unwrap()).await.unwrap();
        let mut text = [0; 5];
        stream.read_exact(&mut text).await.unwrap();
        String::from_utf8(text.to_vec()).unwrap()
    };
    let server = async {
        let mut stream = incoming.next().await.unwrap().unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    tokio::join!(client, server).0
}

#[tokio::test]
async fn a_silent_client_delays_nobody() {
    let (config, client) = pair();
    let mut server = listening(config).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let mut rude = TcpStream::connect(server.address).await.unwrap();
    rude.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(greeted(&mut server.incoming, server.address, &client).await, "hello");
}

#[tokio::test]
async fn a_new_configuration_serves_the_next_connection() {
    let (config, client) = pair();
    let mut server = listening(config).await;
    assert_eq!(greeted(&mut server.incoming, server.address, &client).await, "hello");
    let (config, client) = pair();
    server.config.send_replace(config);
    assert_eq!(greeted(&mut server.incoming, server.address, &client).await, "hello");
}

#[tokio::test]
async fn one_address_cannot_take_every_place() {
    let (config, _) = pair();
    let mut server = listening(config).await;
    let mut silent = Vec::new();
    for _ in 0..=MAX_HANDSHAKES_PER_ADDRESS {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut last = silent.pop().unwrap();
    let mut byte = [0; 1];
    tokio::select! {
        _ = server.incoming.next() => unreachable!("nobody finishes a handshake"),
        closed = last.read(&mut byte) => assert!(!matches!(closed, Ok(1..))),
    }
    assert_eq!(server.incoming.per_address.values().sum::<usize>(), MAX_HANDSHAKES_PER_ADDRESS);
    for stream in silent {
        drop(stream);
    }
    std::future::poll_fn(|cx| {
        let _ = server.incoming.poll_next_unpin(cx);
        if server.incoming.per_address.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn the_stream_ends_when_it_is_told_to() {
    let (config, _) = pair();
    let mut server = listening(config).await;
    server.stop.cancel();
    assert!(server.incoming.next().await.is_none());
}
