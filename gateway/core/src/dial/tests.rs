//! Who dials, when, and where.

use proptest::prelude::*;

use super::*;

fn clock() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time; nothing waits for it")]
    Instant::now()
}

fn address(text: &str) -> GatewayAddr {
    text.parse().unwrap()
}

fn dialer(own: &str, peer: &str, own_advertises: bool, now: Instant) -> Dialer {
    let ends = Ends { own: own.parse().unwrap(), peer: peer.parse().unwrap(), own_advertises };
    Dialer::new(DialConfig::default(), ends, 7, now)
}

fn with_target(own: &str, peer: &str, own_advertises: bool, now: Instant) -> Dialer {
    let mut dialer = dialer(own, peer, own_advertises, now);
    dialer.handle_targets(vec![address("gw:1")], now);
    dialer
}

/// The wait until the next dial, which is then due and not a moment before.
fn wait(dialer: &mut Dialer, now: &mut Instant) -> Duration {
    let wait = dialer.next_dial_in(*now).unwrap();
    if let Some(before) = wait.checked_sub(Duration::from_nanos(1)) {
        assert_eq!(dialer.poll_dial(*now + before), None);
    }
    *now += wait;
    assert!(dialer.poll_dial(*now).is_some());
    wait
}

#[test]
fn the_lesser_name_dials_at_once() {
    let now = clock();
    let mut east = with_target("east", "west", true, now);
    assert_eq!(east.next_dial_in(now), Some(Duration::ZERO));
    assert_eq!(east.poll_dial(now), Some(address("gw:1")));
    assert_eq!(east.poll_dial(now), None, "one address is never dialled twice at once");
    assert_eq!(east.poll_timeout(), None);
}

#[test]
fn the_greater_name_dials_when_the_grace_passes_without_a_tunnel() {
    let mut now = clock();
    let mut west = with_target("west", "east", true, now);
    assert_eq!(west.poll_timeout(), Some((now + DIAL_GRACE, "wait for the peer to dial")));
    assert_eq!(wait(&mut west, &mut now), DIAL_GRACE);
}

#[test]
fn the_greater_name_does_not_dial_while_the_peer_has_a_tunnel_and_waits_again_when_it_is_lost() {
    let mut now = clock();
    let mut west = with_target("west", "east", true, now);
    west.handle_inbound(1, now);
    now += Duration::from_secs(3600);
    assert_eq!((west.poll_dial(now), west.poll_timeout()), (None, None));
    west.handle_inbound(0, now);
    assert_eq!(wait(&mut west, &mut now), DIAL_GRACE);
}

#[test]
fn the_grace_begins_when_the_peer_can_first_be_dialled() {
    let mut now = clock();
    let mut west = dialer("west", "east", true, now);
    now += Duration::from_secs(3600);
    west.handle_targets(vec![address("gw:1")], now);
    assert_eq!(wait(&mut west, &mut now), DIAL_GRACE);
}

#[test]
fn a_side_that_cannot_be_reached_always_dials() {
    let now = clock();
    let mut west = with_target("west", "east", false, now);
    west.handle_inbound(1, now);
    assert_eq!(west.poll_dial(now), Some(address("gw:1")));
}

#[test]
fn a_peer_without_addresses_is_not_dialled() {
    let now = clock();
    let mut east = dialer("east", "west", true, now);
    east.handle_targets(Vec::new(), now);
    assert_eq!(east.poll_dial(now), None);
    assert_eq!((east.poll_timeout(), east.next_dial_in(now)), (None, None));
}

#[test]
fn every_address_is_dialled_and_one_that_is_up_is_left_alone() {
    let now = clock();
    let mut east = dialer("east", "west", true, now);
    east.handle_targets(vec![address("gw:1"), address("gw:2"), address("gw:1")], now);
    assert_eq!(east.poll_dial(now), Some(address("gw:1")));
    assert_eq!(east.poll_dial(now), Some(address("gw:2")));
    east.handle_connected(&address("gw:1"), now);
    east.handle_failed(&address("gw:2"), now);
    let later = now + Duration::from_secs(60);
    assert_eq!(east.poll_dial(later), Some(address("gw:2")));
    assert_eq!(east.poll_dial(later), None);
}

