//! Exports to some clusters only: who is told, who gets through, and what a change of the list does.

use std::io::ErrorKind;

use tests::{
    client::{line, part, rest},
    dns::{self, NO_SUCH_NAME, Type},
    fleet::{Fleet, host_of},
    manifests::Export,
    probe::Echo,
    wait::until,
};

const API: &str = "production/api";
const OPEN: &str = "production/open";

#[tokio::test]
async fn a_restricted_export_is_seen_and_reached_by_the_clusters_it_names_and_by_its_own() {
    let fleet = Fleet::of(&["east", "north", "west"]).await;
    let (east, north, west) = (&fleet["east"], &fleet["north"], &fleet["west"]);
    let _echo = Echo::start("west", west.at(10, 8080), false).await.unwrap();
    west.export(&Export::new(API, 8080, west.host(10)).annotated("export-to", "east"));
    // What is written later is told later: whoever sees this one was told all that there is to tell.
    west.export(&Export::new(OPEN, 8080, west.host(10)));
    for cluster in [east, north, west] {
        cluster.sees(OPEN, &["west"]).await;
    }
    east.sees(API, &["west"]).await;
    for cluster in [east, west] {
        let mut stream = cluster.connect(API, 8080).await;
        assert_eq!(line(&mut stream).await.unwrap(), "west");
        assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
    }
    north.sees(API, &[]).await;
    assert_eq!(dns::ask(north.dns(), &host_of(API), Type::A).await.unwrap().code, NO_SUCH_NAME);
    let services = west.admin().await.services().await.unwrap();
    let export = services.iter().find(|service| service.name == "api").unwrap().export.clone().unwrap();
    assert_eq!((export.restricted, export.clusters), (true, vec!["east".to_owned()]));
}

#[tokio::test]
async fn a_change_of_the_list_shows_the_service_and_takes_it_away_with_its_connections() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let _echo = Echo::start("west", west.at(10, 8080), false).await.unwrap();
    let export = Export::new(API, 8080, west.host(10));
    west.export(&export.clone().annotated("export-to", ""));
    west.export(&Export::new(OPEN, 8080, west.host(10)));
    east.sees(OPEN, &["west"]).await;
    east.sees(API, &[]).await;

    west.export(&export.clone().annotated("export-to", "east"));
    let mut stream = east.connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");

    west.export(&export.clone().annotated("export-to", "north"));
    let cut = rest(&mut stream).await.unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    east.sees(API, &[]).await;
    until("the cut is recorded", async || (west.metrics().await.ended("Inbound", "not-exported") == 1.0).then_some(()))
        .await;
    let findings = west.admin().await.check().await.unwrap();
    assert!(findings.iter().any(|finding| finding.detail.contains("no cluster of the set: north")), "{findings:?}");

    west.export(&export);
    let mut stream = east.connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_takes_the_service_away_from_everyone() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let export = Export::new(API, 8080, west.host(10));
    west.export(&export);
    east.sees(API, &["west"]).await;
    west.export(&export.annotated("export-to", "east; north"));
    for cluster in [east, west] {
        cluster.sees(API, &[]).await;
    }
    let findings = west.admin().await.check().await.unwrap();
    let held = findings.iter().find(|finding| finding.check.contains(API)).unwrap();
    assert!(held.detail.contains("landbridge.dev/export-to"), "{held:?}");
}
