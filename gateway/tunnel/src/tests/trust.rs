//! Who gets a tunnel, and who loses it when what is believed changes.

use super::*;

#[tokio::test]
async fn gateways_of_another_authority_are_refused() {
    let mut set = Set::apart(&["east", "west"]);
    // West's certificates come from an authority of the right trust domain that nobody published.
    let impostor = set::authority("west.example");
    set.get("west").identity.replace(set::svid(&impostor, "/landbridge/gateway"));
    set.publish();
    set.get("east").fails("west", "not signed by the authority of its trust domain").await;
    assert!(!set.get("east").tunnels().reachable(&cluster("west")));
}

#[tokio::test]
async fn dialling_gateways_of_another_authority_are_refused_and_told_why() {
    let mut set = Set::apart(&["east", "west"]);
    let impostor = set::authority("east.example");
    set.get("east").identity.replace(set::svid(&impostor, "/landbridge/gateway"));
    set.publish();
    set.get("east").fails("west", "not signed by the authority of its trust domain").await;
    assert!(!set.get("west").tunnels().reachable(&cluster("east")));
}

#[tokio::test]
async fn an_id_that_is_not_the_members_gateway_id_is_refused_on_either_side() {
    let mut set = Set::apart(&["east", "west"]);
    let other = set::svid(&set.get("west").authority, "/ns/a/sa/b");
    set.get("west").identity.replace(other);
    set.publish();
    set.get("east").fails("west", "expected is spiffe://west.example/landbridge/gateway").await;

    let mut set = Set::apart(&["east", "west"]);
    let other = set::svid(&set.get("east").authority, "/ns/a/sa/b");
    set.get("east").identity.replace(other);
    set.publish();
    set.get("east").fails("west", "expected is the gateway id of a member").await;
    assert!(!set.get("west").tunnels().reachable(&cluster("east")));
}

#[tokio::test]
async fn a_member_that_is_removed_loses_its_tunnels_at_once() {
    let mut set = Set::of(&["east", "north", "west"]);
    set.connected("east", "west").await;
    set.connected("east", "north").await;
    let (_out, mut inbound) = set.stream("west", "east", "x").await;
    let (mut other, _kept) = set.stream("north", "east", "x").await;
    assert_eq!(soon("first bytes", inbound.recv.read()).await, Ok(Some("x".into())));
    set.remove("east", "west");
    assert_eq!(read_all(&mut inbound.recv).await, Err(Outcome::Revoked));
    set.get("west").until("the removed side saw it", |tunnels| !tunnels.reachable(&cluster("east"))).await;
    assert!(set.get("east").tunnels().reachable(&cluster("north")));
    assert_eq!(other.send.write("y".into()).await, Ok(()));
    let gone = set.get("east").tunnels().open(&cluster("west"), &header(), Bytes::new()).await.unwrap_err();
    assert_eq!((gone.outcome(), gone.nothing_sent()), (Outcome::NoHealthyCluster, true));
    set.get("west").fails("east", "revoked").await;
}

#[tokio::test]
async fn a_bundle_without_the_peers_authority_cuts_its_tunnels_and_a_new_gateway_id_does_too() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (_out, mut inbound) = set.stream("west", "east", "").await;
    let next = set::authority("west.example");
    set.get("east").alter("west", |member| member.bundle = next.bundle(2));
    assert_eq!(read_all(&mut inbound.recv).await, Err(Outcome::Revoked));

    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (_out, mut inbound) = set.stream("west", "east", "").await;
    let id = "spiffe://west.example/landbridge/other";
    set.get("east").alter("west", |member| member.gateway_id = id.parse().unwrap());
    assert_eq!(read_all(&mut inbound.recv).await, Err(Outcome::Revoked));
}

#[tokio::test]
async fn a_revoked_certificate_loses_its_tunnels_and_comes_back_with_another_one() {
    let mut set = Set::of(&["east", "north", "west"]);
    set.connected("east", "west").await;
    set.connected("east", "north").await;
    let (_out, mut inbound) = set.stream("west", "east", "x").await;
    let (mut other, _kept) = set.stream("north", "east", "x").await;
    assert_eq!(soon("first bytes", inbound.recv.read()).await, Ok(Some("x".into())));
    let serial = set.get("west").serial();
    let members = set.get("east").revoke(&[serial]);
    let mut followed = set.get("east").tunnels().followed();
    let judged = followed.wait_for(|judged| Arc::ptr_eq(judged, &members));
    assert!(soon("the tunnels were judged by it", judged).await.is_ok());
    assert!(!set.get("east").tunnels().reachable(&cluster("west")), "it is cut when that is said");
    assert_eq!(read_all(&mut inbound.recv).await, Err(Outcome::Revoked));
    set.get("east").fails("west", "(key lost), revocation 0000000000000000").await;
    assert_eq!(other.send.write("y".into()).await, Ok(()), "the others go on");

    let renewed = set::svid(&set.get("west").authority, "/landbridge/gateway");
    set.get("west").identity.replace(renewed);
    set.connected("east", "west").await;
}

#[tokio::test]
async fn a_revoked_gateway_id_has_no_tunnel_until_it_is_reinstated() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (_out, mut inbound) = set.stream("west", "east", "").await;
    let id = Subject::parse_id("spiffe://west.example/landbridge/*").unwrap();
    set.get("east").revoke(&[id]);
    assert_eq!(read_all(&mut inbound.recv).await, Err(Outcome::Revoked));
    let renewed = set::svid(&set.get("west").authority, "/landbridge/gateway");
    set.get("west").identity.replace(renewed);
    set.get("east").fails("west", "id spiffe://west.example/landbridge/* was revoked").await;
    set.get("east").revoke(&[]);
    set.connected("east", "west").await;
}

#[tokio::test]
async fn a_bundle_that_gains_an_authority_leaves_tunnels_alone() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (_out, mut inbound) = set.stream("west", "east", "").await;
    let next = set::authority("west.example").certificate().clone();
    let before = set.get("east").tunnels().status()[0].tunnels[0].id;
    set.get("east").alter("west", |member| member.bundle.authorities.push(next));
    inbound.send.write("still here".into()).await.unwrap();
    assert_eq!(set.get("east").tunnels().status()[0].tunnels[0].id, before);
}
