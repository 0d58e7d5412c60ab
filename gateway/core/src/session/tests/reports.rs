//! What two ends tell each other of their imports.

use federation_model::{catalog::MAX_SERVICES, names::ServiceKey, report::ImportState};
use proto::tunnel::v1::{ImportReport as Wire, ImportStanding, ServiceKey as WireKey};

use super::*;

fn key(number: usize) -> ServiceKey {
    format!("ns/s{number}").parse().unwrap()
}

fn report(states: impl IntoIterator<Item = (usize, ImportState)>) -> Arc<ImportReport> {
    Arc::new(states.into_iter().map(|(number, state)| (key(number), state)).collect())
}

fn pair() -> Pair {
    Pair::new(&catalog("east", &[]), &catalog("west", &[]))
}

/// The last report that was heard of the peer.
fn heard(events: &[SessionEvent]) -> Option<Arc<ImportReport>> {
    events.iter().rev().find_map(|event| {
        let SessionEvent::ImportReport(report) = event else { return None };
        Some(report.clone())
    })
}

fn entries(sent: &[Message]) -> Vec<usize> {
    let of = |message: &Message| {
        let Message::ImportReport(report) = message else { return None };
        Some(report.standings.len() + report.withdrawn.len())
    };
    sent.iter().filter_map(of).collect()
}

#[test]
fn a_report_follows_the_imports_and_later_messages_hold_the_changes_alone() {
    let mut pair = pair();
    let (ready, waiting) = (ImportState::Ready, ImportState::NoAddress);
    for (wanted, entries_so_far) in [
        (report([(1, ready), (2, waiting), (3, ready)]), vec![3]),
        (report([(1, ready), (2, ready), (3, ready)]), vec![3, 1]),
        (report([(2, ready), (4, waiting)]), vec![3, 1, 3]),
        (report([]), vec![3, 1, 3, 2]),
    ] {
        pair.east.session.handle_local_report(wanted.clone());
        pair.run_millis(100);
        assert_eq!(heard(&pair.west.events), Some(wanted));
        assert_eq!(entries(&pair.east.sent), entries_so_far);
    }
    pair.east.session.handle_local_report(report([]));
    pair.run_millis(100);
    assert_eq!(entries(&pair.east.sent).len(), 4, "what is the same is not said again");
    assert!(pair.east.ended.is_none() && pair.west.ended.is_none());
}

#[test]
fn nothing_is_said_before_anything_is_known() {
    let mut pair = pair();
    pair.run_millis(1000);
    assert_eq!((heard(&pair.east.events), heard(&pair.west.events)), (None, None));
}

#[test]
fn a_report_on_as_many_services_as_there_can_be_arrives_in_small_messages() {
    let mut pair = pair();
    let all = report((0..MAX_SERVICES).map(|number| (number, ImportState::Ready)));
    pair.east.session.handle_local_report(all.clone());
    pair.run_millis(100);
    assert_eq!(heard(&pair.west.events), Some(all));
    assert_eq!(entries(&pair.east.sent), vec![MAX_REPORTED; MAX_SERVICES / MAX_REPORTED]);
    pair.east.session.handle_local_report(report([]));
    pair.run_millis(100);
    assert_eq!(heard(&pair.west.events), Some(report([])));
    assert!(pair.west.ended.is_none());
}

#[test]
fn only_the_newest_report_is_sent_when_the_stream_is_slow() {
    let mut east = greeted(clock());
    for number in 0..100 {
        east.handle_local_report(report([(number, ImportState::Ready)]));
    }
    let sent: Vec<_> = std::iter::from_fn(|| east.poll_transmit()).filter_map(|message| message.message).collect();
    assert_eq!(entries(&sent), [1]);
}

#[test]
fn a_peer_that_says_in_its_hello_that_it_reports_is_known_to_and_an_older_one_is_not() {
    for says in [true, false] {
        let now = clock();
        let mut east = session("east", "west", &catalog("east", &[]), now);
        let hello = Hello { reports_imports: says, ..hello() };
        east.handle_message(message(Message::Hello(hello)), now, EPOCH_MILLIS).unwrap();
        assert!(matches!(east.poll_event(), Some(SessionEvent::Up { reports_imports, .. }) if reports_imports == says));
    }
}

fn handle(east: &mut Session, standings: Vec<ImportStanding>) -> Result<(), SessionError> {
    let report = Wire { standings, withdrawn: Vec::new() };
    east.handle_message(message(Message::ImportReport(report)), clock(), EPOCH_MILLIS)
}

fn standing(name: &str) -> ImportStanding {
    ImportStanding { service: Some(WireKey { namespace: "ns".into(), name: name.into() }), state: 1 }
}

#[test]
fn a_peer_that_reports_on_more_than_there_can_be_or_on_no_names_loses_the_session() {
    let mut east = greeted(clock());
    handle(&mut east, (0..MAX_SERVICES).map(|number| standing(&format!("s{number}"))).collect()).unwrap();
    let error = handle(&mut east, vec![standing("one-more")]).unwrap_err();
    assert_eq!(error, SessionError::TooManyReported(MAX_SERVICES + 1));
    let error = handle(&mut greeted(clock()), vec![standing("Not-A-Name")]).unwrap_err();
    assert!(matches!(error, SessionError::BadReport(_)), "{error}");
    assert_eq!(error.close_reason(), CloseReason::ProtocolViolation);
}
