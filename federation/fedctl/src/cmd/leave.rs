//! `fedctl leave`: this cluster leaves the cluster set.

use serde_json::json;

use super::confirmed;
use crate::{
    Ending,
    args::{Leave, Target},
    connect,
    failure::Failure,
    print::Console,
};

pub(super) async fn run(leave: Leave, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let mut gateway = connect::gateway(target).await?;
    let status = gateway.status().await?;
    let cluster = status.cluster;
    if !status.federation.is_some_and(|federation| federation.joined) {
        console.answer(&json!({ "cluster": cluster, "left": false, "federation_told": false }), || {
            format!("{cluster} is a member of no cluster set; nothing was changed.\n")
        });
        return Ok(Ending::Done);
    }
    if !leave.yes {
        let question = format!("Let {cluster} leave the cluster set? Its connections with other clusters end.");
        confirmed(console, &question)?;
    }
    let left = gateway.leave(leave.force).await?;
    let value = json!({
        "cluster": cluster, "left": true, "federation_told": left.federation_told, "detail": left.detail,
    });
    console.answer(&value, || {
        let told = if left.federation_told {
            String::new()
        } else {
            format!(
                "The federation service could not be told ({}).\nNext: an operator runs fedctl members remove {cluster}\n",
                left.detail
            )
        };
        format!("{cluster} has left the cluster set.\n{told}")
    });
    Ok(Ending::Done)
}
