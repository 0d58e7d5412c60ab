//! Joins that wait until an operator has approved them.

use tests::{
    client::{line, part},
    fleet::{Fleet, Settings},
    manifests::Export,
    probe::Echo,
    wait::until,
};

use crate::fedctl::{Ended, fedctl, federation, gateway, words};

const API: &str = "production/api";

/// Runs `fedctl join` on the gateway of a cluster that is in the fleet.
async fn join(fleet: &Fleet, name: &str) -> Ended {
    let token = fleet.federation().token(name).await;
    fedctl(&words(&format!("join {token} --yes {}", gateway(fleet, name)))).await
}

async fn approve(fleet: &Fleet, name: &str, options: &str) -> Ended {
    fedctl(&words(&format!("approve {name} {options} {}", federation(fleet)))).await
}

async fn is_pending(fleet: &Fleet, name: &str) -> bool {
    let status = fleet[name].admin().await.status().await.unwrap().federation.unwrap();
    status.joined && status.pending
}

#[tokio::test]
async fn a_join_that_waits_shows_the_same_fingerprint_on_both_ends() {
    let mut fleet = Fleet::requiring_approval().await;
    fleet.add(Settings::of("east")).await;
    let authority = fleet["east"].authority().fingerprint().to_string();
    let joined = join(&fleet, "east").await;
    assert!(joined.code.contains("(0)") && joined.stderr.contains(&authority), "{joined:?}");
    assert!(joined.stdout.contains(&format!("fedctl approve east --fingerprint {authority}")), "{joined:?}");
    let members = fedctl(&words(&format!("members {}", federation(&fleet)))).await.done();
    let row = members.lines().find(|line| line.starts_with("east ")).unwrap();
    assert!(row.contains("pending") && row.ends_with(&authority), "{members}");

    let status = fedctl(&words(&format!("status {}", gateway(&fleet, "east")))).await.done();
    assert!(status.contains("waiting for approval") && status.contains(&authority), "{status}");
    let checked = until("the gateway follows the service", async || {
        let checked = fedctl(&words(&format!("check {}", gateway(&fleet, "east")))).await;
        checked.stdout.contains("waiting for approval of the join").then_some(checked)
    })
    .await;
    assert!(checked.stdout.contains("fedctl approve east"), "{checked:?}");
    let checked = fedctl(&words(&format!("check {}", federation(&fleet)))).await;
    assert!(checked.code.contains("(0)") && checked.stdout.contains("it waits for approval"), "{checked:?}");

    let blind = approve(&fleet, "east", "").await;
    assert!(blind.code.contains("(2)") && blind.stderr.contains("nobody is there to compare"), "{blind:?}");
    let other = format!("--fingerprint SHA256:{}", "0".repeat(64));
    let wrong = approve(&fleet, "east", &other).await;
    assert!(wrong.code.contains("(2)") && wrong.stderr.contains(&authority), "{wrong:?}");
    assert!(is_pending(&fleet, "east").await);
    let nobody = approve(&fleet, "west", "--yes").await;
    assert!(nobody.code.contains("(2)") && nobody.stderr.contains("west has not joined"), "{nobody:?}");

    let approved = approve(&fleet, "east", &format!("--fingerprint {authority}")).await;
    assert!(approved.code.contains("(0)") && approved.stderr.contains(&authority), "{approved:?}");
    until("east learns of it", async || (!is_pending(&fleet, "east").await).then_some(())).await;
    let again = approve(&fleet, "east", "--yes").await.done();
    assert!(again.contains("nothing was changed"), "{again}");
}

#[tokio::test]
async fn a_waiting_cluster_is_connected_as_soon_as_it_is_approved_whoever_restarted_meanwhile() {
    let mut fleet = Fleet::requiring_approval().await;
    for name in ["east", "west", "north"] {
        fleet.add(Settings::of(name)).await;
    }
    join(&fleet, "east").await.done();
    approve(&fleet, "east", "--yes").await.done();
    for name in ["west", "north"] {
        join(&fleet, name).await.done();
    }
    fleet["west"].stop().await;
    fleet["west"].start().await;
    fleet.kill_federation().await;
    fleet.start_federation().await;
    assert!(is_pending(&fleet, "west").await);
    let _echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["west"].sees(API, &["west"]).await;
    for name in ["east", "west", "north"] {
        until("the gateway follows the service again", async || {
            let status = fleet[name].admin().await.status().await.unwrap().federation.unwrap();
            status.connected.then_some(())
        })
        .await;
        fleet[name].knows(&[]).await;
    }

    approve(&fleet, "west", "--yes").await.done();
    fleet["east"].sees(API, &["west"]).await;
    let mut stream = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
    fleet["east"].knows(&["west"]).await;
    fleet["west"].knows(&["east"]).await;
    fleet["north"].knows(&[]).await;

    // Who is rejected is told, and may ask again with another token.
    fedctl(&words(&format!("members remove north --yes {}", federation(&fleet)))).await.done();
    until("north learns that it was rejected", async || {
        let status = fleet["north"].admin().await.status().await.unwrap().federation.unwrap_or_default();
        (!status.joined).then_some(())
    })
    .await;
    join(&fleet, "north").await.done();
    assert!(is_pending(&fleet, "north").await);
    let log = fedctl(&words(&format!("audit list --subject north {}", federation(&fleet)))).await.done();
    assert!(log.contains("it waits for approval") && log.contains("its join was not approved"), "{log}");
}
