//! `fedctl approve`: a cluster that has joined becomes a member like every other.
//!
//! Shows the fingerprint of its authority first. What is approved is this fingerprint: a cluster that came in its place
//! meanwhile is not.

use federation_model::bundle::Fingerprint;
use serde_json::json;

use super::{confirmed, look};
use crate::{
    Ending,
    args::{Approve, Target},
    connect,
    failure::Failure,
    print::Console,
    render::members::{FederationView, MemberView},
};

pub(super) async fn run(approve: Approve, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let Approve { cluster, fingerprint, yes } = approve;
    let mut operator = connect::operator(target).await?;
    let federation: FederationView = operator.members().await?.into();
    let Some(member) = federation.members.iter().find(|member| member.cluster == cluster) else {
        return Err(Failure::because(
            format!("{cluster} has not joined"),
            format!("fedctl token create --cluster {cluster}, and fedctl join on its gateway"),
        ));
    };
    let authority = compared(member, fingerprint)?;
    if member.pending {
        console.note(&member.plan(look(console)));
        if fingerprint.is_none() && !yes {
            asked(member, console)?;
        }
    }
    let revision = operator.approve(&cluster, &authority).await?;
    let value = json!({
        "cluster": cluster, "approved": true, "already_member": !member.pending, "authority": authority.to_string(),
        "revision": revision,
    });
    console.answer(&value, || {
        if member.pending {
            format!("{cluster} is a member now, from revision {revision} on.\nNext: fedctl members\n")
        } else {
            format!("{cluster} is a member already; nothing was changed.\n")
        }
    });
    Ok(Ending::Done)
}

/// The fingerprint to approve: that of the cluster, when it is the expected one.
fn compared(member: &MemberView, expected: Option<Fingerprint>) -> Result<Fingerprint, Failure> {
    let shown = member.authorities.first().and_then(|text| text.parse::<Fingerprint>().ok());
    let Some(shown) = shown else {
        return Err(Failure::because(
            format!("{} has no authority", member.cluster),
            format!("fedctl members remove {}, and join anew", member.cluster),
        ));
    };
    match expected {
        Some(expected) if expected != shown => Err(Failure::because(
            format!("{} joined with the authority {shown}, not {expected}", member.cluster),
            format!(
                "fedctl status on the gateway of {0}; if it shows {expected} as well, somebody else holds the name: fedctl members remove {0}",
                member.cluster
            ),
        )),
        Some(_) | None => Ok(shown),
    }
}

/// An approval without a look at the fingerprint is none.
fn asked(member: &MemberView, console: &mut Console) -> Result<(), Failure> {
    if !console.can_ask() {
        return Err(Failure::because(
            "nobody is there to compare the fingerprint; nothing was changed",
            format!("fedctl approve {} --fingerprint with what fedctl join showed there", member.cluster),
        ));
    }
    let question = format!("Does fedctl status on the gateway of {} show the same authority? Approve?", member.cluster);
    confirmed(console, &question)
}
