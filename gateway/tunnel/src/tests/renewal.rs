//! Tunnels whose certificates change while they live.

use std::time::{Duration, SystemTime};

use federation_model::{bundle::Fingerprint, time::Timestamp};
use federation_pki::{Validity, ca::Authority};
use gateway_core::header::StreamReply;

use super::set::{Gateway, Set, authority, cluster, read_all, soon, svid, svid_for};
use crate::{TunnelStatus, Tunnels};

/// The one tunnel of a gateway.
fn only(tunnels: &Tunnels) -> Option<TunnelStatus> {
    let mut all = tunnels.status().remove(0).tunnels;
    assert!(all.len() < 2, "{all:#?}");
    all.pop()
}

async fn judged(gateway: &Gateway, by: Fingerprint) {
    gateway
        .until("the peer's tunnel is judged by its new certificate", |tunnels| {
            only(tunnels).is_some_and(|tunnel| Fingerprint::of(&tunnel.certificates[0]) == by)
        })
        .await;
}

fn own_authority_and(gateway: &Gateway, next: &Authority) -> Vec<rustls_pki_types::CertificateDer<'static>> {
    vec![gateway.authority.certificate().clone(), next.certificate().clone()]
}

#[tokio::test]
async fn a_renewed_certificate_is_proven_inside_the_live_tunnel_and_no_stream_notices() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (mut out, mut inbound) = set.stream("east", "west", "before ").await;
    let before = only(set.get("west").tunnels()).unwrap().id;
    for (here, there) in [("east", "west"), ("west", "east")] {
        let renewed = svid(&set.get(here).authority, "/landbridge/gateway");
        let fingerprint = renewed.fingerprint();
        set.get(here).renew(renewed);
        judged(set.get(there), fingerprint).await;
        set.get(here)
            .until("the peer says by which certificate it judges", |tunnels| {
                let judged = only(tunnels).and_then(|tunnel| tunnel.judged);
                judged.is_some_and(|judged| judged.fingerprint == fingerprint && judged.refusal.is_none())
            })
            .await;
    }
    out.send.write("after".into()).await.unwrap();
    out.send.finish().unwrap();
    assert_eq!(read_all(&mut inbound.recv).await.unwrap(), "before after");
    inbound.reply(&StreamReply::Connected).await.unwrap();
    assert_eq!(soon("reply", out.reply()).await, Ok(StreamReply::Connected));
    assert_eq!(only(set.get("west").tunnels()).unwrap().id, before);
}

#[tokio::test]
async fn a_tunnel_follows_the_rotation_of_its_authority() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (mut out, mut inbound) = set.stream("east", "west", "before ").await;
    let next = authority("east.example");
    let both = own_authority_and(set.get("east"), &next);
    set.get("west").alter("east", |member| member.bundle.authorities = both);
    let renewed = svid(&next, "/landbridge/gateway");
    let fingerprint = renewed.fingerprint();
    set.get("east").renew(renewed);
    judged(set.get("west"), fingerprint).await;
    set.get("west").alter("east", |member| member.bundle.authorities = vec![next.certificate().clone()]);
    out.send.write("after".into()).await.unwrap();
    out.send.finish().unwrap();
    assert_eq!(read_all(&mut inbound.recv).await.unwrap(), "before after");

    // Without the proof the same step cuts.
    set.get("west").alter("east", |member| member.bundle = authority("east.example").bundle(9));
    set.get("west").reachable_is("east", false).await;
}

#[tokio::test]
async fn a_certificate_the_peer_does_not_believe_changes_nothing() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let known = set.get("east").identity.current().fingerprint();
    judged(set.get("west"), known).await;
    for bad in [svid(&authority("east.example"), "/landbridge/gateway"), svid(&set.get("east").authority, "/ns/a/sa/b")]
    {
        let fingerprint = bad.fingerprint();
        set.get("east").renew(bad);
        set.get("east")
            .until("the peer refuses", |tunnels| {
                let judged = only(tunnels).and_then(|tunnel| tunnel.judged);
                judged.is_some_and(|judged| judged.fingerprint == fingerprint && judged.refusal.is_some())
            })
            .await;
        assert!(set.get("west").tunnels().reachable(&cluster("east")));
        judged(set.get("west"), known).await;
    }
}

#[tokio::test]
async fn a_tunnel_ends_with_the_certificate_of_its_peer() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let now = Timestamp::from(SystemTime::now());
    let brief = Validity { not_before: Timestamp(now.0 - 60), not_after: now.after(Duration::from_secs(2)) };
    let renewed = svid_for(&set.get("east").authority, "/landbridge/gateway", brief);
    set.get("east").renew(renewed);
    set.get("west")
        .until("the tunnel ended with the certificate", |tunnels| {
            tunnels.status()[0].last_error.as_ref().is_some_and(|error| error.contains("expired"))
        })
        .await;
    set.get("west").reachable_is("east", false).await;
}
