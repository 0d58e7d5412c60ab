//! `fedctl trust foreign`: whom the cluster set believes beside its members.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use federation_model::{
    bundle::TrustBundle,
    foreign::{BundleSource, EndpointProfile},
    spiffe::{SpiffeId, TrustDomain},
};
use federation_pki::bundle::{MAX_DOCUMENT, from_jwks};
use serde_json::json;

use super::{confirmed, look};
use crate::{
    Ending,
    args::{Foreign, ForeignAdd, Profile, Target},
    connect,
    failure::{Failure, OrHint as _},
    print::Console,
    render::foreign::{self as render, ForeignView},
};

pub(super) async fn run(what: Foreign, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    match what {
        Foreign::Add(add) => self::add(add, target, console).await,
        Foreign::List => {
            let views = views(connect::operator(target).await?.foreign().await?);
            let look = look(console);
            console.answer(&json!({ "foreign": views }), || render::table(&views, look));
            Ok(Ending::Done)
        }
        Foreign::Remove { trust_domain, yes } => {
            let mut operator = connect::operator(target).await?;
            if !yes {
                let question = format!("Remove {trust_domain}? No gateway will believe its workloads any more.");
                confirmed(console, &question)?;
            }
            let revision = operator.remove_foreign(&trust_domain).await?;
            console.answer(&json!({ "removed": trust_domain.as_str(), "revision": revision }), || {
                format!("Nothing of {trust_domain} is believed any more, from revision {revision} on.\n")
            });
            Ok(Ending::Done)
        }
        Foreign::Refresh { trust_domain } => {
            let mut operator = connect::operator(target).await?;
            let views = views(operator.refresh_foreign(trust_domain.as_ref()).await?);
            Ok(told(&views, console))
        }
    }
}

async fn add(add: ForeignAdd, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let ForeignAdd { trust_domain, url, profile, endpoint_id, bundle } = add;
    let profile = match (profile, endpoint_id) {
        (Profile::HttpsSpiffe, Some(endpoint_id)) => EndpointProfile::HttpsSpiffe { endpoint_id },
        (Profile::HttpsSpiffe, None) => {
            return Err(Failure::because("https_spiffe needs the id of the endpoint", "--endpoint-id spiffe://..."));
        }
        (Profile::HttpsWeb, None) => EndpointProfile::HttpsWeb,
        (Profile::HttpsWeb, Some(_)) => {
            return Err(Failure::because(
                "an https_web endpoint is known by the name in its URL, not by an id",
                "the same command without --endpoint-id, or with --profile https_spiffe",
            ));
        }
    };
    let bootstrap = match (&bundle, profile.endpoint_id()) {
        (None, _) => None,
        (Some(file), Some(id)) => Some(bootstrap(file, id)?),
        (Some(_), None) => {
            return Err(Failure::because(
                "an https_web endpoint is believed by the authorities of the web, not by a bundle",
                "the same command without --bundle",
            ));
        }
    };
    let mut operator = connect::operator(target).await?;
    let source = BundleSource { trust_domain: trust_domain.clone(), url, profile };
    operator.add_foreign(&source, bootstrap.as_ref()).await?;
    // Whether it works is what whoever adds it wants to know.
    let views = views(operator.refresh_foreign(Some(&trust_domain)).await?);
    Ok(told(&views, console))
}

/// Shows what came of reading, which is a failed check where it failed.
fn told(views: &[ForeignView], console: &mut Console) -> Ending {
    let look = look(console);
    console.answer(&json!({ "foreign": views }), || render::table(views, look));
    if views.iter().any(|view| view.failures > 0) { Ending::ChecksFailed } else { Ending::Done }
}

fn views(all: Vec<federation_client::operator::ForeignStatus>) -> Vec<ForeignView> {
    all.into_iter().map(ForeignView::from).collect()
}

/// The bundle in a file: that of the trust domain the endpoint's id lies in.
fn bootstrap(file: &Path, endpoint_id: &SpiffeId) -> Result<TrustBundle, Failure> {
    const HINT: &str = "--bundle with a SPIFFE bundle (JWKS), as `spire-server bundle show -format spiffe` writes it";
    let trust_domain: &TrustDomain = endpoint_id.trust_domain();
    let text = read(file).or_hint(file.display().to_string(), HINT)?;
    let published = from_jwks(trust_domain, &text).or_hint(file.display().to_string(), HINT)?;
    Ok(published.bundle)
}

/// At most a byte more than a document may have, which its reader then refuses.
fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_DOCUMENT as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
