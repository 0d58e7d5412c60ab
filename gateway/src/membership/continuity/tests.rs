use std::{sync::Arc, time::Duration};

use federation_model::{
    lineage::Lineage,
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use federation_pki::{Validity, ca::Authority, signer::Signer};

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000);

fn authority(domain: &str) -> Arc<Authority> {
    let validity = Validity::starting(NOW, Duration::from_secs(3600));
    Arc::new(Authority::generate(&TrustDomain::new(domain).unwrap(), domain, validity).unwrap())
}

/// A member with the first version of its bundle.
fn member(cluster: &str, authority: &Arc<Authority>) -> Member {
    let trust_domain = authority.trust_domain().clone();
    let gateway_id = SpiffeId::from_segments(trust_domain, &["landbridge", "gateway"]).unwrap();
    let cluster = cluster.parse().unwrap();
    let signer = Signer::Authority(authority.clone());
    let authorities = vec![authority.certificate().clone()];
    let first = continuity::first(&cluster, &gateway_id, authorities, (&signer, NOW)).unwrap();
    Member {
        cluster,
        gateway_id,
        advertise: Vec::new(),
        bundle: first.bundle.clone(),
        lineage: Lineage::new(vec![first]),
        region: String::new(),
        zone: String::new(),
        joined_at: NOW,
    }
}

#[test]
fn a_cluster_that_comes_back_must_be_the_one_that_went() {
    let west = authority("west.example");
    let mut known = Known::default();
    known.remember(&member("west", &west));
    assert_eq!(judge(None, &known, &member("west", &west)), Ok(()));
    let rebuilt = member("west", &authority("west.example"));
    assert_eq!(judge(None, &known, &rebuilt).unwrap_err().label(), "fork");
    // Neither the name nor the trust domain can be taken over by somebody else.
    let usurper = member("west", &authority("other.example"));
    assert_eq!(judge(None, &known, &usurper).unwrap_err().label(), "renamed");
    let alias = member("other", &authority("west.example"));
    assert_eq!(judge(None, &known, &alias).unwrap_err().label(), "renamed");
    known.forget(&rebuilt);
    assert_eq!(judge(None, &known, &rebuilt), Ok(()));
}

#[test]
fn a_member_that_nobody_signed_for_is_not_believed() {
    let mut west = member("west", &authority("west.example"));
    west.lineage = Lineage::default();
    assert_eq!(judge(None, &Known::default(), &west).unwrap_err().label(), "unsigned");
}

#[test]
fn what_is_known_survives_a_restart_and_is_limited() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Known::load(dir.path()).unwrap(), Known::default());
    let mut known = Known::default();
    known.remember(&member("west", &authority("west.example")));
    known.save(dir.path()).unwrap();
    assert_eq!(Known::load(dir.path()).unwrap(), known);
    std::fs::write(dir.path().join(FILE), b"\xff").unwrap();
    let error = format!("{:#}", Known::load(dir.path()).unwrap_err());
    assert!(error.contains("known.pb is damaged"), "{error}");

    let pattern = known.0[0].clone();
    let many = (0..MAX_KNOWN + 3).map(|at| SignedBundle { signed_at: Timestamp(at as u64), ..pattern.clone() });
    let known = Known::new(many.collect());
    assert_eq!(known.0.len(), MAX_KNOWN);
    assert!(known.0.iter().all(|bundle| bundle.signed_at >= Timestamp(3)));
}
