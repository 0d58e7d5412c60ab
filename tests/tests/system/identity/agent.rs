//! Identities that a SPIFFE agent issues to gateways: renewal, another authority, and an agent that goes away.

use std::time::{Duration, SystemTime};

use federation_model::spiffe::TrustDomain;
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
};
use tests::{
    fleet::Fleet,
    skip,
    spire::{self, Spire},
    wait::until,
    workload::{AgentDouble, IssuedSvid},
};
use tokio::time::timeout;

use super::{Witness, believed, is_warned, is_well, judged, readiness, serving, settled, standing, taken_over};

/// SPIRE renews an SVID of a minute after half of it.
const RENEWAL: Duration = Duration::from_secs(90);
/// Long enough for every test.
const LIFE: Duration = Duration::from_secs(3600);

/// An agent that issues the identity of one gateway.
pub(super) struct Issuing {
    agent: AgentDouble,
    authority: Authority,
    domain: String,
}

impl Issuing {
    pub(super) fn start(domain: &str) -> Self {
        let issuing = Self { agent: AgentDouble::start(), authority: authority(domain), domain: domain.to_owned() };
        issuing.issue(&[&issuing.authority], LIFE);
        issuing
    }

    pub(super) fn settings(&self) -> String {
        settings(&self.agent.socket())
    }

    pub(super) fn root_pem(&self) -> String {
        self.authority.certificate_pem()
    }

    /// Issues an SVID of the authority, with this bundle.
    fn issue(&self, bundle: &[&Authority], life: Duration) {
        let id = format!("spiffe://{}/landbridge/gateway", self.domain);
        let validity = Validity::starting(SystemTime::now().into(), life);
        let request = SvidRequest { id: id.parse().unwrap(), names: Vec::new(), validity };
        let svid = self.authority.issue(&request).unwrap();
        self.agent.issue(vec![IssuedSvid {
            id,
            chain: svid.chain()[..1].to_vec(),
            key: svid.key_pem().expose().to_owned(),
            bundle: bundle.iter().map(|authority| authority.certificate().clone()).collect(),
        }]);
    }

    /// Has another authority from now on; the one before.
    fn replace_authority(&mut self) -> Authority {
        std::mem::replace(&mut self.authority, authority(&self.domain))
    }
}

fn settings(socket: &std::path::Path) -> String {
    format!("source = \"spire\"\nsocket = \"unix://{}\"", socket.display())
}

fn authority(domain: &str) -> Authority {
    let validity = Validity::starting(SystemTime::now().into(), 2 * LIFE);
    Authority::generate(&TrustDomain::new(domain).unwrap(), "SPIRE", validity).unwrap()
}

fn shown(authority: &Authority) -> String {
    authority.fingerprint().to_string()
}

#[tokio::test]
async fn an_agent_replaces_svids_and_its_authority_under_traffic_and_no_peer_is_surprised() {
    let (east, mut west) = (Issuing::start("east.example"), Issuing::start("west.example"));
    let (mut fleet, _echo) = serving(east.settings(), west.settings()).await;
    let mut witness = Witness::of(&fleet).await;
    let first = standing(&fleet["west"]).await;
    assert_eq!(first.authorities, [shown(&west.authority)]);

    west.issue(&[&west.authority], LIFE);
    let renewed = taken_over(&fleet, &first.certificate).await;
    assert_eq!((renewed.sequence, renewed.done), (1, true));

    // The agent was away while its server prepared and activated: both come at once, and peers know neither.
    fleet.kill_federation().await;
    let old = west.replace_authority();
    west.issue(&[&old, &west.authority], LIFE);
    let waiting = until("the bundle with both authorities is published", async || {
        Some(standing(&fleet["west"]).await).filter(|standing| standing.sequence == 2)
    })
    .await;
    assert_eq!(waiting.authorities, [shown(&old), shown(&west.authority)]);
    witness.sees_no_change().await;
    let waiting = standing(&fleet["west"]).await;
    assert_eq!(waiting.certificate, renewed.certificate, "peers do not believe the new authority yet: {waiting:?}");
    assert!(waiting.phase == "preparing" && !waiting.blockers.is_empty(), "{waiting:?}");
    assert_eq!(judged(&fleet["east"], "west").await, [renewed.certificate.as_str()]);

    fleet.start_federation().await;
    let moved = taken_over(&fleet, &renewed.certificate).await;
    west.issue(&[&west.authority], LIFE);
    taken_over(&fleet, &moved.certificate).await;
    let end = settled(&fleet["west"]).await;
    assert_eq!((end.sequence, &end.authorities), (3, &vec![shown(&west.authority)]));
    until("east forgets the old authority", async || (believed(&fleet["east"], "west").await.0 == 3).then_some(()))
        .await;
    witness.ends_content(&fleet).await;
}

#[tokio::test]
async fn an_agent_that_is_away_is_named_and_nothing_else_happens_until_its_svid_expires() {
    let (east, mut west) = (Issuing::start("east.example"), Issuing::start("west.example"));
    let (fleet, _echo) = serving(east.settings(), west.settings()).await;
    let cluster = &fleet["west"];
    let witness = Witness::of(&fleet).await;
    west.agent.stop().await;
    is_warned(cluster, "the SPIFFE agent at").await;
    assert_eq!(cluster.get("/readyz").await.unwrap().0, 200);
    witness.ends_content(&fleet).await;
    west.agent.restart();
    is_well(cluster).await;

    let before = standing(cluster).await.certificate;
    west.issue(&[&west.authority], Duration::from_secs(10));
    taken_over(&fleet, &before).await;
    west.agent.stop().await;
    let (status, said) =
        until("the certificate expires", async || Some(readiness(cluster).await).filter(|(status, _)| *status == 503))
            .await;
    assert!(status == 503 && said.contains("has expired") && said.contains("the SPIFFE agent at"), "{said}");
    let expiry = cluster.metrics().await.sum("landbridge_gateway_certificate_expiry_timestamp_seconds", &[]);
    assert!(expiry <= SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64());
    fleet["east"].reaches("west", false).await;

    west.agent.restart();
    west.issue(&[&west.authority], LIFE);
    is_well(cluster).await;
    fleet["east"].sees(super::API, &["west"]).await;
    assert_eq!(cluster.get("/readyz").await.unwrap().0, 200);
}

#[tokio::test]
async fn gateways_of_two_spires_join_carry_traffic_and_survive_a_restart_of_an_agent() {
    if !spire::is_installed() {
        skip::say("a fleet of SPIRE", "spire-server and spire-agent are not on PATH");
        return;
    }
    let (east, mut west) = (Spire::start("east.example").await, Spire::start("west.example").await);
    for (spire, domain) in [(&east, "east"), (&west, "west")] {
        spire.register(&format!("spiffe://{domain}.example/landbridge/gateway"));
    }
    let (fleet, _echo): (Fleet, _) = serving(settings(&east.socket()), settings(&west.socket())).await;
    let witness = Witness::of(&fleet).await;
    west.stop_agent();
    is_warned(&fleet["west"], "the SPIFFE agent at").await;
    west.restart_agent();
    is_well(&fleet["west"]).await;
    let before = standing(&fleet["west"]).await.certificate;
    let renewed = async {
        while standing(&fleet["west"]).await.certificate == before {
            witness.traffic.goes_on().await;
        }
    };
    timeout(RENEWAL, renewed).await.expect("SPIRE renews the SVID, and the gateway takes it");
    witness.ends_content(&fleet).await;
}
