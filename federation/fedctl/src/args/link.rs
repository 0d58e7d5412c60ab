//! `fedctl link`, and what `fedctl join` knows of Kubernetes: what a person types.

use std::time::Duration;

use clap::Args;
use federation_model::{addr::GatewayAddr, spiffe::TrustDomain};

use super::install::{IMAGE, Identity, ImageName, ServiceType};

/// `fedctl link`
#[derive(Debug, Args)]
pub struct Link {
    /// Contexts of the kubeconfig, of clusters with a gateway
    #[arg(required = true, num_args = 2..=MAX_CONTEXTS, value_name = "CONTEXT")]
    pub contexts: Vec<String>,
    /// The context of the federation service [default: the one of them in which it runs]
    #[arg(long, value_name = "CONTEXT")]
    pub federation_context: Option<String>,
    /// How long to wait until each sees each, up to 1h; 0s: do not wait
    #[arg(long, value_name = "SPAN", default_value = "2m", value_parser = super::parse_wait)]
    pub wait: Duration,
    /// Do not verify it by services that are exported for some seconds
    #[arg(long)]
    pub no_probe: bool,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// The most clusters that one command links: each is watched over a connection of its own.
const MAX_CONTEXTS: usize = 16;

/// How `fedctl join --context` installs a gateway where there is none.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --context, where no gateway is installed yet")]
pub struct NewGateway {
    /// The SPIFFE trust domain of the cluster, its own alone; needed to install
    #[arg(long, value_name = "DOMAIN")]
    pub trust_domain: Option<TrustDomain>,
    /// Where other clusters reach its gateway (UDP); never for outbound only
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Vec<GatewayAddr>,
    /// Where the authority of the cluster comes from
    #[arg(long, value_enum, value_name = "SOURCE", default_value_t = Identity::SelfSigned)]
    pub identity: Identity,
    /// How the tunnel's port is published [default: LoadBalancer]
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = ServiceType::LoadBalancer, hide_default_value = true)]
    pub service_type: ServiceType,
    /// The image with the three programs
    #[arg(long, value_name = "IMAGE", default_value = IMAGE)]
    pub image: ImageName,
}

impl NewGateway {
    /// Whether anything of it was asked for.
    pub(crate) fn is_given(&self) -> bool {
        self.trust_domain.is_some() || !self.advertise.is_empty()
    }
}
