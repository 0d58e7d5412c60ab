//! Two cluster sets that read each other's bundles: what their gateways come to believe, and what they never do.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use federation_client::gateway::messages::ForeignBundle;
use federation_model::spiffe::SpiffeId;
use federation_pki::{Validity, bundle::to_jwks, ca::SvidRequest, trust::TrustStore};
use proto::tunnel::v1::control_message::Message;
use serde_json::Value;
use tests::{
    client::{line, part},
    fleet::{Fleet, Settings},
    http,
    manifests::Export,
    peer::{Credential, Peer, hello},
    probe::Echo,
    wait::until,
};

use crate::fedctl::{Ended, fedctl, words};

/// Two sets: west and north in `here.internal`, east in `there.internal`.
struct Sets {
    here: Fleet,
    there: Fleet,
    bootstrap: tempfile::TempDir,
}

impl Sets {
    async fn of(here: &[&str], there: &[&str]) -> Self {
        let mut sets = Self {
            here: Fleet::of_trust_domain("here.internal").await,
            there: Fleet::of_trust_domain("there.internal").await,
            bootstrap: tempfile::tempdir().unwrap(),
        };
        for (fleet, names) in [(&mut sets.here, here), (&mut sets.there, there)] {
            for name in names {
                fleet.add(Settings::of(name)).await;
                fleet.join(name).await;
            }
            fleet.connected().await;
        }
        sets
    }
}

/// Runs `fedctl` as the operator of a fleet's federation service.
async fn operate(fleet: &Fleet, line: &str) -> Ended {
    let federation = fleet.federation();
    let (url, operator) = (federation.grpc(), federation.store().join("operator"));
    fedctl(&words(&format!("{line} --federation https://{url} --operator {}", operator.display()))).await
}

/// The service's own bundle in a file, as its operator hands it to others.
async fn bundle_file(fleet: &Fleet, sets: &Sets) -> PathBuf {
    let own = fleet.federation().operator().await.list_members().await.unwrap().federation;
    let file = sets.bootstrap.path().join(format!("{}.json", own.trust_domain));
    std::fs::write(&file, to_jwks(&own, Duration::from_secs(300))).unwrap();
    file
}

/// The line that has `reader` read the bundle of a cluster of `publisher`.
async fn add(sets: &Sets, publisher: &Fleet, cluster: &str, service: &str) -> String {
    let file = bundle_file(publisher, sets).await;
    format!(
        "trust foreign add {cluster}.example --url https://{}/{cluster}.example --profile https_spiffe \
         --endpoint-id spiffe://{service}/landbridge/federation --bundle {}",
        publisher.federation().bundles(),
        file.display()
    )
}

async fn believed(fleet: &Fleet, cluster: &str) -> Vec<ForeignBundle> {
    fleet[cluster].admin().await.status().await.unwrap().foreign
}

/// Waits until the gateway of a cluster believes these foreign trust domains and no others.
async fn believes(fleet: &Fleet, cluster: &str, domains: &[&str]) -> Vec<ForeignBundle> {
    until(&format!("{cluster} believes {domains:?}"), async || {
        let foreign = believed(fleet, cluster).await;
        (foreign.iter().map(|bundle| bundle.trust_domain.as_str()).eq(domains.iter().copied())).then_some(foreign)
    })
    .await
}

