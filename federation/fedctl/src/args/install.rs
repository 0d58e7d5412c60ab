//! `fedctl install` and `fedctl uninstall`: what a person types.

use std::{str::FromStr, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use federation_model::{addr::GatewayAddr, names::ClusterName, names::Namespace, spiffe::TrustDomain};

/// The image that `deploy/image` builds.
pub(crate) const IMAGE: &str = concat!("landbridge:", env!("CARGO_PKG_VERSION"));
/// The namespace that everything of Landbridge is in, and whose policies hold for all others.
pub(crate) const NAMESPACE: &str = "landbridge-system";
/// The trust domain of the federation service where nobody says another.
pub(crate) const FEDERATION_TRUST_DOMAIN: &str = "federation.internal";
/// The most gateways of one cluster: each opens a tunnel to each of every other cluster.
pub(crate) const MAX_REPLICAS: u16 = 16;

/// What to install.
#[derive(Debug, Subcommand)]
pub enum Install {
    /// Install a gateway, and the definitions of what it reads
    Gateway(InstallGateway),
    /// Install the federation service
    Federation(InstallFederation),
    /// Install the definitions alone, and a ClusterRole with which tenants install gateways
    Crds(InstallCrds),
}

/// `fedctl install gateway`
#[derive(Debug, Args)]
pub struct InstallGateway {
    /// The name of the cluster, unique in its set
    #[arg(long, value_name = "NAME")]
    pub cluster: ClusterName,
    /// The SPIFFE trust domain of the cluster, its own alone
    #[arg(long, value_name = "DOMAIN")]
    pub trust_domain: TrustDomain,
    /// Where other clusters reach this gateway (UDP); several times for several addresses, never for outbound only
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Vec<GatewayAddr>,
    /// Where the authority of the cluster comes from
    #[arg(long, value_enum, value_name = "SOURCE", default_value_t = Identity::SelfSigned)]
    pub identity: Identity,
    /// How the tunnel's port is published [default: LoadBalancer]
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = ServiceType::LoadBalancer, hide_default_value = true)]
    pub service_type: ServiceType,
    /// Serve these namespaces alone, with rights in them alone; namespace and definitions must be there then
    #[arg(long, value_name = "NAMESPACE,...", value_delimiter = ',')]
    pub namespaces: Vec<Namespace>,
    /// How many gateways; more than one needs an authority from outside
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_REPLICAS)))]
    pub replicas: u16,
    /// Where it goes.
    #[command(flatten)]
    pub place: Place,
    /// How it is done.
    #[command(flatten)]
    pub how: How,
}

/// `fedctl install federation`
#[derive(Debug, Args)]
pub struct InstallFederation {
    /// A name or address under which gateways of every cluster reach the service; several times for several
    #[arg(long = "name", value_name = "HOST[:PORT]", value_parser = super::parse_server_name)]
    pub names: Vec<String>,
    /// The trust domain of the service itself; no cluster may have it
    #[arg(long, value_name = "DOMAIN", default_value = FEDERATION_TRUST_DOMAIN)]
    pub trust_domain: TrustDomain,
    /// How its port is published [default: LoadBalancer]
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = ServiceType::LoadBalancer, hide_default_value = true)]
    pub service_type: ServiceType,
    /// Where it goes.
    #[command(flatten)]
    pub place: Place,
    /// How it is done.
    #[command(flatten)]
    pub how: How,
}

/// `fedctl install crds`
#[derive(Debug, Args)]
pub struct InstallCrds {
    /// How it is done.
    #[command(flatten)]
    pub how: How,
}

/// Where a program goes.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The namespace
    #[arg(long, value_name = "NAMESPACE", default_value = NAMESPACE)]
    pub namespace: Namespace,
    /// The image with the three programs
    #[arg(long, value_name = "IMAGE", default_value = IMAGE)]
    pub image: ImageName,
    /// The priority class of the pods, such as system-cluster-critical
    #[arg(long, value_name = "NAME", value_parser = parse_class)]
    pub priority_class: Option<String>,
    /// Add what the Prometheus operator and Grafana read
    #[arg(long)]
    pub monitoring: bool,
}

/// How an installation is done.
#[derive(Debug, Clone, Args)]
pub struct How {
    /// Print the manifests, and change nothing
    #[arg(long)]
    pub print: bool,
    /// How long to wait until it is available, up to 1h; 0s: do not wait
    #[arg(long, value_name = "SPAN", default_value = "3m", value_parser = super::parse_wait, conflicts_with = "print")]
    pub wait: Duration,
    /// Take over fields that others have set
    #[arg(long, conflicts_with = "print")]
    pub force_conflicts: bool,
}

/// `fedctl uninstall`
#[derive(Debug, Args)]
pub struct Uninstall {
    /// What to remove
    #[arg(value_enum)]
    pub program: Program,
    /// The namespace it is in
    #[arg(long, value_name = "NAMESPACE", default_value = NAMESPACE)]
    pub namespace: Namespace,
    /// The namespaces it was installed for alone, if it was
    #[arg(long, value_name = "NAMESPACE,...", value_delimiter = ',')]
    pub namespaces: Vec<Namespace>,
    /// How long to wait until it is gone, up to 1h; 0s: do not wait
    #[arg(long, value_name = "SPAN", default_value = "2m", value_parser = super::parse_wait)]
    pub wait: Duration,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// A program that runs in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// The gateway
    Gateway,
    /// The federation service
    Federation,
}

impl Program {
    /// What its pods are labelled with.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "landbridge-gateway",
            Self::Federation => "landbridge-federation",
        }
    }

    /// What it is called on the command line, and its container.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Federation => "federation",
        }
    }
}

/// Where the authority of a cluster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Identity {
    /// The gateway makes one, and it is gone with the gateway's state
    SelfSigned,
    /// cert-manager makes and renews one
    CertManager,
}

/// How a port is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServiceType {
    /// By a load balancer of the cloud
    #[value(name = "LoadBalancer", alias = "loadbalancer")]
    LoadBalancer,
    /// On a port of every node
    #[value(name = "NodePort", alias = "nodeport")]
    NodePort,
    /// Inside the cluster; something else brings traffic to it
    #[value(name = "ClusterIP", alias = "clusterip")]
    ClusterIp,
    /// Not at all
    #[value(name = "none")]
    None,
}

impl ServiceType {
    /// The word in a Service.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
            Self::ClusterIp => "ClusterIP",
            Self::None => "none",
        }
    }
}

/// The name of an image: a reference without spaces or quotes, at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName(pub String);

impl FromStr for ImageName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
        if text.is_empty() || text.len() > 255 || !text.bytes().all(allowed) {
            return Err("write an image as registry/name:tag or name@sha256:digest".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

fn parse_class(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if text.is_empty() || text.len() > 253 || !text.bytes().all(allowed) {
        return Err("write the name of a PriorityClass, see kubectl get priorityclasses".to_owned());
    }
    Ok(text.to_owned())
}
