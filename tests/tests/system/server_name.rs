//! The listener that routes by TLS server name: what it lets through, and how it refuses.

use std::{io::ErrorKind, net::SocketAddr};

use tests::{
    client::{line, rest, say, soon},
    fleet::{Fleet, Settings, host_of},
    manifests::Export,
    probe::Echo,
    tls::{self, TlsEcho},
    wait::until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const WEB: &str = "production/web";
/// A fatal alert `unrecognized_name` (RFC 8446 section 6).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

struct Set {
    fleet: Fleet,
    server: TlsEcho,
}

/// West has a TLS server with a certificate of its own; east has a client and little patience.
async fn set() -> Set {
    let east = Settings::of("east").limits("hello_timeout = \"400ms\"");
    let fleet = Fleet::with([east, Settings::of("west")]).await;
    let server = TlsEcho::start("west", &host_of(WEB), fleet["west"].at(10, 8443)).await.unwrap();
    fleet["west"].export(&Export::new(WEB, 8443, fleet["west"].host(10)));
    fleet["east"].sees(WEB, &["west"]).await;
    Set { fleet, server }
}

impl Set {
    fn sni(&self) -> SocketAddr {
        self.fleet["east"].sni()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.sni()).await.unwrap()
    }

    /// What the gateway answers to these bytes.
    async fn answer(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = self.connect().await;
        // Who is refused early may not take all of it.
        let _ = stream.write_all(bytes).await;
        rest(&mut stream).await
    }

    async fn ended(&self, outcome: &str) {
        until(&format!("one connection is recorded as {outcome}"), async || {
            (self.fleet["east"].metrics().await.ended("Outbound", outcome) == 1.0).then_some(())
        })
        .await;
    }

    fn hello(&self, host: &str, sni: bool) -> Vec<u8> {
        tls::client_hello(tls::believing(self.server.certificate()), host, sni)
    }
}

#[tokio::test]
async fn a_client_reaches_the_server_of_the_other_cluster_and_sees_its_own_certificate() {
    let set = set().await;
    let config = tls::believing(set.server.certificate());
    let mut stream = tls::connect(config, &host_of(WEB), set.connect().await).await.unwrap();
    let (_, session) = stream.get_ref();
    assert_eq!(session.peer_certificates().unwrap()[0], *set.server.certificate());
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    assert_eq!(say(&mut stream, "through").await.unwrap(), "through");
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), b"");
    set.ended("completed").await;
}

