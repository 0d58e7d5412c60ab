//! `fedctl revoke`: what is typed to revoke something, and to lift that again.
//!
//! Owns these commands and their options. Never does anything.

use std::time::Duration;

use clap::{Args, Subcommand};
use federation_model::{
    names::ClusterName,
    revocation::{Line, RevocationId, Serial, Subject},
    spiffe::TrustDomain,
};

use super::parse_wait;

/// What to revoke.
#[derive(Debug, Subcommand)]
pub enum Revoke {
    /// Revoke a cluster: it is no member any more, and neither its name nor its trust domain may join again
    Cluster {
        /// The name of the cluster
        cluster: ClusterName,
        /// How to go about it.
        #[command(flatten)]
        how: RevokeHow,
    },
    /// Revoke a SPIFFE ID, or everything at and below a path
    Id {
        /// spiffe://west.example/ns/shop/sa/web, or 'spiffe://west.example/ns/shop/*' for all below it
        #[arg(value_name = "SPIFFE-ID", value_parser = Subject::parse_id)]
        id: Subject,
        /// How to go about it.
        #[command(flatten)]
        how: RevokeHow,
    },
    /// Revoke one certificate
    Serial {
        /// Its serial number, as openssl x509 -serial shows it
        #[arg(value_name = "HEX")]
        serial: Serial,
        /// The trust domain whose authority issued it
        #[arg(long, value_name = "DOMAIN")]
        trust_domain: TrustDomain,
        /// How to go about it.
        #[command(flatten)]
        how: RevokeHow,
    },
    /// List what is revoked
    List,
    /// Lift a revocation
    Reinstate {
        /// The id of the revocation, see fedctl revoke list
        id: RevocationId,
        /// Lift it at the members even when the federation service does not know it, as after a restore from a backup
        #[arg(long)]
        force: bool,
        /// How long to wait until every member that can be reached has lifted it, up to 1h; 0s: do not wait
        #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = parse_wait)]
        wait: Duration,
    },
}

/// How to revoke.
#[derive(Debug, Clone, Args)]
pub struct RevokeHow {
    /// Why, in one line: whoever is refused is told
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: Line,
    /// How long to wait until every member that can be reached has cut it off, up to 1h; 0s: do not wait
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = parse_wait)]
    pub wait: Duration,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}
