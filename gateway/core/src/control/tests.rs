//! Frames in pieces, frames over the limit, and frames that would explode.

use proptest::{collection, prelude::*};
use proto::tunnel::v1::{
    Catalog, CatalogDelta, CatalogSnapshot, Hello, ImportReport, ImportStanding, Ping, Port, Service, ServiceKey,
    control_message::Message,
};

use super::*;

fn ping(sequence: u64) -> ControlMessage {
    ControlMessage { message: Some(Message::Ping(Ping { sequence, unix_millis: 5 })) }
}

fn snapshot(services: Vec<Service>) -> ControlMessage {
    let catalog = Some(Catalog { cluster: "west".into(), services });
    ControlMessage { message: Some(Message::Snapshot(CatalogSnapshot { catalog, ..Default::default() })) }
}

fn decode(bytes: &[u8]) -> Result<Option<ControlMessage>, ControlError> {
    let mut decoder = Decoder::new();
    decoder.feed(bytes);
    decoder.poll()
}

#[test]
fn a_frame_over_the_limit_is_refused_by_its_length_alone() {
    let prefix = u32::try_from(MAX_CONTROL_FRAME + 1).unwrap().to_be_bytes();
    assert_eq!(decode(&prefix), Err(ControlError::TooLarge { length: MAX_CONTROL_FRAME + 1 }));
    assert_eq!(decode(&u32::try_from(MAX_CONTROL_FRAME).unwrap().to_be_bytes()), Ok(None));
}

#[test]
fn a_message_over_the_limit_is_not_written() {
    let software = "x".repeat(MAX_CONTROL_FRAME);
    let message = ControlMessage { message: Some(Message::Hello(Hello { software, ..Default::default() })) };
    assert!(matches!(encode(&message), Err(ControlError::TooLarge { .. })));
}

#[test]
fn a_frame_that_is_no_message_is_refused() {
    assert!(matches!(decode(&[0, 0, 0, 2, 0x0a, 0xff]), Err(ControlError::Malformed(_))));
    // A catalog whose length field runs past its frame.
    assert!(matches!(decode(&[0, 0, 0, 4, 0x12, 0x02, 0x22, 0x7f]), Err(ControlError::Malformed(_))));
}

#[test]
fn an_empty_frame_is_a_message_without_content() {
    assert_eq!(decode(&[0, 0, 0, 0]), Ok(Some(ControlMessage::default())));
}

#[test]
fn messages_of_later_versions_are_messages_without_content() {
    // Field 99, length-delimited.
    assert_eq!(decode(&[0, 0, 0, 4, 0x9a, 0x06, 0x01, 0xff]), Ok(Some(ControlMessage::default())));
}

#[test]
fn frames_whose_entries_would_not_fit_into_memory_are_refused_before_they_become_values() {
    let services = MAX_FOOTPRINT / size_of::<Service>() + 1;
    let frame = encode(&snapshot(vec![Service::default(); services])).unwrap();
    assert_eq!(decode(&frame), Err(ControlError::TooManyEntries));
    let ports = MAX_FOOTPRINT / size_of::<Port>() + 1;
    let service = Service { ports: vec![Port::default(); ports], ..Default::default() };
    let delta = CatalogDelta { upserts: vec![service], ..Default::default() };
    let frame = encode(&ControlMessage { message: Some(Message::Delta(delta)) }).unwrap();
    assert_eq!(decode(&frame), Err(ControlError::TooManyEntries));
}

#[test]
fn reports_whose_entries_would_not_fit_into_memory_are_refused_before_they_become_values() {
    let withdrawn = vec![ServiceKey::default(); MAX_FOOTPRINT / size_of::<ServiceKey>() + 1];
    let standings = vec![ImportStanding::default(); MAX_FOOTPRINT / size_of::<ImportStanding>() + 1];
    for report in [ImportReport { withdrawn, ..Default::default() }, ImportReport { standings, ..Default::default() }] {
        let frame = encode(&ControlMessage { message: Some(Message::ImportReport(report)) }).unwrap();
        assert_eq!(decode(&frame), Err(ControlError::TooManyEntries));
    }
}

#[test]
fn catalogs_of_the_size_the_model_accepts_are_read() {
    let key = |n: usize| Some(ServiceKey { namespace: "production".into(), name: format!("service-{n}") });
    let port = Port { transport: 1, port: 80, name: Some("http".into()), ..Default::default() };
    let service = |n| Service { key: key(n), weight: 100, ports: vec![port.clone(); 3], ..Default::default() };
    let message = snapshot((0..federation_model::catalog::MAX_SERVICES).map(service).collect());
    assert_eq!(decode(&encode(&message).unwrap()), Ok(Some(message)));
}

proptest! {
    #[test]
    fn messages_survive_any_fragmentation(cuts in collection::vec(1usize..12, 1..20), count in 1u64..10) {
        let stream: Vec<u8> = (0..count).flat_map(|n| encode(&ping(n)).unwrap()).collect();
        let mut decoder = Decoder::new();
        let mut rest = stream.as_slice();
        let mut read = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            decoder.feed(piece);
            while let Some(message) = decoder.poll().unwrap() {
                read.push(message);
            }
            rest = after;
        }
        prop_assert!(decoder.is_between_messages());
        prop_assert_eq!(read, (0..count).map(ping).collect::<Vec<_>>());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in collection::vec(any::<u8>(), 0..300)) {
        let mut frame = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(&bytes);
        let _ = decode(&frame);
        let _ = decode(&bytes);
    }
}
