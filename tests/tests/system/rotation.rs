//! Authorities and certificates that change while traffic goes on.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use federation_client::gateway::messages::{RotateAction, RotateTrustRequest, RotationStanding};
use federation_client::operator::Wanted;
use federation_model::{audit::Action, bundle::Fingerprint};
use tests::{
    client::{line, part, say, soon},
    fleet::{Cluster, Fleet, Settings},
    manifests::Export,
    probe::Echo,
    wait::until,
};
use tokio::task::JoinSet;

const API: &str = "production/api";

/// Gives an order, and follows it for at most `wait` seconds; every standing that was told.
pub(crate) async fn order(cluster: &Cluster, action: RotateAction, wait: u32) -> Result<Vec<RotationStanding>, String> {
    let request = RotateTrustRequest { cluster: cluster.name().to_owned(), action: action.into(), wait_seconds: wait };
    let mut steps = cluster.admin().await.rotate_trust(request).await.map_err(|error| error.to_string())?;
    let mut told = Vec::new();
    while let Some(step) = soon("the rotation goes on", steps.next()).await.map_err(|error| error.to_string())? {
        told.push(step);
    }
    Ok(told)
}

pub(crate) async fn standing(cluster: &Cluster) -> RotationStanding {
    order(cluster, RotateAction::Status, 0).await.unwrap().pop().unwrap()
}

pub(crate) async fn settled(cluster: &Cluster) -> RotationStanding {
    until(&format!("the authority of {} is settled", cluster.name()), async || {
        Some(standing(cluster).await).filter(|standing| standing.done)
    })
    .await
}

fn authority(cluster: &Cluster) -> Fingerprint {
    cluster.authority().fingerprint()
}

/// Connections that are made all the time, and how many of them failed.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    tasks: JoinSet<Vec<String>>,
}

impl Traffic {
    /// From every cluster but `to` to its service, and back into each.
    pub(crate) async fn start(fleet: &Fleet, from: &[&str]) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for name in from {
            let address = (fleet[name].address_of(API).await, 8080);
            let (stop, done) = (stop.clone(), done.clone());
            tasks.spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let talked = async {
                        let mut stream = tokio::net::TcpStream::connect(address).await?;
                        line(&mut stream).await?;
                        say(&mut stream, "hello").await?;
                        part(&mut stream).await
                    };
                    match talked.await {
                        Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => failed.push(error.to_string()),
                    }
                }
                failed
            });
        }
        Self { stop, done, tasks }
    }

    /// Waits for some more connections, so that what happened before this is behind every one of them.
    pub(crate) async fn goes_on(&self) {
        let before = self.done.load(Ordering::Relaxed);
        until("traffic goes on", async || (self.done.load(Ordering::Relaxed) > before + 20).then_some(())).await;
    }

    /// How many connections there were; none failed.
    pub(crate) async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(failed) = soon("traffic ends", self.tasks.join_next()).await {
            assert_eq!(failed.unwrap(), Vec::<String>::new());
        }
        self.done.load(Ordering::Relaxed)
    }
}

/// East, north and west, whose service answers as `west`.
async fn serving() -> (Fleet, Echo) {
    serving_as([Settings::of("east"), Settings::of("north"), Settings::of("west")]).await
}

async fn serving_as(settings: [Settings; 3]) -> (Fleet, Echo) {
    let fleet = Fleet::with(settings).await;
    let echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    for name in ["east", "north"] {
        fleet[name].sees(API, &["west"]).await;
    }
    (fleet, echo)
}

/// The tunnels that are up, by number.
pub(crate) async fn tunnels(cluster: &Cluster) -> BTreeSet<(String, u64)> {
    let peers = cluster.admin().await.status().await.unwrap().peers;
    peers
        .into_iter()
        .flat_map(|peer| peer.tunnels.into_iter().map(move |t| (peer.cluster.clone(), t.connected_at)))
        .collect()
}

#[tokio::test]
async fn an_authority_is_replaced_under_traffic_without_a_failed_connection_or_a_new_tunnel() {
    let (fleet, _echo) = serving().await;
    let (west, old) = (&fleet["west"], authority(&fleet["west"]));
    let mut long = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut long).await.unwrap(), "west");
    let before = tunnels(west).await;
    let traffic = Traffic::start(&fleet, &["east", "north"]).await;
    traffic.goes_on().await;

    let told = order(west, RotateAction::Begin, 60).await.unwrap();
    let end = told.last().unwrap();
    assert!(end.done && end.sequence == 3, "{told:#?}");
    traffic.goes_on().await;
    assert_eq!(say(&mut long, "still here").await.unwrap(), "still here");
    let connections = traffic.end().await;
    assert!(connections > 40, "{connections}");

    let new = authority(west);
    assert_ne!(new, old);
    assert_eq!(end.authorities, [new.to_string()]);
    assert_eq!(tunnels(west).await, before, "no tunnel was made anew");
    for left in ["ca.next", "ca.old"] {
        assert!(!west.state().join(left).exists(), "{left} is left");
    }
    for member in fleet.federation().operator().await.list_members().await.unwrap().members {
        let own = member.member.cluster.as_str() == "west";
        assert_eq!(member.member.bundle.sequence, if own { 3 } else { 1 });
    }
    // And once more, by somebody who starts from the new one.
    assert!(order(west, RotateAction::Begin, 60).await.unwrap().last().unwrap().done);
    assert_ne!(authority(west), new);
}

