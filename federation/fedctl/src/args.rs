//! What a person types.
//!
//! Owns the commands, their options and the text of `--help`. Values are parsed into words here; nothing below takes a raw
//! string for one. Never does anything.

use std::{ffi::OsString, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, parser::ValueSource};
use clap_complete::Shell;
use federation_model::{
    addr::GatewayAddr,
    bundle::Fingerprint,
    names::{ClusterName, Namespace},
    spiffe::TrustDomain,
};
use federation_pki::token::TokenId;

use crate::clock::parse_span;

mod foreign;
mod trust;

pub use foreign::{Foreign, ForeignAdd, Profile};
pub(crate) use trust::phase;
pub use trust::{Accept, Rotate, Trust};
pub mod analyze;
pub mod audit;
pub mod dns;
pub mod install;
pub mod link;
pub mod policy;
pub mod revoke;

use analyze::Analyze;
use audit::Audit;

const EXAMPLES: &str = "\
Examples:
  fedctl token create --cluster west   on the federation side: what lets cluster west join
  fedctl join lbj1.AAB...              on the gateway of west: join, and wait for the peers
  fedctl link east west                two kubeconfig contexts: tokens, joins and a test, at once
  fedctl status                        who am I, who are my peers, what is wrong
  fedctl check                         tests the same, and says what to do
  fedctl check --pre --context west    is this cluster ready for a gateway
  fedctl analyze manifests             what is wrong in manifests, before a gateway reads them
  fedctl policy report                 whom policies in AUDIT would have refused
  fedctl explain 0af7651916cd43dd      what was decided about a connection, by its trace id

