//! The certificates above the leaf: authorities of this trust domain, allowed to sign.

use rcgen::{
    BasicConstraints,
    ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth},
    GeneralSubtree, IsCa,
    KeyUsagePurpose::{CrlSign, DigitalSignature},
    NameConstraints, SanType,
};

use super::{
    Row, accepted, refused,
    world::{World, der, extension, uri},
};

const NOT_SPIFFE: &str = "openssl does not know trust domains";
const ANCHOR: &str = "holds no usable authority";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = intermediates();
    rows.extend(authorities());
    rows.extend(constraints());
    rows
}

fn intermediates() -> Vec<Row> {
    vec![
        refused("an intermediate that is no authority", "is no authority", |w| w.issuer().is_ca = IsCa::ExplicitNoCa),
        refused("an intermediate without basicConstraints", "is no authority", |w| w.issuer().is_ca = IsCa::NoCa),
        refused("an intermediate without keyCertSign", "may not sign", |w| w.issuer().key_usages = vec![CrlSign]),
        refused("an intermediate without keyUsage", "may not sign", |w| w.issuer().key_usages.clear()),
        accepted("an intermediate without a name", |w| w.issuer().subject_alt_names.clear()),
        accepted("an intermediate with a DNS name alone", |w| {
            w.issuer().subject_alt_names = vec![SanType::DnsName("ca.example".try_into().expect("ASCII"))];
        }),
        refused("an intermediate of another trust domain", "is of another trust domain (west.example)", |w| {
            w.issuer().subject_alt_names = vec![uri("spiffe://west.example")];
        })
        .openssl_differs(NOT_SPIFFE),
        refused("an intermediate with the id of a workload", "is of another trust domain", |w| {
            w.issuer().subject_alt_names = vec![uri("spiffe://east.example/ca")];
        })
        .openssl_differs(NOT_SPIFFE),
        refused("an intermediate with two ids", "is of another trust domain", |w| {
            w.issuer().subject_alt_names.push(uri("spiffe://west.example"));
        })
        .openssl_differs(NOT_SPIFFE),
        accepted("an intermediate for both purposes", |w| {
            w.issuer().extended_key_usages = vec![ServerAuth, ClientAuth]
        }),
        refused("an intermediate for other purposes", "lacks serverAuth or clientAuth", |w| {
            w.issuer().extended_key_usages = vec![CodeSigning];
        }),
    ]
}

/// What is in the bundle must be an authority of its trust domain, else the bundle counts as empty.
fn authorities() -> Vec<Row> {
    vec![
        refused("an authority that is none", ANCHOR, |w| w.signers[0].is_ca = IsCa::ExplicitNoCa),
        refused("an authority without keyCertSign", ANCHOR, |w| w.signers[0].key_usages = vec![DigitalSignature]),
        refused("an authority without keyUsage", ANCHOR, |w| w.signers[0].key_usages.clear()),
        accepted("an authority whose name is in capitals", |w| {
            w.signers[0].subject_alt_names = vec![uri("SPIFFE://EAST.example")];
        }),
        accepted("an authority without a name", |w| w.signers[0].subject_alt_names.clear()),
        refused("an authority of another trust domain", ANCHOR, |w| {
            w.signers[0].subject_alt_names = vec![uri("spiffe://west.example")];
        })
        .openssl_differs(NOT_SPIFFE),
        refused("an authority with the id of a workload", ANCHOR, |w| {
            w.signers[0].subject_alt_names = vec![uri("spiffe://east.example/ca")];
        })
        .openssl_differs(NOT_SPIFFE),
        refused("an authority that two trust domains share", ANCHOR, |w| {
            w.signers[0].subject_alt_names.clear();
            w.shared_with = Some("west.example");
        })
        .openssl_differs(NOT_SPIFFE),
        refused("an authority believed for another trust domain", "not known here", |w| {
            w.signers[0].subject_alt_names.clear();
            w.believed_for = "west.example";
        })
        .openssl_differs(NOT_SPIFFE),
    ]
}

fn constraints() -> Vec<Row> {
    vec![
        refused("URI name constraints that the id meets", "name constraints", |w| {
            let name = der(0x86, b"east.example");
            let content = der(0x30, &der(0xa0, &der(0x30, &name)));
            w.issuer().custom_extensions.push(extension(30, &content, true));
        })
        .openssl_differs("rustls-webpki supports no URI name constraints and refuses rather than ignores them"),
        refused("URI name constraints that the id breaks", "name constraints", |w| {
            let name = der(0x86, b"west.example");
            let content = der(0x30, &der(0xa0, &der(0x30, &name)));
            w.issuer().custom_extensions.push(extension(30, &content, true));
        }),
        accepted("DNS name constraints without DNS names", |w| {
            w.issuer().name_constraints = Some(permitting("east.example"));
        }),
        accepted("DNS name constraints that a DNS name meets", |w| {
            w.issuer().name_constraints = Some(permitting("east.example"));
            dns(w, "api.east.example");
        }),
        refused("DNS name constraints that a DNS name breaks", "name constraints", |w| {
            w.issuer().name_constraints = Some(permitting("east.example"));
            dns(w, "api.west.example");
        }),
        refused("DNS name constraints of the authority that a DNS name breaks", "name constraints", |w| {
            w.signers[0].name_constraints = Some(permitting("east.example"));
            dns(w, "api.west.example");
        }),
        accepted("an authority with a path length", |w| {
            w.signers[0].is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        }),
    ]
}

fn permitting(dns: &str) -> NameConstraints {
    NameConstraints { permitted_subtrees: vec![GeneralSubtree::DnsName(dns.to_owned())], excluded_subtrees: Vec::new() }
}

fn dns(world: &mut World, name: &str) {
    world.leaf.subject_alt_names.push(SanType::DnsName(name.try_into().expect("the rows use ASCII")));
}
