use federation_model::{
    addr::GatewayAddr,
    lineage::{Lineage, SignedBundle},
};
use proptest::prelude::*;

use super::*;

fn members() -> impl Strategy<Value = Member> {
    let authorities = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 0..4);
    let advertise = prop::collection::vec((any::<[u8; 4]>(), 1..=u16::MAX), 0..4);
    (("[a-z]{1,20}", "[a-z]{1,10}"), authorities, advertise, any::<(u64, u64)>()).prop_map(
        |((cluster, region), authorities, advertise, (sequence, joined_at))| {
            let trust_domain = TrustDomain::new(format!("{cluster}.example")).unwrap();
            let gateway_id = parse_workload_id(&format!("spiffe://{trust_domain}/landbridge/gateway")).unwrap();
            let cluster: ClusterName = cluster.parse().unwrap();
            let bundle =
                TrustBundle { trust_domain, sequence, authorities: authorities.into_iter().map(Into::into).collect() };
            let version = |bundle: &TrustBundle, previous| SignedBundle {
                cluster: cluster.clone(),
                gateway_id: gateway_id.clone(),
                bundle: bundle.clone(),
                previous,
                signed_at: Timestamp(joined_at),
                signer: bundle.authorities.iter().take(4).cloned().collect(),
                signature: sequence.to_be_bytes().to_vec(),
            };
            let first = version(&TrustBundle { sequence: 1, ..bundle.clone() }, None);
            let newest = version(&bundle, Some(first.digest()));
            let versions = if joined_at % 3 == 0 { Vec::new() } else { vec![first, newest] };
            Member {
                gateway_id,
                cluster,
                lineage: Lineage::new(versions),
                advertise: advertise
                    .into_iter()
                    .map(|(ip, port)| {
                        format!("{}:{port}", std::net::Ipv4Addr::from(ip)).parse::<GatewayAddr>().unwrap()
                    })
                    .collect(),
                bundle,
                zone: format!("{region}-1"),
                region,
                joined_at: Timestamp(joined_at),
            }
        },
    )
}

fn member() -> wire::Member {
    wire::Member {
        cluster: "west".to_owned(),
        gateway_id: "spiffe://west.example/landbridge/gateway".to_owned(),
        bundle: Some(wire::Bundle { trust_domain: "west.example".to_owned(), ..Default::default() }),
        ..Default::default()
    }
}

proptest! {
    #[test]
    fn every_member_survives_the_wire(member in members()) {
        prop_assert_eq!(&Member::try_from(wire::Member::from(&member)).unwrap(), &member);
        let change = Change::Upsert(member);
        prop_assert_eq!(Change::try_from(wire::Change::from(&change)).unwrap(), change);
    }
}

#[test]
fn every_other_change_survives_the_wire() {
    let bundle = TrustBundle {
        trust_domain: TrustDomain::new("federation.internal").unwrap(),
        sequence: 3,
        authorities: vec![vec![1, 2].into()],
    };
    let removed = Change::ForeignRemoved(TrustDomain::new("spire.example").unwrap());
    let foreign = Change::Foreign(bundle.clone());
    for change in [Change::Removed("west".parse().unwrap()), Change::Federation(bundle), foreign, removed] {
        assert_eq!(Change::try_from(wire::Change::from(&change)).unwrap(), change);
    }
    assert!(Change::try_from(wire::Change::default()).is_err());
}

#[test]
fn members_outside_the_limits_are_refused_with_the_field() {
    type Spoil = fn(&mut wire::Member);
    let cases: [(&str, Spoil); 7] = [
        ("Member.bundle", |member| member.bundle = None),
        ("Member.cluster", |member| member.cluster = "West".to_owned()),
        ("Member.gateway_id", |member| member.gateway_id = "spiffe://east.example/landbridge/gateway".to_owned()),
        ("Member.advertise", |member| member.advertise = vec!["a:1".to_owned(); MAX_ADVERTISED + 1]),
        ("Member.region", |member| member.region = "x".repeat(MAX_LOCALITY + 1)),
        ("Member.zone", |member| member.zone = "a\nb".to_owned()),
        ("Bundle.authorities", |member| {
            let bundle = member.bundle.as_mut().unwrap();
            bundle.authorities = vec![vec![0; MAX_BUNDLE / 2 + 1].into(); 2];
        }),
    ];
    assert!(Member::try_from(member()).is_ok());
    for (field, spoil) in cases {
        let mut member = member();
        spoil(&mut member);
        let error = Member::try_from(member).unwrap_err().to_string();
        assert!(error.starts_with(field), "{field}: {error}");
    }
}

#[test]
fn findings_survive_the_wire() {
    for finding in [Finding::ok("a", "b"), Finding::warning("a", "b", "c"), Finding::failed("a", "b", "c")] {
        assert_eq!(Finding::try_from(wire::Finding::from(&finding)).unwrap(), finding);
    }
    assert!(Finding::try_from(wire::Finding::default()).is_err());
}

#[test]
fn every_refusal_survives_its_label() {
    for refusal in Refusal::ALL {
        assert_eq!(refusal.label().parse::<Refusal>(), Ok(*refusal));
    }
    assert!("else".parse::<Refusal>().is_err());
}
