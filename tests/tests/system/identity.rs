//! Identities that come from outside, end to end: how a fleet gets them, and how they change under traffic.

use std::time::Duration;

use federation_client::gateway::messages::{CertificateRole, RotationStanding};
use federation_model::{bundle::Fingerprint, finding::Level};
use serde_json::Value;
use tests::{
    client::{line, part, say},
    company::{Company, Intermediate, Secret},
    fleet::{Cluster, Fleet, Settings},
    manifests::Export,
    mount::Mount,
    probe::Echo,
    wait::until,
};
use tokio::net::TcpStream;

use super::rotation::{Traffic, settled, standing, tunnels};

mod agent;
mod secrets;

const API: &str = "production/api";

/// A cluster with these lines of the section `[identity]`.
fn with_identity(name: &str, lines: String) -> Settings {
    Settings { identity: lines, ..Settings::of(name) }
}

/// East and west, whose service answers as `west` and is seen in east.
async fn serving(east: String, west: String) -> (Fleet, Echo) {
    let fleet = Fleet::with([with_identity("east", east), with_identity("west", west)]).await;
    let echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
    fleet["east"].sees(API, &["west"]).await;
    (fleet, echo)
}

/// What goes on all the time while an identity changes: short calls, one long stream, and the tunnels that were there.
struct Witness {
    traffic: Traffic,
    long: TcpStream,
    tunnels: std::collections::BTreeSet<(String, u64)>,
}

impl Witness {
    async fn of(fleet: &Fleet) -> Self {
        let mut long = fleet["east"].connect(API, 8080).await;
        assert_eq!(line(&mut long).await.unwrap(), "west");
        let tunnels = tunnels(&fleet["west"]).await;
        let traffic = Traffic::start(fleet, &["east"]).await;
        traffic.goes_on().await;
        Self { traffic, long, tunnels }
    }

    /// The long stream lives, and more short calls are made.
    async fn sees_no_change(&mut self) {
        self.traffic.goes_on().await;
        assert_eq!(say(&mut self.long, "still here").await.unwrap(), "still here");
    }

    /// No connection has failed, and no tunnel was made anew.
    async fn ends_content(mut self, fleet: &Fleet) {
        self.sees_no_change().await;
        assert!(self.traffic.end().await > 20);
        assert_eq!(part(&mut self.long).await.unwrap(), "bye\n");
        assert_eq!(tunnels(&fleet["west"]).await, self.tunnels, "no tunnel was made anew");
    }
}

/// The fingerprints of the certificates that `cluster` judges its tunnels with `peer` by.
async fn judged(cluster: &Cluster, peer: &str) -> Vec<String> {
    let listed = cluster.admin().await.certificates().await.unwrap().certificates;
    let of_peer = listed.into_iter().filter(|shown| shown.cluster == peer && shown.role() == CertificateRole::Peer);
    of_peer.map(|shown| shown.fingerprint).collect()
}

/// The bundle of `peer` as `cluster` believes it: its sequence, and its authorities.
async fn believed(cluster: &Cluster, peer: &str) -> (u64, Vec<String>) {
    let bundles = cluster.admin().await.certificates().await.unwrap().bundles;
    let bundle = bundles.into_iter().find(|bundle| bundle.cluster == peer).unwrap();
    (bundle.sequence, bundle.authorities)
}

/// Waits until east judges its tunnels by west's certificate in use, and that is another one than `before`; its standing.
async fn taken_over(fleet: &Fleet, before: &str) -> RotationStanding {
    until("east sees the new certificate of west", async || {
        let standing = standing(&fleet["west"]).await;
        (standing.certificate != before && judged(&fleet["east"], "west").await == [standing.certificate.as_str()])
            .then_some(standing)
    })
    .await
}

/// What `/readyz` says of the certificate: the status of the whole, and the reason or warning.
async fn readiness(cluster: &Cluster) -> (u16, String) {
    let (status, body) = cluster.get("/readyz").await.unwrap();
    let report: Value = serde_json::from_str(&body).unwrap();
    let conditions = report["conditions"].as_array().unwrap();
    let certificate = conditions.iter().find(|condition| condition["name"] == "certificate").unwrap();
    let said = certificate.get("warning").or_else(|| certificate.get("reason")).and_then(Value::as_str);
    (status, said.unwrap_or_default().to_owned())
}

/// Waits until `/readyz` warns in these words although the gateway is ready, and `fedctl check` says the same.
async fn is_warned(cluster: &Cluster, words: &str) {
    until(&format!("{} warns: {words}", cluster.name()), async || {
        let (_, said) = readiness(cluster).await;
        said.contains(words).then_some(())
    })
    .await;
    let findings = cluster.admin().await.check().await.unwrap();
    let found = findings.iter().any(|finding| finding.level == Level::Warning && finding.detail.contains(words));
    assert!(found, "{words:?} is not in {findings:#?}");
}

