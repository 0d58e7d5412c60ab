use federation_model::finding::Level;

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000);
/// Nine hours and twelve minutes.
const LEFT: u64 = 33_120;

fn told(whose: Whose, part: Part, source: IdentitySource, at: Timestamp) -> Finding {
    let why = (part == Part::Source).then(|| "the agent is away".to_owned());
    let own = Own { cluster: &"east".parse().unwrap(), source };
    finding(&Break { at, whose, part, why }, own, NOW)
}

fn west() -> Whose {
    Whose::Peer("west".parse().unwrap())
}

#[test]
fn what_ends_is_a_warning_with_the_time_that_is_left_the_consequence_and_the_remedy() {
    let soon = Timestamp(NOW.0 + LEFT);
    let table = [
        (
            told(west(), Part::Authority, IdentitySource::SelfSigned, soon),
            "authority of west",
            "its authority ends in 9h12m; then the gateways of west are refused here",
            "fedctl trust rotate west",
        ),
        (
            told(west(), Part::Certificate, IdentitySource::SelfSigned, soon),
            "certificate of west",
            "the certificate ends in 9h12m, and its renewal is late; then the tunnels with west close",
            "fedctl certs",
        ),
        (
            told(Whose::Own, Part::Authority, IdentitySource::SelfSigned, soon),
            "authority of east",
            "its authority ends in 9h12m; then peers refuse this cluster's gateways",
            "replace it: fedctl trust rotate east",
        ),
        (
            told(Whose::Own, Part::Certificate, IdentitySource::Files, soon),
            "certificate",
            "the certificate ends in 9h12m, and its renewal is late; then peers refuse this cluster's gateways",
            "cert-manager",
        ),
        (
            told(Whose::Own, Part::Source, IdentitySource::Spire, soon),
            "identity source",
            "what the source gave last ends in 9h12m, and nothing replaces it: the agent is away; \
             then peers refuse this cluster's gateways",
            "SPIRE agent",
        ),
        (
            told(Whose::Federation, Part::Authority, IdentitySource::SelfSigned, soon),
            "authority of the federation service",
            "its authority ends in 9h12m; then no change of the set and no revocation arrives here; traffic goes on",
            "fedctl join TOKEN",
        ),
    ];
    for (found, check, detail, hint) in table {
        assert_eq!((found.level, found.check.as_str(), found.detail.as_str()), (Level::Warning, check, detail));
        assert!(found.hint.contains(hint), "{found:?}");
    }
}

#[test]
fn what_has_ended_is_a_failure() {
    let found = told(west(), Part::Authority, IdentitySource::SelfSigned, Timestamp(NOW.0 - 1));
    assert_eq!(found.level, Level::Failed);
    assert_eq!(found.detail, "its authority has ended; the gateways of west are refused here");
}
