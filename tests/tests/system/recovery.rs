//! A federation service whose store is restored from an older copy: nobody believes it until an operator says so.

use federation_client::operator::Wanted;
use federation_model::{
    audit::Action,
    finding::{Finding, Level},
    revocation::Subject,
};
use proto::convert::revocation::Asked;
use tests::{
    client::{line, say},
    fleet::{Cluster, Fleet, Settings},
    manifests::Export,
    probe::Echo,
    wait::until,
};

use crate::fedctl::{fedctl, federation, gateway, words};

const API: &str = "production/api";
const STOLEN: &str = "spiffe://west.example/ns/a/sa/stolen";

/// What `fedctl check` on a gateway says of the federation service.
async fn federation_finding(cluster: &Cluster) -> Finding {
    let findings = cluster.admin().await.check().await.unwrap();
    findings.into_iter().find(|finding| finding.check == "federation").unwrap()
}

/// Waits until the gateway names the rollback with these words.
async fn names_the_rollback(cluster: &Cluster, with: &[&str]) {
    until(&format!("{} says that the service went back: {with:?}", cluster.name()), async || {
        let finding = federation_finding(cluster).await;
        let named = finding.level == Level::Failed && finding.hint.contains("fedctl recover");
        (named && with.iter().all(|text| finding.detail.contains(text))).then_some(())
    })
    .await;
}

async fn carries_traffic(from: &Cluster) {
    let mut stream = from.connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    assert_eq!(say(&mut stream, "hello").await.unwrap(), "hello");
}

async fn revision(fleet: &Fleet) -> u64 {
    fleet.federation().operator().await.list_members().await.unwrap().revision
}

async fn revoke(fleet: &Fleet, id: &str) {
    let asked = Asked::Subject(Subject::parse_id(id).unwrap());
    fleet.federation().operator().await.revoke(&asked, &"key lost".parse().unwrap()).await.unwrap();
}

/// Waits until the gateway has applied what the service is at.
async fn follows(fleet: &Fleet, cluster: &str) {
    let at = format!("at revision {}", revision(fleet).await);
    until(&format!("{cluster} follows {at}"), async || {
        let finding = federation_finding(&fleet[cluster]).await;
        (finding.level == Level::Ok && finding.detail.ends_with(&at)).then_some(())
    })
    .await;
}

/// East, west and north; a copy of the store is taken, and then south joins, north is removed and something is revoked. Then
/// the copy is put back.
async fn restored() -> (Fleet, Echo, u64) {
    let mut fleet = Fleet::of(&["east", "west", "north"]).await;
    let echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    fleet.stop_federation().await;
    let (store, copy) = (fleet.federation().store().join("set.redb"), fleet.federation().store().join("copy"));
    std::fs::copy(&store, &copy).unwrap();
    fleet.start_federation().await;

    fleet.add(Settings::of("south")).await;
    fleet.join("south").await;
    fleet.federation().operator().await.remove_member(&"north".parse().unwrap()).await.unwrap();
    revoke(&fleet, STOLEN).await;
    for cluster in ["east", "west", "south"] {
        follows(&fleet, cluster).await;
    }
    let seen = revision(&fleet).await;
    fleet["east"].knows(&["south", "west"]).await;
    fleet.stop_federation().await;
    std::fs::rename(copy, store).unwrap();
    fleet.start_federation().await;
    (fleet, echo, seen)
}

#[tokio::test]
async fn members_keep_their_newer_state_until_an_operator_recovers_the_set() {
    let (mut fleet, _echo, seen) = restored().await;
    let at = revision(&fleet).await;
    assert!(at < seen, "{at} {seen}");
    let both = [&*format!("seen revision {seen}"), &*format!("is at revision {at}")];
    for cluster in ["east", "west", "south"] {
        names_the_rollback(&fleet[cluster], &both).await;
    }
    // Whatever the service lists: north stays away, south stays, what is revoked stays revoked.
    fleet["east"].knows(&["south", "west"]).await;
    fleet["south"].knows(&["east", "west"]).await;
    fleet["east"].reaches("south", true).await;
    carries_traffic(&fleet["east"]).await;
    let checked = fedctl(&words(&format!("check {}", gateway(&fleet, "east")))).await;
    assert!(checked.code.contains("(1)") && checked.stdout.contains("fedctl recover"), "{checked:?}");
    let rewinds = fleet["east"].metrics().await.sum("landbridge_gateway_federation_rewinds_total", &[]);
    assert!(rewinds >= 1.0, "{rewinds}");

    // An operation that takes the service past what the members have seen does not hide it.
    while revision(&fleet).await <= seen {
        revoke(&fleet, &format!("spiffe://west.example/ns/a/sa/other-{}", revision(&fleet).await)).await;
    }
    // Nor does a restart of the gateways, which hold the mark on disk.
    for cluster in ["east", "west", "south"] {
        let cluster = &mut fleet[cluster];
        cluster.kill().await;
        cluster.start().await;
        names_the_rollback(cluster, &[&format!("seen another revision {seen}")]).await;
        assert!(cluster.admin().await.status().await.is_ok());
    }
    let wanted = Wanted { action: Some(Action::RewindDetected), ..Wanted::default() };
    let entries = fleet.federation().operator().await.audit(&wanted).await.unwrap();
    let told: std::collections::BTreeSet<_> = entries.iter().map(|entry| &*entry.event.subject).collect();
    assert_eq!((told, entries.len()), (["east", "west"].into(), 2), "{entries:?}");

    let asked = fedctl(&words(&format!("recover {}", federation(&fleet)))).await;
    assert!(asked.code.contains("(2)") && asked.stderr.contains("nothing was changed"), "{asked:?}");
    let done = fedctl(&words(&format!("recover --yes {}", federation(&fleet)))).await.done();
    assert!(done.contains("Next: fedctl members"), "{done}");
    for cluster in ["east", "west"] {
        follows(&fleet, cluster).await;
    }
    fleet["east"].knows(&["north", "west"]).await;
    fleet["east"].sees(API, &["west"]).await;
    carries_traffic(&fleet["east"]).await;
    // South is not in the restored store: it knows what it knew, and says so.
    until("south says that the service has lost its store", async || {
        let finding = federation_finding(&fleet["south"]).await;
        finding.detail.contains("has lost its store").then_some(())
    })
    .await;
    fleet["south"].knows(&["east", "west"]).await;
    // Whoever joined or left since joins anew, and everybody is in one state.
    fedctl(&words(&format!("leave --yes --force {}", gateway(&fleet, "south")))).await.done();
    for cluster in ["south", "north"] {
        fleet.join(cluster).await;
    }
    fleet.connected().await;
    // And the log is whole, from before the copy to after the recovery.
    let file = fleet.federation().store().join("log");
    fedctl(&words(&format!("audit export {} {}", file.display(), federation(&fleet)))).await.done();
    fedctl(&words(&format!("audit verify {}", file.display()))).await.done();
    fleet.stop_federation().await;
    fleet.start_federation().await;
    follows(&fleet, "east").await;
}

#[tokio::test]
async fn a_revocation_that_the_restored_store_does_not_know_stays_in_force_after_the_recovery() {
    let (fleet, _echo, _) = restored().await;
    names_the_rollback(&fleet["west"], &[]).await;
    fleet.federation().operator().await.recover().await.unwrap();
    follows(&fleet, "west").await;
    let revoked = fleet["west"].tables().await;
    assert!(revoked["revocations"].to_string().contains("stolen"), "{revoked}");
}
