//! `landbridge-federation`: reads its settings and runs the service.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use federation::config::Config;
use federation_runtime::{config, open_files, signals::Signals, telemetry};
use tokio_util::sync::CancellationToken;

/// The Landbridge federation service: who is a member of the cluster set, and whom to trust.
#[derive(Debug, Parser)]
#[command(name = "landbridge-federation", version)]
struct Arguments {
    /// The configuration file (TOML); LANDBRIDGE_SECTION__KEY overrides its keys.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime");
    match runtime.and_then(|runtime| runtime.block_on(run(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config: Config = config::load(arguments.config.as_deref(), &config::environment())?;
    telemetry::init(&config.log)?;
    // A thousand, which many systems give, is less than the gateways of a large set need.
    if let Err(error) = open_files::raise() {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
    let signals = Signals::install().context("the signal handlers")?;
    let stop = CancellationToken::new();
    let program = Box::pin(federation::start(config, stop.clone())).await?;
    if program.first_start() {
        greet(&program);
    }
    signals.run(&stop, program.run()).await
}

#[expect(clippy::print_stderr, reason = "the end of the program is told even when logs are off")]
fn report(error: &anyhow::Error) {
    eprintln!("landbridge-federation: {error:#}");
}

#[expect(clippy::print_stdout, reason = "what to do next is for the person at the terminal, not for the log")]
fn greet(program: &federation::Program) {
    let mut address = program.grpc_addr();
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let directory = program.operator_dir().display();
    println!("The federation service is set up.");
    println!("  authority  {}", program.authority());
    println!("  operator   {directory}  (keep it private: it admits and removes clusters)");
    println!("Next, let a cluster join:");
    println!("  fedctl --federation {address} --operator {directory} token create --cluster NAME");
}
