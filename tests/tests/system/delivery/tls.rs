//! `tls`: the gateway speaks TLS to the endpoint, which proves who it is.

use std::{io::ErrorKind, net::SocketAddr};

use tests::{
    client::{line, part, rest},
    fleet::{Cluster, Fleet, Settings, host_of},
    manifests::Export,
    probe::Echo,
    program::{self, Place, Program},
    skip,
    tls::{self, TlsEcho},
    wait::until,
};
use tokio::net::TcpStream;

use super::{API, ask, nginx_conf, svid};

const PORT: u16 = 8443;
const OTHER: &str = "production/other";
const ENDPOINT: &str = "spiffe://west.example/ns/production/sa/api";

/// East calls, west delivers over TLS; it believes this PEM about names.
async fn east_and_west(roots: &str) -> (Fleet, Place) {
    let place = Place::default();
    let file = place.file("roots.pem", roots);
    let west = Settings { delivery: format!("tls_roots = \"{}\"", file.display()), ..Settings::of("west") };
    (Fleet::with([Settings::of("east"), west]).await, place)
}

/// An nginx that speaks TLS 1.3 alone with this certificate, and tells what it saw of the client.
async fn nginx(listen: SocketAddr, (certificate, key): (&str, &str), authority: Option<&str>) -> Program {
    let place = Place::default();
    let path = |name, text| place.file(name, text).display().to_string();
    let verify = match authority {
        Some(authority) => {
            format!("ssl_client_certificate {};\nssl_verify_client on;", path("authority.pem", authority))
        }
        None => "ssl_verify_client optional_no_ca;".to_owned(),
    };
    let server = format!(
        "listen {listen} ssl;\nssl_protocols TLSv1.3;\nssl_certificate {};\nssl_certificate_key {};\n{verify}",
        path("tls.crt", certificate),
        path("tls.key", key),
    );
    let config = nginx_conf(place.path(), &server, "$ssl_protocol $ssl_server_name $ssl_client_verify");
    let file = path("nginx.conf", &config);
    let prefix = place.path().to_string_lossy().into_owned();
    place.run("nginx", &["-p", &prefix, "-c", &file], listen).await
}

fn exported(west: &Cluster, service: &str, annotations: &[(&'static str, &str)]) {
    let mut export = Export::new(service, PORT, west.host(10)).annotated("deliver", "tls");
    for (name, value) in annotations {
        export = export.annotated(name, value);
    }
    west.export(&export);
}

/// The endpoint of `service` is not believed, and the client is told by a reset.
async fn is_untrusted(fleet: &Fleet, service: &str) {
    fleet["east"].sees(service, &["west"]).await;
    assert_eq!(fleet["east"].refusal(service, PORT).await, ErrorKind::ConnectionReset);
    for (cluster, direction) in [("east", "Outbound"), ("west", "Inbound")] {
        until(&format!("{cluster} records that the endpoint is not trusted"), async || {
            (fleet[cluster].metrics().await.ended(direction, "endpoint-untrusted") == 1.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_endpoint_that_proves_its_name_gets_the_bytes_over_tls_and_another_one_gets_none() {
    if !program::is_installed("nginx", "-v") {
        return skip::say("TLS towards nginx", "nginx is not on PATH");
    }
    let pair = rcgen::generate_simple_self_signed([host_of(API)]).unwrap();
    let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    let (fleet, _place) = east_and_west(&certificate).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let _nginx = nginx(west.at(10, PORT), (&certificate, &key), None).await;
    exported(west, API, &[]);
    exported(west, OTHER, &[("tls-server-name", "elsewhere.example")]);
    for cluster in [east, west] {
        cluster.sees(API, &["west"]).await;
        let mut stream = cluster.connect(API, PORT).await;
        assert_eq!(ask(&mut stream).await, format!("TLSv1.3 {} NONE", host_of(API)), "from {}", cluster.name());
    }
    is_untrusted(&fleet, OTHER).await;
}

#[tokio::test]
async fn an_endpoint_proves_its_spiffe_id_and_is_shown_that_of_the_gateway() {
    if !program::is_installed("nginx", "-v") {
        return skip::say("TLS by SPIFFE ID towards nginx", "nginx is not on PATH");
    }
    let fleet = Fleet::of(&["east", "west"]).await;
    let west = &fleet["west"];
    let authority = west.authority();
    let svid = svid(&authority, ENDPOINT);
    let pair = (svid.certificate_pem(), svid.key_pem());
    let _nginx = nginx(west.at(10, PORT), (&pair.0, pair.1.expose()), Some(&authority.certificate_pem())).await;
    exported(west, API, &[("tls-spiffe-id", ENDPOINT), ("tls-client-identity", "gateway")]);
    let another = "spiffe://west.example/ns/production/sa/another";
    exported(west, OTHER, &[("tls-spiffe-id", another), ("tls-client-identity", "gateway")]);
    fleet["east"].sees(API, &["west"]).await;
    let mut stream = fleet["east"].connect(API, PORT).await;
    assert_eq!(ask(&mut stream).await, format!("TLSv1.3 {} SUCCESS", host_of(API)));
    is_untrusted(&fleet, OTHER).await;
}

#[tokio::test]
async fn an_endpoint_that_speaks_no_tls_gets_nothing_of_the_client() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let west = &fleet["west"];
    let echo = Echo::start("west", west.at(10, PORT), true).await.unwrap();
    exported(west, API, &[("tls-spiffe-id", ENDPOINT)]);
    is_untrusted(&fleet, API).await;
    assert_eq!(echo.seen(), [], "it saw a PROXY header");
}

#[tokio::test]
async fn a_half_close_passes_through_the_gateway_that_speaks_tls() {
    let host = host_of(API);
    let pair = rcgen::generate_simple_self_signed([host.clone()]).unwrap();
    let (fleet, _place) = east_and_west(&pair.cert.pem()).await;
    let west = &fleet["west"];
    let key = pair.signing_key.serialize_der().try_into().unwrap();
    let _server = TlsEcho::with("west", (pair.cert.der().clone(), key), west.at(10, PORT)).await.unwrap();
    exported(west, API, &[]);
    fleet["east"].sees(API, &["west"]).await;
    let mut stream = fleet["east"].connect(API, PORT).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west", "the server speaks first and is heard");
    assert_eq!(part(&mut stream).await.unwrap(), "", "its end is a clean one");
    until("it is recorded as completed", async || {
        (fleet["east"].metrics().await.ended("Outbound", "completed") == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_speaks_tls_itself_passes_through() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let host = host_of(API);
    let server = TlsEcho::start("west", &host, west.at(10, PORT)).await.unwrap();
    exported(west, API, &[("tls-spiffe-id", ENDPOINT)]);
    east.sees(API, &["west"]).await;
    let tcp = TcpStream::connect(east.sni()).await.unwrap();
    let mut stream = tls::connect(tls::believing(server.certificate()), &host, tcp).await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], *server.certificate());
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    drop(stream);
    // Over the import address no gateway sees a server name, so TLS is spoken to an endpoint that proves another id.
    let mut plain = east.connect(API, PORT).await;
    assert_eq!(rest(&mut plain).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
