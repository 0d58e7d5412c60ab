//! What two ends tell each other of trust.

use federation_model::{bundle::Fingerprint, lineage::BundleDigest};
use proto::tunnel::v1::{Credential, CredentialAck, HeldBundle};

use super::*;
use crate::session::{CredentialProof, Held, Judgement};

fn held(sequence: u64) -> Held {
    Held { sequence, digest: BundleDigest::from_bytes([7; 32]) }
}

fn proof(byte: u8) -> CredentialProof {
    CredentialProof { chain: vec![vec![byte; 10].into(), vec![1].into()], signature: vec![byte].into() }
}

fn credential() -> ControlMessage {
    message(Message::Credential(Credential { chain: vec![vec![1].into()], signature: vec![2].into() }))
}

#[test]
fn each_end_hears_which_bundle_the_other_believes_and_by_which_certificate_it_wants_to_be_judged() {
    let mut pair = Pair::new(&catalog("east", &[]), &catalog("west", &[]));
    pair.east.session.handle_held(held(3));
    pair.east.session.handle_credential(proof(1));
    pair.run_millis(100);
    assert!(pair.west.events.contains(&SessionEvent::Held(held(3))));
    assert!(pair.west.events.contains(&SessionEvent::Credential(proof(1))));

    let accepted = Judgement { fingerprint: Fingerprint::of(b"leaf"), refusal: None };
    pair.west.session.handle_judgement(accepted.clone());
    pair.run_millis(100);
    assert!(pair.east.events.contains(&SessionEvent::Judged(accepted)));
    let refused = Judgement { fingerprint: Fingerprint::of(b"leaf"), refusal: Some("it is expired".to_owned()) };
    pair.west.session.handle_judgement(refused.clone());
    pair.run_millis(100);
    assert!(pair.east.events.contains(&SessionEvent::Judged(refused)));
    assert!(pair.east.ended.is_none() && pair.west.ended.is_none());
}

#[test]
fn only_the_newest_word_is_sent_when_the_stream_is_slow() {
    let mut east = greeted(clock());
    for sequence in 1..100 {
        east.handle_held(held(sequence));
        east.handle_credential(proof(u8::try_from(sequence).unwrap()));
    }
    let sent: Vec<_> = std::iter::from_fn(|| east.poll_transmit()).filter_map(|m| m.message).collect();
    let bundles = sent.iter().filter(|m| matches!(m, Message::HeldBundle(_))).count();
    let credentials: Vec<_> = sent.iter().filter(|m| matches!(m, Message::Credential(_))).collect();
    assert_eq!((bundles, credentials.len()), (1, 1));
    assert!(matches!(credentials[0], Message::Credential(c) if c.signature.as_ref() == [99]));
}

#[test]
fn a_peer_that_wants_to_be_judged_without_end_loses_the_session() {
    let mut now = clock();
    let mut east = greeted(now);
    for _ in 0..8 {
        east.handle_message(credential(), now, EPOCH_MILLIS).unwrap();
    }
    let error = east.handle_message(credential(), now, EPOCH_MILLIS).unwrap_err();
    assert_eq!(error, SessionError::TooManyCredentials);
    // One every second is never too many.
    let mut east = greeted(now);
    for _ in 0..100 {
        now += Duration::from_secs(1);
        east.handle_message(credential(), now, EPOCH_MILLIS).unwrap();
    }
}

#[test]
fn words_about_trust_that_are_out_of_form_end_the_session() {
    let now = clock();
    let large = vec![vec![0; 9000].into()];
    for bad in [
        Message::HeldBundle(HeldBundle { sequence: 1, digest: vec![1].into() }),
        Message::CredentialAck(CredentialAck { fingerprint: vec![1].into(), refusal: String::new() }),
        Message::Credential(Credential::default()),
        Message::Credential(Credential { chain: vec![vec![1].into(); 5], signature: vec![1].into() }),
        Message::Credential(Credential { chain: large, signature: vec![1].into() }),
        Message::Credential(Credential { chain: vec![vec![1].into()], signature: vec![1; 2000].into() }),
    ] {
        let error = greeted(now).handle_message(message(bad.clone()), now, EPOCH_MILLIS).unwrap_err();
        assert!(matches!(error, SessionError::BadCredential(_)), "{bad:?}: {error}");
        assert_eq!(error.close_reason(), CloseReason::ProtocolViolation);
    }
}