/// Waits until nothing is wrong with the certificate any more.
async fn is_well(cluster: &Cluster) {
    until(&format!("nothing is wrong with the certificate of {}", cluster.name()), async || {
        (readiness(cluster).await.1.is_empty()).then_some(())
    })
    .await;
    let findings = cluster.admin().await.check().await.unwrap();
    let found = findings.iter().find(|finding| finding.check == "renewal of the certificate");
    assert!(found.is_none(), "{findings:#?}");
}

fn fingerprint(intermediate: &Intermediate) -> String {
    Fingerprint::of(intermediate.certificate()).to_string()
}

#[tokio::test]
async fn an_intermediate_in_a_mounted_secret_is_replaced_gate_by_gate_under_traffic() {
    let company = Company::default();
    let (first, second) = (company.intermediate("west.example"), company.intermediate("west.example"));
    let east = Mount::of(&company.intermediate("east.example").secret());
    let mut west = Mount::of(&first.secret());
    let (mut fleet, _echo) = serving(east.settings(), west.settings()).await;
    let mut witness = Witness::of(&fleet).await;
    let before = standing(&fleet["west"]).await;
    assert_eq!((before.sequence, &before.authorities), (1, &vec![fingerprint(&first)]), "the root is not published");

    // Nobody can hear of the new authority yet, so that it must not be used.
    fleet.kill_federation().await;
    west.swap(&second.secret());
    let waiting = until("west waits with its new authority", async || {
        Some(standing(&fleet["west"]).await).filter(|standing| standing.sequence == 2 && !standing.blockers.is_empty())
    })
    .await;
    assert_eq!((waiting.phase.as_str(), &waiting.certificate), ("preparing", &before.certificate), "{waiting:?}");
    assert_eq!(waiting.authorities, [fingerprint(&first), fingerprint(&second)]);
    assert_eq!(believed(&fleet["east"], "west").await, (1, vec![fingerprint(&first)]));
    witness.sees_no_change().await;
    assert_eq!(judged(&fleet["east"], "west").await, [before.certificate.as_str()]);

    fleet.start_federation().await;
    let end = taken_over(&fleet, &before.certificate).await;
    let settled = settled(&fleet["west"]).await;
    assert_eq!((settled.sequence, &settled.authorities), (3, &vec![fingerprint(&second)]));
    until("east forgets the old authority", async || {
        (believed(&fleet["east"], "west").await == (3, vec![fingerprint(&second)])).then_some(())
    })
    .await;

    // The same key with a new certificate, as cert-manager renews with rotationPolicy: Never.
    let third = company.again(&second);
    west.swap(&third.secret());
    until("west publishes the renewed authority alone", async || {
        let standing = standing(&fleet["west"]).await;
        (standing.done && standing.authorities == [fingerprint(&third)]).then_some(())
    })
    .await;
    witness.ends_content(&fleet).await;
    assert_eq!(fleet["west"].get("/readyz").await.unwrap().0, 200);

    // And a gateway that starts goes on with what is there.
    let kept = standing(&fleet["west"]).await.certificate;
    assert!(kept == end.certificate || kept != before.certificate);
    fleet["west"].kill().await;
    fleet["west"].start().await;
    fleet["east"].sees(API, &["west"]).await;
    assert_eq!(standing(&fleet["west"]).await.certificate, kept);
}

#[tokio::test]
async fn a_ready_leaf_is_taken_at_once_and_one_of_a_new_authority_gate_by_gate() {
    let company = Company::default();
    let (first, second) = (company.intermediate("west.example"), company.intermediate("west.example"));
    let east = Mount::of(&company.intermediate("east.example").leaf());
    let mut west = Mount::of(&first.leaf());
    let (fleet, _echo) = serving(east.settings(), west.settings()).await;
    let witness = Witness::of(&fleet).await;
    let before = standing(&fleet["west"]).await;
    assert_eq!(before.authorities, [fingerprint(&first)]);

    west.swap(&first.leaf());
    let renewed = taken_over(&fleet, &before.certificate).await;
    assert_eq!((renewed.sequence, renewed.done), (1, true), "nobody has to learn of a new authority");
    west.swap(&second.leaf());
    taken_over(&fleet, &renewed.certificate).await;
    let end = settled(&fleet["west"]).await;
    assert_eq!((end.sequence, &end.authorities), (3, &vec![fingerprint(&second)]));
    witness.ends_content(&fleet).await;
}

