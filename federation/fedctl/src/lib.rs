//! `fedctl` as a library, so that its commands can be run and looked at without a process.
//!
//! Owns what a person types and reads. Never changes anything itself: the gateway and the federation service do, and
//! `fedctl` shows what they answer. Exit codes: 0 done, 1 a check failed or the peers did not connect, 2 could not run.
//!
//! ```text
//! args ──> cmd/* ── connect ──> gateway, federation service; in a cluster over an exec of `fedctl bridge`
//!             └───> render/* (answers as tables and JSON) ──> print ──> stdout, stderr
//! ```

pub mod args;
pub mod bridge;
mod clock;
mod cmd;
mod connect;
mod deploy;
mod failure;
mod path;
pub mod print;
mod render;

use std::process::ExitCode;

use crate::{args::Cli, failure::Failure, print::Console};

/// How a command that ran ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// As wished: exit code 0.
    Done,
    /// A check failed, or peers are missing: exit code 1.
    ChecksFailed,
}

/// Runs one command and returns the exit code of the process.
pub fn run(cli: Cli, console: &mut Console) -> ExitCode {
    // Connections are kept alive by the worker while a person thinks about a question.
    match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => {
            let ended = runtime.block_on(cmd::run(cli, console));
            // Nobody waits for somebody who may never type anything more.
            runtime.shutdown_background();
            report(ended, console)
        }
        Err(error) => report(
            Err(Failure::new(error, "free some file descriptors or memory, then repeat the command")
                .context("the program could not start")),
            console,
        ),
    }
}

fn report(ended: Result<Ending, Failure>, console: &mut Console) -> ExitCode {
    match ended {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::ChecksFailed) => ExitCode::from(1),
        Err(failure) => {
            console.failure(&failure);
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests;
