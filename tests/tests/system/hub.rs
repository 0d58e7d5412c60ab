//! A federation service that lies: what it cannot make a gateway believe.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use federation_client::gateway::messages::{AcceptBundleRequest, RotateAction, RotateTrustRequest};
use federation_model::{
    lineage::{Lineage, SignedBundle},
    member::{Change, Member},
    spiffe::SpiffeId,
};
use federation_pki::{Validity, ca::Authority, continuity, signer::Signer};
use rustls_pki_types::CertificateDer;
use tests::{
    client::{line, say},
    fleet::Fleet,
    manifests::Export,
    probe::Echo,
    puppet::Puppet,
    wait::until,
};

const API: &str = "production/api";

/// East and west, whose service answers, under a federation service that was broken into.
struct Lies {
    fleet: Fleet,
    puppet: Puppet,
    east: Member,
    west: Member,
    store_id: String,
    revision: u64,
    _echo: Echo,
}

impl Lies {
    /// Begins with an honest set; `before` is done in it.
    async fn begin(before: impl AsyncFnOnce(&Fleet)) -> Self {
        let mut fleet = Fleet::of(&["east", "west"]).await;
        let echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
        fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
        fleet["east"].sees(API, &["west"]).await;
        before(&fleet).await;
        let listing = fleet.federation().operator().await.list_members().await.unwrap();
        let member = |name: &str| {
            let found = listing.members.iter().find(|status| status.member.cluster.as_str() == name);
            found.unwrap().member.clone()
        };
        let (east, west) = (member("east"), member("west"));
        let view = tests::http::get(fleet.federation().admin(), "/debug/members").await.unwrap().1;
        let view: serde_json::Value = serde_json::from_str(&view).unwrap();
        let (store_id, revision) = (view["store_id"].as_str().unwrap().to_owned(), view["revision"].as_u64().unwrap());
        fleet.stop_federation().await;
        let puppet = Puppet::start(&fleet.federation().store(), fleet.federation().grpc()).await;
        puppet.is_heard_by(2).await;
        Self { fleet, puppet, east, west, store_id, revision, _echo: echo }
    }

    fn say(&mut self, reset: bool, changes: &[Change]) {
        self.revision += 1;
        self.puppet.say(&self.store_id, self.revision, reset, changes);
    }

    /// West as its authority signed it, but for what is changed.
    fn offering(&self, versions: Vec<SignedBundle>) -> Change {
        let newest = versions.last().unwrap();
        Change::Upsert(Member {
            gateway_id: newest.gateway_id.clone(),
            bundle: newest.bundle.clone(),
            lineage: Lineage::new(versions),
            ..self.west.clone()
        })
    }

    /// Waits until east refuses west's bundle for this reason.
    async fn refused(&self, reason: &str) {
        until(&format!("east refuses the bundle of west: {reason}"), async || {
            let bundles = self.fleet["east"].admin().await.certificates().await.unwrap().bundles;
            let west = bundles.into_iter().find(|bundle| bundle.cluster == "west")?;
            west.refusal.contains(reason).then_some(())
        })
        .await;
    }

    /// Waits until east refuses nothing.
    async fn believed(&self) {
        until("east believes what it is told of west", async || {
            let bundles = self.fleet["east"].admin().await.certificates().await.unwrap().bundles;
            bundles.iter().all(|bundle| bundle.refusal.is_empty()).then_some(())
        })
        .await;
    }

    /// Traffic goes to the true west and nowhere else.
    async fn nothing_has_changed(&self) {
        let east = &self.fleet["east"];
        east.sees(API, &["west"]).await;
        let mut stream = east.connect(API, 8080).await;
        assert_eq!(line(&mut stream).await.unwrap(), "west");
        assert_eq!(say(&mut stream, "hello").await.unwrap(), "hello");
        let bundles = east.admin().await.certificates().await.unwrap().bundles;
        let west = bundles.into_iter().find(|bundle| bundle.cluster == "west").unwrap();
        let true_one = self.fleet["west"].authority().fingerprint().to_string();
        assert_eq!((west.sequence, west.authorities), (self.west.bundle.sequence, vec![true_one]));
    }
}

