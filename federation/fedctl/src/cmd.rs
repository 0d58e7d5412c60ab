//! The commands, one module each.
//!
//! Owns which command runs. A command plans, acts, shows what came of it and says what to do next.

mod accept;
mod analyze;
mod approve;
mod audit;
mod bridge;
mod certs;
mod check;
mod completion;
mod dns;
mod explain;
mod foreign;
mod init;
mod install;
mod join;
mod leave;
mod link;
mod members;
mod policy;
mod probe;
mod promote;
mod recover;
mod revoke;
mod rotate;
mod services;
mod status;
mod token;
mod uninstall;

use crate::{
    Ending,
    args::{Cli, Command, Trust},
    failure::Failure,
    print::Console,
    render::Look,
};

/// Runs one command.
pub(crate) async fn run(cli: Cli, console: &mut Console) -> Result<Ending, Failure> {
    let Cli { target, output: _, command } = cli;
    match command {
        Command::Init(what) => init::run(what, console),
        Command::Token(what) => token::run(what, &target, console).await,
        Command::Members(what) => members::run(what, &target, console).await,
        Command::Approve(approve) => approve::run(approve, &target, console).await,
        Command::Audit(what) => audit::run(what, &target, console).await,
        Command::Revoke(what) => Box::pin(revoke::run(what, &target, console)).await,
        Command::Recover(recover) => recover::run(&recover, &target, console).await,
        Command::Join(join) => Box::pin(join::run(join, &target, console)).await,
        Command::Link(link) => Box::pin(link::run(link, &target, console)).await,
        Command::Leave(leave) => leave::run(leave, &target, console).await,
        Command::Status => status::run(&target, console).await,
        Command::Services => services::run(&target, console).await,
        Command::Check(what) => Box::pin(check::run(&what, &target, console)).await,
        Command::Policy(what) => policy::run(what, &target, console).await,
        Command::Explain(explain) => explain::run(explain, &target, console).await,
        Command::Analyze(what) => analyze::run(&what, console),
        Command::Install(what) => Box::pin(install::run(what, &target, console)).await,
        Command::Uninstall(what) => Box::pin(uninstall::run(what, &target, console)).await,
        Command::Dns(what) => Box::pin(dns::run(what, &target, console)).await,
        Command::Trust(Trust::Rotate(what)) => rotate::run(what, &target, console).await,
        Command::Trust(Trust::Accept(what)) => accept::run(what, &target, console).await,
        Command::Trust(Trust::Foreign(what)) => foreign::run(what, &target, console).await,
        Command::Certs => certs::run(&target, console).await,
        Command::Bridge { to } => bridge::run(to, &target).await,
        Command::Completion { shell } => completion::run(shell, console),
    }
}

fn look(console: &Console) -> Look {
    Look { now: console.now, color: console.color() }
}

/// Goes on only when the person agrees.
fn confirmed(console: &mut Console, question: &str) -> Result<(), Failure> {
    if console.confirms(question) {
        return Ok(());
    }
    Err(Failure::because("not confirmed; nothing was changed", "the same command with --yes, or answer y"))
}