#[tokio::test]
async fn bad_files_leave_the_last_good_identity_in_force_are_named_and_can_be_mended() {
    let company = Company::default();
    let stranger = Company::default();
    let good = company.intermediate("c.example");
    let secret = good.secret();
    let other = company.intermediate("c.example").secret();
    let expired = company.shaped("c.example", Duration::ZERO, |params| params.not_after -= Duration::from_secs(30));
    let purpose = company.shaped("c.example", Duration::from_secs(600), |params| {
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    });
    let wrong_order = Secret { certificate: format!("{}{}", secret.authorities, secret.certificate), ..secret.clone() };
    let elsewhere = Secret { authorities: stranger.intermediate("c.example").secret().authorities, ..secret.clone() };
    let rows: [(&str, Secret, &str); 7] = [
        ("stranger", Secret { key: other.key.clone(), ..secret.clone() }, "tls.key does not belong to any certificate"),
        ("half", Secret { certificate: other.certificate.clone(), ..secret.clone() }, "does not belong to any"),
        ("expired", expired.secret(), "expired at"),
        ("purpose", purpose.secret(), "keyCertSign"),
        ("order", wrong_order, "order"),
        ("root", elsewhere, "does not lead to"),
        ("text", Secret { certificate: "nothing".to_owned(), ..secret.clone() }, "tls.crt"),
    ];
    let mut fleet = Fleet::new().await;
    let mut mounts = Vec::new();
    for (name, bad, words) in rows {
        let mount = Mount::of(&secret);
        let settings = Settings { trust_domain: "c.example".to_owned(), ..with_identity(name, mount.settings()) };
        fleet.add(settings).await;
        mounts.push((name, mount, bad, words));
    }
    let fleet = &fleet;
    // An update is given some seconds to be complete: all of them at once.
    let rows = mounts.into_iter().map(|(name, mut mount, bad, words)| {
        let (secret, other) = (&secret, &other);
        async move {
            let cluster = &fleet[name];
            until("the certificate is in use", async || (readiness(cluster).await.1.is_empty()).then_some(())).await;
            let before = standing(cluster).await;
            mount.swap(&bad);
            is_warned(cluster, words).await;
            let after = standing(cluster).await;
            assert_eq!((&after.certificate, &after.authorities), (&before.certificate, &before.authorities), "{name}");
            assert!(after.fault.contains(words), "{name}: {after:?}");
            mount.swap(secret);
            is_well(cluster).await;
            assert_eq!(standing(cluster).await.certificate, before.certificate, "{name}");
            mount.swap(other);
            until("another authority is followed", async || {
                (standing(cluster).await.authorities != before.authorities).then_some(())
            })
            .await;
        }
    });
    futures::future::join_all(rows).await;
}

#[tokio::test]
async fn an_authority_that_ends_is_named_while_the_gateway_is_ready_and_its_successor_clears_that() {
    let company = Company::default();
    let life = Duration::from_secs(24);
    let (first, second) = (company.brief_intermediate("west.example", life), company.intermediate("west.example"));
    let east = Mount::of(&company.intermediate("east.example").secret());
    let mut west = Mount::of(&first.secret());
    let (fleet, _echo) = serving(east.settings(), west.settings()).await;
    let witness = Witness::of(&fleet).await;
    let cluster = &fleet["west"];
    is_warned(cluster, "its authority expires with it").await;
    assert_eq!(cluster.get("/readyz").await.unwrap().0, 200, "it warns while there is time");
    let ends = facts(first.certificate());
    let metric = async |name: &str| cluster.metrics().await.sum(&format!("landbridge_gateway_{name}"), &[]);
    assert_eq!(metric("certificate_expiry_timestamp_seconds").await, ends);
    assert_eq!(metric("authority_expiry_timestamp_seconds").await, ends);
    let renewals = metric("certificate_renewals_total").await;
    assert!(renewals < 3.0, "certificates that end no later are no renewals: {renewals}");

    west.swap(&second.secret());
    is_well(cluster).await;
    let end = settled(cluster).await;
    assert_eq!(end.authorities, [fingerprint(&second)]);
    until("the certificate outlives the old authority", async || {
        (metric("certificate_expiry_timestamp_seconds").await > ends).then_some(())
    })
    .await;
    until("the metric of the authority follows", async || {
        (metric("authority_expiry_timestamp_seconds").await == facts(second.certificate())).then_some(())
    })
    .await;
    witness.ends_content(&fleet).await;
}

/// When a certificate ends, as a metric has it.
fn facts(certificate: &rustls_pki_types::CertificateDer<'_>) -> f64 {
    let facts = federation_pki::certificate::CertificateFacts::of(certificate).unwrap();
    Duration::from_secs(facts.validity.not_after.0).as_secs_f64()
}

#[tokio::test]
async fn a_set_of_an_external_pki_takes_files_and_an_agent_and_refuses_a_cluster_of_its_own_making() {
    let company = Company::default();
    let intermediate = company.intermediate("files.example").secret();
    let files = Mount::of(&intermediate);
    let agent = agent::Issuing::start("agent.example");
    let roots = format!("{}{}", intermediate.authorities, agent.root_pem());
    let mut fleet = Fleet::of_external_pki(&roots).await;
    fleet.add(with_identity("files", files.settings())).await;
    fleet.add(with_identity("agent", agent.settings())).await;
    fleet.join("files").await;
    fleet.join("agent").await;
    fleet.connected().await;
    fleet.add(Settings::of("homemade")).await;
    let token = fleet.federation().token("homemade").await;
    let error = fleet["homemade"].join(&token).await.unwrap_err().to_string();
    let own = fleet["homemade"].authority().fingerprint().to_string();
    for words in ["trust.require_external_ca", "self-signed", own.as_str()] {
        assert!(error.contains(words), "{words}: {error}");
    }
    fleet["files"].knows(&["agent"]).await;
}
