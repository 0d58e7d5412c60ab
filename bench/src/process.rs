//! Programs as child processes, each with a log of its own.
//!
//! Owns their end: a process never outlives its value.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};

/// How often a condition is looked at: well below what is measured with it.
const POLL: Duration = Duration::from_millis(2);
/// Bytes of a log shown when its process fails.
const LOG_TAIL: usize = 4096;

/// One running program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with its configuration file; output goes to `log`.
    pub(crate) fn start(program: &Path, config: &Path, log: &Path) -> anyhow::Result<Self> {
        let out = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its id, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until `condition` holds; fails when the process ends, or `limit` has passed.
    pub(crate) async fn until<F>(
        &mut self,
        what: &str,
        limit: Duration,
        condition: impl FnMut() -> F,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = bool>,
    {
        tokio::select! {
            result = until(what, limit, condition) => result.with_context(|| tail(&self.log)),
            status = self.child.wait() => bail!("ended with {} while waiting until {what}; {}", status?, tail(&self.log)),
        }
    }

    /// Kills it without a warning, and waits for its end.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("killing a process")
    }
}

/// Waits until `condition` holds, at most `limit`.
pub(crate) async fn until<F>(what: &str, limit: Duration, mut condition: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = bool>,
{
    let deadline = Instant::now() + limit;
    while !condition().await {
        if Instant::now() >= deadline {
            bail!("not within {limit:?}: {what}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let start = text.len().saturating_sub(LOG_TAIL);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    format!("the end of its log:\n{}", &text[start..])
}
