use std::{sync::Arc, time::Duration};

use federation_model::spiffe::TrustDomain;

use super::*;
use crate::{
    Validity,
    ca::{Authority, SvidRequest},
};

const NOW: Timestamp = Timestamp(1_700_000_000);

fn authority(name: &str) -> Arc<Authority> {
    let validity = Validity::starting(NOW, Duration::from_secs(86_400));
    Arc::new(Authority::generate(&TrustDomain::new("west.example").unwrap(), name, validity).unwrap())
}

fn gateway_id() -> SpiffeId {
    SpiffeId::new("spiffe://west.example/landbridge/gateway").unwrap()
}

fn west() -> ClusterName {
    "west".parse().unwrap()
}

fn der(authorities: &[&Arc<Authority>]) -> Vec<CertificateDer<'static>> {
    authorities.iter().map(|authority| authority.certificate().clone()).collect()
}

fn by(authority: &Arc<Authority>) -> Signer {
    Signer::Authority(Arc::clone(authority))
}

/// The lineage of one whole rotation: old, old and new, new.
struct Rotation {
    old: Arc<Authority>,
    new: Arc<Authority>,
    lineage: Lineage,
}

impl Rotation {
    fn new() -> Self {
        let (old, new) = (authority("old"), authority("new"));
        let one = first(&west(), &gateway_id(), der(&[&old]), (&by(&old), NOW)).unwrap();
        let two = next(&one, der(&[&old, &new]), (&by(&old), NOW)).unwrap();
        let three = next(&two, der(&[&new]), (&by(&new), NOW)).unwrap();
        Self { old, new, lineage: Lineage::new(vec![one, two, three]) }
    }

    fn version(&self, sequence: usize) -> &SignedBundle {
        &self.lineage.versions()[sequence - 1]
    }

    fn up_to(&self, sequence: usize) -> Lineage {
        Lineage::new(self.lineage.versions()[..sequence].to_vec())
    }
}

#[test]
fn a_rotation_is_followed_from_every_version_that_is_known() {
    let rotation = Rotation::new();
    check(&west(), &rotation.lineage).unwrap();
    for known in 1..=3 {
        let standing = if known == 3 { Standing::Same } else { Standing::Newer };
        assert_eq!(advance(rotation.version(known), &rotation.lineage), Ok(standing));
    }
}

#[test]
fn a_gateway_under_the_former_authority_may_bring_in_the_next_one() {
    let (old, new) = (authority("old"), authority("new"));
    let validity = Validity::starting(NOW, Duration::from_secs(600));
    let gateway = old.issue(&SvidRequest { id: gateway_id(), names: vec![], validity }).unwrap();
    let gateway = Signer::Gateway(Arc::new(gateway));
    let one = first(&west(), &gateway_id(), der(&[&old]), (&gateway, NOW)).unwrap();
    let two = next(&one, der(&[&new]), (&gateway, NOW)).unwrap();
    let lineage = Lineage::new(vec![one.clone(), two.clone()]);
    check(&west(), &lineage).unwrap();
    assert_eq!(advance(&one, &lineage), Ok(Standing::Newer));
    // The old authority is gone by now, and so is the word of whoever it vouched for.
    let three = next(&two, der(&[&old]), (&gateway, NOW)).unwrap();
    let error = advance(&two, &Lineage::new(vec![one, two.clone(), three])).unwrap_err();
    assert!(matches!(error, ContinuityError::Forged { sequence: 3, .. }), "{error}");
}