#[tokio::test]
async fn a_hello_over_several_records_and_segments_is_routed_as_one() {
    let set = set().await;
    let hello = set.hello(&host_of(WEB), true);
    let records = tls::in_records(&hello, 100);
    assert!(records.len() > hello.len() + 10, "it is more than two records");
    let mut stream = set.connect().await;
    stream.set_nodelay(true).unwrap();
    for segment in records.chunks(37) {
        stream.write_all(segment).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut head = [0; 6];
    soon("the answer of the server", stream.read_exact(&mut head)).await.unwrap();
    let (handshake, server_hello) = (22, 2);
    assert_eq!((head[0], head[5]), (handshake, server_hello), "the server itself answered: {head:?}");
}

#[tokio::test]
async fn a_client_that_gives_no_name_or_an_unknown_one_gets_the_alert_that_says_so() {
    let set = set().await;
    assert_eq!(set.answer(&set.hello(&host_of(WEB), false)).await.unwrap(), UNRECOGNIZED_NAME);
    set.ended("no-server-name").await;
    let unknown = ["nobody.production.svc.clusterset.local", "example.com", "web.production.svc.cluster.local"];
    for host in unknown {
        assert_eq!(set.answer(&set.hello(host, true)).await.unwrap(), UNRECOGNIZED_NAME, "{host}");
    }
    let config = tls::believing(set.server.certificate());
    let error = tls::connect(config, "nobody.production.svc.clusterset.local", set.connect().await).await.unwrap_err();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
}

#[tokio::test]
async fn istio_names_choose_the_port() {
    let set = set().await;
    let config = tls::believing(set.server.certificate());
    let host = format!("outbound_.8443_._.{}", host_of(WEB));
    let hello = tls::client_hello(config, &host, true);
    let mut stream = set.connect().await;
    stream.write_all(&hello).await.unwrap();
    let handshake = 22;
    assert_eq!(soon("the answer of the server", stream.read_u8()).await.unwrap(), handshake);
    let wrong = format!("outbound_.9999_._.{}", host_of(WEB));
    assert_eq!(set.answer(&set.hello(&wrong, true)).await.unwrap(), UNRECOGNIZED_NAME);
    set.ended("unknown-port").await;
}

#[tokio::test]
async fn a_hello_that_never_ends_is_refused_at_its_limit() {
    let set = set().await;
    // A handshake message of 64 KiB that is announced and sent in full records.
    let mut endless = Vec::new();
    for record in 0..5 {
        endless.extend_from_slice(&[22, 3, 1, 0x40, 0]);
        let start = endless.len();
        endless.resize(start + 0x4000, 0);
        if record == 0 {
            endless[start..start + 4].copy_from_slice(&[1, 1, 0, 0]);
        }
    }
    // A reset may overtake the alert: the client is still sending when it is refused.
    match set.answer(&endless).await {
        Ok(answer) => assert_eq!(answer.first(), Some(&21), "{answer:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    set.ended("hello-too-large").await;
}

#[tokio::test]
async fn a_client_that_says_nothing_or_stops_half_way_is_timed_out() {
    let set = set().await;
    let mut silent = set.connect().await;
    assert!(rest(&mut silent).await.is_err(), "a refusal must not look like an answer");
    let hello = set.hello(&host_of(WEB), true);
    let mut half = set.connect().await;
    half.write_all(&hello[..hello.len() / 2]).await.unwrap();
    assert!(rest(&mut half).await.is_err(), "a refusal must not look like an answer");
    until("both are recorded", async || {
        (set.fleet["east"].metrics().await.ended("Outbound", "client-silent") == 2.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn bytes_that_are_not_tls_are_refused_at_once() {
    let set = set().await;
    let refused = set.answer(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await;
    assert!(refused.is_err(), "{refused:?}");
    set.ended("not-tls").await;
    let mut garbage = set.hello(&host_of(WEB), true);
    let end = garbage.len();
    garbage[43..end].fill(0xff);
    let answer = set.answer(&garbage).await.unwrap();
    let decode_error = [21, 3, 3, 0, 2, 2, 50];
    assert_eq!(answer, decode_error);
    set.ended("bad-hello").await;
}

#[tokio::test]
async fn a_service_without_a_server_behind_it_is_refused_with_an_alert() {
    let set = set().await;
    let lonely = Export::new("production/lonely", 8443, set.fleet["west"].host(11));
    set.fleet["west"].export(&lonely);
    set.fleet["east"].sees("production/lonely", &["west"]).await;
    let answer = set.answer(&set.hello(&host_of("production/lonely"), true)).await.unwrap();
    let internal_error = [21, 3, 3, 0, 2, 2, 80];
    assert_eq!(answer, internal_error);
    set.ended("connect-refused").await;
}

#[tokio::test]
async fn the_other_listeners_are_not_disturbed_by_clients_that_hang() {
    let set = set().await;
    let mut hanging = Vec::new();
    for _ in 0..100 {
        hanging.push(set.connect().await);
    }
    let _plain = Echo::start("plain", set.fleet["west"].at(12, 8080), false).await.unwrap();
    set.fleet["west"].export(&Export::new("production/plain", 8080, set.fleet["west"].host(12)));
    set.fleet["east"].sees("production/plain", &["west"]).await;
    let mut stream = set.fleet["east"].connect("production/plain", 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "plain");
    let config = tls::believing(set.server.certificate());
    let mut stream = tls::connect(config, &host_of(WEB), set.connect().await).await.unwrap();
    assert_eq!(line(&mut stream).await.unwrap(), "west");
}
