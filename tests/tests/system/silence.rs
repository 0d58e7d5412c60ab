//! A peer whose gateway lives and answers nothing.

use std::time::Duration;

use federation_model::{
    addr::{Port, Transport},
    catalog::{Catalog, EndpointCounts, ExportedService, ServiceKind, ServicePort, SessionAffinity},
    spiffe::SpiffeId,
    time::Timestamp,
};
use federation_pki::{Validity, ca::SvidRequest, trust::TrustStore};
use proto::tunnel::v1::{CatalogSnapshot, control_message::Message};
use tests::{
    client::{line, part},
    fleet::{Fleet, Settings},
    manifests::Export,
    peer::{Credential, Peer},
    probe::Echo,
};
use tokio::time::timeout;

const API: &str = "production/api";
/// A reply is waited for longer than this where nobody else can be asked: 3 times `limits.connect_timeout` and 5 s.
const LESS_THAN_PATIENCE: Duration = Duration::from_secs(10);

/// The service as west would export it, preferred to all others.
fn exports() -> Message {
    let port = ServicePort {
        name: Some("main".parse().unwrap()),
        transport: Transport::Tcp,
        port: Port::new(8080).unwrap(),
        app_protocol: None,
    };
    let service = ExportedService {
        exported_at: Timestamp(1),
        kind: ServiceKind::ClusterSetIp,
        ports: vec![port],
        health: EndpointCounts { ready: 1, terminating: 0 },
        session_affinity: SessionAffinity::None,
        priority: 0,
        weight: 100,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: [].into(),
        annotations: [].into(),
    };
    let catalog = Catalog { cluster: "west".parse().unwrap(), services: [(API.parse().unwrap(), service)].into() };
    let digest = catalog.digest().0.to_vec().into();
    let catalog = Some((&catalog).into());
    Message::Snapshot(CatalogSnapshot { revision: 1, digest, unchanged: false, catalog })
}

#[tokio::test]
async fn a_connection_does_not_wait_for_a_gateway_that_says_nothing_more() {
    let settings = ["east", "west", "north"].map(Settings::attentive);
    let mut fleet = Fleet::with(settings).await;
    let _echo = Echo::start("north", fleet["north"].at(10, 8080), false).await.unwrap();
    fleet["north"].export(&Export::new(API, 8080, fleet["north"].host(10)).annotated("priority", "1"));
    fleet["east"].sees(API, &["north"]).await;
    fleet["west"].kill().await;
    fleet["east"].reaches("west", false).await;

    // In place of west's gateway: it greets, says what it exports, keeps the tunnel open, and nothing else.
    let place = fleet.place();
    let trust = TrustStore::new();
    trust.replace([fleet["east"].authority().bundle(1)]).unwrap();
    let id = SpiffeId::new("spiffe://west.example/landbridge/gateway").unwrap();
    let validity = Validity::starting(std::time::SystemTime::now().into(), Duration::from_secs(3600));
    let svid = fleet["west"].authority().issue(&SvidRequest { id, names: Vec::new(), validity }).unwrap();
    let target = (fleet["east"].tunnel(), trust);
    let mut west = Peer::dial(fleet.network(), place, Credential::from(&svid), target).await.unwrap();
    west.greet("west").await.unwrap();
    west.tell(exports()).await.unwrap();
    fleet["east"].sees(API, &["north", "west"]).await;

    let mut stream = fleet["east"].connect(API, 8080).await;
    let answer = timeout(LESS_THAN_PATIENCE, line(&mut stream)).await.expect("another cluster is asked");
    assert_eq!(answer.unwrap(), "north");
    assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
    assert!(west.is_open(), "the tunnel itself lives");
}
