//! `fedctl check`: tests what makes the federation work, and says what to do where it does not.
//!
//! Somebody who cannot be reached is a failed check here, because that is what is being tested. With `--pre` it is tested what
//! comes before: see [`pre`].

use federation_model::finding::Finding;
use serde_json::json;

use super::look;
use crate::{
    Ending,
    args::{Check, Target},
    connect,
    failure::Failure,
    print::Console,
    render::{
        Look,
        findings::{self, FindingView},
        foreign::ForeignView,
        members::{FederationView, MemberView},
        service::ServiceCertificates,
    },
};

pub(crate) mod pre;

const GATEWAY: &str = "gateway";
const FEDERATION: &str = "federation";

pub(super) async fn run(what: &Check, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    if what.pre {
        return pre::run(&what.peer, target, console).await;
    }
    let (mut found, look) = (Vec::new(), look(console));
    if connect::wants_gateway(target) {
        found.extend(gateway(target).await.unwrap_or_else(|failure| vec![unreachable(GATEWAY, &failure)]));
    }
    if connect::wants_federation(target) {
        found.extend(federation(target, look).await.unwrap_or_else(|failure| vec![unreachable(FEDERATION, &failure)]));
    }
    let failed = found.iter().any(FindingView::failed);
    console.answer(&json!({ "ok": !failed, "findings": found }), || findings::table(&found, look));
    Ok(if failed { Ending::ChecksFailed } else { Ending::Done })
}

/// What each gateway of the cluster finds; told apart by the names of their pods where there are several.
async fn gateway(target: &Target) -> Result<Vec<FindingView>, Failure> {
    let gateways = connect::gateways(target).await?;
    let several = gateways.len() > 1;
    let mut found = Vec::new();
    for (pod, gateway) in gateways {
        let of = if several { pod.as_str() } else { GATEWAY };
        let findings = match gateway {
            Ok(mut gateway) => gateway.check().await,
            Err(failure) => Err(failure),
        };
        match findings {
            Ok(findings) => {
                found.push(FindingView::new(of, Finding::ok("reachable", "it answers on its admin socket")));
                found.extend(findings.into_iter().map(|finding| FindingView::new(of, finding)));
            }
            Err(failure) => found.push(unreachable(of, &failure)),
        }
    }
    Ok(found)
}

async fn federation(target: &Target, look: Look) -> Result<Vec<FindingView>, Failure> {
    let mut operator = connect::operator(target).await?;
    let listing = operator.members().await?;
    let certificates = ServiceCertificates::new(&listing, operator.credential()).findings(look);
    let federation: FederationView = listing.into();
    let foreign = operator.foreign().await?.into_iter().map(ForeignView::from);
    let answered = format!("{}, {}, revision {}", federation.id, federation.software, federation.revision);
    let mut found = vec![FindingView::new(FEDERATION, Finding::ok("reachable", answered))];
    found.extend(certificates.into_iter().map(|finding| FindingView::new(FEDERATION, finding)));
    found.extend(members(&federation));
    found.extend(foreign.map(|view| FindingView::new(FEDERATION, view.finding(look))));
    Ok(found)
}

/// Whether every member follows the federation service: one that does not hears of no revocation.
fn members(federation: &FederationView) -> Vec<FindingView> {
    let judge = |member: &MemberView| {
        let check = format!("member {}", member.cluster);
        let behind = federation.revision.saturating_sub(member.acknowledged);
        let finding = match (member.watching, behind) {
            _ if member.pending => Finding::warning(
                &check,
                format!("it waits for approval, with the authority {}", member.authorities.join(" ")),
                format!("compare it with fedctl status there, then fedctl approve {}", member.cluster),
            ),
            (true, 0) => Finding::ok(&check, "it watches, and knows the newest revision"),
            (true, behind) => Finding::warning(
                &check,
                format!("it watches, and has not acknowledged {behind} revision(s) yet"),
                "the same command in a few seconds; if this stays, look at the log of its gateway",
            ),
            (false, _) => Finding::failed(
                &check,
                "none of its gateways is connected to the federation service",
                format!(
                    "fedctl check on a gateway of {0}; if {0} is gone for good: fedctl members remove {0}",
                    member.cluster
                ),
            ),
        };
        FindingView::new(FEDERATION, finding)
    };
    federation.members.iter().map(judge).collect()
}

fn unreachable(of: &str, failure: &Failure) -> FindingView {
    FindingView::new(of, Finding::failed("reachable", failure.causes().join(": "), failure.hint()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{listing, listing_with_one_that_waits};
    use federation_model::finding::Level;

    #[test]
    fn a_member_away_fails_and_one_behind_warns() {
        let levels: Vec<_> =
            members(&listing().into()).into_iter().map(|finding| (finding.check, finding.level)).collect();
        let expected = [("member east", Level::Warning), ("member north", Level::Failed), ("member west", Level::Ok)];
        assert_eq!(levels, expected.map(|(check, level)| (check.to_owned(), level)));
    }

    #[test]
    fn a_cluster_that_waits_for_approval_is_a_warning_with_its_authority() {
        let found = members(&listing_with_one_that_waits().into());
        let south = found.into_iter().find(|finding| finding.check == "member south").unwrap();
        assert!(south.level == Level::Warning && south.detail.contains("with the authority SHA256:"), "{south:?}");
    }
}
