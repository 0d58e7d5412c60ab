//! What a person types about foreign trust domains.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use federation_model::{
    foreign::BundleUrl,
    spiffe::{SpiffeId, TrustDomain, parse_workload_id},
};

/// What to do with trust domains outside the cluster set.
#[derive(Debug, Subcommand)]
pub enum Foreign {
    /// Have the bundle of a trust domain read from its bundle endpoint
    Add(ForeignAdd),
    /// List them, and how reading their bundles goes
    List,
    /// Believe nothing of a trust domain any more
    Remove {
        /// The trust domain
        trust_domain: TrustDomain,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Read the bundle of one trust domain, or of all, now
    Refresh {
        /// The trust domain; all when it is left out
        trust_domain: Option<TrustDomain>,
    },
}

/// `fedctl trust foreign add`
#[derive(Debug, Args)]
pub struct ForeignAdd {
    /// The trust domain; it must not be one of the cluster set
    pub trust_domain: TrustDomain,
    /// The URL of its bundle endpoint
    #[arg(long, value_name = "https://HOST[:PORT]/PATH")]
    pub url: BundleUrl,
    /// How the endpoint proves who it is
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub profile: Profile,
    /// With https_spiffe: the id the endpoint presents
    #[arg(
        long,
        value_name = "spiffe://...",
        value_parser = parse_workload_id,
        required_if_eq("profile", "https_spiffe")
    )]
    pub endpoint_id: Option<SpiffeId>,
    /// With https_spiffe: a file with the bundle (JWKS) of the trust domain of that id, to believe the endpoint by at first
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
}

/// How a bundle endpoint proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// By a web certificate for the name in the URL
    #[value(name = "https_web")]
    HttpsWeb,
    /// By an X.509-SVID with the id that is given
    #[value(name = "https_spiffe")]
    HttpsSpiffe,
}
