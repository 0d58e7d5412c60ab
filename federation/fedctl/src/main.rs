//! `fedctl`: the command line of Landbridge.
//!
//! Owns the process: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;

use federation_fedctl::{args::Cli, print::Console, run};

fn main() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let mut console = Console::of_process(cli.output);
    run(cli, &mut console)
}
