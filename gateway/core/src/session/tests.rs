//! What two sessions make of each other.

mod catalogs;
mod credentials;
mod pair;
mod reports;

use federation_model::catalog::CatalogDigest;

use super::*;
use pair::{EPOCH_MILLIS, Pair, Tamper, catalog, clock, config, session};

use proto::tunnel::v1::{CatalogAck, Hello, Ping};

fn message(message: Message) -> ControlMessage {
    ControlMessage { message: Some(message) }
}

/// A session of east after the hello of west.
fn greeted(now: Instant) -> Session {
    let mut east = session("east", "west", &catalog("east", &[]), now);
    east.handle_message(message(Message::Hello(hello())), now, EPOCH_MILLIS).unwrap();
    east
}

fn hello() -> Hello {
    Hello { min_version: 1, max_version: 1, cluster: "west".into(), unix_millis: EPOCH_MILLIS, ..Default::default() }
}

fn greeting_error(hello: Hello) -> SessionError {
    let now = clock();
    let mut east = session("east", "west", &catalog("east", &[]), now);
    let error = east.handle_message(message(Message::Hello(hello)), now, EPOCH_MILLIS).unwrap_err();
    assert!(!east.is_up());
    assert_eq!(east.poll_event(), None);
    error
}

#[test]
fn both_ends_learn_who_the_other_is_before_anything_else() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.run_millis(100);
    let up = |instance: &str| SessionEvent::Up {
        instance: instance.to_owned(),
        software: "landbridge/0.1.0".to_owned(),
        version: 1,
        reports_imports: true,
    };
    assert_eq!(pair.east.events[0], up("west-1"));
    assert_eq!(pair.west.events[0], up("east-1"));
}

#[test]
fn nothing_but_the_hello_is_sent_before_the_peer_says_hello() {
    let now = clock();
    let mut east = session("east", "west", &catalog("east", &[("a", 1)]), now);
    assert!(matches!(east.poll_transmit().unwrap().message, Some(Message::Hello(_))));
    east.handle_drain("stop");
    east.handle_timeout(now + Duration::from_secs(1), EPOCH_MILLIS).unwrap();
    assert_eq!(east.poll_transmit(), None);
}

#[test]
fn the_highest_common_version_is_used() {
    let (now, local) = (clock(), catalog("east", &[]));
    let versions = VersionRange { min: 2, max: 7 };
    let catalogs = Catalogs { held: None, local };
    let mut east = Session::new(
        SessionConfig { versions, ..config("east") },
        "west".parse().unwrap(),
        catalogs,
        now,
        EPOCH_MILLIS,
    );
    let offer = Hello { min_version: 1, max_version: 5, ..hello() };
    east.handle_message(message(Message::Hello(offer)), now, EPOCH_MILLIS).unwrap();
    assert!(matches!(east.poll_event(), Some(SessionEvent::Up { version: 5, .. })));
}

#[test]
fn peers_without_a_common_version_are_told_both_ranges() {
    for (min_version, max_version, text) in
        [(0, 0, "versions 0,"), (2, 9, "versions 2 to 9,"), (3, 1, "versions 3 to 1,")]
    {
        let error = greeting_error(Hello { min_version, max_version, ..hello() });
        assert!(matches!(error, SessionError::NoCommonVersion { .. }), "{error}");
        let shown = error.to_string();
        assert!(shown.contains(text) && shown.contains("this gateway 1;"), "{shown}");
        assert_eq!(error.close_reason(), CloseReason::VersionMismatch);
    }
}

#[test]
fn a_peer_that_calls_itself_another_cluster_is_refused() {
    let error = greeting_error(Hello { cluster: "north\n".into(), ..hello() });
    assert_eq!(error, SessionError::WrongCluster { claimed: "north ".into(), authenticated: "west".parse().unwrap() });
    assert_eq!(error.close_reason(), CloseReason::WrongCluster);
}

