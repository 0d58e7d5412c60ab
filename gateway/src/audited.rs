//! The memory of what policies in AUDIT would have refused, across restarts.
//!
//! Owns the file and the lock around the ledger. Never judges: what is counted was judged before.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use federation_model::{policy::PolicyKey, time::Timestamp};
use federation_runtime::state;
use gateway_core::ledger::{Audited, Count, Ledger};
use tokio_util::sync::CancellationToken;

/// How often what was counted is written to disk; the end of the gateway writes it as well.
const WRITE_EVERY: Duration = Duration::from_secs(10);
/// The file in the state directory.
const FILE: &str = "policy-report.json";

/// What was counted. A clone shares it.
#[derive(Debug, Clone)]
pub struct AuditedCalls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    ledger: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    /// Whether the disk does not know everything.
    unwritten: bool,
}

impl AuditedCalls {
    /// What the state directory remembers. What cannot be read is begun anew, and told.
    #[must_use]
    pub fn load(state_dir: &Path) -> Self {
        let file = state_dir.join(FILE);
        let ledger = match state::read_private(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(|kept| Ledger::from_kept(&kept)).unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), %error, "cannot read what policies on trial would have refused; counting begins anew");
                Ledger::default()
            }),
            Err(state::StateError::Missing(_)) => Ledger::default(),
            Err(error) => {
                tracing::warn!(%error, "cannot read what policies on trial would have refused; counting begins anew");
                Ledger::default()
            }
        };
        Self(Arc::new(Inner { file, ledger: Mutex::new(State { ledger, unwritten: false }) }))
    }

    /// Counts one call.
    pub fn count(&self, audited: Audited) {
        let mut state = self.locked();
        state.ledger.count(audited, SystemTime::now().into());
        state.unwritten = true;
    }

    /// What was counted since a moment, for one policy or all, and how many calls are not counted any more.
    #[must_use]
    pub fn report(&self, since: Timestamp, policy: Option<&PolicyKey>) -> (Vec<(Audited, Count)>, u64) {
        let state = self.locked();
        (state.ledger.report(since, policy).into_iter().collect(), state.ledger.dropped())
    }

    /// Writes what was counted until `stop`, and once more then.
    pub async fn keep(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(WRITE_EVERY);
        loop {
            let stopping = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                _ = tick.tick() => false,
            };
            self.write().await;
            if stopping {
                return;
            }
        }
    }

    async fn write(&self) {
        let kept = {
            let mut state = self.locked();
            if !std::mem::take(&mut state.unwritten) {
                return;
            }
            state.ledger.to_kept()
        };
        let file = self.0.file.clone();
        let write = move || {
            let json = serde_json::to_vec(&kept).map_err(|error| error.to_string())?;
            state::write_private(&file, &json).map_err(|error| error.to_string())
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.locked().unwritten = true;
                tracing::warn!(error, "cannot keep what policies on trial would have refused; it is tried again");
            }
            Err(error) => tracing::error!(%error, "cannot keep what policies on trial would have refused"),
        }
    }

    /// The ledger is whole whenever the lock is free.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use federation_model::{addr::Port, caller::Assurance};

    use super::*;

    #[tokio::test]
    async fn counts_survive_a_restart_and_a_damaged_file_is_not_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let calls = AuditedCalls::load(dir.path());
        calls.count(Audited {
            policy: PolicyKey { namespace: "shop".parse().unwrap(), name: "api".to_owned() },
            principal: None,
            assurance: Assurance::None,
            cluster: "east".parse().unwrap(),
            service: "shop/api".parse().unwrap(),
            port: Port::new(80).unwrap(),
        });
        let stop = CancellationToken::new();
        stop.cancel();
        calls.clone().keep(stop).await;
        let again = AuditedCalls::load(dir.path());
        assert_eq!(again.report(Timestamp(0), None), calls.report(Timestamp(0), None));
        assert_eq!(again.report(Timestamp(0), None).0.len(), 1);
        state::write_private(&dir.path().join(FILE), b"{").unwrap();
        assert!(AuditedCalls::load(dir.path()).report(Timestamp(0), None).0.is_empty());
    }
}
