//! Members and strangers that break the rules: what they cannot make a gateway believe, or do to others.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use federation_model::{
    addr::{Port, Transport},
    caller::Caller,
    outcome::Outcome,
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
    trace::TraceContext,
};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    trust::TrustStore,
};
use gateway_core::{
    control::MAX_CONTROL_FRAME,
    header::{Destination, MAX_HEADER, StreamHeader, StreamReply},
};
use proto::tunnel::v1::{Catalog, CatalogSnapshot, Hello, Ping, control_message::Message};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tests::{
    client::{bytes, line, part},
    fleet::{Fleet, Settings},
    manifests::Export,
    peer::{Credential, Listener, Peer, hello},
    probe::Echo,
    wait::until,
};

const API: &str = "production/api";

/// West serves; mallory is a member whose real gateway is gone, and whose key the test holds.
struct Siege {
    fleet: Fleet,
    place: SocketAddr,
    _echo: Echo,
}

impl Siege {
    async fn begin() -> Self {
        let mut fleet = Fleet::with([Settings::attentive("west"), Settings::attentive("mallory")]).await;
        let echo = Echo::start("west", fleet["west"].at(10, 8080), true).await.unwrap();
        fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)).annotated("deliver", "proxy-v2"));
        fleet["mallory"].sees(API, &["west"]).await;
        fleet["mallory"].kill().await;
        let place = fleet.place();
        Self { fleet, place, _echo: echo }
    }

    async fn dial(&self, credential: Credential) -> Peer {
        let trust = TrustStore::new();
        trust.replace([self.fleet["west"].authority().bundle(1)]).unwrap();
        let target = (self.fleet["west"].tunnel(), trust);
        Peer::dial(self.fleet.network(), self.place, credential, target).await.unwrap()
    }

    /// A tunnel as mallory, with its true name.
    async fn tunnel(&self) -> Peer {
        let authority = self.fleet["mallory"].authority();
        let mut peer = self.dial(credential(&authority, "spiffe://mallory.example/landbridge/gateway", hour())).await;
        peer.greet("mallory").await.unwrap();
        peer
    }

    /// The tunnel that mallory's words close, and why.
    async fn closed_by(&self, messages: Vec<Message>) -> String {
        let authority = self.fleet["mallory"].authority();
        let mut peer = self.dial(credential(&authority, "spiffe://mallory.example/landbridge/gateway", hour())).await;
        for message in messages {
            if peer.tell(message).await.is_err() {
                break;
            }
        }
        peer.closed().await
    }

    /// Whoever is honest notices nothing.
    async fn west_is_well(&self) {
        let (west, stranger) = (&self.fleet["west"], self.fleet["west"].host(99));
        let mut stream = west.connect_from(stranger, API, 8080).await;
        assert_eq!(line(&mut stream).await.unwrap(), "west");
        assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
        assert_eq!(west.get("/livez").await.unwrap().0, 200);
    }
}

fn hour() -> Validity {
    Validity::starting(Timestamp::from(SystemTime::now()), Duration::from_secs(3600))
}

fn credential(authority: &Authority, id: &str, validity: Validity) -> Credential {
    let request = SvidRequest { id: SpiffeId::new(id).unwrap(), names: Vec::new(), validity };
    Credential::from(&authority.issue(&request).unwrap())
}

fn header(service: &str, port: u16, caller: Caller) -> StreamHeader {
    StreamHeader {
        destination: Destination {
            service: service.parse().unwrap(),
            port: Port::new(port).unwrap(),
            transport: Transport::Tcp,
            endpoint: None,
        },
        caller,
        trace: TraceContext::from_random(1, 2),
        client: Some("192.0.2.7:4711".parse().unwrap()),
        server_name: None,
    }
}

fn vouched(id: &str) -> Caller {
    Caller::Vouched { id: SpiffeId::new(id).unwrap() }
}

fn outcome(reply: StreamReply) -> Option<Outcome> {
    match reply {
        StreamReply::Connected => None,
        StreamReply::Refused { outcome, .. } => Some(outcome),
    }
}

