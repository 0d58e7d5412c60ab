//! Gateways in one process, over real sockets on the loopback, with real certificates.

mod lossy;
mod metrics;
mod renewal;
mod reports;
mod set;
mod trust;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use federation_model::{catalog::Catalog, outcome::Outcome, revocation::Subject};
use gateway_core::header::{HeaderError, MAX_HEADER, StreamReply};

use self::set::{Set, catalog, cluster, exports, header, read_all, soon};
use crate::{HeadError, OpenError, TunnelEvent, TunnelState, Tunnels};

#[tokio::test]
async fn a_tunnel_comes_up_and_catalogs_cross_and_follow_changes() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    for (here, there) in [("east", "west"), ("west", "east")] {
        let gateway = set.get(here);
        assert_eq!(gateway.catalog_of(there).await, catalog(there, &["web"]));
    }
    set.get("west").catalog.send_replace(catalog("west", &["web", "api"]).into());
    assert_eq!(set.get("east").catalog_of("west").await, catalog("west", &["web", "api"]));
    set.get("west")
        .until("the peer acknowledged the catalog", |tunnels| {
            tunnels.status()[0].tunnels.iter().any(|tunnel| tunnel.acknowledged)
        })
        .await;
    let status = set.get("east").tunnels().status().remove(0);
    assert_eq!((status.cluster.clone(), status.reachable), (cluster("west"), true));
    assert_eq!(status.tunnels[0].instance, "west-1");
    assert!(status.last_error.is_none() && status.skew_millis().unwrap().abs() < 60_000);
}

#[tokio::test]
async fn the_cluster_with_the_lesser_name_dials_alone() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let east = set.get("east").tunnels().status().remove(0);
    let west = set.get("west").tunnels().status().remove(0);
    assert!(east.tunnels[0].dialled.is_some() && east.dials[0].up);
    assert!(west.tunnels[0].dialled.is_none() && !west.dials[0].up);
    assert_eq!((east.tunnels.len(), west.tunnels.len()), (1, 1));
}

#[tokio::test]
async fn header_and_first_bytes_leave_together_and_both_directions_end_on_their_own() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (mut out, mut inbound) = set.stream("east", "west", "hello").await;
    assert_eq!((inbound.peer.clone(), inbound.trust_domain.as_str()), (cluster("east"), "east.example"));
    assert_eq!(inbound.header, Ok(header()));
    assert_eq!(set.get("east").tunnels().outstanding(&cluster("west")), 1);

    inbound.reply(&StreamReply::Connected).await.unwrap();
    assert_eq!(soon("reply", out.reply()).await, Ok(StreamReply::Connected));
    out.send.finish().unwrap();
    assert_eq!(read_all(&mut inbound.recv).await.unwrap(), "hello");

    let large = Bytes::from(vec![7; 3 << 20]);
    let (sent, received) = tokio::join!(
        async {
            inbound.send.write(large.clone()).await?;
            inbound.send.finish()
        },
        read_all(&mut out.recv)
    );
    assert_eq!((sent, received.unwrap().len()), (Ok(()), large.len()));
    assert_eq!(soon("acknowledgement", inbound.send.stopped()).await, Ok(()));
    drop((out, inbound));
    assert_eq!(set.get("east").tunnels().outstanding(&cluster("west")), 0);
    assert_eq!(set.get("west").tunnels().streams(), 0);
}

#[tokio::test]
async fn bytes_that_follow_the_reply_at_once_are_not_lost() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (mut out, mut inbound) = set.stream("east", "west", "").await;
    let mut chunks = [StreamReply::Connected.encode(), Bytes::from_static(b"early")];
    inbound.send.write_chunks(&mut chunks).await.unwrap();
    inbound.send.finish().unwrap();
    assert_eq!(soon("reply", out.reply()).await, Ok(StreamReply::Connected));
    let mut buffers = vec![Bytes::new(); 4];
    assert_eq!(soon("chunks", out.recv.read_chunks(&mut buffers)).await, Ok(Some(1)));
    assert_eq!(buffers[0], "early");
    assert_eq!(soon("end", out.recv.read_chunks(&mut buffers)).await, Ok(None));
}

#[tokio::test]
async fn refusals_resets_and_stops_carry_their_outcome() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;

    let (mut out, inbound) = set.stream("east", "west", "x").await;
    inbound.refuse(Outcome::Denied, "no rule allows it", None).await.unwrap();
    let refused = StreamReply::Refused { outcome: Outcome::Denied, reason: "no rule allows it".into(), by: None };
    assert_eq!(soon("reply", out.reply()).await, Ok(refused));

    let (mut out, mut inbound) = set.stream("west", "east", "x").await;
    out.send.reset(Outcome::ClientReset);
    assert_eq!(read_all(&mut inbound.recv).await, Err(Outcome::ClientReset));
    inbound.send.reset(Outcome::DestinationReset);
    assert_eq!(soon("reply", out.reply()).await, Err(Outcome::DestinationReset));

    let (out, mut inbound) = set.stream("east", "west", "x").await;
    let stopped = out.send.stopped();
    inbound.recv.stop(Outcome::DestinationReset);
    assert_eq!(soon("stop", stopped).await, Err(Outcome::DestinationReset));
}

