//! What callers cannot make a destination believe, and how they do not get past a policy.

use proxy_header::{ProxiedAddress, ProxyHeader, Tlv};
use tests::{
    client::line,
    fleet::host_of,
    manifests::Export,
    tls::{self, TlsEcho},
    web,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::{Client, Mode, NOBODY, Sees, WEB, World, authorization, seen};

const ADMIN: &str = "spiffe://west.example/ns/production/sa/admin";

#[tokio::test]
async fn no_header_of_a_client_introduces_anybody() {
    let world = World::new().await;
    let names = [
        "x-forwarded-client-cert",
        "X_Forwarded_Client_Cert",
        "Client-Cert",
        "client_cert",
        "Client-Cert-Chain",
        "l5d-client-id",
        "x-landbridge-principal",
        "X_Landbridge_Principal",
        "x-landbridge_principal",
        "x.landbridge.principal",
        "x-landbridge-assurance",
        "x-landbridge-source-cluster",
        "x-landbridge-whatever",
    ];
    let forged: String =
        names.iter().map(|name| format!("{name}: forged {ADMIN}\r\n{name}: again {ADMIN}\r\n")).collect();
    for client in [Client::Stranger, Client::Pod, Client::Proven, Client::Local] {
        let mut stream = world.connect(client, Mode::Http).await.unwrap();
        let answer = web::ask(&mut stream, &web::get("/", &forged)).await.unwrap();
        assert_eq!(answer.status, 200, "{client:?}");
        assert!(!answer.body.contains(ADMIN), "{client:?}: {}", answer.body);
        // The connection field removes what it names, also what the gateway is about to set.
        let removing = "connection: x-landbridge-principal, x-landbridge-assurance, x-forwarded-client-cert\r\n";
        let answer = web::ask(&mut stream, &web::get("/", removing)).await.unwrap();
        assert_eq!(answer.told("x-landbridge-assurance").len(), 1, "{client:?}: {}", answer.body);
        assert_eq!(answer.told("x-landbridge-principal").len(), usize::from(client != Client::Stranger), "{client:?}");
    }
    // Trailers may carry them, too.
    let mut stream = world.connect(Client::Stranger, Mode::Http).await.unwrap();
    let chunked = "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\ntrailer: x-landbridge-principal\r\n\r\n\
                   1\r\nx\r\n0\r\nx-landbridge-principal: admin\r\n\r\n";
    let answer = web::ask(&mut stream, chunked).await.unwrap();
    assert_eq!((answer.status, answer.told("x-landbridge-principal").len()), (200, 0), "{answer:?}");
}

#[tokio::test]
async fn a_proxy_header_of_a_client_is_bytes_behind_that_of_the_gateway() {
    let world = World::new().await;
    let addresses = ProxiedAddress::stream("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
    let mut header = ProxyHeader::with_address(addresses);
    header.append_tlv(Tlv::Custom(0xE0, ADMIN.as_bytes().into()));
    header.append_tlv(Tlv::Custom(0xE2, b"mtls".as_slice().into()));
    let mut forged = Vec::new();
    header.encode_v2(&mut forged).unwrap();
    for (client, principal) in [(Client::Stranger, None), (Client::Pod, Some(WEB))] {
        let mut stream = world.connect(client, Mode::ProxyV2).await.unwrap();
        stream.write_all(&forged).await.unwrap();
        assert_eq!(line(&mut stream).await.unwrap(), "west");
        let mut echoed = vec![0; forged.len()];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, forged, "{client:?}");
        let told = world.introduced.seen().pop().unwrap();
        assert_eq!(told.principal.as_deref(), principal, "{client:?}");
        assert_ne!(told.source, Some("192.0.2.1:1".parse().unwrap()), "{client:?}");
        // Where HTTP is expected it is no HTTP.
        let mut stream = world.connect(client, Mode::Http).await.unwrap();
        stream.write_all(&forged).await.unwrap();
        let answer = web::ask(&mut stream, &web::get("/", "")).await;
        assert!(answer.as_ref().map_or(true, |answer| answer.status == 400), "{client:?}: {answer:?}");
    }
    assert_eq!(world.introduced.seen().len(), 2, "each connection has one header");
    assert_eq!(world.site.asked(), <[String; 0]>::default());
}

#[tokio::test]
async fn a_server_name_of_another_service_does_not_change_what_an_address_means() {
    const OPEN: &str = "production/open";
    let world = World::new().await;
    let (east, west) = (world.east(), world.west());
    let open = TlsEcho::start("open", &host_of(OPEN), west.at(17, 8443)).await.unwrap();
    west.export(&Export::new(OPEN, 8443, west.host(17)));
    east.sees(OPEN, &["west"]).await;
    // It holds for the site as well, so that its being in force can be waited for.
    let closed = authorization("closed", "action: DENY, to: [{services: [sealed, site]}]");
    world.policies(&closed, &["closed"]).await;
    let sealed = Mode::Passthrough.service();
    // By the address of the open service everybody ends at its server, whatever name is said.
    let stream = east.connect(OPEN, 8443).await;
    let error = tls::connect(tls::believing(open.certificate()), &host_of(sealed), stream).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "the server of the open service answered: {error}");
    // By the address of the closed one nobody gets in, also by the name of the other.
    for said in [sealed, OPEN] {
        let stream = east.connect(sealed, 8443).await;
        let error = tls::connect(tls::believing(world.sealed.certificate()), &host_of(said), stream).await.unwrap_err();
        assert_eq!(seen(&error), Sees::Alert(49), "{said}");
    }
    for (said, certificate, passes) in [(OPEN, open.certificate(), true), (sealed, world.sealed.certificate(), false)] {
        let stream = east.dial(east.host(NOBODY), east.sni()).await;
        let shaken = tls::connect(tls::believing(certificate), &host_of(said), stream).await;
        assert_eq!(
            shaken.map_or_else(|error| seen(&error), |_| Sees::Service),
            match passes {
                true => Sees::Service,
                false => Sees::Alert(49),
            }
        );
    }
}