#[tokio::test]
async fn a_member_that_is_away_blocks_a_rotation_by_name_until_it_comes_back() {
    let (mut fleet, _echo) = serving().await;
    fleet["north"].kill().await;
    fleet["west"].reaches("north", false).await;
    let old = authority(&fleet["west"]);
    let told = order(&fleet["west"], RotateAction::Begin, 0).await.unwrap();
    assert!(!told.last().unwrap().done);
    let waiting = until("north alone is waited for", async || {
        let standing = standing(&fleet["west"]).await;
        let names: Vec<_> = standing.blockers.iter().map(|blocker| blocker.cluster.clone()).collect();
        (names == ["north"]).then_some(standing)
    })
    .await;
    assert_eq!((waiting.phase.as_str(), waiting.sequence), ("preparing", 2));
    // As long as the old tunnel is only silent, its last word counts.
    let reasons = ["no tunnel to it is up", "it believes version 1"];
    assert!(reasons.iter().any(|reason| waiting.blockers[0].reason.contains(reason)), "{waiting:?}");
    assert!(waiting.blockers[0].consequence.contains("north refuses tunnels"), "{waiting:?}");
    assert_eq!(authority(&fleet["west"]), old);
    fleet["north"].start().await;
    settled(&fleet["west"]).await;
    assert_ne!(authority(&fleet["west"]), old);
    fleet["north"].sees(API, &["west"]).await;
}

