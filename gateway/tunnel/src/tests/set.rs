//! A cluster set for tests: gateways that know each other, and waiting for conditions with a deadline.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use federation_model::{
    addr::Transport,
    caller::Caller,
    catalog::{Catalog, EndpointCounts, ExportedService, ServiceKind, SessionAffinity},
    edition::Editions,
    export::{Audience, DeliverModes, LocalExport},
    member::Member,
    names::{ClusterName, ServiceKey},
    outcome::Outcome,
    report::ImportReports,
    revocation::{Revocation, RevocationId, Revocations, Subject},
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
    trace::TraceContext,
};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    identity::LiveIdentity,
    svid::Svid,
    trust::TrustStore,
};
use gateway_core::{
    dial::DialConfig,
    header::{Destination, StreamHeader},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use super::lossy::{self, Losses};
use crate::{
    InboundStream, OutboundStream, RecvHalf, Sources, Started, TunnelConfig, TunnelEvent, TunnelSocket, Tunnels,
    identify::Members,
};

const DEADLINE: Duration = Duration::from_secs(20);

pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

pub(super) fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

pub(super) fn header() -> StreamHeader {
    StreamHeader {
        destination: Destination {
            service: "production/web".parse().unwrap(),
            port: federation_model::addr::Port::new(80).unwrap(),
            transport: Transport::Tcp,
            endpoint: None,
        },
        caller: Caller::Unknown,
        trace: TraceContext::from_random(1, 2),
        client: Some("192.0.2.1:5555".parse().unwrap()),
        server_name: None,
    }
}

pub(super) fn catalog(name: &str, services: &[&str]) -> Catalog {
    let service = ExportedService {
        exported_at: Timestamp(1),
        kind: ServiceKind::ClusterSetIp,
        ports: vec![],
        health: EndpointCounts::default(),
        session_affinity: SessionAffinity::None,
        priority: 0,
        weight: 100,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    let key = |service: &&str| format!("production/{service}").parse().unwrap();
    Catalog { cluster: cluster(name), services: services.iter().map(|s| (key(s), service.clone())).collect() }
}

/// Exports by name, each for everyone or for one cluster.
pub(super) fn exports(list: &[(&str, Option<&str>)]) -> BTreeMap<ServiceKey, LocalExport> {
    let export = |(name, only): &(&str, Option<&str>)| {
        let (key, service) = catalog("any", &[name]).services.pop_first().unwrap();
        let audience = only.map_or(Audience::Everyone, |only| Audience::Only([cluster(only)].into()));
        (key, LocalExport { service, endpoints: Vec::new(), deliver: DeliverModes::default(), audience })
    };
    list.iter().map(export).collect()
}

pub(super) async fn read_all(recv: &mut RecvHalf) -> Result<Bytes, Outcome> {
    let mut all = Vec::new();
    while let Some(chunk) = soon("bytes", recv.read()).await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all.into())
}

fn validity() -> Validity {
    Validity::starting(Timestamp::from(SystemTime::now()), Duration::from_secs(3600))
}

pub(super) fn authority(td: &str) -> Authority {
    Authority::generate(&TrustDomain::new(td).unwrap(), td, validity()).unwrap()
}

pub(super) fn svid(authority: &Authority, path: &str) -> Svid {
    svid_for(authority, path, validity())
}

pub(super) fn svid_for(authority: &Authority, path: &str, validity: Validity) -> Svid {
    let id = SpiffeId::new(format!("{}{path}", authority.trust_domain().id_string())).unwrap();
    authority.issue(&SvidRequest { id, names: vec![], validity }).unwrap()
}

pub(super) struct Gateway {
    name: ClusterName,
    pub(super) authority: Authority,
    pub(super) identity: Arc<LiveIdentity>,
    renewed: watch::Sender<u64>,
    trust: Arc<TrustStore>,
    members: watch::Sender<Members>,
    pub(super) catalog: watch::Sender<Editions>,
    pub(super) reports: watch::Sender<Arc<ImportReports>>,
    config: TunnelConfig,
    tunnels: Option<Tunnels>,
    pub(super) inbound: mpsc::Receiver<InboundStream>,
    events: mpsc::Receiver<TunnelEvent>,
    pub(super) tasks: JoinSet<()>,
    runs: u32,
    /// How many of its next datagrams are lost.
    pub(super) losses: Losses,
}

impl Gateway {
    fn new(name: &str, own_advertises: bool, tune: fn(&mut TunnelConfig), losses: usize) -> Self {
        Self::of(name, own_advertises, tune, (losses, authority(&format!("{name}.example"))))
    }

    fn of(
        name: &str,
        own_advertises: bool,
        tune: fn(&mut TunnelConfig),
        (losses, authority): (usize, Authority),
    ) -> Self {
        let mut config = TunnelConfig::new(cluster(name), format!("{name}-1"));
        config.own_advertises = own_advertises;
        config.inbound_queue = 2;
        config.dial = DialConfig {
            initial: Duration::from_millis(20),
            max: Duration::from_millis(200),
            stable: Duration::from_secs(10),
            grace: Duration::from_secs(5),
        };
        tune(&mut config);
        let identity = Arc::new(LiveIdentity::new(svid(&authority, "/landbridge/gateway")));
        let renewed = watch::Sender::new(0);
        let trust = Arc::new(TrustStore::new());
        let members = watch::Sender::new(Members::default());
        let catalog = watch::Sender::new(Editions::from(catalog(name, &["web"])));
        let reports = watch::Sender::default();
        let any = "127.0.0.1:0".parse().unwrap();
        let losses = Losses::new(losses.into());
        let socket = lossy::socket(any, Arc::clone(&losses));
        let sources = Sources {
            identity: Arc::clone(&identity),
            renewed: renewed.subscribe(),
            trust: Arc::clone(&trust),
            members: members.subscribe(),
            catalog: catalog.subscribe(),
            reports: reports.subscribe(),
        };
        let Started { tunnels, inbound, events, driver } = Tunnels::start(config.clone(), socket, sources).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        let (name, tunnels) = (cluster(name), Some(tunnels));
        Self {
            name,
            authority,
            identity,
            renewed,
            trust,
            members,
            catalog,
            reports,
            config,
            tunnels,
            inbound,
            events,
            tasks,
            runs: 1,
            losses,
        }
    }

    pub(super) fn tunnels(&self) -> &Tunnels {
        self.tunnels.as_ref().unwrap()
    }

    /// Starts a stopped gateway on this port, as soon as the last run has left it.
    async fn start(&mut self, address: SocketAddr) {
        self.runs += 1;
        self.config.instance = format!("{}-{}", self.name, self.runs);
        self.tunnels = None;
        let attempt = || {
            let sources = Sources {
                identity: Arc::clone(&self.identity),
                renewed: self.renewed.subscribe(),
                trust: Arc::clone(&self.trust),
                members: self.members.subscribe(),
                catalog: self.catalog.subscribe(),
                reports: self.reports.subscribe(),
            };
            Tunnels::start(self.config.clone(), TunnelSocket::Bind(address), sources).ok()
        };
        let started = soon("a free port", async {
            loop {
                match attempt() {
                    Some(started) => break started,
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        (self.tunnels, self.inbound, self.events) = (Some(started.tunnels), started.inbound, started.events);
        self.tasks.spawn(started.driver);
    }

    fn member(&self) -> Member {
        let address = self.tunnels().local_addr().unwrap().to_string();
        Member {
            cluster: self.name.clone(),
            gateway_id: SpiffeId::new(format!("spiffe://{}.example/landbridge/gateway", self.name)).unwrap(),
            advertise: if self.config.own_advertises { vec![address.parse().unwrap()] } else { vec![] },
            bundle: self.authority.bundle(1),
            region: String::new(),
            zone: String::new(),
            lineage: federation_model::lineage::Lineage::default(),
            joined_at: Timestamp(0),
        }
    }

    fn learn(&self, members: BTreeMap<ClusterName, Member>) {
        let own = self.authority.bundle(1);
        self.trust.replace(members.values().map(|member| member.bundle.clone()).chain([own])).unwrap();
        self.members.send_replace(Arc::new(members));
    }

    /// Presents another certificate, to live tunnels too.
    pub(super) fn renew(&self, svid: Svid) {
        self.identity.replace(svid);
        self.renewed.send_modify(|count| *count += 1);
    }

    /// The serial number of its certificate.
    pub(super) fn serial(&self) -> Subject {
        let serial = self.identity.current().serial().parse().unwrap();
        Subject::Serial { trust_domain: self.authority.trust_domain().clone(), serial }
    }

    /// Revokes these and nothing else, while the members stay what they are; gives the members as they were sent.
    pub(super) fn revoke(&self, subjects: &[Subject]) -> Members {
        let revocation = |(number, subject): (u64, &Subject)| {
            let (reason, by) = ("key lost".parse().unwrap(), "admin".parse().unwrap());
            let (id, subject) = (RevocationId::from_bits(number), subject.clone());
            Arc::new(Revocation { id, subject, reason, by, at: Timestamp(1) })
        };
        self.trust.revoke(&Arc::new(Revocations::of((0..).zip(subjects).map(revocation)).unwrap()));
        let members: Members = Arc::new(BTreeMap::clone(&self.members.borrow()));
        self.members.send_replace(Arc::clone(&members));
        members
    }

    pub(super) fn alter(&self, peer: &str, change: impl FnOnce(&mut Member)) {
        let mut members = BTreeMap::clone(&self.members.borrow());
        change(members.get_mut(&cluster(peer)).unwrap());
        self.learn(members);
    }

    /// Waits until the tunnels are as wanted.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Tunnels) -> bool) {
        let mut changes = self.tunnels().changes();
        let wait = async {
            while !wanted(self.tunnels()) {
                changes.changed().await.unwrap();
            }
        };
        if timeout(DEADLINE, wait).await.is_err() {
            panic!("{} within {DEADLINE:?}: not {what}: {:#?}", self.name, self.tunnels().status());
        }
    }

    pub(super) async fn reachable_is(&self, peer: &str, reachable: bool) {
        let peer = cluster(peer);
        let what = format!("{peer} reachable: {reachable}");
        self.until(&what, |tunnels| tunnels.reachable(&peer) == reachable).await;
    }

    /// Waits until dialling `peer` has failed for this reason.
    pub(super) async fn fails(&self, peer: &str, why: &str) {
        let peer = cluster(peer);
        self.until(&format!("failing: {why}"), |tunnels| {
            let status = tunnels.status().into_iter().find(|status| status.cluster == peer);
            status.and_then(|status| status.last_error).is_some_and(|error| error.contains(why))
        })
        .await;
    }

    pub(super) async fn next_event(&mut self) -> TunnelEvent {
        soon("event", self.events.recv()).await.unwrap()
    }

    /// The next catalog of a peer.
    pub(super) async fn catalog_of(&mut self, peer: &str) -> Catalog {
        loop {
            if let TunnelEvent::Catalog { cluster, catalog } = self.next_event().await
                && cluster.as_str() == peer
            {
                return Arc::unwrap_or_clone(catalog);
            }
        }
    }
}

pub(super) struct Set(BTreeMap<String, Gateway>);

impl Set {
    /// Gateways that know nobody yet.
    pub(super) fn apart(names: &[&str]) -> Self {
        Self::build(names, &[], |_| {}, 0)
    }

    /// Gateways that all know each other.
    pub(super) fn of(names: &[&str]) -> Self {
        Self::tuned(names, |_| {})
    }

    pub(super) fn tuned(names: &[&str], tune: fn(&mut TunnelConfig)) -> Self {
        let set = Self::build(names, &[], tune, 0);
        set.publish();
        set
    }

    /// As [`Set::of`], with further gateways nobody can dial.
    pub(super) fn outbound_only(names: &[&str], hidden: &[&str]) -> Self {
        let set = Self::build(names, hidden, |_| {}, 0);
        set.publish();
        set
    }

    /// As [`Set::of`], where the first datagram of the first gateway is lost.
    pub(super) fn with_lossy_first(names: &[&str]) -> Self {
        let set = Self::build(names, &[], |_| {}, 1);
        set.publish();
        set
    }

    fn build(names: &[&str], hidden: &[&str], tune: fn(&mut TunnelConfig), losses: usize) -> Self {
        let all = names.iter().map(|name| (*name, true)).chain(hidden.iter().map(|name| (*name, false)));
        let gateway = |(index, (name, advertises))| {
            let gateway = Gateway::new(name, advertises, tune, if index == 0 { losses } else { 0 });
            (name.to_owned(), gateway)
        };
        Self(all.enumerate().map(gateway).collect())
    }

    /// A second gateway of a cluster, called `<cluster>2` here.
    pub(super) fn add_replica(&mut self, name: &str) {
        let first = self.get(name);
        let (cert, key) = (first.authority.certificate_pem(), first.authority.key_pem());
        let authority = Authority::from_pem(&cert, key.expose(), first.authority.trust_domain()).unwrap();
        let mut replica = Gateway::of(name, true, |_| {}, (0, authority));
        replica.runs = 10;
        self.0.insert(format!("{name}2"), replica);
        self.publish();
    }

    /// Tells every gateway of all others.
    pub(super) fn publish(&self) {
        let mut members = BTreeMap::<ClusterName, Member>::new();
        for gateway in self.0.values() {
            let member = gateway.member();
            match members.get_mut(&gateway.name) {
                Some(known) => known.advertise.extend(member.advertise),
                None => drop(members.insert(gateway.name.clone(), member)),
            }
        }
        for gateway in self.0.values() {
            let mut others = members.clone();
            others.remove(&gateway.name);
            gateway.learn(others);
        }
    }

    pub(super) fn remove(&self, at: &str, member: &str) {
        let gateway = &self.0[at];
        let mut members = BTreeMap::clone(&gateway.members.borrow());
        members.remove(&cluster(member));
        gateway.learn(members);
    }

    pub(super) fn get(&mut self, name: &str) -> &mut Gateway {
        self.0.get_mut(name).unwrap()
    }

    pub(super) async fn connected(&mut self, one: &str, other: &str) {
        self.get(one).reachable_is(other, true).await;
        self.get(other).reachable_is(one, true).await;
    }

    /// A stream from one gateway to the other, at both ends.
    pub(super) async fn stream(&mut self, from: &str, to: &str, first: &str) -> (OutboundStream, InboundStream) {
        let first = Bytes::copy_from_slice(first.as_bytes());
        let out = self.get(from).tunnels().open(&cluster(to), &header(), first).await.unwrap();
        let inbound = soon("inbound stream", self.get(to).inbound.recv()).await.unwrap();
        (out, inbound)
    }

    /// Stops a gateway as a program would, and waits until it has ended.
    pub(super) async fn stop(&mut self, name: &str) {
        let gateway = self.get(name);
        gateway.tunnels().close("test");
        soon("the driver's end", gateway.tasks.join_next()).await.unwrap().unwrap();
    }

    /// Starts a stopped gateway on the port it had.
    pub(super) async fn restart(&mut self, name: &str) {
        let address = self.get("east").members.borrow()[&cluster(name)].advertise[0].to_string().parse().unwrap();
        self.get(name).start(address).await;
    }
}