Exit codes: 0 done, 1 a check failed, peers are missing or a call is refused, 2 could not run.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "fedctl",
    version,
    about = "Joins clusters, and shows how they are joined",
    after_help = EXAMPLES,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    /// How to answer
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,
    /// Whom to talk to.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The command line, where what is typed counts more than the environment: with `--context` the federation service is that
    /// of the context, unless `--federation` is typed too.
    ///
    /// # Errors
    /// When it is none; the error knows whether it is one, or the help that was asked for.
    pub fn read(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(line)?;
        let typed = matches.value_source("federation") == Some(ValueSource::CommandLine);
        let mut cli = Self::from_arg_matches(&matches)?;
        if cli.target.context.is_some() && !typed {
            cli.target.federation = None;
        }
        Ok(cli)
    }
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Whom to talk to.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Whom to talk to")]
pub struct Target {
    /// The federation service, https://host:port
    #[arg(long, global = true, env = "FEDCTL_FEDERATION", value_name = "URL", hide_env_values = true)]
    pub federation: Option<FederationUrl>,
    /// The directory of the operator credential, for --federation
    #[arg(long, global = true, env = "FEDCTL_OPERATOR", value_name = "DIR", hide_env_values = true)]
    pub operator: Option<PathBuf>,
    /// The admin socket of the gateway, unix:PATH [default: unix:/var/lib/landbridge/admin.sock]
    #[arg(long, global = true, env = "FEDCTL_GATEWAY", value_name = "unix:PATH", hide_env_values = true)]
    pub gateway: Option<GatewaySocket>,
    /// A context of the kubeconfig: the gateway or federation service that runs in that Kubernetes cluster
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// The kubeconfig file [default: that of kubectl]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of Landbridge in that cluster
    #[arg(long, global = true, value_name = "NAMESPACE", default_value = install::NAMESPACE)]
    pub namespace: Namespace,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a configuration to start from
    #[command(subcommand)]
    Init(Init),
    /// Make, list and revoke join tokens
    #[command(subcommand)]
    Token(Token),
    /// List the members of the cluster set, and those that wait for approval
    Members(Members),
    /// Let a cluster in that has joined and waits for approval
    Approve(Approve),
    /// Show and verify who did what to the cluster set
    #[command(subcommand)]
    Audit(Audit),
    /// Refuse a cluster, a SPIFFE ID or a certificate everywhere, and cut what it has open
    #[command(subcommand)]
    Revoke(revoke::Revoke),
    /// Go on after the store of the federation service was restored from an older copy
    Recover(Recover),
    /// Make this gateway's cluster a member of a cluster set
    Join(Join),
    /// Join the Kubernetes clusters of several contexts into one cluster set
    Link(link::Link),
    /// End the membership of this gateway's cluster
    Leave(Leave),
    /// Show the gateway, the federation service, or both
    Status,
    /// List the services this gateway serves and where they are
    Services,
    /// Test the gateway, the federation service, or both; with --pre what both need, before they are there
    Check(Check),
    /// Test, list and try the policies that say who may reach what
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Tell what was decided about a connection at each stage, and why
    Explain(policy::Explain),
    /// Find what is wrong in directories of manifests, without a gateway
    Analyze(Analyze),
    /// Install a program into a Kubernetes cluster, or print its manifests
    #[command(subcommand)]
    Install(install::Install),
    /// Remove a program from a Kubernetes cluster, and keep what cannot be made again
    Uninstall(install::Uninstall),
    /// Have the DNS of a Kubernetes cluster ask the gateways
    #[command(subcommand)]
    Dns(dns::Dns),
    /// Replace an authority, and say whom to believe
    #[command(subcommand)]
    Trust(Trust),
    /// List certificates: whose, by whom, until when
    Certs,
    /// Carry bytes between standard input and output and a program here: the other end of --context
    #[command(hide = true)]
    Bridge {
        /// To which program
        #[arg(value_enum)]
        to: install::Program,
    },
    /// Write the completion script of a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// What to write a configuration for.
#[derive(Debug, Subcommand)]
pub enum Init {
    /// Write gateway.toml and a directory for manifests
    Gateway(InitGateway),
    /// Write federation.toml
    Federation(InitFederation),
}

/// `fedctl init gateway`
#[derive(Debug, Args)]
pub struct InitGateway {
    /// The name of the cluster, unique in its set
    #[arg(long, value_name = "NAME")]
    pub cluster: ClusterName,
    /// The SPIFFE trust domain of the cluster, its own alone
    #[arg(long, value_name = "DOMAIN")]
    pub trust_domain: TrustDomain,
    /// Where other clusters reach this gateway (UDP); several times for several addresses, never for outbound only
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Vec<GatewayAddr>,
    /// The directory to write to
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

/// `fedctl init federation`
#[derive(Debug, Args)]
pub struct InitFederation {
    /// A DNS name or address under which gateways reach the service; several times for several names
    #[arg(long = "name", value_name = "HOST[:PORT]", value_parser = parse_server_name)]
    pub names: Vec<String>,
    /// The directory to write to
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

/// What to do with join tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Print a token with which one cluster can join, once
    Create(TokenCreate),
    /// List the tokens
    List,
    /// Make a token useless
    Revoke {
        /// The id of the token, see fedctl token list
        id: TokenId,
    },
}

/// `fedctl token create`
#[derive(Debug, Args)]
pub struct TokenCreate {
    /// The name of the cluster that may join with it
    #[arg(long, value_name = "NAME")]
    pub cluster: ClusterName,
    /// How long it may be used
    #[arg(long, value_name = "SPAN", default_value = "15m", value_parser = parse_span)]
    pub ttl: Duration,
}

/// `fedctl members`
#[derive(Debug, Args)]
pub struct Members {
    /// What to do with them.
    #[command(subcommand)]
    pub action: Option<MembersAction>,
}

/// What to do with members.
#[derive(Debug, Subcommand)]
pub enum MembersAction {
    /// List them (the default)
    List,
    /// End the membership of a cluster that does not leave by itself
    Remove {
        /// The name of the cluster
        cluster: ClusterName,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// `fedctl approve`
#[derive(Debug, Args)]
pub struct Approve {
    /// The name of the cluster
    pub cluster: ClusterName,
    /// Approve it only if this is the fingerprint of its authority; asks nothing then
    #[arg(long, value_name = "SHA256:HEX")]
    pub fingerprint: Option<Fingerprint>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `fedctl recover`
#[derive(Debug, Args)]
pub struct Recover {
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `fedctl join`
#[derive(Debug, Args)]
pub struct Join {
    /// The token; - reads it from standard input, which keeps it out of the process list
    #[arg(required_unless_present = "token_file", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file that holds the token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Test everything a join needs, and spend nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for the peers, up to 1h; 0s: do not wait
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = parse_wait)]
    pub wait: Duration,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Go on only if this is the fingerprint of the federation's authority; asks nothing then
    #[arg(long, value_name = "SHA256:HEX")]
    pub federation_fingerprint: Option<Fingerprint>,
    /// With --context: test first whether UDP reaches the gateway of another cluster there; several times for several
    #[arg(long, value_name = "HOST:PORT")]
    pub peer: Vec<GatewayAddr>,
    /// With --context: how the gateway is installed, where there is none.
    #[command(flatten)]
    pub gateway: link::NewGateway,
    /// With --context: do not verify the join by a service that is exported for some seconds
    #[arg(long)]
    pub no_probe: bool,
}

/// `fedctl leave`
#[derive(Debug, Args)]
pub struct Leave {
    /// Leave even when the federation service cannot be told
    #[arg(long)]
    pub force: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `fedctl check`
#[derive(Debug, Args)]
pub struct Check {
    /// Test before anything is installed or joined: the cluster of --context (version, rights, definitions, clock), and the way
    /// to peers
    #[arg(long)]
    pub pre: bool,
    /// Test whether UDP reaches the gateway of another cluster there, and how large packets may be; several times for several.
    /// With --context from the gateway's pod, if there is one
    #[arg(long, value_name = "HOST:PORT", requires = "pre")]
    pub peer: Vec<GatewayAddr>,
}

/// The longest `fedctl join` and `fedctl revoke` wait: one hour.
const MAX_WAIT: Duration = Duration::from_secs(3600);

fn parse_wait(text: &str) -> Result<Duration, String> {
    match parse_span(text)? {
        span if span <= MAX_WAIT => Ok(span),
        _ => Err("at most 1h".to_owned()),
    }
}

/// A host, or a host and a port other than that of `grpc.listen`.
fn parse_server_name(text: &str) -> Result<String, String> {
    let host_alone = text.parse::<IpAddr>().is_ok() || format!("{text}:1").parse::<GatewayAddr>().is_ok();
    if host_alone || text.parse::<GatewayAddr>().is_ok() {
        Ok(text.to_owned())
    } else {
        Err("write a DNS name or an address, or host:port".to_owned())
    }
}

/// Where the federation service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederationUrl(pub GatewayAddr);

impl FromStr for FederationUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("http://") {
            return Err("the federation service is reached over TLS only: write https://host:port".to_owned());
        }
        let text = text.strip_prefix("https://").unwrap_or(text);
        let address = text.strip_suffix('/').unwrap_or(text);
        address.parse().map(Self).map_err(|_| format!("{address:?} is not an address: write https://host:port"))
    }
}

/// Where the admin socket of a gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySocket(pub PathBuf);

impl FromStr for GatewaySocket {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let path = match text.strip_prefix("unix:") {
            Some(path) => path.strip_prefix("//").unwrap_or(path),
            None if text.starts_with(['/', '.']) => text,
            None => return Err("write unix:PATH, with the path of admin.sock in the gateway's state.dir".to_owned()),
        };
        if path.is_empty() { Err("the path is missing: write unix:PATH".to_owned()) } else { Ok(Self(path.into())) }
    }
}

#[cfg(test)]
mod tests;
