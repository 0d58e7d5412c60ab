//! The leaf: one SPIFFE ID, and no more rights than a workload needs.

use rcgen::{
    BasicConstraints, CustomExtension, DistinguishedName,
    ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth},
    IsCa,
    KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign, KeyEncipherment},
    SanType,
};

use super::{
    Row, Shape, accepted, refused,
    world::{World, der, extension, uri},
};

const NOT_SPIFFE: &str = "openssl does not know SPIFFE IDs";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = names();
    rows.extend(ids());
    rows.extend(usages());
    rows.extend(extensions());
    rows
}

fn names() -> Vec<Row> {
    vec![
        accepted("a sound leaf", |_| {}),
        refused("no URI name", "no URI name", |w| w.leaf.subject_alt_names.clear()).openssl_differs(NOT_SPIFFE),
        refused("a DNS name instead of a URI name", "no URI name", |w| {
            w.leaf.subject_alt_names = vec![dns("a.example")]
        })
        .openssl_differs(NOT_SPIFFE),
        refused("two URI names", "2 URI names", |w| w.leaf.subject_alt_names.push(uri("spiffe://east.example/other")))
            .openssl_differs(NOT_SPIFFE),
        refused("the same URI name twice", "2 URI names", |w| {
            let same = w.leaf.subject_alt_names[0].clone();
            w.leaf.subject_alt_names.push(same);
        })
        .openssl_differs(NOT_SPIFFE),
        refused("a URI name besides the SPIFFE ID", "2 URI names", |w| {
            w.leaf.subject_alt_names.push(uri("https://east.example/"));
        })
        .openssl_differs(NOT_SPIFFE),
        accepted("any number of other names", |w| {
            w.leaf.subject_alt_names.extend([
                dns("frontend.production.svc"),
                SanType::IpAddress([10, 0, 0, 1].into()),
                SanType::Rfc822Name("a@east.example".try_into().expect("ASCII")),
            ]);
        }),
        accepted("an empty subject with critical names", |w| w.leaf.distinguished_name = DistinguishedName::new()),
        refused("an empty subject with names that are not critical", "subjectAltName must be critical", |w| {
            w.leaf.distinguished_name = DistinguishedName::new();
            w.leaf.subject_alt_names.clear();
            let name = der(0x86, b"spiffe://east.example/ns/production/sa/frontend");
            w.leaf.custom_extensions.push(extension(17, &der(0x30, &name), false));
        }),
    ]
}

/// The grammar of SPIFFE IDs.
fn ids() -> Vec<Row> {
    let bad: [(&str, &str, Shape); 14] = [
        ("no path", "has no path", |w| id(w, "spiffe://east.example")),
        ("a path of a slash alone", "not a SPIFFE ID", |w| id(w, "spiffe://east.example/")),
        ("a slash at the end", "not a SPIFFE ID", |w| id(w, "spiffe://east.example/a/")),
        ("an empty segment", "not a SPIFFE ID", |w| id(w, "spiffe://east.example/a//b")),
        ("a dot as segment", "not a SPIFFE ID", |w| id(w, "spiffe://east.example/a/./b")),
        ("two dots as segment", "not a SPIFFE ID", |w| id(w, "spiffe://east.example/a/../b")),
        ("another scheme", "not a SPIFFE ID", |w| id(w, "https://east.example/a")),
        ("no trust domain", "not a SPIFFE ID", |w| id(w, "spiffe:///a")),
        ("a port", "not a SPIFFE ID", |w| id(w, "spiffe://east.example:443/a")),
        ("a user", "not a SPIFFE ID", |w| id(w, "spiffe://user@east.example/a")),
        ("percent encoding", "not a SPIFFE ID", |w| id(w, "spiffe://east.example/%61")),
        ("a query", "not a SPIFFE ID", |w| id(w, "spiffe://east.example/a?b")),
        ("a fragment", "not a SPIFFE ID", |w| id(w, "spiffe://east.example/a#b")),
        ("more than 2048 bytes", "not a SPIFFE ID", |w| id(w, &long(2049))),
    ];
    let mut rows: Vec<_> =
        bad.into_iter().map(|(rule, words, shape)| refused(rule, words, shape).openssl_differs(NOT_SPIFFE)).collect();
    rows.extend([
        accepted("2048 bytes", |w| id(w, &long(2048))),
        accepted("every character of a path", |w| id(w, "spiffe://east.example/aZ09._-")),
        accepted("three dots as segment", |w| id(w, "spiffe://east.example/...")),
        accepted("a trust domain in capitals", |w| id(w, "spiffe://EAST.example/a")),
        accepted("a scheme in capitals", |w| id(w, "SPIFFE://east.example/a")),
        refused("another trust domain", "not known here", |w| id(w, "spiffe://west.example/a"))
            .openssl_differs(NOT_SPIFFE),
        refused("a trust domain below a known one", "not known here", |w| id(w, "spiffe://a.east.example/a"))
            .openssl_differs(NOT_SPIFFE),
    ]);
    rows
}