#[tokio::test]
async fn a_half_that_is_dropped_without_being_finished_arrives_as_aborted() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (out, mut inbound) = set.stream("east", "west", "half of an upload").await;
    drop(out);
    assert_eq!(read_all(&mut inbound.recv).await, Err(Outcome::Aborted));
    assert_eq!(soon("stop", inbound.send.stopped()).await, Err(Outcome::Aborted));
}

#[tokio::test]
async fn streams_are_opened_towards_a_cluster_that_only_dials_out() {
    let mut set = Set::outbound_only(&["east"], &["west"]);
    set.connected("east", "west").await;
    let status = set.get("east").tunnels().status().remove(0);
    assert!(status.dials.is_empty() && status.tunnels[0].dialled.is_none());
    let (mut out, mut inbound) = set.stream("east", "west", "x").await;
    inbound.reply(&StreamReply::Connected).await.unwrap();
    assert_eq!(soon("reply", out.reply()).await, Ok(StreamReply::Connected));
}

#[tokio::test]
async fn a_peer_that_stops_is_lost_at_once_and_found_again_when_it_comes_back() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (mut out, inbound) = set.stream("east", "west", "x").await;
    set.stop("west").await;
    assert_eq!(soon("reply", out.reply()).await, Err(Outcome::Draining));
    // Streams keep the port.
    drop(inbound);
    set.get("east").reachable_is("west", false).await;
    set.restart("west").await;
    set.connected("east", "west").await;
    assert_eq!(set.get("east").tunnels().status()[0].tunnels[0].instance, "west-2");
    set.stream("east", "west", "x").await;
}

#[tokio::test]
async fn a_driver_that_is_dropped_closes_everything() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    set.get("west").tasks.abort_all();
    set.get("east").reachable_is("west", false).await;
}

#[tokio::test]
async fn draining_opens_no_new_streams_and_lets_old_ones_finish() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (mut out, mut inbound) = set.stream("east", "west", "x").await;
    set.get("west").tunnels().drain("maintenance");
    set.get("east").reachable_is("west", false).await;
    assert_eq!(set.get("east").tunnels().status()[0].tunnels[0].state, TunnelState::Draining);
    let refused = set.get("east").tunnels().open(&cluster("west"), &header(), Bytes::new()).await.unwrap_err();
    assert_eq!(refused, OpenError::PeerDraining(cluster("west")));
    let own = set.get("west").tunnels().open(&cluster("east"), &header(), Bytes::new()).await.unwrap_err();
    assert_eq!(own, OpenError::Draining);

    inbound.reply(&StreamReply::Connected).await.unwrap();
    inbound.send.finish().unwrap();
    assert_eq!(soon("reply", out.reply()).await, Ok(StreamReply::Connected));
    out.send.finish().unwrap();
    assert_eq!(read_all(&mut inbound.recv).await.unwrap(), "x");
    assert_eq!(read_all(&mut out.recv).await.unwrap(), "");
    // The dialler tries again, and is sent away for as long as the peer drains.
    set.get("east").fails("west", "").await;
    drop((out, inbound));
    set.stop("west").await;
    set.restart("west").await;
    set.connected("east", "west").await;
}

#[tokio::test]
async fn garbage_on_the_port_does_nothing() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let address = set.get("west").tunnels().local_addr().unwrap();
    let handshakes = set.get("west").tunnels().shared().metrics.handshakes("accept", "done");
    let before = (handshakes, set.get("west").tunnels().status()[0].tunnels[0].id);
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1_u32;
    for length in (0..1400).step_by(7) {
        let mut datagram = vec![0; length];
        for byte in &mut datagram {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = state.to_be_bytes()[0];
        }
        stranger.send_to(&datagram, address).unwrap();
        // As a first packet of QUIC version 1, as far as its header goes.
        if let Some(head) = datagram.get_mut(..6) {
            head.copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
        }
        stranger.send_to(&datagram, address).unwrap();
    }
    let (mut out, mut inbound) = set.stream("east", "west", "x").await;
    out.send.finish().unwrap();
    assert_eq!(read_all(&mut inbound.recv).await.unwrap(), "x");
    let handshakes = set.get("west").tunnels().shared().metrics.handshakes("accept", "done");
    assert_eq!((handshakes, set.get("west").tunnels().status()[0].tunnels[0].id), before);
}

