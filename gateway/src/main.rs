//! `landbridge-gateway`: reads its settings and runs until it is told to stop.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use federation_runtime::{config as settings, telemetry};
use gateway::{app, config::Config};

/// The gateway of one cluster of a Landbridge cluster set.
#[derive(Debug, Parser)]
#[command(name = "landbridge-gateway", version)]
struct Args {
    /// The settings, TOML; LANDBRIDGE_SECTION__KEY in the environment overrides a key.
    #[arg(long, value_name = "FILE", default_value = "/etc/landbridge/gateway.toml")]
    config: PathBuf,
    /// Only check the settings.
    #[arg(long)]
    check: bool,
}

#[expect(clippy::print_stderr, reason = "before logging is set up, errors go to the terminal")]
fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("landbridge-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let config: Config = settings::load(Some(&args.config), &settings::environment())?;
    let config = config.checked()?;
    if args.check {
        return Ok(());
    }
    telemetry::init(&config.log)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("gateway").build()?.block_on(app::run(config))
}
