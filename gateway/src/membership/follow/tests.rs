use std::{collections::BTreeMap, path::Path, time::Duration};

use federation_client::{membership::Joined, watch::Position};
use federation_model::{
    member::{Change, Member},
    names::ClusterName,
    revocation::{Revocation, RevocationId, Subject},
    time::Timestamp,
};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    continuity,
    signer::Signer,
};

use super::*;

fn authority(domain: &TrustDomain) -> Arc<Authority> {
    let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
    Arc::new(Authority::generate(domain, "authority", validity).unwrap())
}

fn member(cluster: &str, domain: &str) -> Member {
    let gateway_id = SpiffeId::new(format!("spiffe://{domain}/landbridge/gateway")).unwrap();
    member_of(cluster, &authority(gateway_id.trust_domain()))
}

fn member_of(cluster: &str, authority: &Arc<Authority>) -> Member {
    let gateway_id = SpiffeId::from_segments(authority.trust_domain().clone(), &["landbridge", "gateway"]).unwrap();
    let (signer, cluster) = (Signer::Authority(authority.clone()), cluster.parse().unwrap());
    let authorities = vec![authority.certificate().clone()];
    let first = continuity::first(&cluster, &gateway_id, authorities, (&signer, Timestamp(1_700_000_000))).unwrap();
    Member {
        cluster,
        bundle: first.bundle.clone(),
        lineage: Lineage::new(vec![first]),
        gateway_id,
        advertise: Vec::new(),
        region: String::new(),
        zone: String::new(),
        joined_at: Timestamp(1),
    }
}

fn service() -> SpiffeId {
    SpiffeId::new("spiffe://federation.internal/landbridge/federation").unwrap()
}

/// East, which has joined together with west.
async fn joined(dir: &Path) -> Arc<Follower> {
    let file = dir.join("gateway.toml");
    let state = dir.join("state");
    federation_runtime::state::create_private_dir(&state).unwrap();
    let text = format!(
        "[cluster]\nname = \"east\"\ntrust_domain = \"east.example\"\n[state]\ndir = \"{}\"\n",
        state.display()
    );
    std::fs::write(&file, text).unwrap();
    let config: Config = federation_runtime::config::load(Some(&file), &BTreeMap::new()).unwrap();
    let request = SvidRequest {
        id: config.cluster.gateway_id(),
        names: Vec::new(),
        validity: Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(60)),
    };
    let svid = authority(&config.cluster.trust_domain).issue(&request).unwrap();
    let lineage = watch::channel(Arc::default()).1;
    let identity = (Arc::new(LiveIdentity::new(svid)), lineage, Arc::default());
    let follower = Arc::new(Follower::open(&config, identity, &mut Registry::default()).unwrap());
    let membership = Membership::from(Joined {
        member: member("east", "east.example"),
        federation: authority(service().trust_domain()).bundle(1),
        federation_id: service(),
        members: vec![member("west", "west.example")],
        revocations: Arc::default(),
        position: Position { store_id: "s".to_owned(), revision: 4, mark: None, former: Vec::new() },
        addresses: Vec::new(),
        pending: false,
        foreign: Vec::new(),
    });
    follower.adopt(membership).await.unwrap();
    follower
}

fn update(changes: Vec<Change>) -> WatchUpdate {
    WatchUpdate {
        position: Position { store_id: "s".to_owned(), revision: 5, mark: None, former: Vec::new() },
        reset: false,
        changes,
        pending: false,
    }
}

fn others(follower: &Follower) -> Vec<String> {
    follower.members().borrow().keys().map(ToString::to_string).collect()
}

fn revocation(number: u64, text: &str) -> Arc<Revocation> {
    let (reason, by) = ("key lost".parse().unwrap(), "admin".parse().unwrap());
    let (id, subject) = (RevocationId::from_bits(number), Subject::parse_id(text).unwrap());
    Arc::new(Revocation { id, subject, reason, by, at: Timestamp(1) })
}

fn west() -> ClusterName {
    "west".parse().unwrap()
}

#[tokio::test]
async fn a_removal_that_cannot_be_kept_is_in_force_and_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let follower = joined(dir.path()).await;
    assert_eq!(others(&follower), ["west"]);
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    assert!(!follower.apply(&service(), update(vec![Change::Removed(west())])).await);
    assert_eq!(others(&follower), Vec::<String>::new());
    assert!(follower.trust().bundles().is_empty());
}

#[tokio::test]
async fn a_change_that_arrives_after_the_cluster_left_does_not_bring_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let follower = joined(dir.path()).await;
    follower.forget().await.unwrap();
    follower.apply(&service(), update(vec![Change::Upsert(member("north", "north.example"))])).await;
    assert_eq!((follower.current(), others(&follower)), (None, Vec::new()));
    assert_eq!(MembershipFile::in_dir(&dir.path().join("state")).load().unwrap(), None);
}

