use federation_model::{
    member::Change,
    revocation::{MAX_LINE, RevocationId},
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn subjects() -> impl Strategy<Value = Subject> {
    let trust_domain = "[a-z]{1,20}".prop_map(|name| TrustDomain::new(format!("{name}.example")).unwrap());
    let serial = prop::collection::vec(any::<u8>(), 1..=20).prop_map(|bytes| Serial::from_bytes(&bytes));
    prop_oneof![
        ("[a-z]{1,20}", trust_domain.clone())
            .prop_map(|(name, trust_domain)| Subject::Cluster { cluster: name.parse().unwrap(), trust_domain }),
        "[a-z]{1,9}/[a-z]{1,9}".prop_map(|path| Subject::parse_id(&format!("spiffe://a.example/{path}")).unwrap()),
        "(/[a-z]{1,9}){0,3}".prop_map(|path| Subject::parse_id(&format!("spiffe://a.example{path}/*")).unwrap()),
        (trust_domain, serial).prop_map(|(trust_domain, serial)| Subject::Serial { trust_domain, serial }),
    ]
}

fn revocations() -> impl Strategy<Value = Revocation> {
    (any::<u64>(), subjects(), "[ -~]{0,40}", any::<u64>()).prop_map(|(bits, subject, reason, at)| Revocation {
        id: RevocationId::from_bits(bits),
        subject,
        reason: reason.parse().unwrap(),
        by: "admin".parse().unwrap(),
        at: Timestamp(at),
    })
}

proptest! {
    #[test]
    fn every_revocation_survives_the_wire(revocation in revocations()) {
        prop_assert_eq!(&Revocation::try_from(wire::Revocation::from(&revocation)).unwrap(), &revocation);
        for change in [Change::Reinstated(revocation.id), Change::Revoked(Arc::new(revocation))] {
            let bytes = wire::Change::from(&change).encode_to_vec();
            prop_assert_eq!(Change::try_from(wire::Change::decode(&*bytes).unwrap()).unwrap(), change);
        }
    }

    #[test]
    fn what_is_asked_survives_the_wire_and_a_cluster_is_asked_by_its_name(subject in subjects()) {
        let reason: Line = "why".parse().unwrap();
        let expected = match &subject {
            Subject::Cluster { cluster, .. } => Asked::Cluster(cluster.clone()),
            Subject::Id(_) | Subject::Prefix(_) | Subject::Serial { .. } => Asked::Subject(subject.clone()),
        };
        let request = Asked::Subject(subject).message(&reason);
        prop_assert_eq!(asked(request).unwrap(), (expected, reason));
    }

    #[test]
    fn every_set_survives_the_wire(all in prop::collection::vec(revocations(), 0..8)) {
        let held = Revocations::of(all.into_iter().map(Arc::new)).unwrap();
        prop_assert_eq!(set(messages(&held)).unwrap(), held);
    }
}

#[test]
fn revocations_outside_the_grammar_are_refused_with_the_field() {
    use wire::revocation::Subject as Message;
    let good = || wire::Revocation {
        id: "00000000000000ff".to_owned(),
        subject: Some(Message::SpiffeId("spiffe://a.example/b".to_owned())),
        ..Default::default()
    };
    assert!(Revocation::try_from(good()).is_ok());
    let serial = |serial: &str| wire::RevokedSerial { trust_domain: "a.example".to_owned(), serial: serial.to_owned() };
    let cases = [
        ("Revocation.id", wire::Revocation { id: "ff".to_owned(), ..good() }),
        ("Revocation.subject", wire::Revocation { subject: None, ..good() }),
        ("Revocation.reason", wire::Revocation { reason: "a\nb".to_owned(), ..good() }),
        ("Revocation.by", wire::Revocation { by: "a".repeat(MAX_LINE + 1), ..good() }),
        (
            "Revocation.spiffe_id",
            wire::Revocation { subject: Some(Message::SpiffeId("spiffe://a.example".to_owned())), ..good() },
        ),
        (
            "Revocation.prefix",
            wire::Revocation { subject: Some(Message::Prefix("spiffe://a.example/b".to_owned())), ..good() },
        ),
        ("Revocation.cluster", wire::Revocation { subject: Some(Message::Cluster(Default::default())), ..good() }),
        ("Revocation.serial", wire::Revocation { subject: Some(Message::Serial(serial("x"))), ..good() }),
    ];
    for (field, message) in cases {
        let error = Revocation::try_from(message).unwrap_err().to_string();
        assert!(error.starts_with(field), "{field}: {error}");
    }
    assert!(asked(wire::RevokeRequest::default()).unwrap_err().to_string().starts_with("RevokeRequest.subject"));
}

#[test]
fn every_standing_survives_the_wire() {
    for held in [Standing::Acknowledged, Standing::Pending, Standing::Away, Standing::Gone] {
        let message =
            wire::Acknowledgement { state: wire::AcknowledgementState::from(held).into(), ..Default::default() };
        assert_eq!(standing(&message).unwrap(), held);
    }
    assert!(standing(&wire::Acknowledgement::default()).is_err());
}
