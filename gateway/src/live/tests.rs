use std::{
    collections::{BTreeMap, BTreeSet},
    task::Poll,
    time::{Duration, SystemTime},
};

use federation_model::{
    addr::Transport,
    bundle::TrustBundle,
    catalog::{EndpointCounts, ExportedService, ServiceKind, ServicePort, SessionAffinity},
    export::{Audience, DeliverModes, LocalExport},
    lineage::Lineage,
    member::Member,
    revocation::{Revocation, RevocationId, Revocations, Subject},
    sni::Zone,
    spiffe::SpiffeId,
    time::Timestamp,
};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
};
use futures::poll;
use gateway_core::{places::Places, tables::Inputs};

use super::*;

/// Tables of east with these other members, which export nothing.
fn tables(members: &[&str]) -> Tables {
    tables_with(members, &[])
}

/// The same with these revoked.
fn tables_with(members: &[&str], revoked: &[&str]) -> Tables {
    let subjects = revoked.iter().map(|text| Subject::parse_id(text).unwrap());
    tables_of(members, (subjects.collect(), BTreeMap::new(), BTreeMap::new()))
}

/// The same of east that exports port 80 of `production/api` to these.
fn exporting_to(audience: Audience) -> Tables {
    let port = ServicePort { name: None, transport: Transport::Tcp, port: Port::new(80).unwrap(), app_protocol: None };
    let service = ExportedService {
        exported_at: Timestamp(1),
        kind: ServiceKind::ClusterSetIp,
        ports: vec![port],
        health: EndpointCounts::default(),
        session_affinity: SessionAffinity::None,
        priority: 0,
        weight: 1,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    let export = LocalExport { service, endpoints: Vec::new(), deliver: DeliverModes::default(), audience };
    let exports = [("production/api".parse().unwrap(), export)].into();
    tables_of(&["north", "west"], (Vec::new(), BTreeMap::new(), exports))
}

/// The same with pods at these addresses, and exports.
fn tables_of(
    members: &[&str],
    (revoked, pods, exports): (Vec<Subject>, BTreeMap<IpAddr, SpiffeId>, BTreeMap<ServiceKey, LocalExport>),
) -> Tables {
    let revocation = |(number, subject)| {
        let (reason, by) = ("key lost".parse().unwrap(), "admin".parse().unwrap());
        let id = RevocationId::from_bits(number);
        Arc::new(Revocation { id, subject, reason, by, at: Timestamp(1) })
    };
    let member = |name: &&str| {
        let gateway_id = SpiffeId::new(format!("spiffe://{name}.example/landbridge/gateway")).unwrap();
        let trust_domain = gateway_id.trust_domain().clone();
        let cluster: ClusterName = name.parse().unwrap();
        let bundle = TrustBundle { trust_domain, sequence: 1, authorities: Vec::new() };
        let (region, zone) = (String::new(), String::new());
        let joined_at = Timestamp(1);
        (
            cluster.clone(),
            Member {
                cluster,
                gateway_id,
                advertise: Vec::new(),
                bundle,
                lineage: Lineage::default(),
                region,
                zone,
                joined_at,
            },
        )
    };
    Tables::compile(Inputs {
        generation: 1,
        cluster: "east".parse().unwrap(),
        zone: Zone::default(),
        imports: Arc::default(),
        exports: Arc::new(exports),
        pods: Arc::new(pods.into_iter().map(|(ip, id)| (ip, Arc::new(id))).collect()),
        members: Arc::new(members.iter().map(member).collect::<BTreeMap<_, _>>()),
        reachable: Arc::new(BTreeSet::new()),
        places: Places::default(),
        revocations: Arc::new(Revocations::of((0..).zip(revoked).map(revocation)).unwrap()),
        policies: Arc::default(),
        nameservers: Arc::new([]),
    })
}

fn account(name: &str) -> SpiffeId {
    SpiffeId::new(format!("spiffe://east.example/ns/a/sa/{name}")).unwrap()
}

fn unknown() -> Grant {
    Grant { peer: None, delivered: None, caller: Caller::Unknown, attested_at: None, requests: None }
}

fn with(peer: &str) -> Grant {
    Grant { peer: Some(peer.parse().unwrap()), ..unknown() }
}

async fn now(registered: &mut Registered) -> Poll<Outcome> {
    let cut = std::pin::pin!(registered.cut());
    poll!(cut)
}

#[tokio::test]
async fn a_connection_is_cut_when_its_peer_is_a_member_no_more() {
    let live = Live::default();
    let (mut west, mut north) = (live.register(with("west")), live.register(with("north")));
    assert_eq!(live.judge(&tables(&["north", "west"])), 0);
    assert_eq!(live.judge(&tables(&["north"])), 1);
    assert_eq!((now(&mut west).await, now(&mut north).await), (Poll::Ready(Outcome::Revoked), Poll::Pending));
}

#[tokio::test]
async fn the_connections_of_a_revoked_caller_are_cut_wherever_they_go_and_others_go_on() {
    let live = Live::default();
    let of = |caller: &str, peer: Option<&str>| {
        let caller = Caller::Vouched { id: account(caller) };
        Grant { peer: peer.map(|peer| peer.parse().unwrap()), caller, ..unknown() }
    };
    let (mut away, mut here) = (live.register(of("web", Some("west"))), live.register(of("web", None)));
    let (mut other, mut unknown) = (live.register(of("api", Some("west"))), live.register(with("west")));
    let revoked = tables_with(&["west"], &["spiffe://east.example/ns/a/sa/web"]);
    assert_eq!(live.judge(&revoked), 2);
    for cut in [&mut away, &mut here] {
        assert_eq!(now(cut).await, Poll::Ready(Outcome::Revoked));
    }
    for goes_on in [&mut other, &mut unknown] {
        assert_eq!(now(goes_on).await, Poll::Pending);
    }
    let mut late = live.register(of("web", None));
    assert_eq!(now(&mut late).await, Poll::Ready(Outcome::Revoked), "one admitted by older tables is cut too");
    assert_eq!(live.judge(&tables_with(&["west"], &["spiffe://east.example/ns/*"])), 1, "a prefix covers the rest");
}

#[tokio::test]
async fn a_connection_is_cut_when_the_certificate_it_was_proven_with_is_revoked_and_others_of_its_caller_go_on() {
    let validity = Validity::starting(Timestamp::from(SystemTime::now()), Duration::from_secs(60));
    let authority = Authority::generate(account("web").trust_domain(), "east", validity).unwrap();
    let proven = |live: &Live| {
        let svid = authority.issue(&SvidRequest { id: account("web"), names: vec![], validity }).unwrap();
        let certificate = Some(Arc::new(svid.chain()[0].clone()));
        let grant = Grant { caller: Caller::Workload { id: account("web"), certificate }, ..unknown() };
        (live.register(grant), svid.serial().parse().unwrap())
    };
    let live = Live::default();
    let ((mut stolen, serial), (mut other, _)) = (proven(&live), proven(&live));
    let subject = Subject::Serial { trust_domain: account("web").trust_domain().clone(), serial };
    assert_eq!(live.judge(&tables_of(&[], (vec![subject], BTreeMap::new(), BTreeMap::new()))), 1);
    assert_eq!((now(&mut stolen).await, now(&mut other).await), (Poll::Ready(Outcome::Revoked), Poll::Pending));
}

#[tokio::test]
async fn a_connection_is_cut_when_its_address_is_another_pods_or_nobodys_and_not_before() {
    let address = |last: u8| IpAddr::from([10, 0, 0, last]);
    let pods = |pods: &[(u8, &str)]| {
        let pods = pods.iter().map(|(last, name)| (address(*last), account(name))).collect();
        tables_of(&[], (Vec::new(), pods, BTreeMap::new()))
    };
    let at = |last: u8| Grant {
        caller: Caller::Vouched { id: account("web") },
        attested_at: Some(address(last)),
        ..unknown()
    };
    let live = Live::default();
    let (mut first, mut second) = (live.register(at(1)), live.register(at(2)));
    let mut stranger = live.register(Grant { caller: Caller::Vouched { id: account("web") }, ..unknown() });
    assert_eq!(live.judge(&pods(&[(1, "web"), (2, "web")])), 0);
    assert_eq!(live.judge(&pods(&[(3, "api"), (2, "web"), (1, "web")])), 0, "other pods come and go");
    assert_eq!(live.judge(&pods(&[(1, "api"), (2, "web")])), 1);
    assert_eq!((now(&mut first).await, now(&mut second).await), (Poll::Ready(Outcome::CallerGone), Poll::Pending));
    assert_eq!(live.judge(&pods(&[])), 1);
    assert_eq!(now(&mut second).await, Poll::Ready(Outcome::CallerGone));
    assert_eq!(now(&mut stranger).await, Poll::Pending, "whom another cluster vouches for is not looked for here");
}

#[tokio::test]
async fn a_connection_that_was_admitted_by_older_tables_is_cut_when_it_registers() {
    let live = Live::default();
    live.judge(&tables(&["north"]));
    let mut west = live.register(with("west"));
    assert_eq!(now(&mut west).await, Poll::Ready(Outcome::Revoked));
    let exported = Some(("production/api".parse().unwrap(), Port::new(80).unwrap()));
    let mut api = live.register(Grant { delivered: exported, ..with("north") });
    assert_eq!(now(&mut api).await, Poll::Ready(Outcome::NotExported));
}

#[tokio::test]
async fn a_connection_ends_when_its_service_is_exported_to_other_clusters_alone() {
    let live = Live::default();
    let api = Some(("production/api".parse().unwrap(), Port::new(80).unwrap()));
    live.judge(&exporting_to(Audience::Everyone));
    let mut registered = ["west", "north"].map(|peer| live.register(Grant { delivered: api.clone(), ..with(peer) }));
    let mut own = live.register(Grant { delivered: api, peer: None, ..with("west") });
    assert_eq!(live.judge(&exporting_to(Audience::Only(["west".parse().unwrap()].into()))), 1);
    assert_eq!(now(&mut registered[0]).await, Poll::Pending);
    assert_eq!(now(&mut registered[1]).await, Poll::Ready(Outcome::NotExported));
    assert_eq!(live.judge(&exporting_to(Audience::Only(BTreeSet::new()))), 1);
    assert_eq!(now(&mut registered[0]).await, Poll::Ready(Outcome::NotExported));
    assert_eq!(now(&mut own).await, Poll::Pending, "its own cluster always sees it");
}

#[tokio::test]
async fn whatever_registers_after_all_were_cut_is_cut_too() {
    let live = Live::default();
    let mut before = live.register(unknown());
    assert_eq!(live.cut_all(Outcome::Draining), 1);
    let mut after = live.register(unknown());
    for registered in [&mut before, &mut after] {
        assert_eq!(now(registered).await, Poll::Ready(Outcome::Draining));
    }
}

#[tokio::test]
async fn a_connection_that_ends_leaves_the_registry() {
    let live = Live::default();
    drop(live.register(with("west")));
    assert_eq!(live.cut_all(Outcome::Draining), 0);
}
