use federation_model::{
    catalog::{EndpointCounts, ExportedService, ServiceKind, SessionAffinity},
    time::Timestamp,
};

use super::*;

#[expect(clippy::disallowed_methods, reason = "an Instant has no other beginning; the tests only add to it")]
fn start() -> Instant {
    Instant::now()
}

const HOLD: Duration = Duration::from_secs(10);

fn west() -> ClusterName {
    "west".parse().unwrap()
}

fn catalog() -> Arc<Catalog> {
    Arc::new(Catalog::empty(west()))
}

fn service() -> ExportedService {
    ExportedService {
        exported_at: Timestamp(1),
        kind: ServiceKind::ClusterSetIp,
        ports: Vec::new(),
        health: EndpointCounts::default(),
        session_affinity: SessionAffinity::None,
        priority: 0,
        weight: 100,
        internal_traffic_policy: None,
        traffic_distribution: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

fn connected(hold_down: Duration, now: Instant) -> PeerCatalogs {
    let mut peers = PeerCatalogs::new(hold_down);
    assert!(!peers.handle_reachable(&west(), true, now), "nothing to see without a catalog");
    assert!(peers.handle_catalog(catalog()));
    assert_eq!(peers.visible().count(), 1);
    peers
}

#[test]
fn services_of_a_lost_peer_leave_at_once_without_hold_down_and_are_held() {
    let now = start();
    let mut peers = connected(Duration::ZERO, now);
    assert!(peers.handle_reachable(&west(), false, now));
    assert_eq!(peers.visible().count(), 0);
    assert_eq!(peers.reachable().count(), 0);
    assert_eq!(peers.held(&west()), Some(catalog()));
    assert_eq!(peers.poll_timeout(), None);
    assert!(peers.handle_reachable(&west(), true, now), "they come back without being sent again");
    assert_eq!(peers.visible().count(), 1);
}

#[test]
fn services_of_a_lost_peer_stay_for_the_hold_down() {
    let now = start();
    let mut peers = connected(HOLD, now);
    assert!(!peers.handle_reachable(&west(), false, now));
    assert!(!peers.handle_reachable(&west(), false, now + HOLD / 2), "a repeated loss does not lengthen it");
    assert_eq!(peers.reachable().count(), 0);
    assert_eq!(peers.poll_timeout().unwrap().0, now + HOLD);
    assert!(!peers.handle_timeout(now + HOLD / 2));
    assert_eq!(peers.visible().count(), 1);
    assert!(peers.handle_timeout(now + HOLD));
    assert_eq!(peers.visible().count(), 0);
    assert_eq!(peers.poll_timeout(), None);
}

#[test]
fn a_peer_that_returns_within_the_hold_down_was_never_away() {
    let now = start();
    let mut peers = connected(HOLD, now);
    peers.handle_reachable(&west(), false, now);
    assert!(!peers.handle_reachable(&west(), true, now + HOLD / 2));
    assert!(!peers.handle_timeout(now + 2 * HOLD));
    assert_eq!(peers.visible().count(), 1);
}

#[test]
fn a_catalog_that_is_the_same_or_of_a_lost_peer_changes_nothing_to_see() {
    let now = start();
    let mut peers = connected(Duration::ZERO, now);
    assert!(!peers.handle_catalog(catalog()));
    peers.handle_reachable(&west(), false, now);
    let other =
        Arc::new(Catalog { services: [("shop/web".parse().unwrap(), service())].into(), ..Catalog::empty(west()) });
    assert!(!peers.handle_catalog(other.clone()));
    assert_eq!((peers.visible().count(), peers.held(&west())), (0, Some(other)));
}

#[test]
fn nothing_is_kept_of_a_peer_that_left_the_set() {
    let now = start();
    let mut peers = connected(HOLD, now);
    peers.handle_members(|_| false);
    assert_eq!(peers.visible().count(), 1, "its tunnel lives: it may be a member again before that is lost");
    peers.handle_reachable(&west(), false, now);
    peers.handle_members(|_| false);
    assert_eq!((peers.visible().count(), peers.held(&west())), (0, None));
}
