//! Identity from a SPIFFE agent: the same facts with a double of an agent, and with SPIRE where it is installed.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use federation_client::workload::{AgentSocket, WorkloadError, WorkloadEvent, WorkloadWatch};
use federation_model::{
    bundle::TrustBundle,
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    material::{Material, MaterialError},
    trust::TrustStore,
    verify::{Usage, verify_leaf},
};
use gateway::{
    config::{IdentityConfig, IdentitySource},
    identity_source::{Feed, Source},
};
use tests::{
    skip,
    spire::{self, Spire},
    workload::{AgentDouble, IssuedSvid},
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

const GATEWAY: &str = "spiffe://east.example/landbridge/gateway";
/// SPIRE renews an SVID of a minute after half of it, and an agent needs some seconds to hear of an entry.
const PATIENCE: Duration = Duration::from_secs(90);

/// What an agent can be made to do.
trait Agent {
    fn socket(&self) -> AgentSocket;
    /// Issues this id to this process from now on.
    fn register(&mut self, id: &str);
    /// Makes a new SVID come, sooner or later.
    fn rotate(&mut self);
    async fn stop(&mut self);
    fn restart(&mut self);
}

struct Double {
    agent: AgentDouble,
    authority: Authority,
    ids: Vec<String>,
}

impl Double {
    fn start() -> Self {
        Self { agent: AgentDouble::start(), authority: authority("east.example"), ids: Vec::new() }
    }
}

impl Agent for Double {
    fn socket(&self) -> AgentSocket {
        format!("unix://{}", self.agent.socket().display()).parse().unwrap()
    }

    fn register(&mut self, id: &str) {
        self.ids.push(id.to_owned());
        self.rotate();
    }

    fn rotate(&mut self) {
        self.agent.issue(self.ids.iter().map(|id| svid(&self.authority, id)).collect());
    }

    async fn stop(&mut self) {
        self.agent.stop().await;
    }

    fn restart(&mut self) {
        self.agent.restart();
    }
}

impl Agent for Spire {
    fn socket(&self) -> AgentSocket {
        format!("unix://{}", self.socket().display()).parse().unwrap()
    }

    fn register(&mut self, id: &str) {
        Self::register(self, id);
    }

    /// It does so by itself.
    fn rotate(&mut self) {}

    async fn stop(&mut self) {
        self.stop_agent();
    }

    fn restart(&mut self) {
        self.restart_agent();
    }
}

fn authority(td: &str) -> Authority {
    let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(7200));
    Authority::generate(&TrustDomain::new(td).unwrap(), "SPIRE", validity).unwrap()
}

fn svid(authority: &Authority, id: &str) -> IssuedSvid {
    let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(3600));
    let request = SvidRequest { id: id.parse().unwrap(), names: Vec::new(), validity };
    let svid = authority.issue(&request).unwrap();
    IssuedSvid {
        id: id.to_owned(),
        chain: svid.chain()[..1].to_vec(),
        key: svid.key_pem().expose().to_owned(),
        bundle: vec![authority.certificate().clone()],
    }
}

fn gateway_id() -> SpiffeId {
    GATEWAY.parse().unwrap()
}

