use std::path::Path;

use federation_model::{
    bundle::TrustBundle,
    caller::Caller,
    catalog::{Catalog, EndpointCounts, ExportedService, ServiceKind, SessionAffinity},
    lineage::Lineage,
    names::ServiceKey,
    outcome::Outcome,
    revocation::{Revocation, RevocationId, Subject},
    spiffe::SpiffeId,
    time::Timestamp,
};
use federation_runtime::admin::Readiness;
use futures::FutureExt as _;

use super::*;
use crate::live::Grant;

fn west() -> ClusterName {
    "west".parse().unwrap()
}

fn members(names: &[&str]) -> Members {
    let member = |name: &&str| {
        let cluster: ClusterName = name.parse().unwrap();
        let gateway_id = SpiffeId::new(format!("spiffe://{name}.example/landbridge/gateway")).unwrap();
        let trust_domain = gateway_id.trust_domain().clone();
        let bundle = TrustBundle { trust_domain, sequence: 1, authorities: Vec::new() };
        let (advertise, joined_at) = (Vec::new(), Timestamp(1));
        let (region, zone) = (String::new(), String::new());
        (
            cluster.clone(),
            Member { cluster, gateway_id, advertise, bundle, lineage: Lineage::default(), region, zone, joined_at },
        )
    };
    Arc::new(names.iter().map(member).collect())
}

fn api() -> ServiceKey {
    "production/api".parse().unwrap()
}

fn told(reachable: bool) -> TunnelEvent {
    TunnelEvent::Reachable { cluster: west(), reachable }
}

fn exports() -> TunnelEvent {
    let service = ExportedService {
        exported_at: Timestamp(1),
        kind: ServiceKind::ClusterSetIp,
        ports: Vec::new(),
        health: EndpointCounts { ready: 1, terminating: 0 },
        session_affinity: SessionAffinity::None,
        priority: 0,
        weight: 1,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    let catalog = Arc::new(Catalog { cluster: west(), services: [(api(), service)].into() });
    TunnelEvent::Catalog { cluster: west(), catalog }
}

fn control(dir: &Path) -> Control {
    let file = dir.join("gateway.toml");
    let text =
        format!("[cluster]\nname = \"east\"\ntrust_domain = \"east.example\"\n[state]\ndir = \"{}\"\n", dir.display());
    std::fs::write(&file, text).unwrap();
    let config: Config = federation_runtime::config::load(Some(&file), &BTreeMap::new()).unwrap();
    let readiness = Readiness::default();
    let outputs = ControlOutputs {
        tables: watch::Sender::new(Arc::new(first_tables(&config))),
        catalog: watch::Sender::new(Editions::from(Catalog::empty(config.cluster.name.clone()))),
        judged: watch::Sender::default(),
        asking: None,
        compiled: readiness.condition("tables"),
        peers: readiness.condition("peers"),
    };
    Control::new(&config, outputs, Live::default(), None, &mut Registry::default()).unwrap()
}

/// Whether west is reachable and its service imported.
fn seen(control: &Control) -> (bool, bool) {
    let tables = control.outputs.tables.borrow().clone();
    (tables.is_reachable(&west()), tables.imports().contains_key(&api()))
}

#[tokio::test]
async fn what_the_tunnels_tell_late_of_a_cluster_that_left_is_in_no_tables() {
    let dir = tempfile::tempdir().unwrap();
    let mut control = control(dir.path());
    control.update(&Manifests::default(), members(&["west"]));
    control.update(&Manifests::default(), members(&[]));
    control.handle(told(true));
    control.handle(exports());
    control.update(&Manifests::default(), members(&[]));
    assert_eq!(seen(&control), (false, false));
    control.handle(told(false));
    control.update(&Manifests::default(), members(&[]));
    assert_eq!(control.peers.held(&west()), None, "nothing is kept of it");
}

#[tokio::test]
async fn a_cluster_that_leaves_and_returns_before_its_tunnel_is_lost_is_back_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut control = control(dir.path());
    control.handle(told(true));
    control.handle(exports());
    control.update(&Manifests::default(), members(&["west"]));
    assert_eq!(seen(&control), (true, true));
    control.update(&Manifests::default(), members(&[]));
    assert_eq!(seen(&control), (false, false));
    // The tunnels saw only that the members are what they were, and have nothing to tell.
    control.update(&Manifests::default(), members(&["west"]));
    assert_eq!(seen(&control), (true, true));
}

#[tokio::test]
async fn tables_and_live_connections_follow_what_is_revoked_before_it_is_said_that_they_do() {
    let dir = tempfile::tempdir().unwrap();
    let control = control(dir.path());
    let (tables, mut judged, live) =
        (control.outputs.tables.subscribe(), control.outputs.judged.subscribe(), control.live.clone());
    let caller = SpiffeId::new("spiffe://east.example/ns/a/sa/web").unwrap();
    let vouched = Caller::Vouched { id: caller.clone() };
    let grant = Grant { peer: None, delivered: None, caller: vouched, attested_at: None, requests: None };
    let mut connection = live.register(grant);
    let (_manifests, manifests) = watch::channel(Arc::new(Manifests::default()));
    let (_membership, membership) = watch::channel(None);
    let (sender, receiver) = watch::channel(members(&["west"]));
    let (_events, events) = mpsc::channel(8);
    let trust = Arc::new(TrustStore::new());
    let stop = CancellationToken::new();
    let inputs = ControlInputs { manifests, members: receiver, membership, trust: Arc::clone(&trust), events };
    let revoking = async {
        let (reason, by) = ("key lost".parse().unwrap(), "admin".parse().unwrap());
        let (id, subject) = (RevocationId::from_bits(1), Subject::Id(caller.clone()));
        let revocation = Arc::new(Revocation { id, subject, reason, by, at: Timestamp(1) });
        trust.revoke(&Arc::new(Revocations::of([revocation]).unwrap()));
        let sent = members(&["west"]);
        sender.send_replace(sent.clone());
        judged.wait_for(|judged| Arc::ptr_eq(judged, &sent)).await.unwrap();
        assert!(tables.borrow().revoked(&caller).is_some());
        assert_eq!(connection.cut().now_or_never(), Some(Outcome::Revoked));
        stop.cancel();
    };
    tokio::join!(control.run(inputs, stop.clone()), revoking);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_changes_without_pause_does_not_make_the_loop_compile_without_pause() {
    let dir = tempfile::tempdir().unwrap();
    let control = control(dir.path());
    let (tables, begun) = (control.outputs.tables.subscribe(), Instant::now());
    let (_manifests, manifests) = watch::channel(Arc::new(Manifests::default()));
    let (_membership, membership) = watch::channel(None);
    let (_members, members) = watch::channel(members(&["west"]));
    let (sender, events) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let changes = async {
        for number in 0..100 {
            sender.send(told(number % 2 == 0)).await.unwrap();
        }
        stop.cancel();
    };
    let trust = Arc::new(TrustStore::new());
    tokio::join!(control.run(ControlInputs { manifests, members, membership, trust, events }, stop.clone()), changes);
    let compiled = u32::try_from(tables.borrow().generation()).unwrap();
    assert!(compiled > 1 && begun.elapsed() >= LEAST_PAUSE * (compiled - 1), "{compiled} in {:?}", begun.elapsed());
}
