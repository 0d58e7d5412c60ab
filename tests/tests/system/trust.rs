//! Who is calling: what a destination is told of its callers.

use tests::{
    client::{line, part},
    fleet::Fleet,
    manifests::{Export, pod},
    probe::{Echo, Seen},
    wait::until,
};

const API: &str = "production/api";

#[tokio::test]
async fn a_destination_is_told_the_principal_of_the_pod_its_cluster_and_how_it_is_known() {
    let fleet = Fleet::of(&["east", "west"]).await;
    let (east, west) = (&fleet["east"], &fleet["west"]);
    let echo = Echo::start("west", west.at(10, 8080), true).await.unwrap();
    west.export(&Export::new(API, 8080, west.host(10)).annotated("deliver", "proxy-v2"));
    east.write("pod.yaml", &pod("production", "frontend-1", "frontend", east.host(20)));
    east.sees(API, &["west"]).await;
    until("the pod is known", async || (!east.tables().await["principals"].as_object()?.is_empty()).then_some(()))
        .await;

    let mut known = east.connect_from(east.host(20), API, 8080).await;
    let source = known.local_addr().unwrap();
    assert_eq!(line(&mut known).await.unwrap(), "west");
    let mut unknown = east.connect_from(east.host(21), API, 8080).await;
    let stranger = unknown.local_addr().unwrap();
    assert_eq!(line(&mut unknown).await.unwrap(), "west");
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        echo.seen(),
        [
            Seen {
                source: Some(source),
                principal: text("spiffe://east.example/ns/production/sa/frontend"),
                cluster: text("east"),
                assurance: text("attested"),
            },
            Seen { source: Some(stranger), principal: None, cluster: text("east"), assurance: text("none") },
        ]
    );
    assert_eq!(part(&mut known).await.unwrap(), "bye\n", "the header is followed by the application's bytes alone");
}

#[tokio::test]
async fn a_caller_of_the_own_cluster_is_introduced_in_the_same_way() {
    let fleet = Fleet::of(&["east"]).await;
    let east = &fleet["east"];
    let echo = Echo::start("east", east.at(10, 8080), true).await.unwrap();
    east.export(&Export::new(API, 8080, east.host(10)).annotated("deliver", "proxy-v2"));
    east.write("pod.yaml", &pod("production", "frontend-1", "frontend", east.host(20)));
    east.sees(API, &["east"]).await;
    until("the pod is known", async || (!east.tables().await["principals"].as_object()?.is_empty()).then_some(()))
        .await;
    let mut stream = east.connect_from(east.host(20), API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "east");
    let seen = echo.seen();
    assert_eq!(seen[0].principal.as_deref(), Some("spiffe://east.example/ns/production/sa/frontend"));
    assert_eq!((seen[0].cluster.as_deref(), seen[0].assurance.as_deref()), (Some("east"), Some("attested")));
}

#[tokio::test]
async fn an_address_that_two_pods_claim_speaks_for_neither() {
    let fleet = Fleet::of(&["east"]).await;
    let east = &fleet["east"];
    let echo = Echo::start("east", east.at(10, 8080), true).await.unwrap();
    east.export(&Export::new(API, 8080, east.host(10)).annotated("deliver", "proxy-v2"));
    let (one, two) = (pod("production", "one", "one", east.host(20)), pod("production", "two", "two", east.host(20)));
    let witness = pod("production", "witness", "witness", east.host(22));
    east.write("pods.yaml", &[one, two, witness].join("---\n"));
    east.sees(API, &["east"]).await;
    until("the pods are known", async || (east.tables().await["principals"].as_object()?.len() == 1).then_some(()))
        .await;
    let mut stream = east.connect_from(east.host(20), API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "east");
    assert_eq!((echo.seen()[0].principal.clone(), echo.seen()[0].assurance.as_deref()), (None, Some("none")));
}