#[tokio::test]
async fn a_forced_gate_is_passed_and_whoever_was_away_catches_up() {
    let (mut fleet, _echo) = serving().await;
    fleet["north"].kill().await;
    fleet["west"].reaches("north", false).await;
    order(&fleet["west"], RotateAction::Begin, 0).await.unwrap();
    until("the gate waits for north alone", async || {
        let standing = standing(&fleet["west"]).await;
        (standing.blockers.len() == 1 && standing.sequence == 2).then_some(())
    })
    .await;
    order(&fleet["west"], RotateAction::Force, 0).await.unwrap();
    until("the old authority is retired", async || {
        let standing = standing(&fleet["west"]).await;
        (standing.sequence == 3 && standing.phase == "settled").then_some(())
    })
    .await;
    fleet["east"].sees(API, &["west"]).await;
    fleet["north"].start().await;
    fleet["north"].sees(API, &["west"]).await;
    settled(&fleet["west"]).await;
    let mut operator = fleet.federation().operator().await;
    let wanted = Wanted { action: Some(Action::RotationStep), ..Wanted::default() };
    until("the audit log tells of every step, and of the gate that was forced", async || {
        let entries = operator.audit(&wanted).await.unwrap();
        let steps = entries.iter().map(|entry| entry.event.detail.split([',', ';']).next().unwrap_or_default());
        let forced = entries.iter().any(|entry| entry.event.detail.starts_with("activated, forced"));
        (forced && steps.eq(["published", "activated", "retired"])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_rotation_that_nobody_relies_on_can_be_given_up() {
    let (mut fleet, _echo) = serving().await;
    fleet["north"].kill().await;
    fleet["west"].reaches("north", false).await;
    let old = authority(&fleet["west"]);
    order(&fleet["west"], RotateAction::Begin, 0).await.unwrap();
    until("the new authority is published", async || (standing(&fleet["west"]).await.sequence == 2).then_some(()))
        .await;
    order(&fleet["west"], RotateAction::Cancel, 0).await.unwrap();
    let end = until("the bundle has the old authority alone", async || {
        Some(standing(&fleet["west"]).await).filter(|standing| standing.sequence == 3 && standing.phase == "settled")
    })
    .await;
    assert_eq!(end.authorities, [old.to_string()]);
    fleet["east"].sees(API, &["west"]).await;
    let elsewhere =
        RotateTrustRequest { cluster: "east".to_owned(), action: RotateAction::Begin.into(), wait_seconds: 0 };
    let mut steps = fleet["west"].admin().await.rotate_trust(elsewhere).await.unwrap();
    let error = steps.next().await.unwrap_err().to_string();
    assert!(error.contains("this gateway is of cluster west"), "{error}");
}

/// Who is killed, and when.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Owner,
    Federation,
    Peer,
}

/// Kills one party as soon as the rotation has reached `at`, and starts it again.
async fn with_a_death(victim: Victim, at: impl Fn(&RotationStanding) -> bool) {
    let (mut fleet, _echo) = serving().await;
    let old = authority(&fleet["west"]);
    order(&fleet["west"], RotateAction::Begin, 0).await.unwrap();
    until("the rotation has come so far", async || Some(standing(&fleet["west"]).await).filter(|s| at(s))).await;
    match victim {
        Victim::Owner => {
            fleet["west"].kill().await;
            fleet["west"].start().await;
        }
        Victim::Federation => {
            fleet.kill_federation().await;
            fleet.start_federation().await;
        }
        Victim::Peer => {
            fleet["east"].kill().await;
            fleet["east"].start().await;
        }
    }
    let end = settled(&fleet["west"]).await;
    assert_ne!(authority(&fleet["west"]), old, "{victim:?}");
    assert_eq!((end.authorities.len(), end.sequence), (1, 3), "{victim:?}");
    for name in ["east", "north"] {
        fleet[name].sees(API, &["west"]).await;
        let mut stream = fleet[name].connect(API, 8080).await;
        assert_eq!(line(&mut stream).await.unwrap(), "west", "{victim:?}");
    }
}

#[tokio::test]
async fn a_rotation_goes_on_after_a_crash_of_anybody_while_it_prepares() {
    for victim in [Victim::Owner, Victim::Federation, Victim::Peer] {
        with_a_death(victim, |standing| standing.sequence >= 2).await;
    }
}

#[tokio::test]
async fn a_rotation_goes_on_after_a_crash_of_anybody_while_it_retires() {
    for victim in [Victim::Owner, Victim::Federation, Victim::Peer] {
        with_a_death(victim, |standing| standing.sequence >= 3).await;
    }
}

#[tokio::test]
async fn a_rotation_that_was_ordered_without_the_federation_service_waits_for_it() {
    let (mut fleet, _echo) = serving().await;
    let old = authority(&fleet["west"]);
    fleet.kill_federation().await;
    order(&fleet["west"], RotateAction::Begin, 0).await.unwrap();
    until("the federation service is waited for", async || {
        let standing = standing(&fleet["west"]).await;
        standing.blockers.iter().any(|blocker| blocker.cluster.is_empty()).then_some(())
    })
    .await;
    // Even when the gateway is started again meanwhile.
    fleet["west"].kill().await;
    fleet["west"].start().await;
    fleet["east"].sees(API, &["west"]).await;
    assert_eq!(authority(&fleet["west"]), old);
    fleet.start_federation().await;
    settled(&fleet["west"]).await;
    assert_ne!(authority(&fleet["west"]), old);
}

#[tokio::test]
async fn certificates_that_live_for_seconds_are_renewed_under_traffic_without_a_failed_connection() {
    let brief = |name: &str| Settings { identity: "ttl = \"10s\"".to_owned(), ..Settings::of(name) };
    let (fleet, _echo) = serving_as(["east", "north", "west"].map(brief)).await;
    let mut long = fleet["east"].connect(API, 8080).await;
    assert_eq!(line(&mut long).await.unwrap(), "west");
    let before = tunnels(&fleet["west"]).await;
    let traffic = Traffic::start(&fleet, &["east", "north"]).await;
    let renewals =
        async |name: &str| fleet[name].metrics().await.sum("landbridge_gateway_certificate_renewals_total", &[]);
    for name in ["east", "north", "west"] {
        // Four renewals are about two whole lives.
        until(&format!("{name} has renewed its certificate four times"), async || {
            (renewals(name).await >= 4.0).then_some(())
        })
        .await;
    }
    traffic.goes_on().await;
    assert_eq!(say(&mut long, "still here").await.unwrap(), "still here");
    assert!(traffic.end().await > 20);
    assert_eq!(tunnels(&fleet["west"]).await, before, "no tunnel was made anew");
    assert_eq!(fleet["west"].get("/readyz").await.unwrap().0, 200);
}

#[tokio::test]
async fn a_gateway_starts_with_the_certificate_it_had() {
    let mut fleet = Fleet::of(&["east"]).await;
    let certificate = async |fleet: &Fleet| standing(&fleet["east"]).await.certificate;
    let before = certificate(&fleet).await;
    fleet["east"].kill().await;
    fleet["east"].start().await;
    assert_eq!(certificate(&fleet).await, before);
    // A pair that does not belong together counts for nothing.
    fleet["east"].kill().await;
    std::fs::write(fleet["east"].state().join("svid/tls.key"), "half").unwrap();
    fleet["east"].start().await;
    assert_ne!(certificate(&fleet).await, before);
    let mut federation = fleet.federation().operator().await;
    assert_eq!(federation.list_members().await.unwrap().members.len(), 1);
}
