use federation_client::watch::Position;
use federation_model::{
    bundle::TrustBundle,
    lineage::Lineage,
    revocation::{MAX_REVOCATIONS, Revocation, Subject},
    spiffe::SpiffeId,
    time::Timestamp,
};

use super::*;

fn revocation(number: u64, subject: Subject) -> Arc<Revocation> {
    let (reason, by) = ("key lost".parse().unwrap(), "admin".parse().unwrap());
    Arc::new(Revocation { id: RevocationId::from_bits(number), subject, reason, by, at: Timestamp(1) })
}

fn of_path(number: u64) -> Arc<Revocation> {
    revocation(number, Subject::parse_id(&format!("spiffe://west.example/{number}")).unwrap())
}

fn update(reset: bool, changes: Vec<Change>) -> WatchUpdate {
    WatchUpdate {
        position: Position { store_id: "s".to_owned(), revision: 5, mark: None, former: Vec::new() },
        reset,
        changes,
        pending: false,
    }
}

fn ids(revocations: &Revocations) -> Vec<u64> {
    (0..10).filter(|number| revocations.named(&RevocationId::from_bits(*number)).is_some()).collect()
}

#[test]
fn a_revocation_that_is_missing_from_a_reset_stays_and_only_a_lifted_one_goes() {
    let held = Arc::new(Revocations::of([of_path(1), of_path(2), of_path(3)]).unwrap());
    let changes = vec![Change::Revoked(of_path(4)), Change::Reinstated(RevocationId::from_bits(2))];
    for reset in [true, false] {
        assert_eq!(ids(&after(&held, &update(reset, changes.clone()))), [1, 3, 4]);
    }
    assert_eq!(ids(&after(&held, &update(true, Vec::new()))), [1, 2, 3]);
    let same = after(&held, &update(false, vec![Change::Reinstated(RevocationId::from_bits(9))]));
    assert!(Arc::ptr_eq(&same, &held), "nothing is copied when nothing changes");
}

#[test]
fn what_does_not_fit_is_not_held_for_applied() {
    let full = Arc::new(Revocations::of((0..MAX_REVOCATIONS as u64).map(of_path)).unwrap());
    let one_more = update(false, vec![Change::Revoked(of_path(MAX_REVOCATIONS as u64))]);
    let next = after(&full, &one_more);
    assert_eq!(next.len(), MAX_REVOCATIONS);
    assert!(hold(&next, &told(&one_more)).unwrap_err().to_string().contains("no room"));
    assert!(hold(&next, &told(&update(false, vec![Change::Revoked(of_path(1))]))).is_ok());
}

#[test]
fn members_that_are_revoked_by_name_trust_domain_or_gateway_id_are_no_peers() {
    let member = |name: &str| {
        let gateway_id = SpiffeId::new(format!("spiffe://{name}.example/landbridge/gateway")).unwrap();
        let trust_domain = gateway_id.trust_domain().clone();
        let cluster: ClusterName = name.parse().unwrap();
        let member = Member {
            cluster: cluster.clone(),
            gateway_id,
            advertise: Vec::new(),
            lineage: Lineage::default(),
            bundle: TrustBundle { trust_domain, sequence: 1, authorities: Vec::new() },
            region: String::new(),
            zone: String::new(),
            joined_at: Timestamp(1),
        };
        (cluster, member)
    };
    let listed: BTreeMap<_, _> = ["east", "north", "south", "west"].map(member).into();
    let (cluster, west) = member("west");
    let other_name =
        Subject::Cluster { cluster: "east".parse().unwrap(), trust_domain: member("elsewhere").1.bundle.trust_domain };
    let revocations = Revocations::of([
        revocation(1, Subject::Cluster { cluster, trust_domain: west.bundle.trust_domain }),
        revocation(2, Subject::parse_id("spiffe://north.example/landbridge/*").unwrap()),
        revocation(3, other_name),
        revocation(4, Subject::parse_id("spiffe://south.example/ns/a/*").unwrap()),
    ]);
    let mut members = listed.clone();
    exclude(&mut members, &revocations.unwrap(), &listed);
    assert_eq!(members.keys().map(ClusterName::as_str).collect::<Vec<_>>(), ["south"]);
}