/// A source that runs for as long as the value lives.
struct Running {
    feed: Feed,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    async fn open(socket: AgentSocket) -> Self {
        let config =
            IdentityConfig { source: IdentitySource::Spire, socket: Some(socket), ..IdentityConfig::default() };
        let source = Source::open(&config, &gateway_id()).await.unwrap().expect("a source outside of the gateway");
        let (feed, stop) = (source.feed(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(source.run(stop.clone()));
        Self { feed, stop, tasks }
    }

    async fn fault(&mut self, words: &str) {
        let wanted = |fault: &Option<String>| fault.as_ref().is_some_and(|fault| fault.contains(words));
        let seen = timeout(PATIENCE, self.feed.fault.wait_for(wanted)).await;
        seen.unwrap_or_else(|_| panic!("a fault with {words:?} is reported")).unwrap();
    }

    async fn no_fault(&mut self) {
        timeout(PATIENCE, self.feed.fault.wait_for(Option::is_none)).await.expect("the fault ends").unwrap();
    }

    async fn new_material(&mut self) -> Arc<Material> {
        timeout(PATIENCE, self.feed.material.changed()).await.expect("a new SVID is put in force").unwrap();
        self.feed.material.borrow_and_update().clone()
    }

    async fn end(mut self) {
        self.stop.cancel();
        timeout(PATIENCE, self.tasks.join_next()).await.expect("a source ends when it is told to").unwrap().unwrap();
    }
}

/// The serial number, when a peer that has the published authorities believes the leaf.
fn believed(material: &Material) -> String {
    let Material::Leaf { svid, authorities } = material else { panic!("an agent issues leaves: {material:?}") };
    let bundle =
        TrustBundle { trust_domain: svid.id().trust_domain().clone(), sequence: 1, authorities: authorities.clone() };
    let store = TrustStore::new();
    store.replace([bundle]).unwrap();
    let verified = verify_leaf(svid.chain(), &store, SystemTime::now().into(), Usage::Server);
    assert_eq!(verified, Ok(gateway_id()));
    svid.serial().to_owned()
}

/// The whole life of a source.
async fn an_agent_is_followed_through_renewal_and_restart(mut agent: impl Agent) {
    let mut watch = WorkloadWatch::new(agent.socket(), gateway_id());
    let event = timeout(PATIENCE, watch.next()).await.unwrap();
    let WorkloadEvent::Fault { error, .. } = event else { panic!("nothing is issued yet: {event:?}") };
    assert_eq!(error, WorkloadError::NoIdentity(gateway_id()));
    assert!(error.to_string().contains("spire-server entry create -spiffeID spiffe://east.example/landbridge/gateway"));
    drop(watch);

    agent.register("spiffe://east.example/ns/production/sa/other");
    agent.register(GATEWAY);
    let mut running = Running::open(agent.socket()).await;
    let first = believed(&running.feed.material.borrow_and_update().clone());
    agent.rotate();
    let second = believed(running.new_material().await.as_ref());
    assert_ne!(first, second);

    agent.stop().await;
    running.fault("the SPIFFE agent").await;
    assert_eq!(believed(&running.feed.material.borrow().clone()), second, "the last good SVID stays");
    agent.restart();
    running.no_fault().await;
    agent.rotate();
    running.new_material().await;
    running.end().await;
}

#[tokio::test]
async fn a_double_of_an_agent_is_followed_through_renewal_and_restart() {
    an_agent_is_followed_through_renewal_and_restart(Double::start()).await;
}

#[tokio::test]
async fn spire_is_followed_through_renewal_and_restart() {
    if !spire::is_installed() {
        skip::say("the Workload API of SPIRE", "spire-server and spire-agent are not on PATH");
        return;
    }
    an_agent_is_followed_through_renewal_and_restart(Spire::start("east.example").await).await;
}

#[tokio::test]
async fn svids_of_other_ids_are_named_and_bad_ones_leave_the_last_good_one_in_force() {
    let mut double = Double::start();
    double.register("spiffe://east.example/ns/production/sa/other");
    let mut watch = WorkloadWatch::new(double.socket(), gateway_id());
    let event = timeout(PATIENCE, watch.next()).await.unwrap();
    let WorkloadEvent::Fault { error, .. } = event else { panic!("the wanted id is not issued: {event:?}") };
    assert!(
        error.to_string().contains("issues spiffe://east.example/ns/production/sa/other to this process"),
        "{error}"
    );
    // The watch goes on by itself.
    double.register(GATEWAY);
    let material = timeout(PATIENCE, async {
        loop {
            if let WorkloadEvent::Material(material) = watch.next().await {
                return material;
            }
        }
    });
    believed(&material.await.unwrap());

    let mut running = Running::open(double.socket()).await;
    let good = believed(&running.feed.material.borrow_and_update().clone());
    let mut foreign = svid(&double.authority, GATEWAY);
    foreign.bundle = vec![authority("east.example").certificate().clone()];
    double.agent.issue(vec![foreign]);
    running.fault("does not lead to the bundle of the agent").await;
    assert_eq!(believed(&running.feed.material.borrow().clone()), good);
    double.rotate();
    running.no_fault().await;
    running.end().await;
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_named_with_what_to_check() {
    let mut watch = WorkloadWatch::new("unix:///nowhere/agent.sock".parse().unwrap(), gateway_id());
    for _ in 0..2 {
        let event = timeout(PATIENCE, watch.next()).await.unwrap();
        let WorkloadEvent::Fault { error, .. } = event else { panic!("nobody is there: {event:?}") };
        assert!(
            error.to_string().contains("the SPIFFE agent at unix:///nowhere/agent.sock does not answer"),
            "{error}"
        );
        assert!(error.to_string().contains("identity.socket"), "{error}");
    }
}

#[tokio::test]
async fn an_expired_svid_is_refused_as_material() {
    let mut double = Double::start();
    let past = Validity { not_before: Timestamp(1_000), not_after: Timestamp(2_000) };
    let request = SvidRequest { id: gateway_id(), names: Vec::new(), validity: past };
    let old = double.authority.issue(&request).unwrap();
    let mut issued = svid(&double.authority, GATEWAY);
    (issued.chain, issued.key) = (old.chain()[..1].to_vec(), old.key_pem().expose().to_owned());
    double.agent.issue(vec![issued]);
    let mut watch = WorkloadWatch::new(double.socket(), gateway_id());
    let event = timeout(PATIENCE, watch.next()).await.unwrap();
    let WorkloadEvent::Fault { error: WorkloadError::Material(error), .. } = event else { panic!("{event:?}") };
    assert!(matches!(error, MaterialError::Expired { place: "the SVID", number: 1, .. }), "{error:?}");
    double.stop().await;
}
