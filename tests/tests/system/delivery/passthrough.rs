//! `passthrough`: the client's own TLS and nothing else.

use std::{io::ErrorKind, process::Stdio, time::Duration};

use tests::{
    client::{not_within, rest, soon},
    fleet::{Fleet, Settings, host_of},
    manifests::Export,
    program::{self, Place},
    skip,
    tls::{self, TlsEcho},
    wait::until,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpListener,
    process::Command,
};

use super::{API, REQUEST};

const PORT: u16 = 8443;

/// West has a service that takes TLS alone, and little patience.
async fn east_and_west() -> Fleet {
    let fleet = Fleet::with([Settings::of("east"), Settings::of("west").limits("hello_timeout = \"400ms\"")]).await;
    let west = &fleet["west"];
    west.export(&Export::new(API, PORT, west.host(10)).annotated("deliver", "passthrough"));
    fleet["east"].sees(API, &["west"]).await;
    fleet
}

#[tokio::test]
async fn a_tls_client_that_dials_the_import_address_sees_the_certificate_of_the_server() {
    let fleet = east_and_west().await;
    let server = TlsEcho::start("west", &host_of(API), fleet["west"].at(10, PORT)).await.unwrap();
    for cluster in ["east", "west"] {
        fleet[cluster].sees(API, &["west"]).await;
        let stream = fleet[cluster].connect(API, PORT).await;
        let mut stream = tls::connect(tls::believing(server.certificate()), &host_of(API), stream).await.unwrap();
        assert_eq!(tests::client::line(&mut stream).await.unwrap(), "west");
    }
}

#[tokio::test]
async fn openssl_sees_the_certificate_of_the_server_through_the_gateways() {
    if !program::is_installed("openssl", "version") {
        return skip::say("passthrough with openssl s_client", "openssl is not on PATH");
    }
    let fleet = east_and_west().await;
    let host = host_of(API);
    let server = TlsEcho::start("west", &host, fleet["west"].at(10, PORT)).await.unwrap();
    let place = Place::default();
    let authority = place.file("server.pem", &pem(server.certificate()));
    let address = fleet["east"].address_of(API).await;
    // Whoever listens there does so once the tables are in force.
    drop(fleet["east"].connect(API, PORT).await);
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_return_error", "-connect", &format!("{address}:{PORT}")])
        .args(["-servername", &host, "-verify_hostname", &host, "-CAfile"])
        .arg(authority)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(client.stdout.take().unwrap());
    assert_eq!(soon("the greeting", tests::client::line(&mut said)).await.unwrap(), "west");
    client.stdin.take().unwrap().write_all(b"through\n").await.unwrap();
    assert_eq!(soon("the echo", tests::client::line(&mut said)).await.unwrap(), "through");
}

fn pem(certificate: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[tokio::test]
async fn what_is_no_tls_is_refused_before_the_endpoint_hears_of_it() {
    let fleet = east_and_west().await;
    let endpoint = TcpListener::bind(fleet["west"].at(10, PORT)).await.unwrap();
    let mut client = fleet["east"].connect(API, PORT).await;
    client.write_all(REQUEST).await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    // It says nothing, as the client of a server that speaks first.
    assert_eq!(fleet["east"].refusal(API, PORT).await, ErrorKind::ConnectionReset);
    fleet["west"].sees(API, &["west"]).await;
    let mut local = fleet["west"].connect(API, PORT).await;
    local.write_all(REQUEST).await.unwrap();
    assert_eq!(rest(&mut local).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    for (cluster, direction, outcome) in [
        ("east", "Outbound", "not-tls"),
        ("east", "Outbound", "client-silent"),
        ("west", "Inbound", "not-tls"),
        ("west", "Inbound", "client-silent"),
        ("west", "Local", "not-tls"),
    ] {
        until(&format!("{cluster} records {outcome}, {direction}"), async || {
            (fleet[cluster].metrics().await.ended(direction, outcome) == 1.0).then_some(())
        })
        .await;
    }
    not_within(Duration::from_millis(100), "the endpoint was connected", endpoint.accept()).await;
}
