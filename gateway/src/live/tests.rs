use std::{
    collections::{BTreeMap, BTreeSet},
    task::Poll,
};

use federation_model::{
    bundle::TrustBundle, lineage::Lineage, member::Member, sni::Zone, spiffe::SpiffeId, time::Timestamp,
};
use futures::poll;
use gateway_core::tables::Inputs;

use super::*;

/// Tables of east with these other members, which export nothing.
fn tables(members: &[&str]) -> Tables {
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
        exports: Arc::default(),
        pods: Arc::default(),
        members: Arc::new(members.iter().map(member).collect::<BTreeMap<_, _>>()),
        reachable: Arc::new(BTreeSet::new()),
        addresses: Arc::default(),
        nameservers: Arc::new([]),
    })
}

fn with(peer: &str) -> Grant {
    Grant { peer: Some(peer.parse().unwrap()), delivered: None }
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
async fn a_connection_that_was_admitted_by_older_tables_is_cut_when_it_registers() {
    let live = Live::default();
    live.judge(&tables(&["north"]));
    let mut west = live.register(with("west"));
    assert_eq!(now(&mut west).await, Poll::Ready(Outcome::Revoked));
    let exported = Some(("production/api".parse().unwrap(), Port::new(80).unwrap()));
    let mut api = live.register(Grant { peer: Some("north".parse().unwrap()), delivered: exported });
    assert_eq!(now(&mut api).await, Poll::Ready(Outcome::NotExported));
}

#[tokio::test]
async fn whatever_registers_after_all_were_cut_is_cut_too() {
    let live = Live::default();
    let mut before = live.register(Grant { peer: None, delivered: None });
    assert_eq!(live.cut_all(Outcome::Draining), 1);
    let mut after = live.register(Grant { peer: None, delivered: None });
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
