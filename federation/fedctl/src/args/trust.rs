//! `fedctl trust`: the options of those who replace an authority or vouch for one.
//!
//! Owns their names and texts. Never does anything.

use std::time::Duration;

use clap::{Args, Subcommand};
use federation_model::{bundle::Fingerprint, names::ClusterName};
use federation_pki::rotation::Phase;

use super::Foreign;
use crate::clock::parse_span;

/// Whom to believe.
#[derive(Debug, Subcommand)]
pub enum Trust {
    /// Replace the authority of this gateway's cluster, gate by gate, while traffic goes on
    Rotate(Rotate),
    /// Believe a bundle that this gateway refused, after comparing its fingerprint
    Accept(Accept),
    /// Read the bundles of trust domains outside the cluster set from their SPIFFE bundle endpoints
    #[command(subcommand)]
    Foreign(Foreign),
}

/// `fedctl trust rotate`
#[derive(Debug, Args)]
pub struct Rotate {
    /// The cluster whose authority is replaced: that of the gateway
    pub cluster: ClusterName,
    /// Only show how far it is
    #[arg(long, conflicts_with_all = ["force", "cancel"])]
    pub status: bool,
    /// Pass the gate that is closed now, whoever has not come; says before what will break
    #[arg(long, conflicts_with = "cancel")]
    pub force: bool,
    /// Give the rotation up, as long as nobody relies on the new authority
    #[arg(long)]
    pub cancel: bool,
    /// How long to wait for its end; it goes on without this command, too
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = parse_span)]
    pub wait: Duration,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `fedctl trust accept`
#[derive(Debug, Args)]
pub struct Accept {
    /// The cluster whose bundle was refused
    pub cluster: ClusterName,
    /// The fingerprint of its authority, as its operators told it; asks nothing then
    #[arg(long, value_name = "SHA256:HEX")]
    pub fingerprint: Option<Fingerprint>,
}

/// The phase that a word of the gateway names.
pub(crate) fn phase(word: &str) -> Option<Phase> {
    [Phase::Settled, Phase::Preparing, Phase::Draining, Phase::Retiring].into_iter().find(|phase| phase.label() == word)
}
