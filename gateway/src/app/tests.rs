use std::{collections::BTreeMap, net::Ipv4Addr, path::Path, time::Duration};

use federation_client::{membership::Joined, watch::Position};
use federation_model::{
    addr::Port, caller::Caller, member::Member, names::ClusterName, outcome::Outcome, spiffe::SpiffeId,
    trace::TraceContext,
};
use federation_pki::{Validity, ca::Authority};
use federation_runtime::{config, reference};
use gateway_http::Exchange;
use gateway_tunnel::TunnelEvent;
use http::{Method, StatusCode};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet, time::timeout};

use super::*;

mod ends;

use crate::{
    control::first_catalogs::GRACE,
    delegated::Delegated,
    membership::{Membership, MembershipFile},
    record::Direction,
    splice::Counts,
};

const DEADLINE: Duration = Duration::from_secs(20);
/// The least a gateway is told.
const REQUIRED: &str = "cluster.name = \"east\"\ncluster.trust_domain = \"east.example\"\n";

fn member(cluster: &str, advertise: &[&str]) -> Member {
    let gateway_id = SpiffeId::new(format!("spiffe://{cluster}.example/landbridge/gateway")).unwrap();
    let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(3600));
    let authority = Authority::generate(gateway_id.trust_domain(), cluster, validity).unwrap();
    Member {
        cluster: cluster.parse().unwrap(),
        bundle: authority.bundle(1),
        gateway_id,
        advertise: advertise.iter().map(|address| address.parse().unwrap()).collect(),
        region: String::new(),
        zone: String::new(),
        lineage: federation_model::lineage::Lineage::default(),
        joined_at: Timestamp(1),
    }
}

