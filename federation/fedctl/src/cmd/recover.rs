//! `fedctl recover`: the federation service goes on from a store that was restored from an older copy.
//!
//! Shows what every member will take for true, and what it will not, before anything is done.

use federation_client::operator::{Listing, Recovered};
use serde_json::json;

use super::confirmed;
use crate::{
    Ending,
    args::{Recover, Target},
    connect,
    failure::Failure,
    print::Console,
};

pub(super) async fn run(recover: &Recover, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let mut operator = connect::operator(target).await?;
    console.note(&plan(&operator.members().await?));
    if !recover.yes {
        // Every member believes it afterwards, and none can be taken back: nobody's silence is an agreement.
        if !console.can_ask() {
            let reason = "nobody is there to agree that this is the state to go on with; nothing was changed";
            return Err(Failure::because(reason, "fedctl recover --yes"));
        }
        confirmed(console, "Is this the state to go on with?")?;
    }
    let recovered = operator.recover().await?;
    let Recovered { former_store_id, store_id, revision } = &recovered;
    let value = json!({ "recovered": true, "former_store": former_store_id, "store": store_id, "revision": revision });
    console.answer(&value, || done(&recovered));
    Ok(Ending::Done)
}

/// What an operator must know before.
fn plan(listing: &Listing) -> String {
    let names: Vec<_> = listing.members.iter().map(|status| status.member.cluster.as_str()).collect();
    let members = if names.is_empty() { "no member".to_owned() } else { names.join(", ") };
    format!(
        "The federation service is at revision {}, with {members}.\n\
         Every one of them will take this for the state of the set, whatever it has seen since:\n\
         - a cluster that joined since is not in it: it keeps what it knows and reaches nobody: fedctl leave --force there, and join anew;\n\
         - a cluster that was removed since is a member again: fedctl members remove;\n\
         - a revocation made since stays in force on the members that heard of it, and on no other: revoke the same again;\n\
         - a bundle older than the one a member believes is refused by it: fedctl check on the gateways names it.\n",
        listing.revision
    )
}

fn done(recovered: &Recovered) -> String {
    format!(
        "The store goes on as {}, at revision {}; it was {}.\nMembers take its state within a minute.\n\
         Next: fedctl members, and fedctl check on the gateways\n",
        recovered.store_id, recovered.revision, recovered.former_store_id
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::listing;

    #[test]
    fn the_plan_says_what_members_will_believe_and_what_not() {
        insta::assert_snapshot!("plan", plan(&listing()));
        let recovered = Recovered { former_store_id: "0a".to_owned(), store_id: "0b".to_owned(), revision: 7 };
        insta::assert_snapshot!("done", done(&recovered));
    }
}
