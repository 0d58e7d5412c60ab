//! Who is calling: what a destination is told, and what a hostile gateway cannot make it believe.

use std::{net::SocketAddr, time::Duration};

use federation_model::{
    addr::{Port, Transport},
    caller::Caller,
    outcome::Outcome,
    spiffe::SpiffeId,
    time::Timestamp,
    trace::TraceContext,
};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    trust::TrustStore,
};
use gateway_core::header::{Destination, MAX_HEADER, StreamHeader, StreamReply};
use proto::tunnel::v1::{Catalog, CatalogSnapshot, Hello, control_message::Message};
use tests::{
    client::{line, part},
    fleet::{Fleet, Settings},
    manifests::{Export, pod},
    peer::{Credential, Peer, hello},
    probe::{Echo, Seen},
    wait::until,
};

const API: &str = "production/api";

#[tokio::test]
async fn a_destination_is_told_the_principal_of_the_pod_its_cluster_and_how_it_is_known() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let echo = Echo::start("west", west.at(10, 8080), true).await.unwrap();
    west.export(&Export::new(API, 8080, west.host(10)).annotated("deliver", "proxy-v2"));
    east.write("pod.yaml", &pod("production", "frontend-1", "frontend", east.host(20)));
    east.sees(API, &["west"]).await;
    until("the pod is known", async || (!east.tables().await["principals"].as_object()?.is_empty()).then_some(())).await;

    let mut known = east.connect_from(east.host(20), API, 8080).await;
    let source = known.local_addr().unwrap();
    assert_eq!(line(&mut known).await.unwrap(), "west");
    let mut unknown = east.connect_from(east.host(21), API, 8080).await;
    let stranger = unknown.local_addr().unwrap();
    assert_eq!(line(&mut unknown).await.unwrap(), "west");
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        echo.seen(),
        [
            Seen {
                source: Some(source),
                principal: text("spiffe://east.example/ns/production/sa/frontend"),
                cluster: text("east"),
                assurance: text("attested"),
            },
            Seen { source: Some(stranger), principal: None, cluster: text("east"), assurance: text("none") },
        ]
    );
    assert_eq!(part(&mut known).await.unwrap(), "bye\n", "the header is followed by the application's bytes alone");
}

#[tokio::test]
async fn a_caller_of_the_own_cluster_is_introduced_in_the_same_way() {
    let fleet = Fleet::of(&["east"]).await;
    let east = &fleet["east"];
    let echo = Echo::start("east", east.at(10, 8080), true).await.unwrap();
    east.export(&Export::new(API, 8080, east.host(10)).annotated("deliver", "proxy-v2"));
    east.write("pod.yaml", &pod("production", "frontend-1", "frontend", east.host(20)));
    east.sees(API, &["east"]).await;
    until("the pod is known", async || (!east.tables().await["principals"].as_object()?.is_empty()).then_some(())).await;
    let mut stream = east.connect_from(east.host(20), API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "east");
    let seen = echo.seen();
    assert_eq!(seen[0].principal.as_deref(), Some("spiffe://east.example/ns/production/sa/frontend"));
    assert_eq!((seen[0].cluster.as_deref(), seen[0].assurance.as_deref()), (Some("east"), Some("attested")));
}

#[tokio::test]
async fn an_address_that_two_pods_claim_speaks_for_neither() {
    let fleet = Fleet::of(&["east"]).await;
    let east = &fleet["east"];
    let echo = Echo::start("east", east.at(10, 8080), true).await.unwrap();
    east.export(&Export::new(API, 8080, east.host(10)).annotated("deliver", "proxy-v2"));
    let (one, two) = (pod("production", "one", "one", east.host(20)), pod("production", "two", "two", east.host(20)));
    let witness = pod("production", "witness", "witness", east.host(22));
    east.write("pods.yaml", &[one, two, witness].join("---\n"));
    east.sees(API, &["east"]).await;
    until("the pods are known", async || (east.tables().await["principals"].as_object()?.len() == 1).then_some(())).await;
    let mut stream = east.connect_from(east.host(20), API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "east");
    assert_eq!((echo.seen()[0].principal.clone(), echo.seen()[0].assurance.as_deref()), (None, Some("none")));
}