#[test]
fn hellos_with_unusable_fields_are_refused_by_field() {
    let long = "x".repeat(MAX_TEXT + 1);
    let cases = [
        (Hello { instance: long.clone(), ..hello() }, "Hello.instance"),
        (Hello { software: long, ..hello() }, "Hello.software"),
        (Hello { software: "a\u{1b}[2J".into(), ..hello() }, "Hello.software"),
        (Hello { held_digest: vec![1; 31].into(), ..hello() }, "Hello.held_digest"),
    ];
    for (hello, place) in cases {
        let error = greeting_error(hello);
        assert!(error.to_string().contains(place), "{error}");
        assert_eq!(error.close_reason(), CloseReason::ProtocolViolation);
    }
}

#[test]
fn a_peer_that_begins_with_something_else_is_refused() {
    let now = clock();
    for first in [message(Message::Ping(Ping::default())), ControlMessage::default()] {
        let mut east = session("east", "west", &catalog("east", &[]), now);
        assert_eq!(east.handle_message(first, now, EPOCH_MILLIS), Err(SessionError::NoHelloFirst));
    }
}

#[test]
fn a_second_hello_is_refused() {
    let now = clock();
    let second = greeted(now).handle_message(message(Message::Hello(hello())), now, EPOCH_MILLIS);
    assert_eq!(second, Err(SessionError::SecondHello));
}

#[test]
fn a_peer_that_says_no_hello_is_given_up_in_time() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.west.stalled = true;
    pair.run(Duration::from_secs(6));
    assert_eq!(pair.east.ended, Some(SessionError::NoHello { after: Duration::from_secs(5) }));
    assert_eq!(pair.west.ended, None);
}

#[test]
fn the_lease_expires_during_a_stall_and_is_restored_after_it() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.run(Duration::from_secs(10));
    assert!(!pair.east.events.contains(&SessionEvent::LeaseExpired));
    pair.west.stalled = true;
    pair.run_millis(1400);
    assert!(!pair.east.events.contains(&SessionEvent::LeaseExpired));
    pair.run_millis(700);
    assert_eq!(pair.east.events.last(), Some(&SessionEvent::LeaseExpired));
    assert!(!pair.west.events.contains(&SessionEvent::LeaseExpired), "the other direction did not stall");

    pair.run(Duration::from_secs(3));
    let expired = pair.east.events.iter().filter(|event| **event == SessionEvent::LeaseExpired).count();
    assert_eq!(expired, 1, "it is told once");
    pair.east.events.clear();
    pair.west.stalled = false;
    pair.run_millis(100);
    assert_eq!(pair.east.events.first(), Some(&SessionEvent::LeaseRestored));
}

#[test]
fn a_partition_ends_both_sessions_when_it_lasts() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.run(Duration::from_secs(1));
    (pair.east.stalled, pair.west.stalled) = (true, true);
    pair.run(Duration::from_secs(29));
    assert_eq!((&pair.east.ended, &pair.west.ended), (&None, &None));
    pair.run(Duration::from_secs(2));
    for end in [&pair.east, &pair.west] {
        let error = end.ended.as_ref().unwrap();
        assert!(matches!(error, SessionError::Silent { .. }), "{error}");
        assert!(error.to_string().contains("30.0 s"), "{error}");
        assert_eq!(error.close_reason(), CloseReason::Silent);
    }
}

#[test]
fn any_message_renews_the_lease_even_one_of_a_later_version() {
    let start = clock();
    let mut east = greeted(start);
    for second in 1..10 {
        let now = start + Duration::from_secs(second);
        east.handle_message(ControlMessage::default(), now, EPOCH_MILLIS).unwrap();
        east.handle_timeout(now + Duration::from_millis(900), EPOCH_MILLIS).unwrap();
    }
    while let Some(event) = east.poll_event() {
        assert_ne!(event, SessionEvent::LeaseExpired);
    }
}

#[test]
fn round_trips_are_measured_with_every_ping() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.latency = Duration::from_millis(35);
    pair.run(Duration::from_secs(5));
    let rtts = pair.east.events.iter().filter(|event| **event == SessionEvent::Rtt(Duration::from_millis(70)));
    assert_eq!(rtts.count(), 10);
    assert!(pair.east.sent_count(|message| matches!(message, Message::Ping(_))) <= 11);
}

