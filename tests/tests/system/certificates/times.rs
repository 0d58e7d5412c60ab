//! The time: a minute is allowed before a start and none after an end, of every certificate of a path.

use federation_model::time::Timestamp;
use rcgen::CertificateParams;

use super::{NOW, Row, accepted, refused, world::date};

const LEEWAY: &str = "we allow for clocks that differ by a minute at the start, openssl does not";
const LAST_SECOND: &str = "RFC 5280 counts the last second, openssl does not";

pub(super) fn rows() -> Vec<Row> {
    vec![
        accepted("the leaf starts now", |w| starts(&mut w.leaf, 0)),
        accepted("the leaf starts in a second", |w| starts(&mut w.leaf, 1)).openssl_differs(LEEWAY),
        accepted("the leaf starts in a minute", |w| starts(&mut w.leaf, 60)).openssl_differs(LEEWAY),
        refused("the leaf starts in more than a minute", "is valid from", |w| starts(&mut w.leaf, 61)),
        accepted("the leaf ends in a second", |w| ends(&mut w.leaf, 1)),
        accepted("the leaf ends now", |w| ends(&mut w.leaf, 0)).openssl_differs(LAST_SECOND),
        refused("the leaf ended a second ago", "expired at", |w| ends(&mut w.leaf, -1)),
        refused("the leaf ends before it starts", "expired at", |w| {
            starts(&mut w.leaf, 10);
            ends(&mut w.leaf, -10);
        }),
        accepted("the intermediate starts in a minute", |w| starts(w.issuer(), 60)).openssl_differs(LEEWAY),
        refused("the intermediate starts in more than a minute", "expired or not valid yet", |w| {
            starts(w.issuer(), 61)
        }),
        refused("the intermediate ended a second ago", "expired or not valid yet", |w| ends(w.issuer(), -1)),
        refused("the intermediate ends before the leaf starts", "expired or not valid yet", |w| {
            ends(w.issuer(), 10);
            starts(&mut w.leaf, 30);
        }),
        accepted("the authority starts in a minute", |w| starts(&mut w.signers[0], 60)).openssl_differs(LEEWAY),
        refused("the authority starts in more than a minute", "is valid from", |w| starts(&mut w.signers[0], 61)),
        refused("the authority ended a second ago", "expired at", |w| ends(&mut w.signers[0], -1)),
        refused("the authority ended a second ago, below it nothing else", "expired at", |w| {
            w.flat();
            ends(&mut w.signers[0], -1);
        }),
        refused("the clock is an hour and a second later", "expired at", |w| w.at = Timestamp(NOW.0 + 3601)),
        refused("the clock is two minutes and a second earlier", "is valid from", |w| w.at = Timestamp(NOW.0 - 121)),
    ]
}

fn starts(params: &mut CertificateParams, after: i64) {
    params.not_before = moment(after);
}

fn ends(params: &mut CertificateParams, after: i64) {
    params.not_after = moment(after);
}

fn moment(after: i64) -> time::OffsetDateTime {
    date(NOW.0.checked_add_signed(after).expect("the rows stay near the present"))
}