/// The settings of a gateway in `dir`, a member of a set in which west, at these addresses, is the other one.
fn settings(dir: &Path, west: &[&str]) -> Config {
    let file = dir.join("gateway.toml");
    let dir = dir.display();
    let text = format!(
        "{REQUIRED}outbound.sni_listen = \"\"\ndns.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n\
         catalog.dir = \"{dir}/manifests\"\nstate.dir = \"{dir}/state\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let config: Config = config::load(Some(&file), &BTreeMap::new()).unwrap();
    std::fs::create_dir(&config.catalog.dir).unwrap();
    state::create_private_dir(&config.state.dir).unwrap();
    let (service, own) = (member("federation", &[]), member("east", &[]));
    let membership = Membership::from(Joined {
        member: own,
        federation: service.bundle,
        federation_id: service.gateway_id,
        members: vec![member("west", west)],
        revocations: Arc::default(),
        position: Position { store_id: "s".to_owned(), revision: 1, mark: None, former: Vec::new() },
        addresses: Vec::new(),
        pending: false,
        foreign: Vec::new(),
    });
    MembershipFile::in_dir(&config.state.dir).save(&membership).unwrap();
    config
}

async fn opened(dir: &Path, west: &[&str]) -> (Parts, Registry) {
    let mut registry = Registry::with_prefix("landbridge_gateway");
    let socket = TunnelSocket::Bind((Ipv4Addr::LOCALHOST, 0).into());
    (Parts::open(settings(dir, west), socket, None, &mut registry).await.unwrap(), registry)
}

/// The control loop of a gateway that is starting, with the tunnels played by the test.
struct Starting {
    events: mpsc::Sender<TunnelEvent>,
    readiness: Readiness,
    tasks: JoinSet<()>,
    _objects: ObjectSource,
    _follower: Arc<Follower>,
}

async fn starting(dir: &Path, west: &[&str]) -> Starting {
    let (parts, _) = opened(dir, west).await;
    let (events, received) = mpsc::channel(8);
    let (manifests, members) = (parts.objects.subscribe(), parts.follower.members());
    let inputs = ControlInputs {
        manifests,
        members,
        membership: parts.follower.memberships(),
        trust: parts.follower.trust(),
        events: received,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(parts.control.run(inputs, CancellationToken::new()));
    Starting { events, readiness: parts.readiness, tasks, _objects: parts.objects, _follower: parts.follower }
}

impl Starting {
    /// The reason of the condition `peers`, once it is `expected`; on virtual time.
    async fn comes_to(&self, expected: Option<&str>) {
        let reason = || {
            let report = self.readiness.report();
            report.conditions.into_iter().find(|condition| condition.name == "peers").unwrap().reason
        };
        let until = tokio::time::Instant::now() + DEADLINE;
        while reason().as_deref() != expected {
            assert!(tokio::time::Instant::now() < until, "{:?}", reason());
            tokio::time::advance(Duration::from_millis(10)).await;
        }
    }

    async fn tells(&self, event: TunnelEvent) {
        self.events.send(event).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_is_not_ready_before_the_catalogs_of_the_others_have_arrived() {
    let dir = tempfile::tempdir().unwrap();
    let begun = tokio::time::Instant::now();
    let gateway = starting(dir.path(), &["west.example:15443"]).await;
    gateway.comes_to(Some("waiting for the catalogs of west")).await;
    let west: ClusterName = "west".parse().unwrap();
    gateway.tells(TunnelEvent::Reachable { cluster: west.clone(), reachable: true }).await;
    let catalog = Arc::new(Catalog::empty(west.clone()));
    gateway.tells(TunnelEvent::Catalog { cluster: west, catalog }).await;
    gateway.comes_to(None).await;
    assert!(begun.elapsed() < GRACE);
    assert_eq!(gateway.tasks.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_is_ready_without_a_cluster_that_does_not_answer() {
    let dir = tempfile::tempdir().unwrap();
    let begun = tokio::time::Instant::now();
    let gateway = starting(dir.path(), &["west.example:15443"]).await;
    gateway.comes_to(Some("waiting for the catalogs of west")).await;
    gateway.comes_to(None).await;
    assert!(begun.elapsed() >= GRACE);
    assert_eq!(gateway.tasks.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_does_not_wait_for_a_cluster_that_only_dials_out() {
    let dir = tempfile::tempdir().unwrap();
    let begun = tokio::time::Instant::now();
    let gateway = starting(dir.path(), &[]).await;
    gateway.comes_to(None).await;
    assert!(begun.elapsed() < GRACE);
    assert_eq!(gateway.tasks.len(), 1);
}

/// Asks for an address, so that the name server has something to count.
async fn ask(server: SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let header = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00";
    let question = b"\x0aclusterset\x05local\x00\x00\x01\x00\x01";
    socket.send_to(&[&header[..], question].concat(), server).await.unwrap();
    timeout(DEADLINE, socket.recv(&mut [0; 512])).await.unwrap().unwrap();
}

/// A request, so that there is one to count.
fn exchange() -> Exchange {
    Exchange {
        method: Method::GET,
        target: None,
        trace: TraceContext::from_random(1, 1),
        status: Some(StatusCode::OK),
        sent: 0,
        received: 0,
        took: Duration::ZERO,
        outcome: Outcome::Completed,
        admitted: true,
        rule: None,
    }
}

/// The source of a gateway whose API server is not there.
async fn in_kubernetes(dir: &Path, mut config: Config) -> ObjectSource {
    let file = dir.join("kubeconfig");
    let clusters = "clusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}]";
    let contexts = "contexts: [{name: a, context: {cluster: a, user: a}}]";
    std::fs::write(&file, format!("current-context: a\n{clusters}\n{contexts}\nusers: []\n")).unwrap();
    config.catalog.source = crate::config::CatalogSource::Kubernetes;
    config.kubernetes.kubeconfig = Some(file);
    let cluster = kubernetes::connect(&config).await.unwrap();
    ObjectSource::open(&config, cluster).unwrap()
}

#[tokio::test]
async fn nobody_is_told_of_members_before_the_objects_of_the_cluster_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let (parts, _) = opened(dir.path(), &[]).await;
    let (behind, gate) = parts.objects.view().gate(parts.follower.members());
    assert!(gate.is_none() && behind.borrow().len() == 1, "a directory is read before the gateway starts");
    let source = in_kubernetes(dir.path(), parts.config.clone()).await;
    let view = source.view();
    let (behind, gate) = view.gate(parts.follower.members());
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(gate.unwrap().run(stop.clone()));
    tasks.spawn(source.run(stop.clone()));
    let condition = parts.readiness.condition("catalog");
    tasks.spawn(view.clone().judge(condition, stop.clone()));
    let reason = async {
        loop {
            match parts.readiness.blocked_by() {
                Some(reason) if reason.contains("cannot be reached") => return reason,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let reason = timeout(DEADLINE, reason).await.unwrap();
    assert!(reason.starts_with("catalog: waiting for "), "{reason}");
    assert!(behind.borrow().is_empty());
    assert!(
        view.findings().iter().all(|finding| finding.detail.contains("cannot be reached")),
        "{:?}",
        view.findings()
    );
    stop.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn the_reference_of_metrics_is_what_a_gateway_measures() {
    let dir = tempfile::tempdir().unwrap();
    let (parts, mut registry) = opened(dir.path(), &[]).await;
    in_kubernetes(dir.path(), parts.config.clone()).await.view().register(&mut registry);
    federation_kube::controllers::metrics::Metrics::register(&mut registry);
    let resolv_conf = dir.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    let zone = parts.config.dns.zone.clone();
    Delegated::new(zone, &resolv_conf, &mut registry).look().await.unwrap();
    let dns = DnsConfig { listen: parts.config.dns.listen, ttl: parts.config.dns.ttl };
    let dns = DnsServer::bind(dns, &mut registry).await.unwrap();
    let (stop, mut tasks, address) = (CancellationToken::new(), JoinSet::new(), dns.local_addr());
    tasks.spawn(dns.run(parts.tables.clone(), stop.clone()));
    tasks.spawn(parts.started.driver);
    let record = parts.path.recorder.begin(Direction::Outbound, None, TraceContext::from_random(1, 1));
    record.connected();
    record.end(Outcome::Completed, Counts::default(), "");
    let to = (&"shop/api".parse().unwrap(), Port::new(80).unwrap());
    parts.path.recorder.request(&exchange(), (&Caller::Unknown, &"east".parse().unwrap()), to);
    ask(address).await;
    let known = async {
        loop {
            match reference::metrics(&registry) {
                Ok(table) => return table,
                // The driver has not seen the members yet.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let Ok(table) = timeout(DEADLINE, known).await else {
        panic!("{}", reference::metrics(&registry).unwrap_err());
    };
    stop.cancel();
    // Nothing is measured of the clock of a peer without a tunnel, nor of an API server that answers nothing, nor is anything
    // exported.
    let mut table = table;
    let unmeasured = [
        ("tunnel_clock_skew_seconds", "`peer`"),
        ("catalog_newest_event_timestamp_seconds", "`resource`"),
        ("export_clusters_reached", "`namespace`, `service`"),
    ];
    for (name, labels) in unmeasured {
        let row = format!("| `landbridge_gateway_{name}` | gauge | ");
        table = table.replace(&row, &format!("{row}{labels}"));
    }
    let page = reference::page(env!("CARGO_MANIFEST_DIR"), "metrics.md");
    reference::agree(&page, "gateway", &table).unwrap();
}

#[test]
fn the_reference_of_settings_has_every_key_and_its_default() {
    let page = reference::page(env!("CARGO_MANIFEST_DIR"), "config.md");
    let documented = reference::documented(&std::fs::read_to_string(page).unwrap(), "gateway.toml");
    let keys: Vec<String> = documented.keys().cloned().collect();
    let known: Vec<String> = reference::keys::<Config>(REQUIRED).unwrap().into_iter().collect();
    assert_eq!(keys, known);
    reference::are_defaults::<Config>(&documented, REQUIRED).unwrap();
}

#[test]
fn a_start_without_listeners_for_server_names_is_asked_for_with_an_empty_address() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(settings(dir.path(), &[]).outbound.sni_listen, None);
}
