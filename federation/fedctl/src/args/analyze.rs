//! `fedctl analyze` on the command line.
//!
//! Owns its options. Never does anything.

use std::path::PathBuf;

use clap::Args;

/// `fedctl analyze`
#[derive(Debug, Args)]
pub struct Analyze {
    /// A directory of manifests as catalog.dir names one; several are read each for itself, as those of several clusters
    #[arg(required = true, value_name = "DIR")]
    pub directories: Vec<PathBuf>,
    /// Warnings fail too
    #[arg(long)]
    pub strict: bool,
}
