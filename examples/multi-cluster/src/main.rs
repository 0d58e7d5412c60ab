//! The applications of the demo: what stands in for the workloads of three clusters.
//!
//! Owns the command line. None of the applications knows anything of Landbridge, but that they understand a PROXY protocol header
//! where one comes first, and `http` the headers that name its caller.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use serde_json::Value;

mod answer;
mod arrival;
mod chat;
mod dns;
mod frontend;
mod listen;
mod talk;
mod tls;

/// Workloads for the three-cluster demo
#[derive(Debug, Parser)]
#[command(name = "demo-app", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// An HTTP server that answers who it is and whom it sees
    Http {
        #[command(flatten)]
        workload: Workload,
    },
    /// The same over TLS, with a certificate of its own making
    Tls {
        #[command(flatten)]
        workload: Workload,
        /// The DNS name in the certificate
        #[arg(long)]
        name: String,
        /// Where ca.pem and server.pem are written
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// A server of long sessions: says its name, then answers each line with its number
    Chat {
        #[command(flatten)]
        workload: Workload,
    },
    /// An HTTP server that calls another service, and answers with what that said
    Frontend {
        #[command(flatten)]
        workload: Workload,
        /// The service it calls, as name:port
        #[arg(long, value_name = "NAME:PORT")]
        api: String,
        /// The DNS server that knows the name; that of the system when absent
        #[arg(long, value_name = "ADDR:PORT")]
        dns: Option<SocketAddr>,
    },
    /// Prints one value of the JSON on standard input, for scripts
    Pick {
        /// Which, as a JSON pointer such as /caller/principal
        pointer: String,
    },
    /// A client that sends its input and prints what comes back, for scripts
    Talk {
        /// The server
        to: SocketAddr,
        /// The address to call from
        #[arg(long, value_name = "ADDR")]
        from: Option<IpAddr>,
    },
}

/// Who an application is.
#[derive(Debug, Clone, Args)]
struct Workload {
    /// The address to listen on; its own calls come from it, too
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// The cluster it is in
    #[arg(long)]
    cluster: String,
    /// The name of its pod
    #[arg(long)]
    pod: String,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stderr, reason = "the one place that tells why the program ends")]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-app: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Http { workload } => answer::serve(workload).await,
        Command::Tls { workload, name, out } => tls::serve(workload, &name, &out).await,
        Command::Chat { workload } => chat::serve(workload).await,
        Command::Frontend { workload, api, dns } => frontend::serve(workload, &api, dns).await,
        Command::Pick { pointer } => pick(&pointer),
        Command::Talk { to, from } => talk::talk(to, from).await,
    }
}

fn pick(pointer: &str) -> anyhow::Result<()> {
    let document: Value = serde_json::from_reader(std::io::stdin()).context("standard input is not JSON")?;
    match document.pointer(pointer) {
        None | Some(Value::Null) => say("none"),
        Some(Value::String(text)) => say(text),
        Some(other) => say(other),
    }
    Ok(())
}

/// Says one line on standard output, which the demo keeps as the application's log.
#[expect(clippy::print_stdout, reason = "the log of a demo application is its standard output")]
fn say(line: impl std::fmt::Display) {
    println!("{line}");
}
