//! Policies in AUDIT: nothing is refused, everything that would be is counted, and one command makes it real.

use federation_client::gateway::messages::ReportPoliciesRequest;
use tests::{client::say, wait::until, web};
use tokio::io::AsyncWriteExt as _;

use super::world::{Client, Mode, Sees, WEB, World, authorization};
use crate::fedctl::{fedctl, gateway, words};

const TRIAL: &str = "\
# Whoever changes this asks the team of the site first.
apiVersion: policy.landbridge.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: production, name: trial}
spec:
  action: AUDIT # for a week
  audits: DENY
  from:
  - clusters: [east]
";

/// What was counted: policy, principal, assurance, cluster, service, calls.
type Counted = (String, String, String, String, String, u64);

async fn report(world: &World) -> Vec<Counted> {
    let request = ReportPoliciesRequest { since: 0, policy: String::new() };
    let report = world.west().admin().await.policy_report(request).await.unwrap();
    assert_eq!(report.dropped, 0);
    let counted = report.calls.into_iter();
    let mut counted: Vec<Counted> = counted
        .map(|call| (call.policy, call.principal, call.assurance, call.cluster, call.service, call.calls))
        .collect();
    counted.sort();
    counted
}

fn counted(principal: &str, assurance: &str, mode: Mode, calls: u64) -> Counted {
    let text = str::to_owned;
    (text("production/trial"), text(principal), text(assurance), text("east"), text(mode.service()), calls)
}

#[tokio::test]
async fn a_trial_refuses_nothing_counts_across_restarts_and_is_made_real_by_one_command() {
    let mut world = World::new().await;
    world.policies(TRIAL, &["trial"]).await;
    for _ in 0..2 {
        assert_eq!(world.call(Client::Pod, Mode::Plain).await, Sees::Service);
    }
    assert_eq!(world.call(Client::Stranger, Mode::ProxyV2).await, Sees::Service);
    assert_eq!(world.call(Client::Local, Mode::Plain).await, Sees::Service);
    // Of HTTP it is the requests that count.
    let mut stream = world.connect(Client::Pod, Mode::Http).await.unwrap();
    for _ in 0..3 {
        assert_eq!(web::ask(&mut stream, &web::get("/", "")).await.unwrap().status, 200);
    }
    drop(stream);
    let mut expected = vec![
        counted(WEB, "attested", Mode::Plain, 2),
        counted(WEB, "attested", Mode::Http, 3),
        counted("", "none", Mode::ProxyV2, 1),
    ];
    expected.sort();
    assert_eq!(report(&world).await, expected);

    world.fleet["west"].stop().await;
    world.fleet["west"].start().await;
    world.fleet.connected().await;
    world.ready().await;
    world.in_force(&["trial"]).await;
    assert_eq!(report(&world).await, expected, "after a restart");
    assert_eq!(world.call(Client::Pod, Mode::Plain).await, Sees::Service);
    let goes_on = counted(WEB, "attested", Mode::Plain, 3);
    assert!(report(&world).await.contains(&goes_on), "counting goes on where it was");

    let gateway = gateway(&world.fleet, "west");
    let told = fedctl(&words(&format!("policy report --policy production/trial {gateway}"))).await.done();
    assert!(told.contains(WEB) && told.contains("production/site"), "{told}");
    let mut lives = world.connect(Client::Pod, Mode::Plain).await.unwrap();
    lives.write_all(b"hello\n").await.unwrap();
    assert_eq!(tests::client::line(&mut lives).await.unwrap(), "west");
    let before = report(&world).await;
    let promoted = fedctl(&words(&format!("policy promote production/trial --yes {gateway}"))).await.done();
    assert!(promoted.contains("DENY"), "{promoted}");
    let manifest = world.west().manifest("policies.yaml");
    assert!(manifest.contains("action: DENY") && !manifest.contains("audits"), "{manifest}");
    assert!(manifest.contains("# Whoever changes this") && manifest.contains("clusters: [east]"), "{manifest}");
    // What lives is cut as by any policy.
    assert!(tests::client::rest(&mut lives).await.is_err());
    for client in [Client::Pod, Client::Stranger] {
        assert_eq!(world.call(client, Mode::Plain).await, Sees::Reset, "{client:?}");
        assert_eq!(world.call(client, Mode::Http).await, Sees::Status(403), "{client:?}");
    }
    assert_eq!(world.call(Client::Local, Mode::Plain).await, Sees::Service);
    assert_eq!(report(&world).await, before, "what is refused now is not counted as what would have been");
}

#[tokio::test]
async fn a_trial_of_allow_counts_whom_it_would_shut_out_and_live_connections_go_on() {
    let world = World::new().await;
    let mut lives = world.connect(Client::Stranger, Mode::Plain).await.unwrap();
    lives.write_all(b"hello\n").await.unwrap();
    let trial = "action: AUDIT, audits: ALLOW, from: [{principals: [\"spiffe://east.example/ns/production/sa/web\"]}]";
    world.policies(&authorization("trial", trial), &["trial"]).await;
    for client in [Client::Pod, Client::Stranger, Client::Stranger] {
        assert_eq!(world.call(client, Mode::Plain).await, Sees::Service);
    }
    until("they are counted", async || (!report(&world).await.is_empty()).then_some(())).await;
    assert_eq!(report(&world).await, [counted("", "none", Mode::Plain, 2)]);
    for expected in ["west", "hello"] {
        assert_eq!(tests::client::line(&mut lives).await.unwrap(), expected);
    }
    assert_eq!(say(&mut lives, "still here").await.unwrap(), "still here");
}