#[tokio::test]
async fn a_principal_of_another_trust_domain_is_refused_and_recorded() {
    let siege = Siege::begin().await;
    let peer = siege.tunnel().await;
    let admin = SpiffeId::new("spiffe://west.example/ns/production/sa/admin").unwrap();
    let request = SvidRequest { id: admin, names: Vec::new(), validity: hour() };
    let stolen = Arc::new(siege.fleet["west"].authority().issue(&request).unwrap().chain()[0].clone());
    let claims = [
        vouched("spiffe://west.example/ns/production/sa/admin"),
        vouched("spiffe://east.example/ns/production/sa/frontend"),
        Caller::Workload {
            id: SpiffeId::new("spiffe://west.example/ns/production/sa/admin").unwrap(),
            certificate: None,
        },
        // West's workloads show their certificates to everybody they call, mallory among them.
        Caller::Workload {
            id: SpiffeId::new("spiffe://west.example/ns/production/sa/admin").unwrap(),
            certificate: Some(stolen.clone()),
        },
        Caller::Workload {
            id: SpiffeId::new("spiffe://mallory.example/ns/production/sa/app").unwrap(),
            certificate: Some(stolen),
        },
    ];
    for claim in claims {
        let mut stream = peer.stream(&header(API, 8080, claim).encode().unwrap()).await.unwrap();
        assert_eq!(outcome(stream.reply().await), Some(Outcome::ForeignPrincipal));
    }
    let own = vouched("spiffe://mallory.example/ns/production/sa/app");
    let mut stream = peer.stream(&header(API, 8080, own).encode().unwrap()).await.unwrap();
    assert_eq!(outcome(stream.reply().await), None, "its own principals are its own business");
    until("the refusals are recorded", async || {
        (siege.fleet["west"].metrics().await.ended("Inbound", "foreign-principal") == 5.0).then_some(())
    })
    .await;
    assert!(peer.is_open());
    siege.west_is_well().await;
}

#[tokio::test]
async fn only_what_is_exported_is_reached_through_a_tunnel() {
    let siege = Siege::begin().await;
    let peer = siege.tunnel().await;
    for (service, port) in [("production/secret", 8080), (API, 22), ("kube-system/api", 8080)] {
        let mut stream = peer.stream(&header(service, port, Caller::Unknown).encode().unwrap()).await.unwrap();
        let outcome = outcome(stream.reply().await);
        assert_eq!(outcome, Some(Outcome::NotExported), "{service}:{port}");
    }
    siege.west_is_well().await;
}

#[tokio::test]
async fn what_is_exported_to_others_alone_is_refused_as_what_does_not_exist() {
    let siege = Siege::begin().await;
    let west = &siege.fleet["west"];
    west.export(&Export::new("production/closed", 8080, west.host(10)).annotated("export-to", "north"));
    until("the export is in force", async || {
        (west.tables().await["exports"]["production/closed"]["export_to"][0] == "north").then_some(())
    })
    .await;
    let peer = siege.tunnel().await;
    let mut words = Vec::new();
    for service in ["production/closed", "production/absent"] {
        let mut stream = peer.stream(&header(service, 8080, Caller::Unknown).encode().unwrap()).await.unwrap();
        let StreamReply::Refused { outcome, reason, by } = stream.reply().await else { panic!("{service} is reached") };
        assert_eq!((outcome, by), (Outcome::NotExported, None), "{service}");
        words.push(reason.replace(service, "it"));
    }
    assert_eq!(words[0], words[1], "the words do not tell them apart");
    siege.west_is_well().await;
}

#[tokio::test]
async fn a_gateway_that_does_not_say_what_it_imports_is_shown_as_such_and_is_no_failure() {
    let siege = Siege::begin().await;
    let importer = async || {
        let services = siege.fleet["west"].admin().await.services().await.unwrap();
        let export = services.into_iter().find(|service| service.name == "api")?.export?;
        export.importers.into_iter().find(|importer| importer.cluster == "mallory")
    };
    let lost = async || importer().await.filter(|importer| importer.state == "no-tunnel");
    until("there is no tunnel to mallory", lost).await;
    let mut peer = siege.tunnel().await;
    let silent = until("mallory does not say", async || {
        // It lives, and is heard.
        peer.tell(Message::Ping(Ping::default())).await.unwrap();
        importer().await.filter(|importer| importer.state == "unknown")
    });
    let silent = silent.await;
    assert_eq!((silent.reached, silent.why_not.as_str()), (false, "unknown: its gateway does not say"));
}

#[tokio::test]
async fn a_header_that_is_too_long_or_no_header_is_refused_and_the_tunnel_goes_on() {
    let siege = Siege::begin().await;
    let peer = siege.tunnel().await;
    let oversized = [&u16::try_from(MAX_HEADER + 1).unwrap().to_be_bytes(), vec![0; 8000].as_slice()].concat();
    let mut stream = peer.stream(&oversized).await.unwrap();
    assert_eq!(outcome(stream.reply().await), Some(Outcome::HeaderTooLarge));
    let garbage = [&64_u16.to_be_bytes(), [0xff; 64].as_slice()].concat();
    let mut stream = peer.stream(&garbage).await.unwrap();
    assert_eq!(outcome(stream.reply().await), Some(Outcome::ProtocolError));
    let mut truncated = peer.stream(&[0, 64, 1, 2]).await.unwrap();
    truncated.send.finish().unwrap();
    assert_eq!(outcome(truncated.reply().await), Some(Outcome::ProtocolError));
    let metrics = siege.fleet["west"].metrics().await;
    assert_eq!(metrics.ended("Inbound", "header-too-large"), 1.0, "{metrics:?}");
    assert!(peer.is_open(), "one bad stream is no reason to lose the others");
    siege.west_is_well().await;
}