#[tokio::test]
async fn headers_that_are_none_are_handed_over_as_errors() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let connection = set.get("east").tunnels().shared().registry.of(&cluster("west"))[0].connection.clone();
    let too_large = u16::try_from(MAX_HEADER + 1).unwrap().to_be_bytes();
    for (bytes, expected) in
        [(too_large.as_slice(), HeaderError::TooLarge { length: MAX_HEADER + 1 }), (&[0, 9, 1], HeaderError::Truncated)]
    {
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        let inbound = soon("stream", set.get("west").inbound.recv()).await.unwrap();
        assert_eq!(inbound.header, Err(HeadError::Header(expected)));
    }
}

#[tokio::test]
async fn streams_are_refused_while_the_gateway_takes_none() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let peer = cluster("west");
    // The queue of the set's gateways holds two.
    let mut outs = Vec::new();
    for _ in 0..3 {
        outs.push(set.get("east").tunnels().open(&peer, &header(), Bytes::new()).await.unwrap());
    }
    let mut last = outs.pop().unwrap();
    assert_eq!(soon("reply", last.reply()).await, Err(Outcome::OverCapacity));
}

#[tokio::test]
async fn a_peer_without_stream_credit_is_busy_and_nothing_was_sent() {
    let mut set = Set::tuned(&["east", "west"], |config| config.streams_per_peer = 1);
    set.connected("east", "west").await;
    let (_held, _inbound) = set.stream("east", "west", "x").await;
    let busy = set.get("east").tunnels().open(&cluster("west"), &header(), Bytes::new()).await.unwrap_err();
    assert_eq!(busy, OpenError::Busy(cluster("west")));
    assert!(busy.nothing_sent());
    assert_eq!(busy.outcome(), Outcome::TunnelBusy);
}

#[tokio::test]
async fn a_tunnel_whose_handshake_lost_packets_is_dialled_once_more() {
    let mut set = Set::with_lossy_first(&["east", "west"]);
    set.connected("east", "west").await;
    set.get("west")
        .until("both handshakes", |tunnels| tunnels.shared().metrics.handshakes("accept", "done") == 2)
        .await;
    assert_eq!(set.get("east").tunnels().shared().metrics.handshakes("dial", "done"), 1);
    set.stream("east", "west", "x").await;
}

#[tokio::test]
async fn a_peer_is_told_its_own_edition_and_nothing_when_only_others_change() {
    let mut set = Set::of(&["east", "north", "west"]);
    set.connected("east", "west").await;
    set.connected("north", "west").await;
    let names = |catalog: Catalog| catalog.services.keys().map(|key| key.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(set.get("east").catalog_of("west").await), ["web"]);
    assert_eq!(names(set.get("north").catalog_of("west").await), ["web"]);
    let clusters = ["east", "north"].map(cluster);
    let publish = |set: &mut Set, list: &[(&str, Option<&str>)]| {
        set.get("west").catalog.send_modify(|editions| {
            editions.update(&exports(list), &clusters);
        });
    };
    publish(&mut set, &[("web", None), ("closed", Some("north"))]);
    assert_eq!(names(set.get("north").catalog_of("west").await), ["closed", "web"]);
    let acknowledged =
        |tunnels: &Tunnels| tunnels.status().iter().all(|peer| peer.tunnels.iter().all(|tunnel| tunnel.acknowledged));
    set.get("west").until("acknowledged by both, though one was told nothing", acknowledged).await;
    publish(&mut set, &[("web", None), ("closed", None)]);
    assert_eq!(names(set.get("east").catalog_of("west").await), ["closed", "web"], "the first that east hears of it");
    publish(&mut set, &[("web", None), ("closed", Some("east"))]);
    assert_eq!(names(set.get("north").catalog_of("west").await), ["web"]);
}

#[tokio::test]
async fn events_tell_of_a_peer_that_comes_and_goes() {
    let mut set = Set::of(&["east", "west"]);
    let west = cluster("west");
    let reachable = |reachable| TunnelEvent::Reachable { cluster: west.clone(), reachable };
    assert_eq!(set.get("east").next_event().await, reachable(true));
    let exports = Arc::new(catalog("west", &["web"]));
    assert_eq!(set.get("east").next_event().await, TunnelEvent::Catalog { cluster: west.clone(), catalog: exports });
    set.stop("west").await;
    assert_eq!(set.get("east").next_event().await, reachable(false));
}