#[test]
fn round_trips_longer_than_the_ping_interval_are_measured() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.latency = Duration::from_millis(800);
    pair.run(Duration::from_secs(10));
    assert!(pair.west.events.contains(&SessionEvent::Rtt(Duration::from_millis(1600))));
}

#[test]
fn clock_skew_is_told_at_the_hello_and_corrected_by_the_round_trip() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.latency = Duration::from_millis(200);
    pair.west.clock_ahead_millis = 3000;
    pair.run(Duration::from_secs(3));
    let skews = |events: &[SessionEvent]| -> Vec<i64> {
        let skew = |event: &SessionEvent| if let SessionEvent::Skew(millis) = event { Some(*millis) } else { None };
        events.iter().filter_map(skew).collect()
    };
    // The hello of west left before its clock was put ahead.
    assert_eq!(skews(&pair.east.events), [-200, 3000]);
    assert_eq!(skews(&pair.west.events), [-3200, -3000]);
    pair.west.clock_ahead_millis = 3020;
    pair.run(Duration::from_secs(2));
    assert_eq!(skews(&pair.east.events).len(), 2, "a small move is not told");
    pair.west.clock_ahead_millis = -60_000;
    pair.run(Duration::from_secs(2));
    assert_eq!(skews(&pair.east.events).last(), Some(&-60_000));
}

#[test]
fn absurd_clocks_are_shown_as_the_greatest_skew() {
    let now = clock();
    let mut east = session("east", "west", &catalog("east", &[]), now);
    let far = Hello { unix_millis: u64::MAX, ..hello() };
    east.handle_message(message(Message::Hello(far)), now, EPOCH_MILLIS).unwrap();
    east.poll_event();
    assert_eq!(east.poll_event(), Some(SessionEvent::Skew(i64::MAX)));
}

#[test]
fn a_drain_is_told_and_the_exchange_goes_on() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.run_millis(100);
    pair.east.session.handle_drain("rolling\nupdate");
    pair.run_millis(100);
    assert!(pair.west.events.contains(&SessionEvent::PeerDraining { reason: "rolling update".into() }));
    pair.east.session.handle_local_catalog(catalog("east", &[("late", 1)]));
    pair.run_millis(100);
    assert_eq!(pair.west.known(), Some(&catalog("east", &[("late", 1)])));
    assert_eq!((&pair.east.ended, &pair.west.ended), (&None, &None));
}

#[test]
fn a_stream_that_takes_nothing_costs_one_message_of_each_kind() {
    let start = clock();
    let mut east = greeted(start);
    for n in 1..1000u16 {
        let now = start + Duration::from_millis(700) * u32::from(n);
        east.handle_local_catalog(catalog("east", &[("a", n)]));
        east.handle_message(message(Message::Ping(Ping { sequence: n.into(), unix_millis: 0 })), now, 0).unwrap();
        east.handle_timeout(now, EPOCH_MILLIS).unwrap();
        east.handle_drain("stop");
    }
    let sent: Vec<Message> = std::iter::from_fn(|| east.poll_transmit()).filter_map(|sent| sent.message).collect();
    assert_eq!(sent.len(), 5, "hello, pong, ping, drain, snapshot: {sent:?}");
    assert!(std::iter::from_fn(|| east.poll_event()).count() <= 9);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_refused() {
    let now = clock();
    let error = greeted(now).handle_message(message(Message::Ack(CatalogAck { revision: 1 })), now, 0).unwrap_err();
    assert_eq!(error, SessionError::UnknownAck { acknowledged: 1, sent: 0 });
}

#[test]
fn close_reasons_have_codes_and_labels_of_their_own() {
    let labels: std::collections::BTreeSet<_> = CloseReason::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(labels.len(), CloseReason::ALL.len());
    for reason in CloseReason::ALL {
        assert_eq!(CloseReason::from_code(reason.code().into()), Some(*reason));
    }
    assert_eq!(CloseReason::from_code(99), None);
}