#[test]
fn the_wait_grows_from_a_quarter_second_to_fifteen_seconds_and_is_jittered() {
    let mut now = clock();
    let mut east = with_target("east", "west", true, now);
    assert_eq!(wait(&mut east, &mut now), Duration::ZERO);
    let mut waits = Vec::new();
    for failures in 1..12u32 {
        east.handle_failed(&address("gw:1"), now);
        let full = Duration::from_millis(250).saturating_mul(1 << (failures - 1)).min(Duration::from_secs(15));
        let wait = wait(&mut east, &mut now);
        assert!(wait >= full / 2 && wait <= full, "{failures}: {wait:?} of {full:?}");
        waits.push(wait);
    }
    let longest = &waits[7..];
    assert!(longest.windows(2).any(|pair| pair[0] != pair[1]), "no jitter: {longest:?}");
}

#[test]
fn dialers_of_other_seeds_wait_for_other_times() {
    let now = clock();
    let waits: BTreeSet<Duration> = (0..20)
        .map(|seed| {
            let ends = Ends { own: "east".parse().unwrap(), peer: "west".parse().unwrap(), own_advertises: true };
            let mut dialer = Dialer::new(DialConfig::default(), ends, seed, now);
            dialer.handle_targets(vec![address("gw:1")], now);
            let target = dialer.poll_dial(now).unwrap();
            dialer.handle_failed(&target, now);
            dialer.next_dial_in(now).unwrap()
        })
        .collect();
    assert!(waits.len() > 15, "{waits:?}");
}

#[test]
fn a_tunnel_that_lived_long_enough_resets_the_wait_and_a_short_one_does_not() {
    let mut now = clock();
    let target = address("gw:1");
    let mut east = with_target("east", "west", true, now);
    wait(&mut east, &mut now);
    for _ in 0..6 {
        east.handle_failed(&target, now);
        wait(&mut east, &mut now);
    }
    east.handle_connected(&target, now);
    now += Duration::from_secs(1);
    east.handle_closed(&target, now);
    assert!(
        wait(&mut east, &mut now) >= Duration::from_secs(7),
        "the seventh failure in a row waits 16 s or half of it"
    );
    east.handle_connected(&target, now);
    now += DialConfig::default().stable;
    east.handle_closed(&target, now);
    assert!(wait(&mut east, &mut now) <= Duration::from_millis(250));
}

#[test]
fn new_addresses_are_dialled_at_once_and_old_ones_are_forgotten_when_their_tunnel_ends() {
    let now = clock();
    let (old, new) = (address("old:1"), address("new:1"));
    let mut east = dialer("east", "west", true, now);
    east.handle_targets(vec![old.clone()], now);
    east.poll_dial(now).unwrap();
    east.handle_connected(&old, now);
    east.handle_targets(vec![new.clone()], now);
    assert_eq!(east.poll_dial(now), Some(new.clone()));
    assert_eq!(east.targets().count(), 2);
    east.handle_closed(&old, now);
    assert_eq!(east.targets().map(|(address, _)| address).collect::<Vec<_>>(), [&new]);
}

#[test]
fn an_address_that_comes_back_while_its_tunnel_lives_is_not_dialled_again() {
    let now = clock();
    let target = address("gw:1");
    let mut east = with_target("east", "west", true, now);
    east.poll_dial(now).unwrap();
    east.handle_connected(&target, now);
    east.handle_targets(Vec::new(), now);
    east.handle_targets(vec![target.clone()], now);
    assert_eq!(east.poll_dial(now), None);
    let later = now + Duration::from_secs(60);
    east.handle_closed(&target, later);
    assert!(east.next_dial_in(later).is_some());
}

#[test]
fn the_number_of_addresses_is_limited_however_often_they_change() {
    let now = clock();
    let mut east = dialer("east", "west", true, now);
    for round in 0..10 {
        east.handle_targets((0..100).map(|n| address(&format!("gw-{round}-{n}:1"))).collect(), now);
        while let Some(target) = east.poll_dial(now) {
            east.handle_connected(&target, now);
        }
    }
    assert_eq!(east.targets().count(), MAX_TARGETS);
}

#[test]
fn reports_about_unknown_addresses_change_nothing() {
    let now = clock();
    let mut east = with_target("east", "west", true, now);
    let stranger = address("stranger:1");
    east.handle_connected(&stranger, now);
    east.handle_failed(&stranger, now);
    east.handle_closed(&stranger, now);
    assert_eq!(east.targets().count(), 1);
}

proptest! {
    #[test]
    fn waits_are_never_longer_than_the_limit_nor_shorter_than_half_the_first(
        seed: u64, failures in proptest::collection::vec(0u32..=u32::MAX, 1..50),
    ) {
        let config = DialConfig::default();
        let mut backoff = Backoff::new(config.initial, config.max, seed);
        for failures in failures {
            let wait = backoff.after(failures);
            prop_assert!(wait <= config.max && wait >= config.initial / 2, "{:?}", wait);
        }
    }
}
