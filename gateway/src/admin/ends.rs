//! What ends and what to do about it, for people.
//!
//! Owns the words. What ends, and from when on that is worth a word, `federation_pki::horizon` says.

use federation_model::{finding::Finding, names::ClusterName, time::Timestamp};
use federation_pki::horizon::{Break, Part, Whose};

use super::status::words;
use crate::config::IdentitySource;

/// Who must act where it is this cluster's turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    /// This cluster.
    pub(super) cluster: &'a ClusterName,
    /// Where its identity comes from.
    pub(super) source: IdentitySource,
}

/// A warning while it works, a failure from then on.
pub(super) fn finding(ends: &Break, own: Own<'_>, now: Timestamp) -> Finding {
    let left = ends.left(now);
    let when = left.map_or_else(|| "has ended".to_owned(), |left| format!("ends in {}", words(left)));
    let (check, consequence) = matter(ends, own);
    let why = ends.why.as_ref().map(|why| format!(", and nothing replaces it: {why}")).unwrap_or_default();
    let then = if left.is_some() { "then " } else { "" };
    let detail = match ends.part {
        Part::Certificate => format!("the certificate {when}{}; {then}{consequence}", or_late(why)),
        Part::Intermediate => format!("the intermediate above the certificate {when}; {then}{consequence}"),
        Part::Authority => format!("its authority {when}; {then}{consequence}"),
        Part::Source => format!("what the source gave last {when}{why}; {then}{consequence}"),
    };
    let hint = remedy(ends, own);
    match left {
        Some(_) => Finding::warning(&check, detail, hint),
        None => Finding::failed(&check, detail, hint),
    }
}

fn or_late(why: String) -> String {
    if why.is_empty() { ", and its renewal is late".to_owned() } else { why }
}

/// The name of the check, and what stops.
fn matter(ends: &Break, own: Own<'_>) -> (String, String) {
    let refused = "peers refuse this cluster's gateways".to_owned();
    match (&ends.whose, ends.part) {
        (Whose::Own, Part::Certificate | Part::Intermediate) => ("certificate".to_owned(), refused),
        (Whose::Own, Part::Authority) => (format!("authority of {}", own.cluster), refused),
        (Whose::Own, Part::Source) => ("identity source".to_owned(), refused),
        (Whose::Peer(cluster), Part::Certificate | Part::Intermediate | Part::Source) => {
            (format!("certificate of {cluster}"), format!("the tunnels with {cluster} close"))
        }
        (Whose::Peer(cluster), Part::Authority) => {
            (format!("authority of {cluster}"), format!("the gateways of {cluster} are refused here"))
        }
        (Whose::Federation, _) => (
            "authority of the federation service".to_owned(),
            "no change of the set and no revocation arrives here; traffic goes on".to_owned(),
        ),
        (Whose::Foreign(domain), _) => {
            (format!("authority of {domain}"), format!("workloads of {domain} are not believed"))
        }
    }
}

fn remedy(ends: &Break, Own { cluster: own, source }: Own<'_>) -> String {
    match (&ends.whose, ends.part, source) {
        (Whose::Own, Part::Authority, IdentitySource::SelfSigned) => format!("replace it: fedctl trust rotate {own}"),
        (Whose::Own, Part::Authority, IdentitySource::Files | IdentitySource::Spire) => {
            let at = if source == IdentitySource::Files { "where identity.dir is written" } else { "at the SPIRE server" };
            format!("replace it {at}; the gateway follows gate by gate: fedctl trust rotate {own} --status")
        }
        (Whose::Own, _, IdentitySource::SelfSigned) => {
            "look for renewal errors in the gateway's log; the state directory must be writable".to_owned()
        }
        (Whose::Own, _, IdentitySource::Files) => {
            "whoever writes identity.dir must renew it; with cert-manager: kubectl describe certificate, cmctl status certificate"
                .to_owned()
        }
        (Whose::Own, _, IdentitySource::Spire) => {
            "look at the SPIRE agent of this node and at the registration entry of the gateway".to_owned()
        }
        (Whose::Peer(cluster), Part::Authority, _) => {
            format!("its operators replace it, at a gateway of {cluster}: fedctl trust rotate {cluster}")
        }
        (Whose::Peer(cluster), _, _) => {
            format!("its operators look at a gateway of {cluster}: fedctl check, fedctl certs")
        }
        (Whose::Federation, _, _) => {
            "its operators replace it (trust.ca_dir); every cluster then joins again: fedctl join TOKEN".to_owned()
        }
        (Whose::Foreign(domain), _, _) => {
            format!("its operators publish the next one; to read it at once: fedctl trust foreign refresh {domain}")
        }
    }
}

#[cfg(test)]
mod tests;
