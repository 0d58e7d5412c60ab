//! `fedctl dns`: what a person types.

use clap::{Args, Subcommand};
use federation_model::sni::Zone;

/// The zone where nobody says another: that of the standard.
const ZONE: &str = "clusterset.local";

/// What to do with the DNS of a cluster.
#[derive(Debug, Subcommand)]
pub enum Dns {
    /// Have it ask the gateways; shows the change before it makes it
    Install(DnsInstall),
    /// Take out what install has put in, and nothing else
    Uninstall(DnsUninstall),
    /// Show in each place whether the gateways are asked, under their current address
    Status(DnsStatus),
}

/// `fedctl dns install`
#[derive(Debug, Args)]
pub struct DnsInstall {
    /// The zone of the cluster set
    #[arg(long, value_name = "ZONE", default_value = ZONE)]
    pub zone: Zone,
    /// Print the change, and make none
    #[arg(long, conflicts_with = "yes")]
    pub print: bool,
    /// Also where something else serves the zone: in place of its block, or beside what is wider or narrower
    #[arg(long)]
    pub force: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `fedctl dns uninstall`
#[derive(Debug, Args)]
pub struct DnsUninstall {
    /// The zone of the cluster set
    #[arg(long, value_name = "ZONE", default_value = ZONE)]
    pub zone: Zone,
    /// Print the change, and make none
    #[arg(long, conflicts_with = "yes")]
    pub print: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `fedctl dns status`
#[derive(Debug, Args)]
pub struct DnsStatus {
    /// The zone of the cluster set
    #[arg(long, value_name = "ZONE", default_value = ZONE)]
    pub zone: Zone,
}
