//! What Landbridge costs: the same traffic through two gateways and directly, in one run on one machine.
//!
//! Owns the order of the measurements. Programs are started as processes, as an operator would; load is made here, so that
//! nothing else needs to be installed. Policies alone are judged in this process, since no network would show their cost.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};

mod backend;
mod dns;
mod fleet;
mod http;
mod kubernetes;
mod load;
mod measure;
mod policy;
mod process;
mod report;
mod revocation;
mod spread;

use fleet::Fleet;
use report::Report;

/// Measures Landbridge against a direct connection
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Options {
    /// Use the programs there and build nothing
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Rounds of each comparison, direct and through the gateways by turns
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long one bulk transfer lasts
    #[arg(long, default_value_t = 1500, value_name = "MILLIS", value_parser = clap::value_parser!(u64).range(100..=600_000))]
    bulk_millis: u64,
    /// Measure this alone
    #[arg(long, value_enum, value_name = "PART")]
    only: Option<Part>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Play the API server of a large cluster, for a measurement
    #[arg(long, hide = true, value_name = "PODS,SLICES")]
    serve_cluster: Option<kubernetes::server::Served>,
    /// Measure the controllers against this API server, with the definitions and what --print-objects prints; all that they make is
    /// deleted again
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Print the objects that the controllers are measured with, for an API server of --kubeconfig
    #[arg(long)]
    print_objects: bool,
    /// Play the API server that controllers write to, for a measurement
    #[arg(long, hide = true, value_name = "SERVICES,CLUSTERS,EXPORTERS")]
    serve_objects: Option<kubernetes::world::Size>,
    /// Measure the controllers of one size, for a measurement of all
    #[arg(long, hide = true, value_name = "SERVICES,CLUSTERS,EXPORTERS")]
    measure_controllers: Option<kubernetes::world::Size>,
}

impl Options {
    fn measures(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Memory,
    Traffic,
    Http,
    Propagation,
    Revocation,
    Failover,
    Policy,
    Kubernetes,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if plays(&options).await? {
        return Ok(());
    }
    if let Some(part @ (Part::Policy | Part::Kubernetes)) = options.only {
        // They run in this program alone.
        let mut report = Report::new(&std::env::current_exe()?, options.rounds);
        if part == Part::Policy {
            policy::measure(options.rounds, &mut report)?;
        } else {
            kubernetes::measure(options.rounds, options.kubeconfig.as_deref(), &mut report).await?;
        }
        report::print(&report, options.json);
        return Ok(());
    }
    let programs = match &options.bin_dir {
        Some(directory) => directory.canonicalize().with_context(|| directory.display().to_string())?,
        None => build()?,
    };
    for program in [fleet::GATEWAY, fleet::FEDERATION, fleet::FEDCTL] {
        let path = programs.join(program);
        ensure!(path.is_file(), "{} is missing: leave --bin-dir out to build it", path.display());
    }
    let report = run(&programs, &options).await?;
    report::print(&report, options.json);
    Ok(())
}

/// Does the part that another process of a measurement asks of this one, if any does.
async fn plays(options: &Options) -> anyhow::Result<bool> {
    let mut out = std::io::stdout();
    if let Some(served) = options.serve_cluster {
        kubernetes::server::serve(served).await?;
    } else if let Some(size) = options.serve_objects {
        kubernetes::objects::serve(size).await?;
    } else if let Some(size) = options.measure_controllers {
        let figures = kubernetes::controllers::of_size(size, options.rounds, options.kubeconfig.as_deref()).await?;
        writeln!(out, "{figures}")?;
    } else if options.print_objects {
        writeln!(out, "{}", kubernetes::controllers::objects()?)?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

async fn run(programs: &Path, options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::new(programs, options.rounds);
    report::progress("starting one federation service and three gateways");
    let mut fleet = Fleet::start(programs).await?;
    if options.measures(Part::Memory) {
        report::progress("memory of idle gateways");
        measure::memory(&fleet, &mut report)?;
    }
    if options.measures(Part::Traffic) {
        measure::compare(&mut fleet, options.rounds, options.bulk_millis, &mut report).await?;
    }
    if options.measures(Part::Http) {
        http::compare(&fleet, options.rounds, &mut report).await?;
    }
    if options.measures(Part::Propagation) {
        report::progress("a changed manifest in west until a changed DNS answer in east");
        measure::propagation(&fleet, options.rounds, &mut report).await?;
    }
    if options.measures(Part::Revocation) {
        report::progress("revoking a caller until its last byte");
        revocation::last_byte(&fleet, options.rounds, &mut report).await?;
    }
    if options.measures(Part::Failover) {
        report::progress("killing the gateway of west until north answers");
        measure::failover(&mut fleet, options.rounds.min(5), &mut report).await?;
    }
    fleet.stop().await;
    if options.measures(Part::Policy) {
        policy::measure(options.rounds, &mut report)?;
    }
    if options.measures(Part::Kubernetes) {
        kubernetes::measure(options.rounds, options.kubeconfig.as_deref(), &mut report).await?;
    }
    Ok(report)
}

/// Builds the programs beside this one, with the same profile; does nothing when they are up to date.
fn build() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.parent().context("this program is in a directory")?;
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "-p", "gateway", "-p", "federation", "-p", "federation-fedctl", "--bins"]);
    if cfg!(debug_assertions) {
        report::progress("this is a debug build: its figures say nothing; use cargo run --release -p bench");
    } else {
        cargo.arg("--release");
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = cargo.current_dir(workspace).status().context("cargo cannot be run: give --bin-dir")?;
    ensure!(status.success(), "the build failed");
    Ok(directory.to_owned())
}