fn usages() -> Vec<Row> {
    vec![
        refused("an authority as leaf", "is an authority", |w| {
            w.leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            w.leaf.key_usages = vec![DigitalSignature, KeyCertSign];
        })
        .openssl_differs("openssl lets an authority authenticate itself"),
        accepted("no basicConstraints", |w| w.leaf.is_ca = IsCa::NoCa),
        refused("no keyUsage", "has no keyUsage", |w| w.leaf.key_usages.clear())
            .openssl_differs("RFC 5280 leaves keyUsage of leaves to the issuer, SPIFFE demands it"),
        refused("a keyUsage that is not critical", "is not critical", |w| {
            w.leaf.key_usages.clear();
            // A bit string of one bit, digitalSignature.
            w.leaf.custom_extensions.push(extension(15, &[3, 2, 7, 0x80], false));
        })
        .openssl_differs("RFC 5280 says SHOULD, SPIFFE says MUST"),
        refused("a keyUsage without digitalSignature", "lacks digitalSignature", |w| {
            w.leaf.key_usages = vec![KeyEncipherment];
        }),
        accepted("a keyUsage with keyEncipherment too", |w| w.leaf.key_usages.push(KeyEncipherment)),
        refused("keyCertSign", "has keyCertSign", |w| w.leaf.key_usages.push(KeyCertSign)),
        refused("cRLSign", "has cRLSign", |w| w.leaf.key_usages.push(CrlSign))
            .openssl_differs("a leaf that signs revocation lists is forbidden by SPIFFE alone"),
        accepted("both purposes", |w| w.leaf.extended_key_usages = vec![ServerAuth, ClientAuth]),
        accepted("both purposes and another", |w| {
            w.leaf.extended_key_usages = vec![CodeSigning, ServerAuth, ClientAuth]
        }),
        refused("servers alone", "lacks clientAuth", |w| w.leaf.extended_key_usages = vec![ServerAuth]),
        refused("clients alone", "lacks serverAuth", |w| w.leaf.extended_key_usages = vec![ClientAuth]),
        refused("another purpose alone", "lacks clientAuth", |w| w.leaf.extended_key_usages = vec![CodeSigning]),
        refused("any purpose, not these two", "lacks clientAuth", |w| w.leaf.extended_key_usages = vec![Any]),
    ]
}

fn extensions() -> Vec<Row> {
    vec![
        refused("a critical extension nobody knows", "cannot be read", |w| {
            let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
            unknown.set_criticality(true);
            w.leaf.custom_extensions.push(unknown);
        }),
        accepted("an extension nobody knows that is not critical", |w| {
            w.leaf.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]));
        }),
        refused("names in two extensions", "cannot be read", |w| {
            let name = der(0x86, b"spiffe://east.example/admin");
            w.leaf.custom_extensions.push(extension(17, &der(0x30, &name), false));
        }),
    ]
}

fn id(world: &mut World, text: &str) {
    world.leaf.subject_alt_names = vec![uri(text)];
}

fn long(bytes: usize) -> String {
    let head = "spiffe://east.example/";
    format!("{head}{}", "a".repeat(bytes - head.len()))
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("the rows use ASCII"))
}