#[tokio::test]
async fn a_peer_that_lies_about_its_cluster_or_its_catalog_loses_its_tunnel() {
    let siege = Siege::begin().await;
    let snapshot = |cluster: &str| {
        let catalog = Catalog { cluster: cluster.to_owned(), services: Vec::new() };
        let catalog = Some(catalog);
        Message::Snapshot(CatalogSnapshot { revision: 1, digest: vec![0; 32].into(), unchanged: false, catalog })
    };
    let cases: [(&str, Vec<Message>); 6] = [
        ("calls itself", vec![Message::Hello(hello("west"))]),
        ("catalog", vec![Message::Hello(hello("mallory")), snapshot("west")]),
        ("not a hello", vec![snapshot("mallory")]),
        ("hello twice", vec![Message::Hello(hello("mallory")), Message::Hello(hello("mallory"))]),
        ("versions", vec![Message::Hello(Hello { min_version: 0, max_version: 0, ..hello("mallory") })]),
        ("versions", vec![Message::Hello(Hello { min_version: 7, max_version: 9, ..hello("mallory") })]),
    ];
    for (expected, messages) in cases {
        let shown = format!("{messages:?}");
        let reason = siege.closed_by(messages).await;
        assert!(reason.contains(expected), "{shown} was answered with {reason:?}");
    }
    assert_eq!(siege.fleet["west"].tables().await["imports"].as_object().unwrap().len(), 1, "nothing was believed");
    siege.west_is_well().await;
}

#[tokio::test]
async fn bytes_that_are_no_control_messages_end_the_tunnel_and_nothing_else() {
    let siege = Siege::begin().await;
    for bytes in [&[0xff; 64][..], &[0, 0, 0, 3, 0xff, 0xff, 0xff]] {
        let mut peer = siege.tunnel().await;
        peer.write_control(bytes).await.unwrap();
        let reason = peer.closed().await;
        assert!(reason.contains("control message"), "{reason}");
    }
    siege.west_is_well().await;
}

