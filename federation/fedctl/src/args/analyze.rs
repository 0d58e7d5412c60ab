//! `fedctl analyze` on the command line.
//!
//! Owns its options. Never does anything.

use std::path::PathBuf;

use clap::Args;
use federation_model::{names::Namespace, policy::ROOT_NAMESPACE, spiffe::TrustDomain};

/// `fedctl analyze`
#[derive(Debug, Args)]
pub struct Analyze {
    /// A directory of manifests as catalog.dir names one; several are read each for itself, as those of several clusters
    #[arg(required = true, value_name = "DIR")]
    pub directories: Vec<PathBuf>,
    /// Warnings fail too
    #[arg(long)]
    pub strict: bool,
    /// The trust domain of a cluster, whose Pods are then all the principals it has; once for each DIR, in the same order
    #[arg(long = "trust-domain", value_name = "DOMAIN")]
    pub trust_domains: Vec<TrustDomain>,
    /// As policy.root_namespace of the gateway
    #[arg(long, value_name = "NAMESPACE", default_value = ROOT_NAMESPACE)]
    pub root_namespace: Namespace,
    /// As policy.trust_domain_aliases of the gateway: cluster.local=east.example; may be repeated
    #[arg(long = "alias", value_name = "ALIAS=DOMAIN", value_parser = parse_alias)]
    pub aliases: Vec<(TrustDomain, TrustDomain)>,
}

fn parse_alias(text: &str) -> Result<(TrustDomain, TrustDomain), String> {
    let (alias, domain) = text.split_once('=').ok_or("write alias=trust-domain, as cluster.local=east.example")?;
    let read = |text: &str| TrustDomain::new(text).map_err(|error| format!("{text:?} is not a trust domain: {error}"));
    Ok((read(alias)?, read(domain)?))
}