/// West serves; mallory is a member whose real gateway is gone, and whose key the test holds.
struct Siege {
    fleet: Fleet,
    place: SocketAddr,
    _echo: Echo,
}

impl Siege {
    async fn begin() -> Self {
        let mut fleet = Fleet::with([Settings::of("west"), Settings::of("mallory")]).await;
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
    Validity::starting(Timestamp::from(std::time::SystemTime::now()), Duration::from_secs(3600))
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
    let claims = [
        vouched("spiffe://west.example/ns/production/sa/admin"),
        vouched("spiffe://east.example/ns/production/sa/frontend"),
        Caller::Workload { id: SpiffeId::new("spiffe://west.example/ns/production/sa/admin").unwrap() },
    ];
    for claim in claims {
        let mut stream = peer.stream(&header(API, 8080, claim).encode().unwrap()).await.unwrap();
        assert_eq!(outcome(stream.reply().await), Some(Outcome::ForeignPrincipal));
    }
    let own = vouched("spiffe://mallory.example/ns/production/sa/app");
    let mut stream = peer.stream(&header(API, 8080, own).encode().unwrap()).await.unwrap();
    assert_eq!(outcome(stream.reply().await), None, "its own principals are its own business");
    until("the refusals are recorded", async || {
        (siege.fleet["west"].metrics().await.ended("Inbound", "foreign-principal") == 3.0).then_some(())
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

#[tokio::test]
async fn certificates_that_break_a_rule_open_no_tunnel() {
    let siege = Siege::begin().await;
    let authority = siege.fleet["mallory"].authority();
    let now = Timestamp::from(std::time::SystemTime::now());
    let hours = |n: u64| n * 3600;
    let expired = Validity { not_before: Timestamp(now.0 - 120), not_after: Timestamp(now.0 - 60) };
    let future = Validity { not_before: Timestamp(now.0 + hours(1)), not_after: Timestamp(now.0 + hours(2)) };
    let name = "spiffe://mallory.example/landbridge/gateway";
    // The right names, but signed by somebody who is no authority of that trust domain.
    let stranger = |domain: &str| {
        let domain = federation_model::spiffe::TrustDomain::new(domain).unwrap();
        Authority::generate(&domain, "stranger", hour()).unwrap()
    };
    let cases = [
        ("expired", credential(&authority, name, expired), "expired"),
        ("not yet valid", credential(&authority, name, future), "not valid before"),
        ("of no member", credential(&authority, "spiffe://mallory.example/ns/a/sa/b", hour()), "gateway"),
        ("of a stranger", credential(&stranger("mallory.example"), name, hour()), ""),
        (
            "of an unknown trust domain",
            credential(&stranger("nowhere.example"), "spiffe://nowhere.example/landbridge/gateway", hour()),
            "nowhere.example",
        ),
        (
            "of another member's trust domain",
            credential(&stranger("west.example"), "spiffe://west.example/landbridge/gateway", hour()),
            "",
        ),
    ];
    for (what, credential, expected) in cases {
        let mut peer = siege.dial(credential).await;
        // The greeting may go out before the refusal arrives.
        let _ = peer.tell(Message::Hello(hello("mallory"))).await;
        let reason = peer.closed().await;
        assert!(reason.contains(expected), "{what}: {reason}");
    }
    assert!(!siege.fleet["west"].tables().await["members"]["mallory"]["reachable"].as_bool().unwrap());
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
        fleet.network().inject(stranger, west.tunnel(), &tests::client::bytes(number * 7 % 1400, number as u64));
        tokio::task::yield_now().await;
    }
    assert_eq!(part(&mut stream).await.unwrap(), "bye\n", "what was open goes on");
    let mut after = east.connect(API, 8080).await;
    assert_eq!(line(&mut after).await.unwrap(), "west");
    assert_eq!(part(&mut after).await.unwrap(), "bye\n");
    assert!(east.tables().await["members"]["west"]["reachable"].as_bool().unwrap());
}