/// An authority of west that is not west's.
fn thief() -> Arc<Authority> {
    let domain = "west.example".parse().unwrap();
    let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(3600));
    Arc::new(Authority::generate(&domain, "Landbridge west", validity).unwrap())
}

fn signed_by(authority: &Arc<Authority>, before: &SignedBundle) -> SignedBundle {
    let authorities: Vec<CertificateDer<'static>> = vec![authority.certificate().clone()];
    let signer = Signer::Authority(authority.clone());
    continuity::next(before, authorities, (&signer, SystemTime::now().into())).unwrap()
}

fn first_of(authority: &Arc<Authority>, cluster: &str, gateway_id: &SpiffeId) -> SignedBundle {
    let signer = Signer::Authority(authority.clone());
    let authorities = vec![authority.certificate().clone()];
    let cluster = cluster.parse().unwrap();
    continuity::first(&cluster, gateway_id, authorities, (&signer, SystemTime::now().into())).unwrap()
}

#[tokio::test]
async fn a_forged_bundle_is_refused_by_name_and_the_true_one_stays_in_force() {
    let mut lies = Lies::begin(async |_| {}).await;
    let one = lies.west.lineage.versions()[0].clone();
    let forged = lies.offering(vec![one.clone(), signed_by(&thief(), &one)]);
    lies.say(false, &[forged]);
    lies.refused("version 2 of the bundle of west is forged").await;
    lies.nothing_has_changed().await;
    let findings = lies.fleet["east"].admin().await.check().await.unwrap();
    assert!(findings.iter().any(|finding| finding.check == "bundle of west" && finding.detail.contains("forged")));
    let refused = lies.fleet["east"].metrics().await;
    assert_eq!(refused.sum("landbridge_gateway_bundles_refused_total", &["reason=\"forged\""]), 1.0);

    // Without the signatures, under another id, or of another story: no better.
    let unsigned = Change::Upsert(Member { lineage: Lineage::default(), ..lies.west.clone() });
    lies.say(false, &[unsigned]);
    lies.refused("nobody signed").await;
    let workload: SpiffeId = "spiffe://west.example/ns/a/sa/b".parse().unwrap();
    let usurped = lies.offering(vec![first_of(&thief(), "west", &workload)]);
    lies.say(false, &[usurped]);
    lies.refused("cannot become that of").await;
    let fork = lies.offering(vec![first_of(&thief(), "west", &one.gateway_id)]);
    lies.say(false, &[fork]);
    lies.refused("there are two bundles of west").await;
    lies.nothing_has_changed().await;

    // And the truth ends it.
    let truth = lies.offering(vec![one]);
    lies.say(false, &[truth]);
    lies.believed().await;
}

#[tokio::test]
async fn a_cluster_that_is_removed_and_comes_back_as_somebody_else_is_not_believed() {
    let mut lies = Lies::begin(async |_| {}).await;
    let one = lies.west.lineage.versions()[0].clone();
    lies.say(false, &[Change::Removed("west".parse().unwrap())]);
    lies.fleet["east"].knows(&[]).await;
    let impostor = thief();
    let story = lies.offering(vec![first_of(&impostor, "west", &one.gateway_id)]);
    lies.say(false, std::slice::from_ref(&story));
    lies.refused("there are two bundles of west").await;
    lies.fleet["east"].knows(&[]).await;
    // Not after a restart, nor in a story that begins anew.
    lies.fleet["east"].kill().await;
    lies.fleet["east"].start().await;
    lies.puppet.is_heard_by(3).await;
    lies.say(false, &[story]);
    lies.refused("there are two bundles of west").await;
    lies.fleet["east"].knows(&[]).await;

    // A person who compared the fingerprint may say otherwise, and no other fingerprint will do.
    let accept = async |fingerprint: String| {
        let request = AcceptBundleRequest { cluster: "west".to_owned(), fingerprint };
        lies.fleet["east"].admin().await.accept_bundle(request).await
    };
    let wrong = accept(lies.fleet["east"].authority().fingerprint().to_string()).await.unwrap_err().to_string();
    assert!(wrong.contains("nothing was changed"), "{wrong}");
    assert_eq!(accept(impostor.fingerprint().to_string()).await.unwrap(), 1);
    lies.fleet["east"].knows(&["west"]).await;
}