#[tokio::test]
async fn a_member_with_the_trust_domain_of_this_cluster_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let follower = joined(dir.path()).await;
    let usurper = member("north", "east.example");
    assert!(follower.apply(&service(), update(vec![Change::Upsert(usurper)])).await);
    assert_eq!(others(&follower), ["west"]);
    let trusted: Vec<_> = follower.trust().bundles().into_iter().map(|bundle| bundle.trust_domain).collect();
    assert_eq!(trusted, [TrustDomain::new("west.example").unwrap()]);
}

#[tokio::test]
async fn foreign_bundles_are_believed_after_those_of_the_set_and_never_instead_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let follower = joined(dir.path()).await;
    let bundle = |name: &str| authority(&TrustDomain::new(name).unwrap()).bundle(7);
    let spire = bundle("spire.example");
    let usurpers = ["east.example", "west.example", "federation.internal"].map(bundle).map(Change::Foreign);
    let held = follower.trust().bundles();
    let changes = [Change::Foreign(spire.clone())].into_iter().chain(usurpers).collect();
    assert!(follower.apply(&service(), update(changes)).await);
    assert_eq!(follower.trust().bundles(), [spire.clone(), held[0].clone()]);
    // They are no peers, and survive a restart.
    assert_eq!(others(&follower), ["west"]);
    let kept = MembershipFile::in_dir(&dir.path().join("state")).load().unwrap().unwrap();
    assert_eq!(kept.foreign.get(&spire.trust_domain), Some(&spire));

    // A member that comes later takes precedence.
    let member = member("spire", "spire.example");
    assert!(follower.apply(&service(), update(vec![Change::Upsert(member.clone())])).await);
    assert_eq!(follower.trust().bundles(), [member.bundle, held[0].clone()]);
    let gone = ["spire.example", "east.example"].map(|name| Change::ForeignRemoved(TrustDomain::new(name).unwrap()));
    assert!(follower.apply(&service(), update(gone.into())).await);
    assert_eq!(follower.current().unwrap().foreign.len(), 2);
    let reset = WatchUpdate { reset: true, ..update(vec![Change::Upsert(self::member("east", "east.example"))]) };
    assert!(follower.apply(&service(), reset).await);
    assert_eq!((follower.current().unwrap().foreign.len(), follower.trust().bundles()), (0, Vec::new()));
}

#[tokio::test]
async fn a_revocation_is_in_force_before_the_members_are_sent_again_and_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let follower = joined(dir.path()).await;
    let mut members = follower.members();
    members.mark_unchanged();
    let change = Change::Revoked(revocation(1, "spiffe://west.example/ns/a/*"));
    assert!(follower.apply(&service(), update(vec![change])).await);
    assert!(members.has_changed().unwrap(), "tunnels and connections are judged again");
    assert_eq!(others(&follower), ["west"]);
    assert_eq!(follower.trust().revocations().len(), 1);
    let kept = MembershipFile::in_dir(&dir.path().join("state")).load().unwrap().unwrap();
    assert_eq!(kept.revocations, follower.trust().revocations(), "a restart without the service refuses the same");
}

#[tokio::test]
async fn a_restored_service_does_not_bring_a_revoked_cluster_back() {
    let dir = tempfile::tempdir().unwrap();
    let follower = joined(dir.path()).await;
    let whole = Change::Revoked(revocation(1, "spiffe://west.example/*"));
    assert!(follower.apply(&service(), update(vec![whole])).await);
    assert_eq!(others(&follower), Vec::<String>::new());
    let listed = ["east", "west", "north"].map(|name| Change::Upsert(member(name, &format!("{name}.example"))));
    let position = Position { store_id: "restored".to_owned(), revision: 2, mark: None, former: Vec::new() };
    let reset = WatchUpdate { position, reset: true, changes: listed.into(), pending: false };
    assert!(follower.apply(&service(), reset).await);
    assert_eq!(others(&follower), ["north"]);
    let lifted = Change::Reinstated(RevocationId::from_bits(1));
    assert!(follower.apply(&service(), update(vec![lifted])).await);
    assert_eq!(others(&follower), ["north", "west"]);
}

#[tokio::test]
async fn leaving_the_set_forgets_what_was_revoked_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let follower = joined(dir.path()).await;
    let change = Change::Revoked(revocation(1, "spiffe://west.example/ns/a/*"));
    assert!(follower.apply(&service(), update(vec![change])).await);
    follower.forget().await.unwrap();
    assert!(follower.trust().revocations().is_empty());
}
