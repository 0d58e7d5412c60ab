//! The path from the leaf to an authority of its own trust domain.

use rcgen::{BasicConstraints, IsCa};

use super::{
    Row, accepted, refused,
    world::{World, authority},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        accepted("directly below the authority", World::flat),
        accepted("the authority presented too", |w| {
            w.signers = vec![authority("root"), authority("upper"), authority("lower")];
            w.anchor = 1;
        }),
        accepted("two intermediates", three),
        accepted("two intermediates in another order", |w| {
            three(w);
            w.present = |above| above.reverse();
        }),
        accepted("an intermediate presented twice", |w| w.present = |above| above.push(above[0].clone())),
        refused("the intermediate left out", "no authority of its trust domain", |w| w.present = Vec::clear),
        refused("the upper intermediate left out", "no authority of its trust domain", |w| {
            three(w);
            w.present = |above| above.truncate(1);
        }),
        refused("a forged issuer of the same name", "another one of the same name", |w| {
            w.flat();
            w.forged = true;
        }),
        refused("a forged intermediate of the same name", "", |w| w.forged = true),
        refused("a damaged signature", "", |w| w.damaged = true),
        refused("more certificates than accepted", "4 are accepted", |w| {
            w.signers = ["a", "b", "c", "d", "e"].map(authority).to_vec();
        })
        .openssl_differs("we accept four certificates, openssl a hundred: work for strangers is bounded"),
        accepted("an authority that is not a root", |w| {
            three(w);
            w.anchor = 1;
        }),
    ];
    rows.extend(lengths());
    rows
}

/// pathLenConstraint, of intermediates and of the authority itself.
fn lengths() -> Vec<Row> {
    vec![
        accepted("the authority may have none below, and has none", |w| {
            w.flat();
            length(w, 0, 0);
        }),
        refused("the authority may have none below, and has one", "the path length", |w| length(w, 0, 0)),
        refused("the authority may have one below, and has two", "the path length", |w| {
            three(w);
            length(w, 0, 1);
        }),
        accepted("the authority may have two below, and has two", |w| {
            three(w);
            length(w, 0, 2);
        }),
        refused("the intermediate may have none below, and has one", "the path length", |w| {
            three(w);
            length(w, 1, 0);
        }),
        accepted("the intermediate may have one below, and has one", |w| {
            three(w);
            length(w, 1, 1);
        }),
        accepted("the last one may have none below", |w| {
            three(w);
            length(w, 2, 0);
        }),
    ]
}

fn three(world: &mut World) {
    world.signers = vec![authority("root"), authority("upper"), authority("lower")];
}

fn length(world: &mut World, signer: usize, most: u8) {
    world.signers[signer].is_ca = IsCa::Ca(BasicConstraints::Constrained(most));
}