#[tokio::test]
async fn a_peer_that_falls_silent_gets_no_new_streams_until_it_is_heard_again() {
    let mut set = Set::tuned(&["east", "west"], |config| {
        config.ping = Duration::from_millis(20);
        config.lease = Duration::from_millis(200);
        config.idle_timeout = Duration::from_secs(15);
    });
    set.connected("east", "west").await;
    let before = set.get("east").tunnels().status()[0].tunnels[0].id;
    set.get("west").losses.store(usize::MAX, Ordering::Relaxed);
    set.get("east").reachable_is("west", false).await;
    assert_eq!(set.get("east").tunnels().status()[0].tunnels[0].state, TunnelState::Silent);
    set.get("west").losses.store(0, Ordering::Relaxed);
    set.get("east").reachable_is("west", true).await;
    assert_eq!(set.get("east").tunnels().status()[0].tunnels[0].id, before);
}

#[tokio::test]
async fn a_stream_tells_that_its_peer_fell_silent() {
    let mut set = Set::tuned(&["east", "west"], |config| {
        config.ping = Duration::from_millis(20);
        config.lease = Duration::from_millis(200);
        config.idle_timeout = Duration::from_secs(15);
    });
    set.connected("east", "west").await;
    let (out, _inbound) = set.stream("east", "west", "x").await;
    set.get("west").losses.store(usize::MAX, Ordering::Relaxed);
    soon("silence", out.silence()).await;
    assert!(!set.get("east").tunnels().reachable(&cluster("west")));
    soon("silence that is known already", out.silence()).await;
}

#[tokio::test]
async fn a_half_that_the_peer_declined_says_so_as_often_as_it_is_asked() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (mut out, mut inbound) = set.stream("east", "west", "x").await;
    inbound.recv.stop(Outcome::DestinationReset);
    assert_eq!(soon("stop", out.send.stopped()).await, Err(Outcome::DestinationReset));
    for _ in 0..3 {
        assert_eq!(out.send.write("y".into()).await, Err(Outcome::DestinationReset));
    }
    assert_eq!(soon("stop", out.send.stopped()).await, Err(Outcome::DestinationReset));
}

#[tokio::test]
async fn what_a_write_that_was_given_up_has_not_sent_is_left() {
    let mut set = Set::of(&["east", "west"]);
    set.connected("east", "west").await;
    let (mut out, mut inbound) = set.stream("east", "west", "").await;
    let whole = Bytes::from((0..8 << 20).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>());
    let mut left = vec![whole.slice(..1 << 20), whole.slice(1 << 20..)];
    // Nobody reads, so that the windows fill up.
    let given_up = tokio::time::timeout(Duration::from_millis(200), out.send.write_chunks(&mut left)).await;
    assert!(given_up.is_err() && left.iter().any(|chunk| !chunk.is_empty()));
    let rest = async {
        out.send.write_chunks(&mut left).await?;
        out.send.finish()
    };
    let (sent, received) = tokio::join!(rest, read_all(&mut inbound.recv));
    assert_eq!(sent, Ok(()));
    assert!(received.unwrap() == whole);
}

#[tokio::test]
async fn a_tunnel_over_which_nothing_comes_is_lost_and_dialled_again() {
    let mut set = Set::tuned(&["east", "west"], |config| {
        config.keep_alive = Duration::from_millis(50);
        config.idle_timeout = Duration::from_millis(500);
        config.lease = Duration::from_secs(30);
    });
    set.connected("east", "west").await;
    let (mut out, _inbound) = set.stream("east", "west", "x").await;
    set.get("west").losses.store(usize::MAX, Ordering::Relaxed);
    assert_eq!(soon("reply", out.reply()).await, Err(Outcome::TunnelLost));
    set.get("west").losses.store(0, Ordering::Relaxed);
    set.connected("east", "west").await;
}

#[tokio::test]
async fn streams_spread_over_replicas_and_leave_the_one_that_drains() {
    let mut set = Set::of(&["east", "west"]);
    set.add_replica("west");
    let both = "tunnels to both replicas";
    let up = |tunnels: &Tunnels| tunnels.status()[0].tunnels.iter().filter(|t| t.state == TunnelState::Up).count();
    set.get("east").until(both, |tunnels| up(tunnels) == 2).await;
    let mut outs = Vec::new();
    for _ in 0..4 {
        outs.push(set.get("east").tunnels().open(&cluster("west"), &header(), Bytes::new()).await.unwrap());
    }
    // Of two tunnels both are drawn, and the one with fewer streams is taken.
    let spread: Vec<_> = set.get("east").tunnels().status()[0].tunnels.iter().map(|tunnel| tunnel.streams).collect();
    assert_eq!(spread, [2, 2]);
    set.get("west2").tunnels().drain("maintenance");
    set.get("east").until("one left", |tunnels| up(tunnels) == 1).await;
    assert!(set.get("east").tunnels().reachable(&cluster("west")));
    while let Ok(stream) = set.get("west").inbound.try_recv() {
        drop(stream);
    }
    set.stream("east", "west", "x").await;
}
