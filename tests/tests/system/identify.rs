//! Who calls, and how that is known: by address, and by what a client proves where its TLS ends.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use federation_model::{
    revocation::{Serial, Subject},
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    identity::LiveIdentity,
    svid::Svid,
    tls::{Clients, client_config, server_config},
    trust::TrustStore,
    verify::{Expect, SpiffeVerifier},
};
use proto::convert::revocation::Asked;
use tests::{
    client::{line, part, rest, say, soon},
    fleet::{Fleet, Settings, host_of},
    logs::Logs,
    manifests::{Export, pod},
    probe::{Echo, Seen},
    tls,
    tools::{Files, have},
    wait::until,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

const API: &str = "production/api";
const POD: u8 = 20;
const WEB: &str = "spiffe://east.example/ns/production/sa/web";
const CRON: &str = "spiffe://east.example/ns/production/sa/cron";

fn svid(authority: &Authority, id: &str, validity: Validity) -> Svid {
    authority.issue(&SvidRequest { id: SpiffeId::new(id).unwrap(), names: Vec::new(), validity }).unwrap()
}

fn hour() -> Validity {
    Validity::starting(SystemTime::now().into(), Duration::from_secs(3600))
}

/// West serves and is told who calls; east has a pod.
struct World {
    fleet: Fleet,
    echo: Echo,
    files: Files,
}

impl World {
    async fn new() -> Self {
        Self::with(Settings::of("east")).await
    }

    async fn with(east: Settings) -> Self {
        let fleet = Fleet::with([east, Settings::of("west")]).await;
        let west = &fleet["west"];
        let echo = Echo::start("west", west.at(10, 8080), true).await.unwrap();
        west.export(&Export::new(API, 8080, west.host(10)).annotated("deliver", "proxy-v2"));
        let files = Files::believing(&fleet["east"].authority());
        let world = Self { fleet, echo, files };
        world.pods(&[("web", POD)]).await;
        world.fleet["east"].sees(API, &["west"]).await;
        world
    }

    /// These are the pods of east, one for each service account, in this order in their file.
    async fn pods(&self, pods: &[(&str, u8)]) {
        let east = &self.fleet["east"];
        let texts: Vec<_> =
            pods.iter().map(|(account, host)| pod("production", account, account, east.host(*host))).collect();
        east.write("pods.yaml", &texts.join("---\n"));
        until("the pods are known", async || {
            let tables = east.tables().await;
            let known = tables["principals"].as_object()?;
            let is = |(account, host): &(&str, u8)| {
                let id = known.get(&east.host(*host).to_string()).and_then(|id| id.as_str());
                id.is_some_and(|id| id.ends_with(&format!("/sa/{account}")))
            };
            (known.len() == pods.len() && pods.iter().all(is)).then_some(())
        })
        .await;
    }

    /// What the destination was told last: principal and assurance.
    fn told(&self) -> (Option<String>, String) {
        let Seen { principal, assurance, .. } = self.echo.seen().pop().unwrap();
        (principal, assurance.unwrap())
    }

    async fn ended(&self, outcome: &str, count: f64) {
        until(&format!("{count} connections are recorded as {outcome}"), async || {
            (self.fleet["east"].metrics().await.ended("Outbound", outcome) == count).then_some(())
        })
        .await;
    }
}

fn known(id: &str, assurance: &str) -> (Option<String>, String) {
    (Some(id.to_owned()), assurance.to_owned())
}

#[tokio::test]
async fn the_destination_is_told_what_each_kind_of_client_proved() {
    if !have(&["openssl"], "clients that prove who they are").await {
        return;
    }
    let world = World::new().await;
    let (east, host) = (&world.fleet["east"], host_of(API));
    let stranger = (None, "none".to_owned());
    for (source, expected) in [(POD, known(WEB, "attested")), (99, stranger)] {
        let mut stream = east.connect_from(east.host(source), API, 8080).await;
        assert_eq!(line(&mut stream).await.unwrap(), "west");
        assert_eq!(world.told(), expected, "by address");
        let mut stream = east.dial(east.host(source), east.sni()).await;
        let hello = tls::client_hello(tls::believing(east.authority().certificate()), &host, true);
        stream.write_all(&hello).await.unwrap();
        assert_eq!(line(&mut stream).await.unwrap(), "west");
        assert_eq!(world.told(), expected, "by server name");
    }
    world.files.keep("cron", &svid(&east.authority(), CRON, hour()));
    for source in [POD, 99] {
        for host in [host.clone(), format!("outbound_.8080_._.{host}")] {
            // Istio's form names the port; the certificate is one of the service.
            let dns = host_of(API);
            let call = world.files.call(&host, east.mtls()).with("cron").from(east.host(source));
            let mut talk = call.and(&["-verify_hostname", &dns]).talk();
            assert_eq!(talk.line().await, "west");
            assert_eq!(talk.say("hello").await, "hello");
            assert_eq!(world.told(), known(CRON, "mtls"), "what is proven counts, wherever it comes from");
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_prove_who_it_is_gets_the_alert_that_says_why_and_reaches_nobody() {
    if !have(&["openssl"], "clients that do not prove who they are").await {
        return;
    }
    let logs = Logs::default();
    let captured = logs.capture();
    let world = World::new().await;
    let (east, west, host) = (&world.fleet["east"], &world.fleet["west"], host_of(API));
    let now = Timestamp::from(SystemTime::now());
    let expired = Validity { not_before: Timestamp(now.0 - 120), not_after: Timestamp(now.0 - 5) };
    let stranger = Authority::generate(&TrustDomain::new("east.example").unwrap(), "stranger", hour()).unwrap();
    world.files.keep("expired", &svid(&east.authority(), WEB, expired));
    world.files.keep("foreign", &svid(&west.authority(), "spiffe://west.example/ns/production/sa/web", hour()));
    world.files.keep("forged", &svid(&stranger, WEB, hour()));
    let made = rcgen::generate_simple_self_signed([host.clone()]).unwrap();
    world.files.keep_pem("self-signed", &made.cert.pem(), &made.signing_key.serialize_pem());
    let cases = [
        (Some("expired"), 45, "expired at"),
        (Some("foreign"), 48, "is of another trust domain than this cluster"),
        (Some("forged"), 48, "no authority of its trust domain stands above"),
        (Some("self-signed"), 46, "has no URI name"),
        (None, 116, "no certificate was presented"),
    ];
    for (count, (certificate, alert, reason)) in (1_u32..).zip(cases) {
        let call = world.files.call(&host, east.mtls());
        let said = match certificate {
            Some(name) => call.with(name),
            None => call,
        }
        .refused()
        .await;
        assert!(said.contains(&format!("SSL alert number {alert}")), "{certificate:?}: {said}");
        world.ended("client-untrusted", count.into()).await;
        assert!(logs.text().contains(reason), "{certificate:?} is recorded with {reason:?}");
    }
    drop(captured);
    let unknown = world.files.call("nobody.production.svc.clusterset.local", east.mtls()).refused().await;
    assert!(unknown.contains("SSL alert number 112"), "{unknown}");
    let old = world.files.call(&host, east.mtls()).and(&["-tls1_2"]).refused().await;
    assert!(old.contains("SSL alert number 70"), "{old}");
    world.ended("bad-hello", 1.0).await;
    assert_eq!(world.echo.seen(), []);
}

#[tokio::test]
async fn a_refusal_after_the_handshake_is_an_alert_inside_the_session() {
    if !have(&["openssl"], "a refusal after the handshake").await {
        return;
    }
    let world = World::new().await;
    let (east, west) = (&world.fleet["east"], &world.fleet["west"]);
    west.export(&Export::new("production/lonely", 8080, west.host(11)));
    east.sees("production/lonely", &["west"]).await;
    world.files.keep("web", &svid(&east.authority(), WEB, hour()));
    let host = host_of("production/lonely");
    let said = world.files.call(&host, east.mtls()).with("web").refused().await;
    assert!(said.contains("SSL alert number 80"), "{said}");
    world.ended("connect-refused", 1.0).await;
}

#[tokio::test]
async fn a_client_that_stops_in_its_handshake_is_timed_out_and_others_go_on() {
    if !have(&["openssl"], "a client that stops in its handshake").await {
        return;
    }
    let world = World::with(Settings::of("east").limits("hello_timeout = \"2s\"")).await;
    let east = &world.fleet["east"];
    let hello = tls::client_hello(tls::believing(east.authority().certificate()), &host_of(API), true);
    let mut stuck = east.dial(east.host(99), east.mtls()).await;
    stuck.write_all(&hello).await.unwrap();
    let mut head = [0; 6];
    soon("the gateway's part of the handshake", stuck.read_exact(&mut head)).await.unwrap();
    world.files.keep("web", &svid(&east.authority(), WEB, hour()));
    let host = host_of(API);
    assert_eq!(world.files.call(&host, east.mtls()).with("web").talk().line().await, "west");
    assert!(rest(&mut stuck).await.is_err(), "a refusal must not look like an answer");
    world.ended("client-silent", 1.0).await;
}

#[tokio::test]
async fn garbage_where_tls_ends_is_refused_and_disturbs_nobody() {
    let world = World::new().await;
    let east = &world.fleet["east"];
    let hello = tls::client_hello(tls::believing(east.authority().certificate()), &host_of(API), true);
    let plain = [22, 3, 3, 0, 4, 20, 0, 0, 0];
    let sealed = [23, 3, 3, 0, 5, 1, 2, 3, 4, 5];
    let oversized = [&[23, 3, 3, 0xff, 0xff][..], &[0; 70_000]].concat();
    let endings: [&[u8]; 4] = [&plain, &sealed, &oversized, b"GET / HTTP/1.1\r\n\r\n"];
    for (count, ending) in (1_u32..).zip(endings) {
        let mut stream = east.dial(east.host(99), east.mtls()).await;
        // Who is refused early may not take all of it.
        let _ = stream.write_all(&[&hello[..], ending].concat()).await;
        // A reset may overtake the alert; that it ends is what counts.
        let _ = rest(&mut stream).await;
        drop(stream);
        world.ended("bad-hello", count.into()).await;
    }
    let mut stream = east.dial(east.host(99), east.mtls()).await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(rest(&mut stream).await.is_err(), "a refusal must not look like an answer");
    world.ended("not-tls", 1.0).await;
    let mut stream = east.connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    assert_eq!(world.fleet["east"].metrics().await.ended("Outbound", "aborted"), 0.0);
}

/// A server of one request and one answer.
async fn http_server(address: std::net::SocketAddr) -> JoinSet<()> {
    let listener = TcpListener::bind(address).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) { continue } else { break }
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nfrom west";
            // A client that goes away ends its session, nothing else.
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    tasks
}

#[tokio::test]
async fn curl_reaches_a_plain_http_server_by_its_name_over_https_with_its_own_certificate() {
    if !have(&["openssl", "curl"], "curl with a certificate").await {
        return;
    }
    let world = World::new().await;
    let (east, west) = (&world.fleet["east"], &world.fleet["west"]);
    let _server = http_server(west.at(12, 8080)).await;
    for (service, protocol) in [("production/shop", Some("http")), ("production/grpc", Some("kubernetes.io/h2c"))] {
        west.export(&Export { app_protocol: protocol, ..Export::new(service, 8080, west.host(12)) });
        east.sees(service, &["west"]).await;
    }
    world.files.keep("web", &svid(&east.authority(), WEB, hour()));
    let host = host_of("production/shop");
    let (said, content) = world.files.call(&host, east.mtls()).with("web").curl().await;
    assert!(content && said.contains("from west"), "{said}");
    assert!(said.contains("server accepted http/1.1"), "{said}");
    let (said, content) = world.files.call(&host, east.mtls()).curl().await;
    assert!(!content && said.contains("certificate required"), "{said}");
    let selected = async |service: &str| {
        let host = host_of(service);
        world.files.call(&host, east.mtls()).with("web").and(&["-alpn", "h2,http/1.1"]).shaken().await
    };
    let (grpc, none) = (selected("production/grpc").await, selected(API).await);
    assert!(grpc.contains("ALPN protocol: h2"), "{grpc}");
    assert!(none.contains("No ALPN negotiated"), "{none}");
}

#[tokio::test]
async fn what_a_client_has_open_is_cut_when_its_certificate_is_revoked_and_it_is_refused_from_then_on() {
    if !have(&["openssl"], "a revoked certificate of a client").await {
        return;
    }
    let world = World::new().await;
    let (east, host) = (&world.fleet["east"], host_of(API));
    let stolen = svid(&east.authority(), WEB, hour());
    world.files.keep("stolen", &stolen);
    world.files.keep("renewed", &svid(&east.authority(), WEB, hour()));
    let (mut cut, mut goes_on) = (
        world.files.call(&host, east.mtls()).with("stolen").talk(),
        world.files.call(&host, east.mtls()).with("renewed").talk(),
    );
    assert_eq!((cut.line().await, goes_on.line().await), ("west".to_owned(), "west".to_owned()));
    let serial: Serial = stolen.serial().parse().unwrap();
    let subject = Subject::Serial { trust_domain: TrustDomain::new("east.example").unwrap(), serial };
    let mut operator = world.fleet.federation().operator().await;
    operator.revoke(&Asked::Subject(subject), &"key lost".parse().unwrap()).await.unwrap();
    assert_eq!(cut.line().await, "", "it ends");
    world.ended("revoked", 1.0).await;
    let said = world.files.call(&host, east.mtls()).with("stolen").refused().await;
    assert!(said.contains("SSL alert number 44"), "{said}");
    world.ended("revoked", 2.0).await;
    assert_eq!(goes_on.say("still here").await, "still here");
}

#[tokio::test]
async fn a_connection_ends_with_the_pod_that_made_it_and_its_address_never_speaks_for_it_again() {
    let world = World::new().await;
    let east = &world.fleet["east"];
    let call = async || {
        let mut stream = east.connect_from(east.host(POD), API, 8080).await;
        assert_eq!(line(&mut stream).await.unwrap(), "west");
        stream
    };
    let mut stream = call().await;
    assert_eq!(world.told(), known(WEB, "attested"));
    // More objects, in another order, and another file: still the same pod at the same address.
    world.pods(&[("batch", 22), ("web", POD)]).await;
    assert_eq!(say(&mut stream, "still here").await.unwrap(), "still here");
    world.pods(&[("batch", 22), ("cron", POD)]).await;
    assert!(rest(&mut stream).await.is_err(), "the address is another pod's");
    world.ended("caller-gone", 1.0).await;
    let mut stream = call().await;
    assert_eq!(world.told(), known(CRON, "attested"));
    east.remove("pods.yaml");
    assert!(rest(&mut stream).await.is_err(), "the pod is gone");
    world.ended("caller-gone", 2.0).await;
    let mut unknown = call().await;
    assert_eq!(world.told(), (None, "none".to_owned()));
    world.pods(&[("web", POD)]).await;
    assert_eq!(part(&mut unknown).await.unwrap(), "bye\n", "who was nobody loses nothing");
}

/// A server of a mesh that takes clients of the mesh alone, and tells each who it is.
async fn mesh_server(
    address: std::net::SocketAddr,
    identity: Arc<LiveIdentity>,
    trust: Arc<TrustStore>,
) -> JoinSet<()> {
    let clients = Clients::Required(Arc::new(SpiffeVerifier::new(trust, Expect::Any)));
    let mut config = server_config(identity, clients, b"").unwrap();
    config.alpn_protocols = ISTIO.map(<[u8]>::to_vec).to_vec();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let (_, session) = stream.get_ref();
            let leaf = &session.peer_certificates().unwrap()[0];
            let id = federation_pki::verify::spiffe_id_of(leaf).unwrap();
            let protocol = String::from_utf8_lossy(session.alpn_protocol().unwrap()).into_owned();
            // A client that goes away ends its session, nothing else.
            let _ = stream.write_all(format!("{id} {protocol}\n").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    tasks
}

const ISTIO: [&[u8]; 2] = [b"istio-peer-exchange", b"istio"];

#[tokio::test]
async fn the_own_mtls_of_a_mesh_holds_from_one_cluster_to_the_other() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    // The mesh has an authority of its own, which no gateway knows.
    let mesh = Authority::generate(&TrustDomain::new("cluster.local").unwrap(), "istiod", hour()).unwrap();
    let trust = Arc::new(TrustStore::new());
    trust.replace([mesh.bundle(1)]).unwrap();
    let identity = |id: &str| Arc::new(LiveIdentity::new(svid(&mesh, id, hour())));
    let server = identity("spiffe://cluster.local/ns/production/sa/api");
    let _server = mesh_server(west.at(13, 8443), server, trust.clone()).await;
    west.export(&Export::new(API, 8443, west.host(13)));
    east.sees(API, &["west"]).await;

    let expected = Expect::Exactly(SpiffeId::new("spiffe://cluster.local/ns/production/sa/api").unwrap());
    let client = identity("spiffe://cluster.local/ns/production/sa/web");
    let mut config = client_config(Some(client), Arc::new(SpiffeVerifier::new(trust, expected)), b"").unwrap();
    config.alpn_protocols = ISTIO.map(<[u8]>::to_vec).to_vec();
    let sni = format!("outbound_.8443_.v1_.{}", host_of(API));
    let tcp = TcpStream::connect(east.sni()).await.unwrap();
    let mut stream = tls::connect(config.clone(), &sni, tcp).await.unwrap();
    let told = line(&mut stream).await.unwrap();
    assert_eq!(
        told, "spiffe://cluster.local/ns/production/sa/web istio-peer-exchange",
        "the server saw the client itself"
    );

    let refused = [
        format!("outbound_.8443_._.{}", "api.production.svc.cluster.local"),
        "api.production.serviceaccount.identity.linkerd.cluster.local".to_owned(),
    ];
    for sni in refused {
        let tcp = TcpStream::connect(east.sni()).await.unwrap();
        let error = tls::connect(config.clone(), &sni, tcp).await.unwrap_err();
        assert!(error.to_string().contains("UnrecognisedName"), "{sni}: {error}");
    }
    // By its address a service takes whatever name its client says.
    let tcp = east.connect(API, 8443).await;
    let linkerd = "api.production.serviceaccount.identity.linkerd.cluster.local";
    let mut stream = tls::connect(config, linkerd, tcp).await.unwrap();
    assert_eq!(line(&mut stream).await.unwrap(), told);
}
