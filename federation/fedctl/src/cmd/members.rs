//! `fedctl members`: who is in the cluster set.

use serde_json::json;

use super::{confirmed, look};
use crate::{
    Ending,
    args::{Members, MembersAction, Target},
    connect,
    failure::Failure,
    print::Console,
    render::members::{self, FederationView},
};

pub(super) async fn run(what: Members, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let mut operator = connect::operator(target).await?;
    match what.action {
        None | Some(MembersAction::List) => {
            let federation: FederationView = operator.members().await?.into();
            let look = look(console);
            console.answer(&federation, || members::table(&federation, look));
        }
        Some(MembersAction::Remove { cluster, yes }) => {
            if !yes {
                let question = format!("Remove {cluster}? Every other member will cut its connections with {cluster}.");
                confirmed(console, &question)?;
            }
            let revision = operator.remove_member(&cluster).await?;
            console.answer(&json!({ "removed": cluster, "revision": revision }), || {
                format!("{cluster} is no member any more, from revision {revision} on.\nNext: fedctl members\n")
            });
        }
    }
    Ok(Ending::Done)
}