/// A leaf of mallory's authority that its own gateway would never issue.
fn forged(authority: &Authority, ids: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Credential {
    let mut params = CertificateParams::default();
    params.subject_alt_names = ids.iter().map(|id| SanType::URI((*id).try_into().unwrap())).collect();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    let issuer_key = KeyPair::from_pem(authority.key_pem().expose()).unwrap();
    let issuer = Issuer::from_ca_cert_der(authority.certificate(), issuer_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let chain = vec![leaf.der().clone(), authority.certificate().clone()];
    Credential { chain, key: key.serialize_der().try_into().unwrap() }
}

/// Credentials that must open no tunnel, and a word of the reason.
fn refused_credentials(mallory: &Authority) -> Vec<(&'static str, Credential, &'static str)> {
    let now = Timestamp::from(SystemTime::now());
    let expired = Validity { not_before: Timestamp(now.0 - 120), not_after: Timestamp(now.0 - 61) };
    let future = Validity { not_before: Timestamp(now.0 + 3600), not_after: Timestamp(now.0 + 7200) };
    let name = "spiffe://mallory.example/landbridge/gateway";
    // The right names, but signed by somebody who is no authority of that trust domain.
    let stranger = |domain: &str| Authority::generate(&TrustDomain::new(domain).unwrap(), "stranger", hour()).unwrap();
    let (nowhere, west) = ("spiffe://nowhere.example/landbridge/gateway", "spiffe://west.example/landbridge/gateway");
    vec![
        ("expired", credential(mallory, name, expired), "expired"),
        ("not yet valid", credential(mallory, name, future), "is valid from"),
        ("of no member", credential(mallory, "spiffe://mallory.example/ns/a/sa/b", hour()), "gateway id of a member"),
        ("of a stranger", credential(&stranger("mallory.example"), name, hour()), "mallory.example"),
        ("of an unknown trust domain", credential(&stranger("nowhere.example"), nowhere, hour()), "nowhere.example"),
        ("of a stranger who calls itself west", credential(&stranger("west.example"), west, hour()), "west.example"),
        ("of mallory who calls itself west", forged(mallory, &[west], |_| {}), "west.example"),
        ("without a URI", forged(mallory, &[], |_| {}), "URI"),
        ("with two URIs", forged(mallory, &[name, west], |_| {}), "URI"),
        (
            "of an authority",
            forged(mallory, &[name], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "authority",
        ),
    ]
}

#[tokio::test]
async fn certificates_that_break_a_rule_open_no_tunnel() {
    let siege = Siege::begin().await;
    for (what, credential, expected) in refused_credentials(&siege.fleet["mallory"].authority()) {
        let mut peer = siege.dial(credential).await;
        // The greeting may go out before the refusal arrives.
        let _ = peer.tell(Message::Hello(hello("mallory"))).await;
        let reason = peer.closed().await;
        assert!(reason.contains(expected), "{what}: {reason}");
    }
    siege.fleet["west"].reaches("mallory", false).await;
    siege.west_is_well().await;
}

#[tokio::test]
async fn whoever_answers_at_a_members_address_with_another_certificate_is_not_talked_to() {
    let siege = Siege::begin().await;
    let (west, place) = (&siege.fleet["west"], siege.fleet["mallory"].tunnel());
    // Three: the pauses between dials grow.
    for (what, credential, _) in refused_credentials(&siege.fleet["mallory"].authority()).into_iter().skip(3).take(3) {
        let listener = Listener::at(siege.fleet.network(), place, credential);
        let reason = listener.refusal().await;
        assert!(reason.contains("certificate"), "{what}: {reason}");
    }
    west.reaches("mallory", false).await;
    until("the status says why there is no tunnel", async || {
        let status = west.admin().await.status().await.unwrap();
        let peer = status.peers.into_iter().find(|peer| peer.cluster == "mallory")?;
        peer.last_error.contains("certificate").then_some(())
    })
    .await;
    siege.west_is_well().await;
}

#[tokio::test]
async fn a_control_message_over_the_limit_ends_the_tunnel_before_it_is_read() {
    let siege = Siege::begin().await;
    let mut peer = siege.tunnel().await;
    let length = u32::try_from(MAX_CONTROL_FRAME + 1).unwrap();
    peer.write_control(&length.to_be_bytes()).await.unwrap();
    let reason = peer.closed().await;
    assert!(reason.contains("control message") && reason.contains(&length.to_string()), "{reason}");
    siege.west_is_well().await;
}

#[tokio::test]
async fn a_flood_of_streams_is_held_to_its_limit_and_disturbs_nobody() {
    let siege = Siege::begin().await;
    let peer = siege.tunnel().await;
    let header = header(API, 8080, Caller::Unknown).encode().unwrap();
    let mut streams = Vec::new();
    for number in 0..500 {
        let half = if number % 2 == 0 { &header[..] } else { &header[..header.len() / 2] };
        streams.push(peer.stream(half).await.unwrap());
    }
    siege.west_is_well().await;
    for stream in streams.iter_mut().step_by(2) {
        assert_eq!(outcome(stream.reply().await), None);
    }
    peer.close();
    until("every stream of the flood has ended", async || {
        let metrics = siege.fleet["west"].metrics().await;
        (metrics.open() == 0.0).then_some(())
    })
    .await;
    assert_eq!(siege.fleet["west"].metrics().await.ended("Inbound", "aborted"), 0.0);
    siege.west_is_well().await;
}

#[tokio::test]
async fn garbage_and_replayed_datagrams_at_the_tunnel_port_change_nothing() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let _echo = Echo::start("west", west.at(10, 8080), false).await.unwrap();
    west.export(&Export::new(API, 8080, west.host(10)));
    east.sees(API, &["west"]).await;
    fleet.network().record(west.tunnel());
    let mut stream = east.connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    let recorded = fleet.network().recorded(west.tunnel());
    assert!(!recorded.is_empty());
    let stranger: SocketAddr = "10.99.0.1:4000".parse().unwrap();
    for (number, (from, datagram)) in recorded.iter().cycle().take(500).enumerate() {
        let mut mangled = datagram.clone();
        let at = number * 31 % mangled.len();
        mangled[at] ^= 0x55;
        for sender in [*from, stranger] {
            fleet.network().inject(sender, west.tunnel(), datagram);
            fleet.network().inject(sender, west.tunnel(), &mangled);
        }
        fleet.network().inject(stranger, west.tunnel(), &bytes(number * 7 % 1400, number as u64));
        tokio::task::yield_now().await;
    }
    assert_eq!(part(&mut stream).await.unwrap(), "bye\n", "what was open goes on");
    let mut after = east.connect(API, 8080).await;
    assert_eq!(line(&mut after).await.unwrap(), "west");
    assert_eq!(part(&mut after).await.unwrap(), "bye\n");
    assert!(east.tables().await["members"]["west"]["reachable"].as_bool().unwrap());
}