#[tokio::test]
async fn an_old_state_does_not_come_back() {
    let rotate = async |fleet: &Fleet| {
        let action = RotateAction::Begin.into();
        let request = RotateTrustRequest { cluster: "west".to_owned(), action, wait_seconds: 60 };
        let mut steps = fleet["west"].admin().await.rotate_trust(request).await.unwrap();
        let mut last = None;
        while let Some(step) = steps.next().await.unwrap() {
            last = Some(step);
        }
        assert!(last.unwrap().done);
    };
    let mut lies = Lies::begin(rotate).await;
    let versions = lies.west.lineage.versions().to_vec();
    assert_eq!(versions.len(), 3);
    let old = lies.offering(versions[..1].to_vec());
    lies.say(false, &[old]);
    lies.refused("went back from sequence 3 to 1").await;
    lies.nothing_has_changed().await;
    let gap = {
        let mut offered = lies.west.clone();
        offered.lineage = Lineage::new(vec![versions[2].clone()]);
        Change::Upsert(offered)
    };
    // The newest alone is what is known.
    lies.say(false, &[gap]);
    lies.believed().await;
    lies.nothing_has_changed().await;
}

#[tokio::test]
async fn an_older_state_of_the_same_store_is_refused_whatever_it_says() {
    let lies = Lies::begin(async |_| {}).await;
    let east = &lies.fleet["east"];
    // East alone is a state that the set was in; it would cut west off.
    let alone = Change::Upsert(lies.east.clone());
    for (round, (revision, reset)) in
        [(lies.revision - 1, true), (0, true), (lies.revision - 1, false)].into_iter().enumerate()
    {
        // Each refuses, and connects anew.
        lies.puppet.is_heard_by(2 + 2 * round).await;
        lies.puppet.say(&lies.store_id, revision, reset, std::slice::from_ref(&alone));
        until("east says that the service went back", async || {
            let findings = east.admin().await.check().await.unwrap();
            let finding = findings.into_iter().find(|finding| finding.check == "federation")?;
            let named = finding.detail.contains(&format!("seen revision {}", lies.revision))
                && finding.detail.contains(&format!("offers revision {revision}"));
            (named && finding.hint.contains("fedctl recover")).then_some(())
        })
        .await;
        lies.nothing_has_changed().await;
    }
    let refused = east.metrics().await.sum("landbridge_gateway_federation_rewinds_total", &[]);
    assert!(refused >= 3.0, "{refused}");
}

#[tokio::test]
async fn a_service_that_keeps_a_new_bundle_to_itself_stops_the_rotation_and_breaks_nothing() {
    let lies = Lies::begin(async |_| {}).await;
    let west = &lies.fleet["west"];
    let old = west.authority().fingerprint();
    let request = |action: RotateAction| RotateTrustRequest {
        cluster: "west".to_owned(),
        action: action.into(),
        wait_seconds: 0,
    };
    drop(west.admin().await.rotate_trust(request(RotateAction::Begin)).await.unwrap().next().await.unwrap());
    until("west told the federation service", async || (!lies.puppet.published().is_empty()).then_some(())).await;
    let waiting = until("east is waited for by name", async || {
        let mut steps = west.admin().await.rotate_trust(request(RotateAction::Status)).await.unwrap();
        let standing = steps.next().await.unwrap().unwrap();
        standing.blockers.iter().any(|blocker| blocker.cluster == "east").then_some(standing)
    })
    .await;
    assert!(waiting.blockers.iter().any(|blocker| blocker.reason.contains("believes version 1")), "{waiting:?}");
    assert_eq!(west.authority().fingerprint(), old);
    lies.nothing_has_changed().await;
}
