//! `fedctl trust accept`: believing a bundle that was refused, because a person compared its fingerprint.

use federation_model::bundle::Fingerprint;
use proto::gateway::v1::AcceptBundleRequest;
use serde_json::json;

use super::confirmed;
use crate::{
    Ending,
    args::{Accept, Target},
    connect,
    failure::Failure,
    print::Console,
};

pub(super) async fn run(accept: Accept, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let mut gateway = connect::gateway(target).await?;
    let cluster = accept.cluster.to_string();
    let bundles = gateway.certificates().await?.bundles;
    let refused = bundles.into_iter().find(|bundle| bundle.cluster == cluster && !bundle.refusal.is_empty());
    let Some(refused) = refused else {
        console.answer(&json!({ "cluster": cluster, "accepted": false }), || {
            format!("No bundle of {cluster} was refused; nothing was changed.\nNext: fedctl certs\n")
        });
        return Ok(Ending::Done);
    };
    let fingerprint = match accept.fingerprint {
        Some(fingerprint) => fingerprint,
        None => asked(&cluster, &refused, console)?,
    };
    let request = AcceptBundleRequest { cluster: cluster.clone(), fingerprint: fingerprint.to_string() };
    let sequence = gateway.accept_bundle(request).await?;
    let value =
        json!({ "cluster": cluster, "accepted": true, "sequence": sequence, "fingerprint": fingerprint.to_string() });
    console.answer(&value, || {
        format!("{cluster} is believed by version {sequence} of its bundle from now on.\nNext: fedctl status\n")
    });
    Ok(Ending::Done)
}

/// Shows what was refused and why; nobody accepts without an answer.
fn asked(
    cluster: &str,
    refused: &proto::gateway::v1::BundleStanding,
    console: &mut Console,
) -> Result<Fingerprint, Failure> {
    console.note(&format!("refused: {}", refused.refusal));
    for held in &refused.authorities {
        console.note(&format!("  known    {held}"));
    }
    for offered in &refused.refused {
        console.note(&format!("  offered  {offered}"));
    }
    let hint = format!(
        "fedctl trust accept {cluster} --fingerprint with what the operators of {cluster} see in fedctl status"
    );
    let first = refused.refused.first().and_then(|shown| shown.parse().ok());
    let Some(first) = first.filter(|_| console.can_ask()) else {
        return Err(Failure::because("a fingerprint is to be compared, and nobody is there to do it", hint));
    };
    confirmed(console, &format!("Do the operators of {cluster} see the same fingerprint as offered here?"))?;
    Ok(first)
}