#[test]
fn who_carries_bundles_can_neither_forge_nor_roll_back_nor_fork_them() {
    let rotation = Rotation::new();
    let thief = authority("old");
    let label = |held: &SignedBundle, offered: Vec<SignedBundle>| {
        advance(held, &Lineage::new(offered)).expect_err("it is refused").label()
    };
    let one = rotation.version(1);

    let forged = next(one, der(&[&thief]), (&by(&thief), NOW)).unwrap();
    assert_eq!(label(one, vec![one.clone(), forged.clone()]), "forged");
    let borrowed = SignedBundle { signer: der(&[&rotation.old]), ..forged };
    assert_eq!(label(one, vec![one.clone(), borrowed]), "forged");
    let retired = next(rotation.version(3), der(&[&rotation.old]), (&by(&rotation.old), NOW)).unwrap();
    assert_eq!(label(rotation.version(3), vec![rotation.version(3).clone(), retired]), "forged");

    assert_eq!(label(rotation.version(3), rotation.up_to(2).versions().to_vec()), "rollback");
    let fork = first(&west(), &gateway_id(), der(&[&thief]), (&by(&thief), NOW)).unwrap();
    assert_eq!(label(one, vec![fork.clone()]), "fork");
    let onward = next(&fork, der(&[&thief]), (&by(&thief), NOW)).unwrap();
    assert_eq!(label(one, vec![fork, onward.clone()]), "fork");
    // Without the version that gives it away it does not follow what is known.
    assert_eq!(label(one, vec![onward]), "broken");

    assert_eq!(label(one, vec![rotation.version(3).clone()]), "gap");
    assert_eq!(label(one, Vec::new()), "unsigned");
    let elsewhere = first(&"east".parse().unwrap(), &gateway_id(), der(&[&rotation.old]), (&by(&rotation.old), NOW));
    assert_eq!(label(one, vec![elsewhere.unwrap()]), "renamed");
    let workload = SpiffeId::new("spiffe://west.example/ns/a/sa/b").unwrap();
    let as_gateway = first(&west(), &workload, der(&[&rotation.old]), (&by(&rotation.old), NOW)).unwrap();
    assert_eq!(label(one, vec![as_gateway]), "renamed");
}

#[test]
fn versions_that_do_not_fit_together_are_found_in_the_lineage_alone() {
    let rotation = Rotation::new();
    let [one, two, three] = [1, 2, 3].map(|sequence| rotation.version(sequence).clone());
    let refused = |versions: Vec<SignedBundle>| check(&west(), &Lineage::new(versions)).unwrap_err().label();
    assert_eq!(refused(vec![]), "unsigned");
    assert_eq!(refused(vec![one.clone(), three.clone()]), "broken");
    assert_eq!(refused(vec![two.clone(), one.clone()]), "broken");
    let mut changed = two.clone();
    changed.bundle.authorities.pop();
    assert_eq!(refused(vec![one.clone(), changed]), "forged");
    let foreign = Authority::generate(
        &TrustDomain::new("east.example").unwrap(),
        "east",
        Validity::starting(NOW, Duration::from_secs(60)),
    );
    let foreign = vec![foreign.unwrap().certificate().clone()];
    let usurping = next(&one, foreign, (&by(&rotation.old), NOW)).unwrap();
    assert_eq!(refused(vec![one, usurping]), "unusable");
    // A lineage whose beginning is forgotten is checked from where it begins.
    check(&west(), &Lineage::new(vec![two, three])).unwrap();
}

#[test]
fn an_empty_bundle_is_the_end_of_a_trust_domain() {
    let rotation = Rotation::new();
    let one = rotation.version(1);
    let none = next(one, Vec::new(), (&by(&rotation.old), NOW)).unwrap();
    let lineage = Lineage::new(vec![one.clone(), none.clone()]);
    assert_eq!(advance(one, &lineage), Ok(Standing::Newer));
    let back = next(&none, der(&[&rotation.new]), (&by(&rotation.new), NOW)).unwrap();
    assert_eq!(advance(&none, &Lineage::new(vec![one.clone(), none.clone(), back])).unwrap_err().label(), "forged");
}

#[test]
fn every_refusal_has_its_word_in_the_list_for_metrics() {
    let labels = ContinuityError::LABELS;
    assert!(labels.contains(&ContinuityError::Unsigned(west()).label()));
    assert_eq!(labels.iter().collect::<std::collections::BTreeSet<_>>().len(), labels.len());
}
