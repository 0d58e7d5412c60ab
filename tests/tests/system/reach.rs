//! What an exporting cluster knows of where its exports have arrived.

use federation_client::gateway::messages::Importer;
use tests::{
    fleet::{Cluster, Fleet, Settings},
    manifests::Export,
    wait::until,
};

const API: &str = "production/api";

/// Where an export of a cluster has arrived, as `fedctl services` has it.
async fn importers(cluster: &Cluster, service: &str) -> Vec<Importer> {
    let services = cluster.admin().await.services().await.unwrap();
    let found = services.into_iter().find(|found| format!("{}/{}", found.namespace, found.name) == service);
    found.and_then(|service| service.export).map(|export| export.importers).unwrap_or_default()
}

/// Waits until an export has come this far in each importing cluster; gives them as they are then.
async fn comes_to(cluster: &Cluster, service: &str, states: &[(&str, &str)]) -> Vec<Importer> {
    until(&format!("{service} of {} is {states:?}", cluster.name()), async || {
        let importers = importers(cluster, service).await;
        let now: Vec<_> = importers.iter().map(|i| (i.cluster.as_str(), i.state.as_str())).collect();
        (now == states).then_some(importers)
    })
    .await
}

#[tokio::test]
async fn an_export_is_said_to_be_reached_from_the_clusters_that_say_so() {
    let fleet = Fleet::of(&["east", "north", "west"]).await;
    let west = &fleet["west"];
    west.export(&Export::new(API, 8080, west.host(10)));
    west.export(&Export::new("production/closed", 8080, west.host(10)).annotated("export-to", "north"));
    let reached = comes_to(west, API, &[("east", "reachable"), ("north", "reachable")]).await;
    for importer in &reached {
        assert!(importer.reached && importer.why_not.is_empty() && importer.distance.ends_with(" ms"), "{importer:?}");
    }
    comes_to(west, "production/closed", &[("north", "reachable")]).await;
    let metrics = west.metrics().await;
    assert_eq!(metrics.sum("landbridge_gateway_export_clusters_reached", &["service=\"closed\""]), 1.0);
    assert_eq!(metrics.sum("landbridge_gateway_export_importers", &["state=\"reachable\""]), 3.0);
    let east = &fleet["east"];
    east.export(&Export::new("production/other", 8080, east.host(10)));
    comes_to(east, "production/other", &[("north", "reachable"), ("west", "reachable")]).await;
    assert_eq!(importers(west, "production/other").await, []);
}

#[tokio::test]
async fn the_loss_of_a_tunnel_and_its_return_are_seen_in_the_export() {
    let mut fleet = Fleet::with(["east", "north", "west"].map(Settings::attentive)).await;
    let export = Export::new(API, 8080, fleet["west"].host(10));
    fleet["west"].export(&export);
    comes_to(&fleet["west"], API, &[("east", "reachable"), ("north", "reachable")]).await;
    fleet.partition("east", "west");
    let lost = comes_to(&fleet["west"], API, &[("east", "no-tunnel"), ("north", "reachable")]).await;
    assert_eq!((lost[0].why_not.as_str(), lost[0].distance.as_str()), ("no tunnel", ""));
    fleet.heal("east", "west");
    comes_to(&fleet["west"], API, &[("east", "reachable"), ("north", "reachable")]).await;
    fleet["north"].stop().await;
    comes_to(&fleet["west"], API, &[("east", "reachable"), ("north", "no-tunnel")]).await;
}

#[tokio::test]
async fn an_export_that_lost_a_conflict_is_not_said_to_be_reached() {
    let fleet = Fleet::of(&["east", "north", "west"]).await;
    let (north, west) = (&fleet["north"], &fleet["west"]);
    let old = Export { headless: true, ..Export::new(API, 5432, north.host(10)) };
    north.export(&Export { created: Some("2024-01-01T00:00:00Z"), ..old });
    let new = Export::new(API, 5432, west.host(10));
    west.export(&Export { created: Some("2025-01-01T00:00:00Z"), ..new });
    comes_to(north, API, &[("east", "reachable"), ("west", "reachable")]).await;
    let refused = comes_to(west, API, &[("east", "type-conflict"), ("north", "type-conflict")]).await;
    assert!(refused.iter().all(|importer| !importer.reached && importer.why_not.contains("headless")), "{refused:?}");
}
