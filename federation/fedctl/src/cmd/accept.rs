//! `fedctl trust accept`: believing a bundle that was refused, because a person compared its fingerprint.

use federation_model::bundle::Fingerprint;
use proto::gateway::v1::{AcceptBundleRequest, BundleStanding};
use serde_json::json;

use super::confirmed;
use crate::{
    Ending,
    args::{Accept, Target},
    connect::{self, Gateway},
    failure::Failure,
    print::Console,
};

pub(super) async fn run(accept: Accept, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let cluster = accept.cluster.to_string();
    let refusing = refusing(&cluster, target, console).await?;
    let Some((_, refused)) = refusing.first() else {
        console.answer(&json!({ "cluster": cluster, "accepted": false }), || {
            format!("No bundle of {cluster} was refused; nothing was changed.\nNext: fedctl certs\n")
        });
        return Ok(Ending::Done);
    };
    let fingerprint = match accept.fingerprint {
        Some(fingerprint) => fingerprint,
        None => asked(&cluster, refused, console)?,
    };
    let request = AcceptBundleRequest { cluster: cluster.clone(), fingerprint: fingerprint.to_string() };
    let mut sequence = 0;
    for (mut gateway, _) in refusing {
        sequence = gateway.accept_bundle(request.clone()).await?;
    }
    let value =
        json!({ "cluster": cluster, "accepted": true, "sequence": sequence, "fingerprint": fingerprint.to_string() });
    console.answer(&value, || {
        format!("{cluster} is believed by version {sequence} of its bundle from now on.\nNext: fedctl status\n")
    });
    Ok(Ending::Done)
}

/// The gateways that refuse a bundle of the cluster, and what they say of it: each keeps for itself what it believes.
async fn refusing(
    cluster: &str,
    target: &Target,
    console: &mut Console,
) -> Result<Vec<(Gateway, BundleStanding)>, Failure> {
    let (mut refusing, mut away, mut asked) = (Vec::new(), Vec::new(), 0);
    for (pod, gateway) in connect::gateways(target).await? {
        match gateway {
            Ok(mut gateway) => {
                asked += 1;
                let bundles = gateway.certificates().await?.bundles;
                let mut refused = bundles.into_iter().filter(|bundle| !bundle.refusal.is_empty());
                let refused = refused.find(|bundle| bundle.cluster == cluster);
                refusing.extend(refused.map(|refused| (gateway, refused)));
            }
            Err(failure) => away.push((pod, failure)),
        }
    }
    if asked == 0
        && let Some((_, failure)) = away.pop()
    {
        return Err(failure);
    }
    for (pod, failure) in away {
        console.note(&format!("{pod} is not asked: {}", failure.causes().join(": ")));
    }
    Ok(refusing)
}

/// Shows what was refused and why; nobody accepts without an answer.
fn asked(cluster: &str, refused: &BundleStanding, console: &mut Console) -> Result<Fingerprint, Failure> {
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
