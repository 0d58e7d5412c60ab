//! What gateways tell each other of their imports.

use std::sync::Arc;

use federation_model::report::{
    ImportReport,
    ImportState::{self, NoAddress, Ready},
    Reported,
};

use super::set::{Gateway, Set, cluster, soon};

fn report(states: &[(&str, ImportState)]) -> Arc<ImportReport> {
    Arc::new(states.iter().map(|(name, state)| (format!("production/{name}").parse().unwrap(), *state)).collect())
}

/// Lets a gateway say this to a peer.
fn say(gateway: &Gateway, to: &str, states: &[(&str, ImportState)]) {
    gateway.reports.send_modify(|all| {
        Arc::make_mut(all).insert(cluster(to), report(states));
    });
}

/// Waits until this is what a gateway has heard of a peer.
async fn heard(gateway: &Gateway, of: &str, wanted: Option<&[(&str, ImportState)]>) {
    let wanted = wanted.map(|states| Reported::Said(report(states)));
    let mut reported = gateway.tunnels().reported();
    soon("the report", reported.wait_for(|all| all.get(&cluster(of)) == wanted.as_ref())).await.unwrap();
}

#[tokio::test]
async fn a_report_arrives_and_follows_and_the_last_word_holds_when_the_tunnel_is_lost() {
    let mut set = Set::of(&["east", "west"]);
    say(set.get("east"), "west", &[("web", NoAddress)]);
    set.connected("east", "west").await;
    heard(set.get("west"), "east", Some(&[("web", NoAddress)])).await;
    say(set.get("east"), "west", &[("web", Ready), ("api", Ready)]);
    heard(set.get("west"), "east", Some(&[("web", Ready), ("api", Ready)])).await;
    assert!(set.get("east").tunnels().reported().borrow().is_empty(), "west has said nothing");
    set.stop("east").await;
    set.get("west").reachable_is("east", false).await;
    heard(set.get("west"), "east", Some(&[("web", Ready), ("api", Ready)])).await;
    set.remove("west", "east");
    heard(set.get("west"), "east", None).await;
}

#[tokio::test]
async fn gateways_of_one_cluster_that_disagree_are_as_far_as_the_last_of_them() {
    let mut set = Set::of(&["east", "west"]);
    set.add_replica("west");
    for replica in ["west", "west2"] {
        say(set.get(replica), "east", &[("web", Ready), ("api", Ready)]);
    }
    let both = |tunnels: &crate::Tunnels| {
        let usable = |tunnel: &&crate::TunnelStatus| tunnel.state == crate::TunnelState::Up;
        tunnels.status()[0].tunnels.iter().filter(usable).count() == 2
    };
    set.get("east").until("tunnels to both", both).await;
    say(set.get("west2"), "east", &[("web", NoAddress)]);
    heard(set.get("east"), "west", Some(&[("web", NoAddress)])).await;
    set.stop("west2").await;
    heard(set.get("east"), "west", Some(&[("web", Ready), ("api", Ready)])).await;
}