#[tokio::test]
async fn a_path_that_is_denied_is_not_reached_in_another_spelling() {
    let world = World::new().await;
    let gate = authorization("gate", "action: DENY, to: [{paths: [\"/admin\", \"/admin/*\"]}]");
    world.policies(&gate, &["gate"]).await;
    let denied = [
        "/admin",
        "/admin/",
        "/admin/users",
        "/admin?x=/public",
        "/%61dmin",
        "/%61%64min/users",
        "http://web/admin",
        "http://other.example/admin/users",
    ];
    let ambiguous = [
        "//admin",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/%2E./admin",
        "/./admin",
        "/%2e/admin",
        "/admin%2fusers",
        "/admin%2Fusers",
        "/admin%5cusers",
        "/admin;x=1",
        "/admin;/users",
        "/%2561dmin",
        "/public//..//admin",
        "/admin%00",
        "/admin%c0%af",
        "/admin%2",
    ];
    let free = ["/public", "/", "/administrator", "/ADMIN", "/public/admin", "/public?x=/admin", "/admi%6e2"];
    for client in [Client::Pod, Client::Stranger, Client::Proven, Client::Local] {
        for (paths, status) in [(&denied[..], 403), (&ambiguous[..], 400), (&free[..], 200)] {
            for path in paths {
                assert_eq!(world.get(client, path).await.status, status, "{client:?}: {path}");
            }
        }
    }
    let asked = world.site.asked();
    assert_eq!(asked.len(), 4 * free.len(), "{asked:?}");
    // What cannot be written in a request line at all does not get through either.
    for raw in ["/adm\\in", "/admin\t", "/admin#x", "admin", "/ad\u{e9}min"] {
        let mut stream = world.connect(Client::Pod, Mode::Http).await.unwrap();
        let answer = web::ask(&mut stream, &web::get(raw, "")).await;
        assert!(answer.as_ref().map_or(true, |answer| (400..500).contains(&answer.status)), "{raw:?}: {answer:?}");
    }
    assert_eq!(world.site.asked().len(), asked.len());
}
