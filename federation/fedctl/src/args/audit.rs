//! `fedctl audit` on the command line.
//!
//! Owns its options. Never does anything.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use federation_model::{audit::Action, bundle::Fingerprint};

/// The most entries that are listed at once; the service gives no more.
const MAX_LISTED: i64 = 10_000;

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List entries, the newest ones unless told otherwise
    List(AuditList),
    /// Write the whole log with the seal of the federation service to a new file
    Export {
        /// The file, which must not be there; - for standard output
        file: PathBuf,
    },
    /// Find out whether an exported log is whole; asks nobody
    Verify(AuditVerify),
}

/// `fedctl audit list`
#[derive(Debug, Args)]
pub struct AuditList {
    /// From this entry on
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub since: Option<u64>,
    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=MAX_LISTED))]
    pub limit: u32,
    /// Only what was done so: join, join-refused, member-removed, ...
    #[arg(long, value_name = "ACTION")]
    pub action: Option<Action>,
    /// Only what has this text in its subject, which is mostly the name of a cluster
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<String>,
}

/// `fedctl audit verify`
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// The exported log; - for standard input
    pub file: PathBuf,
    /// The fingerprint of the federation's authority, which must have sealed it; --operator DIR does as well
    #[arg(long, value_name = "SHA256:HEX")]
    pub authority: Option<Fingerprint>,
    /// An earlier export, which it must go on from: finds what even the federation service cannot hide
    #[arg(long, value_name = "FILE")]
    pub continues: Option<PathBuf>,
}
