//! `fedctl completion`: the script that completes commands in a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Ending, args::Cli, failure::Failure, print::Console};

pub(super) fn run(shell: Shell, console: &mut Console) -> Result<Ending, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fedctl", &mut script);
    console.out(&String::from_utf8_lossy(&script));
    Ok(Ending::Done)
}