#[tokio::test]
async fn two_sets_read_each_others_bundles_and_their_gateways_believe_them_without_becoming_peers() {
    let mut sets = Sets::of(&["west", "north"], &["east"]).await;
    let line_here = add(&sets, &sets.there, "east", "there.internal").await;
    let line_there = add(&sets, &sets.here, "west", "here.internal").await;
    let added: Value =
        serde_json::from_str(&operate(&sets.here, &format!("{line_here} -o json")).await.done()).unwrap();
    assert_eq!((&added["foreign"][0]["state"], &added["foreign"][0]["failures"]), (&"fresh".into(), &0.into()));
    operate(&sets.there, &line_there).await.done();

    let authority = sets.there["east"].authority().fingerprint().to_string();
    for cluster in ["west", "north"] {
        let foreign = believes(&sets.here, cluster, &["east.example"]).await;
        assert_eq!(foreign[0].authorities, std::slice::from_ref(&authority));
    }
    let foreign = believes(&sets.there, "east", &["west.example"]).await;
    assert_eq!(foreign[0].authorities, [sets.here["west"].authority().fingerprint().to_string()]);
    let peers = sets.here["west"].admin().await.status().await.unwrap().peers;
    assert_eq!(peers.iter().map(|peer| peer.cluster.as_str()).collect::<Vec<_>>(), ["north"]);
    assert!(sets.there["east"].admin().await.status().await.unwrap().peers.is_empty());

    // The sets themselves go on as before.
    let echo = Echo::start("north", sets.here["north"].at(10, 8080), false).await.unwrap();
    let export = Export::new("production/api", 8080, sets.here["north"].host(10));
    sets.here["north"].export(&export);
    sets.here["west"].sees("production/api", &["north"]).await;
    let mut stream = sets.here["west"].connect("production/api", 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "north");
    assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
    drop(echo);

    let listed = operate(&sets.here, "trust foreign list").await.done();
    assert!(listed.contains("east.example") && listed.contains("fresh"), "{listed}");
    let status = operate(&sets.here, "status").await.done();
    assert!(status.contains("east.example"), "{status}");
    let socket = sets.here["west"].state().join("admin.sock");
    let gateway = fedctl(&words(&format!("status --gateway unix:{}", socket.display()))).await.done();
    assert!(gateway.contains("east.example, 1 authority, sequence 1"), "{gateway}");

    // Being believed is not being a member: not even the gateway of east, whose certificate is verified now, gets a tunnel.
    let id = SpiffeId::new("spiffe://east.example/landbridge/gateway").unwrap();
    let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(3600));
    let svid = sets.there["east"].authority().issue(&SvidRequest { id, names: Vec::new(), validity }).unwrap();
    let trust = TrustStore::new();
    trust.replace([sets.here["west"].authority().bundle(1)]).unwrap();
    let (place, west) = (sets.here.place(), sets.here["west"].tunnel());
    let mut peer = Peer::dial(sets.here.network(), place, Credential::from(&svid), (west, trust)).await.unwrap();
    // The greeting may go out before the refusal arrives.
    let _ = peer.tell(Message::Hello(hello("east"))).await;
    let reason = peer.closed().await;
    assert!(reason.contains("the gateway id of a member"), "{reason}");

    operate(&sets.here, "trust foreign remove east.example").await.done();
    for cluster in ["west", "north"] {
        believes(&sets.here, cluster, &[]).await;
    }
    believes(&sets.there, "east", &["west.example"]).await;
    sets.here.stop_federation().await;
}

#[tokio::test]
async fn what_was_read_stays_while_publisher_reader_and_gateway_are_away_one_after_the_other() {
    let mut sets = Sets::of(&["west"], &["east"]).await;
    let line = add(&sets, &sets.there, "east", "there.internal").await;
    operate(&sets.here, &line).await.done();
    let before = believes(&sets.here, "west", &["east.example"]).await;

    sets.there.kill_federation().await;
    let refreshed = operate(&sets.here, "trust foreign refresh").await;
    assert!(refreshed.code.contains("(1)") && refreshed.stdout.contains("stale"), "{refreshed:?}");
    let checked = operate(&sets.here, "check -o json").await.done();
    let checked: Value = serde_json::from_str(&checked).unwrap();
    let finding =
        checked["findings"].as_array().unwrap().iter().find(|f| f["check"] == "foreign east.example").unwrap();
    assert_eq!(finding["level"], "warning");
    assert!(finding["detail"].as_str().unwrap().contains("the last good bundle stays"), "{finding}");

    sets.here.kill_federation().await;
    sets.here["west"].stop().await;
    sets.here["west"].start().await;
    assert_eq!(believes(&sets.here, "west", &["east.example"]).await, before);
    sets.here.start_federation().await;
    let shown = until("the service serves its views again", async || {
        http::get(sets.here.federation().admin(), "/debug/foreign").await.ok()
    });
    let (status, view) = shown.await;
    let view: Value = serde_json::from_str(&view).unwrap();
    assert_eq!((status, &view[0]["trust_domain"], &view[0]["sequence"]), (200, &"east.example".into(), &1.into()));

    // The publisher comes back, and everything is as it was.
    sets.there.start_federation().await;
    operate(&sets.here, "trust foreign refresh east.example").await.done();
    assert_eq!(believed(&sets.here, "west").await, before);
}
